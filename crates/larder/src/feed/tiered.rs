//! Tiers over PostgreSQL: memory of this node in front of a cache in the database whose feed it follows.
//!
//! The polls of the feed bring the marks of what was touched in the database, too: every change of a cache there writes a fence, whoever makes it. So the memory
//! forgets whatever a read of the database would not serve any more.
//!
//! # What a reader may observe
//!
//! A hit in memory was read from the database, and nothing had touched it when the last poll was made that counts. That poll began less than the deadline ago.
//! While no poll counts, each get asks the database, which is always right.
//!
//! A change through this node is answered when a poll that was made after it has been applied. So this node serves nothing older afterwards.
//!
//! # What is known
//!
//! *Known up to P* means: what is in memory, or on its way there and not refused, was read later than every fence that P sees was written, or has none of its marks.
//! A poll that begins at P brings the fences between P and its own snapshot. Where the polls have a gap, or the database has swept fences that P does not see, the
//! memory is cleared: what comes after that is read later than the poll.

use super::options::FollowOptions;
use super::{Batch, Feed, Position};
use crate::connector::memory::{MarksOf, MemoryOptions};
use crate::connector::near::{Near, Rounds};
use crate::connector::postgres::PostgresConnector;
use crate::connector::postgres::marks::Marks;
use crate::connector::postgres::server::Tier;
use crate::connector::tiered::{Keeper, Tiered, end_reading};
use crate::contract::{Answer, KeyRef, OptionError, Schema};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::AbortHandle;

impl Feed {
    /// A connector for one cache in the database of this feed, with a memory of this node in front of it.
    ///
    /// A hit in memory costs no round trip. What is touched in the database, by whatever node and by whatever transaction, this node forgets within the
    /// [deadline](FollowOptions::deadline), usually within a poll. What was changed through this connector is forgotten here when the change is answered. While the feed cannot
    /// be polled, each get asks the database.
    ///
    /// Every node that uses the cache should use it so.
    ///
    /// ```no_run
    /// use larder::connector::memory::MemoryOptions;
    /// use larder::connector::postgres::{Postgres, PostgresOptions};
    /// use larder::feed::{Feed, FeedOptions, FollowOptions};
    /// use larder::{Cache, Entry, Schema};
    /// # use serde::{Deserialize, Serialize};
    /// # use std::sync::Arc;
    /// #
    /// # #[derive(Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: String }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let database = Postgres::open(PostgresOptions::from_url("postgres://larder@db.internal/zitadel")?)?;
    /// let feed = Feed::open(&database, FeedOptions::new())?;
    /// let schema = Schema::of::<Instance>();
    /// let connector = feed.tiered(schema.clone(), MemoryOptions::new().max_objects(10_000), FollowOptions::new())?;
    /// let instances: Cache<Instance> = Cache::new(Arc::new(connector), schema)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The schema or an option cannot be used: see [`Schema::validate`] and [`FollowOptions::validate`].
    pub fn tiered(
        &self,
        schema: Schema,
        memory: MemoryOptions,
        options: FollowOptions,
    ) -> Result<Tiered<PostgresConnector>, OptionError> {
        options.validate(&self.shared.options)?;
        schema.validate()?;
        let marks = Marks::of(&schema);
        let mark = {
            let marks = marks.clone();
            MarksOf::Function(Box::new(move |key: KeyRef<'_>| marks.mark(key).cast_unsigned()))
        };
        let clock = self.shared.postgres.link().clock().clone();
        let near = Arc::new(Near::open(&schema, memory, clock, mark)?);
        let rounds = Rounds::counted_by(self.shared.begun.clone());
        let tier = Arc::new(Tier { near: near.clone(), rounds });
        let far = self.shared.postgres.in_front(schema, tier.clone())?;
        // Subscribed before any poll asks for fences.
        let polls = self.shared.polls.subscribe();
        let asks = Asks::new(&self.shared.tiers);
        let keeping = Keeping { tier, cache: marks.cache.cast_unsigned(), deadline: options.deadline, known: None };
        let bell = self.shared.bell.clone();
        let task = self.shared.runtime.spawn(async move {
            let woken = keeping.tier.clone();
            let wake = async {
                loop {
                    woken.rounds.wake.notified().await;
                    bell.poll.notify_one();
                }
            };
            tokio::select! {
                () = keeping.run(polls) => {}
                () = wake => {}
            }
        });
        let follows = Follows { near: near.clone(), task: task.abort_handle(), _asks: asks, _feed: self.clone() };
        // The next poll may be half a minute away.
        self.shared.bell.poll.notify_one();
        Ok(Tiered::new(near, far, Box::new(follows)))
    }
}

/// As long as it lives, the polls ask for fences.
struct Asks(Arc<AtomicUsize>);

impl Asks {
    fn new(tiers: &Arc<AtomicUsize>) -> Self {
        tiers.fetch_add(1, Ordering::SeqCst);
        Self(tiers.clone())
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// This node's memory follows the database, until this is dropped.
struct Follows {
    near: Arc<Near>,
    task: AbortHandle,
    _asks: Asks,
    _feed: Feed,
}

impl Keeper for Follows {
    fn leave(&self) -> Answer<'_, ()> {
        Answer::later(end_reading(&self.near, &self.task))
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.task.abort();
        self.near.extend(0);
    }
}

/// The task that keeps the memory of one cache right.
struct Keeping {
    tier: Arc<Tier>,
    /// The mark of the whole cache.
    cache: u64,
    deadline: Duration,
    known: Option<Position>,
}

impl Keeping {
    /// Runs until the polls end.
    async fn run(mut self, mut polls: Receiver<Arc<Batch>>) {
        loop {
            match polls.recv().await {
                Ok(batch) => self.take(&batch),
                // Too slow: what was missed shows as a gap.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn take(&mut self, batch: &Batch) {
        let Tier { near, rounds } = &*self.tier;
        let follows_on = batch.from.as_ref().is_some_and(|from| self.known.as_ref().is_some_and(|at| at.covers(from)));
        match &batch.polled.touched {
            Some(touched) if follows_on && !touched.contains(&self.cache) => near.forget(touched),
            _ => near.clear(),
        }
        self.known = Some(batch.polled.position.clone());
        let deadline = u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX);
        near.extend(batch.began.saturating_add(deadline));
        rounds.end(batch.number, true);
    }
}
