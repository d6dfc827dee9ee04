//! [`Ticket`]: proof of when a load began.

/// Proof of when a load began: the connector's clock then. [`Cache::lookup`](crate::Cache::lookup) gives one out with a miss, and
/// [`Cache::fill`](crate::Cache::fill) takes it. Only a connector makes tickets: see [`issue_ticket`](crate::contract::issue_ticket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

impl Ticket {
    /// Identifies the clock. The clock is renewed, with another epoch, when it is lost or the cache truncated.
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.epoch
    }

    /// The newest sequence that had been given out: each invalidation and each put takes the next one.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }
}

/// A ticket, for a connector that reads its clock: the clock's epoch, and the newest sequence that it has given out.
///
/// Nobody but a connector has a use for it. A ticket that was made up, rather than taken before the load, lets a fill in that an invalidation has
/// overtaken.
///
/// ```
/// use larder::contract::issue_ticket;
///
/// let ticket = issue_ticket(7, 42);
/// assert_eq!((ticket.epoch(), ticket.sequence()), (7, 42));
/// ```
#[must_use]
pub const fn issue_ticket(epoch: u64, sequence: u64) -> Ticket {
    Ticket { epoch, sequence }
}
