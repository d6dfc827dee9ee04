//! Transactions of `tokio-postgres`. The types of the parameters are known, so nothing has to be prepared: each call is one round trip.

use super::sealed::Sealed;
use super::{INVALIDATE, SNAPSHOT, TRUNCATE, Taken, Transaction};
use crate::contract::Snapshot;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient};

impl<C: GenericClient + Sync> Transaction for &C {
    type Error = Error;
}

impl<C: GenericClient + Sync> Sealed for &C {
    type Failure = Error;

    async fn invalidate(self, cache: &str, index: &str, keys: Vec<Vec<u8>>) -> Result<(), Error> {
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&cache, Type::TEXT), (&index, Type::TEXT), (&keys, Type::BYTEA_ARRAY)];
        self.execute_typed(INVALIDATE, &parameters).await.map(drop)
    }

    async fn truncate(self, cache: &str) -> Result<(), Error> {
        self.execute_typed(TRUNCATE, &[(&cache, Type::TEXT)]).await.map(drop)
    }

    async fn snapshot(self) -> Result<Option<Taken>, Error> {
        let Some(row) = self.query_typed_opt(SNAPSHOT, &[]).await? else { return Ok(None) };
        let snapshot = Snapshot::new(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Some(Taken { snapshot, written: row.try_get(3)? }))
    }

    fn state(error: &Error) -> Option<String> {
        error.code().map(|state| state.code().to_owned())
    }
}
