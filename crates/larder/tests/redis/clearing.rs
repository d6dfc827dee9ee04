//! Clearing the cache, by many commands, while others use it: what `larder-model` calls `objects-first` and `guarded-removal`.

use crate::instance::Instance;
use crate::node::{Node, servers};
use larder::Delivery;
use larder_testing::server::{Reply, Server, ServerOptions};

/// What a truncate sends to remove an object or an index key: each command with its arguments, oldest first.
async fn removals(server: &Server, node: &Node) -> Vec<Vec<Vec<u8>>> {
    for (name, value) in [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "1000")] {
        server.config_set(name, value).await.unwrap();
    }
    server.command(&["SLOWLOG", "RESET"]).await.unwrap();
    assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
    let Reply::Array(log) = server.command(&["SLOWLOG", "GET", "1000"]).await.unwrap() else { panic!("no log") };
    let commands = log.iter().rev().map(|entry| match entry {
        Reply::Array(fields) => words(&fields[3]),
        other => panic!("{other:?}"),
    });
    let mut removals: Vec<_> =
        commands.filter(|words| words.iter().any(|word| is_object(word) || is_index_key(word))).collect();
    // What a script calls is in the log too.
    if removals.iter().any(|words| words[0] == b"EVALSHA") {
        removals.retain(|words| words[0] == b"EVALSHA");
    }
    removals
}

fn words(command: &Reply) -> Vec<Vec<u8>> {
    let Reply::Array(words) = command else { panic!("{command:?}") };
    words.iter().map(|word| word.bytes().unwrap().to_vec()).collect()
}

fn is_object(word: &[u8]) -> bool {
    word.starts_with(b"larder:instance:o")
}

fn is_index_key(word: &[u8]) -> bool {
    word.starts_with(b"larder:instance:i")
}

/// An invalidation through a key whose index key is gone does not find the object that is still there, and yet is applied.
#[tokio::test]
async fn no_index_key_goes_before_the_last_object() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        for id in ["1", "2", "3", "4"] {
            node.set(id, &[&format!("host of {id}")], "x").await;
        }
        let removals = removals(&server, &node).await;
        let objects = removals.iter().rposition(|words| words.iter().any(|word| is_object(word))).unwrap();
        let index_keys = removals.iter().position(|words| words.iter().any(|word| is_index_key(word))).unwrap();
        assert!(objects < index_keys, "{objects} {index_keys}");
        assert_eq!(server.keys("larder:instance:[^n]*").await.unwrap(), [b"larder:instance:c"]);
    }
}

/// As it does that has waited in a stopped server's socket, or whose node clears what another has cleared already.
#[tokio::test]
async fn a_removal_that_comes_late_removes_nothing() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "x").await;
        // So that the server knows the scripts, and what is sent can be sent again as it is.
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
        node.set("1", &["a"], "old").await;
        let removals = removals(&server, &node).await;
        assert!(!removals.is_empty());
        for again in [false, true] {
            if again {
                assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied, "another epoch");
            }
            node.set("1", &["a"], "new").await;
            for removal in &removals {
                let words: Vec<&[u8]> = removal.iter().map(Vec::as_slice).collect();
                server.command(&words).await.unwrap();
            }
            assert_eq!(node.by_host("a").await.unwrap().name, "new");
            assert_eq!(Node::on(&server).await.by_host("a").await.unwrap().name, "new", "the index key is there too");
            assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
            assert!(node.by_id("1").await.is_none());
        }
    }
}
