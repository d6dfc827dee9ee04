//! [`Follower`]: a cache that follows a feed, and until when it may be read.

use crate::clock::Clock;
use crate::contract::{Connector, Schema};
use crate::protection::{Protection, holds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A cache that follows a feed.
pub(super) struct Follower {
    pub(super) schema: Schema,
    pub(super) connector: Arc<dyn Connector>,
    /// For a cache in memory: the number of its own changes, which it has applied already.
    pub(super) origin: Option<i64>,
    pub(super) deadline: Duration,
    pub(super) gate: Gate,
}

/// Until when a cache may be read, and on which connection of its connector.
///
/// One task opens the gate. Callers read it without a lock: first the connection, then the time, then the connection that is in use now. A caller
/// that finds the time which was written for a new connection finds that connection in use, so it takes no other one's time for its own.
#[derive(Default)]
pub(super) struct Gate {
    /// In ms of the clock.
    until: AtomicU64,
    connection: AtomicU64,
}

impl Gate {
    /// Lets the cache be read until then, on this connection.
    pub(super) fn open(&self, connection: u64, until: u64) {
        if self.connection.load(Ordering::Relaxed) != connection {
            self.until.store(0, Ordering::Release);
            self.connection.store(connection, Ordering::Release);
        }
        self.until.fetch_max(until, Ordering::AcqRel);
    }

    /// Whether it is early enough, by the precise clock: nobody knows how far the coarse one [lags](Clock::COARSE_LAG), and a deadline may be shorter.
    #[inline]
    pub(super) fn in_time(&self, clock: &Clock) -> bool {
        let until = self.until.load(Ordering::Acquire);
        if !holds(Protection::Deadline) {
            return until > 0;
        }
        clock.now() < until
    }

    /// The connection that it was opened for. Read it before [`in_time`](Self::in_time).
    pub(super) fn connection(&self) -> u64 {
        self.connection.load(Ordering::Acquire)
    }
}
