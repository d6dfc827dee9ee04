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
use tokio::sync::OnceCell;

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
    /// Opened when something is to be damaged.
    session: OnceCell<tokio_postgres::Client>,
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
            all.push(Self { nodes, pooler, session: OnceCell::new(), server });
        }
        all
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
        let session = self.session.get_or_init(|| session(self.server.dsn())).await;
        let rows = "SELECT mark, shape, payload FROM larder.objects WHERE marks[1] = larder.mark($1, '', '')";
        for row in session.query(rows, &[&cache]).await.unwrap() {
            let (mark, shape, before): (i64, i64, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
            let mut bytes = before.clone();
            edit(&mut bytes);
            if bytes != before {
                let update = "UPDATE larder.objects SET payload = $1 WHERE mark = $2 AND shape = $3";
                session.execute(update, &[&bytes, &mark, &shape]).await.unwrap();
            }
        }
    }
}

/// A session that damages what is stored.
async fn session(dsn: String) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
