//! What must not be lost on its way: invalidations, deletes and truncates are held by a guard from before they are sent until they are
//! answered, and a guard that is dropped puts them into the journal.

use super::super::clearing;
use super::super::forgetting::{self, BATCH, Batch};
use super::super::link::{Parcel, WhenCrowded};
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
        let connection = self.link.generation();
        let mut sent = Vec::with_capacity(batches.len());
        let mut all = Delivery::Applied;
        let mut batches = batches.into_iter();
        loop {
            let group: Vec<_> = batches.by_ref().take(BATCHES).collect();
            if group.is_empty() {
                break;
            }
            match self.send_group(group, &mut sent).await {
                Ok(Delivery::Applied) => {}
                // Whoever waits in vain waits once: the rest is dropped, and with that deferred, without being sent.
                Err(Trouble::TimedOut(_) | Trouble::Unavailable) if self.link.strict => return Delivery::Deferred,
                Err(Trouble::TimedOut(_) | Trouble::Unavailable) => {
                    all = Delivery::Deferred;
                    break;
                }
                Ok(Delivery::Deferred) | Err(_) => all = Delivery::Deferred,
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

    /// Sends some batches in one round trip. Those that were answered are added to `answered`; the others are dropped.
    async fn send_group<'a>(
        &self,
        group: Vec<Undelivered<'a>>,
        answered: &mut Vec<Undelivered<'a>>,
    ) -> Result<Delivery, Trouble> {
        if !self.proven() {
            return Err(Trouble::Unavailable);
        }
        let mut parcel = Parcel::new();
        for batch in &group {
            let batch = Batch::alike(&batch.keys, batch.what);
            parcel.script(batch.script(), |call| batch.tell(&self.layout, call));
        }
        let mut replies = Vec::with_capacity(group.len());
        let sent = self.link.parcel(WhenCrowded::Wait, &parcel, &mut replies).await;
        let mut all = Delivery::Applied;
        let mut replies = replies.into_iter();
        for batch in group {
            let Some(reply) = replies.next() else { break };
            match reply.extract_error().map_err(Trouble::from).and_then(forgetting::answer) {
                Ok(Some(at)) => {
                    self.saw(at);
                    answered.push(batch);
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
        store.under_way.fetch_add(1, Ordering::AcqRel);
        Self { store, keys, what }
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
        if !self.delivered && holds(Protection::Journal) {
            self.store.journal.defer_truncate();
            self.store.link.work.notify_one();
        }
        self.store.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
