//! The feed: changes that travel with the database transaction that makes them, into caches anywhere.
//!
//! ```text
//!   UPDATE …; SELECT larder.invalidate('instance', 'id', '42'); COMMIT     any client, any transaction
//!     │
//!   larder.changes ── a row for each call, visible when the transaction commits
//!     │
//!   Feed, one per node ── polls what became visible since the last poll            poll.rs  position.rs  waking.rs
//!     │
//!   a task for each cache ── applies it to the cache's connector                   applying.rs
//!     │
//!   Fed, one per cache ── forwards to the connector, and reads while the feed is new enough      fed.rs  follower.rs
//! ```
//!
//! A cache in the database itself needs no feed. With a feed, a node may keep its objects in memory, too: tiered.rs.
//!
//! # What a reader may observe
//!
//! A poll is one statement with one snapshot. It answers the changes that this snapshot sees and the snapshot of the poll before did not see. So no change
//! is missed, whatever order transactions commit in. A change that has become visible is applied before the poll counts.
//!
//! A node serves a [`Fed`] cache only while its last poll that was applied *began* less than the [deadline](FollowOptions::deadline) ago, by its own
//! monotonic clock. Otherwise a get is a miss. So a get that begins later than the deadline after the commit, on any node, returns nothing older than the
//! change. Usually a change arrives within one poll interval. A node that cannot poll, or cannot apply what it polled, serves nothing.
//!
//! This holds for caches in [memory](Feed::memory) and for caches on a connector that [other nodes share](Feed::follow). On a shared connector one node that applies
//! a change is enough: the object is gone for all of them. Which node that is makes no difference, and no node waits for another one. A node that is not
//! new enough reads nothing from the shared connector, even if others have applied everything there: it does not know. It may store what it
//! loads there: a fill is accepted or refused by what the connector has seen touched, not by what this node has heard.
//!
//! A node that was away goes on where it was, if the changes since then are still there (ten minutes). Otherwise, and after a crash or a failover of the
//! database, it clears its caches; a shared one is cleared by the first node that comes.

use crate::clock::Clock;
use crate::connector::memory::{Memory, MemoryOptions};
use crate::connector::near::rounds;
use crate::connector::postgres::Postgres;
use crate::connector::remote::Trouble;
use crate::contract::{Connector, OptionError, Schema};
use applying::{Applying, Batch};
use follower::{Follower, Gate};
use parking_lot::Mutex;
use poll::Polled;
use position::Position;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use waking::{Bell, Waking};

mod applying;
pub(crate) mod declaration;
mod fed;
mod follower;
pub(crate) mod options;
mod poll;
mod position;
mod source;
mod tiered;
mod waking;

pub use declaration::{Source, Sources};
pub use fed::Fed;
pub use options::{FeedOptions, FollowOptions, Wake};
pub use source::{Applied, Done, Finding, Known, Naming, SourceError, TriggerChange};

/// How many polls wait for a cache that is slow. One that misses a poll finds out, and joins anew.
const WAITING: usize = 64;

/// The shortest pause between two polls, however often this node is notified.
const SHORTEST: Duration = Duration::from_millis(2);

/// The longest pause after a poll that has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How often a feed that has just been opened looks whether there is a connection.
const CONNECTED: Duration = Duration::from_millis(5);

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
    options: FeedOptions,
    followers: Arc<Followers>,
    postgres: Postgres,
    polls: broadcast::Sender<Arc<Batch>>,
    bell: Arc<Bell>,
    /// How many polls have begun.
    begun: Arc<AtomicU64>,
    /// How many memories in front of caches in the database there are. Only for them, polls ask for fences.
    tiers: Arc<AtomicUsize>,
    runtime: Handle,
    task: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// The caches that follow a feed.
type Followers = Mutex<Vec<Weak<Follower>>>;

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
        let (followers, polls) = (Arc::<Followers>::default(), broadcast::Sender::new(WAITING));
        let runtime = Handle::current();
        let (postgres, bell) = (postgres.clone(), Arc::<Bell>::default());
        let (begun, tiers) = (Arc::<AtomicU64>::default(), Arc::<AtomicUsize>::default());
        let polling = Polling {
            postgres: postgres.clone(),
            options: options.clone(),
            polls: polls.clone(),
            bell: bell.clone(),
            begun: begun.clone(),
            tiers: tiers.clone(),
        };
        let polling = polling.run(followers.clone());
        let task = match options.wake {
            Wake::Poll => runtime.spawn(polling),
            Wake::Listen => {
                let waking = Waking::new(postgres.clone(), bell.clone(), tiers.clone());
                runtime.spawn(async move {
                    tokio::join!(polling, waking.run());
                })
            }
        };
        let task = task.abort_handle();
        Ok(Self { shared: Arc::new(Shared { options, followers, postgres, polls, bell, begun, tiers, runtime, task }) })
    }

    /// A connector that keeps objects in the memory of this process, and forgets them when the feed says so.
    ///
    /// What is changed through it is told to the database, and so reaches the other nodes.
    ///
    /// # Errors
    ///
    /// The schema or an option cannot be used: see [`Schema::validate`] and [`FollowOptions::validate`].
    pub fn memory(&self, schema: Schema, memory: MemoryOptions, options: FollowOptions) -> Result<Fed, OptionError> {
        self.memory_on_clock(schema, memory, options, Clock::system())
    }

    /// Like [`memory`](Self::memory), with another clock for the ages of objects. The deadline is of real time in any case, as the polls are.
    ///
    /// # Errors
    ///
    /// As [`memory`](Self::memory).
    pub fn memory_on_clock(
        &self,
        schema: Schema,
        memory: MemoryOptions,
        options: FollowOptions,
        clock: Clock,
    ) -> Result<Fed, OptionError> {
        options.validate(&self.shared.options)?;
        let memory = Arc::new(Memory::on_clock(schema.clone(), memory, clock)?);
        let origin = fastrand::i64(..);
        let told = self.shared.postgres.telling(&schema, origin)?;
        let follower = self.followed(schema, memory.clone(), Some(origin), &options);
        Ok(Fed::in_memory(follower, memory, told, self.clone()))
    }

    /// A connector that keeps objects in `connector`, which other nodes share, and makes it forget them when the feed says so.
    ///
    /// `connector` was opened for the same schema: on Redis, in PostgreSQL in another database, or it is one of your own, which should keep a
    /// [place](Connector::place). What is changed through it reaches the other nodes by what they share; nothing is told to the feed. Every node that
    /// uses this cache must follow the feed, and all of them the same one.
    ///
    /// ```no_run
    /// use larder::feed::{Feed, FollowOptions};
    /// use larder::{Cache, Connector, Entry, Schema};
    /// # use serde::{Deserialize, Serialize};
    /// # use std::sync::Arc;
    /// #
    /// # #[derive(Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: String }
    ///
    /// // `shared` is what `Redis::connector` answers for the schema of `Instance`.
    /// # fn open(feed: &Feed, shared: Arc<dyn Connector>) -> Result<(), Box<dyn std::error::Error>> {
    /// let schema = Schema::of::<Instance>();
    /// let connector = feed.follow(schema.clone(), shared, FollowOptions::new())?;
    /// let instances: Cache<Instance> = Cache::new(Arc::new(connector), schema)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The schema or an option cannot be used: see [`Schema::validate`] and [`FollowOptions::validate`].
    pub fn follow(
        &self,
        schema: Schema,
        connector: Arc<dyn Connector>,
        options: FollowOptions,
    ) -> Result<Fed, OptionError> {
        schema.validate()?;
        options.validate(&self.shared.options)?;
        let follower = self.followed(schema, connector, None, &options);
        Ok(Fed::shared(follower, self.clone()))
    }

    /// Ends the polls for good. The caches that follow are not read any more once their deadlines have passed.
    pub(crate) fn end(&self) {
        self.shared.task.abort();
    }

    /// Adds a cache, and begins its task.
    fn followed(
        &self,
        schema: Schema,
        connector: Arc<dyn Connector>,
        origin: Option<i64>,
        options: &FollowOptions,
    ) -> (Arc<Follower>, AbortHandle) {
        let deadline = options.deadline;
        let follower = Arc::new(Follower { schema, connector, origin, deadline, gate: Gate::default() });
        let Shared { followers, postgres, polls, bell, runtime, .. } = &*self.shared;
        // Subscribed before any poll asks for the cache.
        let subscribed = polls.subscribe();
        followers.lock().push(Arc::downgrade(&follower));
        let applying = Applying::new(follower.clone(), postgres.clone());
        let task = runtime.spawn(applying.run(subscribed)).abort_handle();
        // The next poll may be half a minute away, and the cache is not read before it.
        bell.poll.notify_one();
        (follower, task)
    }
}

/// The task that polls.
struct Polling {
    postgres: Postgres,
    options: FeedOptions,
    polls: broadcast::Sender<Arc<Batch>>,
    bell: Arc<Bell>,
    begun: Arc<AtomicU64>,
    tiers: Arc<AtomicUsize>,
}

impl Polling {
    /// Polls until it is aborted.
    async fn run(self, followers: Arc<Followers>) {
        let clock = Clock::system();
        let mut position = None;
        let mut failing = false;
        self.connected().await;
        loop {
            let mut caches: Vec<String> = {
                let mut followers = followers.lock();
                followers.retain(|follower| follower.strong_count() > 0);
                followers.iter().filter_map(Weak::upgrade).map(|it| it.schema.cache().to_owned()).collect()
            };
            caches.sort_unstable();
            caches.dedup();
            let (number, began) = (rounds::begin(&self.begun), clock.now());
            let pause = match self.poll(&position, &caches).await {
                Ok((from, polled)) => {
                    if position.is_none() {
                        self.bell.polled.notify_one();
                    }
                    position = Some(polled.position.clone());
                    // Nobody follows: that is no error.
                    let _ = self.polls.send(Arc::new(Batch { number, began, from, polled, caches }));
                    if std::mem::take(&mut failing) {
                        tracing::info!(server = %self.postgres.name(), "the feed is read again");
                    }
                    self.options.poll
                }
                Err(trouble) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(
                            server = %self.postgres.name(), error = %trouble,
                            "the feed cannot be read: its caches are not read until it can be"
                        );
                    }
                    self.options.poll.min(AFTER_FAILURE)
                }
            };
            self.rest(pause).await;
        }
    }

    /// Waits until there is a connection, or there should be one. A poll before that would fail, and a normal start is no trouble.
    async fn connected(&self) {
        let connected = async {
            while !self.postgres.is_connected() {
                sleep(CONNECTED).await;
            }
        };
        let _ = timeout(self.postgres.link().kind().options.connect_timeout, connected).await;
    }

    /// The pause between two polls. It ends when the bell rings; a bell that has rung during the poll ends it as well, since the poll may not have seen why.
    async fn rest(&self, pause: Duration) {
        let shortest = pause.min(SHORTEST);
        sleep(shortest).await;
        let _ = timeout(pause.saturating_sub(shortest), self.bell.poll.notified()).await;
    }

    /// One poll, and where it began. A position that the database no longer has is given up: then it began nowhere.
    async fn poll(
        &self,
        position: &Option<Position>,
        caches: &[String],
    ) -> Result<(Option<Position>, Polled), Trouble> {
        if let Some(from) = position {
            let caches: Vec<&str> = caches.iter().map(String::as_str).collect();
            if let Some(polled) =
                poll::poll(&self.postgres, from, &caches, self.tiers.load(Ordering::SeqCst) > 0).await?
            {
                return Ok((Some(from.clone()), polled));
            }
            tracing::info!(
                server = %self.postgres.name(),
                "the place in the feed is not kept any more (the server was restarted, or this node was away for long): its caches begin anew"
            );
        }
        let position = poll::begin(&self.postgres).await?;
        Ok((None, Polled { trimmed: position.clone(), position, changes: Vec::new(), touched: None }))
    }
}
