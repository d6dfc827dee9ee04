//! The rows that are measured: each is one operation on every object, by many tasks at once.

use super::Plan;
use super::subject::{Plain, Subject};
use crate::failure::Failure;
use larder::{Cache, Delivery, Entry, Stored};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How many tasks work at once, each on one operation at a time.
pub(super) const TASKS: usize = 64;

/// If the command is killed, what it has stored expires.
pub(super) const MAX_AGE: Duration = Duration::from_secs(3600);

/// An object with one primary and three secondary keys.
#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "bench")]
pub(super) struct Sample {
    #[key(primary)]
    id: u64,
    #[key(index = "host")]
    hosts: [String; 3],
    body: String,
}

/// What one row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Set,
    /// A plain GET or SELECT of the same payload, with which every row is compared.
    Plain,
    ByPrimary,
    Warm,
    Cold,
    Invalidate,
}

/// One round of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    /// Missing if the server does not tell.
    pub(super) cpu: Option<Duration>,
    pub(super) elapsed: Duration,
}

impl Row {
    /// The rows in the order in which they are measured: the objects are set, got, and then invalidated.
    pub(super) const ALL: [Self; 6] =
        [Self::Set, Self::Plain, Self::ByPrimary, Self::Warm, Self::Cold, Self::Invalidate];

    pub(super) fn name(self, plain: &str) -> &'static str {
        match self {
            Self::Set => "set, 1 + 3 keys",
            Self::Plain if plain == "SELECT" => "plain SELECT",
            Self::Plain => "plain GET",
            Self::ByPrimary => "get by primary key",
            Self::Warm => "get by secondary key, warm",
            Self::Cold => "get by secondary key, cold",
            Self::Invalidate => "invalidate by secondary key",
        }
    }
}

/// Everything that the rows work on.
pub(super) struct Bench {
    plan: Plan,
    objects: Arc<Vec<Arc<Sample>>>,
    /// A node with room for the hints of all keys.
    warm: Node,
    /// A node with room for one hint.
    cold: Node,
    plain: Plain,
}

/// A node of a service.
pub(super) struct Node {
    cache: Cache<Sample>,
}

/// How long a node may take until it can read.
pub(super) fn patience(connect_timeout: Duration) -> Duration {
    4 * connect_timeout.max(Duration::from_secs(1))
}

impl Node {
    /// Waits until the cache can be read.
    pub(super) async fn ready(cache: Cache<Sample>, address: &str, patience: Duration) -> Result<Self, Failure> {
        let begun = Instant::now();
        while !cache.status().readable {
            if begun.elapsed() > patience {
                return Err(Failure::Problem(format!(
                    "larder does not get to use the server at {address}; see `larder check`"
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { cache })
    }
}

impl Bench {
    pub(super) async fn prepare(plan: &Plan, subject: &Subject) -> Result<Self, Failure> {
        let objects: Vec<Arc<Sample>> =
            (0..plan.objects).map(|number| Arc::new(Sample::new(number, plan.size))).collect();
        Ok(Self {
            plan: plan.clone(),
            objects: Arc::new(objects),
            warm: subject.node(plan, 8 * plan.objects).await?,
            cold: subject.node(plan, 1).await?,
            plain: subject.plain(plan).await?,
        })
    }

    /// Performs a row once. Returns how many operations failed.
    pub(super) async fn perform(&self, row: Row) -> usize {
        let (objects, warm, cold) = (self.objects.clone(), self.warm.cache.clone(), self.cold.cache.clone());
        // Always the same host: with another host in each round, the warm node would need another hint in each round.
        let host = |object: &Sample| object.hosts[1].clone();
        let object = move |number: usize| objects.get(number).cloned();
        match row {
            Row::Plain => {
                let (plain, size) = (self.plain.clone(), self.plan.size);
                self.each(move |number| {
                    let mut plain = plain.clone();
                    async move { plain.get(number).await == Some(size) }
                })
                .await
            }
            Row::Set => {
                self.each(move |number| {
                    let (object, cache) = (object(number), warm.clone());
                    async move {
                        let Some(object) = object else { return false };
                        cache.set(object).await == Stored::Accepted
                    }
                })
                .await
            }
            Row::ByPrimary => {
                self.each(move |number| {
                    let cache = warm.clone();
                    async move { cache.get(Sample::ID, number as u64).await.is_some() }
                })
                .await
            }
            Row::Warm | Row::Cold => {
                let cache = if row == Row::Warm { warm } else { cold };
                self.each(move |number| {
                    let (host, cache) = (object(number).as_deref().map(host), cache.clone());
                    async move {
                        let Some(host) = host else { return false };
                        cache.get(Sample::HOST, host).await.is_some()
                    }
                })
                .await
            }
            Row::Invalidate => {
                self.each(move |number| {
                    let (host, cache) = (object(number).as_deref().map(host), warm.clone());
                    async move {
                        let Some(host) = host else { return false };
                        matches!(cache.invalidate(Sample::HOST, [host]).await, Ok(Delivery::Applied))
                    }
                })
                .await
            }
        }
    }

    async fn each<F>(&self, operation: impl Fn(usize) -> F + Clone + Send + 'static) -> usize
    where
        F: Future<Output = bool> + Send,
    {
        each(&self.plan, operation).await
    }
}

/// Runs an operation for the number of every object, until the plan is stopped. Returns how many failed.
pub(super) async fn each<F>(plan: &Plan, operation: impl Fn(usize) -> F + Clone + Send + 'static) -> usize
where
    F: Future<Output = bool> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (next, plan, operation) = (next.clone(), plan.clone(), operation.clone());
        tasks.spawn(async move {
            let mut failed = 0;
            while !plan.stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= plan.objects {
                    break;
                }
                failed += usize::from(!operation(number).await);
            }
            failed
        });
    }
    tasks.join_all().await.into_iter().sum()
}

impl Sample {
    /// The object with this number, and a payload of `size` bytes or a few more.
    fn new(number: usize, size: usize) -> Self {
        let mut sample = Self { id: number as u64, hosts: Self::hosts(number), body: String::new() };
        // An object that cannot be encoded is not stored, which counts as a failure later.
        let without = rmp_serde::to_vec_named(&sample).map_or(0, |bytes| bytes.len());
        sample.body = "x".repeat(size.saturating_sub(without + 2));
        sample
    }

    /// The secondary keys of the object with this number.
    pub(super) fn hosts(number: usize) -> [String; 3] {
        ["a", "b", "c"].map(|host| format!("{host}{number}.bench.example"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_as_large_as_the_value_it_is_compared_with() {
        for size in [200, 300, 20_000] {
            for number in [0, 99_999] {
                let bytes = rmp_serde::to_vec_named(&Sample::new(number, size)).unwrap();
                assert!(bytes.len().abs_diff(size) <= 3, "{} of {size}", bytes.len());
            }
        }
    }
}
