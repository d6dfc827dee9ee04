//! The tiered connector: memory of each node (L1) in front of a server that all nodes share (L2), so that a hit costs no round trip.
//!
//! ```text
//!   Tiered, one per cache ── what goes to memory first, and what does not
//!     │            │
//!   near.rs      RedisConnector, PostgresConnector ── what they read is taken into the memory, too
//!     │
//!   following.rs (redis), feed/tiered.rs (postgres) ── ask the server what was touched, forget that, and let the memory be read for a while
//! ```
//!
//! # What a reader may observe
//!
//! The memory is read only for a *validity* after this node has asked the server what was touched, and was answered. With
//! [`Consistency::Strict`], a change counts as applied when every node has said that it knows of it, or when the validity of one that does not must be
//! over. So no get on any node that begins later finds anything older. `docs/protocol-tiers.md` has the argument, and what was checked by a model.
//!
//! With [`Consistency::Bounded`] nobody is waited for: another node may serve the earlier state, for a validity at most, and usually for as long as a message
//! takes. The node that made the change serves nothing older. Over PostgreSQL there is only this, and the deadline of the feed stands for the validity.
//!
//! # What is not in the memory
//!
//! That the source has nothing under a key; objects whose max age is over, or is over soon; objects with a key that was deleted. Each costs a round trip, as
//! without the memory. Where a cache has a last-use age, a hit in memory counts for the memory of its node only: on the server an object may expire that
//! nodes have in use, and the next node that needs it loads it anew.

use crate::connector::near::Near;
use crate::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lease, LeaseToken, Lookup, Lookups, Miss, Object, Place,
    Pruned, Status, Stored, Ticket, Transactions, Value,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::sleep;

#[cfg(feature = "redis")]
mod following;
pub(crate) mod options;
#[cfg(feature = "redis")]
mod over_redis;

pub use crate::contract::Consistency;
pub use options::TieredOptions;

/// Memory of this node in front of one cache on a server that nodes share.
///
/// Over Redis, and over a cluster: `Redis::tiered` and `RedisCluster::tiered` make it. Over a PostgreSQL database: `Feed::tiered`.
#[cfg_attr(feature = "redis", doc = "```no_run")]
#[cfg_attr(not(feature = "redis"), doc = "```ignore")]
/// use larder::connector::redis::{Redis, RedisOptions};
/// use larder::connector::tiered::TieredOptions;
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
/// let redis = Redis::open(RedisOptions::new("cache.internal:6379"))?;
/// let schema = Schema::of::<Instance>();
/// let instances: Cache<Instance> = Cache::new(Arc::new(redis.tiered(schema.clone(), &TieredOptions::new())?), schema)?;
/// # Ok(()) }
/// ```
///
/// Every node that uses the cache should use it so. Over Redis a node that does not waits with its changes all the same, as soon as the server has told it that
/// others do.
pub struct Tiered<C> {
    near: Arc<Near>,
    far: C,
    keeper: Box<dyn Keeper>,
}

/// What keeps the memory right. It ends when it is dropped.
pub(crate) trait Keeper: Send + Sync {
    /// Ends it before that: nobody reads the memory any more, and no other node waits for this one.
    fn leave(&self) -> Answer<'_, ()>;
}

/// Ends the task that lets the memory be read, and the reading.
pub(crate) async fn end_reading(near: &Near, task: &AbortHandle) {
    task.abort();
    // Until it has ended, it may let the memory be read once more.
    while !task.is_finished() {
        sleep(LOOK).await;
    }
    near.extend(0);
}

/// How often it is looked whether a task has ended.
const LOOK: Duration = Duration::from_millis(1);

impl<C> Tiered<C> {
    pub(crate) fn new(near: Arc<Near>, far: C, keeper: Box<dyn Keeper>) -> Self {
        Self { near, far, keeper }
    }

    /// The part without the memory.
    #[must_use]
    pub fn over(&self) -> &C {
        &self.far
    }

    /// For how long the memory may still be read, in ms, if the node does not hear from the server again.
    #[must_use]
    pub fn valid_for_ms(&self) -> u64 {
        self.near.valid_for()
    }

    /// Waits for a change. Unless it is applied, this node forgets everything that it has in memory: also if the caller goes away.
    async fn change<T>(&self, change: Answer<'_, T>, is_applied: impl Fn(&T) -> bool) -> T
    where
        T: Unpin,
    {
        let mut forgetting = ForgetsUnlessApplied { near: &self.near, applied: false };
        let answer = change.await;
        forgetting.applied = is_applied(&answer);
        answer
    }

    fn delivered(&self, change: Answer<'_, Result<Delivery, Error>>) -> impl Future<Output = Result<Delivery, Error>> {
        self.change(change, |delivery| matches!(delivery, Ok(Delivery::Applied)))
    }
}

/// A change on its way. If it is dropped before the change is applied, the memory is cleared.
struct ForgetsUnlessApplied<'a> {
    near: &'a Near,
    applied: bool,
}

impl Drop for ForgetsUnlessApplied<'_> {
    fn drop(&mut self) {
        if !self.applied {
            self.near.clear();
        }
    }
}

impl<C: std::fmt::Debug> std::fmt::Debug for Tiered<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tiered").field("over", &self.far).finish_non_exhaustive()
    }
}

impl<C: Connector> Connector for Tiered<C> {
    #[inline]
    fn get_hit(&self, key: KeyRef<'_>) -> Option<Value> {
        self.near.get(key)
    }

    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        match self.near.get(key) {
            Some(value) => Answer::now(Ok(value)),
            None => self.far.get(key),
        }
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        match self.near.get(key) {
            Some(value) => Answer::now(Lookup::hit(value)),
            None => self.far.lookup(key),
        }
    }

    fn lease<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, (Lease, Lookup)> {
        self.far.lease(key)
    }

    fn release<'a>(&'a self, key: KeyRef<'a>, token: LeaseToken) -> Answer<'a, ()> {
        self.far.release(key, token)
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.far.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        self.far.fill(object, ticket)
    }

    fn fill_absent<'a>(&'a self, key: KeyRef<'a>, ticket: Ticket) -> Answer<'a, Fill> {
        self.far.fill_absent(key, ticket)
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        Answer::later(self.change(self.far.put(object, ticket), |stored| *stored != Stored::Unavailable))
    }

    fn set(&self, object: Object) -> Answer<'_, Stored> {
        Answer::later(self.change(self.far.set(object), |stored| *stored != Stored::Unavailable))
    }

    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        let near: Vec<Option<Value>> = keys.iter().map(|key| self.near.get(*key)).collect();
        if near.iter().all(Option::is_some) {
            return Answer::now(near.into_iter().flatten().map(Ok).collect());
        }
        Answer::later(async move {
            let missing = missing(keys, &near);
            together(near, self.far.get_many(&missing).await)
        })
    }

    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Lookups> {
        let near: Vec<Option<Value>> = keys.iter().map(|key| self.near.get(*key)).collect();
        if near.iter().all(Option::is_some) {
            return Answer::now(Lookups { found: near.into_iter().flatten().map(Ok).collect(), ticket: None });
        }
        Answer::later(async move {
            let missing = missing(keys, &near);
            let Lookups { found, ticket } = self.far.lookup_many(&missing).await;
            Lookups { found: together(near, found), ticket }
        })
    }

    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        self.far.fill_many(objects, ticket)
    }

    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        let is_applied = |stored: &Vec<Stored>| !stored.contains(&Stored::Unavailable);
        Answer::later(self.change(self.far.set_many(objects), is_applied))
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        Answer::later(self.delivered(self.far.invalidate(keys, floor)))
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        Answer::later(self.delivered(self.far.delete(keys)))
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        Answer::later(self.delivered(self.far.truncate()))
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        Answer::later(async move {
            self.near.prune().await;
            self.far.prune().await
        })
    }

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        self.far.untouched(keys, since)
    }

    fn connection(&self) -> u64 {
        self.far.connection()
    }

    fn place(&self) -> Answer<'_, Option<Place>> {
        self.far.place()
    }

    fn set_place(&self, place: Vec<u8>, connection: u64) -> Answer<'_, ()> {
        self.far.set_place(place, connection)
    }

    fn transactions(&self) -> Transactions<'_> {
        self.far.transactions()
    }

    fn leave(&self) -> Answer<'_, ()> {
        self.keeper.leave()
    }

    fn status(&self) -> Status {
        let (near, far) = (self.near.status(), self.far.status());
        Status { objects: near.objects, bytes: near.bytes, valid_for_ms: Some(self.valid_for_ms()), ..far }
    }

    fn publish(&self) {
        self.far.publish();
    }
}

/// The keys that were not found.
fn missing<'a>(keys: &[KeyRef<'a>], near: &[Option<Value>]) -> Vec<KeyRef<'a>> {
    keys.iter().zip(near).filter(|(_, found)| found.is_none()).map(|(key, _)| *key).collect()
}

/// What was found in memory, and in the places where nothing was, what the server has answered.
fn together(near: Vec<Option<Value>>, far: Vec<Result<Value, Miss>>) -> Vec<Result<Value, Miss>> {
    let mut far = far.into_iter();
    near.into_iter().map(|found| found.map_or_else(|| far.next().unwrap_or(Err(Miss::Fault)), Ok)).collect()
}
