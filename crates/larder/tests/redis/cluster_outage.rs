//! A cluster that has lost a primary without a replica, and one that was down as a whole and comes back from disk.

use crate::cluster::{Node, Site, set_site};
use crate::instance::Instance;
use crate::node::{calls, until};
use larder::Delivery;
use larder::breaker::State;
use larder_testing::cluster::Cluster;
use larder_testing::server::{Reply, Server, ServerOptions, required};
use std::time::{Duration, Instant};

/// The primary of the instances, that of the sites, and the one that has neither.
const OF_INSTANCES: usize = 0;
const OF_SITES: usize = 1;
const OF_NEITHER: usize = 2;

/// Three primaries without replicas, configured with this line.
async fn clusters(line: &str) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for binary in required().unwrap() {
        clusters.push(Cluster::start(&binary, ServerOptions::default().config(line), 3, 0).await.unwrap());
    }
    clusters
}

/// Waits until a server says this of the cluster.
async fn until_it_says(server: &Server, what: &str) {
    let begun = Instant::now();
    loop {
        let Reply::Bulk(said) = server.command(&["CLUSTER", "INFO"]).await.unwrap() else { panic!("no text") };
        if String::from_utf8_lossy(&said).contains(what) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until both nodes have looked twice whether this server still serves their cache.
async fn until_hearts_beat(server: &Server) {
    let begun = Instant::now();
    while calls(server, "getrange").await < 4 {
        assert!(begun.elapsed() < Duration::from_secs(30), "there is no heartbeat");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn has_site(node: &Node) -> bool {
    node.sites.get(Site::ID, "1").await.is_some()
}

async fn finds_site(node: &Node) {
    let begun = Instant::now();
    while !has_site(node).await {
        assert!(begun.elapsed() < Duration::from_secs(30), "the site is lost");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn invalidated(node: &Node, host: &str) -> Delivery {
    node.instances.invalidate(Instance::HOST, [host]).await.unwrap()
}

/// The primaries that live keep their data, and refuse every command until each slot is served again. Then no cache of theirs is cleared.
#[tokio::test]
async fn with_full_coverage_a_dead_primary_stops_every_cache_and_costs_none_its_objects() {
    for cluster in clusters("cluster-require-full-coverage yes").await {
        let (node, observer) = (Node::on(&cluster).await, Node::on(&cluster).await);
        node.set("1", "a", "old").await;
        node.set("2", "b", "stays").await;
        set_site(&node).await;
        let dead = &cluster.nodes()[OF_NEITHER];
        dead.kill();
        for living in [OF_INSTANCES, OF_SITES] {
            until_it_says(&cluster.nodes()[living], "cluster_state:fail").await;
        }
        assert_eq!((node.by_host("b").await, has_site(&node).await), (None, false), "a miss, and no error");
        assert_eq!(invalidated(&node, "a").await, Delivery::Deferred);
        dead.restart().await.unwrap();
        cluster.serving().await.unwrap();
        node.readable().await;
        observer.finds("b", "stays").await;
        assert_eq!(
            (node.by_host("a").await, observer.by_host("a").await),
            (None, None),
            "what was deferred is applied"
        );
        node.finds("b", "stays").await;
        finds_site(&node).await;
        finds_site(&observer).await;
        for node in [&node, &observer] {
            assert_eq!((node.resets(), node.sites.stats().resets.get()), (0, 0));
        }
    }
}

/// Nobody takes the place of the dead primary. Its own cache waits until it is back, and no other cache notices.
#[tokio::test]
async fn without_full_coverage_a_dead_primary_stops_its_own_caches_only() {
    for cluster in clusters("cluster-require-full-coverage no").await {
        for server in cluster.nodes() {
            // Two primaries decide together who is dead. On a busy machine one must not take the other for dead as well.
            server.config_set("cluster-node-timeout", "3000").await.unwrap();
        }
        let (node, observer) = (Node::on(&cluster).await, Node::on(&cluster).await);
        node.set("1", "a", "old").await;
        set_site(&node).await;
        let [dead, living] = [OF_INSTANCES, OF_SITES].map(|primary| &cluster.nodes()[primary]);
        dead.kill();
        until_it_says(living, "cluster_slots_fail:5461").await;
        living.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        until_hearts_beat(living).await;
        assert_eq!(calls(living, "eval").await, 0, "nobody has connected anew to the primary that lives");
        assert_eq!((node.by_host("a").await, observer.by_host("a").await), (None, None), "a miss, and no error");
        assert_eq!(invalidated(&node, "a").await, Delivery::Deferred);
        for node in [&node, &observer] {
            assert!(has_site(node).await);
            assert_eq!(node.sites.invalidate(Site::ID, ["2"]).await.unwrap(), Delivery::Applied);
        }
        dead.restart().await.unwrap();
        cluster.serving().await.unwrap();
        node.readable().await;
        assert_eq!((node.instances.status().journal, node.by_host("a").await), (0, None));
        node.set("1", "a", "new").await;
        observer.finds("a", "new").await;
        for node in [&node, &observer] {
            assert!(has_site(node).await);
            let sites = node.site_connector.breaker().snapshot();
            assert_eq!((sites.state, sites.failures, node.sites.stats().resets.get()), (State::Closed, 0, 0));
        }
    }
}

/// What comes back from disk may be older than the last changes that were applied. Here the servers stop writing to disk before these changes.
#[tokio::test]
async fn a_cluster_that_comes_back_from_disk_serves_nothing_older() {
    for cluster in clusters("appendonly yes").await {
        let (node, observer) = (Node::on(&cluster).await, Node::on(&cluster).await);
        node.set("1", "a", "old").await;
        node.set("2", "b", "old").await;
        set_site(&node).await;
        for server in cluster.nodes() {
            server.config_set("appendonly", "no").await.unwrap();
        }
        assert_eq!(invalidated(&node, "a").await, Delivery::Applied);
        assert_eq!(node.sites.truncate().await.unwrap(), Delivery::Applied);
        cluster.nodes().iter().for_each(Server::kill);
        let readable = |node: &Node| node.instances.status().readable || node.sites.status().readable;
        until("both have noticed", || !readable(&node) && !readable(&observer)).await;
        assert_eq!(invalidated(&node, "b").await, Delivery::Deferred);
        for server in cluster.nodes() {
            server.restart().await.unwrap();
        }
        cluster.serving().await.unwrap();
        for server in cluster.nodes() {
            assert!(server.log().contains("DB loaded from"), "it has its data from disk: {}", server.log());
        }
        node.readable().await;
        observer.readable().await;
        let newcomer = Node::on(&cluster).await;
        for node in [&node, &observer, &newcomer] {
            assert_eq!(node.by_host("a").await, None, "it was invalidated before");
            assert!(!has_site(node).await, "it was truncated before");
            assert_eq!(node.by_host("b").await, None, "what was deferred is applied");
        }
        node.set("1", "a", "new").await;
        observer.finds("a", "new").await;
    }
}
