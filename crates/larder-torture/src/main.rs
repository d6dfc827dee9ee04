//! `larder-torture`: nodes that read, load, change and forget, while everything goes wrong that can, and a checker that knows
//! the truth.
//!
//! ```text
//!   coordinator ── server, proxies, faults by the seed             run.rs, faults.rs
//!     │ │  └────── witness: hears everything, has it judged        witness.rs ── checker.rs ── truth.rs, demands.rs
//!     │ └───────── guard: clears away if the coordinator is killed guard.rs
//!   crew ───────── one process per node, each behind a proxy       crew.rs, protocol.rs
//!     │
//!   node ───────── caches, many tasks, callers that go away        node.rs, node/workload.rs
//!     │
//!   source ─────── SQLite, with every state there ever was         source.rs, objects.rs
//! ```
//!
//! The truth is in the source's file, so it survives whoever is killed. What was found is told as the shortest history there is, and
//! the command to run it again; the schedule of faults and what each task does come from the seed, how they meet does not.

mod account;
mod checker;
mod crew;
mod demands;
mod failure;
mod faults;
mod guard;
mod leftovers;
mod node;
mod objects;
mod output;
mod plan;
mod protocol;
mod report;
mod run;
mod source;
mod truth;
mod witness;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Breaks everything around larder's caches, again and again, and judges every answer
///
/// Several processes read, load, change and forget objects of a database, while a server of their own, and the way to it, go wrong in all
/// the ways there are. Every answer is judged: was it possible? Exit code 0: nothing was found. 1: an answer was
/// impossible, and its history is printed, or something was left behind. 2: the command cannot be meant.
#[derive(Parser, Debug)]
#[command(name = "larder-torture", version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Command {
    #[command(flatten)]
    options: plan::Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the command starts itself as.
#[derive(Subcommand, Debug)]
enum Part {
    /// One node
    #[command(hide = true)]
    Node(node::Options),
    /// Clears away what a coordinator leaves behind that is killed
    #[command(hide = true)]
    Guard,
}

fn main() -> ExitCode {
    let Command { options, part } = Command::parse();
    let json = options.json;
    if let Some(Part::Guard) = part {
        guard::run();
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Problem(format!("cannot start: {error}")).tell(json),
    };
    let ended = match part {
        Some(Part::Node(options)) => runtime.block_on(node::run(options)),
        _ => runtime.block_on(run::run(options)),
    };
    ended.unwrap_or_else(|failure| failure.tell(json))
}
