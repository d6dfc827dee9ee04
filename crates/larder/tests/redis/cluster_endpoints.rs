//! Nodes of a cluster that do not say at which address they are.

use crate::cluster::{INSTANCES, Node, Site, set_site};
use crate::node::{config, until};
use larder_testing::cluster::Cluster;
use larder_testing::server::{Reply, Server, ServerOptions, required};
use std::path::Path;
use std::time::{Duration, Instant};

/// Three primaries that tell clients this kind of address.
async fn clusters_that_tell(kind: &str) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for binary in required().unwrap() {
        let options = ServerOptions::default().config("cluster-require-full-coverage no");
        let options = options.config(format!("cluster-preferred-endpoint-type {kind}"));
        clusters.push(Cluster::start(&binary, options, 3, 0).await.unwrap());
    }
    clusters
}

/// A node of a service that knows this one server, and hears of the others from it.
fn node_that_knows(server: String) -> Node {
    let none: [&str; 0] = [];
    let mut options = config(Path::new("/unused")).address(server).cluster(none);
    options.operation_timeout = Duration::from_secs(2);
    options.connect_timeout = Duration::from_secs(5);
    Node::begin(options)
}

/// CLUSTER SLOTS and MOVED name a port and no host: the host is that of the server that was asked. Servers are told so behind a balancer that has a port for each.
#[tokio::test]
async fn a_server_without_a_host_is_where_the_one_is_that_was_asked() {
    for cluster in clusters_that_tell("unknown-endpoint").await {
        let node = node_that_knows(cluster.address(1));
        node.readable().await;
        node.set("1", "a", "old").await;
        set_site(&node).await;
        cluster.move_slot(INSTANCES, 0, 2).await.unwrap();
        node.invalidate("a").await;
        assert_eq!(cluster.primary(INSTANCES).await.unwrap(), 2);
        assert_eq!(node.by_host("a").await, None);
        node.set("1", "a", "new").await;
        node.finds("a", "new").await;
    }
}

/// Waits until a server knows that so many servers are called `localhost`.
async fn until_named(server: &Server, count: usize) {
    let begun = Instant::now();
    loop {
        let Reply::Bulk(known) = server.command(&["CLUSTER", "NODES"]).await.unwrap() else { panic!("no text") };
        if String::from_utf8_lossy(&known).matches(",localhost").count() == count {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the servers do not hear of each other's names");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// CLUSTER SLOTS names servers by their host names. One server has none yet: `?` stands in its place.
#[tokio::test]
async fn a_server_that_cannot_be_found_costs_its_own_caches_only() {
    for cluster in clusters_that_tell("hostname").await {
        let name = async |server: &Server| server.config_set("cluster-announce-hostname", "localhost").await.unwrap();
        for named in &cluster.nodes()[1..] {
            name(named).await;
        }
        for server in cluster.nodes() {
            until_named(server, 2).await;
        }
        let node = node_that_knows(cluster.address(1));
        until("the sites can be read", || node.sites.status().readable).await;
        set_site(&node).await;
        assert!(node.sites.get(Site::ID, "1").await.is_some());
        assert!(!node.instances.status().readable);
        assert_eq!(node.by_host("a").await, None);
        node.defers().await;
        name(&cluster.nodes()[0]).await;
        node.readable().await;
        assert_eq!(node.instances.status().journal, 0);
        node.set("1", "a", "x").await;
        assert!(node.sites.get(Site::ID, "1").await.is_some());
        assert_eq!(node.sites.stats().resets.get(), 0);
    }
}
