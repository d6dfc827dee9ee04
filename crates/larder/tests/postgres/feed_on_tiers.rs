//! Changes that reach caches in the memory of each node, in front of a Redis, by the database alone.

use crate::caches::opened;
use crate::feed::run;
use crate::node::{options, session, until};
use larder::connector::redis::RedisOptions;
use larder::connector::tiered::TieredOptions;
use larder::feed::FeedOptions;
use larder::{Cache, CacheOptions, Caches, Stored};
use larder_testing::entries::Site;
use larder_testing::postgres::{PostgresServer, required};
use larder_testing::server::{self, Server, ServerOptions};
use std::time::Duration;

/// No test waits for so long.
const LONG: Duration = Duration::from_secs(60);

/// A node whose cache follows the feed, and is on a tier.
async fn node(database: &PostgresServer, redis: &Server) -> (Caches, Cache<Site>) {
    let mut shared = RedisOptions::new(redis.socket()).connect_timeout(LONG).operation_timeout(LONG);
    shared.breaker.slow_call = LONG;
    shared.breaker.ramp = Duration::ZERO;
    let tier = TieredOptions::new().validity(Duration::from_secs(2));
    let caches = Caches::builder()
        .postgres("db", options(database))
        .feed("main", FeedOptions::new().poll(Duration::from_millis(5)).on("db"))
        .redis("redis", shared)
        .tiered("near", tier.over("redis"))
        .cache::<Site>(CacheOptions::on("near").feed("main").feed_deadline(Duration::from_secs(50)))
        .open()
        .await
        .unwrap();
    let cache = opened(&caches).await;
    until("the memory can be read", || cache.status().valid_for_ms.is_some_and(|left| left > 0)).await;
    (caches, cache)
}

#[tokio::test]
async fn a_change_that_the_database_tells_of_is_gone_from_the_memory_of_every_node() {
    let binaries = required().unwrap().pop().unwrap();
    for binary in server::required().unwrap() {
        let database = PostgresServer::start(&binaries, &[]).await.unwrap();
        let redis = Server::start(&binary, ServerOptions::default()).await.unwrap();
        let nodes = [node(&database, &redis).await, node(&database, &redis).await];
        let writer = session(&database).await;
        for round in 0..3 {
            let id = round.to_string();
            assert_eq!(nodes[0].1.set(Site::new(&id, &["h"], "old")).await, Stored::Accepted);
            for (_, cache) in &nodes {
                assert!(cache.get(Site::HOST, "h").await.is_some());
                assert_eq!(cache.status().objects, Some(1), "it is in the memory of this node");
            }
            run(&writer, &format!("SELECT larder.invalidate('site', 'id', '{id}')")).await;
            for (_, cache) in &nodes {
                until("the object is gone from the memory", || cache.status().objects == Some(0)).await;
                assert!(cache.get(Site::HOST, "h").await.is_none());
            }
        }
        for (caches, _) in nodes {
            assert!(caches.shutdown().await.is_clean());
        }
    }
}
