//! [`Transactions`]: what the transactions of a PostgreSQL database mean to a connector.

use super::{Answer, Ticket};

/// What the transactions of a PostgreSQL database mean to the objects of a connector. [`Connector::transactions`](super::Connector::transactions)
/// answers it, and a connector that stands in front of another one passes on what that one answers.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Transactions<'a> {
    /// Nothing. What a transaction says with `larder.invalidate` reaches no object of this connector.
    Unheard,
    /// Nothing, because there are no objects: the cache is switched off.
    Off,
    /// The connector follows the changes of a database: it forgets what a transaction there invalidates.
    Followed,
    /// The connector keeps its objects in a database. It forgets what a transaction there invalidates, and takes the snapshot of a transaction
    /// there as a ticket.
    Kept(&'a dyn Snapshots),
}

impl std::fmt::Debug for Transactions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unheard => "Unheard",
            Self::Off => "Off",
            Self::Followed => "Followed",
            Self::Kept(_) => "Kept",
        })
    }
}

/// Makes tickets of the snapshots of transactions.
pub trait Snapshots: Send + Sync {
    /// The ticket that stands for a snapshot. `Ok(None)`: there is none now, because the database of the cache cannot be reached.
    ///
    /// # Errors
    ///
    /// [`OtherDatabase`].
    fn ticket_of<'a>(&'a self, snapshot: &'a Snapshot) -> Answer<'a, Result<Option<Ticket>, OtherDatabase>>;
}

/// A snapshot, and where `larder.clock` stood in it. All of it was read by one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The epoch of the clock.
    pub epoch: i64,
    /// The generation of the clock.
    pub generation: i32,
    /// The snapshot as text: `xmin:xmax:xip`.
    pub text: String,
}

impl Snapshot {
    /// A snapshot that was read together with the clock.
    #[must_use]
    pub fn new(epoch: i64, generation: i32, text: String) -> Self {
        Self { epoch, generation, text }
    }
}

/// The snapshot is of another database than the one in which the connector keeps its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transaction is not in the database in which the cache keeps its objects")]
pub struct OtherDatabase;
