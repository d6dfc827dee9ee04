//! A server that takes no more, foreign data in our place, and objects that cannot be stored.

use crate::instance::{Instance, InstanceIndex, instance};
use crate::node::{Node, config, servers, until};
use larder::connector::redis::Redis;
use larder::{Cache, Delivery, Lookup, Miss, Schema, Stored};
use larder_testing::server::ServerOptions;
use std::sync::Arc;

#[tokio::test]
async fn a_full_server_still_reads_and_invalidates() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "x").await;
        node.set("2", &["b"], "x").await;
        let ticket = node.ticket().await;
        server.config_set("maxmemory", "1mb").await.unwrap();
        assert_eq!(node.cache.fill(instance("3", &["c"], "x"), ticket).await, Stored::Full);
        assert!(node.by_host("a").await.is_some(), "reads go on");
        assert_eq!(node.cache.invalidate(InstanceIndex::Host, ["a"]).await.unwrap(), Delivery::Applied);
        assert!(node.by_id("1").await.is_none());
        assert_eq!(node.cache.set(instance("2", &["b"], "new")).await, Stored::Full);
        assert!(node.by_id("2").await.is_none(), "a set that was not stored has invalidated");
        assert_eq!(node.cache.delete(InstanceIndex::Id, ["1"]).await.unwrap(), Delivery::Applied);
        assert_eq!(node.redis.breaker().snapshot().failures, 0, "full is not ill");
        assert!(node.cache.status().readable);
    }
}

/// As with a disk that fails (MISCONF): every write is refused, so nothing can be invalidated.
#[tokio::test]
async fn a_server_that_takes_no_writes_is_not_read_until_the_journal_is_replayed() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        server.config_set("min-replicas-to-write", "1").await.unwrap();
        assert_eq!(node.cache.invalidate(InstanceIndex::Host, ["a"]).await.unwrap(), Delivery::Deferred);
        assert!(node.by_id("1").await.is_none());
        server.config_set("min-replicas-to-write", "0").await.unwrap();
        node.readable().await;
        assert!(node.by_id("1").await.is_none());
        assert_eq!(node.cache.status().journal, 0);
    }
}

#[tokio::test]
async fn the_journal_overflows_into_one_truncate() {
    for server in servers(ServerOptions::default()).await {
        let mut config = config(server.socket());
        config.journal_limit = 10;
        let node = Node::begin(config);
        node.readable().await;
        node.set("1", &["a"], "x").await;
        server.stop().unwrap();
        for id in 100..120 {
            assert_eq!(node.cache.invalidate(InstanceIndex::Id, [id]).await.unwrap(), Delivery::Deferred);
        }
        assert_eq!(node.cache.status().journal, 1);
        assert_eq!(node.cache.stats().overflows.get(), 1);
        server.cont().unwrap();
        node.readable().await;
        assert!(node.by_id("1").await.is_none());
    }
}

/// C11: a value of another Redis type, or bytes of another release, in the place of an object.
#[tokio::test]
async fn foreign_data_is_a_miss_and_is_removed() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let name = format!("larder:instance:o{:016x}:1", node.cache.schema().fingerprint);
        for foreign in [&["LPUSH", &name, "x"][..], &["SET", &name, "x"], &["SET", &name, ""], &["SET", &name, "L1"]] {
            server.command(&["DEL", &name]).await.unwrap();
            server.command(foreign).await.unwrap();
            match node.cache.lookup(InstanceIndex::Id, "1").await {
                Lookup::Miss(Miss::Undecodable, Some(_)) => {}
                other => panic!("{foreign:?}: {other:?}"),
            }
            assert_eq!(server.command(&["EXISTS", &name]).await.unwrap().int(), Some(0));
        }
        // An index key of another type hides nothing from an invalidation of the primary key, and is no error.
        server.command(&["LPUSH", "larder:instance:ihost:a", "x"]).await.unwrap();
        assert!(node.by_host("a").await.is_none());
        assert_eq!(node.cache.invalidate(InstanceIndex::Host, ["a"]).await.unwrap(), Delivery::Applied);
        node.set("1", &["a"], "x").await;
        assert!(node.by_host("a").await.is_some());
        assert_eq!(node.redis.breaker().snapshot().failures, 0);
    }
}

#[tokio::test]
async fn an_object_over_the_size_limit_is_not_cached_and_its_earlier_state_is_gone() {
    for server in servers(ServerOptions::default()).await {
        let redis = Redis::open(config(server.socket())).unwrap();
        let mut schema = Schema::of::<Instance>();
        schema.max_object_size = 10_000;
        let cache: Cache<Instance> = Cache::new(Arc::new(redis.connector(schema.clone())), schema);
        until("the cache can be read", || cache.status().readable).await;
        assert_eq!(cache.set(instance("1", &["a"], &"x".repeat(9_000))).await, Stored::Yes);
        assert_eq!(cache.set(instance("1", &["a"], &"x".repeat(10_001))).await, Stored::Unfit);
        assert!(cache.get(InstanceIndex::Host, "a").await.is_none());
        assert_eq!(cache.set(instance("1", &["", "a"], "an empty key")).await, Stored::Unfit);
        assert_eq!(cache.stats().put(Stored::Unfit).get(), 2);
    }
}
