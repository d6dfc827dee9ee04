//! A way for an operator to look into the caches of a database, to forget what is in them, and to make larder's tables there. It needs only
//! the names of caches and indexes, and no entry types.
//!
//! ```no_run
//! use larder::connector::postgres::PostgresOptions;
//! use larder::connector::postgres::inspect::Inspector;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let database = Inspector::open(PostgresOptions::from_url("postgres://larder@db.internal/shop")?).await?;
//! if database.facts().await?.tables.is_none() {
//!     database.set_up().await?;
//! }
//! let host = database.cache("instance").await?.index("host");
//! for copy in host.find(b"acme.example").await?.copies {
//!     println!("{:016x}: {} bytes", copy.fingerprint, copy.bytes);
//! }
//! host.invalidate(&[b"acme.example".to_vec()], None).await?;
//! # Ok(()) }
//! ```
//!
//! What is found is judged by the condition that the gets of services have, in one statement. To look at something changes nothing: it
//! prolongs no last-use age and removes nothing. What is forgotten is forgotten in every release, and for the caches that follow the feed.
//!
//! # What names can show
//!
//! Each release registers its caches and their indexes when it connects. The database loses these names together with all objects, in a crash
//! for example, and has them again when a service connects.
//!
//! # What is not remembered
//!
//! Each statement may take as long as the options' `connect_timeout`. No breaker is used, and nothing is kept for later: whoever gets an error
//! repeats the call. Repeating is harmless.

mod cache;
mod census;
mod error;
mod facts;
mod index;
mod plain_table;
mod state;

pub use crate::connector::inspect::{Expiry, Found, FoundCopy, FoundKey, FoundObject, Listing};
pub use cache::{InspectedCache, Release};
pub use census::{CacheCensus, Tally};
pub use error::InspectError;
pub use facts::{Facts, SetUp};
pub use index::InspectedIndex;
pub use plain_table::PlainTable;
pub use state::{Clock, Count, Prepared, State, Table, Transaction};

use super::connection::{Connection, Driver, Parameters, Typed, column, unexpected};
use super::listening::Listener;
use super::options::PostgresOptions;
use super::queries::Query;
use super::tls::Certificates;
use crate::connector::remote::{Awaited, Trouble};
use error::error;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// The version of larder's tables and functions that this build makes and uses.
pub const TABLES: i32 = 1;

/// How far long work has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pages of the tables that were looked at.
    pub pages: u64,
    /// Pages that there are to look at.
    pub of: u64,
}

/// A connection to a database, to look at it and to make larder's tables there.
pub struct Inspector {
    connection: Connection,
    options: PostgresOptions,
    _driver: Driver,
}

impl Inspector {
    /// Connects. A server that larder cannot use is no error here: see [`facts`](Self::facts).
    ///
    /// # Errors
    ///
    /// [`InspectError::Option`], [`InspectError::Unreachable`], [`InspectError::Refused`], [`InspectError::Server`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future, or the inspector, closes the connection.
    pub async fn open(options: PostgresOptions) -> Result<Self, InspectError> {
        options.validate()?;
        let options = options.connections(1).prepared(false);
        let reached = tokio::time::timeout(options.connect_timeout, Connection::reach(&options)).await;
        let reached = reached.unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)));
        let (connection, driver) = reached.map_err(|trouble| error(&options, &trouble))?;
        Ok(Self { connection, options, _driver: driver })
    }

    /// Sends a statement that does nothing, to measure how long an answer takes.
    ///
    /// # Errors
    ///
    /// [`InspectError::Unreachable`], [`InspectError::Server`].
    pub async fn ping(&self) -> Result<(), InspectError> {
        self.row("SELECT 1", &[]).await.map(drop)
    }

    /// Whether a notification reaches a session that listens on the way that the options give. Behind a pooler in transaction mode it does not, and this
    /// takes three seconds to find out. [`Wake::Listen`](crate::feed::Wake::Listen) needs it.
    ///
    /// # Errors
    ///
    /// [`InspectError::Unreachable`], [`InspectError::Refused`], [`InspectError::Server`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes the session that listens.
    pub async fn hears(&self) -> Result<bool, InspectError> {
        let told = |trouble| error(&self.options, &trouble);
        let mut listener = Listener::open(&self.options, &Certificates::default()).await.map_err(told)?;
        let text = format!("trial {:016x}", fastrand::u64(..));
        let notify = async { self.connection.rows(Query::Notify, &[&text]).await.map(drop) };
        listener.hears(&text, notify).await.map_err(told)
    }

    async fn row(&self, text: &str, parameters: &[Typed<'_>]) -> Result<Row, InspectError> {
        let rows = self.rows(text, parameters).await?;
        rows.into_iter().next().ok_or_else(|| error(&self.options, &unexpected()))
    }

    async fn rows(&self, text: &str, parameters: &[Typed<'_>]) -> Result<Vec<Row>, InspectError> {
        self.within(self.connection.ask(text, parameters)).await
    }

    /// Sends one of the queries that the connector has.
    async fn query(&self, query: Query, parameters: Parameters<'_>) -> Result<Vec<Row>, InspectError> {
        self.within(self.connection.rows(query, parameters)).await
    }

    async fn within<T>(&self, asked: impl Future<Output = Result<T, Trouble>>) -> Result<T, InspectError> {
        let answer = tokio::time::timeout(self.options.connect_timeout, asked).await;
        let answer = answer.unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)));
        answer.map_err(|trouble| error(&self.options, &trouble))
    }

    fn at<'a, T: FromSql<'a>>(&self, row: &'a Row, at: usize) -> Result<T, InspectError> {
        column(row, at).map_err(|trouble| error(&self.options, &trouble))
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("options", &self.options).finish_non_exhaustive()
    }
}
