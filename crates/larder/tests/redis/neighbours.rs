//! Several caches on one server: what is wrong with one is no trouble for the others.

use crate::instance::Instance;
use crate::node::{Node, config, servers, until};
use larder::breaker::State;
use larder::connector::Secret;
use larder::{Cache, Delivery, Entry, Schema, Stored};
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::ServerOptions;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "color")]
struct Color {
    #[key(primary)]
    name: String,
}

fn colors(node: &Node) -> Cache<Color> {
    let schema = Schema::of::<Color>();
    Cache::new(Arc::new(node.redis.connector(schema.clone()).unwrap()), schema).unwrap()
}

/// A clock that somebody has put something else in place of cannot be replayed against.
#[tokio::test]
async fn a_cache_that_cannot_be_recovered_does_not_keep_the_others_from_it() {
    for server in servers(ServerOptions::default()).await {
        for clobbered in ["larder:color:c", "larder:instance:c"] {
            server.flushall().await.unwrap();
            server.command(&["LPUSH", clobbered, "not a clock"]).await.unwrap();
            let node = Node::begin(config(server.socket()));
            let colors = colors(&node);
            let (ill, well) = (colors.status(), node.cache.status());
            assert!(!ill.readable && !well.readable);
            let deferred = colors.invalidate(Color::NAME, ["red"]).await.unwrap();
            assert_eq!(deferred, Delivery::Deferred);
            if clobbered == "larder:color:c" {
                node.readable().await;
                node.set("1", &["a"], "unharmed").await;
                assert!(node.by_host("a").await.is_some());
                assert!(!colors.status().readable);
                assert_eq!(colors.status().journal, 1);
            } else {
                until("the other cache can be read", || colors.status().readable).await;
                assert!(!node.cache.status().readable);
                assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
            }
            assert_eq!(node.redis.breaker().snapshot().failures, 0, "the server is well");
            server.command(&["DEL", clobbered]).await.unwrap();
            until("both can be read", || colors.status().readable && node.cache.status().readable).await;
        }
    }
}

/// The rights of a user reach as far as the prefix of one cache.
#[tokio::test]
async fn a_cache_that_is_forbidden_does_not_keep_the_others_from_it() {
    let options = ServerOptions::default().config("user larder on >opensesame ~larder:instance:* +@all");
    for server in servers(options).await {
        let mut config = config(server.socket());
        config.username = Some("larder".to_owned());
        config.password = Some(Secret::new("opensesame"));
        let node = Node::begin(config);
        let colors = colors(&node);
        node.readable().await;
        node.set("1", &["a"], "allowed").await;
        assert!(colors.get(Color::NAME, "red").await.is_none());
        assert_eq!(colors.invalidate(Color::NAME, ["red"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(colors.set(Color { name: "red".into() }).await, Stored::Unavailable);
        assert!(node.by_host("a").await.is_some());
        assert_eq!(node.redis.breaker().state(), State::Closed);
    }
}

/// A replay takes a few round trips, in which more is deferred; one that waited until nothing is left would never end.
#[tokio::test]
async fn a_node_that_never_stops_to_invalidate_comes_back() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let node = Node::begin(config(proxy.socket()));
        node.readable().await;
        proxy.set(Direction::ToServer, Fault::Delay(Duration::from_millis(10)));
        let cache = node.cache.clone();
        let changes = tokio::spawn(async move {
            for id in 0_u64.. {
                cache.invalidate(Instance::ID, [(id % 1000).to_string()]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        proxy.drop_connections().await;
        until("something is deferred", || node.cache.status().journal > 0).await;
        let before = node.cache.stats().applied.get();
        until("invalidations are applied again", || node.cache.stats().applied.get() > before + 20).await;
        changes.abort();
        node.readable().await;
        node.set("1", &["a"], "x").await;
    }
}
