//! Steady reading, as by the users of a service: some keys are read far more often than others.

use super::identity::{Identity, Way};
use super::instance::InstanceKey;
use super::source::Edit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// The fewest and the most tasks that read on a node.
const READERS: (u32, u32) = (8, 64);

/// The most tasks that change something on a node.
const WRITERS: u32 = 8;

/// Up to the most tasks, there is one task for this many calls per second, so that each task has time to wait for the database.
const CALLS: u32 = 50;

/// How often a task checks how many calls are due.
const STEP: Duration = Duration::from_millis(10);

/// Calls that were due longer ago than this are dropped, so that no flood of calls follows a server that hung.
const BACKLOG: Duration = Duration::from_millis(100);

/// Readers and writers that work until this is dropped. A change that is under way is completed all the same.
pub(crate) struct Load {
    done: Arc<Done>,
    _tasks: JoinSet<()>,
}

/// The calls of a load so far.
#[derive(Debug, Default)]
pub(crate) struct Done {
    lookups: AtomicU64,
    changes: AtomicU64,
    failures: AtomicU64,
}

/// How much is read and changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rates {
    /// Lookups per second, on each node.
    pub(crate) lookups: u32,
    /// Changes of names per second, on each node.
    pub(crate) changes: u32,
}

impl Rates {
    /// The rates of each node, so that these are the rates of so many nodes together; rounded up.
    pub(crate) fn on_each(self, nodes: usize) -> Self {
        let nodes = u32::try_from(nodes.max(1)).unwrap_or(u32::MAX);
        Self { lookups: self.lookups.div_ceil(nodes), changes: self.changes.div_ceil(nodes) }
    }
}

impl Load {
    /// Starts to read and change `keys` on each of `nodes`.
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

    /// The number of lookups and changes that failed.
    pub(crate) fn failures(&self) -> u64 {
        self.done.failures.load(Ordering::Relaxed)
    }

    /// The calls so far. They can be read while the load goes on.
    pub(crate) fn done(&self) -> &Arc<Done> {
        &self.done
    }
}

impl Done {
    /// The numbers of lookups and changes so far, including those that failed.
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

/// A random key. Half of the time it is among the first eighth of the keys.
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
        // A random start, so that tasks with the same rate do not all call at once.
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
