//! The demo: an identity service that caches its lookups with larder, and a page that shows what happens. With `--story` it runs unattended
//! and checks everything.
//!
//! ```text
//!   service (HTTP, the page)    story (phase by phase)
//!        └───────────┬───────────────┘
//!                identity          look up, change, delete; every answer passes the checker
//!          ┌─────────┼─────────┐
//!       source     node     checker
//!   (the truth)  (a cache)  (judges)
//! ```

mod backend;
mod checker;
mod followed;
mod identity;
mod instance;
mod leftovers;
mod load;
mod meter;
mod node;
mod own_server;
mod service;
mod source;
mod story;

use backend::{Backend, BackendError, Through, Wanted};
use clap::{Parser, ValueEnum};
use own_server::Servers;
use service::ServiceError;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use story::{Report, StoryError};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The story needs this many instances for all its phases.
const FEWEST_INSTANCES: u32 = 150;

/// An identity service with a cache, and a page that shows what the cache does
///
/// The service reads instances from a database of its own and caches them. It runs on the memory connector without any server, on
/// Redis or Valkey (--connector redis), with memory in front of it (--connector tiered), in front of Sentinels or a cluster
/// (--connector tiered-sentinel or tiered-cluster), or on PostgreSQL (--connector postgres). The page can then stop and kill the server.
#[derive(Parser, Clone, Debug)]
#[command(name = "larder-demo", version)]
struct Options {
    /// Where objects are stored [default: memory; redis if --redis or --server is given; postgres if --postgres is given]
    #[arg(long, value_enum)]
    connector: Option<Connector>,
    /// A server that is already running: `redis://user:password@host:port/database` or
    /// redis+unix:///path. Without it the demo starts a server of its own
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// A PostgreSQL database that is already there: `postgres://user:password@host:port/database`. The
    /// demo makes larder's tables in it, unless they are there, and leaves them
    #[arg(long, value_name = "URL", conflicts_with = "redis")]
    postgres: Option<String>,
    /// The server program to start, instead of the first redis-server or valkey-server found; with
    /// --connector postgres or --feed the folder of the programs, instead of the newest version found
    #[arg(long, value_name = "PATH", conflicts_with_all = ["redis", "postgres"])]
    server: Option<PathBuf>,
    /// A larder configuration; its settings for the cache `instance` are used, and its prefix is replaced
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["connector", "redis", "postgres", "server"])]
    config: Option<PathBuf>,
    /// Instead: two nodes that keep instances in memory, and follow the feed of a PostgreSQL server of the demo's
    /// own; rows change by plain SQL, and the page or the story says when each node knew
    #[arg(long, conflicts_with_all = ["connector", "redis", "postgres", "config", "database_latency"])]
    feed: bool,
    /// How many instances the database has
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(i64::from(FEWEST_INSTANCES)..=99_999))]
    instances: u32,
    /// How long the database takes to answer, in milliseconds, like a database behind a network; 0: it answers at once
    #[arg(long, value_name = "MILLISECONDS", default_value = "2", value_parser = latency)]
    database_latency: Duration,
    /// Play the whole story and check every answer, without HTTP; the exit code says whether everything went right
    #[arg(long)]
    story: bool,
    /// With --story: print one JSON object
    #[arg(long, requires = "story")]
    json: bool,
    /// The address of the page and the service; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", conflicts_with = "story")]
    listen: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Connector {
    /// In this process; needs no server
    Memory,
    /// On a Redis or Valkey server
    Redis,
    /// On a Redis or Valkey server, and in the memory of each node in front of it
    Tiered,
    /// The same in front of a master with a replica and three Sentinels, which the demo starts
    TieredSentinel,
    /// The same in front of a cluster of three primaries with a replica each, which the demo starts
    TieredCluster,
    /// On a PostgreSQL server
    Postgres,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Story(#[from] StoryError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Followed(#[from] followed::FollowedError),
    #[error("--redis, --postgres and --server name a server, but --connector memory needs none; leave one of them out")]
    NoServerWanted,
    #[error("--{option} names a server of another kind than --connector {connector}; leave one of them out")]
    OtherServer { option: &'static str, connector: &'static str },
    #[error(
        "--{option} names servers that run already, and --connector {connector} starts its own; name them in a file, and give --config FILE"
    )]
    OwnServers { option: &'static str, connector: &'static str },
    #[error("the demo cannot start: {0}")]
    Runtime(std::io::Error),
    #[error("the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Options {
    fn wanted(&self) -> Result<Wanted, DemoError> {
        if let Some(file) = &self.config {
            return Ok(Wanted::Configured(file.clone()));
        }
        let given = (self.redis.as_ref(), self.postgres.as_ref());
        let connector = self.connector.unwrap_or(match (given, &self.server) {
            ((Some(_), _), _) | (_, Some(_)) => Connector::Redis,
            ((_, Some(_)), _) => Connector::Postgres,
            _ => Connector::Memory,
        });
        match (connector, given) {
            (Connector::Memory, (None, None)) if self.server.is_none() => Ok(Wanted::Memory),
            (Connector::Memory, _) => Err(DemoError::NoServerWanted),
            (Connector::Redis, _) => self.wanted_redis(Through::Redis, "redis"),
            (Connector::Tiered, _) => self.wanted_redis(Through::Tiered, "tiered"),
            (Connector::TieredSentinel, _) => self.wanted_several(Servers::Sentinel, "tiered-sentinel"),
            (Connector::TieredCluster, _) => self.wanted_several(Servers::Cluster, "tiered-cluster"),
            (Connector::Postgres, (Some(_), _)) => {
                Err(DemoError::OtherServer { option: "redis", connector: "postgres" })
            }
            (Connector::Postgres, (_, Some(url))) => Ok(Wanted::Postgres(url.clone())),
            (Connector::Postgres, _) => Ok(Wanted::OwnPostgres(self.server.clone())),
        }
    }

    fn wanted_redis(&self, through: Through, connector: &'static str) -> Result<Wanted, DemoError> {
        match (&self.redis, &self.postgres) {
            (_, Some(_)) => Err(DemoError::OtherServer { option: "postgres", connector }),
            (Some(url), None) => Ok(Wanted::Redis { url: url.clone(), through }),
            (None, None) => Ok(Wanted::OwnRedis { program: self.server.clone(), servers: Servers::One, through }),
        }
    }

    /// Several servers, which are always the demo's own. Those that are there already need a file.
    fn wanted_several(&self, servers: Servers, connector: &'static str) -> Result<Wanted, DemoError> {
        let option = match (&self.redis, &self.postgres) {
            (None, None) => {
                return Ok(Wanted::OwnRedis { program: self.server.clone(), servers, through: Through::Tiered });
            }
            (Some(_), _) => "redis",
            (None, Some(_)) => "postgres",
        };
        Err(DemoError::OwnServers { option, connector })
    }
}

/// A latency of the database: whole milliseconds, up to ten seconds.
fn latency(text: &str) -> Result<Duration, String> {
    let number = text.trim().trim_end_matches("ms").trim_end();
    let milliseconds = number.parse::<u64>().ok().filter(|milliseconds| *milliseconds <= 10_000);
    milliseconds.map(Duration::from_millis).ok_or_else(|| "give milliseconds, 0 to 10000".to_owned())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let json = options.json;
    // Log events would disturb a person who reads the story.
    log_to_stderr(if options.story { LevelFilter::OFF } else { LevelFilter::WARN });
    let ended = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(options)),
        Err(error) => Err(DemoError::Runtime(error)),
    };
    ended.unwrap_or_else(|error| {
        let text = error.to_string();
        text.lines().for_each(complain);
        if json {
            print(serde_json::json!({ "error": text, "exit_code": 1 }));
        }
        ExitCode::FAILURE
    })
}

/// Runs the demo to its end.
async fn run(options: Options) -> Result<ExitCode, DemoError> {
    if options.feed {
        return follow(options).await;
    }
    let backend = Backend::open(options.wanted()?, options.story).await?;
    backend.reach().await?;
    if !options.story {
        service::serve(backend, (options.instances, options.database_latency), &options.listen).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = tell(&options, &backend).await?;
    backend.clean_up().await;
    show(&report, options.json)?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the demo of the feed to its end.
async fn follow(options: Options) -> Result<ExitCode, DemoError> {
    let followed = followed::Followed::open(options.instances, options.server).await?;
    if !options.story {
        followed::serve(followed, &options.listen).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let heard = |line: &str| {
        if !options.json {
            print(line);
        }
    };
    let told = followed::tell(&followed, heard).await?;
    if options.json {
        print(serde_json::to_string_pretty(&told)?);
    }
    told.problems.iter().for_each(|problem| complain(problem));
    Ok(if told.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn tell(options: &Options, backend: &Backend) -> Result<Report, StoryError> {
    if !options.json {
        let nodes = if backend.is_shared() { "two nodes" } else { "one node" };
        let (instances, name) = (options.instances, backend.name());
        print(format_args!("{instances} instances; {nodes}; objects in {name}.\n"));
    }
    let heard = |phase: &story::Phase| {
        if !options.json {
            print(phase);
        }
    };
    story::tell(backend, (options.instances, options.database_latency), heard).await
}

fn show(report: &Report, json: bool) -> Result<(), DemoError> {
    if json {
        print(serde_json::to_string_pretty(report)?);
    } else {
        print(report);
    }
    report.problems.iter().for_each(|problem| complain(problem));
    Ok(())
}

/// Prints a line to stdout. Unlike `println!`, this does not panic if the reader has gone away (`… | head`).
fn print(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

fn complain(line: &str) {
    eprintln!("larder-demo: {line}");
}

/// Logs what `RUST_LOG` asks for, and by default everything from `level` up.
fn log_to_stderr(level: LevelFilter) {
    let asked = std::env::var("RUST_LOG").ok().and_then(|asked| asked.parse::<Targets>().ok());
    // Colours only on a terminal, and not if `NO_COLOR` is set (no-color.org).
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let written = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(written)
        .with(asked.unwrap_or_else(|| Targets::new().with_default(level)))
        .init();
}
