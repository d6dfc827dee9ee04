//! What is done to a cache within a transaction of the user's: `invalidate_in`, `truncate_in`, `ticket_in`.

use super::Cache;
use crate::contract::{Ticket, Transactions};
use crate::entry::{Entry, Index};
use crate::key::KeyFor;
use crate::transaction::{TO_CALL, TO_READ, Transaction, TransactionError};

impl<E: Entry> Cache<E> {
    /// Forgets every object that one of `keys` leads to, when the transaction commits. If the transaction is rolled back, nothing is forgotten. The
    /// same holds for a savepoint, in every isolation level, and for two-phase commit.
    ///
    /// The call writes rows and takes no lock: it waits for nobody, and nobody waits for it. It is one round trip, and none without keys.
    /// Of more than 10,000 keys it makes a [`truncate_in`](Self::truncate_in).
    ///
    /// The cache is on the postgres connector, or follows a feed, on any node. The transaction is in the same database.
    ///
    /// # When it takes effect
    ///
    /// Before the commit nobody sees a difference, this node neither: gets return the state before the change. After the commit a cache on the
    /// postgres connector is right at once, on every node. A cache that follows a feed, also one in the database with memory in front, is right within the
    /// feed's deadline (1 s by default), on this node as on every other one; usually after one poll.
    ///
    /// No load can bring the earlier state back: not one that began before the commit, and not one that read the earlier state while the transaction
    /// was open.
    ///
    /// # With `tokio-postgres`
    ///
    #[cfg_attr(feature = "tokio-postgres", doc = "```no_run")]
    #[cfg_attr(not(feature = "tokio-postgres"), doc = "```ignore")]
    /// # use larder::{Cache, Entry};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: String, name: String }
    /// async fn rename(
    ///     client: &mut tokio_postgres::Client,
    ///     instances: &Cache<Instance>,
    ///     id: &str,
    ///     name: &str,
    /// ) -> Result<(), Box<dyn std::error::Error>> {
    ///     let transaction = client.transaction().await?;
    ///     transaction.execute("UPDATE instances SET name = $2 WHERE id = $1", &[&id, &name]).await?;
    ///     instances.invalidate_in(&transaction, Instance::ID, [id]).await?;
    ///     transaction.commit().await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # With `sqlx`
    ///
    #[cfg_attr(feature = "sqlx-postgres", doc = "```no_run")]
    #[cfg_attr(not(feature = "sqlx-postgres"), doc = "```ignore")]
    /// # use larder::{Cache, Entry};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: String, name: String }
    /// async fn rename(
    ///     pool: &sqlx::PgPool,
    ///     instances: &Cache<Instance>,
    ///     id: &str,
    ///     name: &str,
    /// ) -> Result<(), Box<dyn std::error::Error>> {
    ///     let mut transaction = pool.begin().await?;
    ///     sqlx::query("UPDATE instances SET name = $2 WHERE id = $1").bind(id).bind(name).execute(&mut *transaction).await?;
    ///     instances.invalidate_in(&mut *transaction, Instance::ID, [id]).await?;
    ///     transaction.commit().await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`TransactionError`]. An error of the database aborts the transaction, as every failed statement does: then the change fails together with
    /// its invalidation. A key that cannot exist is answered after the other keys were told. A cache that would not hear of the commit is an error,
    /// and nothing is sent. A cache that is switched off has nothing to forget: nothing is sent, and the answer is `Ok`.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the transaction may have the invalidation or not: roll it back.
    pub async fn invalidate_in<X: Transaction, T, K: KeyFor<T>>(
        &self,
        transaction: X,
        index: Index<E, T>,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<(), TransactionError<X::Error>> {
        let (keys, invalid) = self.valid_keys(index, keys);
        if self.hears()? && !keys.is_empty() {
            let keys = keys.into_iter().map(|key| key.bytes.into_vec()).collect();
            let told = transaction.invalidate(&self.inner.schema.cache, index.name(), keys).await;
            told.map_err(|error| failed::<X>(TO_CALL, error))?;
        }
        invalid.map_or(Ok(()), |error| Err(TransactionError::Key(error)))
    }

    /// Forgets everything in this cache, when the transaction commits. Everything else is as for [`invalidate_in`](Self::invalidate_in).
    ///
    /// # Errors
    ///
    /// As [`invalidate_in`](Self::invalidate_in).
    pub async fn truncate_in<X: Transaction>(&self, transaction: X) -> Result<(), TransactionError<X::Error>> {
        if self.hears()? {
            let told = transaction.truncate(&self.inner.schema.cache).await;
            told.map_err(|error| failed::<X>(TO_CALL, error))?;
        }
        Ok(())
    }

    /// The ticket for what a transaction reads: the snapshot of the transaction itself. Only for caches on the postgres connector.
    ///
    /// [`lookup`](Self::lookup) takes a ticket that is as new as the lookup. A transaction that began earlier with REPEATABLE READ or SERIALIZABLE still
    /// reads what was current when it began. If it loads with the ticket of a lookup, a change in between is missed: the cache would serve the
    /// earlier state. With the transaction's own ticket such a load is refused.
    ///
    /// In READ COMMITTED each statement reads what is current, so take the ticket before the first statement that loads.
    ///
    /// `None`: there is no ticket now, because this node may not read the cache. Load, and do not fill.
    ///
    #[cfg_attr(feature = "tokio-postgres", doc = "```no_run")]
    #[cfg_attr(not(feature = "tokio-postgres"), doc = "```ignore")]
    /// # use larder::{Cache, Entry, Lookup};
    /// # use serde::{Deserialize, Serialize};
    /// # use std::sync::Arc;
    /// # #[derive(Clone, Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: String, name: String }
    /// /// Within a transaction that only reads, and has begun some time ago.
    /// async fn instance(
    ///     transaction: &tokio_postgres::Transaction<'_>,
    ///     instances: &Cache<Instance>,
    ///     id: &str,
    /// ) -> Result<Arc<Instance>, Box<dyn std::error::Error>> {
    ///     if let Lookup::Hit { value, .. } = instances.lookup(Instance::ID, id).await {
    ///         return Ok(value);
    ///     }
    ///     let ticket = instances.ticket_in(transaction).await?;
    ///     let row = transaction.query_one("SELECT name FROM instances WHERE id = $1", &[&id]).await?;
    ///     let loaded = Arc::new(Instance { id: id.into(), name: row.get(0) });
    ///     if let Some(ticket) = ticket {
    ///         instances.fill(loaded.clone(), ticket).await;
    ///     }
    ///     Ok(loaded)
    /// }
    /// ```
    ///
    /// A loader of [`get_or_load`](Self::get_or_load) that begins its transaction itself needs none of this: the ticket is taken before the loader runs.
    ///
    /// # Errors
    ///
    /// See [`TransactionError`]. A transaction that has written is refused: it may read its own change, which nobody else can see yet. Do not
    /// write in the transaction between this call and the load either. So is a transaction in another database.
    ///
    /// The role of the transaction needs `SELECT` on `larder.clock`.
    pub async fn ticket_in<X: Transaction>(
        &self,
        transaction: X,
    ) -> Result<Option<Ticket>, TransactionError<X::Error>> {
        let snapshots = match self.inner.connector.transactions() {
            Transactions::Kept(snapshots) => snapshots,
            Transactions::Off => return Ok(None),
            _ => return Err(TransactionError::NoTickets { cache: self.inner.schema.cache.clone() }),
        };
        let taken = transaction.snapshot().await.map_err(|error| failed::<X>(TO_READ, error))?;
        let Some(taken) = taken else { return Ok(None) };
        if taken.written {
            return Err(TransactionError::HasWritten);
        }
        Ok(snapshots.ticket_of(&taken.snapshot).await?)
    }

    /// Whether there is something to tell.
    fn hears<Err: std::error::Error>(&self) -> Result<bool, TransactionError<Err>> {
        match self.inner.connector.transactions() {
            Transactions::Followed | Transactions::Kept(_) => Ok(true),
            Transactions::Off => Ok(false),
            Transactions::Unheard => Err(TransactionError::Unheard { cache: self.inner.schema.cache.clone() }),
        }
    }
}

fn failed<X: Transaction>(grant: &'static str, error: X::Error) -> TransactionError<X::Error> {
    TransactionError::of(X::state(&error).as_deref(), grant, error)
}
