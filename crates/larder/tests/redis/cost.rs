//! What operations cost the server, in commands and in keys that stay behind.

use crate::instance::{Instance, instance};
use crate::node::{Node, calls, config, servers};
use larder::Delivery;
use larder_testing::server::ServerOptions;
use std::time::Duration;

#[tokio::test]
async fn a_get_by_any_key_is_one_plain_get() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a", "b"], "x").await;
        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        for _ in 0..100 {
            assert!(node.by_id("1").await.is_some());
            assert!(node.by_host("a").await.is_some());
            assert!(node.by_host("b").await.is_some());
        }
        assert_eq!(calls(&server, "get").await, 300);
        assert_eq!(calls(&server, "evalsha").await, 0);

        let stranger = Node::on(&server).await;
        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        assert!(stranger.by_host("a").await.is_some());
        assert_eq!(calls(&server, "get").await, 2, "without a hint: index and object");
    }
}

/// A store is as good as a touch, and all keys of an object share one.
#[tokio::test]
async fn a_last_use_age_does_not_turn_every_get_into_a_write() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::with_ages(config(server.socket()), Duration::ZERO, Duration::from_secs(600));
        node.readable().await;
        node.set("1", &["a", "b"], "x").await;
        let stranger = Node::with_ages(config(server.socket()), Duration::ZERO, Duration::from_secs(600));
        stranger.readable().await;
        for (node, scripts) in [(&node, 0), (&stranger, 1)] {
            server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
            for _ in 0..100 {
                assert!(node.by_host("a").await.is_some());
                assert!(node.by_host("b").await.is_some());
                assert!(node.by_id("1").await.is_some());
            }
            // The first is repeated with its code where the server does not know it yet.
            assert_eq!(calls(&server, "evalsha").await, scripts);
            assert!(calls(&server, "get").await <= 302, "two of them index keys");
        }
    }
}

/// zitadel 10645: index keys without an expiry leaked until memory ran out.
#[tokio::test]
async fn an_index_key_never_leaks_and_never_expires_before_its_object() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::with_ages(config(server.socket()), Duration::from_secs(100), Duration::from_secs(50));
        node.readable().await;
        node.set("1", &["a", "b"], "x").await;
        node.set("1", &["b", "c"], "x").await;
        let ttl = async |name: &[u8]| server.command(&[b"PTTL".as_slice(), name]).await.unwrap().int().unwrap();
        let mut index_keys = 0;
        let object = format!("larder:instance:o{:016x}:1", node.cache.schema().fingerprint());
        for name in server.keys("larder:instance:i*").await.unwrap() {
            let (object, index) = (ttl(object.as_bytes()).await, ttl(&name).await);
            assert!(0 < object && object <= 50_000, "{object}");
            assert!(object <= index && index <= 202_000, "{index}");
            index_keys += 1;
        }
        assert_eq!(index_keys, 3);

        // Index keys that were written together end together; those that would end before their object get a new lifetime.
        let name = |host: &str| format!("larder:instance:ihost:{host}");
        for short in [["x", "y"].as_slice(), &["z"]] {
            node.set("2", &["x", "y"], "x").await;
            node.set("2", &["x", "y", "z"], "x").await;
            for host in short {
                server.command(&["PEXPIRE", &name(host), "1000"]).await.unwrap();
            }
            node.set("2", &["x", "y", "z"], "x").await;
            let object = ttl(format!("{}2", &object[..object.len() - 1]).as_bytes()).await;
            for host in ["x", "y", "z"] {
                let index = ttl(name(host).as_bytes()).await;
                assert!(object <= index, "{host} ends before its object: {index} ms and {object} ms");
            }
        }
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);

        // Without a max age nothing expires, and prune removes what dangles.
        let node = Node::on(&server).await;
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
        node.set("1", &["a", "b"], "x").await;
        node.set("1", &["b", "c"], "x").await;
        assert_eq!(node.cache.prune().await.unwrap().keys, 1);
        assert!(node.by_host("b").await.is_some() && node.by_host("c").await.is_some());
        node.cache.invalidate(Instance::ID, ["1"]).await.unwrap();
        assert_eq!(node.cache.prune().await.unwrap().keys, 2);
        assert_eq!(server.keys("larder:instance:[^n]*").await.unwrap(), [b"larder:instance:c"]);
    }
}

#[tokio::test]
async fn a_staged_object_that_was_refused_leaves_nothing_behind() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let ticket = node.ticket().await;
        node.cache.invalidate(Instance::ID, ["1"]).await.unwrap();
        node.cache.fill(instance("1", &["a"], &"x".repeat(20_000)), ticket).await;
        assert_eq!(server.keys("larder:instance:[^n]*").await.unwrap(), [b"larder:instance:c"]);
    }
}

/// Once for each object, and not once for each of its keys: that would be a time that grows with the square of their number, while
/// nobody else is served.
#[tokio::test]
async fn what_another_object_lists_is_read_once_however_many_keys_lead_to_it() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let names = |from: u32| (from..from + 500).map(|host| format!("{host}.example")).collect::<Vec<_>>();
        let (old, new) = (names(0), names(500));
        let [old, new] = [&old, &new].map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
        node.set("1", &old, "x").await;
        node.set("1", &new, "x").await;

        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        node.set("2", &old, "x").await;
        assert!(calls(&server, "getrange").await <= 10, "the keys still lead to an object that does not list them");
        assert!(node.by_id("1").await.is_some() && node.by_host(old[499]).await.is_some());

        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        node.set("3", &[old[0], old[499], new[7]], "x").await;
        assert!(calls(&server, "getrange").await <= 10, "they lead to two that do");
        assert!(node.by_id("1").await.is_none() && node.by_id("2").await.is_none());
        assert!(node.by_host(old[0]).await.is_some_and(|found| found.id == "3"));

        node.set("1", &old, "x").await;
        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        assert_eq!(node.cache.delete(Instance::HOST, &old[1..]).await.unwrap(), Delivery::Applied);
        assert!(calls(&server, "getrange").await <= 16, "four scripts");
        assert!(node.by_host(old[1]).await.is_none() && node.by_host(old[499]).await.is_none());
        assert!(node.by_host(old[0]).await.is_some() && node.by_id("1").await.is_some());
        node.cache.delete(Instance::HOST, [old[0]]).await.unwrap();
        assert!(node.by_id("1").await.is_some());
        node.cache.delete(Instance::ID, ["1"]).await.unwrap();
        assert!(server.keys("larder:instance:o*").await.unwrap().is_empty(), "an object without keys is gone");
    }
}
