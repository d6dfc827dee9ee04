//! The redis connector keeps larder's contract, on every server that is installed, with the breaker on.
//!
//! Each test has servers of its own, so that none can fail by what another one does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::breaker::State;
use larder::connector::redis::Redis;
use larder::connector::redis::{Address, RedisOptions, SentinelOptions};
use larder::{Connector, Schema};
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::model::{self, Settings};
use larder_testing::server::{Connection, Reply, ScriptedServer, Server, ServerOptions, required};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

larder_testing::conformance! { each Shared::on_each_server().await }

/// The same where a Sentinel says which server it is.
mod behind_a_sentinel {
    use super::*;

    larder_testing::conformance! { each Shared::behind_a_sentinel().await }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations() {
    for subject in Shared::on_each_server().await {
        let settings = Settings::default();
        // Those with ages wait for real time to pass.
        model::run(&subject, &Settings { sequences: settings.sequences / 3, ..settings }).await;
    }
}

const TIMEOUT: Duration = Duration::from_secs(20);

/// One server, and two nodes that are connected to it.
struct Shared {
    server: Server,
    nodes: [Redis; 2],
    /// For what is done behind the nodes' backs.
    connection: Mutex<Connection>,
    /// The port that the Sentinel names, if there is one.
    named: Option<Arc<AtomicU16>>,
    _sentinel: Option<ScriptedServer>,
}

impl Shared {
    async fn on_each_server() -> Vec<Self> {
        let mut all = Vec::new();
        for binary in required().unwrap() {
            let server = Server::start(&binary, ServerOptions::default()).await.unwrap();
            let options = RedisOptions::new(Address::Unix(server.socket().to_owned()));
            all.push(Self::on(server, options, None, None).await);
        }
        all
    }

    async fn behind_a_sentinel() -> Vec<Self> {
        let mut all = Vec::new();
        for binary in required().unwrap() {
            let server = Server::start(&binary, ServerOptions::default().tcp()).await.unwrap();
            let named = Arc::new(AtomicU16::new(server.port().unwrap()));
            let port = named.clone();
            let sentinel = ScriptedServer::start(move |words| {
                let port = port.load(Ordering::SeqCst).to_string();
                if words[1].eq_ignore_ascii_case(b"MASTER") {
                    Reply::command(&[
                        "ip",
                        "127.0.0.1",
                        "port",
                        &port,
                        "config-epoch",
                        "0",
                        "role-reported-time",
                        "60000",
                    ])
                    .encode()
                } else {
                    Reply::command(&["127.0.0.1", &port]).encode()
                }
            });
            let sentinel = sentinel.await.unwrap();
            let of_sentinel = SentinelOptions::new("mymaster").host("127.0.0.1", sentinel.port());
            let options = RedisOptions::default().sentinel(of_sentinel);
            all.push(Self::on(server, options, Some(named), Some(sentinel)).await);
        }
        all
    }

    async fn on(
        server: Server,
        options: RedisOptions,
        named: Option<Arc<AtomicU16>>,
        sentinel: Option<ScriptedServer>,
    ) -> Self {
        // The suite counts on time-outs that never fire, however slow the machine is.
        let mut options = options.operation_timeout(TIMEOUT);
        options.breaker.slow_call = TIMEOUT;
        let nodes = [Redis::open(options.clone()).unwrap(), Redis::open(options).unwrap()];
        let connection = Mutex::new(server.connect().await.unwrap());
        Self { server, nodes, connection, named, _sentinel: sentinel }
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
            assert!(patient, "{} cannot be read: {:?}", self.server.binary(), connector.status());
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

    /// The server lives on where no node finds it, so that it still has everything when it is back.
    async fn interrupt(&self) {
        if let Some(named) = &self.named {
            // Nobody listens there.
            named.store(1, Ordering::SeqCst);
        }
        std::fs::rename(self.server.socket(), self.server.socket().with_extension("away")).unwrap();
        let mut connection = self.connection.lock().await;
        let reply = connection.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await.unwrap();
        assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
    }

    async fn mend(&self) {
        if let (Some(named), Some(port)) = (&self.named, self.server.port()) {
            named.store(port, Ordering::SeqCst);
        }
        std::fs::rename(self.server.socket().with_extension("away"), self.server.socket()).unwrap();
    }

    async fn rewrite(&self, cache: &str, edit: &mut (dyn FnMut(&mut Vec<u8>) + Send)) {
        // Objects, and the hints that lead to them.
        let names = self.server.keys(format!("larder:{cache}:[oi]*")).await.unwrap();
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
