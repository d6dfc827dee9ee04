//! The postgres connector keeps larder's contract, on every version that is installed, with the breaker on.
//!
//! Each test has servers of its own, so that none can fail by what another one does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::breaker::State;
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::{Connector, Schema};
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::model::{self, Settings};
use larder_testing::pgbouncer::PgBouncer;
use larder_testing::postgres::{PostgresServer, required};
use std::sync::Arc;
use std::time::{Duration, Instant};

larder_testing::conformance! { each Shared::on_each_version().await }

/// The same through PgBouncer in transaction mode, where each statement may reach another session of the server.
mod through_a_pooler {
    use super::Shared;

    larder_testing::conformance! { each Shared::on_each_version_through_a_pooler().await }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations() {
    for subject in Shared::on_each_version().await {
        let settings = Settings::default();
        // Those with ages wait for real time to pass.
        model::run(&subject, &Settings { sequences: settings.sequences / 3, ..settings }).await;
    }
}

const TIMEOUT: Duration = Duration::from_secs(20);

/// One server, and two nodes that are connected to it.
struct Shared {
    nodes: [Postgres; 2],
    /// Stands between the nodes and the server.
    pooler: Option<PgBouncer>,
    server: PostgresServer,
}

impl Shared {
    async fn on_each_version() -> Vec<Self> {
        Self::all(false).await
    }

    async fn on_each_version_through_a_pooler() -> Vec<Self> {
        Self::all(true).await
    }

    async fn all(pooled: bool) -> Vec<Self> {
        let mut all = Vec::new();
        for binaries in required().unwrap() {
            let server = PostgresServer::start(&binaries, &["autovacuum = off"]).await.unwrap();
            let pooler = if pooled { Some(PgBouncer::start(&server).await.unwrap()) } else { None };
            let dsn = pooler.as_ref().map_or_else(|| server.dsn(), PgBouncer::dsn);
            let node = || {
                // The suite counts on time-outs that never fire, however slow the machine is.
                let mut options = PostgresOptions::from_url(&dsn).unwrap();
                options = options.operation_timeout(TIMEOUT).connect_timeout(TIMEOUT).prepared(!pooled);
                options.breaker.slow_call = TIMEOUT;
                Postgres::open(options).unwrap()
            };
            let nodes = [node(), node()];
            all.push(Self { nodes, pooler, server });
        }
        all
    }

    fn sql(&self, sql: &str) -> String {
        self.server.psql(sql).unwrap()
    }
}

impl Subject for Shared {
    fn nature(&self) -> Nature {
        Nature {
            shared: Yes,
            exact_time: No("ages are counted by the server, whose time is real"),
            bytes: Yes,
            evicts: No("the database keeps everything until it is pruned"),
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
            assert!(patient, "{} cannot be read: {:?}", self.server.binaries(), connector.status());
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
        if let Some(pooler) = &self.pooler {
            return pooler.kill();
        }
        let socket = self.server.socket().join(".s.PGSQL.5432");
        std::fs::rename(&socket, self.server.socket().join(".s.PGSQL.1")).unwrap();
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'larder'";
        self.server.psql_at(1, ended).unwrap();
    }

    async fn mend(&self) {
        if let Some(pooler) = &self.pooler {
            return pooler.restart().await.unwrap();
        }
        let socket = self.server.socket().join(".s.PGSQL.5432");
        std::fs::rename(self.server.socket().join(".s.PGSQL.1"), socket).unwrap();
    }

    async fn rewrite(&self, cache: &str, edit: &mut (dyn FnMut(&mut Vec<u8>) + Send)) {
        let of_cache = format!("marks[1] = larder.mark('{cache}', '', '')");
        let rows =
            self.sql(&format!("SELECT mark, shape, encode(payload, 'hex') FROM larder.objects WHERE {of_cache}"));
        for row in rows.lines() {
            let mut columns = row.split('|');
            let mut column = || columns.next().unwrap();
            let (mark, shape, payload) = (column(), column(), column());
            let before: Vec<u8> = payload
                .as_bytes()
                .chunks(2)
                .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
                .collect();
            let mut bytes = before.clone();
            edit(&mut bytes);
            if bytes != before {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                self.sql(&format!(
                    "UPDATE larder.objects SET payload = decode('{hex}', 'hex') WHERE mark = {mark} AND shape = {shape}"
                ));
            }
        }
    }
}
