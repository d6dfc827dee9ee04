//! Guards, by which no invalidation, delete or truncate is lost on its way. A guard holds it from before it is sent until it is answered. A
//! guard that is dropped puts it into the journal. So a time-out, an error, and a caller that goes away are one and the same case.

use super::cache::RemoteCache;
use super::forgetting::{BATCH, Batch};
use super::journal::{Deferred, Journal};
use super::link::Channel;
use super::server_kind::{Clearing, ServerKind};
use super::trouble::Trouble;
use super::trust::LOST;
use crate::contract::{Answer, Delivery, Error, Fill, KeyBuf, KeyRef, Object, Stored, Ticket};
use crate::protection::{Protection, holds};
use crate::telemetry::Ended;
use std::fmt;
use std::sync::atomic::Ordering;

/// How many batches go in one round trip, as one operation. More are sent when these were answered, so that other operations get in between.
const BATCHES: usize = 16;

impl<P: ServerKind> RemoteCache<P> {
    /// Forgets every object that one of the keys leads to, as [`Connector::invalidate`](crate::contract::Connector::invalidate) says.
    pub fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        Answer::later(async move { Ok(self.send_all(self.batches(&keys, Deferred::Invalidate { floor })).await) })
    }

    /// Makes just these keys miss.
    pub fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        Answer::later(async move { Ok(self.send_all(self.batches(&keys, Deferred::Delete)).await) })
    }

    /// Forgets everything in the cache.
    pub fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        Answer::later(async move { Ok(self.clear_all().await) })
    }

    /// Guards the keys of an object that is about to be put. If the put is not answered, the keys are invalidated. If the object has a
    /// version, no lower version is stored under its primary key for a while. The other keys demand no version: they may lead to another
    /// object, whose versions cannot be compared with this one's.
    pub fn guards(&self, object: &Object) -> Vec<Undelivered<'_, P>> {
        let mut keys: Vec<KeyBuf> = object.keys().map(KeyRef::to_buf).collect();
        let versioned = if object.version.is_some() { keys.drain(..1).collect() } else { Vec::new() };
        let mut guards = self.batches(&versioned, Deferred::Invalidate { floor: object.version });
        guards.extend(self.batches(&keys, Deferred::Invalidate { floor: None }));
        guards
    }

    /// Ends a put, and returns what became of the object. The keys were [guarded](Self::guards) before the object was sent on the connection
    /// of this generation. If the object was not stored, the keys are invalidated, because the earlier state must go.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the keys go into the journal.
    pub async fn settle(
        &self,
        connection: u64,
        guards: Vec<Undelivered<'_, P>>,
        sent: Result<Fill, Trouble>,
    ) -> Stored {
        let stored = match sent {
            Ok(Fill { stored: stored @ (Stored::Accepted | Stored::Overtaken | Stored::Outdated), at }) => {
                return if self.delivered(connection, guards, at).await { stored } else { Stored::Unavailable };
            }
            Ok(Fill { stored, .. }) => stored,
            // A caller waits for one time-out only: the keys are deferred without being sent.
            Err(trouble @ Trouble::TimedOut(_)) => {
                guards.into_iter().for_each(|guard| guard.deferred(&trouble));
                return self.not_stored(&trouble);
            }
            Err(trouble) => self.not_stored(&trouble),
        };
        self.forget_instead(stored, guards).await
    }

    /// Invalidates the keys of an object that was not stored, because its earlier state must go. Returns what became of the object.
    pub async fn forget_instead(&self, stored: Stored, guards: Vec<Undelivered<'_, P>>) -> Stored {
        match self.send_all(guards).await {
            Delivery::Applied => stored,
            Delivery::Deferred => Stored::Unavailable,
        }
    }

    /// Guards for all batches of these keys. They exist before the first batch is sent: if the caller goes away half-way, the rest goes into
    /// the journal, too.
    pub(crate) fn batches(&self, keys: &[KeyBuf], what: Deferred) -> Vec<Undelivered<'_, P>> {
        keys.chunks(BATCH).map(|batch| Undelivered::new(self, batch.to_vec(), what)).collect()
    }

    pub(crate) async fn send_all(&self, batches: Vec<Undelivered<'_, P>>) -> Delivery {
        let connection = self.link.generation();
        let mut sent = Vec::with_capacity(batches.len());
        let (mut all, mut changed) = (Delivery::Applied, None);
        let mut batches = batches.into_iter();
        loop {
            let group: Vec<_> = batches.by_ref().take(BATCHES).collect();
            if group.is_empty() {
                break;
            }
            match self.send_group(group, &mut sent, &mut changed).await {
                Ok(Delivery::Applied) => {}
                // A caller waits for one time-out only: the rest is deferred without being sent.
                Err(trouble @ (Trouble::TimedOut(_) | Trouble::Unavailable)) => {
                    batches.for_each(|batch| batch.deferred(&trouble));
                    if self.link.kind().confirms() {
                        sent.into_iter().for_each(|batch| batch.deferred(&trouble));
                        return Delivery::Deferred;
                    }
                    all = Delivery::Deferred;
                    break;
                }
                Ok(Delivery::Deferred) | Err(_) => all = Delivery::Deferred,
            }
        }
        // Where a part is deferred, the whole is, and nobody has to be waited for.
        let changed = changed.filter(|_| all == Delivery::Applied);
        if self.delivered(connection, sent, changed).await { all } else { Delivery::Deferred }
    }

    /// Ends the guards of what was answered on this connection: it is delivered or, in strict mode, deferred if it is not confirmed. Returns
    /// whether it is delivered. `changed`: the state of the clock after it, for which other nodes are [waited](ServerKind::elsewhere). A caller that goes
    /// away meanwhile loses nothing: the server has the change.
    pub(crate) async fn delivered(
        &self,
        connection: u64,
        sent: Vec<Undelivered<'_, P>>,
        changed: Option<Ticket>,
    ) -> bool {
        if let Err(trouble) = self.link.confirm(connection).await {
            self.miss(&trouble);
            sent.into_iter().for_each(|batch| batch.deferred(&trouble));
            return false;
        }
        sent.into_iter().for_each(Undelivered::delivered);
        if let Some(changed) = changed {
            self.link.kind().elsewhere(self, changed).await;
        }
        true
    }

    /// Sends some batches in one round trip. Those that were applied are added to `answered`, and `changed` is the clock after them. The others are deferred.
    async fn send_group<'a>(
        &self,
        group: Vec<Undelivered<'a, P>>,
        answered: &mut Vec<Undelivered<'a, P>>,
        changed: &mut Option<Ticket>,
    ) -> Result<Delivery, Trouble> {
        if !self.is_trusted() {
            let why = self.why_unproven();
            group.into_iter().for_each(|batch| batch.deferred(why));
            return Err(Trouble::Unavailable);
        }
        let mut answers = Vec::with_capacity(group.len());
        let sent = {
            let batches: Vec<_> = group.iter().map(|batch| Batch::alike(&batch.keys, batch.what)).collect();
            let channel = Channel::Shared(&*self.link);
            self.link.kind().forget(&channel, &self.local, &batches, &mut answers).await
        };
        let mut all = Delivery::Applied;
        let mut answers = answers.into_iter();
        for batch in group {
            let Some(answer) = answers.next() else {
                batch.deferred(sent.as_ref().err().unwrap_or(&Trouble::Unavailable));
                continue;
            };
            match answer {
                Ok(Some(at)) => {
                    self.saw(at);
                    *changed = Some(at);
                    answered.push(batch);
                }
                Ok(None) => {
                    self.lost(LOST);
                    batch.deferred(LOST);
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

    pub(crate) async fn clear_all(&self) -> Delivery {
        let undelivered = UndeliveredTruncate::new(self);
        let Some(connection) = self.trusted() else {
            undelivered.deferred(self.why_unproven());
            return Delivery::Deferred;
        };
        let channel = Channel::Pinned { link: &self.link, generation: connection };
        let history = self.trust.history();
        let cleared = self.link.kind().clear(&channel, &self.local, history, Clearing::Truncate).await;
        if let Ok(Some(clock)) = &cleared {
            if clock.epoch != 0 {
                // At once: where a server that does not tell its history restarts with older data, only the older epoch shows it.
                self.saw(clock.ticket());
            }
            self.trust.registered(if clock.registered && clock.settled { clock.epoch } else { 0 });
        }
        let confirmed = match cleared {
            Ok(Some(clock)) if clock.epoch == 0 => {
                self.lost(LOST);
                undelivered.deferred(LOST);
                return Delivery::Deferred;
            }
            Ok(clock) => self.link.confirm(connection).await.map(|()| clock),
            Err(trouble) => Err(trouble),
        };
        match confirmed {
            Ok(clock) => {
                undelivered.delivered();
                if let Some(clock) = clock {
                    self.link.kind().elsewhere(self, clock.ticket()).await;
                }
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

    /// Puts this many entries into the journal. If the journal was empty, this is logged.
    fn defer(&self, entries: usize, because: &str, put: impl FnOnce(&Journal)) {
        if !holds(Protection::Journal) {
            return;
        }
        let begins = {
            let mut deferring = self.deferring.lock();
            put(&self.journal);
            deferring.count(self.link.clock().now(), entries as u64)
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

    /// Removes the entries that were replayed, up to the number `until`. If the journal is empty then, this is logged.
    pub(super) fn replayed(&self, until: u64) {
        let (replayed, ended) = {
            let mut deferring = self.deferring.lock();
            let replayed = self.journal.replayed(until);
            let over = self.journal.len() == 0;
            (replayed, over.then(|| deferring.end_after(self.link.clock().now(), 0)).flatten())
        };
        self.schema.stats.replayed.add(replayed);
        if let Some(Ended { entries, lasted_ms }) = ended {
            tracing::info!(cache = %self.schema.cache, entries, lasted_ms, "all that was deferred is applied");
        }
    }
}

/// The reason for a deferral for which no other is known.
const CALLER_GONE: &str = "a caller went away before the server had answered";

/// A guard of invalidations or deletes on their way. If it is dropped without an answer, they go into the journal.
pub struct Undelivered<'a, P: ServerKind> {
    store: &'a RemoteCache<P>,
    keys: Vec<KeyBuf>,
    what: Deferred,
    because: Option<String>,
}

impl<'a, P: ServerKind> Undelivered<'a, P> {
    pub(crate) fn new(store: &'a RemoteCache<P>, keys: Vec<KeyBuf>, what: Deferred) -> Self {
        store.under_way.fetch_add(1, Ordering::AcqRel);
        Self { store, keys, what, because: None }
    }

    fn delivered(mut self) {
        self.keys.clear();
    }

    /// Puts the keys into the journal.
    pub(crate) fn deferred(mut self, because: impl fmt::Display) {
        self.because = Some(because.to_string());
    }
}

impl<P: ServerKind> Drop for Undelivered<'_, P> {
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

/// The guard of a truncate.
struct UndeliveredTruncate<'a, P: ServerKind> {
    store: &'a RemoteCache<P>,
    delivered: bool,
    because: Option<String>,
}

impl<'a, P: ServerKind> UndeliveredTruncate<'a, P> {
    fn new(store: &'a RemoteCache<P>) -> Self {
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

impl<P: ServerKind> Drop for UndeliveredTruncate<'_, P> {
    fn drop(&mut self) {
        if !self.delivered {
            self.store.defer(1, self.because.as_deref().unwrap_or(CALLER_GONE), |journal| journal.defer_truncate());
        }
        self.store.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
