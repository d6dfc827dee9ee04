//! [`RemoteCache`]: one cache on one server, as this node sees it.

use super::fullness::Fullness;
use super::journal::{Journal, Limits};
use super::link::Link;
use super::server_kind::ServerKind;
use super::trouble::{Trouble, What};
use super::trust::Trust;
use crate::contract::{Miss, Schema, Status, Stored};
use crate::telemetry::{Episode, WarningLimit};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One cache on one server, as this node sees it: the changes that are not delivered yet, and whether this node may read the cache.
///
/// A connector opens it with [`Server::cache`](super::Server::cache) and implements [`Connector`](crate::contract::Connector) on it:
///
/// | operation | how |
/// |---|---|
/// | get, lookup | [`admit`](Self::admit), then [`Link::operation`]; answer a hit only if [`trusted`](Self::trusted) is the same as before |
/// | fill | [`may_read`](Self::may_read), then [`Link::operation`] |
/// | set, put | [guard](Self::guards) the object's keys, send, then [settle](Self::settle) |
/// | invalidate, delete, truncate | [`invalidate`](Self::invalidate), [`delete`](Self::delete), [`truncate`](Self::truncate) |
/// | status | [`status`](Self::status) |
///
/// When a reply brings the state of the clock, call [`saw`](Self::saw). When the clock is gone, call [`lost`](Self::lost).
pub struct RemoteCache<P: ServerKind> {
    pub(crate) link: Arc<Link<P>>,
    pub(crate) schema: Schema,
    pub(crate) local: P::Local,
    pub(crate) trust: Trust,
    pub(crate) journal: Journal,
    /// How many guards (`guard.rs`) hold changes that are on their way, and not in the journal.
    pub(super) under_way: AtomicU64,
    /// The time during which the journal holds entries. Its lock is held while entries are added or removed.
    pub(super) deferring: Mutex<Episode>,
    pub(crate) fullness: Fullness,
    rejected: WarningLimit,
}

impl<P: ServerKind> RemoteCache<P> {
    pub(crate) fn new(link: Arc<Link<P>>, schema: Schema, local: P::Local, journal: Limits) -> Self {
        Self {
            link,
            schema,
            local,
            trust: Trust::default(),
            journal: Journal::new(journal),
            under_way: AtomicU64::new(0),
            deferring: Mutex::default(),
            fullness: Fullness::default(),
            rejected: WarningLimit::default(),
        }
    }

    /// The connection that operations are sent on.
    #[must_use]
    pub fn link(&self) -> &Link<P> {
        &self.link
    }

    /// What the cache was opened for.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What the connector keeps for this cache.
    #[must_use]
    pub fn local(&self) -> &P::Local {
        &self.local
    }

    /// How the cache is doing. A change that moves from "under way" into the journal meanwhile may be counted twice, but is never left out.
    #[must_use]
    pub fn status(&self) -> Status {
        let under_way = self.under_way.load(Ordering::Acquire);
        Status {
            objects: None,
            bytes: None,
            under_way,
            journal: self.journal.len(),
            readable: self.may_read().is_ok() && self.link.admits(),
            breaker: Some(self.link.breaker().state()),
            valid_for_ms: None,
        }
    }

    /// The miss that a get answers after this trouble. A fault of larder's is counted and logged, and a missing right is reported to
    /// [`ServerKind::lacks_right`].
    pub fn miss(&self, trouble: &Trouble) -> Miss {
        match trouble {
            Trouble::Unavailable | Trouble::Unconfirmed => Miss::Unavailable,
            Trouble::Shed => Miss::Shed,
            Trouble::TimedOut(_) => Miss::TimedOut,
            Trouble::Error { what: What::Fault | What::WrongType | What::NoScript, text } => {
                self.schema.stats.faults.increment();
                if let Some(entries) = self.rejected.admit(self.link.clock(), 1) {
                    let cache = &*self.schema.cache;
                    tracing::error!(%cache, entries, error = %text, "the server rejected a command of ours");
                }
                Miss::Fault
            }
            Trouble::Error { what: What::Forbidden, text } => {
                self.link.kind().lacks_right(&self.schema.cache, text);
                Miss::Fault
            }
            Trouble::Error { .. } => Miss::Unavailable,
        }
    }

    /// What a fill or put answers after this trouble. After [`What::Full`], fills pause for a second.
    pub fn not_stored(&self, trouble: &Trouble) -> Stored {
        if trouble.what() == Some(What::Full) {
            self.fullness.refused(self.link.clock(), &self.schema.cache, trouble);
            return Stored::Full;
        }
        self.miss(trouble);
        if trouble.what() == Some(What::Forbidden) { Stored::Unfit } else { Stored::Unavailable }
    }

    /// Whether fills pause, because the server has just said that it takes no more data. Then a fill is not sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.fullness.pauses(self.link.clock())
    }

    /// Notes that the server has stored an object, and so has room.
    pub fn has_room(&self) {
        self.fullness.has_room(self.link.clock(), &self.schema.cache);
    }
}

impl<P: ServerKind> Drop for RemoteCache<P> {
    fn drop(&mut self) {
        let entries = self.journal.len();
        if entries > 0 {
            tracing::warn!(
                cache = %self.schema.cache, entries,
                "the cache was dropped before its deferred changes were delivered: other nodes may serve the old objects until these expire"
            );
        }
    }
}

impl<P: ServerKind> std::fmt::Debug for RemoteCache<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteCache").field("cache", &self.schema.cache).finish_non_exhaustive()
    }
}
