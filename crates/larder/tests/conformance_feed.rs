//! A memory cache that follows the feed keeps larder's contract on its node. Of other nodes the feed promises what it does in
//! `tests/postgres/feed.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::contract::KeyBuf;
use larder::feed::{Fed, Feed, FeedOptions, FollowOptions};
use larder::{Connector, Delivery, Schema};
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::model::{self, Settings};
use larder_testing::postgres::{PostgresServer, required};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

larder_testing::conformance! { each OneNode::on_each_version().await }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations() {
    for subject in OneNode::on_each_version().await {
        let settings = Settings::default();
        // Those with ages wait for real time to pass.
        model::run(&subject, &Settings { sequences: settings.sequences / 3, ..settings }).await;
    }
}

/// A key that no object has.
fn nobody() -> Vec<KeyBuf> {
    vec![KeyBuf { index: 0, bytes: b"nobody has this key"[..].into() }]
}

const TIMEOUT: Duration = Duration::from_secs(20);

/// The name of the cache, and the fingerprint of the entry.
type Name = (Arc<str>, u64);

struct OneNode {
    server: PostgresServer,
    feed: Feed,
    opened: Mutex<HashMap<Name, Arc<Fed>>>,
}

impl OneNode {
    async fn on_each_version() -> Vec<Self> {
        let mut all = Vec::new();
        for binaries in required().unwrap() {
            let server = PostgresServer::start(&binaries, &["autovacuum = off"]).await.unwrap();
            let mut options = PostgresOptions::from_url(&server.dsn()).unwrap();
            options = options.operation_timeout(TIMEOUT).connect_timeout(TIMEOUT);
            options.breaker.slow_call = TIMEOUT;
            let postgres = Postgres::open(options).unwrap();
            let feed = Feed::open(&postgres, FeedOptions::new().poll(Duration::from_millis(2))).unwrap();
            all.push(Self { server, feed, opened: Mutex::default() });
        }
        all
    }
}

impl Subject for OneNode {
    fn nature(&self) -> Nature {
        Nature {
            shared: No("a cache that follows the feed keeps what one process stores, and a process is one release"),
            exact_time: No("the feed follows a server, whose time is real"),
            bytes: No("it keeps objects as they are"),
            evicts: No("the memory connector is asked that"),
            leases: No("the memory connector has no other node whose load could be waited for"),
            absences: Yes,
            expired: Yes,
            outages: No("its objects are in this process, and an outage is no reason to miss before the deadline"),
            at_once: Yes,
        }
    }

    async fn open(&self, _node: usize, schema: Schema) -> Arc<dyn Connector> {
        let name: Name = (schema.cache().into(), schema.fingerprint());
        // A deadline that is never met, however slow the machine is.
        let deadline = FollowOptions::new().deadline(TIMEOUT);
        let open = || Arc::new(self.feed.memory(schema, MemoryOptions::new(), deadline).unwrap());
        let connector = self.opened.lock().unwrap().entry(name).or_insert_with(open).clone();
        let begun = Instant::now();
        // Until what it tells is told at once.
        while !connector.status().readable
            || !matches!(connector.invalidate(nobody(), None).await, Ok(Delivery::Applied))
        {
            let patient = begun.elapsed() < Duration::from_secs(30);
            assert!(patient, "{} cannot be read: {:?}", self.server.binaries(), connector.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        connector
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
