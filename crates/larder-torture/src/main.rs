//! `larder-torture`: nodes read, load, change and forget objects while faults happen, and a checker that knows the truth judges every
//! answer.
//!
//! ```text
//!   coordinator ── servers, proxies, faults by the seed            run.rs, stage.rs, deployment.rs, certificates.rs, primary.rs, way.rs, faults.rs
//!     │ │  └────── witness: collects reports, has them judged      witness.rs ── checker.rs ── truth.rs, demands.rs
//!     │ └───────── guard: cleans up if the coordinator is killed   guard.rs
//!   crew ───────── one process per node, each behind a proxy       crew.rs, protocol.rs
//!     │
//!   node ───────── caches, many tasks, callers that go away        node.rs, node/workload.rs
//!     │
//!   source ─────── SQLite, with every state there ever was         source.rs, objects.rs
//! ```
//!
//! On Redis objects are on one server, on a master that Sentinels watch, or in a cluster (deployment.rs).
//!
//! With `--feed` the source is a PostgreSQL database (ledger.rs), writers change it by plain SQL (writers.rs), and nodes follow it (node/follower.rs).
//!
//! The truth is in the source's file, so it survives every process that is killed. A violation is reported with a short history, and with
//! the command to run it again. The seed decides the schedule of faults and what each task does, but not how they interleave.

mod account;
mod certificates;
mod checker;
mod crew;
mod demands;
mod deployment;
mod failure;
mod faults;
mod guard;
mod ledger;
mod leftovers;
mod node;
mod objects;
mod output;
mod plan;
mod postgres;
mod primary;
mod protocol;
mod report;
mod run;
mod source;
mod stage;
mod truth;
mod way;
mod witness;
mod writers;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Breaks everything around larder's caches, again and again, and judges every answer
///
/// Several processes read, load, change and forget objects of a database. Meanwhile faults happen to their server, and to the network between
/// them and the server. Every answer is judged: was it possible? Exit code 0: nothing was found. 1: an answer was impossible, and its history
/// is printed, or something was left behind. 2: the command line cannot be used.
#[derive(Parser, Debug)]
#[command(name = "larder-torture", version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Command {
    #[command(flatten)]
    options: plan::Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts that the command starts as processes of their own.
#[derive(Subcommand, Debug)]
enum Part {
    /// One node
    #[command(hide = true)]
    Node(node::Options),
    /// Cleans up what a killed coordinator leaves behind
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
