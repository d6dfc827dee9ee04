//! `larder demo`: an identity service whose lookups larder makes cheap, with a page that shows what happens, or, with
//! `--story`, the whole of it unattended.

mod backend;
mod checker;
mod identity;
mod instance;
mod load;
mod meter;
mod node;
mod service;
mod source;
mod story;

use crate::output;
use backend::{Backend, BackendError, Wanted};
use clap::{Args, ValueEnum};
use service::ServiceError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use story::{Report, StoryError};

/// Instances that the story needs to have enough for each of its phases.
const FEWEST_INSTANCES: u32 = 150;

/// What `larder demo` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where objects are kept [default: memory, or redis where --redis or --server is given]
    #[arg(long, value_enum)]
    connector: Option<Connector>,
    /// A server that runs already: redis://[user:password@]host[:port][/database] or
    /// redis+unix:///path. Without it the demo starts a server of its own
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// The server program to start, instead of the first redis-server or valkey-server found
    #[arg(long, value_name = "PATH", conflicts_with = "redis")]
    server: Option<PathBuf>,
    /// A larder configuration, of which the settings for the cache `instance` count; its prefix is replaced
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["connector", "redis", "server"])]
    config: Option<PathBuf>,
    /// How many instances the database has
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(i64::from(FEWEST_INSTANCES)..=99_999))]
    instances: u32,
    /// How long the database takes beside its work, in milliseconds, as one that is reached over a network does; 0: no longer than SQLite
    #[arg(long, value_name = "MILLISECONDS", default_value = "2", value_parser = latency)]
    database_latency: Duration,
    /// Play the whole story and check every answer, without HTTP; the exit code says whether all went as it should
    #[arg(long)]
    story: bool,
    /// With --story: print one JSON object
    #[arg(long, requires = "story")]
    json: bool,
    /// Where the page and the service are; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", conflicts_with = "story")]
    listen: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Connector {
    /// In this process; needs no server
    Memory,
    /// On a Redis or Valkey server
    Redis,
}

/// Why the demo cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Story(#[from] StoryError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("--redis and --server say where a server is, and --connector memory needs none; leave one of them out")]
    NoServerWanted,
    #[error("the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Options {
    /// Whether somebody reads along and logs would be in the way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.story
    }

    fn wanted(&self) -> Result<Wanted, DemoError> {
        if let Some(file) = &self.config {
            return Ok(Wanted::Configured(file.clone()));
        }
        match (self.connector, &self.redis, &self.server) {
            (None | Some(Connector::Memory), None, None) => Ok(Wanted::Memory),
            (Some(Connector::Memory), ..) => Err(DemoError::NoServerWanted),
            (_, Some(url), _) => Ok(Wanted::Server(url.clone())),
            (_, None, program) => Ok(Wanted::OwnServer(program.clone())),
        }
    }
}

/// A latency of the database: whole milliseconds, up to ten seconds.
fn latency(text: &str) -> Result<Duration, String> {
    let number = text.trim().trim_end_matches("ms").trim_end();
    let milliseconds = number.parse::<u64>().ok().filter(|milliseconds| *milliseconds <= 10_000);
    milliseconds.map(Duration::from_millis).ok_or_else(|| "give milliseconds, 0 to 10000".to_owned())
}

/// Runs the demo to its end.
pub(crate) async fn run(options: Options) -> Result<ExitCode, DemoError> {
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

async fn tell(options: &Options, backend: &Backend) -> Result<Report, StoryError> {
    if !options.json {
        let nodes = if backend.is_shared() { "two nodes" } else { "one node" };
        let (instances, name) = (options.instances, backend.name());
        output::line(format_args!("{instances} instances in SQLite; {nodes}; objects in {name}.\n"));
    }
    let heard = |phase: &story::Phase| {
        if !options.json {
            output::line(phase);
        }
    };
    story::tell(backend, (options.instances, options.database_latency), heard).await
}

fn show(report: &Report, json: bool) -> Result<(), DemoError> {
    if json {
        output::line(serde_json::to_string_pretty(report)?);
    } else {
        output::line(report);
    }
    for problem in &report.problems {
        eprintln!("larder: {problem}");
    }
    Ok(())
}
