//! Servers that answer INFO and leave out what larder looks for there, as those of some providers do.

use crate::instance::Instance;
use crate::node::{Node, config, servers, until};
use larder::Delivery;
use larder::breaker::State;
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::ServerOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is left out: each field alone, and all of them.
const TRIMMED: [&[&str]; 6] = [
    &["redis_version"],
    &["redis_mode", "server_mode"],
    &["run_id"],
    &["role"],
    &["master_replid"],
    &["redis_version", "redis_mode", "server_mode", "run_id", "role", "master_replid"],
];

/// Gives these fields names that nobody asks for. The answer stays as long as it is.
fn without(fields: &'static [&'static str]) -> Fault {
    Fault::rewrite(move |mut bytes| {
        for field in fields {
            let line = format!("\n{field}:");
            let found = bytes.windows(line.len()).position(|window| window == line.as_bytes());
            if let Some(first) = found.and_then(|at| bytes.get_mut(at + 1)) {
                *first = b'-';
            }
        }
        bytes
    })
}

/// The server comes back with data from before an invalidation that was applied. Without some of the fields only the clock shows it.
#[tokio::test]
async fn a_restart_from_an_old_snapshot_is_noticed_whatever_info_leaves_out() {
    for server in servers(ServerOptions::default().persistent()).await {
        for fields in TRIMMED {
            server.flushall().await.unwrap();
            let proxy = Proxy::start(&server).await.unwrap();
            proxy.set(Direction::ToClient, without(fields));
            let node = Node::begin(config(proxy.socket()));
            node.readable().await;
            node.set("1", &["a"], "old").await;
            server.command(&["SAVE"]).await.unwrap();
            assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
            server.kill();
            until("the connection is gone", || !node.cache.status().readable).await;
            server.restart().await.unwrap();
            node.readable().await;
            assert!(node.by_host("a").await.is_none() && node.by_id("1").await.is_none(), "{fields:?}");
        }
    }
}

/// Counts the heartbeats and the handshakes that the node sends, each by a word in it.
fn counting(heartbeats: &Arc<AtomicUsize>, handshakes: &Arc<AtomicUsize>) -> Fault {
    let counters = [("replication", heartbeats), ("PING", heartbeats), ("HELLO", handshakes)];
    let counters = counters.map(|(word, counter)| (word, counter.clone()));
    Fault::rewrite(move |bytes| {
        for (word, counter) in &counters {
            if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }
        bytes
    })
}

/// The heartbeat looks whether the server is still the one that it was. A field that was never there has not changed.
#[tokio::test]
async fn a_connection_is_kept_whatever_info_leaves_out() {
    for server in servers(ServerOptions::default()).await {
        let mut nodes = Vec::new();
        for fields in TRIMMED {
            let proxy = Proxy::start(&server).await.unwrap();
            proxy.set(Direction::ToClient, without(fields));
            let node = Node::begin(config(proxy.socket()));
            node.readable().await;
            let (heartbeats, handshakes) = (Arc::default(), Arc::default());
            proxy.set(Direction::ToServer, counting(&heartbeats, &handshakes));
            nodes.push((fields, proxy, node, heartbeats, handshakes));
        }
        for (fields, _proxy, node, heartbeats, handshakes) in nodes {
            until("its heart beats", || heartbeats.load(Ordering::SeqCst) >= 2).await;
            assert_eq!(handshakes.load(Ordering::SeqCst), 0, "{fields:?}: it has connected anew");
            let breaker = node.redis.breaker().snapshot();
            assert_eq!((breaker.state, breaker.failures), (State::Closed, 0), "{fields:?}");
        }
    }
}
