//! What becomes of the cache when the database goes away.

use crate::node::{Node, options, servers, until};
use larder::{Delivery, Stored};
use larder_testing::entries::Site;
use std::time::Duration;

/// The tables are empty after a crash. What was promised before holds all the same, and what was on its way is refused.
#[tokio::test]
async fn a_server_that_was_killed_comes_back_empty_and_takes_nothing_from_before() {
    for server in servers().await {
        let mut quick = options(&server);
        quick.breaker.open = Duration::from_millis(100);
        quick.breaker.open_max = Duration::from_millis(100);
        let node = Node::begin(quick);
        node.readable().await;
        node.cache.set(Site::new("a", &["h"], "before")).await;
        let ticket = node.begins_to_load().await;
        server.kill();
        until("it is noticed", || !node.cache.status().readable).await;
        assert_eq!(node.cache.invalidate(Site::ID, ["a"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(node.name_by_id("a").await, None);
        server.restart().await.unwrap();
        node.readable().await;
        assert_eq!(node.name_by_id("a").await, None);
        assert_eq!(node.fill(Site::new("a", &["h"], "before"), ticket).await, Stored::Overtaken);
        let ticket = node.begins_to_load().await;
        assert_eq!(node.fill(Site::new("a", &["h"], "after"), ticket).await, Stored::Accepted);
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("after"));
    }
}

/// A single killed backend makes the server restart all of them, and empties the tables; the server's process stays.
#[tokio::test]
async fn a_backend_that_was_killed_empties_the_tables() {
    for server in servers().await {
        let node = Node::on(&server).await;
        node.cache.set(Site::new("a", &["h"], "before")).await;
        let ticket = node.begins_to_load().await;
        let pid = server.psql("SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'larder'").unwrap();
        assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        until("it is noticed", || !node.cache.status().readable).await;
        node.readable().await;
        assert_eq!(node.name_by_id("a").await, None);
        assert_eq!(node.fill(Site::new("a", &["h"], "before"), ticket).await, Stored::Overtaken);
    }
}

/// Somebody empties the tables under an open connection.
#[tokio::test]
async fn a_clock_that_somebody_removed_is_made_again() {
    for server in servers().await {
        let node = Node::on(&server).await;
        node.cache.set(Site::new("a", &["h"], "before")).await;
        let ticket = node.begins_to_load().await;
        server.psql("TRUNCATE larder.clock, larder.objects, larder.fences, larder.keys").unwrap();
        assert_eq!(node.cache.invalidate(Site::ID, ["a"]).await.unwrap(), Delivery::Deferred);
        node.readable().await;
        assert_eq!(node.fill(Site::new("a", &["h"], "before"), ticket).await, Stored::Overtaken);
        assert_eq!(node.cache.set(Site::new("a", &["h"], "after")).await, Stored::Accepted);
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("after"));
    }
}

/// A server that is stopped with all its processes answers nothing: gets miss, invalidations are deferred, and are applied when it goes on.
#[tokio::test]
async fn a_server_that_is_stopped_answers_nothing_and_goes_on_with_what_it_had() {
    for server in servers().await {
        let mut quick = options(&server).operation_timeout(Duration::from_millis(200));
        quick.breaker.open = Duration::from_millis(100);
        quick.breaker.open_max = Duration::from_millis(100);
        let node = Node::begin(quick);
        node.readable().await;
        node.cache.set(Site::new("a", &["h"], "before")).await;
        node.cache.set(Site::new("b", &["k"], "stays")).await;
        server.stop().unwrap();
        assert_eq!(node.name_by_id("a").await, None);
        assert_eq!(node.cache.invalidate(Site::ID, ["a"]).await.unwrap(), Delivery::Deferred);
        server.cont().unwrap();
        until("the journal is empty", || node.cache.status().journal == 0).await;
        node.readable().await;
        assert_eq!(node.name_by_id("a").await, None);
        until_some(|| node.name_by_host("k")).await;
    }
}

/// Waits until the breaker lets gets pass again.
async fn until_some<F: Future<Output = Option<String>>>(get: impl Fn() -> F) {
    while get().await.is_none() {
        tokio::task::yield_now().await;
    }
}
