//! What a node has seen, until it has told it.

use super::Caches;
use crate::protocol::{Counts, Event, now};
use larder::telemetry::Stats;
use larder::{Stored, connector};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Events, each with its time.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    dropped: AtomicU64,
    slowest: Mutex<(u64, &'static str)>,
    late: AtomicU64,
}

impl Recorder {
    /// Records something that has happened. The time is taken under the lock, so that whoever has taken the events has all of those before.
    pub(crate) fn record(&self, event: impl FnOnce(u64) -> Event) {
        let mut events = lock(&self.events);
        events.push(event(now()));
    }

    /// Everything that has happened, and until when.
    pub(super) fn take(&self) -> (u64, Vec<Event>) {
        let mut events = lock(&self.events);
        (now(), std::mem::take(&mut *events))
    }

    /// A caller has gone away.
    pub(super) fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// How long a call took that loads nothing.
    pub(super) fn took(&self, call: &'static str, nanoseconds: u64) {
        let mut slowest = lock(&self.slowest);
        if nanoseconds / 1_000 > slowest.0 {
            *slowest = (nanoseconds / 1_000, call);
        }
    }

    /// By how much something was done too late, in ns.
    pub(super) fn late(&self, by: u64) {
        self.late.fetch_max(by / 1_000, Ordering::Relaxed);
    }

    pub(super) fn counts(&self, caches: &Caches) -> Counts {
        let both: [&Stats; 2] = [caches.instances.stats(), caches.policies.stats()];
        let sum = |of: &dyn Fn(&Stats) -> u64| both.iter().map(|stats| of(stats)).sum::<u64>();
        let refused = [Stored::Overtaken, Stored::Outdated, Stored::Full, Stored::Unavailable, Stored::Unfit];
        let (slowest_us, slowest) = *lock(&self.slowest);
        Counts {
            hits: sum(&|stats| stats.hits.get()),
            misses: sum(&connector_misses),
            loads: sum(&|stats| stats.loads.get()),
            joined: sum(&|stats| stats.joined.get()),
            applied: sum(&|stats| stats.applied.get()),
            deferred: sum(&|stats| stats.deferred.get() + stats.put(Stored::Unavailable).get()),
            replayed: sum(&|stats| stats.replayed.get()),
            dropped: self.dropped.load(Ordering::Relaxed),
            resets: sum(&|stats| stats.resets.get()),
            breaker_opened: caches.breaker().map_or(0, |breaker| breaker.snapshot().opened),
            refused: refused
                .into_iter()
                .map(|outcome| (outcome.name().to_owned(), sum(&|stats| stats.fill(outcome).get())))
                .collect(),
            slowest_us,
            slowest: slowest.to_owned(),
            late_us: self.late.load(Ordering::Relaxed),
            readable: caches.readable(),
        }
    }
}

fn connector_misses(stats: &Stats) -> u64 {
    connector::Miss::ALL.into_iter().map(|cause| stats.miss(cause).get()).sum()
}

// What is behind the locks is whole after every single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
