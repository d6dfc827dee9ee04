//! Loading on a miss: one loader per key and node at a time (single flight).
//!
//! A load runs in a task of its own, so a caller that goes away does not cancel the load of others. Two kinds of callers wait for a load:
//!
//! - A caller that was there *before* the load began is always answered by it: the load read the source after the caller asked.
//! - A caller that joined *after* the load began may have come after a change that the load has missed. It is answered only if the
//!   connector accepted the fill, and gave the caller its ticket no later than that. Every change that was over before the caller asked is
//!   then among those that the fill was checked against. All other late callers share the next load. That load begins when this one has
//!   ended, and first looks into the cache once for all of them, also for callers whose own look was shed.
//!
//! So nobody waits for more than two loads, however many callers wait.
//!
//! [`LoadOptions`] add to these rules. If a caller is served an old object, the object was in the cache at that moment, so no invalidation
//! had reached it.

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

/// The time so far in the future. At most thirty years, so that no clock and no timer overflows.
fn from_now(time: Duration) -> Instant {
    const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);
    Instant::now() + time.min(FOREVER)
}

type Loaded<E, Err> = Result<Option<Arc<E>>, LoadError<Err>>;

/// How a load begins.
enum Start {
    /// The caller has looked up the key and missed, with this ticket.
    Missed(Ticket),
    /// The caller looked a while ago, or could not look: the load has to look first.
    Look,
    /// The caller has found an object that is to be loaded anew.
    Refresh,
}

/// What a caller that waited for a load is given.
enum Waited<E, Err> {
    Finished(Finished<E, Err>),
    /// The load took too long, or failed, and this object is still in the cache.
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
    /// Looks an object up. If the cache does not have it, loads the object from its source, with one load per key and node at a time. The
    /// loaded object is filled into the cache unless an invalidation has overtaken it.
    ///
    /// `loader` gets the key as an owned value and returns the object, or `None` if the source has none. That the source has none is
    /// remembered only with [`LoadOptions::negative_age`]. [`LoadOptions`] also say when an old object is served and loaded anew in the
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
    /// The object is filled under the keys that it lists. If the caller's key is not among them (the caller asks for `"Jo"`, the object
    /// lists `"jo"`), the cache never has the object under that key, and each call loads it again. Such loads are counted
    /// ([`Stats::unlisted`](crate::contract::Stats::unlisted), `larder_loads_unlisted_total`), and at most once a minute a warning names
    /// cache and index. Look up by keys in the form in which the objects list them.
    ///
    /// # A source that lags behind
    ///
    /// larder takes what a load reads after an invalidation to be as new as that invalidation. This is wrong if the loader reads a replica
    /// of the database that may lag behind the change. In that case give the entry a `#[version]` and invalidate with
    /// [`invalidate_below`](Self::invalidate_below), or load from the primary database.
    ///
    /// # A loader that fails
    ///
    /// After a failed load nothing is cached or remembered, and there is no pause: the next caller begins the next load at once. While a
    /// load runs, all callers of its key wait for it. So a source in trouble has one load per key and node at a time (one per key among all
    /// nodes with [`LoadOptions::lease`]), each as soon as the one before has failed. A loader that should rest after failures needs a
    /// [`breaker`](crate::breaker) of its own. With [`LoadOptions::serve_expired`] callers are served meanwhile.
    ///
    /// # Errors
    ///
    /// The loader's error, shared by all callers that waited for the load. It may be any error type, an `anyhow::Error`, or a
    /// `Box<dyn Error + Send + Sync>`: see [`AsError`]. A loader may call `get_or_load` itself. If that call would wait for the loader's
    /// own load, it returns [`LoadError::Circular`]. A call in another task than the loader's is not detected.
    ///
    /// # Cancellation
    ///
    /// A dropped call leaves its load running, for the other callers and for the cache.
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
        // Outside a runtime there are no timers, and nothing is loaded.
        if limit.is_zero() || Handle::try_current().is_err() {
            return self.find_or_load(located, &key, loader).await;
        }
        let timed_out = |_| {
            self.stats().load_timeouts.increment();
            Err(LoadError::TimedOut(limit))
        };
        tokio::time::timeout(limit, self.find_or_load(located, &key, loader)).await.unwrap_or_else(timed_out)
    }

    /// `located` is the encoded form of `own`.
    async fn find_or_load<T, K, F, L, Err>(&self, located: KeyRef<'_>, own: &K, loader: F) -> Loaded<E, Err>
    where
        T: Send + 'static,
        K: KeyFor<T>,
        F: FnOnce(T) -> L + Send + 'static,
        L: Future<Output = Result<Option<E>, Failure<Err>>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        // The call may look several times. The first look says whether it counts as a hit or a miss.
        let mut counted = false;
        let mut looked_again = false;
        let mut waited_for: Option<Arc<Load<E, Err>>> = None;
        // If there is an expired object: how long to wait for something better.
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
                        Lookup::Miss { cause, ticket, expired } => {
                            if expired.is_some() && patience.is_none() && Handle::try_current().is_ok() {
                                patience = Some(from_now(self.inner.schema.loading.soft_timeout));
                            }
                            if self.inner.schema.loading.soft_timeout.is_zero() {
                                served = expired;
                            }
                            // Without a ticket the look was not complete: it was shed, or the connector could not be asked. A connector that does not
                            // know every change yet may give a ticket all the same. Such a ticket does not say that a load under way knows them.
                            let ticket = ticket.filter(|_| cause != Miss::Distrusted);
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
                    // Take the next load before waiting: a later caller must not lead it without this one.
                    let next = load.next();
                    let finished = match self.wait(&load, patience, located).await {
                        Waited::Finished(finished) => finished,
                        Waited::Instead(object) => return Ok(Some(object)),
                    };
                    // An error is no stale object, so a late joiner may have it. Sharing the error spares a source in trouble.
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

    /// Waits for a load. `patience` is given if the caller's look found an expired object. When the patience has ended or the load has
    /// failed, the caller is given that object if it is still in the cache. If it is not, the caller waits on.
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
                // The load has ended during the look. Its result counts, also if it found nothing.
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

    /// The look of a load, for all callers that wait for it. A look that was shed is repeated up to three times, within 7 ms. Without a
    /// ticket the load could fill nothing, and another load would have to follow.
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
            // The lease is held until the load has finished.
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
