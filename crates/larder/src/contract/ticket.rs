//! [`Ticket`]: proof of when a load began.

/// Proof of when a load began: the clock's epoch and the newest sequence then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Identifies the clock; it is renewed when the clock is lost or the cache truncated.
    pub epoch: u64,
    /// The newest sequence that had been given out.
    pub sequence: u64,
}
