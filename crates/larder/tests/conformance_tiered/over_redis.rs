//! A tier over Redis, on every server that is installed, with the breaker on: strict, where a change waits until the other node has acknowledged it; wait-only, where each
//! change waits for a validity; and bounded.

use crate::caught_up::{Bounded, CaughtUp, Changes};
use larder::breaker::State;
use larder::connector::redis::{Address, Redis, RedisConnector, RedisOptions};
use larder::connector::tiered::{Consistency, Tiered, TieredOptions};
use larder::{Connector, Schema};
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{self, Nature, Promise, Subject};
use larder_testing::model::{self, Settings};
use larder_testing::server::{Connection, Reply, Server, ServerOptions, required};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

larder_testing::conformance! { each Tiers::on_each_server(strict()).await }

/// Each change waits for a validity here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_only() {
    what_others_find(Consistency::WaitOnly).await;
}

/// A node that is asked after a change waits for a validity first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounded() {
    what_others_find(Consistency::Bounded).await;
}

/// So only those promises are checked that say what other nodes find after a change.
async fn what_others_find(consistency: Consistency) {
    for subject in Tiers::on_each_server(TieredOptions::new().validity(SHORTEST).consistency(consistency)).await {
        for promise in [Promise::C2, Promise::C3, Promise::C4, Promise::C8] {
            conformance::check(promise, &subject).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations() {
    for subject in Tiers::on_each_server(strict()).await {
        let settings = Settings::default();
        // Each sequence has a cache of its own, and a new cache is not in use before a validity is over.
        model::run(&subject, &Settings { sequences: settings.sequences / 3, ..settings }).await;
    }
}

const TIMEOUT: Duration = Duration::from_secs(20);

/// The shortest validity that there is.
const SHORTEST: Duration = Duration::from_millis(25);

fn strict() -> TieredOptions {
    TieredOptions::new().validity(Duration::from_millis(100))
}

/// One server, and two nodes, each with a memory in front of it.
struct Tiers {
    server: Server,
    nodes: [Redis; 2],
    options: TieredOptions,
    changes: Arc<Changes>,
    /// For what is done behind the nodes' backs.
    connection: Mutex<Connection>,
}

impl Tiers {
    async fn on_each_server(options: TieredOptions) -> Vec<Self> {
        let mut all = Vec::new();
        for binary in required().unwrap() {
            let server = Server::start(&binary, ServerOptions::default()).await.unwrap();
            // The suite counts on time-outs that never fire, however slow the machine is.
            let mut config = RedisOptions::new(Address::Unix(server.socket().to_owned())).operation_timeout(TIMEOUT);
            config.breaker.slow_call = TIMEOUT;
            let nodes = [Redis::open(config.clone()).unwrap(), Redis::open(config).unwrap()];
            let connection = Mutex::new(server.connect().await.unwrap());
            all.push(Self { server, nodes, options: options.clone(), changes: Arc::default(), connection });
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
            evicts: No("what a server evicts is its own choice, and cannot be brought about object by object"),
            leases: Yes,
            absences: Yes,
            expired: Yes,
            outages: Yes,
            at_once: No("nodes hear of a change one after the other, all of them before it returns"),
        }
    }

    async fn open(&self, node: usize, schema: Schema) -> Arc<dyn Connector> {
        let connector = self.nodes[node].tiered(schema, &self.options).unwrap();
        let begun = Instant::now();
        while !connector.status().readable || connector.valid_for_ms() == 0 {
            let patient = begun.elapsed() < Duration::from_secs(30);
            assert!(patient, "{} cannot be read: {:?}", self.server.binary(), connector.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let breaker = connector.status().breaker;
        assert!(matches!(breaker, Some(State::Closed | State::Ramping)), "{breaker:?}");
        match self.options.consistency {
            Consistency::Bounded => Arc::new(CaughtUp::new(connector, self.changes.clone())),
            _ => Arc::new(connector),
        }
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// The server lives on where no node finds it, so that it still has everything when it is back.
    async fn interrupt(&self) {
        std::fs::rename(self.server.socket(), self.server.socket().with_extension("away")).unwrap();
        let mut connection = self.connection.lock().await;
        for kind in ["normal", "pubsub"] {
            let reply = connection.command(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).await.unwrap();
            assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
        }
    }

    async fn mend(&self) {
        std::fs::rename(self.server.socket().with_extension("away"), self.server.socket()).unwrap();
    }
}

impl Bounded for Tiered<RedisConnector> {
    fn far(&self) -> &dyn Connector {
        self.over()
    }

    /// What this node had in its memory before is not valid any more then, unless it was right.
    async fn catch_up(self: Arc<Self>) -> bool {
        tokio::time::sleep(SHORTEST).await;
        true
    }
}
