//! Measures when each node knew of a change, and judges lookups.

use super::node::{Known, Node};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a node is asked whether it knows.
const EVERY: Duration = Duration::from_millis(1);

/// The changes so far. A change of an instance raises its user limit.
pub(super) struct Watch {
    deadline: Duration,
    changes: Mutex<Changes>,
    /// Changes take turns, so that their order is known.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Changes {
    all: Vec<Change>,
    /// For each instance, the new limit of each change and when its commit was answered, the oldest first.
    limits: HashMap<String, Vec<(i64, Instant)>>,
}

/// A change by SQL. All durations are in milliseconds after the commit was answered.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Change {
    /// When the commit was answered, in milliseconds since 1970.
    pub(super) at: u64,
    pub(super) sql: String,
    pub(super) id: String,
    pub(super) user_limit: i64,
    pub(super) nodes: Vec<Seen>,
}

/// How a node saw a change.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Seen {
    /// From when on the node did not serve the earlier state. `None`: it still does.
    pub(super) not_served_ms: Option<f64>,
    /// When the node knew of the change. `None`: it does not know yet.
    pub(super) knew_ms: Option<f64>,
}

impl Watch {
    pub(super) fn new(deadline: Duration) -> Self {
        Self { deadline, changes: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The turn of a change: until it is dropped, nobody else changes anything.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A change has just been committed. Asks every node until it knows, in tasks that end by themselves once the nodes are gone. Returns the number of
    /// the change.
    pub(super) fn begin(self: &Arc<Self>, sql: String, id: &str, user_limit: i64, nodes: &[Arc<Node>]) -> usize {
        let answered = Instant::now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let change = Change {
            at: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            sql,
            id: id.to_owned(),
            user_limit,
            nodes: vec![Seen::default(); nodes.len()],
        };
        let number = {
            let mut changes = self.lock();
            changes.limits.entry(id.to_owned()).or_default().push((user_limit, answered));
            changes.all.push(change);
            changes.all.len() - 1
        };
        for (place, node) in nodes.iter().enumerate() {
            let (watch, node, id) = (self.clone(), Arc::downgrade(node), id.to_owned());
            tokio::spawn(async move {
                while let Some(node) = node.upgrade() {
                    let known = node.known(&id, &watch).await;
                    if watch.saw(number, place, &known, answered.elapsed()) {
                        return;
                    }
                    drop(node);
                    tokio::time::sleep(EVERY).await;
                }
            });
        }
        number
    }

    /// Notes what a node has answered. Returns whether it knows of the change.
    fn saw(&self, number: usize, place: usize, known: &Known, after: Duration) -> bool {
        let mut changes = self.lock();
        let Some(change) = changes.all.get_mut(number) else { return true };
        let limit = change.user_limit;
        let Some(seen) = change.nodes.get_mut(place) else { return true };
        seen.note(known, limit, (after.as_secs_f64() * 1e4).round() / 10.0)
    }

    /// Whether an answer with this limit is stale: the lookup `began` more than the deadline after a change to a higher limit was committed.
    pub(super) fn is_stale(&self, id: &str, limit: i64, began: Instant) -> bool {
        let changes = self.lock();
        let newer = changes.limits.get(id).into_iter().flatten().filter(|(newer, _)| *newer > limit);
        newer.into_iter().any(|(_, answered)| began > *answered + self.deadline)
    }

    pub(super) fn change(&self, number: usize) -> Option<Change> {
        self.lock().all.get(number).cloned()
    }

    /// The newest `count` changes, the newest first.
    pub(super) fn newest(&self, count: usize) -> Vec<Change> {
        self.lock().all.iter().rev().take(count).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Returns whether the node knows of the change to `limit`.
    fn note(&mut self, known: &Known, limit: i64, after_ms: f64) -> bool {
        let knows = match known {
            Known::Limit(there) if *there < limit => return false,
            Known::Limit(_) | Known::Nothing => true,
            Known::Unread => false,
        };
        self.not_served_ms.get_or_insert(after_ms);
        if knows {
            self.knew_ms = Some(after_ms);
        }
        knows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_reads_nothing_serves_nothing_old_and_knows_nothing() {
        let mut seen = Seen::default();
        assert!(!seen.note(&Known::Limit(1), 2, 10.0));
        assert_eq!((seen.not_served_ms, seen.knew_ms), (None, None));
        assert!(!seen.note(&Known::Unread, 2, 20.0));
        assert!(!seen.note(&Known::Unread, 2, 30.0));
        assert_eq!((seen.not_served_ms, seen.knew_ms), (Some(20.0), None));
        assert!(seen.note(&Known::Nothing, 2, 40.0));
        assert_eq!((seen.not_served_ms, seen.knew_ms), (Some(20.0), Some(40.0)));
        assert!(Seen::default().note(&Known::Limit(3), 2, 1.0), "a later change includes this one");
    }

    #[tokio::test]
    async fn an_old_answer_is_stale_once_the_deadline_has_passed() {
        let watch = Arc::new(Watch::new(Duration::from_secs(1)));
        watch.begin(String::new(), "a", 2, &[]);
        let now = Instant::now();
        assert!(!watch.is_stale("a", 1, now));
        assert!(watch.is_stale("a", 1, now + Duration::from_secs(1)));
        assert!(!watch.is_stale("a", 2, now + Duration::from_secs(1)));
        assert!(!watch.is_stale("b", 1, now + Duration::from_secs(1)));
    }
}
