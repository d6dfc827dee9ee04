//! The redis connector, and a tier in front of it, keep larder's contract in a cluster, on every server that is installed, with the breaker on.
//!
//! Three primaries share the slots. Each case of the suite has a cache of its own, so the cases are spread over the primaries. Each primary has a replica, but
//! not where a tier is checked: three servers start sooner than six. `tests/redis/cluster.rs` moves slots and kills primaries.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::breaker::State;
use larder::connector::redis::{RedisCluster, RedisOptions};
use larder::connector::tiered::TieredOptions;
use larder::{Connector, Schema};
use larder_testing::cluster::Cluster;
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::model::{self, Settings};
use larder_testing::server::{Reply, Server, ServerOptions, required};
use std::sync::Arc;
use std::time::{Duration, Instant};

larder_testing::conformance! { each Shared::on_each_server(1).await }

mod tier {
    use super::{Shared, Tiers};

    larder_testing::conformance! { each Shared::on_each_server(0).await.into_iter().map(Tiers) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations() {
    for subject in Shared::on_each_server(1).await {
        let settings = Settings::default();
        // Those with ages wait for real time to pass.
        model::run(&subject, &Settings { sequences: settings.sequences / 10, ..settings }).await;
    }
}

const PRIMARIES: u16 = 3;

const TIMEOUT: Duration = Duration::from_secs(20);

/// How long a server may not answer the others before its replica takes its place, in ms. The suite counts on healthy servers, however slow the machine is.
const NODE_TIMEOUT: &str = "600000";

/// A cluster, and two nodes of a service that use it.
struct Shared {
    cluster: Cluster,
    nodes: [RedisCluster; 2],
}

impl Shared {
    /// With this many replicas of each primary.
    async fn on_each_server(replicas: u16) -> Vec<Self> {
        let mut all = Vec::new();
        for binary in required().unwrap() {
            let options = ServerOptions::default().config("cluster-require-full-coverage no");
            let cluster = Cluster::start(&binary, options, PRIMARIES, replicas).await.unwrap();
            for server in cluster.nodes() {
                server.config_set("cluster-node-timeout", NODE_TIMEOUT).await.unwrap();
            }
            let node = || {
                let others = (1..cluster.nodes().len()).map(|node| cluster.address(node));
                // The suite counts on time-outs that never fire, however slow the machine is.
                let mut config = RedisOptions::new(cluster.address(0)).cluster(others).operation_timeout(TIMEOUT);
                config.breaker.slow_call = TIMEOUT;
                // An outage is longer here, and opens the breaker. Then no get is shed.
                config.breaker.ramp = Duration::ZERO;
                RedisCluster::open(config)
            };
            let nodes = [node().unwrap(), node().unwrap()];
            all.push(Self { cluster, nodes });
        }
        all
    }

    /// The primary of this cache.
    async fn server_of(&self, cache: &str) -> &Server {
        let slot = self.cluster.slot_of(&format!("larder:{{{cache}}}:c")).await.unwrap();
        &self.cluster.nodes()[self.cluster.primary(slot).await.unwrap()]
    }

    /// Sends each primary this command about the slots that it was given at the start.
    async fn slots(&self, command: &str) {
        let first = |primary: u16| 16_384 * u32::from(primary) / u32::from(PRIMARIES);
        for (primary, server) in (0..PRIMARIES).zip(self.cluster.nodes()) {
            let (first, last) = (first(primary).to_string(), (first(primary + 1) - 1).to_string());
            let reply = server.command(&["CLUSTER", command, &first, &last]).await.unwrap();
            assert_eq!(reply, Reply::Status("OK".into()));
        }
    }

    async fn until_usable(&self, connector: &impl Connector) {
        let begun = Instant::now();
        while !connector.status().readable || connector.status().valid_for_ms == Some(0) {
            let patient = begun.elapsed() < Duration::from_secs(30);
            assert!(patient, "{} cannot be read: {:?}", self.cluster.nodes()[0].binary(), connector.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // On, and not forced. It may be ramping up, where a slow machine was late to connect.
        let breaker = connector.status().breaker;
        assert!(matches!(breaker, Some(State::Closed | State::Ramping)), "{breaker:?}");
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
        self.until_usable(&connector).await;
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
        let server = self.server_of(cache).await;
        // Objects, and the hints that lead to them.
        let names = server.keys(format!("larder:{{{cache}}}:[oi]*")).await.unwrap();
        let mut connection = server.connect().await.unwrap();
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

/// The same, and each node has a memory of its own in front of it. A change waits until the other node has acknowledged it.
struct Tiers(Shared);

impl Subject for Tiers {
    fn nature(&self) -> Nature {
        Nature {
            bytes: No("a node that has an object in its own memory does not look at the server's bytes"),
            at_once: No("nodes hear of a change one after the other, all of them before it returns"),
            ..self.0.nature()
        }
    }

    async fn open(&self, node: usize, schema: Schema) -> Arc<dyn Connector> {
        let options = TieredOptions::new().validity(Duration::from_millis(100));
        let connector = self.0.nodes[node].tiered(schema, &options).unwrap();
        self.0.until_usable(&connector).await;
        Arc::new(connector)
    }

    async fn pass(&self, time: Duration) {
        self.0.pass(time).await;
    }

    async fn interrupt(&self) {
        self.0.interrupt().await;
    }

    async fn mend(&self) {
        self.0.mend().await;
    }
}
