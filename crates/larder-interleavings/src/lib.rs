//! The parts of larder that several threads use at once, compiled over the locks and atomics of loom, which tries every order of the
//! threads' steps, and whatever the memory model lets a load return.
//!
//! They are larder's own files, not copies. Those take what threads share from `crate::sync`, which is parking_lot and std in
//! larder and loom here. So nothing of this is in larder, and no `--cfg loom` is needed, which other crates of the tree would hear as well.
//!
//! ```text
//! cargo test -p larder-interleavings                              orders with at most two preemptions: seconds
//! LOOM_MAX_PREEMPTIONS=4 cargo test -p larder-interleavings       more of them: minutes to hours
//! ```
//!
//! # Limits
//!
//! Where loom has to choose between two threads it switches away from one that could go on at most so often (a *preemption*);
//! faults that need more are not found. What is shared by other means than `crate::sync`, such as the count of references of an `Arc`,
//! is not explored. Neither is what runs in tasks: single flight and the connection's supervisor.

// Clippy builds even this library's own tests, which there are none of: those of the shared files are larder's.
#![cfg(not(test))]

mod journal_door;
mod sync;

pub use journal_door::{Replay, Waits};
pub use larder::contract;
pub use shared::{breaker, clock, connector};

use shared::connector::remote::journal;
use shared::{duration, options, protection};

#[path = "../../larder/src"]
#[allow(dead_code, missing_docs, unreachable_pub, unexpected_cfgs, reason = "larder uses more of it, and has features")]
mod shared {
    pub mod breaker;
    pub mod clock;
    pub(crate) mod duration;
    pub(crate) mod options;
    pub(crate) mod protection;

    /// Of the connectors, the one that threads share; of what connectors with a server share, the journal.
    pub mod connector {
        pub mod memory;
        pub mod remote {
            pub mod journal;
        }
    }
}

/// The memory connector is a shared file, and the contract that it answers in is larder's.
impl From<options::OptionError> for contract::OptionError {
    fn from(error: options::OptionError) -> Self {
        Self::new("options", error, "what is accepted")
    }
}

/// Runs `scenario` in every order of its threads' steps with at most two preemptions, or as many as `LOOM_MAX_PREEMPTIONS` says.
///
/// # Panics
///
/// If the scenario does in one of them.
pub fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    explore_up_to(2, scenario);
}

/// Like [`explore`], with so many preemptions where `LOOM_MAX_PREEMPTIONS` does not say: fewer where there are three threads, or
/// more, where a fault needs them.
///
/// # Panics
///
/// As [`explore`].
pub fn explore_up_to(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    // Steps of one order: to store an object takes a hundred.
    builder.max_branches = 10_000;
    builder.check(scenario);
}
