//! Single flight: which loads are under way, who waits for them, and who begins the next.
//!
//! A caller who needs a load asks for its [`Part`] in it, in one critical section. The first to ask *leads* the load: the [`Leader`] begins it, and
//! finishes it exactly once. All others wait for its end, and know whether they came before the load began or after.

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

/// What a load is known by: its key, and the type of the loader's error, since callers may use different ones.
pub(super) type LoadId = (KeyBuf, TypeId);

/// The loads under way in one cache.
#[derive(Default)]
pub(crate) struct LoadsUnderWay {
    pub(super) table: Mutex<Table>,
}

#[derive(Default)]
pub(super) struct Table {
    by_id: HashMap<LoadId, Joinable>,
    /// How many loads have ended. A caller whose lookup was overtaken by the end of a load looks again before it loads.
    pub(super) finished: u64,
}

/// A load that others can join.
struct Joinable {
    /// An `Arc<Load>` of the types that the id stands for.
    load: Box<dyn Any + Send + Sync>,
    begun: bool,
}

/// A load, as those who wait for it share it.
pub(super) struct Load<E, Err> {
    end: watch::Sender<Option<Finished<E, Err>>>,
    /// Whether somebody leads it.
    led: AtomicBool,
    /// For those who came too late for this load: the one after it.
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

    /// How the load has ended, if it has.
    pub(super) fn finished(&self) -> Option<Finished<E, Err>> {
        self.end.borrow().clone()
    }

    /// Waits until the load has ended, unless that would be for ever.
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
    /// When the connector accepted what was loaded, as its clock tells.
    pub(super) accepted: Option<Ticket>,
}

impl<E, Err> Clone for Finished<E, Err> {
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
pub(super) enum Part<E: Entry, Err: Send + Sync + 'static> {
    /// This caller is to begin it.
    Lead(Leader<E, Err>),
    /// The caller was there before the load began.
    Early(Arc<Load<E, Err>>),
    /// The caller joined after the load had begun.
    Late(Arc<Load<E, Err>>),
    /// A load of this key may have ended since the caller looked.
    LookAgain,
}

impl<E: Entry> Cache<E> {
    /// The caller's part in the load of this key: one that is under way, or a new one. One critical section, so that two callers never
    /// both begin. `finished` is how many loads had ended before the caller looked.
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

    /// The caller's part in the load of this key that is under way, if one is.
    pub(super) fn join<Err: Send + Sync + 'static>(table: &Table, id: &LoadId) -> Option<Part<E, Err>> {
        let joinable = table.by_id.get(id)?;
        // The id holds the type of the error, so the load has the type asked for.
        let load = joinable.load.downcast_ref::<Arc<Load<E, Err>>>()?.clone();
        Some(if joinable.begun { Part::Late(load) } else { Part::Early(load) })
    }

    /// The caller's part in `load`, which follows one that the caller has waited for, and begins after the caller asked. The first to ask leads it.
    pub(super) fn join_next<Err: Send + Sync + 'static>(&self, load: Arc<Load<E, Err>>, id: LoadId) -> Part<E, Err> {
        let mut table = self.inner.loads.table.lock();
        // A newcomer may be about to load, which serves everybody.
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

    /// Leads a new load of this key, unless there is one already.
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
        // Somebody may have begun another load of the key since the one that was waited for ended; that one stays joinable.
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

/// Finishes a load exactly once, also when the loader panics or the runtime goes away.
pub(super) struct Leader<E: Entry, Err: Send + Sync + 'static> {
    cache: Cache<E>,
    pub(super) key: KeyBuf,
    /// Under which others can join.
    listed: Option<LoadId>,
    pub(super) load: Arc<Load<E, Err>>,
    finished: bool,
}

impl<E: Entry, Err: Send + Sync + 'static> Leader<E, Err> {
    /// From here on, whoever joins is late.
    pub(super) fn begin(&self) {
        if let Some(id) = &self.listed
            && let Some(joinable) = self.cache.inner.loads.table.lock().by_id.get_mut(id)
        {
            joinable.begun = true;
        }
    }

    /// Whether the object lists the key it was loaded by. A fill proves nothing of a key that the object does not list: an
    /// invalidation of that key does not refuse it.
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
