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
use crate::connector::{KeyBuf, Miss, Ticket};
use crate::entry::{Entry, Index, Keys};
use crate::key::Key;
use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument;

mod lease;
mod many;
mod options;
mod waiting;

use lease::Turn;
pub use options::LoadOptions;
use waiting::{LOADING, Queue, Waiting};

/// Why a load gave nothing.
#[derive(Debug)]
pub enum LoadError<Err> {
    /// The loader failed; all callers who waited for it share the error.
    Failed(Arc<Err>),
    /// The loader panicked, or the runtime was shut down while it ran.
    Aborted,
    /// `get_or_load` was called outside a Tokio runtime.
    NoRuntime,
    /// The caller has waited for as long as [`LoadOptions::hard_timeout`] says; the load goes on, and fills the cache.
    TimedOut(Duration),
    /// It was called by a loader that this load, or one that it waits for, is waiting for: neither would ever end.
    Circular,
}

impl<Err> Clone for LoadError<Err> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Aborted => Self::Aborted,
            Self::NoRuntime => Self::NoRuntime,
            Self::TimedOut(limit) => Self::TimedOut(*limit),
            Self::Circular => Self::Circular,
        }
    }
}

impl<Err: fmt::Display> fmt::Display for LoadError<Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Aborted => f.write_str("the loader panicked, or the runtime was shut down while it ran"),
            Self::NoRuntime => f.write_str("get_or_load was called outside a Tokio runtime; loads run in tasks"),
            Self::TimedOut(limit) => write!(f, "not loaded within {limit:?}; the load goes on in the background"),
            Self::Circular => f.write_str("the loader waits for a load that waits for itself"),
        }
    }
}

impl<Err: std::error::Error + 'static> std::error::Error for LoadError<Err> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its Display is this one's already, so its source is the next.
            Self::Failed(error) => error.source(),
            Self::Aborted | Self::NoRuntime | Self::TimedOut(_) | Self::Circular => None,
        }
    }
}

type Loaded<E, Err> = Result<Option<Arc<E>>, LoadError<Err>>;

/// What a load is known by: its key, and the type of the loader's error, since callers may use different ones.
type Name = (KeyBuf, TypeId);

/// The loads under way in one cache.
#[derive(Default)]
pub(crate) struct Flights {
    board: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    by_key: HashMap<Name, Flight>,
    /// How many loads have ended. A caller whose lookup was overtaken by the end of a load looks again before it loads.
    landed: u64,
}

struct Flight {
    /// An `Arc<Strip>` of the types that the name stands for.
    strip: Box<dyn Any + Send + Sync>,
    begun: bool,
}

/// Where those who wait for a load stand.
struct Strip<E, Err> {
    landing: watch::Sender<Option<Landing<E, Err>>>,
    /// Whether somebody has undertaken the load.
    claimed: AtomicBool,
    /// For those who came too late for this load: the one after it.
    next: Mutex<Option<Arc<Self>>>,
    queue: Arc<Queue>,
}

impl<E, Err> Strip<E, Err> {
    fn new(claimed: bool) -> Arc<Self> {
        let landing = watch::Sender::new(None);
        Arc::new(Self { landing, claimed: AtomicBool::new(claimed), next: Mutex::default(), queue: Arc::default() })
    }

    fn next(&self) -> Arc<Self> {
        self.next.lock().get_or_insert_with(|| Self::new(false)).clone()
    }

    /// Waits until the load has ended, unless that would be for ever.
    async fn landing(&self) -> Landing<E, Err> {
        let Ok(_waiting) = Waiting::begin(&self.queue) else {
            return Landing { loaded: Err(LoadError::Circular), accepted: None };
        };
        let mut receiver = self.landing.subscribe();
        let landing = receiver.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
        landing.unwrap_or(Landing { loaded: Err(LoadError::Aborted), accepted: None })
    }
}

/// How a load ended.
struct Landing<E, Err> {
    loaded: Loaded<E, Err>,
    /// When the connector accepted what was loaded, as its clock tells.
    accepted: Option<Ticket>,
}

impl<E, Err> Clone for Landing<E, Err> {
    fn clone(&self) -> Self {
        Self { loaded: self.loaded.clone(), accepted: self.accepted }
    }
}

/// Whether a load may answer a caller who joined it after it had begun, with the ticket of his own miss: only if whatever
/// was over before he asked had been seen when the fill was accepted.
fn answers_late_joiner(accepted: Option<Ticket>, joined: Option<Ticket>) -> bool {
    let (Some(accepted), Some(joined)) = (accepted, joined) else { return false };
    accepted.epoch == joined.epoch && joined.sequence <= accepted.sequence
}

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

/// A caller's part in a load.
enum Seat<E: Entry, Err: Send + Sync + 'static> {
    /// It is this caller's to begin.
    Pilot(Pilot<E, Err>),
    /// There before the load began.
    Early(Arc<Strip<E, Err>>),
    /// Joined after the load began.
    Late(Arc<Strip<E, Err>>),
    /// A load of this key may have ended since the caller looked.
    LookAgain,
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
    /// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default())), schema);
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
    /// # Errors
    ///
    /// The loader's error, shared by all who waited for it; nothing is cached then. A loader may call `get_or_load` itself; where that
    /// would wait for the loader's own load, it is [`LoadError::Circular`], unless it is called in another task than the loader's.
    ///
    /// # Cancellation
    ///
    /// A dropped call leaves its load running for the others, and for the cache.
    pub async fn get_or_load<K, F, L, Err>(&self, index: E::Index, key: K, loader: F) -> Loaded<E, Err>
    where
        K: Key,
        F: FnOnce(K::Owned) -> L + Send + 'static,
        L: Future<Output = Result<Option<E>, Err>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        let options = &self.inner.schema.loading;
        if !options.minds_age()
            && let Some(object) = self.get_hit(index, &key)
        {
            return Ok(Some(object));
        }
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
        L: Future<Output = Result<Option<E>, Err>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        let bytes = key.encode();
        let mut looked_again = false;
        let mut waited_for: Option<Arc<Strip<E, Err>>> = None;
        // Until when to wait for something better than an expired object, where there is one.
        let mut patience = None;
        let name = || -> Name {
            let index = u8::try_from(index.position()).unwrap_or(u8::MAX);
            (KeyBuf { index, bytes: (*bytes).into() }, TypeId::of::<Err>())
        };
        loop {
            let mut served = None;
            let (start, seat) = match waited_for.take() {
                Some(strip) => (Start::Look(index), self.seat_on(strip, name())),
                None => {
                    let landed = self.inner.flights.board.lock().landed;
                    match self.look(index, &bytes).await {
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
                                patience = Some(Instant::now() + self.inner.schema.loading.soft_timeout);
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
            if let Some(object) = served {
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
        // It may have been invalidated while he waited.
        match self.look(index, bytes).await {
            Looked::Hit { object, .. } => Waited::Instead(object),
            Looked::Miss { expired: Some(object), .. } => {
                self.stats().served_expired.increment();
                Waited::Instead(object)
            }
            Looked::KnownAbsent | Looked::Miss { .. } => match landed {
                Some(landing) => Waited::Landing(landing),
                None => Waited::Landing(strip.landing().await),
            },
        }
    }

    /// A seat on the load of this key: one that is under way, or a new one. One critical section, so that two callers never
    /// both begin.
    fn seat<Err: Send + Sync + 'static>(&self, name: Name, landed: u64, looked_again: bool) -> Seat<E, Err> {
        let mut board = self.inner.flights.board.lock();
        if let Some(seat) = Self::seat_on_flight(&board, &name) {
            return seat;
        }
        if board.landed != landed && !looked_again {
            return Seat::LookAgain;
        }
        Seat::Pilot(self.pilot(&mut board, Strip::new(true), name))
    }

    /// A seat on the load of this key that is under way, if one is.
    fn seat_on_flight<Err: Send + Sync + 'static>(board: &Board, name: &Name) -> Option<Seat<E, Err>> {
        let flight = board.by_key.get(name)?;
        // The name holds the type of the error, so the strip has the type asked for.
        let strip = flight.strip.downcast_ref::<Arc<Strip<E, Err>>>()?.clone();
        Some(if flight.begun { Seat::Late(strip) } else { Seat::Early(strip) })
    }

    /// A seat on the load that this caller has waited for, before which he was there. The first to ask undertakes it.
    fn seat_on<Err: Send + Sync + 'static>(&self, strip: Arc<Strip<E, Err>>, name: Name) -> Seat<E, Err> {
        let mut board = self.inner.flights.board.lock();
        // A newcomer may be about to load, which serves everybody.
        if let Some(flight) = board.by_key.get(&name).filter(|flight| !flight.begun)
            && let Some(strip) = flight.strip.downcast_ref::<Arc<Strip<E, Err>>>()
        {
            return Seat::Early(strip.clone());
        }
        if strip.claimed.swap(true, Ordering::AcqRel) {
            return Seat::Early(strip);
        }
        Seat::Pilot(self.pilot(&mut board, strip, name))
    }

    /// The load of this key, unless there is one already.
    fn seat_if_free<Err: Send + Sync + 'static>(&self, name: Name) -> Option<Pilot<E, Err>> {
        let mut board = self.inner.flights.board.lock();
        if board.by_key.contains_key(&name) {
            return None;
        }
        Some(self.pilot(&mut board, Strip::new(true), name))
    }

    fn pilot<Err: Send + Sync + 'static>(
        &self,
        board: &mut Board,
        strip: Arc<Strip<E, Err>>,
        name: Name,
    ) -> Pilot<E, Err> {
        let key = name.0.clone();
        // Somebody may have begun another load of the key since the one that was waited for ended; that one stays joinable.
        let listed = match board.by_key.entry(name) {
            Slot::Occupied(_) => None,
            Slot::Vacant(vacant) => {
                let name = vacant.key().clone();
                vacant.insert(Flight { strip: Box::new(strip.clone()), begun: false });
                Some(name)
            }
        };
        Pilot { cache: self.clone(), key, listed, strip, landed: false }
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
        L: Future<Output = Result<Option<E>, Err>> + Send + 'static,
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
            cache.stats().loads.increment();
            let (loaded, accepted) = match loader(key).await {
                Ok(Some(object)) => {
                    let listed = pilot.is_listed_by(&object);
                    let object = Arc::new(object);
                    let accepted = match ticket {
                        Some(ticket) => cache.fill_at(object.clone(), ticket).await.accepted(),
                        None => None,
                    };
                    (Ok(Some(object)), accepted.filter(|_| listed))
                }
                Ok(None) => {
                    let negative = !cache.inner.schema.loading.negative_age.is_zero();
                    let accepted = match ticket.filter(|_| negative) {
                        Some(ticket) => cache.fill_absent(&pilot.key, ticket).await.accepted(),
                        None => None,
                    };
                    (Ok(None), accepted)
                }
                Err(error) => {
                    cache.stats().load_failures.increment();
                    (Err(LoadError::Failed(Arc::new(error))), None)
                }
            };
            pilot.land(loaded, accepted);
        };
        runtime.spawn(LOADING.scope(queue, load.instrument(span)));
        Ok(())
    }
}

/// Ends a load exactly once, also when the loader panics or the runtime goes away.
struct Pilot<E: Entry, Err: Send + Sync + 'static> {
    cache: Cache<E>,
    key: KeyBuf,
    /// Under which others can join.
    listed: Option<Name>,
    strip: Arc<Strip<E, Err>>,
    landed: bool,
}

impl<E: Entry, Err: Send + Sync + 'static> Pilot<E, Err> {
    /// From here on, whoever joins is late.
    fn begin(&self) {
        if let Some(name) = &self.listed
            && let Some(flight) = self.cache.inner.flights.board.lock().by_key.get_mut(name)
        {
            flight.begun = true;
        }
    }

    /// Whether the object lists the key it was loaded by. A fill proves nothing of a key that the object does not list: an
    /// invalidation of that key does not refuse it.
    fn is_listed_by(&self, object: &E) -> bool {
        let listed = Keys::of(object);
        listed
            .iter()
            .any(|(index, bytes)| index.position() == usize::from(self.key.index) && **bytes == *self.key.bytes)
    }

    fn land(&mut self, loaded: Loaded<E, Err>, accepted: Option<Ticket>) {
        self.landed = true;
        if let Some(name) = self.listed.take() {
            let mut board = self.cache.inner.flights.board.lock();
            board.landed += 1;
            board.by_key.remove(&name);
        }
        self.strip.landing.send_replace(Some(Landing { loaded, accepted }));
    }
}

impl<E: Entry, Err: Send + Sync + 'static> Drop for Pilot<E, Err> {
    fn drop(&mut self) {
        if !self.landed {
            self.land(Err(LoadError::Aborted), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_joiner_is_answered_only_by_a_fill_that_saw_all_he_could_know_of() {
        let at = |epoch, sequence| Some(Ticket { epoch, sequence });
        assert!(answers_late_joiner(at(1, 7), at(1, 7)));
        assert!(answers_late_joiner(at(1, 7), at(1, 3)));
        assert!(!answers_late_joiner(at(1, 7), at(1, 8)), "a change between the fill and his asking");
        assert!(!answers_late_joiner(at(1, 7), at(2, 3)), "a truncate");
        assert!(!answers_late_joiner(None, at(1, 7)), "a fill that was refused");
        assert!(!answers_late_joiner(at(1, 7), None), "a node that could not ask");
    }
}
