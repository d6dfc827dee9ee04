//! What an operator sees of a cluster, and does there, by the names of caches and indexes.

use crate::cluster::{INSTANCES, Node, SITES, clusters, options, set_site};
use larder::connector::redis::Address;
use larder::connector::redis::inspect::{InspectError, InspectedCache, Inspector};
use larder_testing::cluster::Cluster;

fn host(text: &str) -> Vec<Vec<u8>> {
    vec![text.as_bytes().to_vec()]
}

fn is_on(cache: &InspectedCache, cluster: &Cluster, node: usize) -> bool {
    let placement = cache.placement().unwrap();
    placement.primary == Address::from(cluster.address(node))
}

#[tokio::test]
async fn a_cache_is_looked_at_on_the_primary_of_its_slot() {
    for cluster in clusters(0).await {
        let inspector = Inspector::open(options(&cluster)).await.unwrap();
        assert_eq!(inspector.caches().await.unwrap(), Vec::<String>::new());
        let node = Node::on(&cluster).await;
        node.set("1", "a", "x").await;
        set_site(&node).await;
        assert_eq!(inspector.caches().await.unwrap(), ["instance", "site"]);
        let instances = inspector.cache("Instance").await.unwrap();
        let sites = inspector.cache("site").await.unwrap();
        assert_eq!((instances.name(), instances.placement().unwrap().slot), ("instance", INSTANCES));
        assert_eq!(sites.placement().unwrap().slot, SITES);
        assert!(is_on(&instances, &cluster, 0) && is_on(&sites, &cluster, 1));
        assert_eq!(instances.clock().await.unwrap().unwrap().of_this_history, Some(true));
        let hosts = instances.index("host").await.unwrap();
        assert!(hosts.is_proven() && hosts.find(b"a").await.unwrap().copies.len() == 1);

        let mut walked = Vec::new();
        let census = inspector.census(None, |progress| walked.extend(progress.primary)).await.unwrap();
        walked.dedup();
        assert_eq!(walked, [(1, 3), (2, 3), (3, 3)], "one primary after the other");
        let found: Vec<_> = census.caches.iter().map(|cache| (&*cache.cache, cache.objects.len())).collect();
        assert_eq!((found, census.unseen), (vec![("instance", 1), ("site", 1)], Vec::new()));

        hosts.invalidate(&host("a"), None).await.unwrap();
        assert_eq!(node.by_host("a").await, None);
        assert!(matches!(inspector.cache("site2").await, Err(InspectError::NoCache { seen, .. }) if seen.len() == 2));
    }
}

/// A node that does not have the slot any more says where it is, and is believed once.
#[tokio::test]
async fn a_slot_that_has_moved_and_a_primary_that_was_replaced_are_found() {
    for cluster in clusters(1).await {
        let node = Node::on(&cluster).await;
        node.set("1", "a", "old").await;
        set_site(&node).await;
        let inspector = Inspector::open(options(&cluster)).await.unwrap();
        let hosts = inspector.cache("instance").await.unwrap().index("host").await.unwrap();
        cluster.move_slot(INSTANCES, 0, 2).await.unwrap();
        let error = hosts.invalidate(&host("a"), None).await.unwrap_err().to_string();
        assert!(error.contains("on another node now") && error.contains("0 of 1 keys were handled"), "{error}");
        assert!(hosts.leading(&host("a")).await.is_err(), "not: no object is there");

        let instances = inspector.cache("instance").await.unwrap();
        assert!(is_on(&instances, &cluster, 2));
        node.invalidate("b").await;
        node.set("1", "a", "new").await;
        let hosts = instances.index("host").await.unwrap();
        assert_eq!(hosts.leading(&host("a")).await.unwrap(), 1);
        hosts.invalidate(&host("a"), None).await.unwrap();
        assert_eq!(node.by_host("a").await, None);

        cluster.fail_over(4).await.unwrap();
        let sites = inspector.cache("site").await.unwrap();
        assert!(is_on(&sites, &cluster, 4));
        sites.truncate(|_| ()).await.unwrap();
        assert!(sites.clock().await.unwrap().is_some());
    }
}

/// While a slot is on its way, an object may be where the script does not find it.
#[tokio::test]
async fn nothing_counts_as_forgotten_while_the_slot_is_on_its_way() {
    for cluster in clusters(0).await {
        let node = Node::on(&cluster).await;
        node.set("1", "a", "old").await;
        let inspector = Inspector::open(options(&cluster)).await.unwrap();
        let instances = inspector.cache("instance").await.unwrap();
        let hosts = instances.index("host").await.unwrap();
        cluster.begin_move(INSTANCES, 0, 2).await.unwrap();
        let keys = cluster.keys_in(INSTANCES, 0).await.unwrap();
        let objects: Vec<_> = keys.into_iter().filter(|key| key.starts_with(b"larder:{instance}:o")).collect();
        cluster.move_keys(&objects, 0, 2).await.unwrap();

        for error in [
            hosts.invalidate(&host("a"), None).await.unwrap_err().to_string(),
            hosts.leading(&host("a")).await.unwrap_err().to_string(),
            hosts.find(b"a").await.unwrap_err().to_string(),
        ] {
            assert!(error.contains("on its way to another node"), "{error}");
        }
        let truncated = instances.truncate(|_| ()).await;
        // The move is given up, and what has left comes back.
        cluster.give_up_move(INSTANCES, 0, 2).await.unwrap();
        let back = cluster.nodes()[0].keys("larder:{instance}:o*").await.unwrap();
        assert!(truncated.is_err() || back.is_empty(), "the truncate is done, and an object is there: {back:?}");
        let error = truncated.unwrap_err().to_string();
        assert!(error.contains("on its way to another node"), "{error}");
        instances.truncate(|_| ()).await.unwrap();
        assert!(cluster.nodes()[0].keys("larder:{instance}:o*").await.unwrap().is_empty());
    }
}
