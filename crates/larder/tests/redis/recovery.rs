//! What a node finds when it comes back, and what becomes of a recovery that does not end.

use crate::instance::{Instance, instance};
use crate::node::{Node, config, servers, until};
use larder::breaker::State;
use larder::{Cache, Delivery, Lookup, Schema, Stored};
use larder_testing::entries::Instance as Versioned;
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::{Reply, Server, ServerOptions};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CLOCK: &str = "larder:instance:c";

/// As a node leaves the clock that has begun to clear the cache and dies: another epoch, and not settled.
async fn begin_to_clear(server: &Server) {
    let set = server.command(&["BITFIELD", CLOCK, "SET", "i64", "#0", "4711", "SET", "i64", "#2", "2"]).await;
    set.unwrap();
}

async fn state(server: &Server) -> Option<i64> {
    word(server, "#2").await
}

async fn word(server: &Server, word: &str) -> Option<i64> {
    match server.command(&["BITFIELD_RO", CLOCK, "GET", "i64", word]).await.unwrap() {
        Reply::Array(words) => words.first()?.int(),
        _ => None,
    }
}

#[tokio::test]
async fn what_a_crashed_node_left_half_cleared_is_cleared_by_the_next_to_connect() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        drop(node);
        begin_to_clear(&server).await;
        let next = Node::on(&server).await;
        assert!(next.by_id("1").await.is_none());
        assert_eq!(state(&server).await, Some(1), "settled");
        next.set("1", &["a"], "new").await;
    }
}

/// A node truncates the cache, and the server restarts with a snapshot from the middle of that. The node has removed things before the restart.
/// Its last step, or an earlier one that is late, would end the clearing of what came back, and leave what nobody has removed.
#[tokio::test]
async fn a_clearing_that_came_back_with_a_snapshot_is_not_gone_on_with() {
    for server in servers(ServerOptions::default().persistent()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        drop(node);
        begin_to_clear(&server).await;
        server.command(&["SAVE"]).await.unwrap();
        server.kill();
        server.restart().await.unwrap();
        assert_eq!((word(&server, "#0").await, state(&server).await), (Some(4711), Some(2)), "it has come back");
        let next = Node::on(&server).await;
        assert!(next.by_id("1").await.is_none());
        assert_ne!(word(&server, "#0").await, Some(4711), "whoever began it can end nothing any more");
        assert_eq!(state(&server).await, Some(1), "settled");
    }
}

/// Nodes that start at the same time each found no clock, and each cleared the cache: the last of them removed what the first had stored, and
/// the lowest versions that were demanded meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_another_node_has_cleared_meanwhile_is_not_cleared_again() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let (found_nothing, mut has_found_nothing) = tokio::sync::mpsc::unbounded_channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let may_go_on = Mutex::new(may_go_on);
        let fault = Fault::rewrite(move |sent| {
            if sent.windows(13).any(|argument| argument == b"$7\r\nrecover\r\n") {
                let _ = found_nothing.send(());
                let _ = may_go_on.lock().unwrap().recv();
            }
            sent
        });
        proxy.set(Direction::ToServer, fault);
        let late = Node::begin(config(proxy.socket()));
        has_found_nothing.recv().await.unwrap();
        let first = Node::on(&server).await;
        first.set("1", &["a"], "stored").await;
        drop(go_on);
        late.readable().await;
        assert!(first.by_id("1").await.is_some() && late.by_id("1").await.is_some());
        assert_eq!(late.cache.stats().resets.get(), 0);
    }
}

/// A node that is connected waits for whoever clears, gives out no ticket meanwhile, and does it itself after five seconds.
#[tokio::test]
async fn what_a_crashed_node_left_half_cleared_is_cleared_by_those_who_are_connected() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        begin_to_clear(&server).await;
        let begun = Instant::now();
        loop {
            match node.cache.lookup(Instance::ID, "2").await {
                Lookup::Miss { ticket: Some(_), .. } => break,
                Lookup::Miss { ticket: None, .. } => tokio::time::sleep(Duration::from_millis(20)).await,
                Lookup::Hit { value: found, .. } => panic!("{found:?}"),
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody clears it");
        }
        assert!(begun.elapsed() > Duration::from_secs(4), "another node had time to end what it began");
        assert_eq!(state(&server).await, Some(1));
        assert!(node.by_id("1").await.is_none());
    }
}

/// The connection ends in the middle of the replay: nothing is crossed out, nothing is read, and all of it is sent again.
#[tokio::test]
async fn a_replay_that_is_interrupted_begins_again() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let mut settings = config(proxy.socket());
        settings.breaker.open = Duration::from_millis(100);
        settings.breaker.open_max = Duration::from_millis(100);
        let (node, other) = (Node::begin(settings), Node::on(&server).await);
        node.readable().await;
        for id in ["0", "999"] {
            node.set(id, &[], "old").await;
        }
        // The server knows the script from here on.
        assert_eq!(node.cache.invalidate(Instance::ID, ["nobody"]).await.unwrap(), Delivery::Applied);
        proxy.set_both(Fault::Hold);
        for id in 0..1000 {
            let deferred = node.cache.invalidate(Instance::ID, [id.to_string()]).await.unwrap();
            assert_eq!(deferred, Delivery::Deferred);
        }
        // Eight batches of 128 keys, each of 5,400 bytes; the handshake and the first of them get through.
        proxy.set(Direction::ToServer, Fault::Truncate { after: 20_000 });
        proxy.set(Direction::ToClient, Fault::Pass);
        let begun = Instant::now();
        while other.by_id("0").await.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(30), "nothing is replayed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..20 {
            assert!(!node.cache.status().readable);
            assert_eq!(node.cache.status().journal, 1000);
            assert!(other.by_id("999").await.is_some(), "the end is not reached");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        proxy.set_both(Fault::Pass);
        node.readable().await;
        assert_eq!(node.cache.status().journal, 0);
        assert!(other.by_id("999").await.is_none());
        assert_eq!(node.cache.stats().replayed.get(), 1000);
    }
}

/// It promises nothing to anybody.
#[tokio::test]
async fn a_fill_that_was_not_answered_leaves_nothing_in_the_journal() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let ticket = node.ticket().await;
        server.stop().unwrap();
        assert_eq!(node.cache.fill(instance("1", &["a"], "x"), ticket).await, Stored::Unavailable);
        assert_eq!(node.cache.status().journal, 0);
        server.cont().unwrap();
        node.readable().await;
    }
}

/// Nobody asks for anything, and the node finds out all the same.
#[tokio::test]
async fn the_heartbeat_finds_a_hung_server_before_a_user_does() {
    for server in servers(ServerOptions::default()).await {
        let mut settings = config(server.socket());
        settings.breaker.consecutive_failures = 2;
        let node = Node::begin(settings);
        node.readable().await;
        server.stop().unwrap();
        until("the breaker opens", || node.redis.breaker().state() == State::Open).await;
        assert!(!node.cache.status().readable);
        server.cont().unwrap();
        node.readable().await;
    }
}

/// Where the server does not tell its history, a node believes its clock: the same is the same, and one that is missing is cleared.
#[tokio::test]
async fn a_server_that_will_not_say_its_history_is_recognised_by_its_clock() {
    for server in servers(ServerOptions::default().config("user default on nopass ~* &* +@all -info")).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "x").await;
        server.client_kill_all().await.unwrap();
        until("the connection is gone", || !node.cache.status().readable).await;
        node.readable().await;
        assert!(node.by_host("a").await.is_some(), "the same clock: nothing was cleared");
        server.flushall().await.unwrap();
        assert_eq!(node.cache.invalidate(Instance::ID, ["2"]).await.unwrap(), Delivery::Deferred);
        node.readable().await;
        assert!(node.by_host("a").await.is_none());
    }
}

/// A set that is not answered leaves its version with the invalidation: a load from a replica that lags behind cannot take its place.
#[tokio::test]
async fn what_is_left_of_an_unanswered_set_refuses_lower_versions() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let schema = Schema::of::<Versioned>();
        let cache: Cache<Versioned> =
            Cache::new(Arc::new(node.redis.connector(schema.clone()).unwrap()), schema).unwrap();
        until("the cache can be read", || cache.status().readable).await;
        let state = |version| Versioned::new("1", &["a"], "x", version);
        assert_eq!(cache.set(state(5)).await, Stored::Accepted);
        server.stop().unwrap();
        assert_eq!(cache.set(state(7)).await, Stored::Unavailable);
        server.cont().unwrap();
        until("the journal is empty, and the cache is read", || cache.status().journal == 0 && cache.status().readable)
            .await;
        let ticket = match cache.lookup(Versioned::HOST, "a").await {
            Lookup::Miss { ticket: Some(ticket), .. } => ticket,
            other => panic!("{other:?}"),
        };
        assert_eq!(cache.fill(state(6), ticket).await, Stored::Outdated);
        assert_eq!(cache.fill(state(7), ticket).await, Stored::Accepted);
    }
}
