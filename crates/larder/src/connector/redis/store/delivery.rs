//! What must not be lost on its way: invalidations, deletes and truncates are held by a guard from before they are sent until they are
//! answered, and a guard that is dropped puts them into the journal.

use super::super::clearing;
use super::super::forgetting::{self, BATCH};
use super::super::link::Parcel;
use super::super::trouble::Trouble;
use super::Store;
use crate::connector::{Delivery, KeyBuf};
use crate::journal::Deferred;
use crate::protection::{Protection, holds};
use std::sync::atomic::Ordering;

/// How many batches go in one round trip, as one operation; more are sent when those were answered, so that others get in between.
const BATCHES: usize = 16;

impl Store {
    /// All are guarded before the first is sent: dropped half-way, the rest is in the journal too.
    pub(super) fn batches(&self, keys: &[KeyBuf], what: Deferred) -> Vec<Undelivered<'_>> {
        keys.chunks(BATCH).map(|batch| Undelivered::new(self, batch.to_vec(), what)).collect()
    }

    pub(super) async fn send_all(&self, batches: Vec<Undelivered<'_>>) -> Delivery {
        let mut all = Delivery::Applied;
        let mut batches = batches.into_iter();
        loop {
            let group: Vec<_> = batches.by_ref().take(BATCHES).collect();
            if group.is_empty() {
                return all;
            }
            match self.send_group(group).await {
                Ok(Delivery::Applied) => {}
                // Whoever waits in vain waits once: the rest is dropped, and with that deferred, without being sent.
                Err(Trouble::TimedOut | Trouble::Unavailable) => return Delivery::Deferred,
                Ok(Delivery::Deferred) | Err(_) => all = Delivery::Deferred,
            }
        }
    }

    /// Sends some batches in one round trip. Those that were not answered are dropped.
    async fn send_group(&self, group: Vec<Undelivered<'_>>) -> Result<Delivery, Trouble> {
        if !self.proven() {
            return Err(Trouble::Unavailable);
        }
        let mut parcel = Parcel::new();
        for batch in &group {
            parcel.script(forgetting::script(batch.what), forgetting::arguments(&self.layout, &batch.keys, batch.what));
        }
        let mut replies = Vec::with_capacity(group.len());
        let sent = self.link.parcel(&parcel, &mut replies).await;
        let mut all = Delivery::Applied;
        let mut replies = replies.into_iter();
        for batch in group {
            let Some(reply) = replies.next() else { break };
            match reply.extract_error().map_err(Trouble::from).and_then(forgetting::answer) {
                Ok(Some(at)) => {
                    self.saw(at);
                    batch.delivered();
                }
                Ok(None) => {
                    self.lost("the server has lost the clock");
                    all = Delivery::Deferred;
                }
                Err(trouble) => {
                    self.miss(&trouble);
                    all = Delivery::Deferred;
                }
            }
        }
        if let Err(trouble) = &sent {
            self.miss(trouble);
        }
        sent.map(|()| all)
    }

    pub(super) async fn clear_all(&self) -> Delivery {
        let undelivered = UndeliveredTruncate(Some(self));
        if !self.proven() {
            return Delivery::Deferred;
        }
        match clearing::clear(&*self.link, &self.layout, self.history.load(Ordering::Acquire)).await {
            Ok(head) => {
                self.registered(if head.registered { head.epoch } else { 0 });
                undelivered.delivered();
                Delivery::Applied
            }
            Err(trouble) => {
                self.miss(&trouble);
                Delivery::Deferred
            }
        }
    }

    pub(super) fn defer(&self, keys: Vec<KeyBuf>, what: Deferred) {
        if !holds(Protection::Journal) {
            return;
        }
        if self.journal.defer(keys, what) {
            self.schema.stats.overflows.increment();
            tracing::warn!(cache = %self.schema.cache, "the journal is full: everything in the cache will be forgotten instead");
        }
        self.link.work.notify_one();
    }
}

/// Invalidations or deletes on their way: dropped without an answer, they go into the journal.
pub(super) struct Undelivered<'a> {
    store: &'a Store,
    keys: Vec<KeyBuf>,
    what: Deferred,
}

impl<'a> Undelivered<'a> {
    pub(super) fn new(store: &'a Store, keys: Vec<KeyBuf>, what: Deferred) -> Self {
        Self { store, keys, what }
    }

    pub(super) fn delivered(mut self) {
        self.keys.clear();
    }
}

impl Drop for Undelivered<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.store.defer(std::mem::take(&mut self.keys), self.what);
        }
    }
}

/// The same for a truncate.
struct UndeliveredTruncate<'a>(Option<&'a Store>);

impl UndeliveredTruncate<'_> {
    pub(super) fn delivered(mut self) {
        self.0 = None;
    }
}

impl Drop for UndeliveredTruncate<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.0.filter(|_| holds(Protection::Journal)) {
            store.journal.defer_truncate();
            store.link.work.notify_one();
        }
    }
}
