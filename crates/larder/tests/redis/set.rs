//! A set: one round trip, unless another node has touched its keys lately; and what the first attempt leaves behind where it is overtaken.

use crate::instance::{Instance, instance};
use crate::node::{Node, calls, config, servers, until};
use larder::{Delivery, Stored};
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::{Server, ServerOptions};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

async fn reset(server: &Server) {
    server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
}

/// Waits until the server has run so many scripts since the statistics were reset.
async fn scripts(server: &Server, count: u64) {
    let begun = Instant::now();
    while calls(server, "evalsha").await < count {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {count} scripts");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A node whose answers can be held up. It waits for them as long as the test takes.
async fn behind(proxy: &Proxy) -> Node {
    let node = Node::begin(config(proxy.socket()).operation_timeout(Duration::from_secs(60)));
    node.readable().await;
    // The server has to know the script: its code goes in a round trip of its own.
    node.set("before", &[], "x").await;
    node
}

#[tokio::test]
async fn a_set_is_one_command() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a", "b"], "x").await;
        node.cache.set_many([instance("before", &[], "x")]).await;
        reset(&server).await;
        for _ in 0..10 {
            node.set("1", &["a", "b"], "x").await;
        }
        assert_eq!(calls(&server, "evalsha").await, 10);
        assert_eq!(calls(&server, "getrange").await, 10, "of the clock, by the script");

        // At once, so that each is sent before the one before was answered.
        reset(&server).await;
        let each = (0..20).map(|number| {
            let cache = node.cache.clone();
            tokio::spawn(async move { cache.set(instance(&format!("n{number}"), &[], "x")).await })
        });
        for set in each.collect::<Vec<_>>() {
            assert_eq!(set.await.unwrap(), Stored::Accepted);
        }
        assert_eq!(calls(&server, "evalsha").await, 20, "none has overtaken another");
        assert_eq!(
            calls(&server, "getrange").await,
            20,
            "what this connection alone has written is not looked through"
        );

        reset(&server).await;
        let stored = node.cache.set_many((0..20).map(|number| instance(&format!("n{number}"), &["h"], "x"))).await;
        assert_eq!(stored, [Stored::Accepted; 20]);
        assert_eq!(calls(&server, "evalsha").await, 1);
        assert!(node.by_host("h").await.is_some_and(|found| found.id == "n19"), "the last one has the key");
    }
}

#[tokio::test]
async fn a_set_is_sent_once_more_where_another_node_has_touched_its_keys_and_not_where_it_has_touched_others() {
    for server in servers(ServerOptions::default()).await {
        let (node, other) = (Node::on(&server).await, Node::on(&server).await);
        node.set("1", &["a"], "x").await;
        node.cache.set_many([instance("before", &[], "x")]).await;
        for (touched, sent) in [("2", 1), ("1", 2), ("3", 1)] {
            other.set(touched, &[], "other").await;
            reset(&server).await;
            node.set("1", &["a"], "x").await;
            assert_eq!(calls(&server, "evalsha").await, sent, "after {touched}");
            assert!(other.by_host("a").await.is_some_and(|found| found.name == "x"));
        }
        // Of many, only what was overtaken goes again, and what shares a key with it.
        other.set("1", &[], "other").await;
        reset(&server).await;
        let objects = [instance("1", &["a"], "y"), instance("2", &["b"], "y"), instance("3", &["a"], "y")];
        assert_eq!(node.cache.set_many(objects).await, [Stored::Accepted; 3]);
        assert_eq!(calls(&server, "evalsha").await, 2);
        assert_eq!(
            calls(&server, "set").await,
            3 + 2 + 3,
            "three objects with index keys, of which one was there; two again"
        );
        assert!(other.by_host("a").await.is_some_and(|found| found.id == "3"));
        assert!(other.by_host("b").await.is_some_and(|found| found.name == "y"));

        // A truncate is another epoch, in which the release has to be registered first.
        assert_eq!(other.cache.truncate().await.unwrap(), Delivery::Applied);
        node.set("1", &["a"], "z").await;
        assert!(other.by_host("a").await.is_some_and(|found| found.name == "z"));
    }
}

/// A node that hears nothing of a cache would have an old ticket, and each of its sets would go twice.
#[tokio::test]
async fn a_heartbeat_brings_who_sets_a_new_ticket() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.set("1", &["a"], "x").await;
        {
            let other = Node::on(&server).await;
            other.set("1", &["a"], "other").await;
        }
        reset(&server).await;
        let begun = Instant::now();
        while calls(&server, "getrange").await == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "the heartbeat does not ask");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The answer has to come, too.
        tokio::time::timeout(Duration::from_secs(60), node.cache.get(Instance::ID, "1")).await.unwrap();
        reset(&server).await;
        node.set("1", &["a"], "x").await;
        assert_eq!(calls(&server, "evalsha").await, 1);
    }
}

/// What a set does when another node touches its key before the first attempt, and `between` is done before the second.
async fn overtaken(between: impl AsyncFn(&Node), stored: Stored, left: Option<&str>) {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let (node, other) = (behind(&proxy).await, Node::on(&server).await);
        other.set("1", &["a"], "other").await;
        let before = other.ticket().await;
        reset(&server).await;
        proxy.set(Direction::ToClient, Fault::Hold);
        let cache = node.cache.clone();
        let set = tokio::spawn(async move { cache.set(instance("1", &["a"], "set")).await });
        scripts(&server, 1).await;
        assert_eq!(other.ticket().await, before, "the first attempt has touched nothing");
        assert!(other.by_host("a").await.is_some_and(|found| found.name == "other"), "and removed nothing");
        between(&other).await;
        proxy.set_both(Fault::Pass);
        assert_eq!(set.await.unwrap(), stored);
        assert_eq!(other.by_host("a").await.map(|found| found.name.clone()).as_deref(), left);
        assert_eq!(node.by_id("1").await.map(|found| found.name.clone()).as_deref(), left);
    }
}

#[tokio::test]
async fn a_set_that_is_overtaken_once_is_stored() {
    overtaken(async |_| {}, Stored::Accepted, Some("set")).await;
}

/// The second check: what another writer has invalidated since the first answer does not come back.
#[tokio::test]
async fn a_set_that_is_overtaken_twice_is_invalidated() {
    let invalidate = async |other: &Node| {
        assert_eq!(other.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
    };
    overtaken(invalidate, Stored::Overtaken, None).await;
    overtaken(async |other| other.set("1", &["a"], "newer").await, Stored::Overtaken, None).await;
}

/// The keys are guarded from before the first attempt until after the second.
#[tokio::test]
async fn a_caller_who_goes_away_between_the_attempts_leaves_an_invalidation() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let (node, other) = (behind(&proxy).await, Node::on(&server).await);
        other.set("1", &["a"], "other").await;
        reset(&server).await;
        proxy.set(Direction::ToClient, Fault::Hold);
        let cache = node.cache.clone();
        let set = tokio::spawn(async move { cache.set(instance("1", &["a"], "set")).await });
        scripts(&server, 1).await;
        set.abort();
        assert!(set.await.unwrap_err().is_cancelled());
        assert!(!node.cache.status().readable, "until it is replayed");
        proxy.set_both(Fault::Pass);
        until("the journal is replayed", || node.cache.status().readable).await;
        assert!(other.by_host("a").await.is_none() && node.by_id("1").await.is_none());
    }
}

/// The first check: what is executed after its node has given it up must not undo what was invalidated since.
#[tokio::test]
async fn a_first_attempt_that_comes_late_stores_nothing() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let (node, other) = (behind(&proxy).await, Node::on(&server).await);
        let sent = Arc::new(Mutex::new(Vec::new()));
        let noted = sent.clone();
        proxy.set(
            Direction::ToServer,
            Fault::rewrite(move |bytes| {
                if bytes.windows(7).any(|word| word == b"EVALSHA") {
                    noted.lock().unwrap().clone_from(&bytes);
                }
                bytes
            }),
        );
        node.set("1", &["a"], "late").await;
        let sent = sent.lock().unwrap().clone();
        assert_eq!(other.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        reset(&server).await;
        let mut late = UnixStream::connect(server.socket()).unwrap();
        late.write_all(&sent).unwrap();
        scripts(&server, 1).await;
        assert!(other.by_host("a").await.is_none() && other.by_id("1").await.is_none());
    }
}
