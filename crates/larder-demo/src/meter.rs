//! Counts lookups, where their answers came from, and how long they took.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The cache, or a load that another caller began.
    Hit,
    /// The source, read for this lookup.
    Load,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Load => "load",
        }
    }
}

/// Counts lookups. [Totals](Meter::totals) can be read by anybody. The durations since the last time are [taken](Meter::take) by one caller
/// only.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    lookups: AtomicU64,
    loads: AtomicU64,
    durations: Mutex<Measured>,
}

/// Durations by origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) hits: Durations,
    pub(crate) loads: Durations,
}

/// Lookups since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) lookups: u64,
    pub(crate) loads: u64,
}

impl Meter {
    pub(crate) fn record(&self, origin: Origin, took: Duration) {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let mut measured = self.durations();
        match origin {
            Origin::Hit => measured.hits.record(took),
            Origin::Load => {
                self.loads.fetch_add(1, Ordering::Relaxed);
                measured.loads.record(took);
            }
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals { lookups: self.lookups.load(Ordering::Relaxed), loads: self.loads.load(Ordering::Relaxed) }
    }

    pub(crate) fn take(&self) -> Measured {
        std::mem::take(&mut self.durations())
    }

    fn durations(&self) -> MutexGuard<'_, Measured> {
        self.durations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of buckets between one power of two and the next. So a quantile is right to 1 in 32, about 3 %.
const STEPS: u64 = 32;

/// A histogram of durations: nanoseconds to minutes, about 4 KB.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations {
    counts: Vec<u32>,
    total: u64,
}

/// The median and the 99th percentile, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Durations {
    pub(crate) fn record(&mut self, took: Duration) {
        let bucket = bucket(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.total += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, others) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*others);
        }
        self.total += other.total;
    }

    /// `None` if nothing was recorded.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        Some(Quantiles { p50: self.quantile(50)?, p99: self.quantile(99)? })
    }

    /// The duration, in milliseconds, that `percent` of all durations do not exceed.
    fn quantile(&self, percent: u64) -> Option<f64> {
        let wanted = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        });
        found.map(|bucket| middle(bucket) / 1e6)
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let power = u64::from((nanoseconds / STEPS).checked_ilog2().map_or(0, |power| power + 1));
    // Below 2 × STEPS a bucket is one nanosecond wide. Above, its width doubles with each power of two.
    let width = power.saturating_sub(1);
    (width * STEPS + (nanoseconds >> width)) as usize
}

fn middle(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    let width = (bucket / STEPS).saturating_sub(1);
    let low = (bucket - width * STEPS) << width;
    low as f64 + ((1_u64 << width) - 1) as f64 / 2.0
}

/// The median and the 99th percentile of exact durations, in milliseconds. Sorts the durations.
pub(crate) fn exact_quantiles(durations: &mut [Duration]) -> Option<Quantiles> {
    durations.sort_unstable();
    let at = |percent: usize| {
        let rank = (durations.len() * percent).div_ceil(100).max(1);
        durations.get(rank - 1).map(|duration| duration.as_secs_f64() * 1e3)
    };
    Some(Quantiles { p50: at(50)?, p99: at(99)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_within_a_thirty_second_of_its_middle() {
        let mut last = 0;
        for nanoseconds in (0..4096).chain([1 << 20, 123_456_789, 98_765_432_101, u64::MAX >> 8]) {
            let bucket = bucket(nanoseconds);
            assert!(bucket >= last, "{nanoseconds} is in a lower bucket than what is smaller");
            last = bucket;
            let off = (middle(bucket) - nanoseconds as f64).abs();
            assert!(off <= nanoseconds as f64 / STEPS as f64, "{nanoseconds} ns is off by {off}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut durations = Durations::default();
        let mut exact = Vec::new();
        for microseconds in 1..=1000 {
            durations.record(Duration::from_micros(microseconds));
            exact.push(Duration::from_micros(1001 - microseconds));
        }
        let Quantiles { p50, p99 } = durations.quantiles().unwrap();
        assert!((p50 - 0.5).abs() < 0.02 && (p99 - 0.99).abs() < 0.04, "{p50} {p99}");
        let Quantiles { p50, p99 } = exact_quantiles(&mut exact).unwrap();
        assert_eq!((p50, p99), (0.5, 0.99));
        assert!(Durations::default().quantiles().is_none());
        assert!(exact_quantiles(&mut []).is_none());
    }
}
