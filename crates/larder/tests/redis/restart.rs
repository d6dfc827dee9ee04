//! A server that comes back: empty, from an old snapshot, or without its clock.

use crate::instance::{InstanceIndex, instance};
use crate::node::{Node, servers, until};
use larder::{Delivery, Stored};
use larder_testing::server::ServerOptions;

#[tokio::test]
async fn killed_and_restarted_empty() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        let ticket = node.ticket().await;
        server.kill();
        until("the connection is gone", || !node.cache.status().readable).await;
        assert_eq!(node.cache.invalidate(InstanceIndex::Id, ["1"]).await.unwrap(), Delivery::Deferred);
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
        assert_eq!(node.cache.invalidate(InstanceIndex::Host, ["a"]).await.unwrap(), Delivery::Applied);
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
        assert_ne!(node.cache.fill(instance("1", &["a"], "old"), ticket).await, Stored::Yes);
        node.readable().await;
        until("the clock is back", || node.cache.status().readable).await;
        let fresh = node.ticket().await;
        assert_eq!(node.cache.fill(instance("1", &["a"], "old"), ticket).await, Stored::Overtaken);
        assert_eq!(node.cache.fill(instance("1", &["a"], "new"), fresh).await, Stored::Yes);
    }
}

/// A server that evicts may drop the clock alone: the fences are gone with it, so the tickets must be.
#[tokio::test]
async fn a_clock_that_was_evicted_takes_the_old_tickets_and_objects_with_it() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "old").await;
        let ticket = node.ticket().await;
        assert_eq!(node.cache.invalidate(InstanceIndex::Id, ["2"]).await.unwrap(), Delivery::Applied);
        server.command(&["DEL", "larder:instance:c"]).await.unwrap();
        assert_eq!(node.cache.invalidate(InstanceIndex::Id, ["1"]).await.unwrap(), Delivery::Deferred);
        node.readable().await;
        assert_eq!(node.cache.fill(instance("2", &["b"], "old"), ticket).await, Stored::Overtaken);
        assert!(node.by_host("a").await.is_none());
        assert_eq!(node.cache.status().journal, 0);
    }
}
