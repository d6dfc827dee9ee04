//! A test that advances the clock of a cache instead of waiting.
//!
//! ```sh
//! cargo run -p larder-examples --bin manual_clock
//! ```

use larder::clock::Clock;
use larder::{Cache, CacheOptions, Caches, Entry};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "session")]
struct Session {
    #[key(primary)]
    token: String,
}

/// What a test of a service would do.
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (clock, hand) = Clock::manual();
    let caches = Caches::builder()
        .clock(clock)
        .cache::<Session>(
            CacheOptions::on("memory").max_age(Duration::from_secs(3600)).last_use_age(Duration::from_secs(60)),
        )
        .open()
        .await?;
    let sessions: Cache<Session> = caches.open()?;
    sessions.set(Session { token: "t1".into() }).await;

    // A session that is used stays in the cache.
    for _ in 0..10 {
        hand.advance(Duration::from_secs(59));
        assert!(sessions.get(Session::TOKEN, "t1").await.is_some());
    }
    // A session that is not used for a minute is gone, to the millisecond.
    hand.advance(Duration::from_millis(59_999));
    assert!(sessions.get(Session::TOKEN, "t1").await.is_some());
    hand.advance(Duration::from_secs(60));
    assert!(sessions.get(Session::TOKEN, "t1").await.is_none());
    println!("eleven minutes have passed, and nobody has waited");
    Ok(())
}
