//! Caches in a cluster: where their keys are, and what a reader sees when a slot moves, a primary dies, or a replica takes over.

use crate::instance::{Instance, instance};
use crate::node::{config, until};
use larder::breaker::State;
use larder::connector::redis::{Redis, RedisCluster, RedisConnector, RedisOptions};
use larder::{Cache, Delivery, Entry, Schema, Stored};
use larder_testing::cluster::Cluster;
use larder_testing::log::Log;
use larder_testing::server::{Server, ServerOptions, required};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

/// Its cache is on the second of three primaries, and that of [`Instance`] on the first.
#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "site")]
pub(crate) struct Site {
    #[key(primary)]
    pub(crate) id: String,
}

/// What CLUSTER KEYSLOT says of `instance` and of `site`.
pub(crate) const INSTANCES: u16 = 1_961;
pub(crate) const SITES: u16 = 9_421;

/// One node of a service, with two caches.
pub(crate) struct Node {
    connector: Arc<RedisConnector>,
    pub(crate) instances: Cache<Instance>,
    pub(crate) sites: Cache<Site>,
    pub(crate) site_connector: Arc<RedisConnector>,
}

pub(crate) fn options(cluster: &Cluster) -> RedisOptions {
    let others = (1..cluster.nodes().len()).map(|node| cluster.address(node));
    let mut options = config(Path::new("/unused")).address(cluster.address(0)).cluster(others);
    // A cluster of six processes on a small machine.
    options.operation_timeout = Duration::from_secs(2);
    options.connect_timeout = Duration::from_secs(5);
    options
}

impl Node {
    pub(crate) fn begin(options: RedisOptions) -> Self {
        let cluster = RedisCluster::open(options).unwrap();
        let (schema, site_schema) = (Schema::of::<Instance>(), Schema::of::<Site>());
        let connector = Arc::new(cluster.connector(schema.clone()).unwrap());
        let site_connector = Arc::new(cluster.connector(site_schema.clone()).unwrap());
        Self {
            instances: Cache::new(connector.clone(), schema).unwrap(),
            sites: Cache::new(site_connector.clone(), site_schema).unwrap(),
            connector,
            site_connector,
        }
    }

    pub(crate) async fn on(cluster: &Cluster) -> Self {
        let node = Self::begin(options(cluster));
        node.readable().await;
        node
    }

    pub(crate) async fn readable(&self) {
        let readable = || self.instances.status().readable && self.sites.status().readable;
        until("both caches can be read", readable).await;
    }

    pub(crate) async fn set(&self, id: &str, host: &str, name: &str) {
        assert_eq!(self.instances.set(instance(id, &[host], name)).await, Stored::Accepted);
    }

    pub(crate) async fn by_host(&self, host: &str) -> Option<String> {
        self.instances.get(Instance::HOST, host).await.map(|found| found.name.clone())
    }

    /// Invalidates until it is applied at once: by then this node is where the slot is.
    pub(crate) async fn invalidate(&self, host: &str) {
        let applied = async {
            while self.instances.invalidate(Instance::HOST, [host]).await.unwrap() != Delivery::Applied {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), applied).await.unwrap();
        self.readable().await;
    }

    /// Waits until this node has heard where the slot is, and finds what another one has stored there.
    pub(crate) async fn finds(&self, host: &str, name: &str) {
        let found = async {
            while self.by_host(host).await.is_none_or(|found| found != name) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.unwrap();
    }

    /// Checks that a change is deferred.
    pub(crate) async fn defers(&self) {
        assert_eq!(self.instances.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(self.instances.status().journal, 1);
    }

    pub(crate) fn resets(&self) -> u64 {
        self.instances.stats().resets.get()
    }
}

pub(crate) async fn clusters(replicas: u16) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for binary in required().unwrap() {
        // The others serve while one is dead.
        let options = ServerOptions::default().config("cluster-require-full-coverage no");
        clusters.push(Cluster::start(&binary, options, 3, replicas).await.unwrap());
    }
    clusters
}

pub(crate) async fn set_site(node: &Node) {
    assert_eq!(node.sites.set(Site { id: "1".to_owned() }).await, Stored::Accepted);
}

#[tokio::test]
async fn a_cache_is_in_one_slot_and_another_cache_in_another() {
    for cluster in clusters(0).await {
        let (one, other) = (Node::on(&cluster).await, Node::on(&cluster).await);
        one.set("1", "a", "x").await;
        set_site(&one).await;
        assert_eq!(other.by_host("a").await.as_deref(), Some("x"));
        assert!(other.sites.get(Site::ID, "1").await.is_some());
        // Each of both on its primary, large objects and floors as well.
        assert_eq!(one.instances.set(instance("2", &["b"], &"x".repeat(100_000))).await, Stored::Accepted);
        let floor = one.instances.invalidate_below(Instance::HOST, ["b"], 7).await.unwrap();
        assert_eq!(floor, Delivery::Applied);
        assert_eq!((cluster.primary(INSTANCES).await.unwrap(), cluster.primary(SITES).await.unwrap()), (0, 1));
        let keys = cluster.nodes()[0].keys("*").await.unwrap();
        assert!(keys.len() >= 4 && keys.iter().all(|key| key.starts_with(b"larder:{instance}:")), "{keys:?}");
        let keys = cluster.nodes()[1].keys("*").await.unwrap();
        assert!(keys.len() >= 3 && keys.iter().all(|key| key.starts_with(b"larder:{site}:")), "{keys:?}");
        assert_eq!(cluster.nodes()[2].keys("*").await.unwrap(), Vec::<Vec<u8>>::new());

        let forgotten = one.instances.invalidate(Instance::HOST, ["a"]).await.unwrap();
        assert_eq!((forgotten, other.by_host("a").await), (Delivery::Applied, None));
        assert_eq!(one.instances.truncate().await.unwrap(), Delivery::Applied);
        one.instances.prune().await.unwrap();
    }
}

/// A warm get by secondary key costs one GET, as on one server.
#[tokio::test]
async fn a_warm_get_is_one_command() {
    for cluster in clusters(0).await {
        let node = Node::on(&cluster).await;
        node.set("1", "a", "x").await;
        assert!(node.by_host("a").await.is_some());
        cluster.nodes()[0].command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        for _ in 0..100 {
            assert!(node.by_host("a").await.is_some());
        }
        assert_eq!(crate::node::calls(&cluster.nodes()[0], "get").await, 100);
        assert_eq!(crate::node::calls(&cluster.nodes()[0], "evalsha").await, 0);
    }
}

/// The trap of clients that follow ASK: a script finds clock and index key on the new node, and the object is still to come. It would
/// answer that the object is gone, and then the object arrives, and is served.
#[tokio::test]
async fn t1_an_object_that_is_still_to_come_is_not_taken_for_gone() {
    for cluster in clusters(0).await {
        let (node, observer) = (Node::on(&cluster).await, Node::on(&cluster).await);
        node.set("1", "a", "old").await;
        cluster.begin_move(INSTANCES, 0, 2).await.unwrap();
        let mut keys = cluster.keys_in(INSTANCES, 0).await.unwrap();
        let is_object = |key: &Vec<u8>| key.starts_with(b"larder:{instance}:o");
        let objects: Vec<_> = keys.extract_if(.., |key| is_object(key)).collect();
        assert_eq!(objects.len(), 1);
        cluster.move_keys(&keys, 0, 2).await.unwrap();

        assert_eq!(node.instances.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(node.by_host("a").await, None, "deferred, so this node does not read");
        cluster.move_keys(&objects, 0, 2).await.unwrap();
        cluster.end_move(INSTANCES, 0, 2).await.unwrap();
        node.readable().await;
        observer.readable().await;
        assert_eq!((node.by_host("a").await, observer.by_host("a").await), (None, None));
        assert_eq!(observer.instances.get(Instance::ID, "1").await, None);
    }
}

/// The other way round: the script runs on the old node, and the object has left it already.
#[tokio::test]
async fn t2_an_object_that_has_left_already_is_not_taken_for_gone() {
    for cluster in clusters(0).await {
        let (node, observer) = (Node::on(&cluster).await, Node::on(&cluster).await);
        node.set("1", "a", "old").await;
        node.set("2", "b", "old").await;
        cluster.begin_move(INSTANCES, 0, 2).await.unwrap();
        let keys = cluster.keys_in(INSTANCES, 0).await.unwrap();
        let objects: Vec<_> = keys.into_iter().filter(|key| key.starts_with(b"larder:{instance}:o")).collect();
        cluster.move_keys(&objects, 0, 2).await.unwrap();

        assert_eq!(observer.by_host("a").await, None, "on its way: a miss");
        assert_eq!(observer.instances.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(node.instances.delete(Instance::HOST, ["b"]).await.unwrap(), Delivery::Deferred);
        let breaker = node.connector.breaker().snapshot();
        assert_eq!((breaker.state, breaker.failures), (State::Closed, 0), "a slot on its way is no failure");
        cluster.move_keys(&cluster.keys_in(INSTANCES, 0).await.unwrap(), 0, 2).await.unwrap();
        cluster.end_move(INSTANCES, 0, 2).await.unwrap();
        node.readable().await;
        observer.readable().await;
        for node in [&node, &observer] {
            assert_eq!((node.by_host("a").await, node.by_host("b").await), (None, None));
        }
    }
}

/// The removal walks through the keys that are there, and does not see what has left.
#[tokio::test]
async fn an_object_that_has_left_is_not_taken_for_truncated() {
    for cluster in clusters(0).await {
        let (node, observer) = (Node::on(&cluster).await, Node::on(&cluster).await);
        node.set("1", "a", "old").await;
        cluster.begin_move(INSTANCES, 0, 2).await.unwrap();
        let keys = cluster.keys_in(INSTANCES, 0).await.unwrap();
        let objects: Vec<_> = keys.into_iter().filter(|key| key.starts_with(b"larder:{instance}:o")).collect();
        cluster.move_keys(&objects, 0, 2).await.unwrap();
        assert_eq!(node.instances.truncate().await.unwrap(), Delivery::Deferred);
        assert_eq!((node.by_host("a").await, observer.by_host("a").await), (None, None), "on its way: a miss");
        cluster.move_keys(&cluster.keys_in(INSTANCES, 0).await.unwrap(), 0, 2).await.unwrap();
        cluster.end_move(INSTANCES, 0, 2).await.unwrap();
        node.readable().await;
        observer.readable().await;
        assert_eq!((node.by_host("a").await, observer.by_host("a").await), (None, None));
    }
}

#[tokio::test]
async fn a_slot_that_moves_away_and_back_is_followed_and_no_other_cache_notices() {
    for cluster in clusters(0).await {
        let (node, observer) = (Node::on(&cluster).await, Node::on(&cluster).await);
        set_site(&node).await;
        let connection = node.site_connector.breaker().snapshot().opened;
        for (from, to) in [(0, 2), (2, 0), (0, 1)] {
            node.set("1", "a", "old").await;
            observer.finds("a", "old").await;
            let resets = node.resets() + observer.resets();
            cluster.move_slot(INSTANCES, from, to).await.unwrap();
            // Nobody asks for anything: the heartbeat finds out.
            until("the first of both has cleared the cache", || node.resets() + observer.resets() > resets).await;
            node.invalidate("a").await;
            assert_eq!(observer.by_host("a").await, None);
            assert!(node.sites.get(Site::ID, "1").await.is_some());
        }
        let sites = node.site_connector.breaker().snapshot();
        assert_eq!((sites.state, sites.opened), (State::Closed, connection));
    }
}

/// It stores nothing and asks for nothing. Its next get would be a miss.
#[tokio::test]
async fn a_node_that_only_waits_finds_out_that_the_slot_has_moved() {
    for cluster in clusters(0).await {
        let observer = Node::on(&cluster).await;
        let resets = observer.resets();
        cluster.move_slot(INSTANCES, 0, 2).await.unwrap();
        until("it has cleared the cache on the other node", || observer.resets() > resets).await;
    }
}

#[tokio::test]
async fn a_primary_that_is_killed_costs_its_own_caches_only() {
    for cluster in clusters(1).await {
        let (node, observer) = (Node::on(&cluster).await, Node::on(&cluster).await);
        node.set("1", "a", "old").await;
        set_site(&node).await;
        cluster.nodes()[0].kill();
        until_deferred(&node).await;
        assert!(node.sites.get(Site::ID, "1").await.is_some() && observer.sites.get(Site::ID, "1").await.is_some());
        assert_eq!(node.site_connector.breaker().snapshot().failures, 0);
        cluster.promoted(3).await.unwrap();
        node.invalidate("b").await;
        assert_eq!(cluster.primary(INSTANCES).await.unwrap(), 3);
        assert_eq!((node.by_host("a").await, observer.by_host("a").await), (None, None), "the replica may lack writes");
        node.set("1", "a", "new").await;
        observer.finds("a", "new").await;
    }
}

async fn until_deferred(node: &Node) {
    while node.instances.invalidate(Instance::HOST, ["a"]).await.unwrap() == Delivery::Applied {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_graceful_failover_is_followed() {
    for cluster in clusters(1).await {
        let (node, observer) = (Node::on(&cluster).await, Node::on(&cluster).await);
        node.set("1", "a", "old").await;
        cluster.fail_over(3).await.unwrap();
        // The one that asks nothing finds out by its heartbeat.
        let resets = || node.resets() + observer.resets();
        let begun = resets();
        until("one of both has cleared the cache", || resets() > begun).await;
        assert_eq!(observer.by_host("a").await, None, "the same as a failover that has lost writes");
        node.invalidate("a").await;
        node.set("1", "a", "new").await;
        observer.finds("a", "new").await;
    }
}

/// What lies in the socket of a primary that is stopped is answered when it goes on, by a node that is no primary any more. Nobody waits for it
/// by then.
#[tokio::test]
async fn a_primary_that_was_stopped_and_goes_on_is_not_believed() {
    for cluster in clusters(1).await {
        let (node, observer) = (Node::on(&cluster).await, Node::on(&cluster).await);
        node.set("1", "a", "old").await;
        cluster.nodes()[0].stop().unwrap();
        let asked = {
            let instances = observer.instances.clone();
            tokio::spawn(async move { instances.get(Instance::HOST, "a").await.is_some() })
        };
        cluster.promoted(3).await.unwrap();
        // On the new primary, and known there only.
        node.invalidate("a").await;
        cluster.nodes()[0].cont().unwrap();
        assert!(!asked.await.unwrap(), "it was asked before, and nobody has answered in time");
        assert_eq!(observer.by_host("a").await, None);
        node.set("1", "a", "new").await;
        observer.finds("a", "new").await;
    }
}

#[tokio::test]
async fn a_whole_cluster_that_was_down_is_found_again() {
    for cluster in clusters(0).await {
        let node = Node::on(&cluster).await;
        node.set("1", "a", "old").await;
        cluster.nodes().iter().for_each(Server::kill);
        until_deferred(&node).await;
        for server in cluster.nodes() {
            server.restart().await.unwrap();
        }
        cluster.serving().await.unwrap();
        node.invalidate("b").await;
        assert_eq!(node.by_host("a").await, None);
        node.set("1", "a", "new").await;
        node.finds("a", "new").await;
    }
}

/// Which is the other way round from what was meant.
#[tokio::test]
async fn one_server_is_no_cluster_and_a_node_of_a_cluster_is_no_single_server() {
    for binary in required().unwrap() {
        let server = Server::start(&binary, ServerOptions::default().tcp()).await.unwrap();
        let (log, _guard) = Log::begin(Level::WARN);
        let address = format!("127.0.0.1:{}", server.port().unwrap());
        let none: [&str; 0] = [];
        let node = Node::begin(RedisOptions::new(address.as_str()).cluster(none));
        until("it is told", || log.count(&["no node of a cluster", "without `cluster`"]) > 0).await;
        node.defers().await;

        let cluster = Cluster::start(&binary, ServerOptions::default(), 3, 0).await.unwrap();
        let redis = Redis::open(RedisOptions::new(cluster.address(0).as_str())).unwrap();
        let schema = Schema::of::<Instance>();
        let cache: Cache<Instance> = Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
        until("it is told", || log.count(&["a node of a cluster", "redis-cluster://"]) > 0).await;
        assert_eq!(cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        assert!(Redis::open(RedisOptions::new("h").cluster(none)).is_err());
        assert!(RedisCluster::open(RedisOptions::new("h")).is_err());
        assert!(RedisOptions::new("h").cluster(none).database(1).validate().is_err());
    }
}
