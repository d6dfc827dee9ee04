//! What a shutdown waits for, and what it reports if that was not delivered in time.

use crate::cache::Inner;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How often a shutdown looks whether everything has been delivered.
const LOOK: Duration = Duration::from_millis(5);

/// How a shutdown went: what it could not deliver, by cache.
///
/// ```
/// # use larder::Caches;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let caches = Caches::builder().open().await?;
/// let shutdown = caches.shutdown().await;
/// assert!(shutdown.is_clean(), "{shutdown}");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    undelivered: Vec<(String, u64)>,
}

impl Shutdown {
    /// Waits until no operation of any cache is under way and every journal is empty. Waits for each cache no longer than the limit beside
    /// it.
    pub(super) async fn within(caches: &[(Arc<Inner>, Duration)]) -> Self {
        let begun = Instant::now();
        while caches.iter().any(|(cache, limit)| begun.elapsed() < *limit && undelivered(cache) > 0) {
            tokio::time::sleep(LOOK).await;
        }
        let left = caches.iter().map(|(cache, _)| (cache.schema.cache.to_string(), undelivered(cache)));
        let mut undelivered: Vec<_> = left.filter(|(_, count)| *count > 0).collect();
        undelivered.sort();
        Self { undelivered }
    }

    /// Whether everything was delivered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.undelivered.is_empty()
    }

    /// How many invalidations, deletes, truncates and sets were not delivered. Other nodes may serve those objects until their ages end.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.undelivered.iter().map(|(_, count)| count).sum()
    }

    /// The caches with changes that were not delivered, in alphabetical order, and how many there are.
    pub fn undelivered(&self) -> impl Iterator<Item = (&str, u64)> {
        self.undelivered.iter().map(|(cache, count)| (cache.as_str(), *count))
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("everything was delivered");
        }
        f.write_str("not delivered, so that other nodes may serve objects that have changed until their ages end: ")?;
        for (place, (cache, count)) in self.undelivered().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            let s = if count == 1 { "" } else { "s" };
            write!(f, "{comma}{count} invalidation{s} of `{cache}`")?;
        }
        Ok(())
    }
}

/// Gives up what other nodes would wait for, for all caches at once. Waits for each no longer than the limit beside it.
pub(super) async fn leave(caches: &[(Arc<Inner>, Duration)]) {
    let mut leaving = JoinSet::new();
    for (cache, limit) in caches {
        let (cache, limit) = (cache.clone(), *limit);
        leaving.spawn(async move {
            let _ = timeout(limit, cache.connector.leave()).await;
        });
    }
    leaving.join_all().await;
}

fn undelivered(cache: &Inner) -> u64 {
    let status = cache.connector.status();
    status.journal + status.under_way
}
