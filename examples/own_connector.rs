//! A connector of your own: it counts calls, and stores objects in memory.
//!
//! `larder::contract` says what a connector must promise, and `larder_testing::conformance!` checks it. A connector with a server builds on
//! `larder::connector::remote`: see `crates/larder/tests/toy`.
//!
//! ```sh
//! cargo run -p larder-examples --bin own_connector
//! ```

use larder::connector::memory::{Memory, MemoryOptions};
use larder::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lookup, Miss, Object, Pruned, Schema, Status, Stored,
    Ticket, Value,
};
use larder::{Cache, CacheOptions, Caches, Entry, OptionError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The calls of all caches on the connector.
static CALLS: AtomicU64 = AtomicU64::new(0);

struct Counting(Memory);

impl Counting {
    fn counted(&self) -> &Memory {
        CALLS.fetch_add(1, Ordering::Relaxed);
        &self.0
    }
}

impl Connector for Counting {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        self.counted().get(key)
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup<Value>> {
        self.counted().lookup(key)
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.counted().ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        self.counted().fill(object, ticket)
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        self.counted().put(object, ticket)
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        self.counted().invalidate(keys, floor)
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.counted().delete(keys)
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.counted().truncate()
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        self.counted().prune()
    }

    fn status(&self) -> Status {
        self.0.status()
    }
}

#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "color")]
struct Color {
    #[key(primary)]
    name: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let open = |schema: Schema| -> Result<Arc<dyn Connector>, OptionError> {
        Ok(Arc::new(Counting(Memory::open(schema, MemoryOptions::new())?)))
    };
    let caches =
        Caches::builder().connector("counting", open).cache::<Color>(CacheOptions::on("counting")).open().await?;
    let colors: Cache<Color> = caches.open()?;
    colors.set(Color { name: "barley".into() }).await;
    assert!(colors.get(Color::NAME, "barley").await.is_some());
    println!("calls: {}", CALLS.load(Ordering::Relaxed));
    Ok(())
}
