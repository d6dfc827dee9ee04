//! Counters, which larder publishes through the `metrics` facade, and `tracing` events.
//!
//! A call into a metrics recorder costs more than a hit. So larder counts by itself, in striped counters that threads do not contend for,
//! and publishes the totals once a second. Keys and values appear in no event above the level debug.
//!
//! An operator never gets one event for each request. A state that lasts is told when it begins and when it ends (`episode.rs`). Something
//! that may happen with every request is told at most once a minute (`warning_limit.rs`). Fields have the same names in all events:
//! `cache`, `index`, `server`, `error`, and `entries`, the number of cases that the event stands for.

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
    /// A counter at zero.
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
