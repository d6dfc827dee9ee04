//! Failovers by real Sentinels.

use super::scripted::{connections, watching};
use crate::instance::{Instance, instance};
use crate::node::{Node, until};
use larder::connector::redis::{RedisOptions, SentinelOptions};
use larder::{Delivery, Stored};
use larder_testing::log::Log;
use larder_testing::server::{Reply, Server, ServerOptions, Watched, required};
use std::time::Duration;
use tracing::Level;

/// One of each kind, with three Sentinels.
async fn all_watched() -> Vec<Watched> {
    let mut all = Vec::new();
    for binary in required().unwrap() {
        all.push(Watched::start(&binary, ServerOptions::default(), 3).await.unwrap());
    }
    all
}

pub(crate) fn sentinels(watched: &Watched) -> SentinelOptions {
    let hosts = watched.sentinels.iter().map(|sentinel| sentinel.port().unwrap());
    hosts.fold(SentinelOptions::new(Watched::NAME), |options, port| options.host("127.0.0.1", port))
}

pub(crate) fn watching_all(watched: &Watched) -> RedisOptions {
    watching(sentinels(watched))
}

async fn node(watched: &Watched) -> Node {
    let node = Node::begin(watching_all(watched));
    node.readable().await;
    node
}

/// The Sentinels cannot make a replica of this server any more: it stays a master, as an old master does for ten seconds. So the test need
/// not be quick.
async fn cannot_be_demoted(server: &Server) {
    let reply = server.command(&["ACL", "SETUSER", "default", "-replicaof", "-slaveof"]).await.unwrap();
    assert_eq!(reply, Reply::Status("OK".into()));
}

async fn is_master(server: &Server) -> bool {
    server.info("replication").await.unwrap()["role"] == "master"
}

/// The old master goes on as if nothing had happened, and takes what it is sent. The node holds its connection while the master is stopped:
/// no time-out ends it. But it leaves.
#[tokio::test]
async fn a_master_that_was_stopped_and_goes_on_is_left() {
    for watched in all_watched().await {
        cannot_be_demoted(&watched.master).await;
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::begin(watching_all(&watched).operation_timeout(Duration::from_secs(120)));
        node.readable().await;
        node.set("1", &["a"], "old").await;
        watched.master.stop().unwrap();
        watched.until_named(&watched.replica).await.unwrap();
        watched.master.cont().unwrap();
        until("it has left", || log.count(&["given up: the Sentinels name another server"]) == 1).await;
        node.readable().await;
        assert!(is_master(&watched.master).await);
        assert_eq!((connections(&watched.master).await, connections(&watched.replica).await), (0, 1), "{}", log.text());
        assert!(node.by_host("a").await.is_none(), "nothing is left of what the replica had");
        node.set("1", &["a"], "new").await;
        assert_eq!(node.by_id("1").await.unwrap().name, "new");
    }
}

/// Nothing ends the connection to the old master, which is in good health. Two nodes: once one of them has got *applied*, the other one no
/// longer reads what was stored before.
#[tokio::test]
async fn a_graceful_failover_is_noticed_although_the_old_master_serves_on() {
    for watched in all_watched().await {
        cannot_be_demoted(&watched.master).await;
        let (log, _guard) = Log::begin(Level::INFO);
        let (reader, writer) = (node(&watched).await, node(&watched).await);
        writer.set("1", &["a"], "old").await;
        assert!(reader.by_host("a").await.is_some());
        watched.fail_over().await.unwrap();
        until("both have left", || log.count(&["given up: the Sentinels name another server"]) == 2).await;
        assert!(is_master(&watched.master).await);
        let begun = std::time::Instant::now();
        while writer.cache.invalidate(Instance::ID, ["1"]).await.unwrap() == Delivery::Deferred {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", log.text());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(reader.by_host("a").await.is_none() && reader.by_id("1").await.is_none());
        writer.readable().await;
        reader.readable().await;
        assert!(reader.by_host("a").await.is_none());
        assert_eq!((connections(&watched.master).await, connections(&watched.replica).await), (0, 2));
        writer.set("1", &["a"], "new").await;
        assert_eq!(reader.by_host("a").await.unwrap().name, "new");
    }
}

/// What was deferred while there was no master is applied to the promoted replica, and a load that began before the failover stores nothing.
#[tokio::test]
async fn a_master_that_died_is_replaced() {
    for watched in all_watched().await {
        let node = node(&watched).await;
        node.set("1", &["a"], "old").await;
        let load = node.ticket().await;
        watched.master.kill();
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Deferred);
        assert!(node.by_id("1").await.is_none());
        watched.until_named(&watched.replica).await.unwrap();
        node.readable().await;
        assert!(node.by_host("a").await.is_none());
        assert_eq!(node.cache.status().journal, 0);
        assert_eq!(node.cache.fill(instance("1", &["a"], "old"), load).await, Stored::Overtaken);
        // Who was not there before finds the new master as well.
        assert!(self::node(&watched).await.by_id("1").await.is_none());
    }
}
