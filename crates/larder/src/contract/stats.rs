//! [`Stats`]: the counters of one cache on this node.

use super::{Delivery, Miss, Status, Stored};
use crate::clock::Clock;
use crate::telemetry::{Counter, WarningLimit, catalogue};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;

/// The counters of one cache on this node.
#[derive(Debug, Default)]
pub struct Stats {
    /// Calls that looked an object up and found it: one for each get, lookup and load, and one for each key of a call for several keys. A
    /// call that looks more than once counts by the result of its first look.
    pub hits: Counter,
    misses: [Counter; Miss::ALL.len()],
    fills: [Counter; Stored::ALL.len()],
    puts: [Counter; Stored::ALL.len()],
    /// Invalidations, deletes and truncates that were applied at once.
    pub applied: Counter,
    /// Invalidations, deletes and truncates that went into the journal.
    pub deferred: Counter,
    /// Journal entries that were applied later.
    pub replayed: Counter,
    /// Times that the journal overflowed and became one truncate.
    pub overflows: Counter,
    /// Times that everything was removed because the server's history or clock was another one than this node knew.
    pub resets: Counter,
    /// Loads that began.
    pub loads: Counter,
    /// Loads that had to wait because the cache was emptied lately and the database has to be spared.
    pub held_back: Counter,
    /// Callers that waited for a load that another caller had begun.
    pub joined: Counter,
    /// Loads that failed.
    pub load_failures: Counter,
    /// Loads whose object does not list the key that it was loaded by. The cache never has such an object under that key.
    pub unlisted: Counter,
    /// Loads that began before the end of an object's max age.
    pub refreshes: Counter,
    /// Callers of `get_or_load` that were given an object whose max age was over, because the load took too long or failed.
    pub served_expired: Counter,
    /// Callers that waited for as long as [`LoadOptions::hard_timeout`](crate::LoadOptions::hard_timeout) allows. Their loads went on.
    pub load_timeouts: Counter,
    /// Loads that waited for another node's load.
    pub lease_waits: Counter,
    /// Answers of the server that point to a bug in larder or to a foreign write.
    pub faults: Counter,
    /// Objects that were removed for lack of room.
    pub evicted: Counter,
    /// Other objects that were invalidated because a newly stored object has one of their keys. On a server at most 15 are counted for each
    /// stored object.
    pub displaced: Counter,
    /// Bytes of the objects that were stored, in the form in which the connector keeps them.
    pub stored_bytes: Counter,
    /// The reasons why objects could not be cached, and when each was last told.
    unfit: Mutex<HashMap<&'static str, WarningLimit>>,
    clock: Clock,
}

impl Stats {
    /// Calls that looked an object up and found nothing, by cause; counted like [`hits`](Self::hits).
    pub fn miss(&self, cause: Miss) -> &Counter {
        by_name(&self.misses, Miss::ALL, cause)
    }

    /// Fills, by outcome.
    pub fn fill(&self, outcome: Stored) -> &Counter {
        by_name(&self.fills, Stored::ALL, outcome)
    }

    /// Puts, by outcome.
    pub fn put(&self, outcome: Stored) -> &Counter {
        by_name(&self.puts, Stored::ALL, outcome)
    }

    /// Counts the result of a look.
    pub(crate) fn looked(&self, outcome: Result<(), Miss>) {
        match outcome {
            Ok(()) => self.hits.increment(),
            Err(miss) => self.miss(miss).increment(),
        }
    }

    /// Warns an operator that an object cannot be cached, and why: at once, and then at most once a minute for each cause, with the number
    /// of cases. `details` are about this object, and must not contain its keys and values.
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

    /// Counts that a stored object took keys from `others` other objects, which are invalidated by that. Emits an event at the level debug.
    pub fn displace(&self, cache: &str, primary: &[u8], others: u64) {
        self.displaced.add(others);
        tracing::debug!(
            cache, entries = others, key = %String::from_utf8_lossy(primary),
            "the stored object took keys from other objects, which are invalidated: a key leads to one object"
        );
    }

    /// Counts how an invalidation, delete or truncate went.
    pub fn delivery(&self, delivery: Delivery) {
        match delivery {
            Delivery::Applied => self.applied.increment(),
            Delivery::Deferred => self.deferred.increment(),
        }
    }

    /// Publishes the totals to the `metrics` recorder that is installed, labelled with the cache's name. `docs/metrics.md` in the
    /// repository says what each total means.
    pub fn publish(&self, cache: &str, status: &Status) {
        use catalogue::*;
        describe();
        for &cause in Miss::ALL {
            MISSES.total([cache, cause.name()], self.miss(cause).get());
        }
        for &outcome in Stored::ALL {
            FILLS.total([cache, outcome.name()], self.fill(outcome).get());
            PUTS.total([cache, outcome.name()], self.put(outcome).get());
        }
        INVALIDATIONS.total([cache, "applied"], self.applied.get());
        INVALIDATIONS.total([cache, "deferred"], self.deferred.get());
        let totals = [
            (HITS, &self.hits),
            (LOADS, &self.loads),
            (LOAD_FAILURES, &self.load_failures),
            (LOAD_TIMEOUTS, &self.load_timeouts),
            (LOADS_JOINED, &self.joined),
            (LOADS_HELD_BACK, &self.held_back),
            (LOADS_UNLISTED, &self.unlisted),
            (LEASE_WAITS, &self.lease_waits),
            (REFRESHES, &self.refreshes),
            (SERVED_EXPIRED, &self.served_expired),
            (DISPLACED, &self.displaced),
            (STORED_BYTES, &self.stored_bytes),
            (EVICTED, &self.evicted),
            (REPLAYED, &self.replayed),
            (JOURNAL_OVERFLOWS, &self.overflows),
            (RESETS, &self.resets),
            (FAULTS, &self.faults),
        ];
        for (metric, counter) in totals {
            metric.total([cache], counter.get());
        }
        JOURNAL_LENGTH.value([cache], status.journal as f64);
        READABLE.value([cache], if status.readable { 1.0 } else { 0.0 });
        if let Some(objects) = status.objects {
            OBJECTS.value([cache], objects as f64);
        }
        if let Some(bytes) = status.bytes {
            BYTES.value([cache], bytes as f64);
        }
    }
}

fn by_name<'a, T: PartialEq>(counters: &'a [Counter], all: &[T], which: T) -> &'a Counter {
    static NOWHERE: Counter = Counter::new();
    let place = all.iter().position(|one| *one == which);
    place.and_then(|place| counters.get(place)).unwrap_or(&NOWHERE)
}
