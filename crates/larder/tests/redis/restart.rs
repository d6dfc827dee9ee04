//! A server that comes back: empty, from an old snapshot, or without its clock.

use crate::instance::{Instance, instance};
use crate::node::{Node, config, servers, until};
use larder::connector::Secret;
use larder::{Delivery, Lookup, Stored};
use larder_testing::server::{Server, ServerOptions};
use std::time::{Duration, Instant};

#[tokio::test]
async fn killed_and_restarted_empty() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        let ticket = node.ticket().await;
        server.kill();
        until("the connection is gone", || !node.cache.status().readable).await;
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        server.restart().await.unwrap();
        node.readable().await;
        assert!(node.by_host("a").await.is_none());
        assert_eq!(
            node.cache.fill(instance("1", &["a"], "old"), ticket).await,
            Stored::Overtaken,
            "an old epoch's ticket"
        );
        node.set("1", &["a"], "new").await;
        assert_eq!(node.by_host("a").await.unwrap().name, "new");
    }
}

/// What a snapshot holds may be from before invalidations that were applied, and lost with the server.
#[tokio::test]
async fn a_restart_from_an_old_snapshot_serves_nothing_from_before() {
    for server in servers(ServerOptions::default().persistent()).await {
        let (node, other) = (Node::on(&server).await, Node::on(&server).await);
        node.set("1", &["a"], "old").await;
        server.command(&["SAVE"]).await.unwrap();
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        server.kill();
        until("the connections are gone", || !node.cache.status().readable && !other.cache.status().readable).await;
        server.restart().await.unwrap();
        node.readable().await;
        other.readable().await;
        assert!(node.by_host("a").await.is_none());
        assert!(other.by_id("1").await.is_none(), "also on a node that knows nothing of the invalidation");
        // And on a node that was not there before.
        assert!(Node::on(&server).await.by_id("1").await.is_none());
    }
}

#[tokio::test]
async fn flushall_refuses_older_tickets() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        let ticket = node.ticket().await;
        server.flushall().await.unwrap();
        assert!(node.by_host("a").await.is_none());
        assert_ne!(node.cache.fill(instance("1", &["a"], "old"), ticket).await, Stored::Accepted);
        node.readable().await;
        until("the clock is back", || node.cache.status().readable).await;
        let fresh = node.ticket().await;
        assert_eq!(node.cache.fill(instance("1", &["a"], "old"), ticket).await, Stored::Overtaken);
        assert_eq!(node.cache.fill(instance("1", &["a"], "new"), fresh).await, Stored::Accepted);
    }
}

/// A server that evicts may drop the clock alone: the fences are gone with it, so the tickets must be.
#[tokio::test]
async fn a_clock_that_was_evicted_takes_the_old_tickets_and_objects_with_it() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        let ticket = node.ticket().await;
        assert_eq!(node.cache.invalidate(Instance::ID, ["2"]).await.unwrap(), Delivery::Applied);
        server.command(&["DEL", "larder:instance:c"]).await.unwrap();
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        node.readable().await;
        assert_eq!(node.cache.fill(instance("2", &["b"], "old"), ticket).await, Stored::Overtaken);
        assert!(node.by_host("a").await.is_none());
        assert_eq!(node.cache.status().journal, 0);
    }
}

/// A master that was partitioned away is filled anew by another one, which had lost the last writes, and is promoted again: the
/// same process, and where nobody closes it the same connection, with older data.
#[tokio::test]
async fn a_process_that_was_filled_anew_by_another_master_serves_nothing_from_before() {
    for server in servers(replicated()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        let other = Server::start(server.binary(), replicated()).await.unwrap();
        replicate(&server, &other).await;
        other.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
        replicate(&other, &server).await;
        server.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();

        // Nothing tells the node, whose connection is open; it asks once a second.
        let begun = Instant::now();
        while node.by_host("a").await.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the node has not noticed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        node.readable().await;
        assert!(node.by_host("a").await.is_none());
    }
}

/// The same for a node that was not there before, and has seen no later sequence.
#[tokio::test]
async fn a_newcomer_does_not_trust_data_that_came_from_another_master() {
    for server in servers(replicated()).await {
        Node::on(&server).await.set("1", &["a"], "old").await;
        let other = Server::start(server.binary(), replicated()).await.unwrap();
        replicate(&server, &other).await;
        other.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        replicate(&other, &server).await;
        server.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        assert!(Node::on(&server).await.by_host("a").await.is_none());
        assert!(Node::on(&other).await.by_host("a").await.is_none());
    }
}

/// The clock alone shows it, where a server does not tell its history.
#[tokio::test]
async fn a_clock_that_went_back_under_an_open_connection_is_noticed_by_the_next_ticket() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        let clock = "larder:instance:c";
        let before = server.command(&["GET", clock]).await.unwrap();
        let object = format!("larder:instance:o{:016x}:1", node.cache.schema().fingerprint());
        let old = server.command(&["GET", &object]).await.unwrap();
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
        // Older data comes back, clock and all.
        server.command(&[b"SET".as_slice(), object.as_bytes(), old.bytes().unwrap()]).await.unwrap();
        server.command(&[b"SET".as_slice(), clock.as_bytes(), before.bytes().unwrap()]).await.unwrap();
        assert!(
            matches!(node.cache.lookup(Instance::ID, "2").await, Lookup::Miss { ticket: None, .. }),
            "no ticket is given out"
        );
        node.readable().await;
        assert!(node.by_id("1").await.is_none());
    }
}

/// A node that may not ask which history the server has compares the clock with what it remembers, also where the cache was
/// truncated after the snapshot was made, whether or not anything else has told the node of the new epoch.
#[tokio::test]
async fn an_old_snapshot_from_before_a_truncate_is_noticed_without_the_history() {
    let user = "user larder on nopass ~* +@all -info";
    for server in servers(ServerOptions::default().persistent().config(user)).await {
        for sets in [true, false] {
            server.flushall().await.unwrap();
            let mut config = config(server.socket());
            config.username = Some("larder".to_owned());
            config.password = Some(Secret::new("any"));
            let node = Node::begin(config);
            node.readable().await;
            node.set("1", &["a"], "old").await;
            server.command(&["SAVE"]).await.unwrap();
            assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
            if sets {
                node.set("2", &["b"], "newer").await;
            }
            server.kill();
            until("the connection is gone", || !node.cache.status().readable).await;
            server.restart().await.unwrap();
            node.readable().await;
            assert!(node.by_host("a").await.is_none());
            assert!(node.by_id("1").await.is_none());
        }
    }
}

/// A server that sends its data to a replica at once.
pub(crate) fn replicated() -> ServerOptions {
    ServerOptions::default().tcp().config("repl-diskless-sync-delay 0")
}

/// Makes `to` a replica of `from`, and waits until it has its data.
pub(crate) async fn replicate(from: &Server, to: &Server) {
    let port = from.port().unwrap().to_string();
    to.command(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    let begun = Instant::now();
    while to.info("replication").await.unwrap().get("master_link_status").map(String::as_str) != Some("up") {
        assert!(begun.elapsed() < Duration::from_secs(30), "the replica has not been filled");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
