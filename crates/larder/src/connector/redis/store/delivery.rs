//! What must not be lost on its way: invalidations, deletes and truncates are held by a guard from before they are sent until they are
//! answered, and a guard that is dropped puts them into the journal.

use super::super::clearing;
use super::super::forgetting::BATCH;
use super::super::trouble::Trouble;
use super::Store;
use crate::connector::{Delivery, KeyBuf};
use crate::journal::Deferred;
use std::sync::atomic::Ordering;

impl Store {
    /// All are guarded before the first is sent: dropped half-way, the rest is in the journal too.
    pub(super) fn batches(&self, keys: &[KeyBuf], what: Deferred) -> Vec<Undelivered<'_>> {
        keys.chunks(BATCH).map(|batch| Undelivered::new(self, batch.to_vec(), what)).collect()
    }

    pub(super) async fn send_all(&self, batches: Vec<Undelivered<'_>>) -> Delivery {
        let connection = self.link.generation();
        let mut sent = Vec::with_capacity(batches.len());
        let mut all = Delivery::Applied;
        for batch in batches {
            match batch.send().await {
                Ok(()) => sent.push(batch),
                // Whoever waits in vain waits once: the rest is dropped, and with that deferred, without being sent.
                Err(Trouble::TimedOut | Trouble::Unavailable) if self.link.strict => return Delivery::Deferred,
                Err(Trouble::TimedOut | Trouble::Unavailable) => {
                    all = Delivery::Deferred;
                    break;
                }
                Err(_) => all = Delivery::Deferred,
            }
        }
        if self.delivered(connection, sent).await { all } else { Delivery::Deferred }
    }

    /// What was sent on this connection counts as delivered now; in strict mode, once it is confirmed. Otherwise it is deferred.
    pub(super) async fn delivered(&self, connection: u64, sent: Vec<Undelivered<'_>>) -> bool {
        if let Err(trouble) = self.link.confirm(connection).await {
            self.miss(&trouble);
            return false;
        }
        sent.into_iter().for_each(Undelivered::delivered);
        true
    }

    pub(super) async fn clear_all(&self) -> Delivery {
        let undelivered = UndeliveredTruncate::new(self);
        let Some(connection) = self.trusted() else { return Delivery::Deferred };
        match clearing::clear(&*self.link, &self.layout, self.history.load(Ordering::Acquire)).await {
            Ok(head) => {
                self.registered(if head.registered { head.epoch } else { 0 });
                match self.link.confirm(connection).await {
                    Ok(()) => {
                        undelivered.delivered();
                        return Delivery::Applied;
                    }
                    Err(trouble) => self.miss(&trouble),
                }
            }
            Err(trouble) => self.miss(&trouble),
        };
        Delivery::Deferred
    }

    pub(super) fn defer(&self, keys: Vec<KeyBuf>, what: Deferred) {
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
        store.under_way.fetch_add(1, Ordering::AcqRel);
        Self { store, keys, what }
    }

    async fn send(&self) -> Result<(), Trouble> {
        if !self.store.proven() {
            return Err(Trouble::Unavailable);
        }
        let sent = self.store.forget(&*self.store.link, &self.keys, self.what).await;
        if let Err(trouble) = &sent {
            self.store.miss(trouble);
        }
        sent
    }

    fn delivered(mut self) {
        self.keys.clear();
    }
}

impl Drop for Undelivered<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.store.defer(std::mem::take(&mut self.keys), self.what);
        }
        self.store.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The same for a truncate.
struct UndeliveredTruncate<'a> {
    store: &'a Store,
    delivered: bool,
}

impl<'a> UndeliveredTruncate<'a> {
    fn new(store: &'a Store) -> Self {
        store.under_way.fetch_add(1, Ordering::AcqRel);
        Self { store, delivered: false }
    }

    fn delivered(mut self) {
        self.delivered = true;
    }
}

impl Drop for UndeliveredTruncate<'_> {
    fn drop(&mut self) {
        if !self.delivered {
            self.store.journal.defer_truncate();
            self.store.link.work.notify_one();
        }
        self.store.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
