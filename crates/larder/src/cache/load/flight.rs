//! Single flight: which loads are under way, who waits for them, and who begins the next.
//!
//! A load is a *flight*. Whoever wants to be on it asks for a *seat*, in one critical section: the one who finds none is its *pilot*, who
//! lands it exactly once; the others wait on its *strip*.

use crate::cache::Cache;
use crate::cache::load::deadlock::{Queue, Waiting};
use crate::cache::load::{LoadError, Loaded};
use crate::contract::{KeyBuf, Ticket};
use crate::entry::index::position;
use crate::entry::{Entry, Keys};
use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// What a load is known by: its key, and the type of the loader's error, since callers may use different ones.
pub(super) type Name = (KeyBuf, TypeId);

/// The loads under way in one cache.
#[derive(Default)]
pub(crate) struct Flights {
    pub(super) board: Mutex<Board>,
}

#[derive(Default)]
pub(super) struct Board {
    by_key: HashMap<Name, Flight>,
    /// How many loads have ended. A caller whose lookup was overtaken by the end of a load looks again before it loads.
    pub(super) landed: u64,
}

struct Flight {
    /// An `Arc<Strip>` of the types that the name stands for.
    strip: Box<dyn Any + Send + Sync>,
    begun: bool,
}

/// Where those who wait for a load stand.
pub(super) struct Strip<E, Err> {
    landing: watch::Sender<Option<Landing<E, Err>>>,
    /// Whether somebody has undertaken the load.
    claimed: AtomicBool,
    /// For those who came too late for this load: the one after it.
    next: Mutex<Option<Arc<Self>>>,
    pub(super) queue: Arc<Queue>,
}

impl<E, Err> Strip<E, Err> {
    pub(super) fn new(claimed: bool) -> Arc<Self> {
        let landing = watch::Sender::new(None);
        Arc::new(Self { landing, claimed: AtomicBool::new(claimed), next: Mutex::default(), queue: Arc::default() })
    }

    pub(super) fn next(&self) -> Arc<Self> {
        self.next.lock().get_or_insert_with(|| Self::new(false)).clone()
    }

    /// How the load has ended, if it has.
    pub(super) fn landed(&self) -> Option<Landing<E, Err>> {
        self.landing.borrow().clone()
    }

    /// Waits until the load has ended, unless that would be for ever.
    pub(super) async fn landing(&self) -> Landing<E, Err> {
        let Ok(_waiting) = Waiting::begin(&self.queue) else {
            return Landing { loaded: Err(LoadError::Circular), accepted: None };
        };
        let mut receiver = self.landing.subscribe();
        let landing = receiver.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
        landing.unwrap_or(Landing { loaded: Err(LoadError::Aborted), accepted: None })
    }
}

/// How a load ended.
pub(super) struct Landing<E, Err> {
    pub(super) loaded: Loaded<E, Err>,
    /// When the connector accepted what was loaded, as its clock tells.
    pub(super) accepted: Option<Ticket>,
}

impl<E, Err> Clone for Landing<E, Err> {
    fn clone(&self) -> Self {
        Self { loaded: self.loaded.clone(), accepted: self.accepted }
    }
}

/// Whether a load may answer a caller who joined it after it had begun, with the ticket of his own miss: only if whatever
/// was over before he asked had been seen when the fill was accepted.
pub(super) fn answers_late_joiner(accepted: Option<Ticket>, joined: Option<Ticket>) -> bool {
    let (Some(accepted), Some(joined)) = (accepted, joined) else { return false };
    accepted.epoch == joined.epoch && joined.sequence <= accepted.sequence
}

/// A caller's part in a load.
pub(super) enum Seat<E: Entry, Err: Send + Sync + 'static> {
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
    /// A seat on the load of this key: one that is under way, or a new one. One critical section, so that two callers never
    /// both begin.
    pub(super) fn seat<Err: Send + Sync + 'static>(&self, name: Name, landed: u64, looked_again: bool) -> Seat<E, Err> {
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
    pub(super) fn seat_on_flight<Err: Send + Sync + 'static>(board: &Board, name: &Name) -> Option<Seat<E, Err>> {
        let flight = board.by_key.get(name)?;
        // The name holds the type of the error, so the strip has the type asked for.
        let strip = flight.strip.downcast_ref::<Arc<Strip<E, Err>>>()?.clone();
        Some(if flight.begun { Seat::Late(strip) } else { Seat::Early(strip) })
    }

    /// A seat on the load that this caller has waited for, before which he was there. The first to ask undertakes it.
    pub(super) fn seat_on<Err: Send + Sync + 'static>(&self, strip: Arc<Strip<E, Err>>, name: Name) -> Seat<E, Err> {
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
    pub(super) fn seat_if_free<Err: Send + Sync + 'static>(&self, name: Name) -> Option<Pilot<E, Err>> {
        let mut board = self.inner.flights.board.lock();
        if board.by_key.contains_key(&name) {
            return None;
        }
        Some(self.pilot(&mut board, Strip::new(true), name))
    }

    pub(super) fn pilot<Err: Send + Sync + 'static>(
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
}

/// Ends a load exactly once, also when the loader panics or the runtime goes away.
pub(super) struct Pilot<E: Entry, Err: Send + Sync + 'static> {
    cache: Cache<E>,
    pub(super) key: KeyBuf,
    /// Under which others can join.
    listed: Option<Name>,
    pub(super) strip: Arc<Strip<E, Err>>,
    landed: bool,
}

impl<E: Entry, Err: Send + Sync + 'static> Pilot<E, Err> {
    /// From here on, whoever joins is late.
    pub(super) fn begin(&self) {
        if let Some(name) = &self.listed
            && let Some(flight) = self.cache.inner.flights.board.lock().by_key.get_mut(name)
        {
            flight.begun = true;
        }
    }

    /// Whether the object lists the key it was loaded by. A fill proves nothing of a key that the object does not list: an
    /// invalidation of that key does not refuse it.
    pub(super) fn is_listed_by(&self, object: &E) -> bool {
        let listed = Keys::of(object);
        listed.iter().any(|(index, bytes)| position(*index) == Some(self.key.index) && **bytes == *self.key.bytes)
    }

    pub(super) fn land(&mut self, loaded: Loaded<E, Err>, accepted: Option<Ticket>) {
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
