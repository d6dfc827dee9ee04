//! Random sequences of operations, played on a connector and on the [reference](mod@crate::reference) side by side.
//!
//! Where the reference misses, the connector must miss, too: that is the contract. Where the reference finds an object, the connector must
//! find it, too, unless the connector refused to store it or [may forget](Settings::may_forget) it. A sequence in which they differ is
//! shortened as far as possible, and printed in words:
//!
//! ```text
//! the connector does what the contract forbids (sequence 17 of seed 1, shortened), on `site`:
//!    1. sets id a with host b, as state 1: stored
//!    2. invalidates host b: done
//!    3. gets id a: finds id a with host b, state 1
//! the last of these must be a miss
//! ```
//!
//! The model complements the [conformance suite](mod@crate::conformance), whose cases are written by hand: random sequences combine
//! operations that nobody thought to combine. Both take the same [`Subject`].
//!
//! ```
//! # use larder::{Connector, Schema, clock::{Clock, ManualClock}, connector::memory::{Memory, MemoryOptions}};
//! # use larder_testing::conformance::{Ability::*, Nature, Subject};
//! use larder_testing::model::{self, Settings};
//! # use std::{sync::Arc, time::Duration};
//! # struct Mine { clock: Clock, hand: ManualClock }
//! # impl Subject for Mine {
//! #     fn nature(&self) -> Nature {
//! #         let no = No("each process has objects of its own");
//! #         Nature { shared: no, exact_time: Yes, bytes: no, evicts: Yes, leases: no, absences: Yes, expired: Yes, outages: no, at_once: Yes }
//! #     }
//! #     async fn open(&self, _node: usize, schema: Schema) -> Arc<dyn Connector> {
//! #         Arc::new(Memory::on_clock(schema, MemoryOptions::new(), self.clock.clone()).unwrap())
//! #     }
//! #     async fn pass(&self, time: Duration) { self.hand.advance(time); }
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! # let (clock, hand) = Clock::manual();
//! # let subject = Mine { clock, hand };
//! model::run(&subject, &Settings { sequences: 20, ..Settings::default() }).await;
//! # }
//! ```
//!
//! # Limits
//!
//! Each operation ends before the next begins, except for a change during the write of an update. Concurrent steps are covered by other
//! tests. Several releases, evictions and trouble are covered by the conformance suite.
#![allow(clippy::panic, reason = "a broken promise is a panic: the model runs inside tests")]

use crate::conformance::{Nature, Subject};
use operation::{Operation, Sequence};
use play::Play;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fmt;

mod operation;
mod play;
#[cfg(test)]
mod tests;

/// How much is tried, and whether the connector may forget.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of sequences. By default 300, or the value of `LARDER_MODEL_SEQUENCES`.
    pub sequences: u32,
    /// The most operations of a sequence. By default 40.
    pub operations: usize,
    /// The seed of the random numbers: the same seed tries the same sequences. By default 1, or the value of `LARDER_MODEL_SEED`.
    pub seed: u64,
    /// Whether the connector may miss or refuse anything, as a connector with little room or one that is switched off does. It still must
    /// not find an object where the reference misses.
    pub may_forget: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        Self {
            sequences: variable("LARDER_MODEL_SEQUENCES").and_then(|n| u32::try_from(n).ok()).unwrap_or(300),
            operations: 40,
            seed: variable("LARDER_MODEL_SEED").unwrap_or(1),
            may_forget: false,
        }
    }
}

/// The shortest sequence found in which the connector breaks the contract.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The cache, of [`Site`](crate::entries::Site) or of [`Instance`](crate::entries::Instance), and its ages.
    pub cache: String,
    /// The operations and the connector's answers, in words. The last answer is wrong.
    pub told: Vec<String>,
    /// What the last answer should have been.
    pub wanted: String,
    /// The number of the sequence, counted from 1, and the seed.
    pub found_in: (u32, u64),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, told, wanted, found_in: (sequence, seed) } = self;
        writeln!(
            f,
            "the connector does what the contract forbids (sequence {sequence} of seed {seed}, shortened), on `{cache}`:"
        )?;
        for (number, step) in told.iter().enumerate() {
            writeln!(f, "{:4}. {step}", number + 1)?;
        }
        write!(f, "{wanted}")
    }
}

impl std::error::Error for Broken {}

/// How often the connector refused to store an object, which the contract allows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// The objects that the reference has stored.
    pub(crate) stored: u64,
    /// How many of them the connector has refused.
    pub(crate) refused: u64,
}

/// Plays sequences until one breaks the contract, and shortens that one.
///
/// # Errors
///
/// The shortest sequence found that breaks the contract.
pub async fn check<S: Subject>(subject: &S, settings: &Settings) -> Result<(), Box<Broken>> {
    let mut runner = runner(settings.seed);
    let strategy = operation::sequences(subject.nature(), settings);
    let mut tally = Tally::default();
    for number in 1..=settings.sequences {
        let Ok(mut tree) = strategy.new_tree(&mut runner) else { continue };
        let Err(first) = play(subject, settings, &tree.current(), &mut tally).await else { continue };
        let shortest = shorten(subject, settings, &mut tree, *first).await;
        return Err(Box::new(Broken { found_in: (number, settings.seed), ..shortest }));
    }
    // A connector may share one fence among several keys, and so refuse a fill now and then. More than one refusal in 50 is an error.
    if !settings.may_forget && tally.refused * 50 > tally.stored {
        return Err(Box::new(Broken {
            cache: "any".to_owned(),
            told: Vec::new(),
            wanted: format!("of {} objects that nothing hindered, {} were not stored", tally.stored, tally.refused),
            found_in: (settings.sequences, settings.seed),
        }));
    }
    Ok(())
}

/// As [`check`], for use in a test.
///
/// # Panics
///
/// If the connector breaks the contract; the message is the shortest sequence found in which it does.
pub async fn run<S: Subject>(subject: &S, settings: &Settings) {
    if let Err(broken) = check(subject, settings).await {
        panic!("{broken}");
    }
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().zip(seed.to_le_bytes().into_iter().cycle()) {
        *place = byte;
    }
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

async fn play<S: Subject>(
    subject: &S,
    settings: &Settings,
    sequence: &Sequence,
    tally: &mut Tally,
) -> Result<(), Box<Broken>> {
    // With versions, what may be stored depends on which version is stored now. That is unknown if the connector may forget.
    let forgetful = settings.may_forget || (!subject.nature().exact_time.is_there() && sequence.ages());
    if sequence.versioned && !forgetful {
        Play::<crate::entries::Instance>::of(subject, forgetful, sequence, tally).await
    } else {
        Play::<crate::entries::Site>::of(subject, forgetful, sequence, tally).await
    }
}

/// Simplifies the sequence, and leaves operations out, as long as it still breaks the contract.
async fn shorten<S: Subject>(
    subject: &S,
    settings: &Settings,
    tree: &mut impl ValueTree<Value = Sequence>,
    first: Broken,
) -> Broken {
    let (mut shortest, mut sequence) = (first, tree.current());
    let mut tally = Tally::default();
    let mut tries = 0;
    'simpler: while tries < 2000 && tree.simplify() {
        loop {
            tries += 1;
            match play(subject, settings, &tree.current(), &mut tally).await {
                Err(broken) => {
                    (shortest, sequence) = (*broken, tree.current());
                    break;
                }
                Ok(()) if tree.complicate() => {}
                Ok(()) => break 'simpler,
            }
        }
    }
    // An operation that was needed in the longer sequence may not be needed in the simplified one.
    let mut place = 0;
    while place < sequence.operations.len() {
        let mut shorter = sequence.clone();
        shorter.operations.remove(place);
        match play(subject, settings, &shorter, &mut tally).await {
            Err(broken) => (shortest, sequence, place) = (*broken, shorter, 0),
            Ok(()) => place += 1,
        }
    }
    shortest
}

/// How many nodes play.
fn nodes(nature: Nature) -> usize {
    if nature.shared.is_there() { 2 } else { 1 }
}
