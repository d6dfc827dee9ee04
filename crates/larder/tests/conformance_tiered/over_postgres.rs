//! A tier over PostgreSQL, on every version that is installed, with two nodes.
//!
//! A node knows all earlier changes with its next poll. So it polls once before it is asked: a change of its own that touches nothing is answered when a later poll
//! was applied.

use crate::caught_up::{Bounded, CaughtUp, Changes};
use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::{Postgres, PostgresConnector, PostgresOptions};
use larder::connector::tiered::Tiered;
use larder::contract::{Delivery, KeyBuf};
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::{Connector, Schema};
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::model::{self, Settings};
use larder_testing::postgres::{PostgresServer, required};
use std::sync::Arc;
use std::time::{Duration, Instant};

larder_testing::conformance! { each Tiers::on_each_version().await }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations() {
    for subject in Tiers::on_each_version().await {
        let settings = Settings::default();
        // Those with ages wait for real time to pass.
        model::run(&subject, &Settings { sequences: settings.sequences / 3, ..settings }).await;
    }
}

const TIMEOUT: Duration = Duration::from_secs(20);

/// One database, and two nodes, each with a memory in front of it.
struct Tiers {
    nodes: [(Postgres, Feed); 2],
    changes: Arc<Changes>,
    server: PostgresServer,
}

impl Tiers {
    async fn on_each_version() -> Vec<Self> {
        let mut all = Vec::new();
        for binaries in required().unwrap() {
            let server = PostgresServer::start(&binaries, &["autovacuum = off"]).await.unwrap();
            let node = || {
                // The suite counts on time-outs that never fire, however slow the machine is.
                let mut options = PostgresOptions::from_url(&server.dsn()).unwrap();
                options = options.operation_timeout(TIMEOUT).connect_timeout(TIMEOUT);
                options.breaker.slow_call = TIMEOUT;
                let postgres = Postgres::open(options).unwrap();
                // Only a change of its own makes a node poll.
                let feed = Feed::open(&postgres, FeedOptions::new().poll(Duration::from_secs(10))).unwrap();
                (postgres, feed)
            };
            all.push(Self { nodes: [node(), node()], changes: Arc::default(), server });
        }
        all
    }
}

impl Subject for Tiers {
    fn nature(&self) -> Nature {
        Nature {
            shared: Yes,
            exact_time: No("ages are counted by the server, whose time is real"),
            bytes: No("a node that has an object in its own memory does not look at the server's bytes"),
            evicts: No("the database keeps everything until it is pruned"),
            leases: Yes,
            absences: Yes,
            expired: Yes,
            outages: Yes,
            at_once: No("nodes hear of a change one after the other, as they poll"),
        }
    }

    async fn open(&self, node: usize, schema: Schema) -> Arc<dyn Connector> {
        let follow = FollowOptions::new().deadline(Duration::from_secs(60));
        let tiered = self.nodes[node].1.tiered(schema, MemoryOptions::new(), follow).unwrap();
        let begun = Instant::now();
        while !tiered.status().readable || tiered.valid_for_ms() == 0 {
            let patient = begun.elapsed() < Duration::from_secs(30);
            assert!(patient, "{} cannot be read: {:?}", self.server.binaries(), tiered.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Arc::new(CaughtUp::new(tiered, self.changes.clone()))
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// The server lives on where no node finds it, so that it still has everything when it is back.
    async fn interrupt(&self) {
        let socket = self.server.socket().join(".s.PGSQL.5432");
        std::fs::rename(&socket, self.server.socket().join(".s.PGSQL.1")).unwrap();
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'larder'";
        self.server.psql_at(1, ended).unwrap();
    }

    async fn mend(&self) {
        let socket = self.server.socket().join(".s.PGSQL.5432");
        std::fs::rename(self.server.socket().join(".s.PGSQL.1"), socket).unwrap();
    }
}

impl Bounded for Tiered<PostgresConnector> {
    fn far(&self) -> &dyn Connector {
        self.over()
    }

    async fn catch_up(self: Arc<Self>) -> bool {
        let nobody = vec![KeyBuf { index: 0, bytes: b"nobody has this key"[..].into() }];
        matches!(self.over().invalidate(nobody, None).await, Ok(Delivery::Applied))
    }
}
