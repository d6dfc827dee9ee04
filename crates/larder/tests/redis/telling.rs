//! What an operator reads: one event when a state begins, one when it ends, and none for each request.

use crate::instance::{Instance, instance};
use crate::node::{Node, servers};
use larder::{Delivery, Stored};
use larder_testing::log::Log;
use larder_testing::server::ServerOptions;
use tracing::Level;

#[tokio::test]
async fn deferring_is_told_when_it_begins_and_when_it_ends() {
    for server in servers(ServerOptions::default()).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::on(&server).await;
        for round in 1..=2 {
            server.stop().unwrap();
            for id in 0..40 {
                let invalidated = node.cache.invalidate(Instance::ID, [id.to_string()]).await.unwrap();
                assert_eq!(invalidated, Delivery::Deferred);
            }
            let begun = ["WARN", "changes are deferred", "cache=instance", "error=no reply within `operation_timeout`"];
            assert_eq!(log.count(&begun), round, "{}", log.text());
            assert_eq!(log.count(&["changes are deferred"]), round);
            assert_eq!(log.count(&["all that was deferred is applied"]), round - 1);
            server.cont().unwrap();
            node.readable().await;
            let ended = ["INFO", "all that was deferred is applied", "cache=instance", "entries=40", "lasted_ms="];
            assert_eq!(log.count(&ended), round, "{}", log.text());
        }
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_is_told_as_the_reason() {
    for server in servers(ServerOptions::default()).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::on(&server).await;
        server.stop().unwrap();
        drop(crate::node::at_once(node.cache.invalidate(Instance::ID, ["1"])));
        assert_eq!(log.count(&["WARN", "changes are deferred", "a caller went away"]), 1, "{}", log.text());
        server.cont().unwrap();
        node.readable().await;
    }
}

/// 41 warnings in 12 seconds.
#[tokio::test]
async fn full_memory_is_told_once() {
    for server in servers(ServerOptions::default()).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::on(&server).await;
        server.config_set("maxmemory", "1mb").await.unwrap();
        for id in 0..50 {
            assert_eq!(node.cache.set(instance(&id.to_string(), &[], "x")).await, Stored::Full);
        }
        assert_eq!(log.count(&["WARN", "takes no more data", "cache=instance"]), 1, "{}", log.text());
        assert_eq!(log.count(&["WARN"]), 1, "{}", log.text());
    }
}

/// One ERROR for each read of a type that cannot be decoded, and one WARN for each key of a user that cannot exist.
#[tokio::test]
async fn what_comes_with_every_request_is_not_told_with_every_request() {
    for server in servers(ServerOptions::default()).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::on(&server).await;
        let name = format!("larder:instance:o{:016x}:1", node.cache.schema().fingerprint());
        for round in 1..=20 {
            server.command(&["SET", &name, "not an object"]).await.unwrap();
            let read = if round % 2 == 0 {
                node.by_id("1").await
            } else {
                node.cache.get_many(Instance::ID, ["1"]).await.pop().unwrap()
            };
            assert!(read.is_none());
            assert_eq!(node.cache.stats().faults.get(), round, "each is counted");
            assert!(node.by_host("").await.is_none());
            assert_eq!(node.cache.set(instance("2", &[""], "an empty key")).await, Stored::Unfit);
            assert_eq!(node.cache.set(instance("2", &[], &"too large".repeat(200_000))).await, Stored::Unfit);
        }
        assert_eq!(log.count(&["ERROR", "cannot be read and is removed", "entries=1 ", "error="]), 1, "{}", log.text());
        for (told, words) in [(1, "looked up by a key"), (2, "an object cannot be cached"), (1, "too large")] {
            assert_eq!(log.count(&[words]), told, "{words}: {}", log.text());
        }
        assert_eq!(log.count(&["ERROR"]) + log.count(&["WARN"]), 4, "{}", log.text());
    }
}

/// A server that goes away and comes back: three events of the connection, two of the breaker, and two of a cache that had something to defer.
#[tokio::test]
async fn an_outage_is_told_when_it_begins_and_when_it_ends() {
    for server in servers(ServerOptions::default()).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::on(&server).await;
        server.kill();
        for id in 0..20 {
            drop(node.cache.invalidate(Instance::ID, [id.to_string()]).await);
        }
        crate::node::until("the breaker is open", || log.count(&["circuit breaker", "→ open"]) > 0).await;
        server.restart().await.unwrap();
        node.readable().await;
        assert_eq!(log.count(&["ERROR"]), 0, "{}", log.text());
        assert_eq!(log.count(&["WARN", "changes are deferred"]), 1, "{}", log.text());
        assert!(log.count(&["WARN"]) <= 4, "{}", log.text());
        assert_eq!(log.count(&["INFO", "all that was deferred is applied"]), 1, "{}", log.text());
    }
}
