//! One cache on the server: what is sent for each operation of a [`Connector`], and what its reply means.
//!
//! # What a reader may observe
//!
//! A get reads one object and believes only what the object itself says. It is answered only while this node's journal
//! is empty and the server's history has been checked on the connection in use; otherwise it is a miss before anything is sent.
//!
//! # What an invalidation guarantees when it is dropped
//!
//! From before it is sent until its reply is there, it is held by a guard (`delivery.rs`), whose drop puts it into
//! the journal. So a time-out, an error, and a caller that goes away are one and the same case.

use crate::connector::redis::layout::Layout;
use crate::connector::redis::single::clearing::bytes;
use crate::connector::redis::wire::link::{Link, WhenCrowded};
use crate::connector::remote::hints::Hints;
use crate::connector::remote::journal::{Deferred, Journal, Limits};
use crate::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lease, LeaseToken, Lookup, Lookups, Miss, Object, Pruned,
    Schema, Status, Stored, Ticket, Value,
};
use crate::key;
use crate::protection::{Protection, holds};
use crate::telemetry::{Episode, WarningLimit};
use parking_lot::Mutex;
use redis::Value as Reply;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) mod clearing;
pub(crate) mod delivery;
pub(crate) mod forgetting;
pub(crate) mod leasing;
pub(crate) mod many;
pub(crate) mod pruning;
pub(crate) mod reading;
pub(crate) mod storing;
pub(crate) mod tickets;

/// One cache on one server, as this node sees it.
pub(crate) struct Store {
    pub(crate) link: Arc<Link>,
    pub(crate) schema: Schema,
    pub(crate) layout: Layout,
    pub(crate) journal: Journal,
    /// What is held by guards (`delivery.rs`): on its way, and not in the journal.
    under_way: AtomicU64,
    /// Up to where the journal was applied on which connection, and only waits to be confirmed.
    sent: Mutex<(u64, u64)>,
    hints: Hints,
    /// The connection on which the server's history was found to be the one known.
    proven: AtomicU64,
    doubts: AtomicU64,
    /// How often it could not be recovered since it last could.
    pub(crate) failed_recoveries: AtomicU64,
    /// The history that belongs to that connection.
    history: AtomicU64,
    /// The epoch under which this release's schema is registered.
    registered: AtomicU64,
    newest: Mutex<Option<Ticket>>,
    full_until: AtomicU64,
    unsettled_since: AtomicU64,
    /// While the journal holds something. Its lock is held while that changes.
    deferring: Mutex<Episode>,
    /// While the server takes no more data.
    full: Mutex<Episode>,
    undecodable: WarningLimit,
    rejected: WarningLimit,
}

impl Store {
    pub(crate) fn new(link: Arc<Link>, schema: Schema, prefix: &str, hints: usize, journal: Limits) -> Self {
        Self {
            sent: Mutex::new((0, 0)),
            layout: Layout::new(prefix, &schema),
            hints: Hints::new(hints, schema.last_use_age, link.clock.clone()),
            journal: Journal::new(journal),
            under_way: AtomicU64::new(0),
            link,
            schema,
            proven: AtomicU64::new(0),
            doubts: AtomicU64::new(0),
            failed_recoveries: AtomicU64::new(0),
            history: AtomicU64::new(0),
            registered: AtomicU64::new(0),
            newest: Mutex::new(None),
            full_until: AtomicU64::new(0),
            unsettled_since: AtomicU64::new(0),
            deferring: Mutex::default(),
            full: Mutex::default(),
            undecodable: WarningLimit::default(),
            rejected: WarningLimit::default(),
        }
    }

    /// Whether there is something to recover or replay on this connection.
    pub(crate) fn needs_work(&self, generation: u64) -> bool {
        self.proven.load(Ordering::Acquire) != generation || self.journal.len() > 0
    }

    pub(crate) fn is_proven(&self, generation: u64) -> bool {
        self.proven.load(Ordering::Acquire) == generation
    }

    /// How often what the server holds was found not to be what it should be.
    pub(crate) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Acquire)
    }

    /// What is on this connection may be read, unless it was doubted since `doubts` was read: then it has to be recovered again.
    pub(crate) fn prove(&self, generation: u64, history: u64, doubts: u64) {
        self.history.store(history, Ordering::Release);
        self.proven.store(generation, Ordering::Release);
        if self.doubts() != doubts {
            self.proven.store(0, Ordering::Release);
            self.link.work.notify_one();
        }
    }

    /// The newest ticket this node has seen, to tell a server that went back in time.
    pub(crate) fn newest(&self) -> Option<Ticket> {
        *self.newest.lock()
    }

    pub(crate) fn saw(&self, seen: Ticket) {
        let mut newest = self.newest.lock();
        match &mut *newest {
            // An epoch that is not renewed must not be saved by its sequence.
            Some(known) if known.epoch == seen.epoch && holds(Protection::Epoch) => {
                known.sequence = known.sequence.max(seen.sequence)
            }
            other => *other = Some(seen),
        }
    }

    /// Up to where the journal was applied on this connection already.
    pub(crate) fn sent_until(&self, generation: u64) -> u64 {
        let sent = self.sent.lock();
        if sent.0 == generation { sent.1 } else { 0 }
    }

    pub(crate) fn has_sent(&self, generation: u64, until: u64) {
        *self.sent.lock() = (generation, until);
    }

    pub(crate) fn registered(&self, epoch: u64) {
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
    pub(crate) fn lost(&self, why: &str) {
        // In this order, so that a recovery under way sees one or undoes the other.
        self.doubts.fetch_add(1, Ordering::AcqRel);
        // Of all who find it out at once, one tells.
        if self.proven.swap(0, Ordering::AcqRel) != 0 {
            tracing::warn!(cache = %self.schema.cache, "{why}; nothing is read until the cache has been cleared");
        }
        self.link.work.notify_one();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let entries = self.journal.len();
        if entries > 0 {
            tracing::warn!(
                cache = %self.schema.cache, entries,
                "the cache was dropped before they could be delivered: other nodes may serve what has changed until its ages end"
            );
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

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        match self.admit(key) {
            Ok(()) => Answer::later(self.find_or_ticket(key)),
            Err(miss) => Answer::now(Lookup::miss(miss, None)),
        }
    }

    fn lease<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, (Lease, Lookup)> {
        match self.admit(key) {
            Ok(()) => Answer::later(self.lease_and_look(key)),
            Err(miss) => Answer::now((Lease::Free, Lookup::miss(miss, None))),
        }
    }

    fn release<'a>(&'a self, key: KeyRef<'a>, token: LeaseToken) -> Answer<'a, ()> {
        Answer::later(self.give_back(key, token))
    }

    fn fill_absent<'a>(&'a self, key: KeyRef<'a>, ticket: Ticket) -> Answer<'a, Fill> {
        if self.may_read().is_err() {
            Answer::now(Fill::undated(Stored::Unavailable))
        } else {
            Answer::later(self.fill_absence(key, ticket))
        }
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        // It may be for a change, whose ticket is not shed either.
        if self.may_read().is_err() { Answer::now(None) } else { Answer::later(self.take_ticket(WhenCrowded::Wait)) }
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

    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        if keys.is_empty() { Answer::now(Vec::new()) } else { Answer::later(self.find_many(keys)) }
    }

    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Lookups> {
        if keys.is_empty() { Answer::now(Lookups::default()) } else { Answer::later(self.find_many_or_ticket(keys)) }
    }

    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        if objects.is_empty() { Answer::now(Vec::new()) } else { Answer::later(self.fill_objects(objects, ticket)) }
    }

    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        if objects.is_empty() { Answer::now(Vec::new()) } else { Answer::later(self.set_objects(objects)) }
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

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        Answer::later(async move { self.was_untouched(&keys, since).await })
    }

    fn status(&self) -> Status {
        // In this order: what goes from one into the other meanwhile is counted twice rather than not at all.
        let under_way = self.under_way.load(Ordering::Acquire);
        Status {
            objects: None,
            bytes: None,
            under_way,
            journal: self.journal.len(),
            readable: self.may_read().is_ok() && self.link.admits(),
            breaker: Some(self.link.breaker.state()),
        }
    }
}

/// What a script that ends with log.lua replies: the outcome, and the clock after it.
pub(crate) fn verdict(reply: Reply) -> Option<(u8, Ticket)> {
    verdict_in(&bytes(reply)?)
}

fn verdict_in(reply: &[u8]) -> Option<(u8, Ticket)> {
    let number = |at: usize| reply.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    Some((*reply.first()?, Ticket { epoch: number(1)?, sequence: number(9)? }))
}

/// The longest time that is sent: 70,000 years. The scripts compute in doubles, which count exactly up to 2⁵³. There is room for the
/// sum of two such times, a max age and what an object is kept beyond it, and for the time of day, which the server adds.
const ENDLESS: u64 = 1 << 51;

/// Milliseconds as the server takes them. A lifetime under a millisecond is one, not none.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).map_or(ENDLESS, |time| time.min(ENDLESS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::{Breaker, BreakerConfig};
    use crate::clock::Clock;
    use crate::connector::redis::wire::rights::Rights;
    use crate::entry::color::Color;
    use tokio::runtime::Handle;

    #[tokio::test]
    async fn a_recovery_that_was_overtaken_by_a_doubt_proves_nothing() {
        let clock = Clock::system();
        let breaker = Breaker::new("test", BreakerConfig::default(), clock.clone()).unwrap();
        let link = Arc::new(Link::new(
            breaker,
            clock,
            Duration::from_secs(1),
            false,
            Handle::current(),
            Rights::new("here".to_owned(), "larder"),
        ));
        let store = Store::new(link, Schema::of::<Color>(), "larder", 1, Limits { keys: 1, bytes: 1 });
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
