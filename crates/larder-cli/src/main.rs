//! The `larder` command.

mod check;
mod connection;
mod demo;
mod output;

use clap::{Parser, Subcommand};
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
}

fn main() -> ExitCode {
    let command = Command::parse();
    log_to_stderr(match &command.task {
        Task::Demo(options) if options.is_quiet() => "off",
        Task::Demo(_) => "warn",
        Task::Check(_) => "off",
    });
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let ended = match command.task {
        Task::Demo(options) => runtime.block_on(demo::run(options)).map_err(|error| error.to_string()),
        Task::Check(options) => runtime.block_on(check::run(options)).map_err(|error| error.to_string()),
    };
    ended.unwrap_or_else(|error| fail(&error))
}

/// What `RUST_LOG` asks for, else what suits the task.
fn log_to_stderr(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

fn fail(error: &str) -> ExitCode {
    eprintln!("larder: {error}");
    ExitCode::FAILURE
}
