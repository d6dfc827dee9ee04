//! The `larder` command.

mod bench;
mod check;
mod completions;
mod configuration;
mod connection;
mod failure;
mod feed;
mod forget;
mod get;
mod manual;
mod output;
mod payload;
mod postgres;
mod progress;
mod server;
mod spelling;
mod stats;
mod target;
mod truncate;

use clap::{CommandFactory, Parser, Subcommand};
use failure::Failure;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// larder: an object cache that is never stale after an invalidation, and never the outage
#[derive(Parser, Debug)]
#[command(name = "larder", version, arg_required_else_help = true)]
struct Command {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Shows the effective configuration, and tests each connector that it names
    ///
    /// What the server does not let this command find out is reported as not known. Exit code 0: no problem was found. 1: there are
    /// problems; each says what to do. 2: the configuration cannot be used.
    Check(check::Options),
    /// Shows what is stored under a key, as JSON; this does not count as use
    ///
    /// The objects of every release go to stdout, remarks about them to stderr. The cache's name is compared as in a configuration: case,
    /// _ and - make no difference. Each release registers the names of its indexes when it connects. So this command knows whether the index
    /// exists, unless a release has not registered or a Redis server has evicted the names.
    /// Exit code 0: a service finds the object. 1: it does not, or there is no such cache or index, or there is a problem; the reason is
    /// printed. 2: the command or the configuration cannot be used.
    ///
    /// larder get -c caches.yaml instance host acme.example
    Get(get::Options),
    /// Forgets the objects that keys lead to, under all of their keys, in every release
    ///
    /// Loads that began earlier are refused, as after an invalidation by a service. An index that does not exist is an error. If the server
    /// does not answer, that is an error, and nothing is kept for later: repeat the command.
    ///
    /// larder invalidate -c caches.yaml organization id 42 43
    Invalidate(forget::Invalidate),
    /// Makes single keys miss; the objects stay under their other keys
    Delete(forget::Delete),
    /// Forgets everything in one cache
    ///
    /// Other caches, and other data on the server, stay. On Redis, a damaged clock is replaced by a new one; if the command is interrupted, the
    /// services finish the truncate: repeat the command to be sure. In PostgreSQL nothing of the cache is served any more at once, and the
    /// services remove the rows later.
    Truncate(truncate::Truncate),
    /// Removes index keys that lead to no object
    ///
    /// The caches of a PostgreSQL database share their tables. There the command removes what has ended, of all of them at once.
    Prune(truncate::Prune),
    /// Counts the keys of each cache on the server, and shows the state of the server
    ///
    /// Of large tables in PostgreSQL a part is read, and what is estimated from it is marked by ~. On Redis, a cache whose clock cannot be read has a line that says why. The other caches are counted all the same.
    /// In a cluster, the primaries are counted one after the other. A primary that cannot be reached is named on stderr, the others are counted all the same, and the exit code is 1.
    Stats(stats::Options),
    /// Measures what larder's operations cost this server, compared with a plain GET or SELECT
    ///
    /// The command stores objects under a prefix of its own, in PostgreSQL in a cache and a table of its own, and removes them at the end, even if it
    /// is interrupted. In a cluster it measures one primary, which it names. It refuses to start if a Redis server could run out of memory. A PostgreSQL server tells its processor time only to a user
    /// who may read its files (pg_read_server_files); for others the time of the operations is compared.
    Bench(bench::Options),
    /// Prepares PostgreSQL databases for larder
    #[command(subcommand)]
    Postgres(postgres::Task),
    /// Shows, installs and removes the triggers that tell a feed of changed tables
    #[command(subcommand)]
    Feed(feed::Task),
    /// Prints a script that completes this command in a shell
    ///
    /// larder completions bash > /usr/share/bash-completion/completions/larder
    Completions(completions::Options),
    /// Prints the manual page, or writes one for each command into a folder
    ///
    /// larder man /usr/local/share/man/man1
    Man(manual::Options),
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let json = asks_for_json(&arguments);
    let command = match Command::try_parse_from(&arguments) {
        Ok(command) => command,
        Err(error) if json && error.use_stderr() => {
            let _ = error.print();
            let text = error.to_string();
            let what = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
            return Failure::Usage(what.to_owned()).tell_programs(json);
        }
        Err(error) => error.exit(),
    };
    log_to_stderr();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Problem(format!("cannot start: {error}")).tell(json),
    };
    let ended = runtime.block_on(perform(command.task));
    ended.unwrap_or_else(|failure| failure.tell(json))
}

/// The command without its hidden subcommands, for the manual and for completion.
fn shown() -> clap::Command {
    let whole = Command::command();
    let shown: Vec<clap::Command> = whole.get_subcommands().filter(|task| !task.is_hide_set()).cloned().collect();
    let about = whole.get_about().cloned().unwrap_or_default();
    clap::Command::new("larder").version(env!("CARGO_PKG_VERSION")).about(about).subcommands(shown)
}

/// Whether `--json` was given. This must be known even if the rest of the command line is wrong.
fn asks_for_json(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

async fn perform(task: Task) -> Result<ExitCode, Failure> {
    match task {
        Task::Check(options) => Ok(check::run(options).await?),
        Task::Get(options) => get::run(options).await,
        Task::Invalidate(options) => forget::invalidate(options).await,
        Task::Delete(options) => forget::delete(options).await,
        Task::Truncate(options) => truncate::truncate(options).await,
        Task::Prune(options) => truncate::prune(options).await,
        Task::Stats(options) => stats::run(options).await,
        Task::Bench(options) => bench::run(options).await,
        Task::Postgres(task) => postgres::run(task).await,
        Task::Feed(task) => feed::run(task).await,
        Task::Completions(options) => completions::run(&options),
        Task::Man(options) => manual::run(&options),
    }
}

/// Logs what `RUST_LOG` asks for, and nothing by default: the command itself reports what went wrong.
fn log_to_stderr() {
    let asked = std::env::var("RUST_LOG").ok().and_then(|asked| asked.parse::<Targets>().ok());
    // Colours only on a terminal, and not if `NO_COLOR` is set (no-color.org).
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let written = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(written).with(asked.unwrap_or_default()).init();
}
