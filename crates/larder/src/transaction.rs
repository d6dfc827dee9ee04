//! Invalidations that commit together with the change that causes them, and tickets of a transaction's own snapshot.
//!
//! An invalidation [after the commit](crate::Cache::invalidate) has a gap: a process that dies between the two tells nobody of the change.
//! [`Cache::invalidate_in`](crate::Cache::invalidate_in) has none, because the invalidation is part of the transaction.
//!
//! | what | within a transaction |
//! |---|---|
//! | forget objects when the transaction commits | [`Cache::invalidate_in`](crate::Cache::invalidate_in) |
//! | forget a whole cache when the transaction commits | [`Cache::truncate_in`](crate::Cache::truncate_in) |
//! | a ticket for what the transaction reads | [`Cache::ticket_in`](crate::Cache::ticket_in) |
//!
//! The caches are on the postgres connector, or follow the feed of the database. The transaction is in the same database, and its role needs the right
//! `USAGE` on the schema `larder`.

use crate::contract::{Error, OtherDatabase, Snapshot};
use std::error::Error as StdError;
use std::sync::Arc;

#[cfg(feature = "sqlx-postgres")]
mod sqlx;
#[cfg(feature = "tokio-postgres")]
mod tokio_postgres;

/// A transaction of a client library, in a PostgreSQL database.
///
/// | client library | cargo feature | passed as |
/// |---|---|---|
/// | `tokio-postgres` | `tokio-postgres` | `&transaction`; through a pool that has a type of its own, such as `deadpool-postgres`: `&*transaction` |
/// | `sqlx` | `sqlx-postgres` | `&mut *transaction` |
///
/// A connection that is in no transaction is one for a single statement, which commits at once.
///
/// This trait is sealed: only larder implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transaction that larder knows",
    note = "pass `&transaction` of tokio-postgres (`&*transaction` if it is of a pool), or `&mut *transaction` of sqlx",
    note = "larder's cargo features `tokio-postgres` and `sqlx-postgres` say for which of them it is built"
)]
pub trait Transaction: sealed::Sealed<Failure = <Self as Transaction>::Error> + Send {
    /// The client library's own error.
    type Error: StdError + Send + Sync + 'static;
}

/// Why something could not be done within a transaction. After an error of the database ([`Database`](Self::Database), [`NotSetUp`](Self::NotSetUp),
/// [`Forbidden`](Self::Forbidden)) the transaction cannot commit any more. After the others it can.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError<Err: StdError + 'static> {
    /// A key that cannot exist. The other keys were handled.
    #[error(transparent)]
    Key(Error),
    /// Nobody would hear of it: the cache is not on the postgres connector, and follows no feed.
    #[error(
        "cache `{cache}` does not hear what a transaction says: open it on the postgres connector or on a feed, or call `invalidate` after the commit"
    )]
    Unheard {
        /// The cache.
        cache: Arc<str>,
    },
    /// The snapshot of a transaction is a ticket for caches on the postgres connector only.
    #[error(
        "cache `{cache}` is not on the postgres connector: take its tickets with `lookup`, before the transaction begins"
    )]
    NoTickets {
        /// The cache.
        cache: Arc<str>,
    },
    /// The transaction has written, or locked rows. It may read what nobody else can see, and what may be rolled back.
    #[error(
        "the transaction has written or locked rows already: load what is to be cached in a transaction that only reads"
    )]
    HasWritten,
    /// The transaction is in another database than the objects of the cache.
    #[error(transparent)]
    OtherDatabase(#[from] OtherDatabase),
    /// The database has no schema `larder`, or an older one.
    #[error(
        "the database has not what larder needs: run `larder postgres setup` for it, and make sure that the transaction is in the database of the cache"
    )]
    NotSetUp(#[source] Err),
    /// The role of the transaction lacks a right.
    #[error("the role of the transaction lacks a right on the schema `larder`: {grant}")]
    Forbidden {
        /// What gives the right.
        grant: &'static str,
        /// The error of the client library.
        source: Err,
    },
    /// The statement failed.
    #[error("the statement failed within the transaction")]
    Database(#[source] Err),
}

impl<Err: StdError + 'static> TransactionError<Err> {
    /// What an error with this SQLSTATE means. `grant` is what a role without rights needs.
    pub(crate) fn of(state: Option<&str>, grant: &'static str, error: Err) -> Self {
        match state {
            // An undefined table or function, or a schema that is not there.
            Some("42P01" | "42883" | "3F000") => Self::NotSetUp(error),
            Some("42501") => Self::Forbidden { grant, source: error },
            _ => Self::Database(error),
        }
    }
}

/// The right to call larder's functions.
pub(crate) const TO_CALL: &str = "GRANT USAGE ON SCHEMA larder TO …";
/// The right to read the clock.
pub(crate) const TO_READ: &str = "GRANT USAGE ON SCHEMA larder TO …; GRANT SELECT ON larder.clock TO …";

/// What is sent. The names are parameters, so that no name is taken for SQL.
const INVALIDATE: &str = "SELECT larder.invalidate_bytes($1, $2, VARIADIC $3)";
const TRUNCATE: &str = "SELECT larder.truncate($1)";
/// Without a row there is no clock, or only one that came with a copy of another database.
const SNAPSHOT: &str = "SELECT c.epoch, c.generation, pg_current_snapshot()::text, pg_current_xact_id_if_assigned() IS NOT NULL \
    FROM larder.clock c WHERE c.home = larder.home()";

/// The snapshot of a transaction.
#[derive(Debug)]
pub struct Taken {
    pub(crate) snapshot: Snapshot,
    /// Whether the transaction has written.
    pub(crate) written: bool,
}

pub(crate) mod sealed {
    use super::Taken;
    use std::future::Future;

    /// What larder sends through a transaction.
    pub trait Sealed: Sized {
        /// The client library's own error.
        type Failure;

        /// Invalidates these keys of an index of a cache when the transaction commits.
        fn invalidate(
            self,
            cache: &str,
            index: &str,
            keys: Vec<Vec<u8>>,
        ) -> impl Future<Output = Result<(), Self::Failure>> + Send;

        /// Truncates a cache when the transaction commits.
        fn truncate(self, cache: &str) -> impl Future<Output = Result<(), Self::Failure>> + Send;

        /// Reads the clock, with the snapshot of the transaction. `None`: there is no clock.
        fn snapshot(self) -> impl Future<Output = Result<Option<Taken>, Self::Failure>> + Send;

        /// The SQLSTATE of an error.
        fn state(error: &Self::Failure) -> Option<String>;
    }
}
