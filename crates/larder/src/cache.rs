//! [`Cache`]: the objects of one entry type, found by any of their keys.

use crate::cache::audit::Sampling;
use crate::cache::load::{ComebackLimit, LoadsUnderWay};
use crate::clock::Clock;
use crate::contract::Stats;
use crate::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lease, Lookup, Miss, Object, Pruned, Schema, Status,
    Stored, Ticket, Value, WrongSchema,
};
use crate::entry::index::name_at;
use crate::entry::{AnyKey, Entry, Index, Keys};
use crate::failure::{AsError, Failure};
use crate::key::{self, Key, KeyFor};
use crate::protection::{Protection, holds};
use crate::telemetry::WarningLimit;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub mod audit;
mod error;
#[cfg(any(feature = "tokio-postgres", feature = "sqlx-postgres"))]
mod in_transaction;
mod load;
mod many;

pub use error::UpdateError;
pub(crate) use load::COMEBACK_LOADS;
pub use load::LoadError;

/// The objects of one entry type, found by any of their keys. A clone is cheap, and is the same cache.
///
/// # Consistency
///
/// After an [`invalidate`](Self::invalidate), [`set`](Self::set) or [`update`](Self::update) has returned, no get that starts later, on any
/// node, returns the earlier state, and no load that began earlier can bring it back. The contract in `ARCHITECTURE.md` says what
/// *deferred* means while the connector cannot be reached.
///
/// # Cancellation
///
/// Every future may be dropped at any await point. If an invalidation is not finished then, its keys go to the journal. A load goes on for
/// the other callers that wait for it.
pub struct Cache<E: Entry> {
    pub(crate) inner: Arc<Inner>,
    entry: PhantomData<fn() -> E>,
}

pub(crate) struct Inner {
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) schema: Schema,
    pub(crate) loads: LoadsUnderWay,
    pub(crate) comeback_limit: ComebackLimit,
    pub(crate) sampling: Sampling,
    clock: Clock,
    warned: Warned,
}

/// When this cache last warned of problems that may come with every call.
#[derive(Default)]
struct Warned {
    impossible_key: WarningLimit,
    unfit: WarningLimit,
    unlisted: WarningLimit,
}

impl Inner {
    /// Publishes all counters of the cache to the metrics recorder.
    pub(crate) fn publish(&self) {
        self.schema.stats.publish(&self.schema.cache, &self.connector.status());
        self.connector.publish();
        self.sampling.publish(&self.schema.cache);
    }
}

/// The future of [`Cache::get`].
///
/// It is small, because a hit in memory moves it, and so its size is a cost of each hit. What a miss needs is allocated on a miss only.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Get<'a, E: Entry, K> {
    cache: &'a Cache<E>,
    /// The position of the index.
    index: u8,
    key: Option<K>,
    /// The rest of the get, after a miss. It owns the key, because it cannot borrow from the `Get` that holds it.
    later: Option<Later<Option<Arc<E>>>>,
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

// Only `later` has to be pinned, and it is in a box.
impl<E: Entry, K> Unpin for Get<'_, E, K> {}

impl<E: Entry, K: Key> Future for Get<'_, E, K> {
    type Output = Option<Arc<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(later) = &mut this.later {
            return later.as_mut().poll(context);
        }
        // A future is not polled again after it was ready, so the key is still there.
        let Some(key) = this.key.take() else { return Poll::Pending };
        let bytes = key.encode();
        let key = KeyRef { index: this.index, bytes: &bytes };
        if let Some(object) = this.cache.get_hit(key) {
            return Poll::Ready(Some(object));
        }
        let later = this.cache.clone().get_later(key.to_buf());
        this.later.insert(Box::pin(later)).as_mut().poll(context)
    }
}

impl<E: Entry, K> fmt::Debug for Get<'_, E, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get").field("index", &name_at::<E>(self.index)).finish_non_exhaustive()
    }
}

impl<E: Entry> Cache<E> {
    /// Makes a cache over a connector that was opened for `schema`. Usually [`Caches::open`](crate::Caches::open) does this.
    ///
    /// # Errors
    ///
    /// The schema was made for another entry type.
    pub fn new(connector: Arc<dyn Connector>, schema: Schema) -> Result<Self, WrongSchema> {
        schema.must_be_of::<E>()?;
        Ok(Self::over(connector, schema, COMEBACK_LOADS, Clock::system()))
    }

    /// Like [`new`](Self::new), for a schema that is known to be of `E`. At most `comeback_loads` loads begin at once after the cache was
    /// emptied. The clock limits how often the cache warns.
    pub(crate) fn over(connector: Arc<dyn Connector>, schema: Schema, comeback_loads: usize, clock: Clock) -> Self {
        let inner = Inner {
            connector,
            schema,
            loads: LoadsUnderWay::default(),
            comeback_limit: ComebackLimit::new(comeback_loads),
            sampling: Sampling::default(),
            clock,
            warned: Warned::default(),
        };
        Self { inner: Arc::new(inner), entry: PhantomData }
    }

    /// Looks an object up by one of its keys. Trouble of any kind is a miss; its cause is counted in [`stats`](Self::stats).
    pub fn get<T, K: KeyFor<T>>(&self, index: Index<E, T>, key: K) -> Get<'_, E, K> {
        Get { cache: self, index: index.position(), key: Some(key), later: None }
    }

    /// Returns a hit that the connector has at once, without a future.
    #[inline]
    pub(crate) fn get_hit(&self, key: KeyRef<'_>) -> Option<Arc<E>> {
        if self.inner.sampling.is_on() {
            return self.get_sampled_hit(key);
        }
        let value = self.inner.connector.get_hit(key)?;
        let object = value.downcast::<E>().ok()?;
        self.inner.schema.stats.hits.increment();
        Some(object)
    }

    #[cold]
    #[inline(never)]
    fn get_sampled_hit(&self, key: KeyRef<'_>) -> Option<Arc<E>> {
        if self.inner.sampling.bypasses() {
            return None;
        }
        let object = self.inner.connector.get_hit(key)?.downcast::<E>().ok()?;
        self.inner.schema.stats.hits.increment();
        self.inner.sampling.offer(key, &object);
        Some(object)
    }

    async fn get_later(self, key: KeyBuf) -> Option<Arc<E>> {
        let key = self.checked(key.as_ref());
        let got = match key {
            Ok(_) if self.inner.sampling.bypasses() => Err(Miss::Bypassed),
            Ok(key) => self.inner.connector.get(key).await,
            Err(miss) => Err(miss),
        };
        let object = self.counted(got).ok()?;
        self.inner.sampling.offer(key.ok()?, &object);
        Some(object)
    }

    /// Looks an object up. On a miss it also takes a ticket for the load that follows.
    ///
    /// [`get_or_load`](Self::get_or_load) looks up, loads and fills in one call. Use `lookup` and [`fill`](Self::fill) for a load that does
    /// not fit into one closure.
    ///
    /// ```
    /// # use larder::{Cache, Entry, Lookup, Schema, connector::memory::{Memory, MemoryOptions}};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: String }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let schema = Schema::of::<Instance>();
    /// # let instances: Cache<Instance> =
    /// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap();
    /// match instances.lookup(Instance::ID, "42").await {
    ///     Lookup::Hit { value, .. } => assert_eq!(value.id, "42"),
    ///     Lookup::Miss { ticket, .. } => {
    ///         // Read the database here.
    ///         let loaded = Instance { id: "42".into() };
    ///         if let Some(ticket) = ticket {
    ///             instances.fill(loaded, ticket).await;
    ///         }
    ///     }
    /// }
    /// assert!(instances.get(Instance::ID, "42").await.is_some());
    /// # }
    /// ```
    pub async fn lookup<T>(&self, index: Index<E, T>, key: impl KeyFor<T>) -> Lookup<Arc<E>> {
        let lookup = self.look(KeyRef { index: index.position(), bytes: &key.encode() }).await;
        self.stats().looked(lookup.outcome());
        lookup
    }

    /// Looks an object up without counting it: a call may look several times, and counts as one hit or one miss.
    pub(crate) async fn look(&self, key: KeyRef<'_>) -> Lookup<Arc<E>> {
        let key = self.checked(key);
        let lookup = match key {
            Ok(_) if self.inner.sampling.bypasses() => {
                Lookup::miss(Miss::Bypassed, self.inner.connector.ticket().await)
            }
            Ok(key) => self.inner.connector.lookup(key).await,
            Err(miss) => Lookup::miss(miss, None),
        };
        let lookup = lookup_of_this_type(lookup);
        if let (Lookup::Hit { value, .. }, Ok(key)) = (&lookup, key) {
            self.inner.sampling.offer(key, value);
        }
        lookup
    }

    /// Asks for the lease to load what is missing under this key, then looks the key up again. The key must be valid.
    pub(crate) async fn lease(&self, key: &KeyBuf) -> (Lease, Lookup<Arc<E>>) {
        let (lease, lookup) = self.inner.connector.lease(key.as_ref()).await;
        let bypassed = matches!(lookup, Lookup::Hit { .. }) && self.inner.sampling.bypasses();
        let lookup = if bypassed { Lookup::miss(Miss::Bypassed, None) } else { lookup };
        (lease, lookup_of_this_type(lookup))
    }

    /// Stores an object that the caller knows to be current. The object's earlier state, and every other object that holds one of its keys,
    /// is gone under all keys, whatever the outcome is; see [`Stored`].
    ///
    /// Current means committed in the source: set an object *after* the commit of the transaction that wrote it. If the transaction is
    /// rolled back after a set, the cache serves an object that was never in the source, until it expires or is invalidated.
    ///
    /// If another writer may change the same object at the same time, prefer [`update`](Self::update). Without a version, a plain set
    /// cannot know whether a newer value has overtaken its own on the way.
    pub async fn set(&self, object: impl Into<Arc<E>>) -> Stored {
        self.put(object.into(), |connector, object| connector.set(object)).await
    }

    /// Runs a write to the source and stores the object that the write returns: write-through that cannot lose a race. If anything has
    /// touched one of the object's keys meanwhile, the object is invalidated instead of stored. The write must commit before it returns, or
    /// return an error and leave the source as it was.
    ///
    /// ```
    /// # use larder::{Cache, Entry, Schema, connector::memory::{Memory, MemoryOptions}};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: String, name: String }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let schema = Schema::of::<Instance>();
    /// # let instances: Cache<Instance> =
    /// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap();
    /// let renamed = instances
    ///     .update(async {
    ///         // Write to the database here, and return the new state.
    ///         Ok::<_, std::io::Error>(Instance { id: "42".into(), name: "Acme".into() })
    ///     })
    ///     .await;
    /// assert_eq!(renamed.unwrap().name, "Acme");
    /// assert!(instances.get(Instance::ID, "42").await.is_some());
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`UpdateError`]. After an error the cache is as it was. If the write may have happened in spite of the error, for example
    /// because the connection was lost during the commit, [`invalidate`](Self::invalidate) the object's keys.
    ///
    /// # Cancellation
    ///
    /// The write runs in a task of its own. Once it has begun, a caller that goes away does not cancel it, so the cache learns of each
    /// write that has reached the source. If the future is dropped before the write has begun, nothing happens.
    pub async fn update<Err: AsError<Way>, Way>(
        &self,
        write: impl Future<Output = Result<E, Err>> + Send + 'static,
    ) -> Result<Arc<E>, UpdateError<Err>> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| UpdateError::NoRuntime)?;
        let ticket = self.inner.connector.ticket().await;
        let cache = self.clone();
        let written = runtime.spawn(async move {
            let object = Arc::new(write.await.map_err(|error| Some(Failure::new(error)))?);
            let ticket = if holds(Protection::Ticket) { ticket } else { cache.inner.connector.ticket().await };
            cache.put(object.clone(), |connector, object| connector.put(object, ticket)).await;
            Ok(object)
        });
        written.await.unwrap_or(Err(None)).map_err(|error| error.map_or(UpdateError::Aborted, UpdateError::Failed))
    }

    /// Stores the object that a load has read, unless an invalidation or a set has overtaken it. The load must have begun after `ticket`
    /// was taken.
    pub async fn fill(&self, object: impl Into<Arc<E>>, ticket: Ticket) -> Stored {
        self.fill_at(object.into(), ticket).await.stored
    }

    pub(crate) async fn fill_at(&self, object: Arc<E>, ticket: Ticket) -> Fill {
        let fill = match self.object(object) {
            Ok(object) => self.inner.connector.fill(object, self.protected(ticket).await).await,
            Err(_) => Fill::undated(Stored::Unfit),
        };
        self.inner.schema.stats.fill(fill.stored).increment();
        fill
    }

    /// Remembers that a load has found nothing under this key. The load must have begun after `ticket` was taken.
    pub(crate) async fn fill_absent(&self, key: &KeyBuf, ticket: Ticket) -> Fill {
        self.inner.connector.fill_absent(key.as_ref(), self.protected(ticket).await).await
    }

    /// Returns the ticket. If the protection [`Protection::Ticket`] is off, returns a new ticket instead.
    async fn protected(&self, ticket: Ticket) -> Ticket {
        match holds(Protection::Ticket) {
            true => ticket,
            false => self.inner.connector.ticket().await.unwrap_or(ticket),
        }
    }

    async fn put(
        &self,
        object: Arc<E>,
        put: impl for<'a> FnOnce(&'a dyn Connector, Object) -> Answer<'a, Stored>,
    ) -> Stored {
        let outcome = match self.object(object) {
            Ok(object) => put(&*self.inner.connector, object).await,
            Err(valid) => {
                // The object's earlier state must go even so. The outcome is ignored here: the connector's journal counts what it defers.
                let _ = self.inner.connector.invalidate(valid, None).await;
                Stored::Unfit
            }
        };
        self.inner.schema.stats.put(outcome).increment();
        outcome
    }

    /// Forgets every object that one of `keys` leads to, under all of its keys. Unknown keys are fine.
    ///
    /// # After the commit
    ///
    /// Invalidate *after* the change is committed. A load that begins between the invalidation and the commit reads the state before the
    /// change, and nothing refuses its fill: the cache then serves the old state until it expires. After the commit no load can read the
    /// old state any more.
    ///
    /// A transaction that is rolled back needs no invalidation; an invalidation that was made for it costs one load. A process that dies
    /// between commit and invalidation has told nobody; only the max age bounds how long the old state is served. Where the source is
    /// PostgreSQL, `invalidate_in` (cargo features `tokio-postgres` and `sqlx-postgres`) makes the invalidation a part of the transaction.
    ///
    /// # Errors
    ///
    /// A key that cannot exist (empty, or longer than [`MAX_KEY_LEN`](crate::MAX_KEY_LEN)). The other keys are handled first.
    pub async fn invalidate<T, K: KeyFor<T>>(
        &self,
        index: Index<E, T>,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Delivery, Error> {
        self.invalidate_keys(self.valid_keys(index, keys), None).await
    }

    /// Like [`invalidate`](Self::invalidate), and for a minute refuses to store a version of those objects that is lower than `version`.
    ///
    /// Use this if loaders read a replica of the database that lags behind. Such a load may begin after the invalidation and still read the
    /// state before the change. Its ticket is newer than the invalidation, so only the version shows that the state is old. Give the
    /// version that the change has written. The entry needs a `#[version]`; without one this is the same as
    /// [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_below<T, K: KeyFor<T>>(
        &self,
        index: Index<E, T>,
        keys: impl IntoIterator<Item = K>,
        version: u64,
    ) -> Result<Delivery, Error> {
        self.invalidate_keys(self.valid_keys(index, keys), Some(version)).await
    }

    /// Invalidates the objects that a change from `old` to `new` touches: by all keys of both.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_change(&self, old: &E, new: &E) -> Result<Delivery, Error> {
        let (mut keys, invalid) = self.valid(Keys::of(old).into_iter().chain(Keys::of(new)));
        // Most keys are in both. The order of the keys does not matter.
        keys.sort_unstable();
        keys.dedup();
        self.invalidate_keys((keys, invalid), None).await
    }

    async fn invalidate_keys(
        &self,
        (keys, invalid): (Vec<KeyBuf>, Option<Error>),
        floor: Option<u64>,
    ) -> Result<Delivery, Error> {
        let floor = if self.inner.schema.versioned { floor } else { None };
        let delivery = self.inner.connector.invalidate(keys, floor).await?;
        self.inner.schema.stats.delivery(delivery);
        invalid.map_or(Ok(delivery), Err)
    }

    /// Makes only these keys miss. The objects stay reachable through their other keys.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn delete<T, K: KeyFor<T>>(
        &self,
        index: Index<E, T>,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Delivery, Error> {
        let (keys, invalid) = self.valid_keys(index, keys);
        let delivery = self.inner.connector.delete(keys).await?;
        self.inner.schema.stats.delivery(delivery);
        invalid.map_or(Ok(delivery), Err)
    }

    /// Forgets everything in this cache. Other data on the same server is untouched.
    ///
    /// # Errors
    ///
    /// None today: a truncate that cannot be done now is deferred.
    pub async fn truncate(&self) -> Result<Delivery, Error> {
        let delivery = self.inner.connector.truncate().await?;
        self.inner.schema.stats.delivery(delivery);
        Ok(delivery)
    }

    /// Cleans up expired objects and keys that lead nowhere. This never counts as a use of an object.
    ///
    /// # Errors
    ///
    /// The connector could not be reached.
    pub async fn prune(&self) -> Result<Pruned, Error> {
        self.inner.connector.prune().await
    }

    /// The counters of this cache on this node.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.inner.schema.stats
    }

    /// How the connector is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.connector.status()
    }

    /// What the connector knows of this cache: its name, indexes, ages and fingerprint.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.inner.schema
    }

    /// Returns the key if it can exist. Otherwise warns now and then.
    fn checked<'a>(&self, key: KeyRef<'a>) -> Result<KeyRef<'a>, Miss> {
        if let Err(error) = key::check(key.bytes) {
            let Inner { clock, warned, schema, .. } = &*self.inner;
            if let Some(entries) = warned.impossible_key.admit(clock, 1) {
                let index = name_at::<E>(key.index);
                tracing::warn!(cache = %schema.cache, index, entries, %error, "looked up by a key that cannot exist");
            }
            return Err(Miss::InvalidKey);
        }
        Ok(key)
    }

    /// Counts the result of a call as one hit or one miss.
    fn counted(&self, got: Result<Value, Miss>) -> Result<Arc<E>, Miss> {
        let object = of_this_type(got);
        self.stats().looked(object.as_ref().map(|_| ()).map_err(|miss| *miss));
        object
    }

    /// Counts loads by keys of this index whose objects do not list the key that was asked for. Warns of them now and then.
    pub(crate) fn unlisted(&self, index: u8, loads: u64) {
        let Inner { clock, warned, schema, .. } = &*self.inner;
        schema.stats.unlisted.add(loads);
        if let Some(entries) = warned.unlisted.admit(clock, loads) {
            tracing::warn!(
                cache = %schema.cache, index = name_at::<E>(index), entries,
                "a loader returned an object that does not list the key it was loaded by, so the cache never has the \
                 object under this key, and each get loads it again; look up by keys in the form that the objects list"
            );
        }
    }

    /// Warns now and then of an object that cannot be cached.
    fn warn_of_unfit(&self, error: &dyn fmt::Display) {
        let Inner { clock, warned, schema, .. } = &*self.inner;
        if let Some(entries) = warned.unfit.admit(clock, 1) {
            tracing::warn!(cache = %schema.cache, entries, %error, "an object cannot be cached");
        }
    }

    fn valid_keys<T, K: KeyFor<T>>(
        &self,
        index: Index<E, T>,
        keys: impl IntoIterator<Item = K>,
    ) -> (Vec<KeyBuf>, Option<Error>) {
        self.valid(keys.into_iter().map(|key| index.key(key)))
    }

    /// The keys that can exist. If there are others, also the reason why one of them cannot.
    fn valid(&self, keys: impl IntoIterator<Item = AnyKey<E>>) -> (Vec<KeyBuf>, Option<Error>) {
        let mut valid = Vec::new();
        let mut invalid = None;
        for key in keys {
            match self.valid_key(key) {
                Ok(key) => valid.push(key),
                Err(error) => invalid = Some(error),
            }
        }
        (valid, invalid)
    }

    fn valid_key(&self, key: AnyKey<E>) -> Result<KeyBuf, Error> {
        match key::check(key.bytes()) {
            Ok(()) => Ok(key.into_buf()),
            Err(reason) => {
                Err(Error::Key { cache: self.inner.schema.cache.clone(), index: key.index().name(), reason })
            }
        }
    }

    /// The object in the form that a connector takes. If the object cannot be cached: those of its keys that are valid.
    fn object(&self, value: Arc<E>) -> Result<Object, Vec<KeyBuf>> {
        let mut primary = Vec::with_capacity(1);
        let mut secondary = Vec::new();
        let mut fit = true;
        for key in Keys::of(&*value) {
            match self.valid_key(key) {
                Ok(key) if key.index == 0 => primary.push(key),
                Ok(key) => secondary.push(key),
                Err(error) => {
                    self.warn_of_unfit(&error);
                    fit = false;
                }
            }
        }
        if fit && primary.len() != 1 {
            self.warn_of_unfit(&format_args!("it has {} primary keys, and needs exactly one", primary.len()));
            fit = false;
        }
        if fit && secondary.len() > usize::from(u16::MAX) {
            self.warn_of_unfit(&format_args!("it has {} secondary keys, more than {}", secondary.len(), u16::MAX));
            fit = false;
        }
        match primary.pop() {
            Some(key) if fit => {
                Ok(Object { primary: key.bytes, secondary, version: value.version(), value: value as Value })
            }
            last => Err(primary.into_iter().chain(last).chain(secondary).collect()),
        }
    }
}

fn of_this_type<E: Entry>(got: Result<Value, Miss>) -> Result<Arc<E>, Miss> {
    got.and_then(|value| value.downcast::<E>().map_err(|_| Miss::Undecodable))
}

fn lookup_of_this_type<E: Entry>(lookup: Lookup) -> Lookup<Arc<E>> {
    match lookup {
        Lookup::Hit { value, due } => match of_this_type(Ok(value)) {
            Ok(value) => Lookup::Hit { value, due },
            Err(cause) => Lookup::miss(cause, None),
        },
        // Nothing has to be loaded, and nothing is served instead.
        Lookup::Miss { cause: Miss::KnownAbsent, .. } => Lookup::miss(Miss::KnownAbsent, None),
        Lookup::Miss { cause, ticket, expired } => {
            let expired = expired.and_then(|value| value.downcast::<E>().ok());
            Lookup::Miss { cause, ticket, expired }
        }
    }
}

impl<E: Entry> Clone for Cache<E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), entry: PhantomData }
    }
}

impl<E: Entry> fmt::Debug for Cache<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("cache", &self.inner.schema.cache).finish_non_exhaustive()
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use crate::entry::color::Color;

    /// A hit in memory moves the future, so each byte of it costs each hit.
    #[test]
    fn the_future_of_a_get_is_small() {
        assert_eq!(size_of::<Get<'_, Color, &str>>(), 48);
    }
}
