//! How long a server's operations take.

use super::catalogue;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long a server's operations took, from being sent to being answered or given up.
///
/// Each operation is counted here in a bucket, for [`quantile`](Self::quantile). It is also recorded in the histogram
/// `larder_server_operation_seconds` of the `metrics` recorder that was installed at the last call of [`publish`](Self::publish).
#[derive(Default)]
pub struct Latencies {
    /// How many operations took at most the bound in [`BOUNDS`](Self::BOUNDS), and longer than the bound before. The last bucket is for
    /// operations that took longer than the last bound.
    buckets: [AtomicU64; Self::BOUNDS.len() + 1],
    histogram: RwLock<Option<metrics::Histogram>>,
}

impl Latencies {
    /// The bounds of the buckets, in microseconds.
    pub const BOUNDS: [u64; 14] =
        [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000];

    /// The same bounds in seconds, for a recorder that must be told the buckets of a histogram, such as the one for Prometheus.
    pub const BOUNDS_IN_SECONDS: [f64; 14] =
        [5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1, 2e-1, 5e-1, 1.0];

    /// Counts an operation that took so many microseconds.
    pub fn record(&self, micros: u64) {
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(histogram) = &*self.histogram.read() {
            histogram.record(micros as f64 / 1e6);
        }
    }

    /// How many operations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The lowest bound, in microseconds, that this part of the operations (0 to 1) did not exceed. If they exceeded all bounds, the
    /// highest bound. `None`: no operation was counted.
    ///
    /// ```
    /// let latencies = larder::telemetry::Latencies::default();
    /// for micros in [30, 80, 90, 3_000] {
    ///     latencies.record(micros);
    /// }
    /// assert_eq!(latencies.quantile(0.5), Some(100));
    /// assert_eq!(latencies.quantile(0.99), Some(5_000));
    /// ```
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bounds = Self::BOUNDS.iter().chain(Self::BOUNDS.last());
        self.buckets.iter().zip(bounds).find_map(|(bucket, bound)| {
            seen += bucket.load(Ordering::Relaxed);
            (seen >= wanted).then_some(*bound)
        })
    }

    /// From here on, operations are also recorded by the `metrics` recorder that is installed now, labelled with the server's name.
    pub fn publish(&self, server: &str) {
        catalogue::describe();
        *self.histogram.write() = Some(catalogue::SERVER_OPERATION.histogram([server]));
    }
}

impl std::fmt::Debug for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latencies").field("buckets", &self.buckets).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_of_bounds_are_the_same() {
        for (micros, seconds) in Latencies::BOUNDS.into_iter().zip(Latencies::BOUNDS_IN_SECONDS) {
            assert_eq!(micros as f64 / 1e6, seconds);
        }
    }
}
