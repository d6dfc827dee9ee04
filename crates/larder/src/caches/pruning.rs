//! [`Pruning`]: caches are pruned now and then, in the background.
//!
//! One prune of a PostgreSQL database is for all caches in it, since they share its tables. With a task for each cache every node would look through all
//! tables once for each cache in every interval. So the caches on such a connector share one task.

use super::connectors::ConnectorName;
use crate::cache::Inner;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The caches of each connector whose prune is for all of them.
pub(super) struct Pruning<T>(HashMap<ConnectorName, Together<T>>);

/// Caches that one task prunes.
pub(super) type Together<T> = Arc<Mutex<Vec<Weak<T>>>>;

impl<T> Default for Pruning<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Pruning<T> {
    /// What a task is to prune that prunes this cache alone.
    pub(super) fn alone(cache: Weak<T>) -> Together<T> {
        Arc::new(Mutex::new(vec![cache]))
    }

    /// What a task is to prune that prunes this cache and all others of the connector. `None`: there is such a task, which prunes this one as well from here on.
    pub(super) fn together(&mut self, connector: &ConnectorName, cache: Weak<T>) -> Option<Together<T>> {
        if let Some(together) = self.0.get(connector) {
            let mut caches = together.lock();
            caches.retain(|cache| cache.strong_count() > 0);
            // Without caches the task has ended, or is about to.
            if !caches.is_empty() {
                caches.push(cache);
                return None;
            }
        }
        let together = Self::alone(cache);
        self.0.insert(connector.clone(), together.clone());
        Some(together)
    }
}

/// Prunes one of the caches in each interval, until all of them are gone.
pub(super) async fn prune(caches: Together<Inner>, interval: Duration) {
    let mut pause = interval.mul_f64(fastrand::f64());
    loop {
        tokio::time::sleep(pause).await;
        pause = interval;
        let Some(cache) = one_of(&caches) else { return };
        match cache.connector.prune().await {
            Ok(pruned) => tracing::debug!(cache = %cache.schema.cache, ?pruned, "pruned"),
            Err(error) => {
                tracing::debug!(cache = %cache.schema.cache, %error, "not pruned; the next attempt is in {interval:?}")
            }
        }
    }
}

/// A cache that is still there.
fn one_of<T>(caches: &Together<T>) -> Option<Arc<T>> {
    let mut caches = caches.lock();
    caches.retain(|cache| cache.strong_count() > 0);
    caches.iter().find_map(Weak::upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_of_a_connector_share_a_task_as_long_as_one_of_them_is_there() {
        let (mut pruning, db) = (Pruning::default(), ConnectorName::from("db"));
        let (one, two, three) = (Arc::new(1), Arc::new(2), Arc::new(3));
        let task = pruning.together(&db, Arc::downgrade(&one)).unwrap();
        assert!(pruning.together(&db, Arc::downgrade(&two)).is_none(), "it has a task");
        assert!(pruning.together(&ConnectorName::from("other"), Arc::downgrade(&two)).is_some());
        assert_eq!(one_of(&task).as_deref(), Some(&1));
        drop(one);
        assert_eq!(one_of(&task).as_deref(), Some(&2), "the task goes on for the others");
        drop(two);
        assert_eq!(one_of(&task), None, "the task ends");
        assert!(pruning.together(&db, Arc::downgrade(&three)).is_some(), "the next cache has a task of its own");
    }
}
