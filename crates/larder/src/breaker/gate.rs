//! One atomic word that every caller reads: the state, the generation, and what is counted without a lock.
//!
//! ```text
//!   63 ............ 28 | 27 ........... 4 |    3     | 2 .. 0
//!       generation     |      count       | unbroken |  state
//! ```
//!
//! The meaning of `count` depends on the state. While calls are counted (closed, ramping, forced closed), it is the number of successes
//! that no bucket has yet. While half-open, it is the number of permits that are out. Otherwise it is 0.
//!
//! A failure sets `unbroken`, and a success clears it. While `unbroken` is set, the next failure continues the run of failures.
//!
//! # Invariants
//!
//! 1. A state begins and ends only under the breaker's lock ([`begin`](Gate::begin), [`end_ramp`](Gate::end_ramp)). So
//!    whoever holds the lock sees a state and a generation that stay.
//! 2. Every state begins a new generation with a count of 0, except closed after ramping, which goes on counting.
//! 3. Without the lock the word changes only by compare-and-exchange against a word of the expected generation. So no
//!    outcome and no returned permit reaches a later generation, however long its thread slept in between.
//! 4. Without the lock a success only adds to the count; it is taken away under the lock. So each success is in the
//!    count or in exactly one bucket.
//! 5. While half-open the count is the number of permits of this generation that are out, and never above the limit:
//!    only [`take_slot`](Gate::take_slot) adds, each permit that took one gives it back once.
//! 6. The count never runs over into the generation: it stops at [`MOST`].
//!
//! Everything is decided on this single word, whose modifications have one order, so `Relaxed` is enough for counting.
//! `begin` and `take_slot` release, and [`read`](Gate::read) acquires, what the breaker stored before (when to probe, when a
//! place was taken).

use super::State;
use crate::sync::atomic::{AtomicU64, Ordering};

const STATE: u64 = 0b111;
const UNBROKEN: u64 = 1 << 3;
const ONE: u64 = 1 << 4;
const COUNT: u64 = (1 << 28) - ONE;
const GENERATION: u64 = 1 << 28;

/// The highest count.
pub(super) const MOST: u32 = (1 << 24) - 1;

/// After every 1,024 successes, the caller whose success was the last of them moves them all into a bucket.
const BATCH: u32 = 1024;

/// The word of a [`Gate`], as it was read at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word(u64);

impl Word {
    pub(super) fn state(self) -> State {
        State::from_bits(self.0 & STATE)
    }

    pub(super) fn generation(self) -> u64 {
        self.0 / GENERATION
    }

    pub(super) fn count(self) -> u32 {
        // At most 24 bits: nothing is cut off.
        ((self.0 & COUNT) / ONE) as u32
    }

    /// Whether the breaker is half-open and one of `limit` places for trials is free.
    pub(super) fn has_slot(self, limit: u32) -> bool {
        self.state() == State::HalfOpen && self.count() < limit.min(MOST)
    }
}

/// What became of a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// The success was not counted, because the generation of its permit is over.
    Stale,
    Yes,
    /// The success was counted, and now the caller must move the counted successes into a bucket.
    Full,
}

#[derive(Debug)]
pub(super) struct Gate(AtomicU64);

impl Gate {
    /// Closed, generation 1.
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(GENERATION | State::Closed as u64))
    }

    #[inline]
    pub(super) fn read(&self) -> Word {
        Word(self.0.load(Ordering::Acquire))
    }

    /// Counts a success of the given generation, and ends the run of failures.
    #[inline]
    pub(super) fn success(&self, generation: u64) -> Counted {
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let word = Word(old);
            if word.generation() != generation {
                return Counted::Stale;
            }
            let more = if word.count() < MOST { old + ONE } else { old };
            match self.0.compare_exchange_weak(old, more & !UNBROKEN, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) if Word(more).count().is_multiple_of(BATCH) => return Counted::Full,
                Ok(_) => return Counted::Yes,
                Err(changed) => old = changed,
            }
        }
    }

    /// Takes one of `limit` places for trials, and returns the generation for which the place is good. A caller that later finds
    /// no place free also sees everything that was stored before this place was taken.
    pub(super) fn take_slot(&self, limit: u32) -> Option<u64> {
        let taken = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| Word(old).has_slot(limit).then(|| old + ONE));
        taken.ok().map(|old| Word(old).generation())
    }

    /// Gives a place back. Does nothing if the generation of the place is over.
    pub(super) fn give_slot(&self, generation: u64) {
        // An error means that the generation is over.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            let word = Word(old);
            (word.generation() == generation && word.count() > 0).then(|| old - ONE)
        });
    }

    /// Under the lock. Notes a failure. Returns whether the outcome before it was a failure, too.
    pub(super) fn failure(&self) -> bool {
        self.0.fetch_or(UNBROKEN, Ordering::Relaxed) & UNBROKEN != 0
    }

    /// Under the lock. Ends the run of failures without counting a success.
    pub(super) fn break_run(&self) {
        self.0.fetch_and(!UNBROKEN, Ordering::Relaxed);
    }

    /// Under the lock. Takes away and returns the successes that were counted since the last call. 0 in a state that counts none.
    pub(super) fn take_successes(&self) -> u32 {
        let word = Word(self.0.load(Ordering::Relaxed));
        if !word.state().counts() {
            return 0;
        }
        // Only the holder of the lock takes successes away or changes the state. So the count is at least as high as it was read.
        self.0.fetch_sub(word.0 & COUNT, Ordering::Relaxed);
        word.count()
    }

    /// Under the lock. Begins a state and a new generation, which is returned.
    pub(super) fn begin(&self, state: State) -> u64 {
        let generation = Word(self.0.load(Ordering::Relaxed)).generation();
        let word = generation.wrapping_add(1).wrapping_mul(GENERATION) | state as u64;
        // A swap, not a store: with a store, the tests under loom could not tell which came last when a success comes in between.
        self.0.swap(word, Ordering::AcqRel);
        Word(word).generation()
    }

    /// Under the lock, while ramping. Makes the state closed; the generation and the count stay as they are.
    pub(super) fn end_ramp(&self) -> u64 {
        const { assert!(State::Closed as u64 == 0, "clearing the state's bits makes it closed") };
        Word(self.0.fetch_and(!STATE, Ordering::AcqRel)).generation()
    }
}
