//! [`Trust`]: on which connection a cache may be read, and what this node knows of the server's clock.
//!
//! A cache is read only while its journal is empty *and* it was recovered on the connection in use. A recovery proves the connection for
//! one cache: the history of the server's data was found to be the known one, or what was older has been removed.
//!
//! What is found out later can raise a *doubt*: the clock is gone, or went back. A doubt ends the proof at once. It also ends a proof
//! that a recovery under way is about to give: the recovery counts the doubts before it begins and again when it ends.

use super::cache::RemoteCache;
use super::server_kind::ServerKind;
use crate::contract::{Miss, Ticket};
use crate::protection::{Protection, holds};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What this node believes of one cache on the server.
#[derive(Default)]
pub(crate) struct Trust {
    /// The generation of the connection on which the cache was recovered. 0: none.
    proven: AtomicU64,
    doubts: AtomicU64,
    /// The history of the server's data on that connection.
    history: AtomicU64,
    /// The epoch under which this release's schema is registered, and the clock was found settled. 0: none.
    registered: AtomicU64,
    /// The newest ticket this node has seen, to notice that the server's data went back in time.
    newest: Mutex<Option<Ticket>>,
    /// Whether a reply has brought a ticket since [`RemoteCache::saw_lately`] was last called.
    saw_lately: AtomicBool,
    /// The generation of a connection, and the number up to which the journal was applied on it. These entries only wait to be confirmed.
    sent: Mutex<(u64, u64)>,
    /// How many recoveries have failed since the last one that succeeded.
    pub(super) failed_recoveries: AtomicU64,
}

impl Trust {
    pub(super) fn is_proven(&self, generation: u64) -> bool {
        self.proven.load(Ordering::Acquire) == generation
    }

    /// How many doubts were raised so far.
    pub(super) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Acquire)
    }

    /// Proves a connection, unless there was a doubt since `doubts` was read. Returns whether it is proven.
    fn prove(&self, generation: u64, history: u64, doubts: u64) -> bool {
        self.history.store(history, Ordering::Release);
        self.proven.store(generation, Ordering::Release);
        let undoubted = self.doubts() == doubts;
        if !undoubted {
            self.proven.store(0, Ordering::Release);
        }
        undoubted
    }

    /// Raises a doubt, which ends the proof, and also the one that a recovery under way is about to give. Returns whether there was a proof.
    fn doubt(&self) -> bool {
        // Count first: then a recovery under way either sees the count, or its proof comes early enough to be removed here.
        self.doubts.fetch_add(1, Ordering::AcqRel);
        self.proven.swap(0, Ordering::AcqRel) != 0
    }

    /// The history of the connection that was proven last.
    pub(crate) fn history(&self) -> u64 {
        self.history.load(Ordering::Acquire)
    }

    pub(crate) fn registered(&self, epoch: u64) {
        self.registered.store(epoch, Ordering::Release);
    }

    pub(crate) fn newest(&self) -> Option<Ticket> {
        *self.newest.lock()
    }

    fn saw(&self, seen: Ticket) {
        self.saw_lately.store(true, Ordering::Relaxed);
        let mut newest = self.newest.lock();
        match &mut *newest {
            // If the protection `epoch` is off, the higher sequence of an older clock must not take its place.
            Some(known) if known.epoch == seen.epoch && holds(Protection::Epoch) => {
                known.sequence = known.sequence.max(seen.sequence);
            }
            other => *other = Some(seen),
        }
    }

    /// The number up to which the journal was applied on this connection already.
    pub(super) fn sent_until(&self, generation: u64) -> u64 {
        let sent = self.sent.lock();
        if sent.0 == generation { sent.1 } else { 0 }
    }

    pub(super) fn has_sent(&self, generation: u64, until: u64) {
        *self.sent.lock() = (generation, until);
    }
}

impl<P: ServerKind> RemoteCache<P> {
    /// Whether the cache has something to recover or replay on this connection.
    pub(super) fn needs_work(&self, generation: u64) -> bool {
        !self.trust.is_proven(generation) || self.journal.len() > 0
    }

    /// Allows reading on this connection, unless there was a doubt since `doubts` was read. In that case the cache is recovered again.
    pub(super) fn prove(&self, generation: u64, history: u64, doubts: u64) {
        if !self.trust.prove(generation, history, doubts) {
            self.link.work.notify_one();
        }
    }

    /// The newest ticket this node has seen.
    #[must_use]
    pub fn newest(&self) -> Option<Ticket> {
        self.trust.newest()
    }

    /// The newest ticket that this node has seen, for the first attempt of a set. `None`: this node may not read the cache, or it has not yet
    /// found, under the ticket's epoch, that the clock is settled and lists this release. Both matter: an invalidation would not reach what
    /// an unlisted release stores, and a ticket from before the end of a clearing would let pass what the clearing must forget
    /// (`settled-only` in `docs/protocol.md`).
    #[must_use]
    pub fn seen_ticket(&self) -> Option<Ticket> {
        self.may_read().ok()?;
        self.newest().filter(|newest| self.is_registered(newest.epoch))
    }

    /// Whether a reply has brought a ticket since this was last called.
    pub fn saw_lately(&self) -> bool {
        self.trust.saw_lately.swap(false, Ordering::Relaxed)
    }

    /// Whether this node has found its release's schema in the list of the clock with this epoch.
    #[must_use]
    pub fn is_registered(&self, epoch: u64) -> bool {
        self.trust.registered.load(Ordering::Acquire) == epoch
    }

    /// Notes the state of the clock that a reply has brought.
    pub fn saw(&self, seen: Ticket) {
        self.trust.saw(seen);
    }

    /// The generation of the connection in use, if what is read on it can be trusted. If the number changes between sending an operation and
    /// its reply, the reply must not be used.
    #[must_use]
    pub fn trusted(&self) -> Option<u64> {
        let proven = self.trust.proven.load(Ordering::Acquire);
        (proven != 0 && proven == self.link.generation()).then_some(proven)
    }

    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted().is_some()
    }

    /// Whether this node may read the cache now.
    ///
    /// # Errors
    ///
    /// The miss that every get must answer while it may not.
    pub fn may_read(&self) -> Result<(), Miss> {
        if self.link.generation() == 0 {
            Err(Miss::Unavailable)
        } else if self.journal.len() > 0 || !self.is_trusted() {
            Err(Miss::Distrusted)
        } else {
            Ok(())
        }
    }

    /// Whether a get or lookup goes to the server at all.
    ///
    /// # Errors
    ///
    /// The miss that the get must answer otherwise: the cache may not be read, or the breaker's ramp holds the get back.
    pub fn admit(&self) -> Result<(), Miss> {
        self.may_read()?;
        if self.link.breaker().ramp_admits() { Ok(()) } else { Err(Miss::Shed) }
    }

    /// Notes that the clock is gone, or that the server's data is no longer the known data. Nothing is read until the cache is recovered.
    pub fn lost(&self, why: &str) {
        // Of all operations that find this out at once, only one logs it.
        if self.trust.doubt() {
            tracing::warn!(cache = %self.schema.cache, "{why}; nothing is read until the cache has been cleared");
        }
        self.link.work.notify_one();
    }
}

/// Why a cache is doubted whose clock is not there any more.
pub(crate) const LOST: &str = "the server has lost the clock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_that_was_overtaken_by_a_doubt_proves_nothing() {
        let trust = Trust::default();
        let doubts = trust.doubts();
        assert!(trust.prove(1, 0, doubts) && trust.is_proven(1));
        assert!(trust.doubt(), "found while a recovery was under way");
        assert!(!trust.prove(2, 0, doubts) && !trust.is_proven(2));
        assert!(!trust.doubt(), "which there is nobody to tell of");
        assert!(trust.prove(2, 0, trust.doubts()) && trust.is_proven(2));
    }
}
