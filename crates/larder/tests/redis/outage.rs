//! A server that hangs, dies, goes deaf or refuses: what callers wait, and what is not lost.

use crate::instance::{Instance, instance};
use crate::node::{Node, at_once, config, servers, until};
use larder::breaker::State;
use larder::{Delivery, Lookup, Miss, Stored};
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::ServerOptions;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// zitadel, BentoCache: an invalidation during an outage was logged and dropped.
#[tokio::test]
async fn an_invalidation_during_a_hang_is_applied_before_anything_is_read() {
    for server in servers(ServerOptions::default()).await {
        let (node, other) = (Node::on(&server).await, Node::on(&server).await);
        node.set("1", &["a", "b"], "old").await;
        node.set("2", &["c"], "stays").await;
        assert!(other.by_host("a").await.is_some());
        server.stop().unwrap();
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Deferred);
        assert!(node.by_id("1").await.is_none(), "a node does not read what it could not invalidate");
        server.cont().unwrap();
        node.readable().await;
        assert!(node.by_id("1").await.is_none());
        assert!(node.by_host("b").await.is_none());
        assert!(other.by_host("b").await.is_none());
        assert!(other.by_host("c").await.is_some(), "nothing else is lost");
        assert_eq!(node.cache.stats().replayed.get(), 1);
    }
}

#[tokio::test]
async fn a_hung_server_costs_a_bounded_total_and_then_nothing() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "x").await;
        server.stop().unwrap();
        let mut waited = 0;
        while node.redis.breaker().state() == State::Closed {
            assert!(node.by_host("a").await.is_none());
            waited += 1;
        }
        assert!(waited <= 5, "{waited} requests waited, one after the other");
        for _ in 0..1000 {
            let found = at_once(node.cache.get(Instance::HOST, "a"));
            assert!(found.expect("answers at once while the breaker is open").is_none());
            let invalidated = at_once(node.cache.invalidate(Instance::ID, ["1"]));
            assert_eq!(invalidated.expect("at once, too").unwrap(), Delivery::Deferred);
        }
        assert_eq!(node.cache.status().journal, 1, "coalesced by key");
        server.cont().unwrap();
        node.readable().await;
        assert!(node.by_host("a").await.is_none());
        node.set("1", &["a"], "y").await;
    }
}

#[tokio::test]
async fn more_operations_than_the_cap_are_shed_at_once() {
    for server in servers(ServerOptions::default()).await {
        let mut config = config(server.socket());
        config.max_in_flight = 8;
        let node = Node::begin(config);
        node.readable().await;
        server.stop().unwrap();
        let mut waiting: Vec<_> = (0..8).map(|_| Box::pin(node.cache.lookup(Instance::ID, "1"))).collect();
        for lookup in &mut waiting {
            assert!(lookup.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        match at_once(node.cache.lookup(Instance::ID, "1")) {
            Some(Lookup::Miss { cause: Miss::Shed, ticket: None, .. }) => {}
            other => panic!("not shed: {other:?}"),
        }
        // C13: those who went away have given their places back.
        drop(waiting);
        assert!(at_once(node.cache.lookup(Instance::ID, "1")).is_none(), "sent, not shed");
        server.cont().unwrap();
        node.readable().await;
    }
}

/// C13: a caller that goes away after the command was sent must not lose the invalidation.
#[tokio::test]
async fn an_invalidation_whose_caller_goes_away_is_not_lost() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        server.stop().unwrap();
        assert!(at_once(node.cache.invalidate(Instance::HOST, ["a"])).is_none());
        assert!(at_once(node.cache.set(instance("2", &["b"], "new"))).is_none());
        assert!(at_once(node.cache.truncate()).is_none_or(|done| done.unwrap() == Delivery::Deferred));
        assert!(node.cache.status().journal > 0);
        server.cont().unwrap();
        node.readable().await;
        assert!(node.by_id("1").await.is_none());
    }
}

/// What is set is in the source already: whoever goes away while the set waits for its ticket leaves the old state behind.
#[tokio::test]
async fn a_set_whose_caller_goes_away_invalidates() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        server.stop().unwrap();
        assert!(at_once(node.cache.set(instance("1", &["a", "b"], "new"))).is_none());
        assert_eq!(node.cache.status().journal, 3);
        server.cont().unwrap();
        node.readable().await;
        assert!(node.by_host("a").await.is_none());
    }
}

/// One operation is one wait, however many steps it has.
#[tokio::test]
async fn a_set_or_a_long_invalidation_waits_for_a_hung_server_once() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    for server in servers(ServerOptions::default()).await {
        for way in 0..3 {
            let mut config = config(server.socket());
            config.operation_timeout = TIMEOUT;
            let node = Node::begin(config);
            node.readable().await;
            let stopped = server.pid().unwrap();
            let hosts: Vec<_> = (0..1000).map(|n| format!("{n}.example")).collect();
            let object = Instance { id: "1".to_owned(), hosts, name: String::new() };
            // While the server is stopped nothing can happen but that a timer ends, so the clock jumps from one to the next, and shows
            // how long was waited for and not how fast the machine is.
            let begun = match way {
                0 => {
                    server.stop().unwrap();
                    tokio::time::pause();
                    let begun = Instant::now();
                    assert_eq!(node.cache.set(object.clone()).await, Stored::Unavailable);
                    begun
                }
                1 => {
                    server.stop().unwrap();
                    tokio::time::pause();
                    let begun = Instant::now();
                    let delivery = node.cache.invalidate(Instance::HOST, &object.hosts).await;
                    assert_eq!(delivery.unwrap(), Delivery::Deferred);
                    begun
                }
                _ => {
                    let (written, (tell, begun)) = (object.clone(), tokio::sync::oneshot::channel());
                    let write = async move {
                        std::process::Command::new("kill").args(["-STOP", &stopped.to_string()]).status().unwrap();
                        tokio::time::pause();
                        tell.send(Instant::now()).unwrap();
                        Ok::<_, ()>(written)
                    };
                    node.cache.update(write).await.unwrap();
                    begun.await.unwrap()
                }
            };
            let waited = begun.elapsed();
            assert!(waited < 2 * TIMEOUT, "way {way}: {waited:?}");
            tokio::time::resume();
            assert_eq!(node.cache.status().journal, if way == 1 { 1000 } else { 1001 });
            server.cont().unwrap();
            node.readable().await;
        }
    }
}

/// A fill that sat in a stopped server's socket meets the fence of an invalidation that overtook it on another connection.
#[tokio::test]
async fn a_fill_stuck_in_a_stopped_server_is_refused_when_it_arrives() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let slow = Node::begin(config(proxy.socket()));
        slow.readable().await;
        let other = Node::on(&server).await;
        let ticket = slow.ticket().await;
        proxy.set(Direction::ToServer, Fault::Hold);
        assert_eq!(slow.cache.fill(instance("1", &["a"], "old"), ticket).await, Stored::Unavailable);
        assert_eq!(other.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
        proxy.set_both(Fault::Pass);
        slow.readable().await;
        assert!(other.by_host("a").await.is_none());
        assert!(slow.by_id("1").await.is_none());
    }
}

/// A set that was stuck cannot bring an old state back after the invalidations that overtook it.
#[tokio::test]
async fn a_set_stuck_in_a_stopped_server_only_invalidates_when_it_arrives() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Arc::new(Proxy::start(&server).await.unwrap());
        let slow = Node::begin(config(proxy.socket()));
        slow.readable().await;
        let other = Node::on(&server).await;
        let holding = proxy.clone();
        let write = async move {
            holding.set(Direction::ToServer, Fault::Hold);
            Ok::<_, ()>(instance("1", &["a"], "old"))
        };
        slow.cache.update(write).await.unwrap();
        other.set("1", &["a"], "new").await;
        proxy.set_both(Fault::Pass);
        slow.readable().await;
        // What was held has arrived by now, or was never sent: in both cases the journal has been replayed after it.
        assert_ne!(other.by_id("1").await.map(|found| found.name.clone()), Some("old".to_owned()));
    }
}

#[tokio::test]
async fn a_half_open_socket_is_given_up() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let node = Node::begin(config(proxy.socket()));
        node.readable().await;
        node.set("1", &["a"], "x").await;
        proxy.set_both(Fault::Blackhole);
        while node.redis.breaker().state() == State::Closed {
            assert!(node.by_host("a").await.is_none());
        }
        proxy.set_both(Fault::Pass);
        node.readable().await;
        assert!(node.by_host("a").await.is_some(), "over a new connection");
    }
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left_until_it_is_a_master_again() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        server.command(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        assert!(node.by_host("a").await.is_none());
        server.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        node.readable().await;
        assert!(node.by_host("a").await.is_none());
    }
}

#[tokio::test]
async fn a_node_whose_connections_are_killed_comes_back() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        for round in 0..5 {
            node.set("1", &["a"], "x").await;
            server.client_kill_all().await.unwrap();
            // Noticed by the socket, without any request.
            until("the connection is gone", || !node.cache.status().readable).await;
            node.readable().await;
            assert!(node.by_host("a").await.is_some(), "round {round}: the same history, so nothing was cleared");
        }
    }
}

/// A lookup by an unknown key is two commands in one go, and what the server says to them is heard.
#[tokio::test]
async fn what_the_server_refuses_in_a_pipeline_opens_the_breaker() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        server.command(&["ACL", "SETUSER", "default", "-get", "-getrange"]).await.unwrap();
        let mut opened = false;
        for _ in 0..20 {
            assert!(matches!(node.cache.lookup(Instance::HOST, "a").await, Lookup::Miss { ticket: None, .. }));
            opened |= node.redis.breaker().state() == State::Open;
        }
        assert!(opened);
        server.command(&["ACL", "SETUSER", "default", "+@all"]).await.unwrap();
    }
}
