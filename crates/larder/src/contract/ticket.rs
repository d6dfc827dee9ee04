//! [`Ticket`]: proof of when a load began.

/// Proof of when a load began: the state of the connector's clock at that moment. [`Cache::lookup`](crate::Cache::lookup) returns a ticket
/// with a miss, and [`Cache::fill`](crate::Cache::fill) takes it. Only connectors make tickets: see
/// [`issue_ticket`](crate::contract::issue_ticket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

impl Ticket {
    /// Identifies the clock. When the clock is lost or the cache is truncated, a new clock with another epoch begins.
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.epoch
    }

    /// The newest sequence that the clock had given out. Each invalidation and each put takes the next one.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }
}

/// Makes a ticket from a connector's clock: the clock's epoch, and the newest sequence that it has given out.
///
/// Only connectors need this. A ticket that is made up, instead of taken before the load, lets the cache accept a fill that an invalidation
/// has overtaken.
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
