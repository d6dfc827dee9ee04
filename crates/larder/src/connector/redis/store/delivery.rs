//! What must not be lost on its way: invalidations, deletes and truncates are held by a guard from before they are sent until they are
//! answered, and a guard that is dropped puts them into the journal.

use super::super::clearing;
use super::super::forgetting::BATCH;
use super::super::trouble::Trouble;
use super::Store;
use crate::connector::{Delivery, KeyBuf};
use crate::journal::Deferred;
use crate::protection::{Protection, holds};
use std::sync::atomic::Ordering;

impl Store {
    /// All are guarded before the first is sent: dropped half-way, the rest is in the journal too.
    pub(super) fn batches(&self, keys: &[KeyBuf], what: Deferred) -> Vec<Undelivered<'_>> {
        keys.chunks(BATCH).map(|batch| Undelivered::new(self, batch.to_vec(), what)).collect()
    }

    pub(super) async fn send_all(&self, batches: Vec<Undelivered<'_>>) -> Delivery {
        let mut all = Delivery::Applied;
        for batch in batches {
            match batch.send().await {
                Ok(()) => {}
                // Whoever waits in vain waits once: the rest is dropped, and with that deferred, without being sent.
                Err(Trouble::TimedOut | Trouble::Unavailable) => return Delivery::Deferred,
                Err(_) => all = Delivery::Deferred,
            }
        }
        all
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

    pub(super) async fn send(self) -> Result<(), Trouble> {
        if !self.store.proven() {
            return Err(Trouble::Unavailable);
        }
        let sent = self.store.forget(&*self.store.link, &self.keys, self.what).await;
        match &sent {
            Ok(()) => self.delivered(),
            Err(trouble) => {
                self.store.miss(trouble);
            }
        }
        sent
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
