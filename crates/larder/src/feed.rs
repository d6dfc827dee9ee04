//! The feed: changes that travel with the database transaction that makes them, into caches anywhere.
//!
//! ```text
//!   UPDATE …; SELECT larder.invalidate('instance', 'id', '42'); COMMIT     any client, any transaction
//!     │
//!   larder.changes ── a row for each call, visible when the transaction commits
//!     │
//!   Feed, one per node ── polls what became visible since the last poll     poll.rs
//!     │
//!   Fed, one per cache ── a memory connector, read only while the feed is new enough
//! ```
//!
//! # What a reader may observe
//!
//! A poll is one statement with one snapshot. It answers the changes that this snapshot sees and the snapshot of the poll before did not see. So no change
//! is missed, whatever order transactions commit in. A change that has become visible is applied before the poll counts.
//!
//! A node serves a [`Fed`] cache only while its last successful poll *began* less than the [deadline](FollowOptions::deadline) ago, by its own monotonic
//! clock. Otherwise a get is a miss. So a get that begins later than the deadline after the commit, on any node, returns nothing older than the
//! change. Usually a change arrives within one poll interval. A node that cannot poll, for whatever reason, serves nothing.
//!
//! A node that was away goes on where it was, if the changes since then are still there (ten minutes). Otherwise, and after a crash or a failover of the
//! server, it clears its caches.

use crate::clock::Clock;
use crate::connector::memory::Memory;
use crate::connector::postgres::Postgres;
use crate::connector::remote::Trouble;
use crate::contract::{Connector, Schema};
use crate::option_error::OptionError;
use parking_lot::Mutex;
use poll::{Change, Position};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::AbortHandle;

pub(crate) mod declaration;
mod fed;
pub(crate) mod options;
mod poll;
mod source;

pub use declaration::{Source, Sources};
pub use fed::Fed;
pub use options::{FeedOptions, FollowOptions};
pub use source::{Applied, Done, Finding, SourceError, TriggerChange};

/// Polls a database for changes, and applies them to the caches of this node.
///
/// ```no_run
/// use larder::connector::memory::MemoryOptions;
/// use larder::connector::postgres::{Postgres, PostgresOptions};
/// use larder::feed::{Feed, FeedOptions, FollowOptions};
/// use larder::{Cache, Entry, Schema};
/// use serde::{Deserialize, Serialize};
/// use std::sync::Arc;
///
/// #[derive(Serialize, Deserialize, Entry)]
/// #[entry(cache = "instance")]
/// struct Instance {
///     #[key(primary)]
///     id: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let database = Postgres::open(PostgresOptions::from_url("postgres://larder@db.internal/zitadel")?)?;
/// let feed = Feed::open(&database, FeedOptions::new())?;
/// let schema = Schema::of::<Instance>();
/// let connector = feed.memory(schema.clone(), MemoryOptions::new(), FollowOptions::new())?;
/// let instances: Cache<Instance> = Cache::new(Arc::new(connector), schema)?;
/// # Ok(()) }
/// ```
///
/// Dropping the last clone, and the last cache that follows the feed, ends the polls.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    followers: Arc<Followers>,
    postgres: Postgres,
    task: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("options", &self.shared.followers.options).finish_non_exhaustive()
    }
}

/// The caches that follow a feed.
struct Followers {
    options: FeedOptions,
    clock: Clock,
    caches: Mutex<Vec<Weak<Follower>>>,
}

/// One cache that follows.
struct Follower {
    schema: Schema,
    memory: Memory,
    /// Its own changes, which it has applied already, have this number.
    origin: i64,
    /// For how long after a poll has begun the cache is read.
    deadline: Duration,
    /// Whether the polls ask for its changes.
    joined: AtomicBool,
    /// Until when the cache may be read, in ms of the clock.
    until: AtomicU64,
}

impl Feed {
    /// Begins to poll, in the background. Until the first poll has succeeded, gets miss. A database that is down now is a normal start.
    ///
    /// # Errors
    ///
    /// An option that cannot be used; nothing the database does is an error here.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime. A [`Postgres`] could not have been opened there either.
    pub fn open(postgres: &Postgres, options: FeedOptions) -> Result<Self, OptionError> {
        options.validate()?;
        let followers = Arc::new(Followers { options, clock: Clock::system(), caches: Mutex::default() });
        let task = tokio::spawn(keep_polling(postgres.clone(), followers.clone())).abort_handle();
        Ok(Self { shared: Arc::new(Shared { followers, postgres: postgres.clone(), task }) })
    }

    /// A connector that keeps objects in the memory of this process, and forgets them when the feed says so.
    ///
    /// # Errors
    ///
    /// The schema or an option cannot be used: see [`Schema::validate`].
    pub fn memory(
        &self,
        schema: Schema,
        options: crate::connector::memory::MemoryOptions,
        follow: FollowOptions,
    ) -> Result<Fed, OptionError> {
        OptionError::first(|refuse| {
            follow.examine(refuse);
            follow.examine_polls(self.shared.followers.options.poll, refuse);
        })?;
        let memory = Memory::open(schema.clone(), options)?;
        let origin = fastrand::i64(..);
        let told = self.shared.postgres.telling(&schema, origin)?;
        let (joined, until) = (AtomicBool::new(false), AtomicU64::new(0));
        let follower = Arc::new(Follower { schema, memory, origin, deadline: follow.deadline, joined, until });
        self.shared.followers.caches.lock().push(Arc::downgrade(&follower));
        Ok(Fed::new(follower, told, self.clone()))
    }
}

impl Feed {
    /// Ends the polls for good. The caches that follow are not read any more once their deadlines have passed.
    pub(crate) fn end(&self) {
        self.shared.task.abort();
    }
}

impl Followers {
    fn now_following(&self) -> Vec<Arc<Follower>> {
        let mut caches = self.caches.lock();
        caches.retain(|cache| cache.strong_count() > 0);
        caches.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Follower {
    /// Whether the feed is new enough for the cache to be read.
    #[inline]
    fn may_read(&self, clock: &Clock) -> bool {
        let until = self.until.load(Ordering::Acquire);
        clock.coarse() + Clock::COARSE_LAG < until || clock.now() < until
    }

    async fn apply(&self, change: &Change) {
        let index = change.index.as_deref().map(|name| self.schema.indexes.iter().position(|known| *known == name));
        let keys = match (index, &change.keys) {
            (Some(Some(index)), Some(keys)) => u8::try_from(index).ok().map(|index| (index, keys)),
            // The whole cache; or an index that this release does not know, which may lead to any object.
            _ => None,
        };
        let forgotten = match keys {
            Some((index, keys)) => {
                let keys =
                    keys.iter().map(|bytes| crate::contract::KeyBuf { index, bytes: (&**bytes).into() }).collect();
                self.memory.invalidate(keys, None).await
            }
            None => self.memory.truncate().await,
        };
        // In memory it is applied at once, and nothing can fail.
        debug_assert!(forgotten.is_ok());
    }
}

/// Polls for as long as the feed lives.
async fn keep_polling(postgres: Postgres, followers: Arc<Followers>) {
    let mut position = None;
    let mut failing = false;
    loop {
        let caches = followers.now_following();
        // A load that began while a poll was under way that did not ask for this cache may have missed a change: it is refused.
        for cache in caches.iter().filter(|cache| !cache.joined.swap(true, Ordering::Relaxed)) {
            let cleared = cache.memory.truncate().await;
            debug_assert!(cleared.is_ok());
        }
        let began = followers.clock.now();
        match poll_once(&postgres, &mut position, &caches).await {
            Ok(()) => {
                for cache in &caches {
                    let deadline = u64::try_from(cache.deadline.as_millis()).unwrap_or(u64::MAX);
                    cache.until.store(began.saturating_add(deadline), Ordering::Release);
                }
                if std::mem::take(&mut failing) {
                    tracing::info!(server = %postgres.name(), "the feed is read again");
                }
            }
            Err(trouble) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(
                        server = %postgres.name(), error = %trouble,
                        "the feed cannot be read: its caches are not read until it can be"
                    );
                }
            }
        }
        drop(caches);
        tokio::time::sleep(followers.options.poll).await;
    }
}

/// One poll, and what it brings is applied. A place that the database no longer has is given up: then the caches are cleared.
async fn poll_once(
    postgres: &Postgres,
    position: &mut Option<Position>,
    caches: &[Arc<Follower>],
) -> Result<(), Trouble> {
    let Some(from) = position.as_ref() else {
        let begun = poll::begin(postgres).await?;
        for cache in caches {
            let cleared = cache.memory.truncate().await;
            debug_assert!(cleared.is_ok());
        }
        *position = Some(begun);
        return Ok(());
    };
    let names: Vec<&str> = caches.iter().map(|cache| cache.schema.cache()).collect();
    let Some(polled) = poll::poll(postgres, from, &names).await? else {
        tracing::info!(
            server = %postgres.name(),
            "the place in the feed is not kept any more (the server was restarted, or this node was away for long): clearing the caches that follow it"
        );
        *position = None;
        return Box::pin(poll_once(postgres, position, caches)).await;
    };
    for change in &polled.changes {
        let others = |cache: &&Arc<Follower>| change.origin != Some(cache.origin);
        for cache in caches.iter().filter(|cache| cache.schema.cache() == change.cache).filter(others) {
            cache.apply(change).await;
        }
    }
    *position = Some(polled.position);
    Ok(())
}
