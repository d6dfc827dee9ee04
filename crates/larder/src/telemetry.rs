//! What larder counts and tells: counters that are published through the `metrics` facade, and `tracing` events.
//!
//! A hit costs less than a call into a metrics recorder does, so larder counts by itself, in striped counters that threads do
//! not fight over, and publishes the totals once a second. Keys and values appear in no event above
//! debug.
//!
//! An event that an operator reads is not one of a request. A state that lasts is told when it begins and when it ends (`episode.rs`);
//! what may happen with every request is told once a minute at most (`warning_limit.rs`). Fields have one name everywhere: `cache`, `index`,
//! `server`, `error`, and `entries`: how many of what the event is about.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(crate) mod catalogue;
#[cfg(feature = "remote")]
mod episode;
mod latencies;
mod warning_limit;

#[cfg(feature = "remote")]
pub(crate) use episode::{Ended, Episode};
pub use latencies::Latencies;
pub(crate) use warning_limit::WarningLimit;

const STRIPES: usize = 8;

/// A counter that several threads can increase without sharing a cache line.
#[derive(Debug, Default)]
pub struct Counter([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Counter {
    /// A counter of nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { Stripe(AtomicU64::new(0)) }; STRIPES])
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    #[inline]
    pub fn add(&self, count: u64) {
        if let Some(stripe) = self.0.get(stripe()) {
            stripe.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The total so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES));
    MINE.with(Cell::get)
}
