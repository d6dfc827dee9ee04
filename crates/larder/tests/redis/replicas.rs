//! Strict mode (`wait_replicas`): what changes counts as applied once replicas have it.

use crate::instance::{Instance, instance};
use crate::node::{Node, config, until};
use crate::promotion::Pair;
use larder::breaker::State;
use larder::connector::Secret;
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{InspectError, Inspector};
use larder::{Delivery, Stored};
use larder_testing::server::{Reply, ServerOptions};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

fn strict(pair: &Pair) -> RedisOptions {
    config(&pair.socket()).wait_replicas(1).wait_timeout(Duration::from_secs(1))
}

/// For tests in which replicas hang: nothing that has to be confirmed at once is asked of them.
fn impatient(pair: &Pair) -> RedisOptions {
    strict(pair).wait_timeout(Duration::from_millis(150))
}

async fn node(pair: &Pair) -> Node {
    let node = Node::begin(strict(pair));
    node.readable().await;
    node
}

#[tokio::test]
async fn what_is_applied_is_on_the_replica_already() {
    for pair in Pair::start(ServerOptions::default()).await {
        let node = node(&pair).await;
        let name = format!("larder:instance:o{:016x}:1", node.cache.schema().fingerprint());
        for round in 0..50 {
            node.set("1", &["a"], &round.to_string()).await;
            assert_eq!(pair.replica.command(&["EXISTS", &name]).await.unwrap().int(), Some(1));
            assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
            assert_eq!(pair.replica.command(&["EXISTS", &name]).await.unwrap().int(), Some(0), "round {round}");
        }
        node.set("1", &["a"], "x").await;
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
        assert_eq!(pair.replica.command(&["EXISTS", &name]).await.unwrap().int(), Some(0));
        assert_eq!(node.cache.status().journal, 0);
        assert_eq!(node.redis.breaker().snapshot().failures, 0);
    }
}

#[tokio::test]
async fn what_a_replica_has_not_confirmed_is_deferred_until_it_has() {
    for pair in Pair::start(ServerOptions::default()).await {
        let (node, other) = (Node::begin(impatient(&pair)), Node::on(&pair.master).await);
        node.readable().await;
        for id in ["1", "2", "3", "4"] {
            other.set(id, &[&format!("{id}.example")], "old").await;
        }
        pair.replica.stop().unwrap();
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        assert!(other.by_id("1").await.is_none(), "it was sent all the same");
        assert!(node.by_id("2").await.is_none(), "this node reads nothing until it is confirmed");
        assert_eq!(node.cache.delete(Instance::ID, ["2"]).await.unwrap(), Delivery::Deferred);
        assert!(other.by_id("2").await.is_none());
        assert_eq!(node.cache.set(instance("3", &["c"], "new")).await, Stored::Unavailable);
        assert_eq!(node.cache.update(async { Ok::<_, ()>(instance("4", &["d"], "new")) }).await.unwrap().name, "new");
        let many = node.cache.set_many([instance("5", &["e"], "new"), instance("6", &["f"], "new")]).await;
        assert_eq!(many, [Stored::Unavailable; 2]);
        let written = node.cache.status().journal;
        assert_eq!(written, 10, "1, 2, and both keys of 3, 4, 5 and 6");
        assert_eq!(node.redis.breaker().state(), State::Closed, "the server is well");
        // Replicas are asked again and again, and the server is sent nothing twice.
        rounds(&pair, 2).await;
        let sent = commands(&pair, "unlink").await;
        rounds(&pair, 2).await;
        assert_eq!(commands(&pair, "unlink").await, sent);
        assert_eq!(node.cache.status().journal, written);

        pair.replica.cont().unwrap();
        node.readable().await;
        assert_eq!(node.cache.status().journal, 0);
        assert_eq!(node.cache.stats().replayed.get(), written);
        assert!(node.by_id("3").await.is_none(), "a set that was not confirmed is an invalidation");
    }
}

/// A truncate that only waits to be confirmed must not empty the cache twice a second.
#[tokio::test]
async fn a_truncate_that_waits_for_a_replica_is_done_once() {
    for pair in Pair::start(ServerOptions::default()).await {
        let (node, other) = (Node::begin(impatient(&pair)), Node::on(&pair.master).await);
        node.readable().await;
        other.set("1", &["a"], "old").await;
        pair.replica.stop().unwrap();
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Deferred);
        assert!(other.by_id("1").await.is_none());
        // Once when it was asked for, and once from the journal, which cannot know how far that had come.
        rounds(&pair, 2).await;
        other.set("2", &["b"], "newer").await;
        rounds(&pair, 2).await;
        assert!(other.by_id("2").await.is_some());
        pair.replica.cont().unwrap();
        node.readable().await;
        assert!(node.by_id("2").await.is_some());
    }
}

/// The cost of replicas that are gone is one wait, not one for each caller.
#[tokio::test]
async fn a_replica_that_hangs_costs_one_wait_and_then_nothing() {
    for pair in Pair::start(ServerOptions::default()).await {
        let node = Node::begin(impatient(&pair));
        node.readable().await;
        pair.replica.stop().unwrap();
        let before = commands(&pair, "wait").await;
        let cache = Arc::new(node.cache.clone());
        let all: Vec<_> = (0..64)
            .map(|id| {
                let cache = cache.clone();
                tokio::spawn(async move { cache.invalidate(Instance::ID, [id.to_string()]).await.unwrap() })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), Delivery::Deferred);
        }
        // Replicas go on to be asked now and then in the background. A wait for each caller would be one round for each.
        let asked = commands(&pair, "wait").await;
        assert!(asked - before < 32, "64 callers share their rounds: {}", asked - before);
        for id in 64..164 {
            let done = node.cache.invalidate(Instance::ID, [id.to_string()]).await.unwrap();
            assert_eq!(done, Delivery::Deferred);
        }
        let later = commands(&pair, "wait").await - asked;
        assert!(later < 50, "a hundred callers who come later wait for no round at all: {later}");
        pair.replica.cont().unwrap();
        node.readable().await;
    }
}

/// WAIT holds up its own connection only.
#[tokio::test]
async fn gets_do_not_wait_for_replicas() {
    for pair in Pair::start(ServerOptions::default()).await {
        let mut config = strict(&pair);
        config.wait_timeout = Duration::from_secs(20);
        let (node, other) = (Node::begin(config), Node::on(&pair.master).await);
        node.readable().await;
        other.set("1", &["a"], "x").await;
        pair.replica.stop().unwrap();
        let mut waiting = Box::pin(node.cache.invalidate(Instance::ID, ["2"]));
        for _ in 0..20 {
            assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(node.by_id("1").await.is_some(), "within the operation time-out");
        pair.replica.cont().unwrap();
        assert_eq!(waiting.await.unwrap(), Delivery::Applied);
    }
}

/// C13, while the server has answered and the replica has not.
#[tokio::test]
async fn an_invalidation_whose_caller_goes_away_before_it_is_confirmed_is_not_lost() {
    for pair in Pair::start(ServerOptions::default()).await {
        let (node, other) = (node(&pair).await, Node::on(&pair.master).await);
        node.set("1", &["a"], "old").await;
        pair.replica.stop().unwrap();
        {
            let mut invalidation = pin!(node.cache.invalidate(Instance::ID, ["1"]));
            while other.by_id("1").await.is_some() {
                assert!(invalidation.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            assert_eq!(node.cache.status().journal, 0);
        }
        assert_eq!(node.cache.status().journal, 1);
        pair.replica.cont().unwrap();
        node.readable().await;
    }
}

/// A server that does not say which it is is recognised by what one connection writes and the other reads.
#[tokio::test]
async fn strict_mode_works_where_the_server_tells_nothing_of_itself() {
    for pair in Pair::start(ServerOptions::default().config("user larder on nopass ~* +@all -info")).await {
        let mut config = strict(&pair).operation_timeout(Duration::from_secs(20));
        config.username = Some("larder".to_owned());
        config.password = Some(Secret::new("any"));
        let node = Node::begin(config);
        node.readable().await;
        node.set("1", &["a"], "x").await;
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
        assert_eq!(pair.master.command(&["EXISTS", "larder::w"]).await.unwrap().int(), Some(1));
        assert!(pair.master.command(&["PTTL", "larder::w"]).await.unwrap().int().unwrap() > 0, "and goes by itself");
    }
}

/// What would fail with each invalidation is found out at connect.
#[tokio::test]
async fn strict_mode_says_so_at_connect_where_wait_is_forbidden() {
    for pair in Pair::start(ServerOptions::default().config("user larder on nopass ~* +@all -wait")).await {
        let mut config = strict(&pair);
        config.username = Some("larder".to_owned());
        config.password = Some(Secret::new("any"));
        let node = Node::begin(config);
        until("the breaker opens", || node.redis.breaker().state() == State::Open).await;
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
    }
}

#[tokio::test]
async fn a_connection_for_wait_that_is_killed_is_made_anew() {
    for pair in Pair::start(ServerOptions::default()).await {
        let node = node(&pair).await;
        let before = waiting(&pair).await;
        let [id] = &before[..] else { panic!("{before:?}") };
        let killed = pair.master.command(&["CLIENT", "KILL", "ID", id]).await.unwrap();
        assert_eq!(killed, Reply::Int(1));
        let begun = Instant::now();
        while waiting(&pair).await.is_empty() || waiting(&pair).await == before {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody has noticed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.readable().await;
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
    }
}

/// The operator's commands are no less strict, and have no journal: they say so.
#[tokio::test]
async fn an_operators_invalidation_that_is_not_confirmed_is_an_error() {
    for pair in Pair::start(ServerOptions::default()).await {
        let node = node(&pair).await;
        node.set("1", &["a"], "x").await;
        let inspector = Inspector::open(strict(&pair)).await.unwrap();
        let cache = inspector.cache("instance").await.unwrap();
        let index = cache.index("host").await.unwrap();
        index.invalidate(&[b"a".to_vec()], None).await.unwrap();
        pair.replica.stop().unwrap();
        let error = index.invalidate(&[b"a".to_vec()], None).await.unwrap_err();
        assert!(matches!(error, InspectError::Server { .. }), "{error}");
        assert!(error.to_string().contains("wait_replicas"), "{error}");
        pair.replica.cont().unwrap();
    }
}

/// What confirmation costs. Run it with `cargo test -p larder --test redis confirmation_costs -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "prints numbers, proves nothing"]
async fn what_confirmation_costs() {
    for pair in Pair::start(ServerOptions::default()).await {
        for (name, replicas) in [("without", 0), ("with", 1)] {
            let node = Node::begin(strict(&pair).wait_replicas(replicas));
            node.readable().await;
            for tasks in [1, 64] {
                let each = 6400 / tasks;
                let begun = Instant::now();
                let all: Vec<_> = (0..tasks)
                    .map(|_| {
                        let cache = node.cache.clone();
                        tokio::spawn(async move {
                            for id in 0..each {
                                assert_eq!(
                                    cache.invalidate(Instance::ID, [id.to_string()]).await.unwrap(),
                                    Delivery::Applied
                                );
                            }
                        })
                    })
                    .collect();
                for one in all {
                    one.await.unwrap();
                }
                let took = begun.elapsed();
                println!("{name} replicas, {tasks} tasks: {:?} each, {:?} in all", took / each, took);
            }
        }
    }
}

/// The connections for WAIT.
async fn waiting(pair: &Pair) -> Vec<String> {
    let clients = pair.master.command(&["CLIENT", "LIST", "TYPE", "normal"]).await.unwrap();
    let clients = String::from_utf8(clients.bytes().unwrap().to_vec()).unwrap();
    let id = |line: &str| line.split_whitespace().find_map(|word| Some(word.strip_prefix("id=")?.to_owned()));
    clients.lines().filter(|line| line.contains("cmd=wait")).filter_map(id).collect()
}

/// Waits until replicas have been asked so many more times.
async fn rounds(pair: &Pair, more: u64) {
    let before = commands(pair, "wait").await;
    let begun = Instant::now();
    while commands(pair, "wait").await < before + more {
        assert!(begun.elapsed() < Duration::from_secs(30), "replicas are not asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn commands(pair: &Pair, name: &str) -> u64 {
    let stats = pair.master.info("commandstats").await.unwrap();
    let calls = stats.get(&format!("cmdstat_{name}")).and_then(|line| line.strip_prefix("calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}
