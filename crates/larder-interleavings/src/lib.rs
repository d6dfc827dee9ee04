//! Tests the parts of larder that several threads use at once, under loom. Loom replaces locks and atomics. It tries every order of
//! the threads' steps, and every value that the memory model lets a load return.
//!
//! This crate compiles larder's own files, not copies. These files take locks and atomics from `crate::sync`, which is parking_lot and
//! std in larder, and loom here. So larder itself contains nothing of loom. And no `--cfg loom` is needed, which would change other
//! crates of the dependency tree as well.
//!
//! ```text
//! cargo test -p larder-interleavings                              orders with at most two preemptions: seconds
//! LOOM_MAX_PREEMPTIONS=4 cargo test -p larder-interleavings       more of them: minutes to hours
//! ```
//!
//! # Limits
//!
//! A *preemption* is a switch away from a thread that could have gone on. Loom tries only orders with a limited number of preemptions.
//! A fault that needs more preemptions is not found. Loom explores only what comes from `crate::sync`: not, for example, the count of
//! references of an `Arc`. Code that runs in tasks is not explored either: single flight and the connection's supervisor.

// Clippy would build the unit tests in the shared files as tests of this crate. They are tests of larder, so nothing is built here.
#![cfg(not(test))]

mod journal_door;
mod sync;

pub use journal_door::{Replay, Waits};
pub use larder::contract;
pub use shared::{breaker, clock, connector};

use shared::connector::remote::journal;
use shared::{duration, option_error, protection};

#[path = "../../larder/src"]
#[allow(dead_code, missing_docs, unreachable_pub, unexpected_cfgs, reason = "larder uses more of it, and has features")]
mod shared {
    pub mod breaker;
    pub mod clock;
    pub(crate) mod duration;
    pub(crate) mod option_error;
    pub(crate) mod protection;

    /// The memory connector, and the journal of connectors with a server.
    pub mod connector {
        pub mod memory;
        pub mod remote {
            pub mod journal;
        }
    }
}

/// The memory connector is a shared file, and the contract that it answers in is larder's.
impl From<option_error::OptionError> for contract::OptionError {
    fn from(error: option_error::OptionError) -> Self {
        Self::new("options", error, "what is accepted")
    }
}

/// Runs `scenario` in every order of its threads' steps with at most two preemptions, or as many as `LOOM_MAX_PREEMPTIONS` says.
///
/// # Panics
///
/// If the scenario panics in one of these orders.
pub fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    explore_up_to(2, scenario);
}

/// Like [`explore`], but with at most `preemptions` preemptions, if `LOOM_MAX_PREEMPTIONS` is not set. Tests with three threads take
/// fewer; tests of a fault that needs more preemptions take more.
///
/// # Panics
///
/// As [`explore`].
pub fn explore_up_to(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    // The most steps in one order. To store an object takes about a hundred.
    builder.max_branches = 10_000;
    builder.check(scenario);
}
