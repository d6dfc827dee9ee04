//! [`ServerKind`]: all that this module has to know of a kind of server.

use super::cache::RemoteCache;
use super::forgetting::Batch;
use super::link::{Channel, Link};
use super::trouble::Trouble;
use crate::clock::Clock;
use crate::contract::Ticket;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// How larder talks to one kind of server: what it takes to keep caches on it.
///
/// Everything else is the same for every server and done by this module: the breaker and the time-outs around each operation, the guards
/// that let no invalidation get lost, the journal, and the recovery of each cache on a new connection. A connector of your own implements
/// this trait, and [`Connector`](crate::contract::Connector) on top of a [`RemoteCache`](super::RemoteCache).
///
/// # The clock of a cache
///
/// The server keeps a *clock* for each cache, which every node can read: an epoch, and a sequence that grows with each key that is touched.
/// The two are the [`Ticket`] of a load. Recovery reads the clock to find out whether the server's data is still the data that was known.
pub trait ServerKind: Sized + Send + Sync + 'static {
    /// What operations are sent on. All operations of a process share it.
    type Connection: Send + Sync + 'static;

    /// What the connector keeps on this node for one cache: names of keys, hints, and the like.
    type Local: Send + Sync + 'static;

    /// The server's address, for logs and labels of metrics; without credentials.
    fn name(&self) -> &str;

    /// Connects, and makes sure that the server serves. It is dropped when it takes too long.
    fn connect(&self, clock: &Clock) -> impl Future<Output = Result<Connected<Self::Connection>, Trouble>> + Send;

    /// Called once a second while the connection is in use, to find out whether the server is still the one that it was: the reason why the
    /// connection must be given up, or `None`. `caches` are those that are open on the server. Sends through [`Link::beat`], which takes no place from a user.
    fn heartbeat(
        &self,
        link: &Link<Self>,
        connection: &Self::Connection,
        caches: &[Arc<RemoteCache<Self>>],
    ) -> impl Future<Output = Option<&'static str>> + Send;

    /// Reads the clock of a cache, and leaves this release's schema there, so that an invalidation by any release reaches its objects.
    fn read_clock(
        &self,
        channel: &Channel<'_, Self>,
        local: &Self::Local,
    ) -> impl Future<Output = Result<Clocked, Trouble>> + Send;

    /// Removes everything that was stored in the cache before now, under a new epoch, and answers the clock after that. `history` is the one
    /// of this connection; the clock says from then on that it belongs to that history.
    ///
    /// `None`: nothing was removed, since what was [doubted](Clearing::Doubted) is gone already. A clearing that is dropped half-way must leave
    /// a clock that is not [`settled`](Clocked::settled).
    fn clear(
        &self,
        channel: &Channel<'_, Self>,
        local: &Self::Local,
        history: u64,
        clearing: Clearing,
    ) -> impl Future<Output = Result<Option<Clocked>, Trouble>> + Send;

    /// Deletes or invalidates keys, each batch in one atomic step, all batches in as few round trips as it takes. For each batch that was
    /// answered, in their order, `answers` gets where the clock stands after it, or `None`: the clock is lost, and nothing was done.
    /// What was answered is there whatever becomes of the whole.
    fn forget(
        &self,
        channel: &Channel<'_, Self>,
        local: &Self::Local,
        batches: &[Batch<'_>],
        answers: &mut Vec<Result<Option<Ticket>, Trouble>>,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Whether what changes has to be [confirmed](Self::confirm) before it counts as applied.
    fn confirms(&self) -> bool {
        false
    }

    /// Waits until replicas have all that was answered on this connection. A caller that is not `patient` has its answer at once while
    /// they are known to lag.
    fn confirm(
        &self,
        _connection: &Self::Connection,
        _patient: bool,
    ) -> impl Future<Output = Result<(), Trouble>> + Send {
        std::future::ready(Ok(()))
    }

    /// Told when an operation on a cache was refused for want of a right, with the server's error.
    fn lacks_right(&self, cache: &str, error: &str) {
        tracing::warn!(server = %self.name(), %cache, %error, "the server does not allow a command");
    }
}

/// A connection that was made.
pub struct Connected<C> {
    /// What operations are sent on.
    pub connection: C,
    /// Identifies the history of the server's data: it is another one after a restart from a snapshot, or after a promotion. 0 where the
    /// server does not say.
    pub history: u64,
    /// Ends when the connection has ended by itself. When it is dropped, the connection is closed.
    pub ended: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<C> std::fmt::Debug for Connected<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").field("history", &self.history).finish_non_exhaustive()
    }
}

/// Why a cache is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clearing {
    /// It was asked for: everything goes, whatever the clock says.
    Truncate,
    /// What is stored under a clock of this epoch is doubted; 0: there was no clock. Where the clock has another epoch by now, and is settled, another node
    /// has cleared the cache since: a second clearing would only remove what was stored after the first. It is allowed all the same.
    Doubted {
        /// The epoch of the clock that was read.
        epoch: u64,
        /// Whether the list of schemas begins anew, because it is full.
        anew: bool,
    },
}

/// What the clock of a cache says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocked {
    /// Identifies the clock; 0: there is no clock.
    pub epoch: u64,
    /// The newest sequence that was given out.
    pub sequence: u64,
    /// Whether everything older than the epoch has been removed.
    pub settled: bool,
    /// The history of the server's data that the clock belongs to.
    pub history: u64,
    /// Whether the schema of this release is in the clock's list.
    pub registered: bool,
}

impl Clocked {
    /// A ticket for what begins now.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket { epoch: self.epoch, sequence: self.sequence }
    }
}
