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

use crate::cache::{Cache, Looked};
#[cfg(doc)]
use crate::contract::LoadOptions;
use crate::contract::{Miss, Ticket};
use crate::entry::Entry;
use crate::entry::index::key_of;
use crate::failure::{AsError, Failure};
use crate::key::Key;
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
mod flight;
mod lease;
mod many;

pub(crate) use comeback_limit::{COMEBACK_LOADS, Gentle};
use deadlock::LOADING;
pub use error::LoadError;
pub(crate) use flight::Flights;
use flight::{Landing, Name, Pilot, Seat, Strip, answers_late_joiner};
use lease::Turn;

/// A time that far in the future; at most thirty years, which no clock and no timer overflows at.
fn from_now(time: Duration) -> Instant {
    const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);
    Instant::now() + time.min(FOREVER)
}

type Loaded<E, Err> = Result<Option<Arc<E>>, LoadError<Err>>;

/// How a load begins.
enum Start<I> {
    /// The caller has looked, and missed, with this ticket.
    Missed(Ticket),
    /// He has waited since he looked, or could not look: under this index there may be something now.
    Look(I),
    /// What he has found is to be loaded anew.
    Refresh,
}

/// What a caller who waited for a load was given.
enum Waited<E, Err> {
    Landing(Landing<E, Err>),
    /// The load took too long, or failed, and this is still in the cache.
    Instead(Arc<E>),
}

impl<E, Err> Waited<E, Err> {
    fn loaded(self) -> Loaded<E, Err> {
        match self {
            Self::Landing(landing) => landing.loaded,
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
    /// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema);
    /// let found = instances
    ///     .get_or_load(InstanceIndex::Host, "acme.example", |host: String| async move {
    ///         // Read the database here.
    ///         Ok::<_, std::io::Error>(Some(Instance { id: "42".into(), hosts: vec![host] }))
    ///     })
    ///     .await;
    /// assert_eq!(found.unwrap().unwrap().id, "42");
    /// assert!(instances.get(InstanceIndex::Id, "42").await.is_some());
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
    pub async fn get_or_load<K, F, L, Err, Way>(&self, index: E::Index, key: K, loader: F) -> Loaded<E, Err>
    where
        K: Key,
        F: FnOnce(K::Owned) -> L + Send + 'static,
        L: Future<Output = Result<Option<E>, Err>> + Send + 'static,
        Err: AsError<Way>,
    {
        let options = &self.inner.schema.loading;
        if !options.minds_age()
            && let Some(object) = self.get_hit(index, &key)
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
            return self.find_or_load(index, key, loader).await;
        }
        let timed_out = |_| {
            self.stats().load_timeouts.increment();
            Err(LoadError::TimedOut(limit))
        };
        tokio::time::timeout(limit, self.find_or_load(index, key, loader)).await.unwrap_or_else(timed_out)
    }

    async fn find_or_load<K, F, L, Err>(&self, index: E::Index, key: K, loader: F) -> Loaded<E, Err>
    where
        K: Key,
        F: FnOnce(K::Owned) -> L + Send + 'static,
        L: Future<Output = Result<Option<E>, Failure<Err>>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        let bytes = key.encode();
        // However often the call looks, the first look says whether it is a hit or a miss.
        let mut counted = false;
        let mut looked_again = false;
        let mut waited_for: Option<Arc<Strip<E, Err>>> = None;
        // Until when to wait for something better than an expired object, where there is one.
        let mut patience = None;
        let name = || -> Name { (key_of(index, &bytes), TypeId::of::<Err>()) };
        loop {
            let mut served = None;
            let (start, seat) = match waited_for.take() {
                Some(strip) => (Start::Look(index), self.seat_on(strip, name())),
                None => {
                    let landed = self.inner.flights.board.lock().landed;
                    let looked = self.look(index, &bytes).await;
                    if !std::mem::replace(&mut counted, true) {
                        self.stats().looked(looked.outcome());
                    }
                    match looked {
                        Looked::Hit { object, due: false } => return Ok(Some(object)),
                        Looked::Hit { object, due: true } => {
                            if let Some(pilot) = self.seat_if_free(name()) {
                                self.stats().refreshes.increment();
                                self.take_off(pilot, Start::Refresh, key.to_owned_key(), loader)?;
                            }
                            return Ok(Some(object));
                        }
                        Looked::KnownAbsent => return Ok(None),
                        Looked::Miss { ticket, expired, .. } => {
                            if expired.is_some() && patience.is_none() && Handle::try_current().is_ok() {
                                patience = Some(from_now(self.inner.schema.loading.soft_timeout));
                            }
                            if self.inner.schema.loading.soft_timeout.is_zero() {
                                served = expired;
                            }
                            // Without a ticket he has not really looked: he was shed, or there was nobody to ask.
                            let start = ticket.map_or(Start::Look(index), Start::Missed);
                            (start, self.seat(name(), landed, looked_again))
                        }
                    }
                }
            };
            if let Some(object) = served
                && !matches!(seat, Seat::LookAgain)
            {
                if let Seat::Pilot(pilot) = seat {
                    self.take_off(pilot, start, key.to_owned_key(), loader)?;
                }
                self.stats().served_expired.increment();
                return Ok(Some(object));
            }
            match seat {
                Seat::LookAgain => looked_again = true,
                Seat::Early(strip) => {
                    self.stats().joined.increment();
                    return self.wait(&strip, patience, index, &bytes).await.loaded();
                }
                Seat::Late(strip) => {
                    self.stats().joined.increment();
                    // Before waiting: who comes after this caller must not undertake the next load without him.
                    let next = strip.next();
                    let landing = match self.wait(&strip, patience, index, &bytes).await {
                        Waited::Landing(landing) => landing,
                        Waited::Instead(object) => return Ok(Some(object)),
                    };
                    // An error is nobody's stale object; sharing it spares a source in trouble.
                    let failed = matches!(landing.loaded, Err(LoadError::Failed(_) | LoadError::Circular));
                    let ticket = match start {
                        Start::Missed(ticket) => Some(ticket),
                        Start::Look(_) | Start::Refresh => None,
                    };
                    if failed || answers_late_joiner(landing.accepted, ticket) {
                        return landing.loaded;
                    }
                    waited_for = Some(next);
                }
                Seat::Pilot(pilot) => {
                    let strip = pilot.strip.clone();
                    self.take_off(pilot, start, key.to_owned_key(), loader)?;
                    return self.wait(&strip, patience, index, &bytes).await.loaded();
                }
            }
        }
    }

    /// Waits for a load. With `patience`, there was an expired object when the caller looked: if that is still there when his patience has
    /// ended or the load has failed, he is given it, and else waits on.
    async fn wait<Err: Send + Sync + 'static>(
        &self,
        strip: &Strip<E, Err>,
        patience: Option<Instant>,
        index: E::Index,
        bytes: &[u8],
    ) -> Waited<E, Err> {
        let Some(patience) = patience else { return Waited::Landing(strip.landing().await) };
        let landed = tokio::time::timeout_at(patience, strip.landing()).await.ok();
        if let Some(landing) = &landed
            && landing.loaded.is_ok()
        {
            return Waited::Landing(landing.clone());
        }
        // The object may have been invalidated while the caller waited.
        match self.look(index, bytes).await {
            Looked::Hit { object, .. } => Waited::Instead(object),
            Looked::Miss { expired: Some(object), .. } => match strip.landed() {
                // The load has ended during the look. What it has found counts, also if that is nothing.
                Some(landing) if landing.loaded.is_ok() => Waited::Landing(landing),
                _ => {
                    self.stats().served_expired.increment();
                    Waited::Instead(object)
                }
            },
            Looked::KnownAbsent | Looked::Miss { .. } => match landed {
                Some(landing) => Waited::Landing(landing),
                None => Waited::Landing(strip.landing().await),
            },
        }
    }

    /// The look of a load, for all who wait for it. Where it was shed it is tried again, three times within 7 ms: a load that has no ticket
    /// fills nothing, and so is followed by another one.
    async fn look_for_all(&self, index: E::Index, bytes: &[u8]) -> Looked<E> {
        for pause in [1, 2, 4] {
            match self.look(index, bytes).await {
                Looked::Miss { cause: Miss::Shed, .. } => tokio::time::sleep(Duration::from_millis(pause)).await,
                looked => return looked,
            }
        }
        self.look(index, bytes).await
    }

    fn take_off<O, F, L, Err>(
        &self,
        mut pilot: Pilot<E, Err>,
        start: Start<E::Index>,
        key: O,
        loader: F,
    ) -> Result<(), LoadError<Err>>
    where
        O: Send + 'static,
        F: FnOnce(O) -> L + Send + 'static,
        L: Future<Output = Result<Option<E>, Failure<Err>>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        let runtime = Handle::try_current().map_err(|_| LoadError::NoRuntime)?;
        let cache = self.clone();
        let span = tracing::debug_span!("larder load", cache = %self.inner.schema.cache);
        let queue = pilot.strip.queue.clone();
        let load = async move {
            pilot.begin();
            let refresh = matches!(start, Start::Refresh);
            let mut ticket = match start {
                Start::Missed(ticket) => Some(ticket),
                Start::Look(index) => match cache.look_for_all(index, &pilot.key.bytes).await {
                    Looked::Hit { object, .. } => return pilot.land(Ok(Some(object)), None),
                    Looked::KnownAbsent => return pilot.land(Ok(None), None),
                    Looked::Miss { ticket, .. } => ticket,
                },
                Start::Refresh => cache.inner.connector.ticket().await,
            };
            // Held until the load has landed.
            let mut _lease = None;
            if let Some(own) = ticket
                && !cache.inner.schema.loading.lease.is_zero()
            {
                match lease::turn(&cache, &pilot.key, own, refresh).await {
                    Turn::Load(newer, held) => (ticket, _lease) = (newer, held),
                    Turn::Found(object) => return pilot.land(Ok(object), None),
                }
            }
            let admission = cache.inner.gentle.admit(ticket.map(|ticket| ticket.epoch)).await;
            cache.stats().held_back.add(u64::from(admission.held_back));
            cache.stats().loads.increment();
            let (loaded, accepted) = match loader(key).await {
                Ok(Some(object)) => {
                    let listed = pilot.is_listed_by(&object);
                    if !listed {
                        cache.unlisted(pilot.key.index, 1);
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
                        Some(ticket) => cache.fill_absent(&pilot.key, ticket).await.accepted(),
                        None => None,
                    };
                    (Ok(None), accepted)
                }
                Err(error) => {
                    cache.stats().load_failures.increment();
                    (Err(LoadError::Failed(error)), None)
                }
            };
            pilot.land(loaded, accepted);
        };
        runtime.spawn(LOADING.scope(queue, load.instrument(span)));
        Ok(())
    }
}
