//! Loading on a miss: one loader per key and node at a time (single flight).
//!
//! A load runs in a task of its own, so a caller that goes away cancels nobody else's. Who may be answered by it:
//!
//! - callers who were there *before* it began, always: it read the source after they asked;
//! - callers who joined *after* it began may have started after a change that the load has missed. They are
//!   answered if the fill was accepted (the server has proved that nothing overtook the load), or, where there was no
//!   server to ask, if this node has changed nothing since. Otherwise they look again.
//!
//! A caller that came too late twice loads for itself, so that constant change starves nobody.

use crate::cache::{Cache, Lookup};
use crate::connector::{KeyBuf, Stored, Ticket};
use crate::entry::{Entry, Index, Keys};
use crate::key::Key;
use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::Instrument;

/// Why a load gave nothing.
#[derive(Debug)]
pub enum LoadError<Err> {
    /// The loader failed; all callers who waited for it share the error.
    Failed(Arc<Err>),
    /// The loader panicked, or the runtime was shut down while it ran.
    Aborted,
    /// `get_or_load` was called outside a Tokio runtime.
    NoRuntime,
}

impl<Err> Clone for LoadError<Err> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Aborted => Self::Aborted,
            Self::NoRuntime => Self::NoRuntime,
        }
    }
}

impl<Err: fmt::Display> fmt::Display for LoadError<Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Aborted => f.write_str("the loader panicked, or the runtime was shut down while it ran"),
            Self::NoRuntime => f.write_str("get_or_load was called outside a Tokio runtime; loads run in tasks"),
        }
    }
}

impl<Err: std::error::Error + 'static> std::error::Error for LoadError<Err> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its Display is this one's already, so its source is the next.
            Self::Failed(error) => error.source(),
            Self::Aborted | Self::NoRuntime => None,
        }
    }
}

type Loaded<E, Err> = Result<Option<Arc<E>>, LoadError<Err>>;

/// What a load is known by: its key, and the type of the loader's error, since callers may use different ones.
type Name = (KeyBuf, TypeId);

type Receiver<E, Err> = watch::Receiver<Option<Landing<E, Err>>>;

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
    /// A [`Receiver`] of the types that the name stands for.
    landing: Box<dyn Any + Send + Sync>,
    begun: bool,
}

/// How a load ended.
struct Landing<E, Err> {
    loaded: Loaded<E, Err>,
    proof: Proof,
    /// The node's count of changes when the load began.
    changes: u64,
}

impl<E, Err> Clone for Landing<E, Err> {
    fn clone(&self) -> Self {
        Self { loaded: self.loaded.clone(), proof: self.proof, changes: self.changes }
    }
}

/// What is known, when a load has ended, about changes since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// The connector accepted the fill: nothing had overtaken it.
    Accepted,
    /// The connector refused the fill, or there was nothing to fill with.
    None,
    /// There was no connector to ask.
    Unreachable,
}

impl Proof {
    fn of(outcome: Option<Stored>) -> Self {
        match outcome {
            Some(Stored::Yes) => Self::Accepted,
            Some(Stored::Unavailable | Stored::Off) => Self::Unreachable,
            Some(Stored::Overtaken | Stored::Outdated | Stored::Unfit | Stored::Full) | None => Self::None,
        }
    }
}

/// Whether a load may answer a caller who joined it after it had begun.
fn answers_late_joiner(proof: Proof, changes_at_begin: u64, changes_now: u64) -> bool {
    match proof {
        Proof::Accepted => true,
        Proof::None => false,
        Proof::Unreachable => changes_at_begin == changes_now,
    }
}

/// A caller's part in a load.
enum Seat<E: Entry, Err: Send + Sync + 'static> {
    /// It is this caller's to begin.
    Pilot(Pilot<E, Err>),
    /// There before the load began.
    Early(Receiver<E, Err>),
    /// Joined after the load began.
    Late(Receiver<E, Err>),
    /// A load of this key may have ended since the caller looked.
    LookAgain,
}

impl<E: Entry> Cache<E> {
    /// Looks an object up and loads it from its source where the cache has nothing: one load per key and node at a
    /// time, filled into the cache unless an invalidation has overtaken it.
    ///
    /// `loader` gets the key as an owned value and returns the object, or `None` where the source has none (which is not
    /// remembered).
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
    /// The loader's error, shared by all who waited for it; nothing is cached then.
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
        let bytes = key.encode();
        let mut late = 0;
        let mut looked_again = false;
        loop {
            let landed = self.inner.flights.board.lock().landed;
            let ticket = match self.lookup_bytes(index, &bytes).await {
                Lookup::Hit(object) => return Ok(Some(object)),
                Lookup::Miss(_, ticket) => ticket,
            };
            let name: Name = (
                KeyBuf { index: u8::try_from(index.position()).unwrap_or(u8::MAX), bytes: (*bytes).into() },
                TypeId::of::<Err>(),
            );
            // Who came late twice neither joins nor is joined.
            let seat = if late == 2 { Seat::Pilot(self.pilot(None)) } else { self.seat(name, landed, looked_again) };
            match seat {
                Seat::LookAgain => looked_again = true,
                Seat::Early(receiver) => {
                    self.stats().joined.increment();
                    return landing(receiver).await.loaded;
                }
                Seat::Late(receiver) => {
                    self.stats().joined.increment();
                    let landing = landing(receiver).await;
                    // An error is nobody's stale object; sharing it spares a source in trouble.
                    let failed = matches!(landing.loaded, Err(LoadError::Failed(_)));
                    if failed || answers_late_joiner(landing.proof, landing.changes, self.changes()) {
                        return landing.loaded;
                    }
                    late += 1;
                }
                Seat::Pilot(pilot) => {
                    let receiver = pilot.sender.subscribe();
                    self.take_off(pilot, ticket, key.to_owned_key(), loader)?;
                    return landing(receiver).await.loaded;
                }
            }
        }
    }

    /// A seat on the load of this key: one that is under way, or a new one. One critical section, so that two callers never
    /// both begin.
    fn seat<Err: Send + Sync + 'static>(&self, name: Name, landed: u64, looked_again: bool) -> Seat<E, Err> {
        let mut board = self.inner.flights.board.lock();
        if let Some(flight) = board.by_key.get(&name) {
            // The name holds the type of the error, so the receiver has the type asked for.
            if let Some(receiver) = flight.landing.downcast_ref::<Receiver<E, Err>>() {
                let receiver = receiver.clone();
                return if flight.begun { Seat::Late(receiver) } else { Seat::Early(receiver) };
            }
        }
        if board.landed != landed && !looked_again {
            return Seat::LookAgain;
        }
        let pilot = self.pilot(Some(name.clone()));
        let landing = Box::new(pilot.sender.subscribe());
        board.by_key.insert(name, Flight { landing, begun: false });
        Seat::Pilot(pilot)
    }

    fn pilot<Err: Send + Sync + 'static>(&self, name: Option<Name>) -> Pilot<E, Err> {
        Pilot { cache: self.clone(), name, sender: watch::Sender::new(None), changes: self.changes() }
    }

    fn take_off<O, F, L, Err>(
        &self,
        mut pilot: Pilot<E, Err>,
        ticket: Option<Ticket>,
        key: O,
        loader: F,
    ) -> Result<(), LoadError<Err>>
    where
        O: Send + 'static,
        F: FnOnce(O) -> L + Send + 'static,
        L: Future<Output = Result<Option<E>, Err>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| LoadError::NoRuntime)?;
        let cache = self.clone();
        let span = tracing::debug_span!("larder load", cache = %self.inner.schema.cache);
        let load = async move {
            pilot.begin();
            cache.stats().loads.increment();
            let (loaded, outcome) = match loader(key).await {
                Ok(Some(object)) => {
                    let listed = pilot.is_listed_by(&object);
                    let object = Arc::new(object);
                    let outcome = match ticket {
                        Some(ticket) => cache.fill(object.clone(), ticket).await,
                        None => Stored::Unavailable,
                    };
                    (Ok(Some(object)), (listed || outcome != Stored::Yes).then_some(outcome))
                }
                Ok(None) => (Ok(None), ticket.is_none().then_some(Stored::Unavailable)),
                Err(error) => {
                    cache.stats().load_failures.increment();
                    (Err(LoadError::Failed(Arc::new(error))), None)
                }
            };
            pilot.land(loaded, Proof::of(outcome));
        };
        runtime.spawn(load.instrument(span));
        Ok(())
    }
}

async fn landing<E, Err>(mut receiver: Receiver<E, Err>) -> Landing<E, Err> {
    let landing = receiver.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
    landing.unwrap_or(Landing { loaded: Err(LoadError::Aborted), proof: Proof::None, changes: 0 })
}

/// Ends a load exactly once, also when the loader panics or the runtime goes away.
struct Pilot<E: Entry, Err: Send + Sync + 'static> {
    cache: Cache<E>,
    /// Under which others can join.
    name: Option<Name>,
    sender: watch::Sender<Option<Landing<E, Err>>>,
    changes: u64,
}

impl<E: Entry, Err: Send + Sync + 'static> Pilot<E, Err> {
    /// From here on, whoever joins is late.
    fn begin(&mut self) {
        if let Some(name) = &self.name
            && let Some(flight) = self.cache.inner.flights.board.lock().by_key.get_mut(name)
        {
            flight.begun = true;
        }
        self.changes = self.cache.changes();
    }

    /// Whether the object lists the key it was loaded by. A fill proves nothing of a key that the object does not list: an
    /// invalidation of that key does not refuse it.
    fn is_listed_by(&self, object: &E) -> bool {
        let asked = self.name.as_ref().map(|(key, _)| key);
        asked.is_none_or(|asked| {
            let keys = Keys::of(object);
            keys.iter().any(|(index, bytes)| index.position() == usize::from(asked.index) && **bytes == *asked.bytes)
        })
    }

    fn land(&mut self, loaded: Loaded<E, Err>, proof: Proof) {
        if let Some(name) = self.name.take() {
            let mut board = self.cache.inner.flights.board.lock();
            board.landed += 1;
            board.by_key.remove(&name);
        }
        self.sender.send_replace(Some(Landing { loaded, proof, changes: self.changes }));
    }
}

impl<E: Entry, Err: Send + Sync + 'static> Drop for Pilot<E, Err> {
    fn drop(&mut self) {
        let landed = self.sender.borrow().is_some();
        if !landed {
            self.land(Err(LoadError::Aborted), Proof::None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_joiner_needs_proof_that_nothing_changed_since_the_load_began() {
        assert!(answers_late_joiner(Proof::Accepted, 1, 2));
        assert!(!answers_late_joiner(Proof::None, 1, 1));
        assert!(answers_late_joiner(Proof::Unreachable, 1, 1));
        assert!(!answers_late_joiner(Proof::Unreachable, 1, 2));
    }
}
