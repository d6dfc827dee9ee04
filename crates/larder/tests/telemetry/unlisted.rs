//! A loaded object that does not list the key it was loaded by.

use crate::place::{LONG, Place};
use crate::user::{User, user};
use larder::clock::Clock;
use larder::{Cache, CacheOptions, Caches, LoadOptions};
use larder_testing::log::Log;
use std::time::Duration;
use tracing::Level;

/// The user of a login, however that is written; `jo` as well as `Jo`.
async fn load(cache: &Cache<User>, login: &str) -> Option<u32> {
    let loader = |login: String| async move { Ok::<_, ()>(Some(user(1, &[&login.to_lowercase()]))) };
    cache.get_or_load(User::LOGIN, login, loader).await.unwrap().map(|user| user.id)
}

#[tokio::test]
async fn an_object_that_does_not_list_the_key_is_counted_and_filled_under_its_own() {
    for place in Place::that_store().await {
        let cache = place.cache(LoadOptions::new().negative_age(LONG)).await;
        for loads in 1..=3 {
            assert_eq!(load(&cache, "Jo").await, Some(1));
            assert_eq!((cache.stats().unlisted.get(), cache.stats().loads.get()), (loads, loads));
        }
        assert!(cache.get(User::LOGIN, "jo").await.is_some(), "filled under its own keys");
        assert_eq!(load(&cache, "jo").await, Some(1));
        assert_eq!((cache.stats().unlisted.get(), cache.stats().loads.get()), (3, 3));
    }
}

/// For one of the keys nothing is returned that lists it, though an object came that nobody asked for. More than was asked for, while each
/// key has its object, is no sign of anything; nor is a key that has none.
#[tokio::test]
async fn a_load_of_many_counts_what_may_have_been_meant_for_a_key_without_an_object() {
    for place in Place::that_store().await {
        let cache = place.cache(LoadOptions::default()).await;
        for (asked, returned, unlisted) in [
            (["Jo", "al"], vec![(1, "jo"), (2, "al")], 1),
            (["Bo", "Cy"], vec![(3, "bo"), (4, "cy")], 2),
            (["di", "ed"], vec![(5, "di"), (6, "ed"), (7, "flo")], 0),
            (["gus", "hal"], vec![(8, "gus")], 0),
        ] {
            let before = cache.stats().unlisted.get();
            let loader = move |_| {
                let users = returned.iter().map(|(id, login)| user(*id, &[login])).collect();
                async move { Ok::<_, ()>(users) }
            };
            cache.load_many(User::LOGIN, asked, loader).await.unwrap();
            assert_eq!(cache.stats().unlisted.get() - before, unlisted, "{asked:?}");
        }
        assert!(cache.get(User::LOGIN, "jo").await.is_some(), "filled under its own keys");
    }
}

#[tokio::test]
async fn a_warning_names_cache_and_index_at_first_and_then_once_a_minute() {
    let (log, _guard) = Log::begin(Level::INFO);
    let (clock, hand) = Clock::manual();
    let builder = Caches::builder().cache::<User>(CacheOptions::on("memory")).clock(clock);
    let cache: Cache<User> = builder.open().await.unwrap().open().unwrap();
    for minute in 1..=3 {
        for _ in 0..10 {
            load(&cache, "Jo.Private").await;
        }
        let lines = log.lines("does not list the key");
        assert_eq!(lines.len(), minute, "{lines:?}");
        let cases = if minute == 1 { 1 } else { 10 };
        let last = lines.last().unwrap();
        assert!(last.contains("WARN") && last.contains("cache=user"), "{last}");
        assert!(last.contains("index=\"login\"") && last.contains(&format!("entries={cases}")), "{last}");
        assert!(!last.to_lowercase().contains("private"), "{last}");
        hand.advance(Duration::from_secs(60));
    }
}

/// A key that cannot exist, and an object that cannot be cached, may come with every request too.
#[tokio::test]
async fn what_may_come_with_every_request_is_told_once_a_minute() {
    let (log, _guard) = Log::begin(Level::INFO);
    let (clock, hand) = Clock::manual();
    let builder = Caches::builder().cache::<User>(CacheOptions::on("memory")).clock(clock);
    let cache: Cache<User> = builder.open().await.unwrap().open().unwrap();
    for minute in 1..=2 {
        for _ in 0..10 {
            assert!(cache.get(User::LOGIN, "").await.is_none());
            cache.set(user(1, &[""])).await;
        }
        for words in ["a key that cannot exist", "an object cannot be cached"] {
            let lines = log.lines(words);
            assert_eq!(lines.len(), minute, "{lines:?}");
            assert!(lines.iter().all(|line| line.contains("cache=user")), "{lines:?}");
        }
        hand.advance(Duration::from_secs(60));
    }
}
