//! Keys are unique: an object that is stored ends every other object that has one of its keys.

use crate::place::Place;
use crate::user::{User, user};
use larder::{Cache, LoadOptions, Lookup, Stored, Ticket};
use larder_testing::log::Log;
use tracing::Level;

async fn ticket(cache: &Cache<User>) -> Ticket {
    match cache.lookup(User::ID, 1_000_000_u32).await {
        Lookup::Miss { ticket: Some(ticket), .. } => ticket,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_other_object_that_loses_its_keys_is_counted_and_told() {
    for place in Place::that_store().await {
        let (log, _guard) = Log::begin(Level::DEBUG);
        let cache = place.cache(LoadOptions::default()).await;
        let displaced = || cache.stats().displaced.get();
        let name = place.name();
        // An index of roles, which several users share: the last one has it.
        cache.set(user(1, &["admin"])).await;
        cache.set(user(1, &["admin", "editor"])).await;
        assert_eq!(displaced(), 0, "its own earlier state is no other object, {name}");
        cache.set(user(2, &["admin"])).await;
        assert_eq!(displaced(), 1, "a set, {name}");
        assert!(cache.get(User::ID, 1_u32).await.is_none());
        assert_eq!(cache.get(User::LOGIN, "admin").await.unwrap().id, 2);
        let at = ticket(&cache).await;
        assert_eq!(cache.fill(user(3, &["editor"]), at).await, Stored::Accepted);
        assert_eq!(displaced(), 1, "the key of an object that is gone, {name}");
        assert_eq!(cache.fill(user(4, &["viewer", "admin"]), at).await, Stored::Accepted);
        assert_eq!(displaced(), 2, "a fill, {name}");
        cache.set(user(5, &["admin", "viewer", "editor"])).await;
        assert_eq!(displaced(), 4, "two objects, one of them by two keys, {name}");
        cache.set_many([user(6, &["admin"]), user(7, &["owner"]), user(8, &["owner", "admin"])]).await;
        assert_eq!(displaced(), 7, "a set of many, {name}");
        let at = ticket(&cache).await;
        cache.invalidate(User::ID, [9_u32]).await.unwrap();
        assert_eq!(cache.fill(user(9, &["owner"]), at).await, Stored::Overtaken);
        assert_eq!(displaced(), 7, "nothing was stored, {name}");
        let told = log.lines("a key leads to one object");
        assert!(told.len() >= 5 && told.iter().all(|line| line.contains("DEBUG")), "{told:?}");
        assert!(told.iter().all(|line| line.contains("cache=\"user\"")), "{told:?}");
    }
}

/// A server's reply has room for 15 of them.
#[tokio::test]
async fn many_that_are_displaced_at_once_are_all_gone_though_a_server_counts_fifteen() {
    for place in Place::that_store().await {
        let cache = place.cache(LoadOptions::default()).await;
        let roles: Vec<String> = (0..20).map(|n| format!("role{n}")).collect();
        for (id, role) in (0..).zip(&roles) {
            assert_eq!(cache.set(user(id, &[role])).await, Stored::Accepted);
        }
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        assert_eq!(cache.set(user(99, &roles)).await, Stored::Accepted);
        assert_eq!(cache.stats().displaced.get(), if matches!(place, Place::Memory(..)) { 20 } else { 15 });
        for id in 0..20_u32 {
            assert!(cache.get(User::ID, id).await.is_none());
        }
    }
}
