//! The redis connector keeps larder's contract in a cluster, on every server that is installed, with the breaker on.
//!
//! One primary has all slots: what more there are does not concern a cache. `tests/redis/cluster.rs` moves slots between them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::breaker::State;
use larder::connector::redis::{RedisCluster, RedisOptions};
use larder::{Connector, Schema};
use larder_testing::cluster::Cluster;
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::model::{self, Settings};
use larder_testing::server::{Connection, Reply, ServerOptions, required};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

larder_testing::conformance! { each Shared::on_each_server().await }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations() {
    for subject in Shared::on_each_server().await {
        let settings = Settings::default();
        // Those with ages wait for real time to pass.
        model::run(&subject, &Settings { sequences: settings.sequences / 10, ..settings }).await;
    }
}

const TIMEOUT: Duration = Duration::from_secs(20);

/// A cluster, and two nodes of a service that use it.
struct Shared {
    cluster: Cluster,
    nodes: [RedisCluster; 2],
    /// For what is done behind the nodes' backs.
    connection: Mutex<Connection>,
}

impl Shared {
    async fn on_each_server() -> Vec<Self> {
        let mut all = Vec::new();
        for binary in required().unwrap() {
            let options = ServerOptions::default().config("cluster-require-full-coverage no");
            let cluster = Cluster::start(&binary, options, 1, 0).await.unwrap();
            let node = || {
                let none: [&str; 0] = [];
                // The suite counts on time-outs that never fire, however slow the machine is.
                let mut config = RedisOptions::new(cluster.address(0)).cluster(none).operation_timeout(TIMEOUT);
                config.breaker.slow_call = TIMEOUT;
                // An outage is longer here, and opens the breaker. Then no get is shed.
                config.breaker.ramp = Duration::ZERO;
                RedisCluster::open(config)
            };
            let nodes = [node().unwrap(), node().unwrap()];
            let connection = Mutex::new(cluster.nodes()[0].connect().await.unwrap());
            all.push(Self { cluster, nodes, connection });
        }
        all
    }

    async fn slots(&self, command: &str) {
        let mut connection = self.connection.lock().await;
        let reply = connection.command(&["CLUSTER", command, "0", "16383"]).await.unwrap();
        assert_eq!(reply, Reply::Status("OK".into()));
    }
}

impl Subject for Shared {
    fn nature(&self) -> Nature {
        Nature {
            shared: Yes,
            exact_time: No("ages are counted by the server, whose time is real"),
            bytes: Yes,
            evicts: No("what a server evicts is its own choice, and cannot be brought about object by object"),
            leases: Yes,
            absences: Yes,
            expired: Yes,
            outages: Yes,
            at_once: Yes,
        }
    }

    async fn open(&self, node: usize, schema: Schema) -> Arc<dyn Connector> {
        let connector = self.nodes[node].connector(schema).unwrap();
        let begun = Instant::now();
        while !connector.status().readable {
            let patient = begun.elapsed() < Duration::from_secs(30);
            assert!(patient, "{} cannot be read: {:?}", self.cluster.nodes()[0].binary(), connector.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // On, and not forced. It may be ramping up, where a slow machine was late to connect.
        let breaker = connector.status().breaker;
        assert!(matches!(breaker, Some(State::Closed | State::Ramping)), "{breaker:?}");
        Arc::new(connector)
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Nobody serves the slots any more, and the keys stay where they are.
    async fn interrupt(&self) {
        self.slots("DELSLOTSRANGE").await;
    }

    async fn mend(&self) {
        self.slots("ADDSLOTSRANGE").await;
    }

    async fn rewrite(&self, cache: &str, edit: &mut (dyn FnMut(&mut Vec<u8>) + Send)) {
        // Objects, and the hints that lead to them.
        let names = self.cluster.nodes()[0].keys(format!("larder:{{{cache}}}:[oi]*")).await.unwrap();
        let mut connection = self.connection.lock().await;
        for name in names {
            let reply = connection.command(&[b"GET", &name[..]]).await.unwrap();
            let Reply::Bulk(before) = reply else { panic!("GET was answered by {reply:?}") };
            let mut bytes = before.clone();
            edit(&mut bytes);
            if bytes != before {
                let reply = connection.command(&[b"SET", &name[..], &bytes, b"KEEPTTL"]).await.unwrap();
                assert_eq!(reply, Reply::Status("OK".into()));
            }
        }
    }
}
