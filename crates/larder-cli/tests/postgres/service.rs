//! A server, a service on it, and the command beside it.

use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::{Cache, Entry, Index, Lookup, Schema, Stored, Ticket};
use larder_testing::postgres::{PostgresServer, required};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than anything takes, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a run of the command has come to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) told: String,
    pub(crate) logged: String,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.told).unwrap_or_else(|error| panic!("not one JSON value: {error}: {self:?}"))
    }

    /// The command did what it was told.
    pub(crate) fn done(self) -> Self {
        assert_eq!((self.code, self.logged.as_str()), (Some(0), ""), "{self:?}");
        self
    }

    /// One line on stderr says why it did not.
    pub(crate) fn refused(&self, code: i32, why: &str) {
        assert_eq!((self.code, self.logged.lines().count()), (Some(code), 1), "{self:?}");
        assert!(self.logged.starts_with("larder: ") && self.logged.contains(why), "{self:?}");
    }
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

pub(crate) fn run(mut command: Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code(),
        told: String::from_utf8(output.stdout).unwrap(),
        logged: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn larder(arguments: &[&str]) -> Run {
    run(command(arguments))
}

/// The same with a configuration.
pub(crate) fn with_file(text: &str, arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("caches.yaml");
    fs::write(&path, text).unwrap();
    larder(&[arguments, &["-c", path.to_str().unwrap()]].concat())
}

/// A configuration with this database, and more settings of the connector.
pub(crate) fn yaml(url: &str, more: &str) -> String {
    format!(
        "connectors: {{ postgres: {{ url: '{url}', connect_timeout: 20s, operation_timeout: 20s{more} }} }}\n\
         caches: {{ instance: {{ connector: postgres, max_age: 1h }} }}\n"
    )
}

/// The server's database, as another user.
pub(crate) fn on(server: &PostgresServer, user: &str) -> String {
    server.dsn().replace("user=larder", &format!("user={user}"))
}

/// Runs the command on the server's database, away from the services' tasks, which go on meanwhile.
pub(crate) async fn at(server: &PostgresServer, arguments: &[&str]) -> Run {
    with(&server.dsn(), arguments).await
}

/// The same with this URL.
pub(crate) async fn with(url: &str, arguments: &[&str]) -> Run {
    let configuration = yaml(url, "");
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || with_file(&configuration, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// One server of each version that is installed.
pub(crate) async fn servers() -> Vec<PostgresServer> {
    let mut servers = Vec::new();
    for binaries in required().unwrap() {
        servers.push(PostgresServer::start(&binaries, &["max_prepared_transactions = 10"]).await.unwrap());
    }
    servers
}

pub(crate) fn options(url: &str) -> PostgresOptions {
    let mut options = PostgresOptions::from_url(url).unwrap();
    options.breaker.slow_call = PATIENCE;
    options.operation_timeout(PATIENCE).connect_timeout(PATIENCE)
}

/// A cache of a service, as a process of its own would have it.
pub(crate) struct Service<E: Entry> {
    pub(crate) cache: Cache<E>,
    _postgres: Postgres,
}

impl<E: Entry> Service<E> {
    pub(crate) async fn on(server: &PostgresServer) -> Self {
        Self::with_ages(server, Duration::ZERO, Duration::ZERO).await
    }

    pub(crate) async fn with_ages(server: &PostgresServer, max_age: Duration, last_use_age: Duration) -> Self {
        Self::of(server, Schema::of::<E>().ages(max_age, last_use_age)).await
    }

    pub(crate) async fn of(server: &PostgresServer, schema: Schema) -> Self {
        let postgres = Postgres::open(options(&server.dsn())).unwrap();
        let cache = Cache::new(Arc::new(postgres.connector(schema.clone()).unwrap()), schema).unwrap();
        until("the cache can be read", || cache.status().readable).await;
        Self { cache, _postgres: postgres }
    }

    pub(crate) async fn set(&self, object: E) {
        assert_eq!(self.cache.set(object).await, Stored::Accepted);
    }

    /// The ticket of a load that begins now.
    pub(crate) async fn ticket<T>(&self, index: Index<E, T>) -> Ticket {
        match self.cache.lookup(index.encoded(), &b"nobody has this key"[..]).await {
            Lookup::Miss { ticket: Some(ticket), .. } => ticket,
            _ => panic!("no ticket"),
        }
    }

    pub(crate) fn release(&self) -> String {
        format!("{:016x}", self.cache.schema().fingerprint())
    }
}

/// Waits, without asking how long it takes.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(120), "not seen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
