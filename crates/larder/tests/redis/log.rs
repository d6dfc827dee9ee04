//! The log of what was touched, by which late fills are refused: a ring that comes round, and one that has been overwritten.

use crate::instance::{Instance, instance};
use crate::node::{Node, servers};
use larder::{Delivery, Stored};
use larder_testing::server::{Server, ServerOptions};

/// The marks that the log holds.
const RING: u64 = 16_384;

/// Lets the log be at its mark number `sequence`.
async fn wind(server: &Server, sequence: u64) {
    let bytes = sequence.to_be_bytes();
    server.command(&[b"SETRANGE".as_slice(), b"larder:instance:c", b"8", &bytes]).await.unwrap();
}

#[tokio::test]
async fn a_fence_is_found_wherever_the_ring_ends() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        // The marks of an invalidation of four keys lie before the end of the ring, across it, and after it.
        for before in 0..=5 {
            node.set("1", &["a", "b"], "old").await;
            wind(&server, RING * (before + 7) - before).await;
            let ticket = node.ticket().await;
            let keys = ["x", "y", "1", "z"];
            assert_eq!(node.cache.invalidate(Instance::ID, keys).await.unwrap(), Delivery::Applied);
            assert_eq!(node.cache.invalidate(Instance::HOST, ["q"]).await.unwrap(), Delivery::Applied);
            assert_eq!(node.cache.fill(instance("1", &["a"], "old"), ticket).await, Stored::Overtaken, "{before}");
            assert_eq!(node.cache.fill(instance("2", &["q"], "old"), ticket).await, Stored::Overtaken, "{before}");
            assert_eq!(node.cache.fill(instance("3", &["c"], "untouched"), ticket).await, Stored::Accepted, "{before}");
        }
    }
}

#[tokio::test]
async fn nobody_is_refused_for_another_key() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let ticket = node.ticket().await;
        for id in 0..4_000 {
            node.cache.invalidate(Instance::ID, [id.to_string()]).await.unwrap();
        }
        assert_eq!(node.cache.fill(instance("a", &["b", "c", "d"], "untouched"), ticket).await, Stored::Accepted);
        assert_eq!(node.cache.fill(instance("3999", &["e"], "old"), ticket).await, Stored::Overtaken);
        assert_eq!(node.cache.fill(instance("0", &["e"], "old"), ticket).await, Stored::Overtaken);
    }
}

/// Whether its keys were touched cannot be known any more.
#[tokio::test]
async fn a_fill_that_is_older_than_the_log_is_refused() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let ticket = node.ticket().await;
        wind(&server, ticket.sequence() + RING).await;
        assert_eq!(node.cache.fill(instance("1", &["a"], "all of the log"), ticket).await, Stored::Accepted);
        wind(&server, ticket.sequence() + RING + 1).await;
        assert_eq!(node.cache.fill(instance("1", &["a"], "one mark more"), ticket).await, Stored::Overtaken);
    }
}
