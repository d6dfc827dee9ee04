//! What the server tells nodes with a memory of their own by itself: which keys were touched.

use crate::instance::Instance;
use crate::node::{servers, until};
use crate::tier_node::TierNode;
use crate::tiered_cut_off::until_told;
use larder::Delivery;
use larder::connector::tiered::{Consistency, TieredOptions};
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::ServerOptions;
use std::time::{Duration, Instant};

/// So a change that waits for nobody reaches the other memories in one way of a message, and costs the server no question.
#[tokio::test]
async fn what_the_server_tells_is_forgotten_without_a_question() {
    let bounded = TieredOptions::new().validity(Duration::from_secs(10)).consistency(Consistency::Bounded);
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let (writer, reader) =
            (TierNode::with(server.socket(), &bounded).await, TierNode::with(proxy.socket(), &bounded).await);
        until_told(&server, 2).await;
        writer.set("1", &["a"], "old").await;
        writer.set("2", &["b"], "as it is").await;
        reader.has("a").await;
        reader.has("b").await;
        // No question reaches the server, and what it tells arrives.
        proxy.set(Direction::ToServer, Fault::Hold);
        writer.invalidate("a").await;
        until("the other memory is right", || reader.here("a").is_none()).await;
        assert!(reader.here("b").is_some(), "the memory is still valid");
    }
}

/// What is told has at most 64 marks. Of a larger change nodes are only told that there is one.
#[tokio::test]
async fn a_change_that_is_too_large_to_be_told_is_asked_for() {
    for server in servers(ServerOptions::default()).await {
        let validity = Duration::from_secs(10);
        let (writer, reader) =
            (TierNode::on(server.socket(), validity).await, TierNode::on(server.socket(), validity).await);
        until_told(&server, 2).await;
        let hosts: Vec<String> = (0..100).map(|number| format!("h{number}")).collect();
        for (number, host) in hosts.iter().enumerate() {
            writer.set(&number.to_string(), &[host], "old").await;
            reader.has(host).await;
        }
        let begun = Instant::now();
        let done = writer.cache.invalidate(Instance::HOST, hosts.iter().map(String::as_str)).await;
        assert_eq!(done.unwrap(), Delivery::Applied);
        assert!(begun.elapsed() < validity, "it was acknowledged");
        assert!(hosts.iter().all(|host| reader.here(host).is_none()));
    }
}
