//! The `larder` command.

mod bench;
mod check;
mod connection;
mod demo;
mod failure;
mod forget;
mod get;
mod output;
mod payload;
mod progress;
mod spelling;
mod stats;
mod target;
mod torture;
mod truncate;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// larder: an object cache that is never stale after an invalidation, and never the outage
#[derive(Parser, Debug)]
#[command(name = "larder", version, arg_required_else_help = true)]
struct Command {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// An identity service with a cache, and a page that shows what the cache does
    ///
    /// The service reads instances from SQLite and caches them. It runs on the memory connector without any server, or on Redis
    /// or Valkey (--connector redis), which the page can then stop, kill and flush.
    Demo(demo::Options),
    /// Shows what a configuration comes to, and tries each connector that it names
    ///
    /// Exit code 0: all is well. 1: there are problems; each says what to do. 2: the configuration cannot be used.
    Check(check::Options),
    /// Shows what is stored under a key, as JSON; looking does not count as use
    ///
    /// The objects of every release go to stdout, what there is to say of them to stderr. Exit code 0: a service finds it. 1: it does not,
    /// or there is a problem; the reason is told. 2: the command or the configuration cannot be used.
    ///
    /// larder get -c caches.yaml instance host acme.example
    Get(get::Options),
    /// Forgets the objects that keys lead to, under all of their keys, in every release
    ///
    /// Loads that have begun before are refused, as after an invalidation by a service. What is not answered is an error, and nothing is
    /// kept for later: repeat it.
    ///
    /// larder invalidate -c caches.yaml organization id 42 43
    Invalidate(forget::Invalidate),
    /// Makes single keys miss; the objects stay under their other keys
    Delete(forget::Delete),
    /// Forgets everything in one cache
    ///
    /// Other caches, and other data on the server, stay. Interrupted, it is ended by the services; repeat it to be sure.
    Truncate(truncate::Truncate),
    /// Removes index keys that lead to no object
    Prune(truncate::Prune),
    /// Counts what there is of each cache on the server, and says how the server is doing
    Stats(stats::Options),
    /// Measures what larder's operations cost this server, over a plain GET
    ///
    /// It stores objects under a prefix of its own, and removes them, also when it is interrupted. It does not begin where the server
    /// could run out of memory.
    Bench(bench::Options),
    /// Breaks everything around a cache, again and again, and checks every answer
    ///
    /// Several processes read, load, change and forget objects of a database, while a server of their own, and the way to it, go wrong in all
    /// the ways there are. Every answer is judged: was it possible? Exit code 0: nothing was found. 1: an answer was
    /// impossible, and its history is printed, or something was left behind. 2: the command cannot be meant.
    Torture(torture::Options),
    /// One node of `torture`
    #[command(hide = true)]
    TortureNode(torture::node::Options),
}

fn main() -> ExitCode {
    let command = Command::parse();
    log_to_stderr(match &command.task {
        Task::Demo(options) if options.is_quiet() => "off",
        Task::Demo(_) => "warn",
        _ => "off",
    });
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("larder: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(perform(command.task));
    ended.unwrap_or_else(|failure| {
        failure.to_string().lines().for_each(|line| eprintln!("larder: {line}"));
        failure.code()
    })
}

async fn perform(task: Task) -> Result<ExitCode, Failure> {
    match task {
        Task::Demo(options) => demo::run(options).await.map_err(|error| Failure::Problem(error.to_string())),
        Task::Check(options) => Ok(check::run(options).await?),
        Task::Get(options) => get::run(options).await,
        Task::Invalidate(options) => forget::invalidate(options).await,
        Task::Delete(options) => forget::delete(options).await,
        Task::Truncate(options) => truncate::truncate(options).await,
        Task::Prune(options) => truncate::prune(options).await,
        Task::Stats(options) => stats::run(options).await,
        Task::Bench(options) => bench::run(options).await,
        Task::Torture(options) => torture::run(options).await,
        Task::TortureNode(options) => torture::node::run(options).await,
    }
}

/// What `RUST_LOG` asks for, else what suits the task.
fn log_to_stderr(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
