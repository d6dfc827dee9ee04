//! One cache on the server: what is sent for each operation of a [`Connector`], and what its reply means.
//!
//! # What a reader may observe
//!
//! A get reads one object and believes only what the object itself says. It is answered only while this node's journal
//! is empty and the server's history has been checked on the connection in use; otherwise it is a miss before anything is sent.
//!
//! # What an invalidation guarantees when it is dropped
//!
//! From before it is sent until its reply is there, it is held by an [`Undelivered`] guard, whose drop puts it into
//! the journal. So a time-out, an error, and a caller that goes away are one and the same case.

use super::clearing::{self, bytes, unexpected};
use super::forgetting::{self, BATCH};
use super::hints::{Hint, Hints};
use super::layout::Layout;
use super::link::Link;
use super::scripts;
use super::trouble::{Trouble, What};
use crate::codec::envelope::{self, DecodeError};
use crate::connector::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Miss, Object, Pruned, Schema, Status, Stored, Ticket,
    Value,
};
use crate::journal::{Deferred, Journal};
use crate::key;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value as Reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An object with more keys is not stored: a script handles them all at once, and holds up everybody else meanwhile.
const MAX_KEYS: usize = 1024;

/// Larger objects do not pass through a script: they are written natively and put in place by it.
const STAGE_ABOVE: usize = 4 * 1024;

/// How long a staged object waits, in ms, for the script that puts it in place.
const STAGED_LIFE: u64 = 60_000;

/// After the server said that it is full, no fill is sent for this long, in ms.
const FULL_PAUSE: u64 = 1_000;

/// A clock that another node has left unsettled for this long, in ms, is cleared by this one.
const UNSETTLED_LIMIT: u64 = 5_000;

/// One cache on one server, as this node sees it.
pub(super) struct Store {
    pub(super) link: Arc<Link>,
    pub(super) schema: Schema,
    pub(super) layout: Layout,
    pub(super) journal: Journal,
    hints: Hints,
    /// The connection on which the server's history was found to be the one known.
    proven: AtomicU64,
    doubts: AtomicU64,
    /// The history that belongs to that connection.
    history: AtomicU64,
    /// The epoch under which this release's schema is registered.
    registered: AtomicU64,
    newest: Mutex<Option<Ticket>>,
    full_until: AtomicU64,
    unsettled_since: AtomicU64,
}

impl Store {
    pub(super) fn new(link: Arc<Link>, schema: Schema, prefix: &str, hints: usize, journal: usize) -> Self {
        Self {
            layout: Layout::new(prefix, &schema),
            hints: Hints::new(hints, schema.last_use_age, link.clock.clone()),
            journal: Journal::new(journal),
            link,
            schema,
            proven: AtomicU64::new(0),
            doubts: AtomicU64::new(0),
            history: AtomicU64::new(0),
            registered: AtomicU64::new(0),
            newest: Mutex::new(None),
            full_until: AtomicU64::new(0),
            unsettled_since: AtomicU64::new(0),
        }
    }

    /// Whether there is something to recover or replay on this connection.
    pub(super) fn needs_work(&self, generation: u64) -> bool {
        self.proven.load(Ordering::Acquire) != generation || self.journal.len() > 0
    }

    pub(super) fn is_proven(&self, generation: u64) -> bool {
        self.proven.load(Ordering::Acquire) == generation
    }

    /// How often what the server holds was found not to be what it should be.
    pub(super) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Acquire)
    }

    /// What is on this connection may be read, unless it was doubted since `doubts` was read: then it has to be recovered again.
    pub(super) fn prove(&self, generation: u64, history: u64, doubts: u64) {
        self.history.store(history, Ordering::Release);
        self.proven.store(generation, Ordering::Release);
        if self.doubts() != doubts {
            self.proven.store(0, Ordering::Release);
            self.link.work.notify_one();
        }
    }

    /// The newest ticket this node has seen, to tell a server that went back in time.
    pub(super) fn newest(&self) -> Option<Ticket> {
        *self.newest.lock()
    }

    pub(super) fn saw(&self, seen: Ticket) {
        let mut newest = self.newest.lock();
        match &mut *newest {
            Some(known) if known.epoch == seen.epoch => known.sequence = known.sequence.max(seen.sequence),
            other => *other = Some(seen),
        }
    }

    pub(super) fn registered(&self, epoch: u64) {
        self.registered.store(epoch, Ordering::Release);
    }

    fn proven(&self) -> bool {
        self.trusted().is_some()
    }

    /// The connection in use, if what is read on it can be trusted.
    fn trusted(&self) -> Option<u64> {
        let proven = self.proven.load(Ordering::Acquire);
        (proven != 0 && proven == self.link.generation()).then_some(proven)
    }

    fn may_read(&self) -> Result<(), Miss> {
        if self.link.generation() == 0 {
            Err(Miss::Unavailable)
        } else if self.journal.len() > 0 || !self.proven() {
            Err(Miss::Distrusted)
        } else {
            Ok(())
        }
    }

    /// Whether a get or lookup goes to the server at all.
    fn admit(&self, key: KeyRef<'_>) -> Result<(), Miss> {
        key::check(key.bytes).map_err(|_| Miss::InvalidKey)?;
        self.may_read()?;
        if self.link.breaker.ramp_admits() { Ok(()) } else { Err(Miss::Shed) }
    }

    /// The clock is gone or was left unsettled: read nothing until everything older has been removed.
    fn lost(&self, why: &str) {
        tracing::warn!(cache = %self.schema.cache, "{why}; nothing is read until the cache has been cleared");
        // In this order, so that a recovery under way sees one or undoes the other.
        self.doubts.fetch_add(1, Ordering::AcqRel);
        self.proven.store(0, Ordering::Release);
        self.link.work.notify_one();
    }

    async fn find(&self, key: KeyRef<'_>) -> Result<Value, Miss> {
        match self.find_known(key).await {
            Err(Cold::Miss(miss)) => Err(miss),
            Err(Cold::Unknown(tried)) => {
                let mut get = redis::cmd("GET");
                get.arg(self.layout.index(key));
                let hint = self.link.call(&get).await.map_err(|trouble| self.miss(&trouble))?;
                self.find_hinted(key, hint, tried).await
            }
            Ok(value) => Ok(value),
        }
    }

    async fn find_or_ticket(&self, key: KeyRef<'_>) -> Result<Value, (Miss, Option<Ticket>)> {
        let miss = match self.find_known(key).await {
            Ok(value) => return Ok(value),
            Err(Cold::Miss(miss)) => miss,
            Err(Cold::Unknown(tried)) => {
                // The ticket comes along in the same round trip: the load begins after it either way.
                let newest = self.newest();
                let mut both = Pipeline::with_capacity(2);
                both.cmd("GET").arg(self.layout.index(key));
                both.add_command(self.read_clock());
                let mut replies = match self.link.pipeline(&both).await {
                    Ok(replies) => replies.into_iter(),
                    Err(trouble) => return Err((self.miss(&trouble), None)),
                };
                let hint = replies.next().unwrap_or(Reply::Nil);
                let clock = replies.next().unwrap_or(Reply::Nil);
                return match self.find_hinted(key, hint, tried).await {
                    Ok(value) => Ok(value),
                    Err(miss) => Err((miss, self.ticket_from(clock, newest).await)),
                };
            }
        };
        let ticket = match miss {
            Miss::Absent | Miss::Expired | Miss::Undecodable => self.take_ticket().await,
            _ => None,
        };
        Err((miss, ticket))
    }

    /// What one GET of the object key finds, where it is known which that is.
    async fn find_known(&self, key: KeyRef<'_>) -> Result<Value, Cold> {
        self.may_read().map_err(Cold::Miss)?;
        if key.index == 0 {
            let hint = self.hints.of_primary(key);
            return self.read(key.bytes, hint.as_deref(), key).await.map_err(Cold::Miss);
        }
        let Some(hint) = self.hints.get(key) else { return Err(Cold::Unknown(None)) };
        match self.read(&hint.primary, Some(&hint), key).await {
            Err(Miss::Absent) => Err(Cold::Unknown(Some(hint))),
            other => other.map_err(Cold::Miss),
        }
    }

    /// The object that an index key leads to, unless that is the one that was tried already.
    async fn find_hinted(&self, key: KeyRef<'_>, hint: Reply, tried: Option<Arc<Hint>>) -> Result<Value, Miss> {
        let hint = match hint {
            Reply::BulkString(hint) => hint,
            Reply::ServerError(error) => return Err(self.miss(&redis::RedisError::from(error).into())),
            _ => {
                self.hints.forget(key);
                return Err(Miss::Absent);
            }
        };
        let Some(primary) = Layout::primary_of(&hint) else { return Err(Miss::Absent) };
        if tried.is_some_and(|tried| *tried.primary == *primary) {
            return Err(Miss::Absent);
        }
        let hint = self.hints.remember(key, primary);
        self.read(primary, Some(&hint), key).await
    }

    async fn read(&self, primary: &[u8], hint: Option<&Hint>, key: KeyRef<'_>) -> Result<Value, Miss> {
        let name = self.layout.object(primary);
        let mut get = redis::cmd("GET");
        get.arg(&name);
        let Some(connection) = self.trusted() else { return Err(Miss::Distrusted) };
        let touched = hint.filter(|hint| self.hints.touch_is_due(hint));
        let reply = match touched {
            None => self.link.call(&get).await,
            Some(hint) => {
                let age = milliseconds(self.schema.last_use_age);
                let touch = |call: &mut Cmd| {
                    call.arg(1).arg(&name).arg(age);
                };
                self.link.command_and_script(get, &scripts::TOUCH, touch).await.map(|(object, touch)| {
                    if touch.is_err() {
                        self.hints.touch_failed(hint);
                    }
                    object
                })
            }
        };
        if let Some(hint) = touched
            && !matches!(reply, Ok(Reply::BulkString(_)))
        {
            self.hints.touch_failed(hint);
        }
        let object = match reply {
            Ok(Reply::BulkString(object)) => object,
            Ok(Reply::Nil) => return Err(Miss::Absent),
            Ok(_) => return Err(self.miss(&unexpected("GET"))),
            Err(trouble) if trouble.what() == Some(What::WrongType) => {
                return self.discard(name, Vec::new(), "a value of another Redis type").await;
            }
            Err(trouble) => return Err(self.miss(&trouble)),
        };
        // It may have been sent on a later connection than the one that was looked at.
        if self.trusted() != Some(connection) {
            return Err(Miss::Distrusted);
        }
        match envelope::decode(&self.schema, &object, key) {
            Ok(value) => Ok(value),
            Err(DecodeError::OtherKey) => Err(Miss::Absent),
            Err(error) => self.discard(name, object, &error.to_string()).await,
        }
    }

    /// Reports and removes what cannot be decoded (C11).
    async fn discard(&self, name: Vec<u8>, read: Vec<u8>, why: &str) -> Result<Value, Miss> {
        tracing::error!(cache = %self.schema.cache, bytes = read.len(), "a stored object cannot be read and is removed: {why}");
        self.schema.stats.faults.increment();
        let arguments = |call: &mut Cmd| {
            call.arg(1).arg(&name).arg(&read);
        };
        if let Err(trouble) = self.link.script(&scripts::DISCARD, arguments).await {
            self.miss(&trouble);
        }
        Err(Miss::Undecodable)
    }

    fn miss(&self, trouble: &Trouble) -> Miss {
        match trouble {
            Trouble::Unavailable => Miss::Unavailable,
            Trouble::Shed => Miss::Shed,
            Trouble::TimedOut => Miss::TimedOut,
            Trouble::Error { what: What::Fault | What::WrongType | What::NoScript, text } => {
                tracing::error!(cache = %self.schema.cache, "the server rejected a command of ours: {text}");
                self.schema.stats.faults.increment();
                Miss::Fault
            }
            Trouble::Error { .. } => Miss::Unavailable,
        }
    }

    fn read_clock(&self) -> Cmd {
        let mut command = redis::cmd("GETRANGE");
        command.arg(self.layout.clock()).arg(0).arg(23);
        command
    }

    async fn take_ticket(&self) -> Option<Ticket> {
        self.ask_for_ticket().await.ok().flatten()
    }

    async fn ask_for_ticket(&self) -> Result<Option<Ticket>, Trouble> {
        if self.may_read().is_err() {
            return Ok(None);
        }
        let newest = self.newest();
        let reply = self.link.call(&self.read_clock()).await?;
        Ok(self.ticket_from(reply, newest).await)
    }

    /// The ticket in the first 24 bytes of the clock: epoch, sequence, state. `newest` was seen before the clock was read.
    async fn ticket_from(&self, clock: Reply, newest: Option<Ticket>) -> Option<Ticket> {
        let clock = bytes(clock)?;
        let number = |at: usize| clock.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let (Some(epoch @ 1..), Some(sequence), Some(state)) = (number(0), number(8), number(16)) else {
            self.lost("the server has lost the clock");
            return None;
        };
        if newest.is_some_and(|newest| newest.epoch == epoch && sequence < newest.sequence) {
            self.lost("the server's clock went back: its data has been replaced by older data");
            return None;
        }
        if state != 1 {
            let now = self.link.clock.now();
            let since = self.unsettled_since.load(Ordering::Relaxed);
            if since == 0 {
                self.unsettled_since.store(now, Ordering::Relaxed);
            } else if now >= since.saturating_add(UNSETTLED_LIMIT) {
                self.unsettled_since.store(0, Ordering::Relaxed);
                self.lost("another node began to clear the cache and did not end");
            }
            return None;
        }
        self.unsettled_since.store(0, Ordering::Relaxed);
        if self.registered.load(Ordering::Acquire) != epoch {
            let head = clearing::register(&*self.link, &self.layout).await.ok()?;
            if !head.registered {
                self.lost("the list of releases is full");
                return None;
            }
            if head.epoch != epoch {
                return None;
            }
            self.registered(epoch);
        }
        let ticket = Ticket { epoch, sequence };
        self.saw(ticket);
        Some(ticket)
    }

    /// The bytes of an object, if they may be stored.
    fn encoded(&self, object: &Object) -> Option<Vec<u8>> {
        let keys = 1 + object.secondary.len();
        if keys > MAX_KEYS {
            tracing::warn!(cache = %self.schema.cache, keys, limit = MAX_KEYS, "an object has too many keys and is not cached");
            return None;
        }
        match envelope::encode(&self.schema, object) {
            Ok(bytes) if bytes.len() as u64 <= self.schema.max_object_size => Some(bytes),
            Ok(bytes) => {
                tracing::warn!(
                    cache = %self.schema.cache, bytes = bytes.len(), limit = self.schema.max_object_size,
                    "an object is over the size limit and is not cached"
                );
                None
            }
            Err(error) => {
                tracing::error!(cache = %self.schema.cache, "an object cannot be encoded and is not cached: {error}");
                None
            }
        }
    }

    async fn send_object(&self, put: bool, object: &Object, bytes: &[u8], ticket: Ticket) -> Result<Fill, Trouble> {
        let max_age = milliseconds(self.schema.max_age);
        let last_use = milliseconds(self.schema.last_use_age);
        let life = if max_age > 0 && last_use > 0 { max_age.min(last_use) } else { max_age.max(last_use) };
        let clock = self.layout.clock();
        let staged = (bytes.len() > STAGE_ABOVE).then(|| self.layout.staged());
        let keys = 2 + object.secondary.len() + usize::from(object.version.is_some()) + usize::from(staged.is_some());
        let prefix = self.layout.object_prefix();
        let length = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        let mut header = Vec::with_capacity(31 + 8 * object.secondary.len());
        let aged = max_age > 0 && last_use > 0;
        header.extend_from_slice(&[u8::from(put), u8::from(object.version.is_some()), u8::from(aged)]);
        header.extend_from_slice(&length(prefix.len()));
        header.extend_from_slice(&length(self.layout.before_index()));
        header.extend_from_slice(&max_age.to_be_bytes());
        header.extend_from_slice(&object.version.unwrap_or(0).to_be_bytes());
        header.extend(object.keys().flat_map(|key| self.layout.mark(key)));
        let mut untouched = [0; 24];
        for (place, number) in untouched.chunks_exact_mut(8).zip([ticket.epoch, ticket.sequence, 1]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        let arguments = |call: &mut Cmd| {
            call.arg(keys).arg(&clock).arg(self.layout.object(&object.primary));
            for key in &object.secondary {
                call.arg(self.layout.index(key.as_ref()));
            }
            if object.version.is_some() {
                call.arg(self.layout.floor(&object.primary));
            }
            if let Some(staged) = &staged {
                call.arg(staged);
            }
            call.arg(&untouched[..]).arg(&header).arg(if staged.is_some() { &[][..] } else { bytes }).arg(life);
        };
        let reply = match &staged {
            None => self.link.script(&scripts::STORE, arguments).await?,
            Some(staged) => {
                let mut set = redis::cmd("SET");
                set.arg(staged).arg(bytes).arg("PX").arg(STAGED_LIFE);
                self.link.command_and_script(set, &scripts::STORE, arguments).await?.1?
            }
        };
        let (outcome, at) = verdict(reply).ok_or_else(|| unexpected("store.lua"))?;
        let at = (at.epoch != 0).then_some(at);
        at.into_iter().for_each(|at| self.saw(at));
        let stored = match outcome {
            1 => {
                self.schema.stats.stored_bytes.add(bytes.len() as u64);
                self.hints.remember_stored(object);
                Stored::Yes
            }
            2 => Stored::Overtaken,
            3 => Stored::Outdated,
            _ => {
                self.lost("the server has lost the clock");
                Stored::Unavailable
            }
        };
        Ok(Fill { stored, at })
    }

    async fn fill_object(&self, object: Object, ticket: Ticket) -> Fill {
        let Some(bytes) = self.encoded(&object) else { return Fill::undated(Stored::Unfit) };
        if self.link.clock.coarse() < self.full_until.load(Ordering::Relaxed) {
            return Fill::undated(Stored::Full);
        }
        match self.send_object(false, &object, &bytes, ticket).await {
            Ok(fill) => fill,
            Err(trouble) => Fill::undated(self.not_stored(&trouble)),
        }
    }

    /// The keys are guarded from the first moment: who goes away while the ticket is asked for has changed the source already.
    async fn set_object(&self, object: Object) -> Stored {
        let undelivered = self.guards(&object);
        match self.ask_for_ticket().await {
            Ok(ticket) => self.put_guarded(object, ticket, undelivered).await,
            // Whoever waits in vain waits once.
            Err(Trouble::TimedOut) => Stored::Unavailable,
            Err(_) => self.put_guarded(object, None, undelivered).await,
        }
    }

    async fn put_object(&self, object: Object, ticket: Option<Ticket>) -> Stored {
        let undelivered = self.guards(&object);
        self.put_guarded(object, ticket, undelivered).await
    }

    fn guards(&self, object: &Object) -> Vec<Undelivered<'_>> {
        let keys: Vec<KeyBuf> = object.keys().map(KeyRef::to_buf).collect();
        self.batches(&keys, Deferred::Invalidate { floor: None })
    }

    async fn put_guarded(&self, object: Object, ticket: Option<Ticket>, undelivered: Vec<Undelivered<'_>>) -> Stored {
        let stored = match (self.encoded(&object), ticket) {
            (None, _) => Stored::Unfit,
            (_, None) => Stored::Unavailable,
            (Some(bytes), Some(ticket)) => match self.send_object(true, &object, &bytes, ticket).await {
                Ok(put) => put.stored,
                Err(Trouble::TimedOut) => return self.not_stored(&Trouble::TimedOut),
                Err(trouble) => self.not_stored(&trouble),
            },
        };
        match stored {
            Stored::Yes | Stored::Overtaken | Stored::Outdated => {
                undelivered.into_iter().for_each(Undelivered::delivered);
                stored
            }
            // Not stored: the earlier state must go all the same.
            _ => match self.send_all(undelivered).await {
                Delivery::Applied if ticket.is_none() => Stored::Overtaken,
                Delivery::Applied => stored,
                Delivery::Deferred => Stored::Unavailable,
            },
        }
    }

    fn not_stored(&self, trouble: &Trouble) -> Stored {
        if trouble.what() == Some(What::Full) {
            tracing::warn!(cache = %self.schema.cache, "the server takes no more data: {trouble}");
            self.full_until.store(self.link.clock.coarse() + FULL_PAUSE, Ordering::Relaxed);
            return Stored::Full;
        }
        self.miss(trouble);
        Stored::Unavailable
    }

    /// All are guarded before the first is sent: dropped half-way, the rest is in the journal too.
    fn batches(&self, keys: &[KeyBuf], what: Deferred) -> Vec<Undelivered<'_>> {
        keys.chunks(BATCH).map(|batch| Undelivered::new(self, batch.to_vec(), what)).collect()
    }

    async fn send_all(&self, batches: Vec<Undelivered<'_>>) -> Delivery {
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

    /// Sends one batch of invalidations or deletes.
    pub(super) async fn forget(
        &self,
        caller: &impl clearing::Caller,
        keys: &[KeyBuf],
        what: Deferred,
    ) -> Result<(), Trouble> {
        match forgetting::forget(caller, &self.layout, keys, what).await? {
            Some(at) => {
                self.saw(at);
                Ok(())
            }
            None => {
                self.lost("the server has lost the clock");
                Err(Trouble::Unavailable)
            }
        }
    }

    async fn clear_all(&self) -> Delivery {
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

    async fn prune_keys(&self) -> Result<Pruned, Error> {
        let unavailable =
            |trouble: Trouble| Error::Unavailable { cache: self.schema.cache.clone(), reason: trouble.to_string() };
        let clock = self.layout.clock();
        let mut pruned = Pruned::default();
        let mut cursor = b"0".to_vec();
        loop {
            let (next, names) =
                clearing::scan(&*self.link, &cursor, &self.layout.index_keys()).await.map_err(unavailable)?;
            // Also of indexes that this release does not have: who had them may be gone for good.
            for batch in names.chunks(BATCH) {
                let arguments = |call: &mut Cmd| {
                    call.arg(1 + batch.len()).arg(&clock);
                    for name in batch {
                        call.arg(name);
                    }
                    call.arg(self.layout.object_prefix()).arg(self.layout.before_index());
                };
                let reply = self.link.script(&scripts::PRUNE, arguments).await.map_err(unavailable)?;
                if let Reply::Int(removed) = reply {
                    pruned.keys += u64::try_from(removed).unwrap_or(0);
                }
            }
            if next == b"0" {
                return Ok(pruned);
            }
            cursor = next;
        }
    }

    fn defer(&self, keys: Vec<KeyBuf>, what: Deferred) {
        if self.journal.defer(keys, what) {
            self.schema.stats.overflows.increment();
            tracing::warn!(cache = %self.schema.cache, "the journal is full: everything in the cache will be forgotten instead");
        }
        self.link.work.notify_one();
    }
}

enum Cold {
    Miss(Miss),
    /// It is not known which object to read, or the one remembered (and tried) was not it.
    Unknown(Option<Arc<Hint>>),
}

/// Invalidations or deletes on their way: dropped without an answer, they go into the journal.
struct Undelivered<'a> {
    store: &'a Store,
    keys: Vec<KeyBuf>,
    what: Deferred,
}

impl<'a> Undelivered<'a> {
    fn new(store: &'a Store, keys: Vec<KeyBuf>, what: Deferred) -> Self {
        Self { store, keys, what }
    }

    async fn send(self) -> Result<(), Trouble> {
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

    fn delivered(mut self) {
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
    fn delivered(mut self) {
        self.0 = None;
    }
}

impl Drop for UndeliveredTruncate<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.0 {
            store.journal.defer_truncate();
            store.link.work.notify_one();
        }
    }
}

impl Connector for Store {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        match self.admit(key) {
            Ok(()) => Answer::later(self.find(key)),
            Err(miss) => Answer::now(Err(miss)),
        }
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, (Miss, Option<Ticket>)>> {
        match self.admit(key) {
            Ok(()) => Answer::later(self.find_or_ticket(key)),
            Err(miss) => Answer::now(Err((miss, None))),
        }
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        if self.may_read().is_err() { Answer::now(None) } else { Answer::later(self.take_ticket()) }
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        if self.may_read().is_err() {
            Answer::now(Fill::undated(Stored::Unavailable))
        } else {
            Answer::later(self.fill_object(object, ticket))
        }
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        Answer::later(self.put_object(object, ticket))
    }

    fn set(&self, object: Object) -> Answer<'_, Stored> {
        Answer::later(self.set_object(object))
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        Answer::later(async move { Ok(self.send_all(self.batches(&keys, Deferred::Invalidate { floor })).await) })
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        Answer::later(async move { Ok(self.send_all(self.batches(&keys, Deferred::Delete)).await) })
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        Answer::later(async move { Ok(self.clear_all().await) })
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        Answer::later(self.prune_keys())
    }

    fn status(&self) -> Status {
        Status {
            objects: None,
            bytes: None,
            journal: self.journal.len(),
            readable: self.may_read().is_ok() && self.link.admits(),
            breaker: Some(self.link.breaker.state()),
        }
    }
}

/// What a script that ends with log.lua replies: the outcome, and the clock after it.
pub(super) fn verdict(reply: Reply) -> Option<(u8, Ticket)> {
    let reply = bytes(reply)?;
    let number = |at: usize| reply.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    Some((*reply.first()?, Ticket { epoch: number(1)?, sequence: number(9)? }))
}

/// The longest lifetime that is sent: 140,000 years. The scripts compute in doubles, and the server adds the time of day.
const ENDLESS: u64 = 1 << 52;

/// Milliseconds as the server takes them. A lifetime under a millisecond is one, not none.
pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).map_or(ENDLESS, |time| time.min(ENDLESS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::{Breaker, BreakerConfig};
    use crate::clock::Clock;
    use crate::{Entry, Index, Keys};
    use serde::{Deserialize, Serialize};
    use tokio::runtime::Handle;

    #[derive(Serialize, Deserialize)]
    struct Color;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    struct ColorIndex;

    impl Index for ColorIndex {
        const NAMES: &'static [&'static str] = &["name"];

        fn position(self) -> usize {
            0
        }

        fn from_name(name: &str) -> Option<Self> {
            (name == "name").then_some(Self)
        }
    }

    impl Entry for Color {
        type Index = ColorIndex;

        const CACHE: &'static str = "color";

        fn keys(&self, keys: &mut Keys<ColorIndex>) {
            keys.add(ColorIndex, "red");
        }
    }

    #[tokio::test]
    async fn a_recovery_that_was_overtaken_by_a_doubt_proves_nothing() {
        let clock = Clock::system();
        let breaker = Breaker::new("test", BreakerConfig::default(), clock.clone());
        let link = Arc::new(Link::new(breaker, clock, Duration::from_secs(1), Handle::current()));
        let store = Store::new(link, Schema::of::<Color>(), "larder", 1, 1);
        let doubts = store.doubts();
        store.prove(1, 0, doubts);
        assert!(store.is_proven(1));
        store.lost("found while a recovery was under way");
        store.prove(2, 0, doubts);
        assert!(!store.is_proven(2));
        store.prove(2, 0, store.doubts());
        assert!(store.is_proven(2));
    }
}
