//! Transactions of `sqlx`. It prepares each statement once on a connection, so the first call on a connection takes a round trip more.

use super::sealed::Sealed;
use super::{INVALIDATE, SNAPSHOT, TRUNCATE, Taken, Transaction};
use crate::contract::Snapshot;
use sqlx::{Error, PgConnection, Row};

impl Transaction for &mut PgConnection {
    type Error = Error;
}

impl Sealed for &mut PgConnection {
    type Failure = Error;

    async fn invalidate(self, cache: &str, index: &str, keys: Vec<Vec<u8>>) -> Result<(), Error> {
        sqlx::query(INVALIDATE).bind(cache).bind(index).bind(keys).execute(self).await.map(drop)
    }

    async fn truncate(self, cache: &str) -> Result<(), Error> {
        sqlx::query(TRUNCATE).bind(cache).execute(self).await.map(drop)
    }

    async fn snapshot(self) -> Result<Option<Taken>, Error> {
        let Some(row) = sqlx::query(SNAPSHOT).fetch_optional(self).await? else { return Ok(None) };
        let snapshot = Snapshot::new(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Some(Taken { snapshot, written: row.try_get(3)? }))
    }

    fn state(error: &Error) -> Option<String> {
        error.as_database_error().and_then(|error| error.code()).map(std::borrow::Cow::into_owned)
    }
}
