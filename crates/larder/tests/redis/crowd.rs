//! More operations at once than may be in flight: gets and fills are shed, changes wait for a place.

use crate::instance::{Instance, instance};
use crate::node::{Node, at_once, config, servers, until};
use larder::breaker::State;
use larder::{Cache, Delivery, Lookup, Miss, Stored};
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::ServerOptions;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::task::JoinSet;

/// A node with room for so many operations in flight. Its server answers in time, however busy this machine is: it is about who is let
/// in.
async fn node(socket: &Path, max_in_flight: usize) -> Node {
    let mut config = config(socket);
    (config.max_in_flight, config.operation_timeout) = (max_in_flight, Duration::from_secs(60));
    let node = Node::begin(config);
    node.readable().await;
    node
}

/// Begins something, which does not end yet.
fn begin<'a, T>(future: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    let mut future: Pin<Box<dyn Future<Output = T> + 'a>> = Box::pin(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    future
}

fn waiting(node: &Node) -> usize {
    node.redis.breaker().snapshot().waiting
}

async fn set(cache: Cache<Instance>, object: Instance) -> Stored {
    cache.set(object).await
}

async fn invalidate(cache: Cache<Instance>, host: String) -> Delivery {
    cache.invalidate(Instance::HOST, [host]).await.unwrap()
}

/// 600 sets at once: 344 were shed, and the node read nothing until they had been replayed.
#[tokio::test]
async fn a_burst_of_changes_is_not_an_outage() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let node = node(proxy.socket(), 16).await;
        proxy.set(Direction::ToClient, Fault::Delay(Duration::from_millis(5)));
        let mut sets = JoinSet::new();
        for id in 0..600 {
            sets.spawn(set(node.cache.clone(), instance(&id.to_string(), &[&format!("{id}.example")], "x")));
        }
        until("they wait", || waiting(&node) > 500).await;
        while let Some(stored) = sets.join_next().await {
            assert_eq!(stored.unwrap(), Stored::Accepted);
            assert!(node.cache.status().readable, "nothing was deferred");
        }
        let seen = node.redis.breaker().snapshot();
        assert_eq!((seen.state, seen.shed, seen.in_flight, seen.waiting), (State::Closed, 0, 0, 0));
        assert_eq!(node.cache.stats().replayed.get(), 0);
        assert!(node.by_host("599.example").await.is_some());
    }
}

#[tokio::test]
async fn reads_and_fills_are_shed_and_every_kind_of_change_waits() {
    for server in servers(ServerOptions::default()).await {
        let node = node(server.socket(), 1).await;
        node.set("1", &["a"], "old").await;
        let ticket = node.ticket().await;
        server.stop().unwrap();
        let under_way = begin(node.cache.lookup(Instance::ID, "2"));
        let shed = at_once(node.cache.lookup(Instance::ID, "1"));
        assert!(matches!(shed, Some(Lookup::Miss { cause: Miss::Shed, ticket: None, .. })), "{shed:?}");
        assert!(at_once(node.by_host("a")).expect("not sent").is_none());
        assert_eq!(at_once(node.cache.fill(instance("3", &["c"], "x"), ticket)), Some(Stored::Unavailable));
        let large = "x".repeat(20_000);
        let mut sets = JoinSet::new();
        sets.spawn(set(node.cache.clone(), instance("4", &["d"], "x")));
        sets.spawn(set(node.cache.clone(), instance("5", &["e"], &large)));
        let cache = node.cache.clone();
        let many = tokio::spawn(async move {
            cache.set_many([instance("6", &["f"], "x"), instance("7", &["g"], &"x".repeat(20_000))]).await
        });
        let cache = node.cache.clone();
        let delete = tokio::spawn(async move { cache.delete(Instance::HOST, ["none"]).await.unwrap() });
        let cache = node.cache.clone();
        let update = tokio::spawn(async move { cache.update(async { Ok::<_, ()>(instance("8", &["h"], "x")) }).await });
        let invalidate = tokio::spawn(invalidate(node.cache.clone(), "a".to_owned()));
        until("all of them wait", || waiting(&node) == 6).await;
        server.cont().unwrap();
        drop(under_way);
        assert_eq!(sets.join_all().await, [Stored::Accepted; 2]);
        assert_eq!(many.await.unwrap(), [Stored::Accepted; 2]);
        assert_eq!((delete.await.unwrap(), invalidate.await.unwrap()), (Delivery::Applied, Delivery::Applied));
        update.await.unwrap().unwrap();
        assert!(node.by_host("h").await.is_some() && node.by_host("g").await.is_some());
        assert!(node.by_id("1").await.is_none(), "invalidated");
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
        assert_eq!(node.cache.stats().replayed.get(), 0, "nothing was deferred");
    }
}

#[tokio::test]
async fn who_waits_is_deferred_at_once_when_the_breaker_opens() {
    for server in servers(ServerOptions::default()).await {
        let node = node(server.socket(), 1).await;
        node.set("1", &["0.example"], "old").await;
        server.stop().unwrap();
        let _under_way = begin(node.cache.lookup(Instance::ID, "1"));
        let hosts = (0..500).map(|host| format!("{host}.example"));
        let mut invalidations: Vec<_> = hosts.map(|host| begin(invalidate(node.cache.clone(), host))).collect();
        let last = begin(node.cache.truncate());
        assert_eq!((waiting(&node), node.cache.status().journal), (501, 0));
        node.redis.breaker().force_open();
        for invalidation in &mut invalidations {
            assert_eq!(at_once(invalidation.as_mut()), Some(Delivery::Deferred));
        }
        assert_eq!(at_once(last).unwrap().unwrap(), Delivery::Deferred);
        assert_eq!((waiting(&node), node.cache.status().journal), (0, 1), "a truncate covers them all");
        server.cont().unwrap();
        node.redis.breaker().reset();
        node.readable().await;
        assert!(node.by_id("1").await.is_none());
    }
}

/// The breaker does not open here, so that nothing but the operation time-out ends the waiting.
#[tokio::test]
async fn who_waits_in_vain_for_a_place_is_deferred() {
    for server in servers(ServerOptions::default()).await {
        let mut config = config(server.socket());
        config.max_in_flight = 1;
        let node = Node::begin(config);
        node.readable().await;
        node.set("1", &["a"], "old").await;
        node.redis.breaker().force_closed();
        server.stop().unwrap();
        // Asked once, it keeps its place until it is dropped.
        let under_way = begin(node.cache.lookup(Instance::ID, "1"));
        let sent = node.redis.latencies().count();
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(node.cache.set(instance("2", &["b"], "x")).await, Stored::Unavailable);
        assert_eq!(node.redis.latencies().count(), sent, "nothing was sent");
        assert_eq!((waiting(&node), node.cache.status().journal), (0, 3));
        server.cont().unwrap();
        drop(under_way);
        node.readable().await;
        assert!(node.by_id("1").await.is_none());
    }
}

/// C13: a caller that goes away while it waits for a place.
#[tokio::test]
async fn who_goes_away_while_waiting_leaves_the_invalidation_and_no_place() {
    for server in servers(ServerOptions::default()).await {
        let node = node(server.socket(), 1).await;
        node.set("1", &["a"], "old").await;
        node.set("2", &["b"], "old").await;
        server.stop().unwrap();
        let under_way = begin(node.cache.lookup(Instance::ID, "1"));
        let leaving = begin(node.cache.invalidate(Instance::HOST, ["a"]));
        let handed_over = begin(node.cache.invalidate(Instance::HOST, ["b"]));
        let staying = tokio::spawn(invalidate(node.cache.clone(), "c".to_owned()));
        until("all of them wait", || waiting(&node) == 3).await;
        drop(leaving);
        assert_eq!((waiting(&node), node.cache.status().journal), (2, 1));
        drop(under_way);
        // Its place is there, and it never comes for it.
        drop(handed_over);
        assert_eq!((waiting(&node), node.cache.status().journal), (0, 2));
        server.cont().unwrap();
        assert_eq!(staying.await.unwrap(), Delivery::Applied);
        node.readable().await;
        assert!(node.by_id("1").await.is_none() && node.by_id("2").await.is_none());
        assert_eq!(node.redis.breaker().snapshot().in_flight, 0);
    }
}
