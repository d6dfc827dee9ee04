//! [`Stats`]: what is counted of one cache on this node.

use super::{Delivery, Miss, Status, Stored};
use crate::clock::Clock;
use crate::telemetry::{Counter, WarningLimit, catalogue};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;

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

    /// Hands the totals to the `metrics` recorder that is installed, labelled with the cache's name. What each means:
    /// `docs/metrics.md` in the repository.
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
