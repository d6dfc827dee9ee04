//! A server, a service on it, and the command beside it.

use larder::connector::redis::Redis;
use larder::connector::redis::{Address, RedisOptions};
use larder::{Cache, Entry, Index, Lookup, Schema, Ticket};
use larder_testing::server::{Reply, Server, ServerOptions, required};
use serde_json::Value;
use std::io::{Seek, Write};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
        self.refused_with_more(code, why);
        assert_eq!(self.logged.lines().count(), 1, "{self:?}");
    }

    /// The first line on stderr says why it did not.
    pub(crate) fn refused_with_more(&self, code: i32, why: &str) {
        let first = self.logged.lines().next().unwrap_or_default();
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(first.starts_with("larder: ") && first.contains(why), "{self:?}");
    }
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

/// Runs the command away from the services' tasks, which go on meanwhile.
pub(crate) async fn run(mut command: Command) -> Run {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    Run {
        code: output.status.code(),
        told: String::from_utf8(output.stdout).unwrap(),
        logged: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The same, with this on stdin.
pub(crate) async fn run_with(mut command: Command, input: &str) -> Run {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input.as_bytes()).unwrap();
    file.rewind().unwrap();
    command.stdin(file);
    run(command).await
}

/// `larder get …` with the server as target.
pub(crate) async fn larder(server: &Server, arguments: &[&str]) -> Run {
    let (task, rest) = arguments.split_first().unwrap();
    let url = server.url();
    run(command(&[&[*task, "--redis", &url], rest].concat())).await
}

/// One server of each kind that is installed.
pub(crate) async fn servers(options: ServerOptions) -> Vec<Server> {
    let mut servers = Vec::new();
    for binary in required().unwrap() {
        servers.push(Server::start(&binary, options.clone()).await.unwrap());
    }
    servers
}

/// A cache of a service, as a process of its own would have it.
pub(crate) struct Service<E: Entry> {
    pub(crate) cache: Cache<E>,
    _redis: Redis,
}

impl<E: Entry> Service<E> {
    pub(crate) async fn on(server: &Server) -> Self {
        Self::with_ages(server, Duration::ZERO, Duration::ZERO).await
    }

    pub(crate) async fn with_ages(server: &Server, max_age: Duration, last_use_age: Duration) -> Self {
        let address = Address::Unix(server.socket().to_owned());
        let config = RedisOptions::new(address).client_name("service".to_owned());
        let redis = Redis::open(config).unwrap();
        let schema = Schema::of::<E>().ages(max_age, last_use_age);
        let cache = Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
        let service = Self { cache, _redis: redis };
        service.readable().await;
        service
    }

    pub(crate) async fn readable(&self) {
        let begun = Instant::now();
        while !self.cache.status().readable {
            assert!(begun.elapsed() < Duration::from_secs(120), "the cache does not become readable");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn set(&self, object: E) {
        assert_eq!(self.cache.set(object).await, larder::Stored::Accepted);
    }

    /// The ticket of a load that begins now.
    pub(crate) async fn ticket<T>(&self, index: Index<E, T>) -> Ticket {
        match self.cache.lookup(index.encoded(), &b"nobody has this key"[..]).await {
            Lookup::Miss { ticket: Some(ticket), .. } => ticket,
            _ => panic!("no ticket"),
        }
    }

    /// The name of an object on the server.
    pub(crate) fn object(&self, primary: &str) -> String {
        format!("larder:{}:o{:016x}:{primary}", E::CACHE, self.cache.schema().fingerprint())
    }
}

pub(crate) async fn int(server: &Server, command: &[&str]) -> i64 {
    match server.command(command).await.unwrap() {
        Reply::Int(number) => number,
        other => panic!("{command:?}: {other:?}"),
    }
}
