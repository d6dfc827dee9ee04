//! What larder counts and tells: [`Stats`] per cache, published through the `metrics` facade, and `tracing` events.
//!
//! A hit costs less than a call into a metrics recorder does, so larder counts by itself, in striped counters that threads do
//! not fight over, and [publishes](Stats::publish) the totals once a second. Keys and values appear in no event above
//! debug.
//!
//! An event that an operator reads is not one of a request. A state that lasts is told when it begins and when it ends (`episode.rs`);
//! what may happen with every request is told once a minute at most (`warning_limit.rs`). Fields have one name everywhere: `cache`, `index`,
//! `server`, `error`, and `entries`: how many of what the event is about.

use crate::clock::Clock;
use crate::connector::{Delivery, Miss, Status, Stored};
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[cfg(feature = "redis")]
mod episode;
mod warning_limit;

#[cfg(feature = "redis")]
pub(crate) use episode::{Ended, Episode};
pub(crate) use warning_limit::WarningLimit;

const STRIPES: usize = 8;

/// A counter that several threads can increase without sharing a cache line.
#[derive(Debug, Default)]
pub struct Counter([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Counter {
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

/// The counters of one cache on this node.
#[derive(Debug, Default)]
pub struct Stats {
    /// Calls that looked an object up and found it: one for each get, lookup and load, and one for each key of a call for many. A call
    /// that looks more than once counts as what its first look found.
    pub hits: Counter,
    misses: [Counter; Miss::ALL.len()],
    fills: [Counter; Stored::ALL.len()],
    puts: [Counter; Stored::ALL.len()],
    /// Invalidations, deletes and truncates that were applied at once.
    pub applied: Counter,
    /// Those that went into the journal.
    pub deferred: Counter,
    /// Journal entries that were applied later.
    pub replayed: Counter,
    /// Times the journal overflowed into one truncate.
    pub overflows: Counter,
    /// Times everything was removed because the server's history or clock was not the one known.
    pub resets: Counter,
    /// Loads begun.
    pub loads: Counter,
    /// Loads that waited, because the cache was emptied lately and the database is to be spared.
    pub held_back: Counter,
    /// Callers that waited for a load that another had begun.
    pub joined: Counter,
    /// Loads that failed.
    pub load_failures: Counter,
    /// Loads whose object does not list the key it was loaded by: the cache never has it under that key.
    pub unlisted: Counter,
    /// Loads begun ahead of the end of an object's max age.
    pub refreshes: Counter,
    /// Callers of `get_or_load` who were given an object whose max age was over, since the load took too long or failed.
    pub served_expired: Counter,
    /// Callers of `get_or_load` who waited as long as they may; their loads went on.
    pub load_timeouts: Counter,
    /// Loads that waited for another node's.
    pub lease_waits: Counter,
    /// Answers of the server that point to a fault in larder or a foreign write.
    pub faults: Counter,
    /// Objects that left because there was no more room.
    pub evicted: Counter,
    /// Other objects that were invalidated because an object that was stored has one of their keys. On a server at most 15 are counted
    /// for one object.
    pub displaced: Counter,
    /// Bytes of the objects that were stored, as the connector keeps them.
    pub stored_bytes: Counter,
    /// Why objects could not be cached, as far as that was told.
    unfit: Mutex<HashMap<&'static str, WarningLimit>>,
    clock: Clock,
}

impl Stats {
    /// Calls that looked an object up and found nothing, by cause; counted like [`hits`](Self::hits).
    pub fn miss(&self, cause: Miss) -> &Counter {
        by_name(&self.misses, &Miss::ALL, cause)
    }

    /// Fills, by outcome.
    pub fn fill(&self, outcome: Stored) -> &Counter {
        by_name(&self.fills, &Stored::ALL, outcome)
    }

    /// Puts, by outcome.
    pub fn put(&self, outcome: Stored) -> &Counter {
        by_name(&self.puts, &Stored::ALL, outcome)
    }

    /// Counts what a call has found.
    pub(crate) fn looked(&self, outcome: Result<(), Miss>) {
        match outcome {
            Ok(()) => self.hits.increment(),
            Err(miss) => self.miss(miss).increment(),
        }
    }

    /// Tells an operator why an object cannot be cached: at once, and then once a minute at most for each cause, with the number of times.
    /// `details` are those of this object, without its keys and values.
    pub fn unfit(&self, cache: &str, cause: &'static str, details: impl fmt::Display) {
        let admitted = self.unfit.lock().entry(cause).or_default().admit(&self.clock, 1);
        if let Some(entries) = admitted {
            tracing::warn!(%cache, entries, error = %cause, "an object cannot be cached: {details}");
        }
    }

    /// All misses.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses.iter().map(Counter::get).sum()
    }

    /// Counts that an object, which was stored, took keys from so many other objects, which are invalidated by that; a debugger is told.
    pub fn displace(&self, cache: &str, primary: &[u8], others: u64) {
        self.displaced.add(others);
        tracing::debug!(
            cache, entries = others, key = %String::from_utf8_lossy(primary),
            "other objects had a key of the object that is stored, and are invalidated: no two objects can have one key"
        );
    }

    /// Counts how an invalidation, delete or truncate went.
    pub fn delivery(&self, delivery: Delivery) {
        match delivery {
            Delivery::Applied => self.applied.increment(),
            Delivery::Deferred => self.deferred.increment(),
        }
    }

    /// Hands the totals to the `metrics` recorder that is installed, labelled with the cache's name.
    pub fn publish(&self, cache: &str, status: &Status) {
        let count = |name: &'static str, value: u64| {
            metrics::counter!(name, "cache" => cache.to_owned()).absolute(value);
        };
        let labelled = |name: &'static str, label: &'static str, value: &'static str, total: u64| {
            metrics::counter!(name, "cache" => cache.to_owned(), label => value).absolute(total);
        };
        count("larder_hits_total", self.hits.get());
        for cause in Miss::ALL {
            labelled("larder_misses_total", "cause", cause.name(), self.miss(cause).get());
        }
        for outcome in Stored::ALL {
            labelled("larder_fills_total", "outcome", outcome.name(), self.fill(outcome).get());
            labelled("larder_puts_total", "outcome", outcome.name(), self.put(outcome).get());
        }
        labelled("larder_invalidations_total", "delivery", "applied", self.applied.get());
        labelled("larder_invalidations_total", "delivery", "deferred", self.deferred.get());
        count("larder_replayed_total", self.replayed.get());
        count("larder_journal_overflows_total", self.overflows.get());
        count("larder_resets_total", self.resets.get());
        count("larder_loads_total", self.loads.get());
        count("larder_loads_held_back_total", self.held_back.get());
        count("larder_loads_joined_total", self.joined.get());
        count("larder_load_failures_total", self.load_failures.get());
        count("larder_loads_unlisted_total", self.unlisted.get());
        count("larder_displaced_total", self.displaced.get());
        count("larder_refreshes_total", self.refreshes.get());
        count("larder_served_expired_total", self.served_expired.get());
        count("larder_load_timeouts_total", self.load_timeouts.get());
        count("larder_lease_waits_total", self.lease_waits.get());
        count("larder_faults_total", self.faults.get());
        count("larder_evicted_total", self.evicted.get());
        count("larder_stored_bytes_total", self.stored_bytes.get());
        let gauge = |name: &'static str, value: f64| {
            metrics::gauge!(name, "cache" => cache.to_owned()).set(value);
        };
        gauge("larder_journal_length", status.journal as f64);
        gauge("larder_readable", if status.readable { 1.0 } else { 0.0 });
        if let Some(objects) = status.objects {
            gauge("larder_objects", objects as f64);
        }
        if let Some(bytes) = status.bytes {
            gauge("larder_bytes", bytes as f64);
        }
    }
}

/// How long a server's operations took, from being sent to being answered or given up.
#[derive(Debug, Default)]
pub struct Latencies {
    /// The operations that took at most so long as [`BOUNDS`](Self::BOUNDS) says, and more than the bound before; the last
    /// are those that took longer than any bound.
    buckets: [AtomicU64; Self::BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Latencies {
    /// The bounds of the buckets, in microseconds.
    pub const BOUNDS: [u64; 14] =
        [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000];

    /// Counts an operation that took so many microseconds.
    pub fn record(&self, micros: u64) {
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The bound, in microseconds, that this part of the operations (0 to 1) did not exceed; the highest bound where they did.
    /// `None` where nothing was counted.
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

    /// Hands the counts to the `metrics` recorder that is installed, as the counters that a Prometheus histogram is made of.
    pub fn publish(&self, server: &str) {
        let name = "larder_server_operation_microseconds_bucket";
        let mut seen = 0;
        for (place, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            let bound = Self::BOUNDS.get(place).map_or_else(|| "+Inf".to_owned(), u64::to_string);
            metrics::counter!(name, "server" => server.to_owned(), "le" => bound).absolute(seen);
        }
        let total = |name: &'static str, total| {
            metrics::counter!(name, "server" => server.to_owned()).absolute(total);
        };
        total("larder_server_operation_microseconds_count", seen);
        total("larder_server_operation_microseconds_sum", self.sum.load(Ordering::Relaxed));
    }
}

fn by_name<'a, T: PartialEq>(counters: &'a [Counter], all: &[T], which: T) -> &'a Counter {
    static NOWHERE: Counter = Counter([const { Stripe(AtomicU64::new(0)) }; STRIPES]);
    let place = all.iter().position(|one| *one == which);
    place.and_then(|place| counters.get(place)).unwrap_or(&NOWHERE)
}
