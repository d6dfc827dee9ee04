//! [`ServerKind`]: everything that this module must know about a kind of server.

use super::cache::RemoteCache;
use super::forgetting::Batch;
use super::link::{Channel, Link};
use super::trouble::Trouble;
use crate::clock::Clock;
use crate::contract::Ticket;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// How larder talks to one kind of server: the requests that it needs to keep caches there.
///
/// Everything else is the same for every server, and this module does it: the breaker and the time-outs around each operation, the guards
/// by which no invalidation is lost, the journal, and the recovery of each cache on a new connection. A connector of your own implements
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

    /// Connects, and makes sure that the server serves. The future is dropped if it takes too long.
    fn connect(&self, clock: &Clock) -> impl Future<Output = Result<Connected<Self::Connection>, Trouble>> + Send;

    /// Finds out whether the server is still the same server. Returns the reason why the connection must be given up, or `None`. Called once a
    /// second while the connection is in use. `caches` are those that are open on the server. Send through [`Link::beat`], which takes no
    /// place from a user.
    fn heartbeat(
        &self,
        link: &Link<Self>,
        connection: &Self::Connection,
        caches: &[Arc<RemoteCache<Self>>],
    ) -> impl Future<Output = Option<&'static str>> + Send;

    /// Reads the clock of a cache, and registers this release's schema there, so that an invalidation by any release reaches its objects.
    fn read_clock(
        &self,
        channel: &Channel<'_, Self>,
        local: &Self::Local,
    ) -> impl Future<Output = Result<Clocked, Trouble>> + Send;

    /// Removes everything that was stored in the cache before now, under a new epoch, and returns the clock after that. `history` is the
    /// history of this connection. From then on, the clock must say that it belongs to that history.
    ///
    /// A [truncate](Clearing::Truncate) that finds no clock, or one of another history, may do nothing and answer a clock of the epoch 0: then the cache is recovered
    /// first.
    ///
    /// `None`: nothing was removed, because what was [doubted](Clearing::Doubted) is gone already. A clearing that is dropped half-way must
    /// leave a clock that is not [`settled`](Clocked::settled).
    fn clear(
        &self,
        channel: &Channel<'_, Self>,
        local: &Self::Local,
        history: u64,
        clearing: Clearing,
    ) -> impl Future<Output = Result<Option<Clocked>, Trouble>> + Send;

    /// Deletes or invalidates keys, each batch in one atomic step, all batches in as few round trips as possible. For each batch that the
    /// server answers, in their order, it adds one answer to `answers`: the clock after the batch, or `None` if the clock is lost and nothing
    /// was done. These answers count even if the whole call fails.
    fn forget(
        &self,
        channel: &Channel<'_, Self>,
        local: &Self::Local,
        batches: &[Batch<'_>],
        answers: &mut Vec<Result<Option<Ticket>, Trouble>>,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Whether changes must be [confirmed](Self::confirm) before they count as applied.
    fn confirms(&self) -> bool {
        false
    }

    /// Waits until the replicas have everything that was answered on this connection. While they are known to lag, a caller that is not
    /// `patient` gets an error at once.
    fn confirm(
        &self,
        _connection: &Self::Connection,
        _patient: bool,
    ) -> impl Future<Output = Result<(), Trouble>> + Send {
        std::future::ready(Ok(()))
    }

    /// Whether data under this clock may be used at all. If not, the cache is cleared, as if the data were doubted.
    fn accepts(&self, _local: &Self::Local, _clock: Clocked) -> bool {
        true
    }

    /// Waits until no other node serves anything older than what was changed at this state of the clock. It cannot fail, and takes a bounded time. By
    /// default there is nothing to wait for: nodes keep nothing but what the server keeps.
    fn elsewhere(&self, _cache: &RemoteCache<Self>, _changed: Ticket) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Called when the server refuses an operation on a cache because a right is missing. `error` is the server's error.
    fn lacks_right(&self, cache: &str, error: &str) {
        tracing::warn!(server = %self.name(), %cache, %error, "the server does not allow a command");
    }
}

/// A connection that was made.
pub struct Connected<C> {
    /// What operations are sent on.
    pub connection: C,
    /// Identifies the history of the server's data, which changes with a restart from a snapshot, and with a promotion. 0: the server does
    /// not tell it.
    pub history: u64,
    /// Ends when the connection is of no more use, and says why: most often that the server has closed it. Dropping this future closes the
    /// connection.
    pub ended: Pin<Box<dyn Future<Output = &'static str> + Send>>,
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
    /// A caller asked for it: everything is removed, however new it is.
    Truncate,
    /// What is stored under a clock of this epoch is doubted. If the clock has another epoch by now, and is settled, another node has cleared
    /// the cache since. A second clearing would only remove what was stored after the first one. It is not needed, but allowed.
    Doubted {
        /// The epoch of the clock that was read; 0: there was no clock.
        epoch: u64,
        /// Whether the list of schemas begins anew, because it is full.
        anew: bool,
        /// The newest epoch that this node has seen before; 0: none. A server that has lost its data does not say how nodes have followed the cache.
        seen: u64,
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
