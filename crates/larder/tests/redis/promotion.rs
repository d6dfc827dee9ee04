//! A replica that is promoted in place of its master, and lacks the last writes.
//!
//! `docs/decisions/promoted-replica-is-cleared.md` argues why such a server is cleared: only the nodes that had sent the lost writes know of
//! them, and one of those nodes may be slow to come back, or gone.

use crate::instance::{Instance, instance};
use crate::node::{Node, config, until};
use larder::{Delivery, Stored};
use larder_testing::server::{Server, ServerOptions, required};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A master and its replica, and the address that leads to whichever of them is in charge.
pub(crate) struct Pair {
    pub(crate) master: Server,
    pub(crate) replica: Server,
    address: TempDir,
}

impl Pair {
    pub(crate) async fn start(options: ServerOptions) -> Vec<Self> {
        let mut pairs = Vec::new();
        for binary in required().unwrap() {
            // A replica that is filled, and asked for what it has, without delay.
            let options = options.clone().tcp().config("repl-diskless-sync-delay 0");
            let master = Server::start(&binary, options.clone()).await.unwrap();
            let replica = Server::start(&binary, options).await.unwrap();
            let pair = Self { master, replica, address: tempfile::tempdir().unwrap() };
            symlink(pair.master.socket(), pair.socket()).unwrap();
            pair.follow().await;
            pairs.push(pair);
        }
        pairs
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.address.path().join("in-charge")
    }

    /// Makes the replica one, and waits until it has what the master has, and the master knows: until then WAIT does not ask it.
    pub(crate) async fn follow(&self) {
        let port = self.master.port().unwrap().to_string();
        self.replica.command(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
        let begun = Instant::now();
        loop {
            let master = replication(&self.master).await;
            let confirmed = format!("state=online,offset={},", master["master_repl_offset"]);
            if master.get("slave0").is_some_and(|replica| replica.contains(&confirmed)) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the replica has not caught up");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// From here on the replica hears nothing more of its master, and stays a replica.
    pub(crate) async fn cut(&self) {
        self.replica.command(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    }

    /// The master dies, and the replica takes its place.
    async fn fail_over(&self) {
        let known = replication(&self.master).await["master_replid"].clone();
        self.master.kill();
        self.replica.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        let promoted = replication(&self.replica).await;
        assert_eq!(promoted["master_replid2"], known, "it says itself whose replica it was");
        std::fs::remove_file(self.socket()).unwrap();
        symlink(self.replica.socket(), self.socket()).unwrap();
    }
}

async fn replication(server: &Server) -> BTreeMap<String, String> {
    server.info("replication").await.unwrap()
}

async fn node(pair: &Pair) -> Node {
    let node = Node::begin(config(&pair.socket()));
    node.readable().await;
    node
}

fn object(name: &str) -> Instance {
    instance("1", &["a"], name)
}

/// The invalidation had been applied, and is known to nobody who is still there: not to the server, and not to the nodes that
/// come back. Only clearing keeps C3.
#[tokio::test]
async fn a_promoted_replica_lacks_an_invalidation_of_a_node_that_is_gone() {
    for pair in Pair::start(ServerOptions::default()).await {
        let (gone, back) = (node(&pair).await, node(&pair).await);
        gone.set("1", &["a"], "old").await;
        assert!(back.by_host("a").await.is_some());
        pair.follow().await;
        pair.cut().await;
        assert_eq!(gone.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
        drop(gone);
        pair.fail_over().await;
        let name = format!("larder:instance:o{:016x}:1", back.cache.schema().fingerprint());
        assert_eq!(pair.replica.command(&["EXISTS", &name]).await.unwrap().int(), Some(1), "it has the old object");

        until("the connection is gone", || back.cache.stats().resets.get() > 0 || !back.cache.status().readable).await;
        back.readable().await;
        assert!(back.by_host("a").await.is_none());
        assert!(back.by_id("1").await.is_none());
        assert!(node(&pair).await.by_id("1").await.is_none(), "nor on a node that was not there before");
        assert_eq!(back.cache.stats().resets.get(), 1);
    }
}

/// What this node itself had done in the last minute: an invalidation, a delete, a truncate, a set, and the fence that keeps out a
/// load that began before.
#[tokio::test]
async fn what_a_node_did_shortly_before_a_promotion_holds_after_it() {
    for pair in Pair::start(ServerOptions::default()).await {
        let node = node(&pair).await;
        node.set("1", &["a"], "old").await;
        node.set("2", &["b"], "old").await;
        node.set("3", &["c"], "old").await;
        let load = node.ticket().await;
        pair.follow().await;
        pair.cut().await;
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        assert_eq!(node.cache.delete(Instance::HOST, ["b"]).await.unwrap(), Delivery::Applied);
        node.set("3", &["d"], "new").await;
        pair.fail_over().await;
        until("the connection is gone", || node.cache.stats().resets.get() > 0 || !node.cache.status().readable).await;
        node.readable().await;
        assert!(node.by_id("1").await.is_none());
        assert!(node.by_host("b").await.is_none());
        assert!(node.by_host("c").await.is_none(), "a key that the last state had not");
        assert_eq!(node.cache.fill(object("old"), load).await, Stored::Overtaken, "its fence is lost, so its epoch is");
        node.set("1", &["a"], "new").await;
        assert_eq!(node.by_host("a").await.unwrap().name, "new");
    }
}

/// What was deferred when the master died is applied to the replica that took its place.
#[tokio::test]
async fn what_was_deferred_during_a_promotion_is_applied_to_the_new_master() {
    for pair in Pair::start(ServerOptions::default()).await {
        let node = node(&pair).await;
        node.set("1", &["a"], "old").await;
        pair.follow().await;
        pair.master.stop().unwrap();
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        pair.master.cont().unwrap();
        pair.cut().await;
        pair.fail_over().await;
        node.readable().await;
        assert!(node.by_host("a").await.is_none());
        assert_eq!(node.cache.status().journal, 0);
    }
}
