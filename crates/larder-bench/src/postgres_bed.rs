//! A PostgreSQL server for the measurements, with larder and the bare client on it, and the cost of the server's work.
//!
//! The kernel counts the processor time of each session. So the figures are what an operation costs the server, even if other programs use the
//! machine. As many tasks as there are sessions, each with one operation under way at a time: a session that is never idle would hide what a
//! caller waits for.

use crate::clients::Clients;
use crate::measure::Contestant;
use crate::sample::{Sample, Shape};
use crate::testbed::{Opening, fill, part, shuffled, text, ticket};
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::{Cache, Schema};
use larder_testing::postgres::{PostgresBinaries, PostgresServer};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// How many tasks ask at once, and how many sessions larder has.
pub(crate) const TASKS: usize = 2;

/// A time-out that never fires, even on a busy machine. A time-out must be set, because arming it is part of an operation's cost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that is measured lies in memory.
const ROOM: &str = "shared_buffers = 512MB\nmax_wal_size = 4GB";

pub(crate) struct Database {
    pub(crate) server: PostgresServer,
    /// The bare client's sessions, one for each task.
    pub(crate) bare: Vec<Arc<Client>>,
    // The last field, so that the connections are dropped while the runtime still runs.
    pub(crate) clients: Clients,
}

/// The cost of one operation, in µs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Of the server's processor time.
    pub(crate) cpu: f64,
    /// How long its caller waits for it.
    pub(crate) wait: f64,
}

impl Cost {
    pub(crate) fn figures(self) -> Vec<f64> {
        vec![self.cpu, self.wait]
    }
}

/// The two figures of a contestant: what one operation costs the server, and how long its caller waits.
pub(crate) fn cpu(name: &str) -> String {
    format!("{name}, server CPU")
}

/// See [`cpu`].
pub(crate) fn wait(name: &str) -> String {
    format!("{name}, wait")
}

/// A contestant with both figures.
pub(crate) fn contestant(name: &str, mut round: impl FnMut() -> Result<Cost, String> + 'static) -> Contestant {
    Contestant::of_several([(cpu(name), "µs"), (wait(name), "µs")], move || round().map(Cost::figures))
}

impl Database {
    /// A server with larder's tables. `lines` are added to its configuration.
    pub(crate) fn start(binaries: &PostgresBinaries, lines: &[&str]) -> Result<Arc<Self>, String> {
        let clients = Clients::start(1)?;
        let lines: Vec<&str> = [ROOM].iter().chain(lines).copied().collect();
        let start = async {
            let server = PostgresServer::start(binaries, &lines).await.map_err(text)?;
            let mut bare = Vec::new();
            for _ in 0..TASKS {
                bare.push(Arc::new(session(&server).await?));
            }
            Ok::<_, String>((server, bare))
        };
        let (server, bare) = clients.run(start)?;
        let database = Arc::new(Self { server, bare, clients });
        database.sql(Postgres::SCHEMA)?;
        Ok(database)
    }

    /// Another session of the bare client.
    pub(crate) fn session(&self) -> Result<Arc<Client>, String> {
        self.clients.run(session(&self.server)).map(Arc::new)
    }

    /// Runs statements that have no parameters.
    pub(crate) fn sql(&self, statements: &str) -> Result<(), String> {
        let session = self.bare.first().ok_or("there is no session")?;
        self.clients.run(session.batch_execute(statements)).map_err(|error| told(&error))
    }

    /// A number from the database.
    pub(crate) fn number(&self, query: &str) -> Result<f64, String> {
        let session = self.bare.first().ok_or("there is no session")?;
        let row = self.clients.run(session.query_one(&format!("SELECT ({query})::float8"), &[]));
        row.and_then(|row| row.try_get(0)).map_err(|error| told(&error))
    }

    pub(crate) fn options(&self) -> Result<PostgresOptions, String> {
        PostgresOptions::from_url(&self.server.dsn()).map_err(text)
    }

    /// larder's connection to the database.
    pub(crate) fn connect(&self, sessions: usize, hints: usize) -> Result<Postgres, String> {
        let _runtime = self.clients.enter();
        let mut options =
            self.options()?.connections(sessions).hints(hints).operation_timeout(PATIENCE).max_in_flight(4096);
        options.breaker.slow_call = Duration::ZERO;
        options.breaker.ramp = Duration::ZERO;
        Postgres::open(options).map_err(text)
    }

    /// A cache that can be read.
    pub(crate) fn cache_on(&self, postgres: &Postgres, opening: Opening) -> Result<Cache<Sample>, String> {
        let schema = Schema::of::<Sample>().ages(opening.max_age, opening.last_use_age).loading(opening.loading);
        self.clients.run(async {
            let connector = postgres.connector(schema.clone()).map_err(text)?;
            let cache = Cache::new(Arc::new(connector), schema).map_err(text)?;
            readable(&cache).await?;
            Ok(cache)
        })
    }

    /// A cache with a connection of its own.
    pub(crate) fn open(&self, opening: Opening) -> Result<Cache<Sample>, String> {
        self.cache_on(&self.connect(TASKS, opening.hints)?, opening)
    }

    /// The cost of the work of `tasks` tasks that run at once. Each task returns how many operations it has done.
    pub(crate) fn cost<F, W>(&self, tasks: usize, work: F) -> Result<Cost, String>
    where
        F: Fn(usize) -> W,
        W: Future<Output = Result<usize, String>> + Send + 'static,
    {
        let before = self.server.session_cpu().map_err(text)?;
        let begun = Instant::now();
        let operations = self.clients.together(tasks, work)?;
        let took = begun.elapsed();
        let after = self.server.session_cpu().map_err(text)?;
        if operations == 0 {
            return Err("nothing was done".to_owned());
        }
        let used = |(pid, now): (&i32, &Duration)| now.saturating_sub(before.get(pid).copied().unwrap_or_default());
        let used: Duration = after.iter().map(used).sum();
        let operations = operations as f64;
        Ok(Cost {
            cpu: used.as_nanos() as f64 / 1e3 / operations,
            wait: took.as_micros() as f64 * tasks as f64 / operations,
        })
    }

    /// Fills the objects with these numbers, in random order.
    pub(crate) fn fill(
        &self,
        cache: &Cache<Sample>,
        shape: Shape,
        numbers: std::ops::Range<u32>,
    ) -> Result<(), String> {
        let ticket = self.clients.run(ticket(cache.clone()))?;
        let numbers = Arc::new(shuffled(numbers));
        let tasks = 16;
        self.clients
            .together(tasks, |task| {
                fill(cache.clone(), shape, numbers.clone(), part(numbers.len(), tasks, task), ticket)
            })
            .map(|_| ())
    }

    /// Makes a table `plain` of the bytes of all objects, found by their marks, and has the planner know all tables. Returns the marks.
    pub(crate) fn copy(&self) -> Result<Arc<Vec<i64>>, String> {
        self.sql(
            "DROP TABLE IF EXISTS public.plain; \
             CREATE UNLOGGED TABLE public.plain (id int8 PRIMARY KEY, payload bytea NOT NULL) WITH (toast_tuple_target = 8160); \
             ALTER TABLE public.plain ALTER payload SET STORAGE EXTERNAL; \
             INSERT INTO public.plain SELECT mark, payload FROM larder.objects",
        )?;
        ["public.plain", "larder.objects", "larder.keys", "larder.fences"]
            .iter()
            .try_for_each(|table| self.sql(&format!("VACUUM ANALYZE {table}")))?;
        let session = self.bare.first().ok_or("there is no session")?;
        let rows = self.clients.run(session.query("SELECT id FROM public.plain", &[])).map_err(|error| told(&error))?;
        Ok(Arc::new(rows.iter().filter_map(|row| row.try_get(0).ok()).collect()))
    }

    /// The plain SELECT of the same bytes.
    pub(crate) fn plain(self: &Arc<Self>, ids: Arc<Vec<i64>>, operations: usize) -> Contestant {
        let database = self.clone();
        contestant("SELECT", move || {
            database.cost(TASKS, |task| {
                let (session, ids) = (database.bare.get(task).cloned(), ids.clone());
                async move {
                    let session = session.ok_or("there is no session")?;
                    let statement = session.prepare("SELECT payload FROM public.plain WHERE id = $1").await;
                    let statement = statement.map_err(|error| told(&error))?;
                    for _ in 0..operations / TASKS {
                        let Some(id) = fastrand::choice(ids.iter()) else { continue };
                        let row = session.query_one(&statement, &[id]).await.map_err(|error| told(&error))?;
                        let _: &[u8] = row.try_get(0).map_err(|error| told(&error))?;
                    }
                    Ok(operations / TASKS)
                }
            })
        })
    }
}

async fn session(server: &PostgresServer) -> Result<Client, String> {
    let (client, connection) = tokio_postgres::connect(&server.dsn(), NoTls).await.map_err(|error| told(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

/// Waits until the cache can be read.
pub(crate) async fn readable(cache: &Cache<Sample>) -> Result<(), String> {
    for _ in 0..2_000 {
        if cache.status().readable {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err("larder has not connected within 10 seconds".to_owned())
}

/// What the server says. The error alone says only that there is one.
pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}
