//! Steady reading, as a service's users would do it: some keys are asked for far more often than others.

use super::identity::{Identity, Way};
use super::instance::InstanceKey;
use super::source::Edit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How many tasks read; more would only wait for the processor.
const READERS: u32 = 8;

/// How often a task looks what is due.
const STEP: Duration = Duration::from_millis(10);

/// What was due longer ago than this is not made up for: a hung server must not be followed by a flood.
const BACKLOG: Duration = Duration::from_millis(100);

/// Readers, and perhaps writers, that work until this is dropped. A change under way is completed all the same.
pub(crate) struct Load {
    failures: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
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
        let failures = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for node in nodes {
            for _ in 0..READERS {
                let share = f64::from(rates.lookups) / f64::from(READERS);
                tasks.spawn(read(identity.clone(), *node, keys.clone(), share, failures.clone()));
            }
            if rates.changes > 0 {
                tasks.spawn(change(identity.clone(), *node, keys.clone(), rates.changes, failures.clone()));
            }
        }
        Self { failures, _tasks: tasks }
    }

    /// Lookups and changes that gave an error.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

async fn read(identity: Arc<Identity>, node: usize, keys: Arc<[InstanceKey]>, rate: f64, failures: Arc<AtomicU64>) {
    let mut due = Due::new(rate);
    loop {
        for _ in 0..due.next().await {
            let Some(key) = pick(&keys) else { return };
            if identity.look_up(node, key).await.is_err() {
                failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn change(identity: Arc<Identity>, node: usize, keys: Arc<[InstanceKey]>, rate: u32, failures: Arc<AtomicU64>) {
    let mut due = Due::new(f64::from(rate));
    let mut count = 0_u64;
    loop {
        for _ in 0..due.next().await {
            let Some(key) = pick(&keys) else { return };
            count += 1;
            let way = if count.is_multiple_of(2) { Way::WriteThrough } else { Way::Invalidate };
            if rename(&identity, node, key, way).await.is_err() {
                failures.fetch_add(1, Ordering::Relaxed);
            }
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
