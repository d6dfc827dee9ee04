//! The auditor on a real server, where the log of the clock says which keys were touched.

use crate::instance::{Instance, instance};
use crate::node::{Node, servers, until};
use larder::Delivery;
use larder::audit::AuditOptions;
use larder_testing::server::ServerOptions;
use std::time::Duration;

/// As by a server that brings back what it had lost, in a way that nobody notices: an object is there again after its invalidation.
#[tokio::test]
async fn an_object_that_came_back_behind_larders_back_is_found() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let options = AuditOptions::new().share(1.0).grace(Duration::from_millis(100)).bypass(Duration::MAX);
        let source = |_| std::future::ready(Ok::<_, String>(Some(instance("1", &["a"], "new"))));
        let audit = node.cache.audited(options, source).unwrap();
        node.set("1", &["a"], "old").await;
        let name = format!("larder:instance:o{:016x}:1", node.cache.schema().fingerprint());
        let old = server.command(&["GET", &name]).await.unwrap();
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
        server.command(&[b"SET".as_slice(), name.as_bytes(), old.bytes().unwrap()]).await.unwrap();
        assert!(node.by_host("a").await.is_some());
        until("it is found", || audit.findings().stale > 0).await;
        assert!(audit.findings().worst >= Duration::from_millis(100));
        assert!(audit.bypasses() && node.by_host("a").await.is_none());
        audit.reset();
        node.set("1", &["a"], "new").await;
        assert!(node.by_host("a").await.is_some());
        until("it is examined", || audit.findings().current > 0).await;
        assert!(!audit.bypasses());
    }
}

/// A key that is touched all the time proves nothing, though the cache is as wrong as before.
#[tokio::test]
async fn an_object_that_is_touched_all_the_time_is_undecided() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let options = AuditOptions::new().share(1.0).grace(Duration::from_millis(100));
        let source = |_| std::future::ready(Ok::<_, String>(Some(instance("1", &["a"], "new"))));
        let audit = node.cache.audited(options, source).unwrap();
        node.set("1", &["a"], "old").await;
        assert!(node.by_host("a").await.is_some());
        let mut touched = 0;
        while audit.findings().undecided == 0 {
            node.set("1", &["a"], "old").await;
            // Another object's keys are no touch of this one's.
            assert_eq!(node.cache.invalidate(Instance::ID, ["2"]).await.unwrap(), Delivery::Applied);
            touched += 1;
            assert!(touched < 100_000 && audit.findings().stale == 0, "{:?}", audit.findings());
        }
    }
}
