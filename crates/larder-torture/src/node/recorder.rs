//! Collects what a node has seen, until the next report.

use super::Caches;
use crate::objects::{Key, Subject};
use crate::protocol::{Answer, Counts, Event, PackedReads, Read, Through, now};
use crate::truth::digest;
use larder::contract::Stats;
use larder::{Stored, contract};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How many reads may wait for the next report. Then readers wait, so that nodes do not read faster than the checker can judge.
const MOST_READS: usize = 50_000;

/// Events and reads, each with its time.
#[derive(Debug)]
pub(crate) struct Recorder {
    seen: Mutex<Seen>,
    taken: Notify,
    /// When each task began its present call. `u64::MAX`: the task has none.
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

/// What has happened on a node since the last report.
pub(super) struct Taken {
    /// Everything that happened before this time is included.
    pub(super) until: u64,
    /// Every read that will be reported later began at this time or after it.
    pub(super) since: u64,
    pub(super) events: Vec<Event>,
    pub(super) reads: PackedReads,
}

impl Recorder {
    /// A recorder for this many tasks.
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

    /// Records an event. The time is taken under the lock, so that [`take`](Self::take) returns all events from before its time.
    pub(crate) fn record(&self, event: impl FnOnce(u64) -> Event) {
        let mut seen = lock(&self.seen);
        let event = event(now());
        seen.events.push(event);
    }

    /// Records reads that have just ended together.
    pub(super) fn read(&self, reads: impl IntoIterator<Item = Read>) {
        let mut seen = lock(&self.seen);
        let ended = now();
        reads.into_iter().for_each(|read| seen.reads.push(&Read { ended, ..read }));
    }

    /// Records the answers, key by key, of one call that has just ended.
    pub(super) fn saw<'a, E: Subject>(
        &self,
        through: Through,
        begun: u64,
        answers: impl IntoIterator<Item = (Key, Option<&'a E>)>,
    ) {
        let reads = answers.into_iter().filter_map(|(key, object)| {
            let answer = match object.map(answer) {
                None => None,
                Some(Some(answer)) => Some(answer),
                Some(None) => {
                    self.broken(key, format!("an object whose parts do not agree: {:?}", object.map(E::body)));
                    return None;
                }
            };
            Some(Read { key, begun, ended: begun, through, answer })
        });
        // Evaluate the lazy iterator before the recorder is locked.
        let mut reads = reads;
        match (reads.next(), reads.next()) {
            (None, _) => {}
            (Some(only), None) => self.read([only]),
            (Some(first), Some(second)) => {
                let all: Vec<Read> = [first, second].into_iter().chain(reads).collect();
                self.read(all);
            }
        }
    }

    /// Checks that a call for several keys has answered each of them.
    pub(super) fn count(&self, keys: &[Key], answers: usize) {
        if let Some(key) = keys.first().filter(|_| keys.len() != answers) {
            self.broken(*key, format!("{} keys were asked for, and {answers} answered", keys.len()));
        }
    }

    fn broken(&self, key: Key, what: String) {
        self.record(|at| Event::Broken { at, key, what });
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

    /// A task begins a call: all its later reads begin at this time or after it.
    pub(super) fn begins(&self, task: u32) {
        self.set(task, now());
    }

    /// A task will not read any more.
    pub(super) fn rests(&self, task: u32) {
        self.set(task, u64::MAX);
    }

    fn set(&self, task: u32, since: u64) {
        if let Some(doing) = self.doing_since.get(task as usize) {
            doing.store(since, Ordering::SeqCst);
        }
    }

    /// Takes everything that has been recorded.
    pub(super) fn take(&self) -> Taken {
        // A task that begins a call after the loop below has looked at it begins later than this.
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

    /// Notes how long a call took that loads nothing.
    pub(super) fn took(&self, call: &'static str, nanoseconds: u64) {
        let mut slowest = lock(&self.slowest);
        if nanoseconds / 1_000 > slowest.0 {
            *slowest = (nanoseconds / 1_000, call);
        }
    }

    /// Notes by how much a timer fired too late, in ns.
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
            breaker_opened: caches.opened(),
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

/// The answer that an object stands for. `None`: its parts do not agree.
fn answer<E: Subject>(object: &E) -> Option<Answer> {
    let state = object.state()?;
    Some(Answer {
        number: state.number,
        sequence: state.sequence,
        hosts: digest(&state.hosts),
        born: object.body().born,
        by: object.body().by,
    })
}

fn connector_misses(stats: &Stats) -> u64 {
    contract::Miss::ALL.iter().map(|cause| stats.miss(*cause).get()).sum()
}

// Data behind these locks is consistent after every step, so a poisoned lock can be used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
