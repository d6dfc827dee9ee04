//! Steady reading, as a service's users would do it: some keys are asked for far more often than others.

use super::identity::{Identity, Way};
use super::instance::InstanceKey;
use super::source::Edit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How many tasks read on a node at least, and at most.
const READERS: (u32, u32) = (8, 64);

/// How many tasks change something on a node at most.
const WRITERS: u32 = 8;

/// How many calls a second one task makes at most, as long as there may be more tasks: so that each has time to wait for the database.
const CALLS: u32 = 50;

/// How often a task looks what is due.
const STEP: Duration = Duration::from_millis(10);

/// What was due longer ago than this is not made up for: a hung server must not be followed by a flood.
const BACKLOG: Duration = Duration::from_millis(100);

/// Readers, and perhaps writers, that work until this is dropped. A change under way is completed all the same.
pub(crate) struct Load {
    done: Arc<Done>,
    _tasks: JoinSet<()>,
}

/// What a load has done so far.
#[derive(Debug, Default)]
pub(crate) struct Done {
    lookups: AtomicU64,
    changes: AtomicU64,
    failures: AtomicU64,
}

/// How much is read and changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rates {
    /// Lookups a second, on each node.
    pub(crate) lookups: u32,
    /// Changes of names a second, on each node.
    pub(crate) changes: u32,
}

impl Load {
    /// Begins to read `keys` on each of `nodes`.
    pub(crate) fn start(identity: &Arc<Identity>, nodes: &[usize], keys: &Arc<[InstanceKey]>, rates: Rates) -> Self {
        let done = Arc::new(Done::default());
        let mut tasks = JoinSet::new();
        let readers = rates.lookups.div_ceil(CALLS).clamp(READERS.0, READERS.1);
        let writers = rates.changes.div_ceil(CALLS).min(WRITERS);
        let share = |rate: u32, tasks: u32| f64::from(rate) / f64::from(tasks);
        for node in nodes {
            for _ in 0..readers {
                tasks.spawn(read(identity.clone(), *node, keys.clone(), share(rates.lookups, readers), done.clone()));
            }
            for _ in 0..writers {
                tasks.spawn(change(identity.clone(), *node, keys.clone(), share(rates.changes, writers), done.clone()));
            }
        }
        Self { done, _tasks: tasks }
    }

    /// Lookups and changes that gave an error.
    pub(crate) fn failures(&self) -> u64 {
        self.done.failures.load(Ordering::Relaxed)
    }

    /// What it has done, which can be looked at while it goes on.
    pub(crate) fn done(&self) -> &Arc<Done> {
        &self.done
    }
}

impl Done {
    /// Lookups and changes so far, those that failed included.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.lookups.load(Ordering::Relaxed), self.changes.load(Ordering::Relaxed))
    }
}

async fn read(identity: Arc<Identity>, node: usize, keys: Arc<[InstanceKey]>, rate: f64, done: Arc<Done>) {
    let mut due = Due::new(rate);
    loop {
        for _ in 0..due.next().await {
            let Some(key) = pick(&keys) else { return };
            if identity.look_up(node, key).await.is_err() {
                done.failures.fetch_add(1, Ordering::Relaxed);
            }
            done.lookups.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn change(identity: Arc<Identity>, node: usize, keys: Arc<[InstanceKey]>, rate: f64, done: Arc<Done>) {
    let mut due = Due::new(rate);
    let mut count = 0_u64;
    loop {
        for _ in 0..due.next().await {
            let Some(key) = pick(&keys) else { return };
            count += 1;
            let way = if count.is_multiple_of(2) { Way::WriteThrough } else { Way::Invalidate };
            if rename(&identity, node, key, way).await.is_err() {
                done.failures.fetch_add(1, Ordering::Relaxed);
            }
            done.changes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn rename(
    identity: &Arc<Identity>,
    node: usize,
    key: &InstanceKey,
    way: Way,
) -> Result<(), super::identity::IdentityError> {
    let Some(instance) = identity.look_up(node, key).await?.instance else { return Ok(()) };
    let edit = Edit { name: Some(next_name(&instance.name)), ..Edit::default() };
    identity.change(node, &instance.id, edit, way).await.map(drop)
}

/// A name that shows how often it was changed: `Alder 9`, `Alder 9 (2)`, `Alder 9 (3)`.
pub(crate) fn next_name(name: &str) -> String {
    let counted = name.strip_suffix(')').and_then(|name| name.rsplit_once(" ("));
    match counted.and_then(|(name, count)| Some((name, count.parse::<u64>().ok()?))) {
        Some((name, count)) => format!("{name} ({})", count + 1),
        None => format!("{name} (2)"),
    }
}

/// A key: half of the time one of the most popular eighth.
fn pick(keys: &[InstanceKey]) -> Option<&InstanceKey> {
    let place = fastrand::f64().powi(3) * keys.len() as f64;
    keys.get(place as usize)
}

/// How many calls are due, at a steady rate.
struct Due {
    rate: f64,
    ticks: tokio::time::Interval,
    last: Instant,
    owed: f64,
}

impl Due {
    fn new(rate: f64) -> Self {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Tasks of the same rate do not all begin at once.
        Self { rate, ticks, last: Instant::now(), owed: fastrand::f64() }
    }

    async fn next(&mut self) -> u64 {
        let now = self.ticks.tick().await;
        let passed = now.saturating_duration_since(self.last).min(BACKLOG);
        self.last = now;
        self.owed += passed.as_secs_f64() * self.rate;
        let due = self.owed.floor();
        self.owed -= due;
        due as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count() {
        assert_eq!(next_name("Alder 9"), "Alder 9 (2)");
        assert_eq!(next_name("Alder 9 (2)"), "Alder 9 (3)");
        assert_eq!(next_name("Alder (old)"), "Alder (old) (2)");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_come_at_their_rate_and_a_long_pause_is_not_made_up_for() {
        let mut due = Due::new(400.0);
        let mut calls = 0;
        for _ in 0..=100 {
            calls += due.next().await;
        }
        assert!((398..=402).contains(&calls), "{calls} in a second");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(due.next().await <= 41);
    }
}
