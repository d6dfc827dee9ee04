//! The names of a release's indexes on the server: who writes them, what they survive, and what reads them.

use crate::instance::Instance;
use crate::node::{Node, config, servers};
use larder::connector::redis::inspect::Inspector;
use larder::{Delivery, Entry, Schema};
use larder_testing::server::{Server, ServerOptions};
use std::collections::BTreeMap;

/// What an operator finds: the names by release.
async fn names(server: &Server) -> BTreeMap<u64, Option<Vec<String>>> {
    let inspector = Inspector::open(config(server.socket())).await.unwrap();
    inspector.cache("instance").await.unwrap().index_names().await.unwrap()
}

fn known() -> Option<Vec<String>> {
    let names = Instance::INDEXES;
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[tokio::test]
async fn they_are_there_while_a_release_is_listed() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let release = node.cache.schema().fingerprint();
        let expected = BTreeMap::from([(release, known())]);
        assert_eq!(names(&server).await, expected);
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
        assert_eq!(names(&server).await, expected, "the release stays when its objects go");

        // A server that evicts: not known until the release connects again.
        let key = format!("larder:instance:n{release:016x}");
        server.command(&["DEL", &key]).await.unwrap();
        assert_eq!(names(&server).await, BTreeMap::from([(release, None)]));
        let _again = Node::on(&server).await;
        assert_eq!(names(&server).await, expected);

        // A server that was flushed: made anew with the clock.
        server.command(&["FLUSHALL"]).await.unwrap();
        let _again = Node::on(&server).await;
        assert_eq!(names(&server).await, expected);

        // Somebody else's key in their place is in nobody's way.
        server.command(&["DEL", &key]).await.unwrap();
        server.command(&["LPUSH", &key, "x"]).await.unwrap();
        assert_eq!(names(&server).await, BTreeMap::from([(release, None)]));
        let again = Node::on(&server).await;
        again.set("1", &["a"], "x").await;
        assert_eq!(names(&server).await, expected);
    }
}

#[tokio::test]
async fn those_of_releases_that_are_forgotten_go() {
    for server in servers(ServerOptions::default()).await {
        let redis = larder::connector::redis::Redis::open(config(server.socket())).unwrap();
        for fingerprint in 1..=17 {
            let schema = Schema::of::<Instance>().with_fingerprint(fingerprint);
            let cache =
                larder::Cache::<Instance>::new(std::sync::Arc::new(redis.connector(schema.clone()).unwrap()), schema)
                    .unwrap();
            crate::node::until("the cache can be read", || cache.status().readable).await;
        }
        // The seventeenth found no place in the list, and began it anew.
        let left = server.keys("larder:instance:n*").await.unwrap();
        assert_eq!(left, [b"larder:instance:n0000000000000011"]);
        assert_eq!(names(&server).await, BTreeMap::from([(17, known())]));
    }
}
