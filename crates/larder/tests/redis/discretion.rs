//! What the log tells of keys, values and secrets: nothing, above the level debug.

use crate::instance::{Instance, instance};
use crate::node::{Node, config, servers, until};
use larder::Delivery;
use larder::breaker::State;
use larder::connector::Secret;
use larder_testing::log::Log;
use larder_testing::server::{ScriptedServer, ServerOptions};
use tracing::Level;

const ID: &str = "it's:a private id";
const HOST: &str = "private.example";
const NAME: &str = "a private name";

async fn everything(node: &Node) {
    node.by_id(ID).await;
    node.by_host(HOST).await;
    node.cache.lookup(Instance::HOST, HOST).await;
    node.cache.set(instance(ID, &[HOST, ""], NAME)).await;
    node.cache.set(instance(ID, &[HOST], NAME)).await;
    node.cache.set(instance(ID, &[HOST], &NAME.repeat(1000))).await;
    node.by_id(ID).await;
    node.by_host(HOST).await;
    node.cache.delete(Instance::HOST, [HOST]).await.unwrap();
    node.cache.invalidate(Instance::HOST, [HOST]).await.unwrap();
    node.cache.invalidate(Instance::ID, [ID]).await.unwrap();
    let _ = node.cache.prune().await;
}

fn tells_nothing(log: &Log) {
    let text = log.text();
    assert!(!text.is_empty());
    for private in ["private", "sesame"] {
        assert!(!text.contains(private), "{text}");
    }
}

/// A server repeats the words of a command that it does not know, and of a key that is forbidden.
#[tokio::test]
async fn errors_of_the_server_that_repeat_our_keys_are_not_logged_as_they_are() {
    for command in ["GET", "UNLINK", "MGET", "GETRANGE", "SET"] {
        for server in servers(ServerOptions::default()).await {
            let (log, _guard) = Log::begin(Level::INFO);
            let node = Node::on(&server).await;
            node.set(ID, &[HOST], NAME).await;
            server.command(&["ACL", "SETUSER", "default", &format!("-{}", command.to_lowercase())]).await.unwrap();
            everything(&node).await;
            tells_nothing(&log);
        }
        let options = ServerOptions::default().config(format!("rename-command {command} \"\""));
        for server in servers(options).await {
            let (log, _guard) = Log::begin(Level::INFO);
            let node = Node::begin(config(server.socket()));
            // Without GET there is none.
            until("there is a connection, or none can be made", || log.text().contains("connect")).await;
            everything(&node).await;
            tells_nothing(&log);
        }
    }
    let few = "user larder on >opensesame ~larder:instance:[ci]* +@all";
    for server in servers(ServerOptions::default().config(few)).await {
        Node::on(&server).await.set(ID, &[HOST], NAME).await;
        let (log, _guard) = Log::begin(Level::INFO);
        let mut config = config(server.socket());
        config.username = Some("larder".to_owned());
        config.password = Some(Secret::new("opensesame"));
        let node = Node::begin(config);
        node.readable().await;
        // The object's key is not among those the script declares, but found by it.
        let delivery = node.cache.invalidate(Instance::HOST, [HOST]).await.unwrap();
        assert_eq!(delivery, Delivery::Deferred);
        until("the server has refused it once more", || log.text().contains("cannot be recovered")).await;
        assert_eq!(node.redis.breaker().state(), State::Closed, "{}", log.text());
        tells_nothing(&log);
    }
}

/// A server, or a proxy, that knows neither HELLO nor AUTH repeats what it was sent.
#[tokio::test]
async fn a_password_that_the_server_repeats_is_not_logged() {
    for known in [&b"PING"[..], b"AUTH", b"HELLO"] {
        let server = ScriptedServer::start(move |words| {
            let repeated = words.iter().map(|word| format!("'{}' ", String::from_utf8_lossy(word))).collect::<String>();
            match words[0].to_ascii_uppercase() {
                word if word == known => b"+OK\r\n".to_vec(),
                _ => format!("-ERR unknown command, with args beginning with: {repeated}\r\n").into_bytes(),
            }
        })
        .await
        .unwrap();
        let (log, _guard) = Log::begin(Level::INFO);
        let mut config = config(server.socket());
        config.username = Some("larder".to_owned());
        config.password = Some(Secret::new("open sesame"));
        config.database = 3;
        let _node = Node::begin(config);
        until("an attempt has failed", || log.text().contains("cannot connect")).await;
        tells_nothing(&log);
    }
}
