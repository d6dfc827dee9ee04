//! What a node has seen, until it has told it.

use super::Caches;
use crate::protocol::{Counts, Event, PackedReads, Read, now};
use larder::contract::Stats;
use larder::{Stored, contract};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How many reads may wait to be told. Whoever wants to read more waits then: what is judged sets the pace.
const MOST_READS: usize = 50_000;

/// Events and reads, each with its time.
#[derive(Debug)]
pub(crate) struct Recorder {
    seen: Mutex<Seen>,
    taken: Notify,
    /// When each task has begun what it is doing; `u64::MAX`: nothing.
    doing_since: Box<[AtomicU64]>,
    dropped: AtomicU64,
    slowest: Mutex<(u64, &'static str)>,
    late: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    reads: PackedReads,
}

/// What has happened on a node since it told the last time.
pub(super) struct Taken {
    /// Everything that happened before is in it.
    pub(super) until: u64,
    /// No read that comes later has begun before.
    pub(super) since: u64,
    pub(super) events: Vec<Event>,
    pub(super) reads: PackedReads,
}

impl Recorder {
    /// For so many tasks.
    pub(super) fn new(tasks: u32) -> Self {
        Self {
            seen: Mutex::default(),
            taken: Notify::new(),
            doing_since: (0..tasks).map(|_| AtomicU64::new(now())).collect(),
            dropped: AtomicU64::new(0),
            slowest: Mutex::default(),
            late: AtomicU64::new(0),
        }
    }

    /// Records something that has happened. The time is taken under the lock, so that whoever has taken the events has all of those before.
    pub(crate) fn record(&self, event: impl FnOnce(u64) -> Event) {
        let mut seen = lock(&self.seen);
        let event = event(now());
        seen.events.push(event);
    }

    /// The same for reads that have ended at once.
    pub(super) fn read(&self, reads: impl IntoIterator<Item = Read>) {
        let mut seen = lock(&self.seen);
        let ended = now();
        reads.into_iter().for_each(|read| seen.reads.push(&Read { ended, ..read }));
    }

    /// Waits until there is room for more reads.
    pub(super) async fn room(&self) {
        loop {
            let taken = self.taken.notified();
            if lock(&self.seen).reads.count() < MOST_READS {
                return;
            }
            taken.await;
        }
    }

    /// A task begins something: none of its reads from now on has begun before.
    pub(super) fn begins(&self, task: u32) {
        self.set(task, now());
    }

    /// A task reads nothing any more.
    pub(super) fn rests(&self, task: u32) {
        self.set(task, u64::MAX);
    }

    fn set(&self, task: u32, since: u64) {
        if let Some(doing) = self.doing_since.get(task as usize) {
            doing.store(since, Ordering::SeqCst);
        }
    }

    /// Everything that has happened.
    pub(super) fn take(&self) -> Taken {
        // A task that begins after it was looked at begins later than this.
        let looked = now();
        let since = self.doing_since.iter().map(|since| since.load(Ordering::SeqCst)).fold(looked, u64::min);
        let mut seen = lock(&self.seen);
        let until = now();
        let Seen { events, reads } = std::mem::take(&mut *seen);
        drop(seen);
        self.taken.notify_waiters();
        Taken { until, since, events, reads }
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
    contract::Miss::ALL.iter().map(|cause| stats.miss(*cause).get()).sum()
}

// What is behind the locks is whole after every single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
