//! Single flight: which loads are under way, who waits for them, and who begins the next.
//!
//! A caller that needs a load asks for its [`Part`] in the load, in one critical section. The first caller to ask *leads* the load: its
//! [`Leader`] begins the load, and finishes it exactly once. All other callers wait for the end, and know whether they came before or after
//! the load began.

use crate::cache::Cache;
use crate::cache::load::deadlock::{Dependencies, Waiting};
use crate::cache::load::{LoadError, Loaded};
use crate::contract::{KeyBuf, Ticket};
use crate::entry::{Entry, Keys};
use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Identifies a load: its key, and the type of the loader's error, since callers may use loaders with different error types.
pub(super) type LoadId = (KeyBuf, TypeId);

/// The loads under way in one cache.
#[derive(Default)]
pub(crate) struct LoadsUnderWay {
    pub(super) table: Mutex<Table>,
}

#[derive(Default)]
pub(super) struct Table {
    by_id: HashMap<LoadId, Joinable>,
    /// How many loads have ended. If a load has ended during a caller's lookup, the caller looks again before it loads.
    pub(super) finished: u64,
}

/// A load that others can join.
struct Joinable {
    /// An `Arc<Load>` with the entry and error types of the id.
    load: Box<dyn Any + Send + Sync>,
    begun: bool,
}

/// A load, shared by all callers that wait for it.
pub(super) struct Load<E, Err> {
    end: watch::Sender<Option<Finished<E, Err>>>,
    /// Whether the load has a leader.
    led: AtomicBool,
    /// The load after this one, for callers that came too late for this one.
    next: Mutex<Option<Arc<Self>>>,
    pub(super) dependencies: Arc<Dependencies>,
}

impl<E, Err> Load<E, Err> {
    pub(super) fn new(led: bool) -> Arc<Self> {
        let end = watch::Sender::new(None);
        Arc::new(Self { end, led: AtomicBool::new(led), next: Mutex::default(), dependencies: Arc::default() })
    }

    pub(super) fn next(&self) -> Arc<Self> {
        self.next.lock().get_or_insert_with(|| Self::new(false)).clone()
    }

    /// How the load has ended. `None`: it has not.
    pub(super) fn finished(&self) -> Option<Finished<E, Err>> {
        self.end.borrow().clone()
    }

    /// Waits until the load has ended. If the wait would never end, returns [`LoadError::Circular`] at once.
    pub(super) async fn end(&self) -> Finished<E, Err> {
        let Ok(_waiting) = Waiting::begin(&self.dependencies) else {
            return Finished { loaded: Err(LoadError::Circular), accepted: None };
        };
        let mut receiver = self.end.subscribe();
        let finished = receiver.wait_for(Option::is_some).await.ok().and_then(|finished| finished.clone());
        finished.unwrap_or(Finished { loaded: Err(LoadError::Aborted), accepted: None })
    }
}

/// How a load ended.
pub(super) struct Finished<E, Err> {
    pub(super) loaded: Loaded<E, Err>,
    /// When the connector accepted the loaded object, by its clock.
    pub(super) accepted: Option<Ticket>,
}

impl<E, Err> Clone for Finished<E, Err> {
    fn clone(&self) -> Self {
        Self { loaded: self.loaded.clone(), accepted: self.accepted }
    }
}

/// Whether a load may answer a caller that joined it after it had begun. `joined` is the ticket of the caller's miss. The load may answer
/// only if the fill was checked against every change that was over before the caller asked.
pub(super) fn answers_late_joiner(accepted: Option<Ticket>, joined: Option<Ticket>) -> bool {
    let (Some(accepted), Some(joined)) = (accepted, joined) else { return false };
    accepted.epoch == joined.epoch && joined.sequence <= accepted.sequence
}

/// A caller's part in a load.
pub(super) enum Part<E: Entry, Err: Send + Sync + 'static> {
    /// This caller begins the load.
    Lead(Leader<E, Err>),
    /// The caller was there before the load began.
    Early(Arc<Load<E, Err>>),
    /// The caller joined after the load had begun.
    Late(Arc<Load<E, Err>>),
    /// A load of this key may have ended since the caller looked.
    LookAgain,
}

impl<E: Entry> Cache<E> {
    /// The caller's part in a load of this key: in one that is under way, or in a new one. One critical section decides, so that two
    /// callers never both begin a load. `finished` is the number of loads that had ended before the caller looked.
    pub(super) fn join_or_lead<Err: Send + Sync + 'static>(
        &self,
        id: LoadId,
        finished: u64,
        looked_again: bool,
    ) -> Part<E, Err> {
        let mut table = self.inner.loads.table.lock();
        if let Some(part) = Self::join(&table, &id) {
            return part;
        }
        if table.finished != finished && !looked_again {
            return Part::LookAgain;
        }
        Part::Lead(self.lead(&mut table, Load::new(true), id))
    }

    /// The caller's part in the load of this key that is under way, if there is one.
    pub(super) fn join<Err: Send + Sync + 'static>(table: &Table, id: &LoadId) -> Option<Part<E, Err>> {
        let joinable = table.by_id.get(id)?;
        // The id contains the error type, so the load has the type that is asked for.
        let load = joinable.load.downcast_ref::<Arc<Load<E, Err>>>()?.clone();
        Some(if joinable.begun { Part::Late(load) } else { Part::Early(load) })
    }

    /// The caller's part in `load`, which follows a load that the caller has waited for, and so begins after the caller asked. The first
    /// caller to ask leads it.
    pub(super) fn join_next<Err: Send + Sync + 'static>(&self, load: Arc<Load<E, Err>>, id: LoadId) -> Part<E, Err> {
        let mut table = self.inner.loads.table.lock();
        // If another load of the key is listed that has not begun, join that one: it can answer every caller.
        if let Some(joinable) = table.by_id.get(&id).filter(|joinable| !joinable.begun)
            && let Some(load) = joinable.load.downcast_ref::<Arc<Load<E, Err>>>()
        {
            return Part::Early(load.clone());
        }
        if load.led.swap(true, Ordering::AcqRel) {
            return Part::Early(load);
        }
        Part::Lead(self.lead(&mut table, load, id))
    }

    /// Leads a new load of this key. `None`: there is a load already.
    pub(super) fn lead_if_none<Err: Send + Sync + 'static>(&self, id: LoadId) -> Option<Leader<E, Err>> {
        let mut table = self.inner.loads.table.lock();
        if table.by_id.contains_key(&id) {
            return None;
        }
        Some(self.lead(&mut table, Load::new(true), id))
    }

    pub(super) fn lead<Err: Send + Sync + 'static>(
        &self,
        table: &mut Table,
        load: Arc<Load<E, Err>>,
        id: LoadId,
    ) -> Leader<E, Err> {
        let key = id.0.clone();
        // Another load of the key may have been listed since the awaited load ended. Other callers then keep joining the listed one.
        let listed = match table.by_id.entry(id) {
            Slot::Occupied(_) => None,
            Slot::Vacant(vacant) => {
                let id = vacant.key().clone();
                vacant.insert(Joinable { load: Box::new(load.clone()), begun: false });
                Some(id)
            }
        };
        Leader { cache: self.clone(), key, listed, load, finished: false }
    }
}

/// Leads a load, and finishes it exactly once, even if the loader panics or the runtime goes away.
pub(super) struct Leader<E: Entry, Err: Send + Sync + 'static> {
    cache: Cache<E>,
    pub(super) key: KeyBuf,
    /// The id under which other callers can join.
    listed: Option<LoadId>,
    pub(super) load: Arc<Load<E, Err>>,
    finished: bool,
}

impl<E: Entry, Err: Send + Sync + 'static> Leader<E, Err> {
    /// Begins the load. A caller that joins from now on is late.
    pub(super) fn begin(&self) {
        if let Some(id) = &self.listed
            && let Some(joinable) = self.cache.inner.loads.table.lock().by_id.get_mut(id)
        {
            joinable.begun = true;
        }
    }

    /// Whether the object lists the key that it was loaded by. If it does not, an invalidation of that key does not refuse the fill, and so
    /// an accepted fill proves nothing about the key.
    pub(super) fn is_listed_by(&self, object: &E) -> bool {
        Keys::of(object).iter().any(|key| key.as_ref() == self.key.as_ref())
    }

    pub(super) fn finish(&mut self, loaded: Loaded<E, Err>, accepted: Option<Ticket>) {
        self.finished = true;
        if let Some(id) = self.listed.take() {
            let mut table = self.cache.inner.loads.table.lock();
            table.finished += 1;
            table.by_id.remove(&id);
        }
        self.load.end.send_replace(Some(Finished { loaded, accepted }));
    }
}

impl<E: Entry, Err: Send + Sync + 'static> Drop for Leader<E, Err> {
    fn drop(&mut self) {
        if !self.finished {
            self.finish(Err(LoadError::Aborted), None);
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
