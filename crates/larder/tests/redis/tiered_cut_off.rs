//! A node that follows, and is cut off in part: messages reach it, and its questions reach nobody, or are not answered.

use crate::node::{config, servers};
use crate::tier_node::TierNode;
use larder::connector::tiered::TieredOptions;
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::{Reply, Server, ServerOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const VALIDITY: Duration = Duration::from_millis(500);

/// No test waits for so long. So the node keeps its connection, on which nothing is answered.
const LONG: Duration = Duration::from_secs(60);

/// Where all nodes are told that something was touched.
const CHANNEL: &str = "larder:instance:c";

/// How many messages are sent in a validity, while the change waits.
const MESSAGES: u32 = 20;

/// Lets only messages reach the node, and counts them. A message begins with this byte, and comes on a connection of its own. Answers are lost.
fn only_messages(counted: &Arc<AtomicUsize>) -> Fault {
    let counted = counted.clone();
    Fault::rewrite(move |bytes| {
        if bytes.first() != Some(&b'>') {
            return Vec::new();
        }
        counted.fetch_add(1, Ordering::SeqCst);
        bytes
    })
}

/// Waits until this many nodes are told that something was touched.
pub(crate) async fn until_told(server: &Server, nodes: i64) {
    let begun = Instant::now();
    let told = Reply::Array(vec![Reply::Bulk(CHANNEL.into()), Reply::Int(nodes)]);
    while server.command(&["PUBSUB", "SHARDNUMSUB", CHANNEL]).await.unwrap() != told {
        assert!(begun.elapsed() < LONG, "the nodes do not subscribe");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Tells all nodes again and again that something was touched.
async fn ring(server: &Server) {
    for _ in 0..MESSAGES {
        server.command(&["SPUBLISH", CHANNEL, ""]).await.unwrap();
        tokio::time::sleep(VALIDITY / MESSAGES).await;
    }
}

/// A message says that something was touched, and not what. A node that gets every message, and no answer to its questions, reads its memory no longer than a
/// validity.
async fn messages_alone(block: impl Fn(&Proxy)) {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let patient = config(proxy.socket()).operation_timeout(LONG);
        let reader = TierNode::begin(patient, &TieredOptions::new().validity(VALIDITY));
        reader.follows().await;
        let writer = TierNode::on(server.socket(), VALIDITY).await;
        writer.set("1", &["a"], "old").await;
        reader.has("a").await;
        until_told(&server, 2).await;
        let messages = Arc::new(AtomicUsize::new(0));
        proxy.set(Direction::ToClient, only_messages(&messages));
        block(&proxy);
        let change = async {
            writer.invalidate("a").await;
            assert!(reader.here("a").is_none(), "its validity is over");
        };
        tokio::join!(change, ring(&server));
        assert_eq!(reader.tiered.valid_for_ms(), 0);
        assert!(messages.load(Ordering::SeqCst) > 0, "the node is told all the while");
        // The node is reached again.
        proxy.set_both(Fault::Pass);
        proxy.drop_connections().await;
        reader.follows().await;
        assert!(reader.here("a").is_none());
        assert!(reader.by_host("a").await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_alone_let_no_memory_be_read_whose_questions_reach_nobody() {
    messages_alone(|proxy| proxy.set(Direction::ToServer, Fault::Hold)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_alone_let_no_memory_be_read_whose_questions_are_not_answered() {
    messages_alone(|_| {}).await;
}
