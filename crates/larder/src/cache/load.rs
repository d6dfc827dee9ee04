//! Loading on a miss: one loader per key and node at a time (single flight).
//!
//! A load runs in a task of its own, so a caller that goes away cancels nobody else's. Who may be answered by it:
//!
//! - callers who were there *before* it began, always: it read the source after they asked;
//! - callers who joined *after* it began may have started after a change that the load has missed. They are answered if the
//!   connector accepted the fill, and had given them their ticket no later than that: every change that was over before they
//!   asked is then among those that the fill was checked against. The others share the next load, which begins when this one
//!   has ended, and looks into the cache first: one look for all, also for those whose own was shed.
//!
//! So nobody waits for more than two loads, and however many wait, they share them.
//!
//! [`LoadOptions`] add to that; where a caller is served an object that is old, it was in the cache when he was served, and so no
//! invalidation had reached it.

use crate::cache::Cache;
#[cfg(doc)]
use crate::contract::LoadOptions;
use crate::contract::{KeyRef, Lookup, Miss, Ticket};
use crate::entry::{Entry, Index};
use crate::failure::{AsError, Failure};
use crate::key::KeyFor;
use std::any::TypeId;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Instrument;

mod comeback_limit;
mod deadlock;
mod error;
mod lease;
mod many;
mod single_flight;

pub(crate) use comeback_limit::{COMEBACK_LOADS, ComebackLimit};
use deadlock::LOADING;
pub use error::LoadError;
use lease::Turn;
pub(crate) use single_flight::LoadsUnderWay;
use single_flight::{Finished, Leader, Load, LoadId, Part, answers_late_joiner};

/// A time that far in the future; at most thirty years, which no clock and no timer overflows at.
fn from_now(time: Duration) -> Instant {
    const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);
    Instant::now() + time.min(FOREVER)
}

type Loaded<E, Err> = Result<Option<Arc<E>>, LoadError<Err>>;

/// How a load begins.
enum Start {
    /// The caller has looked, and missed, with this ticket.
    Missed(Ticket),
    /// The caller has waited since it looked, or could not look: there may be something now.
    Look,
    /// What the caller has found is to be loaded again.
    Refresh,
}

/// What a caller who waited for a load was given.
enum Waited<E, Err> {
    Finished(Finished<E, Err>),
    /// The load took too long, or failed, and this is still in the cache.
    Instead(Arc<E>),
}

impl<E, Err> Waited<E, Err> {
    fn loaded(self) -> Loaded<E, Err> {
        match self {
            Self::Finished(finished) => finished.loaded,
            Self::Instead(object) => Ok(Some(object)),
        }
    }
}

impl<E: Entry> Cache<E> {
    /// Looks an object up and loads it from its source where the cache has nothing: one load per key and node at a
    /// time, filled into the cache unless an invalidation has overtaken it.
    ///
    /// `loader` gets the key as an owned value and returns the object, or `None` where the source has none (which is remembered
    /// only with [`LoadOptions::negative_age`]). [`LoadOptions`] also say when an object that is old is served and loaded anew in the
    /// background, how long a caller waits, and whether nodes load one after the other.
    ///
    /// ```
    /// # use larder::{Cache, Entry, Schema, connector::memory::{Memory, MemoryOptions}};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: String, #[key(index = "host")] hosts: Vec<String> }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let schema = Schema::of::<Instance>();
    /// # let instances: Cache<Instance> =
    /// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap();
    /// let found = instances
    ///     .get_or_load(Instance::HOST, "acme.example", |host: String| async move {
    ///         // Read the database here.
    ///         Ok::<_, std::io::Error>(Some(Instance { id: "42".into(), hosts: vec![host] }))
    ///     })
    ///     .await;
    /// assert_eq!(found.unwrap().unwrap().id, "42");
    /// assert!(instances.get(Instance::ID, "42").await.is_some());
    /// # }
    /// ```
    ///
    /// # Keys that the object does not list
    ///
    /// The object is filled under the keys that it lists. Where the caller's key is none of them, as `"Jo"` where the object lists
    /// `"jo"`, the cache never has the object under that key, and each call loads it again. That is counted
    /// ([`Stats::unlisted`](crate::contract::Stats::unlisted), `larder_loads_unlisted_total`), and a warning names cache and index, once a
    /// minute at most. Look up by keys in the form in which the objects list them.
    ///
    /// # A source that lags behind
    ///
    /// What a load reads after an invalidation is taken to be as new as that. Where the loader reads a replica of the database that may lag
    /// behind the change, that is not so: give the entry a `#[version]`, and invalidate with
    /// [`invalidate_below`](Self::invalidate_below), or load from the primary database.
    ///
    /// # A loader that fails
    ///
    /// Nothing is cached or remembered, and there is no pause: a caller that looks after the load has failed begins the next one at once.
    /// While a load runs, all who ask for its key wait for that one, so a source in trouble has one load per key and node at a time (one
    /// per key among all nodes with [`LoadOptions::lease`]), each as soon as the one before it has failed. A loader that should rest after
    /// failures needs a [`breaker`](crate::breaker) of its own. With [`LoadOptions::serve_expired`] callers are served meanwhile.
    ///
    /// # Errors
    ///
    /// The loader's error, shared by all who waited for it. It may be whatever is an error, an `anyhow::Error`, or a
    /// `Box<dyn Error + Send + Sync>`: see [`AsError`]. A loader may call `get_or_load` itself; where that
    /// would wait for the loader's own load, it is [`LoadError::Circular`], unless it is called in another task than the loader's.
    ///
    /// # Cancellation
    ///
    /// A dropped call leaves its load running for the others, and for the cache.
    pub async fn get_or_load<T, K, F, L, Err, Way>(&self, index: Index<E, T>, key: K, loader: F) -> Loaded<E, Err>
    where
        T: Send + 'static,
        K: KeyFor<T>,
        F: FnOnce(T) -> L + Send + 'static,
        L: Future<Output = Result<Option<E>, Err>> + Send + 'static,
        Err: AsError<Way>,
    {
        let options = &self.inner.schema.loading;
        let bytes = key.encode();
        let located = KeyRef { index: index.position(), bytes: &bytes };
        if !options.minds_age()
            && let Some(object) = self.get_hit(located)
        {
            return Ok(Some(object));
        }
        let loader = |key| {
            let load = loader(key);
            async move { load.await.map_err(Failure::new) }
        };
        let limit = options.hard_timeout;
        // Outside a runtime nobody keeps the time, and nothing is loaded.
        if limit.is_zero() || Handle::try_current().is_err() {
            return self.find_or_load(located, &key, loader).await;
        }
        let timed_out = |_| {
            self.stats().load_timeouts.increment();
            Err(LoadError::TimedOut(limit))
        };
        tokio::time::timeout(limit, self.find_or_load(located, &key, loader)).await.unwrap_or_else(timed_out)
    }

    /// `located` is `own`, encoded.
    async fn find_or_load<T, K, F, L, Err>(&self, located: KeyRef<'_>, own: &K, loader: F) -> Loaded<E, Err>
    where
        T: Send + 'static,
        K: KeyFor<T>,
        F: FnOnce(T) -> L + Send + 'static,
        L: Future<Output = Result<Option<E>, Failure<Err>>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        // However often the call looks, the first look says whether it is a hit or a miss.
        let mut counted = false;
        let mut looked_again = false;
        let mut waited_for: Option<Arc<Load<E, Err>>> = None;
        // Until when to wait for something better than an expired object, where there is one.
        let mut patience = None;
        let id = || -> LoadId { (located.to_buf(), TypeId::of::<Err>()) };
        loop {
            let mut served = None;
            let (start, part) = match waited_for.take() {
                Some(load) => (Start::Look, self.join_next(load, id())),
                None => {
                    let finished = self.inner.loads.table.lock().finished;
                    let lookup = self.look(located).await;
                    if !std::mem::replace(&mut counted, true) {
                        self.stats().looked(lookup.outcome());
                    }
                    match lookup {
                        Lookup::Hit { value, due: false } => return Ok(Some(value)),
                        Lookup::Hit { value, due: true } => {
                            if let Some(leader) = self.lead_if_none(id()) {
                                self.stats().refreshes.increment();
                                self.start(leader, Start::Refresh, own.to_owned_key(), loader)?;
                            }
                            return Ok(Some(value));
                        }
                        Lookup::Miss { cause: Miss::KnownAbsent, .. } => return Ok(None),
                        Lookup::Miss { ticket, expired, .. } => {
                            if expired.is_some() && patience.is_none() && Handle::try_current().is_ok() {
                                patience = Some(from_now(self.inner.schema.loading.soft_timeout));
                            }
                            if self.inner.schema.loading.soft_timeout.is_zero() {
                                served = expired;
                            }
                            // Without a ticket the caller has not really looked: it was shed, or there was nobody to ask.
                            let start = ticket.map_or(Start::Look, Start::Missed);
                            (start, self.join_or_lead(id(), finished, looked_again))
                        }
                    }
                }
            };
            if let Some(object) = served
                && !matches!(part, Part::LookAgain)
            {
                if let Part::Lead(leader) = part {
                    self.start(leader, start, own.to_owned_key(), loader)?;
                }
                self.stats().served_expired.increment();
                return Ok(Some(object));
            }
            match part {
                Part::LookAgain => looked_again = true,
                Part::Early(load) => {
                    self.stats().joined.increment();
                    return self.wait(&load, patience, located).await.loaded();
                }
                Part::Late(load) => {
                    self.stats().joined.increment();
                    // Before waiting: who comes after this caller must not lead the next load without it.
                    let next = load.next();
                    let finished = match self.wait(&load, patience, located).await {
                        Waited::Finished(finished) => finished,
                        Waited::Instead(object) => return Ok(Some(object)),
                    };
                    // An error is nobody's stale object; sharing it spares a source in trouble.
                    let failed = matches!(finished.loaded, Err(LoadError::Failed(_) | LoadError::Circular));
                    let ticket = match start {
                        Start::Missed(ticket) => Some(ticket),
                        Start::Look | Start::Refresh => None,
                    };
                    if failed || answers_late_joiner(finished.accepted, ticket) {
                        return finished.loaded;
                    }
                    waited_for = Some(next);
                }
                Part::Lead(leader) => {
                    let load = leader.load.clone();
                    self.start(leader, start, own.to_owned_key(), loader)?;
                    return self.wait(&load, patience, located).await.loaded();
                }
            }
        }
    }

    /// Waits for a load. With `patience`, there was an expired object when the caller looked: if that is still there when the patience has
    /// ended or the load has failed, the caller is given it, and else waits on.
    async fn wait<Err: Send + Sync + 'static>(
        &self,
        load: &Load<E, Err>,
        patience: Option<Instant>,
        key: KeyRef<'_>,
    ) -> Waited<E, Err> {
        let Some(patience) = patience else { return Waited::Finished(load.end().await) };
        let in_time = tokio::time::timeout_at(patience, load.end()).await.ok();
        if let Some(finished) = &in_time
            && finished.loaded.is_ok()
        {
            return Waited::Finished(finished.clone());
        }
        // The object may have been invalidated while the caller waited.
        match self.look(key).await {
            Lookup::Hit { value, .. } => Waited::Instead(value),
            Lookup::Miss { expired: Some(object), .. } => match load.finished() {
                // The load has ended during the look. What it has found counts, also if that is nothing.
                Some(finished) if finished.loaded.is_ok() => Waited::Finished(finished),
                _ => {
                    self.stats().served_expired.increment();
                    Waited::Instead(object)
                }
            },
            Lookup::Miss { .. } => match in_time {
                Some(finished) => Waited::Finished(finished),
                None => Waited::Finished(load.end().await),
            },
        }
    }

    /// The look of a load, for all who wait for it. Where it was shed it is tried again, three times within 7 ms: a load that has no ticket
    /// fills nothing, and so is followed by another one.
    async fn look_for_all(&self, key: KeyRef<'_>) -> Lookup<Arc<E>> {
        for pause in [1, 2, 4] {
            match self.look(key).await {
                Lookup::Miss { cause: Miss::Shed, .. } => tokio::time::sleep(Duration::from_millis(pause)).await,
                lookup => return lookup,
            }
        }
        self.look(key).await
    }

    /// Begins a load in a task of its own.
    fn start<T, F, L, Err>(
        &self,
        mut leader: Leader<E, Err>,
        start: Start,
        key: T,
        loader: F,
    ) -> Result<(), LoadError<Err>>
    where
        T: Send + 'static,
        F: FnOnce(T) -> L + Send + 'static,
        L: Future<Output = Result<Option<E>, Failure<Err>>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        let runtime = Handle::try_current().map_err(|_| LoadError::NoRuntime)?;
        let cache = self.clone();
        let span = tracing::debug_span!("larder load", cache = %self.inner.schema.cache);
        let dependencies = leader.load.dependencies.clone();
        let load = async move {
            leader.begin();
            let refresh = matches!(start, Start::Refresh);
            let mut ticket = match start {
                Start::Missed(ticket) => Some(ticket),
                Start::Look => match cache.look_for_all(leader.key.as_ref()).await {
                    Lookup::Hit { value, .. } => return leader.finish(Ok(Some(value)), None),
                    Lookup::Miss { cause: Miss::KnownAbsent, .. } => return leader.finish(Ok(None), None),
                    Lookup::Miss { ticket, .. } => ticket,
                },
                Start::Refresh => cache.inner.connector.ticket().await,
            };
            // Held until the load has finished.
            let mut _lease = None;
            if let Some(own) = ticket
                && !cache.inner.schema.loading.lease.is_zero()
            {
                match lease::turn(&cache, &leader.key, own, refresh).await {
                    Turn::Load(newer, held) => (ticket, _lease) = (newer, held),
                    Turn::Loaded(object) => return leader.finish(Ok(object), None),
                }
            }
            let admission = cache.inner.comeback_limit.admit(ticket.map(|ticket| ticket.epoch)).await;
            cache.stats().held_back.add(u64::from(admission.held_back));
            cache.stats().loads.increment();
            let (loaded, accepted) = match loader(key).await {
                Ok(Some(object)) => {
                    let listed = leader.is_listed_by(&object);
                    if !listed {
                        cache.unlisted(leader.key.index, 1);
                    }
                    let object = Arc::new(object);
                    let accepted = match ticket {
                        Some(ticket) => cache.fill_at(object.clone(), ticket).await.accepted(),
                        None => None,
                    };
                    (Ok(Some(object)), accepted.filter(|_| listed))
                }
                Ok(None) => {
                    let accepted = match ticket.filter(|_| cache.inner.schema.loading.minds_absence()) {
                        Some(ticket) => cache.fill_absent(&leader.key, ticket).await.accepted(),
                        None => None,
                    };
                    (Ok(None), accepted)
                }
                Err(error) => {
                    cache.stats().load_failures.increment();
                    (Err(LoadError::Failed(error)), None)
                }
            };
            leader.finish(loaded, accepted);
        };
        runtime.spawn(LOADING.scope(dependencies, load.instrument(span)));
        Ok(())
    }
}
