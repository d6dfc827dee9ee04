//! How nodes follow a cache, while a truncate changes that.

use crate::instance::Instance;
use crate::node::{Node, config, servers};
use crate::tier_node::TierNode;
use larder::Delivery;
use larder::connector::tiered::TieredOptions;
use larder_testing::server::{Server, ServerOptions};
use std::time::{Duration, Instant};

/// Waits until the clock of the cache has this state: 1 is settled, 2 clearing.
async fn until_state(server: &Server, state: u8) {
    let begun = Instant::now();
    loop {
        let reply = server.command(&["GETRANGE", "larder:instance:c", "23", "23"]).await.unwrap();
        if reply.bytes() == Some(&[state]) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for the state {state}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The server has lost everything, a node that knows of no memory has made the clock anew, and nobody who has one has noticed yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_memory_waits_although_the_clock_says_that_nobody_has_one() {
    let validity = Duration::from_secs(2);
    for server in servers(ServerOptions::default()).await {
        let node = TierNode::on(server.socket(), validity).await;
        loop {
            server.command(&["BITFIELD", "larder:instance:c", "SET", "i64", "#0", "7"]).await.unwrap();
            let begun = Instant::now();
            if node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap() == Delivery::Applied {
                assert!(begun.elapsed() >= validity, "others may have a memory as well");
                break;
            }
            // This node has asked in between.
            node.follows().await;
        }
        node.follows().await;
    }
}

/// Who followed before may read its memory for longer than nodes may from now on, and hears of nothing until the cache is cleared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_during_a_truncate_waits_for_those_who_followed_before() {
    for server in servers(ServerOptions::default()).await {
        let reader = TierNode::on(server.socket(), Duration::from_secs(3)).await;
        let plain = Node::on(&server).await;
        plain.readable().await;
        let shorter = TieredOptions::new().validity(Duration::from_millis(25));
        let other = TierNode::begin(config(server.socket()), &shorter);
        other.follows().await;
        reader.set("1", &["a"], "old").await;
        reader.has("a").await;
        let truncating = {
            let cache = other.cache.clone();
            tokio::spawn(async move { cache.truncate().await })
        };
        until_state(&server, 2).await;
        assert_eq!(plain.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        assert!(reader.here("a").is_none());
        assert_eq!(truncating.await.unwrap().unwrap(), Delivery::Applied);
        until_state(&server, 1).await;
    }
}
