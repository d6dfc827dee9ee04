//! A server that takes no more, foreign data in our place, and objects that cannot be stored.

use crate::instance::{Instance, instance};
use crate::node::{Node, config, servers, until};
use larder::connector::redis::Redis;
use larder::{Cache, Delivery, Lookup, Miss, Schema, Stored};
use larder_testing::server::ServerOptions;
use std::sync::Arc;
use std::time::Duration;

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
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        assert!(node.by_id("1").await.is_none());
        assert_eq!(node.cache.set(instance("2", &["b"], "new")).await, Stored::Full);
        assert!(node.by_id("2").await.is_none(), "a set that was not stored has invalidated");
        assert_eq!(node.cache.delete(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
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
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Deferred);
        assert!(node.by_id("1").await.is_none());
        server.config_set("min-replicas-to-write", "0").await.unwrap();
        node.readable().await;
        assert!(node.by_id("1").await.is_none());
        assert_eq!(node.cache.status().journal, 0);
    }
}

/// A get that is due to touch its object writes; where the server takes no writes, it still reads.
#[tokio::test]
async fn a_server_that_takes_no_writes_is_read_by_a_cache_with_a_last_use_age() {
    for server in servers(ServerOptions::default()).await {
        let hour = Duration::from_secs(3600);
        let node = Node::with_ages(config(server.socket()), Duration::ZERO, hour);
        node.readable().await;
        node.set("1", &["a"], "x").await;
        server.config_set("min-replicas-to-write", "1").await.unwrap();
        for _ in 0..3 {
            assert!(node.by_host("a").await.is_some());
            assert!(node.by_id("1").await.is_some());
        }
        assert_eq!(node.redis.breaker().snapshot().failures, 0);
    }
}

#[tokio::test]
async fn the_journal_overflows_into_one_truncate() {
    // Keys are few or many, long or short.
    for (limit, bytes, length) in [(10, usize::MAX, 1), (10_000, 1 << 20, 60_000)] {
        for server in servers(ServerOptions::default()).await {
            let mut config = config(server.socket());
            (config.journal_limit, config.journal_bytes) = (limit, bytes);
            let node = Node::begin(config);
            node.readable().await;
            node.set("1", &["a"], "x").await;
            server.stop().unwrap();
            for id in 100..120 {
                let key = id.to_string().repeat(length / 3 + 1);
                assert_eq!(node.cache.invalidate(Instance::ID, [key]).await.unwrap(), Delivery::Deferred);
            }
            assert_eq!(node.cache.status().journal, 1);
            assert_eq!(node.cache.stats().overflows.get(), 1);
            server.cont().unwrap();
            node.readable().await;
            assert!(node.by_id("1").await.is_none());
            assert_eq!(node.cache.stats().resets.get(), 0, "it is a truncate, not another history");
        }
    }
}

/// C11: a value of another Redis type, or bytes of another release, in the place of an object.
#[tokio::test]
async fn foreign_data_is_a_miss_and_is_removed() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let name = format!("larder:instance:o{:016x}:1", node.cache.schema().fingerprint());
        for foreign in [&["LPUSH", &name, "x"][..], &["SET", &name, "x"], &["SET", &name, ""], &["SET", &name, "L1"]] {
            server.command(&["DEL", &name]).await.unwrap();
            server.command(foreign).await.unwrap();
            match node.cache.lookup(Instance::ID, "1").await {
                Lookup::Miss { cause: Miss::Undecodable, ticket: Some(_), .. } => {}
                other => panic!("{foreign:?}: {other:?}"),
            }
            assert_eq!(server.command(&["EXISTS", &name]).await.unwrap().int(), Some(0));
        }
        // An index key of another type hides nothing from an invalidation of the primary key, and is no error.
        server.command(&["LPUSH", "larder:instance:ihost:a", "x"]).await.unwrap();
        assert!(node.by_host("a").await.is_none());
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
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
        schema = schema.max_object_size(10_000);
        let cache: Cache<Instance> = Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
        until("the cache can be read", || cache.status().readable).await;
        assert_eq!(cache.set(instance("1", &["a"], &"x".repeat(9_000))).await, Stored::Accepted);
        assert_eq!(cache.set(instance("1", &["a"], &"x".repeat(10_001))).await, Stored::Unfit);
        assert!(cache.get(Instance::HOST, "a").await.is_none());
        assert_eq!(cache.set(instance("1", &["", "a"], "an empty key")).await, Stored::Unfit);
        assert_eq!(cache.stats().put(Stored::Unfit).get(), 2);
    }
}

#[tokio::test]
async fn an_object_with_more_keys_than_a_script_can_take_is_not_cached() {
    for server in servers(ServerOptions::default()).await {
        // A script of a thousand keys takes its time on a busy machine.
        let node = Node::begin(config(server.socket()).operation_timeout(Duration::from_secs(20)));
        node.readable().await;
        let hosts: Vec<_> = (0..3000).map(|n| format!("{n}.example")).collect();
        let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
        node.set("1", &hosts[..1023], "as many as there may be").await;
        assert!(node.by_host("1022.example").await.is_some());
        assert_eq!(node.cache.set(instance("1", &hosts, "too many")).await, Stored::Unfit);
        assert!(node.by_id("1").await.is_none(), "its earlier state is gone all the same");
        assert_eq!(node.cache.stats().faults.get(), 0);
    }
}

/// The seventeenth shape of an entry: the list of releases in the clock is full, mostly of releases that are long gone.
#[tokio::test]
async fn a_release_that_finds_no_place_begins_a_new_list_and_nobody_keeps_what_it_cannot_invalidate() {
    for server in servers(ServerOptions::default()).await {
        let old = Node::on(&server).await;
        old.set("1", &["a"], "old").await;
        let ticket = old.ticket().await;
        for place in 1..16 {
            let name = format!("{place:016x}");
            let offset = (48 + 16 * place).to_string();
            server.command(&["SETRANGE", "larder:instance:c", &offset, &name]).await.unwrap();
        }
        let redis = Redis::open(config(server.socket())).unwrap();
        let fingerprint = old.cache.schema().fingerprint() ^ 1;
        let schema = Schema::of::<Instance>().with_fingerprint(fingerprint);
        let new: Cache<Instance> = Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
        until("the new release can read", || new.status().readable).await;
        assert_eq!(new.set(instance("2", &["b"], "of the new release")).await, Stored::Accepted);
        // The old release goes on, in the new list, and without what it had from before.
        assert_eq!(old.cache.fill(instance("1", &["a"], "old"), ticket).await, Stored::Overtaken);
        assert!(old.by_host("a").await.is_none());
        old.set("1", &["a"], "again").await;
        assert_eq!(new.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        assert!(old.by_id("1").await.is_none(), "an invalidation by either reaches both");
        assert_eq!(new.get(Instance::HOST, "b").await.unwrap().name, "of the new release");
    }
}

/// In a pattern a point and a hyphen can mean more than themselves. What always does, a prefix cannot have.
#[tokio::test]
async fn a_truncate_under_a_prefix_that_looks_like_a_pattern_removes_nothing_else() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "kept").await;
        let mut config = config(server.socket());
        config.prefix = "l*[a-r]?er".to_owned();
        assert!(Redis::open(config.clone()).is_err());
        config.prefix = "l.r-er".to_owned();
        let other = Node::begin(config);
        other.readable().await;
        other.set("1", &["a"], "truncated").await;
        assert_eq!(other.cache.truncate().await.unwrap(), Delivery::Applied);
        assert!(other.by_host("a").await.is_none());
        assert_eq!(node.by_host("a").await.unwrap().name, "kept");
    }
}
