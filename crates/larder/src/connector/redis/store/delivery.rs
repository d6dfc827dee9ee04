//! What must not be lost on its way: invalidations, deletes and truncates are held by a guard from before they are sent until they are
//! answered, and a guard that is dropped puts them into the journal.

use super::super::clearing;
use super::super::forgetting::{self, BATCH, Batch};
use super::super::link::{Parcel, WhenCrowded};
use super::super::trouble::Trouble;
use super::Store;
use crate::connector::{Delivery, KeyBuf};
use crate::journal::{Deferred, Journal};
use crate::protection::{Protection, holds};
use crate::telemetry::Ended;
use std::fmt;
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
                Err(trouble @ (Trouble::TimedOut(_) | Trouble::Unavailable)) => {
                    batches.for_each(|batch| batch.deferred(&trouble));
                    if self.link.strict {
                        sent.into_iter().for_each(|batch| batch.deferred(&trouble));
                        return Delivery::Deferred;
                    }
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
            sent.into_iter().for_each(|batch| batch.deferred(&trouble));
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
            let why = self.why_unproven();
            group.into_iter().for_each(|batch| batch.deferred(why));
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
            let Some(reply) = replies.next() else {
                batch.deferred(sent.as_ref().err().unwrap_or(&Trouble::Unavailable));
                continue;
            };
            match reply.extract_error().map_err(Trouble::from).and_then(forgetting::answer) {
                Ok(Some(at)) => {
                    self.saw(at);
                    answered.push(batch);
                }
                Ok(None) => {
                    let lost = "the server has lost the clock";
                    self.lost(lost);
                    batch.deferred(lost);
                    all = Delivery::Deferred;
                }
                Err(trouble) => {
                    self.miss(&trouble);
                    batch.deferred(&trouble);
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
        let Some(connection) = self.trusted() else {
            undelivered.deferred(self.why_unproven());
            return Delivery::Deferred;
        };
        let cleared = clearing::clear(&*self.link, &self.layout, self.history.load(Ordering::Acquire)).await;
        if let Ok(head) = &cleared {
            self.registered(if head.registered && head.settled { head.epoch } else { 0 });
        }
        let confirmed = match cleared {
            Ok(_) => self.link.confirm(connection).await,
            Err(trouble) => Err(trouble),
        };
        match confirmed {
            Ok(()) => {
                undelivered.delivered();
                Delivery::Applied
            }
            Err(trouble) => {
                self.miss(&trouble);
                undelivered.deferred(&trouble);
                Delivery::Deferred
            }
        }
    }

    fn why_unproven(&self) -> &'static str {
        if self.link.generation() == 0 { "there is no connection" } else { "the cache is being recovered" }
    }

    /// Puts so many entries into the journal. Whoever puts the first one there tells an operator.
    fn defer(&self, entries: usize, because: &str, put: impl FnOnce(&Journal)) {
        if !holds(Protection::Journal) {
            return;
        }
        let begins = {
            let mut deferring = self.deferring.lock();
            put(&self.journal);
            deferring.count(self.link.clock.now(), entries as u64)
        };
        if begins {
            let cache = &*self.schema.cache;
            tracing::warn!(
                %cache,
                error = %because,
                "changes are deferred, and nothing is read from the cache until they are applied"
            );
        }
        self.link.work.notify_one();
    }

    /// Crosses out what was replayed; `until` is where the replay has begun. Whoever finds nothing left tells an operator.
    pub(in super::super) fn replayed(&self, until: u64) {
        let (replayed, ended) = {
            let mut deferring = self.deferring.lock();
            let replayed = self.journal.replayed(until);
            let over = self.journal.len() == 0;
            (replayed, over.then(|| deferring.end_after(self.link.clock.now(), 0)).flatten())
        };
        self.schema.stats.replayed.add(replayed);
        if let Some(Ended { entries, lasted_ms }) = ended {
            tracing::info!(cache = %self.schema.cache, entries, lasted_ms, "all that was deferred is applied");
        }
    }
}

/// Why something is deferred of which nothing else is known.
const CALLER_GONE: &str = "a caller went away before the server had answered";

/// Invalidations or deletes on their way: dropped without an answer, they go into the journal.
pub(super) struct Undelivered<'a> {
    store: &'a Store,
    keys: Vec<KeyBuf>,
    what: Deferred,
    because: Option<String>,
}

impl<'a> Undelivered<'a> {
    pub(super) fn new(store: &'a Store, keys: Vec<KeyBuf>, what: Deferred) -> Self {
        store.under_way.fetch_add(1, Ordering::AcqRel);
        Self { store, keys, what, because: None }
    }

    fn delivered(mut self) {
        self.keys.clear();
    }

    /// Puts it into the journal.
    pub(super) fn deferred(mut self, because: impl fmt::Display) {
        self.because = Some(because.to_string());
    }
}

impl Drop for Undelivered<'_> {
    fn drop(&mut self) {
        let (store, keys, what) = (self.store, std::mem::take(&mut self.keys), self.what);
        if !keys.is_empty() {
            store.defer(keys.len(), self.because.as_deref().unwrap_or(CALLER_GONE), |journal| {
                if journal.defer(keys, what) {
                    store.schema.stats.overflows.increment();
                    let cache = &*store.schema.cache;
                    tracing::warn!(%cache, "the journal is full: everything in the cache will be forgotten instead");
                }
            });
        }
        store.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The same for a truncate.
struct UndeliveredTruncate<'a> {
    store: &'a Store,
    delivered: bool,
    because: Option<String>,
}

impl<'a> UndeliveredTruncate<'a> {
    fn new(store: &'a Store) -> Self {
        store.under_way.fetch_add(1, Ordering::AcqRel);
        Self { store, delivered: false, because: None }
    }

    fn delivered(mut self) {
        self.delivered = true;
    }

    fn deferred(mut self, because: impl fmt::Display) {
        self.because = Some(because.to_string());
    }
}

impl Drop for UndeliveredTruncate<'_> {
    fn drop(&mut self) {
        if !self.delivered {
            self.store.defer(1, self.because.as_deref().unwrap_or(CALLER_GONE), |journal| journal.defer_truncate());
        }
        self.store.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
