//! [`PlainTable`]: rows under a plain primary key, for a benchmark to compare larder with. Also removes what a benchmark has stored.

use super::{InspectError, Inspector, error};
use crate::connector::postgres::connection::Connection;
use crate::connector::postgres::connection::Driver;
use crate::connector::postgres::errors::trouble;
use crate::connector::postgres::options::PostgresOptions;
use crate::connector::postgres::tls::Certificates;
use crate::connector::remote::{Awaited, Trouble};
use std::time::Duration;
use tokio_postgres::Statement;
use tokio_postgres::types::Type;

/// How many rows are written, or removed, in one statement.
const BATCH: i64 = 1_000;

/// An unlogged table in the schema `larder`: rows of an `id` and a `payload`. `larder bench` measures a plain SELECT on it.
pub struct PlainTable {
    connection: Connection,
    /// The SELECT, prepared on each session.
    selects: Vec<Statement>,
    options: PostgresOptions,
    _driver: Driver,
}

impl PlainTable {
    /// Makes the table `larder."larder-bench-…"` and fills it with this number of rows, of so many bytes each. The rows have the numbers from 0.
    ///
    /// # Errors
    ///
    /// [`InspectError::Forbidden`]: the user may make no table in the schema `larder`. Those of [`Inspector::open`].
    ///
    /// # Cancellation
    ///
    /// The table may be there, and stays. [`Inspector::remove_bench`] removes it.
    pub async fn make(options: PostgresOptions, name: &str, rows: u64, size: u64) -> Result<Self, InspectError> {
        let inspector = Inspector::open(options.clone()).await?;
        let table = quoted(name);
        let make = format!(
            "CREATE UNLOGGED TABLE {table} (id int8 PRIMARY KEY, payload bytea NOT NULL) WITH (toast_tuple_target = 8160)"
        );
        inspector.rows(&make, &[]).await.map_err(|error| match error {
            InspectError::Forbidden { place, reason, .. } => {
                let user = options.user().unwrap_or("the user");
                let to_do =
                    format!("GRANT CREATE ON SCHEMA larder TO {user}: a benchmark makes a table there, and drops it");
                InspectError::Forbidden { place, reason, to_do }
            }
            other => other,
        })?;
        inspector.rows(&format!("ALTER TABLE {table} ALTER payload SET STORAGE EXTERNAL"), &[]).await?;
        let fill = format!(
            "INSERT INTO {table} SELECT n, convert_to(repeat('x', $3), 'UTF8') FROM generate_series($1, $2 - 1) n"
        );
        let (rows, size) = (rows.cast_signed(), i32::try_from(size).unwrap_or(i32::MAX));
        for first in (0..rows).step_by(1_000) {
            let past = (first + BATCH).min(rows);
            let parameters = [(&first as _, Type::INT8), (&past as _, Type::INT8), (&size as _, Type::INT4)];
            inspector.rows(&fill, &parameters).await?;
        }
        let reached =
            tokio::time::timeout(options.connect_timeout, Connection::open(&options, &Certificates::default())).await;
        let reached = reached.unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)));
        let (connection, driver) = reached.map_err(|trouble| error(&options, &trouble))?;
        let mut selects = Vec::new();
        for client in connection.clients() {
            let text = format!("SELECT payload FROM {table} WHERE id = $1");
            let prepared = client.prepare_typed(&text, &[Type::INT8]).await;
            selects.push(prepared.map_err(|failed| error(&options, &trouble(&failed)))?);
        }
        Ok(Self { connection, selects, options, _driver: driver })
    }

    /// The size of the payload of this row, got by one prepared SELECT. `None`: there is no such row.
    ///
    /// # Errors
    ///
    /// [`InspectError::Unreachable`], [`InspectError::Server`].
    pub async fn select(&self, row: u64) -> Result<Option<usize>, InspectError> {
        let number = usize::try_from(row).unwrap_or_default() % self.selects.len().max(1);
        let (client, select) = (self.connection.clients().nth(number), self.selects.get(number));
        let (Some(client), Some(select)) = (client, select) else { return Ok(None) };
        let rows = client.query(select, &[&row.cast_signed()]).await;
        let rows = rows.map_err(|failed| error(&self.options, &trouble(&failed)))?;
        let size = |row: &tokio_postgres::Row| row.try_get::<_, &[u8]>(0).map(<[u8]>::len);
        rows.first().map(size).transpose().map_err(|failed| error(&self.options, &trouble(&failed)))
    }
}

impl std::fmt::Debug for PlainTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainTable").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Inspector {
    /// How much processor time the sessions have used that have this `application_name`. `None`: the server's machine is not Linux, or the user may not
    /// read its files, as superusers may.
    ///
    /// # Errors
    ///
    /// [`InspectError::Unreachable`].
    pub async fn cpu_of(&self, application: &str) -> Result<Option<Duration>, InspectError> {
        // The first field: the time on a processor, in ns.
        let text = "SELECT sum(split_part(pg_read_file('/proc/' || a.pid || '/schedstat', 0, 100, true), ' ', 1)::int8)::int8 \
            FROM pg_stat_activity a WHERE a.application_name = $1";
        match self.rows(text, &[(&application, Type::TEXT)]).await {
            Ok(rows) => {
                let nanoseconds = rows.first().map_or(Ok(None), |row| self.at::<Option<i64>>(row, 0))?;
                Ok(nanoseconds.map(|nanoseconds| Duration::from_nanos(nanoseconds.unsigned_abs())))
            }
            Err(error @ InspectError::Unreachable { .. }) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Removes the [`PlainTable`] and the release of each benchmark that was killed, and answers their names. A benchmark that still runs has a session with its
    /// `application_name`, and keeps everything. A table that belongs to another user stays. The objects stay until they expire.
    ///
    /// # Errors
    ///
    /// As [`caches`](Self::caches).
    pub async fn remove_left_benches(&self) -> Result<Vec<String>, InspectError> {
        let left = "SELECT l.name FROM (\
            SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = 'larder' AND c.relkind = 'r' AND c.relname LIKE 'larder-bench-%' \
            UNION SELECT c.cache FROM larder.caches c WHERE c.cache LIKE 'larder-bench-%') l \
            WHERE NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.application_name = l.name) ORDER BY l.name";
        let mut removed = Vec::new();
        for row in self.rows(left, &[]).await? {
            let name: String = self.at(&row, 0)?;
            match self.rows(&format!("DROP TABLE IF EXISTS {}", quoted(&name)), &[]).await {
                Ok(_) => {}
                Err(InspectError::Forbidden { .. }) => continue,
                Err(error) => return Err(error),
            }
            self.forget_name(&name).await?;
            removed.push(name);
        }
        Ok(removed)
    }

    /// Removes what a benchmark has stored: its [`PlainTable`]; and of a cache with primary keys in one index, and secondary keys in another, the
    /// objects, the rows of its keys, the fences and the release. Nobody may use the cache any more: without its fences it is not safe to read.
    ///
    /// # Errors
    ///
    /// As [`caches`](Self::caches).
    pub async fn remove_bench(
        &self,
        cache: &str,
        primary: (&str, &[Vec<u8>]),
        secondary: (&str, &[Vec<u8>]),
    ) -> Result<(), InspectError> {
        self.rows(&format!("DROP TABLE IF EXISTS {}", quoted(cache)), &[]).await?;
        let whole = [Vec::new()];
        for (index, keys) in [primary, secondary, ("", &whole)] {
            for batch in keys.chunks(1_000) {
                let marks: Vec<i64> =
                    batch.iter().map(|key| crate::connector::postgres::marks::named(cache, index, key)).collect();
                for table in ["objects", "keys", "notes", "leases", "fences"] {
                    let text = format!("DELETE FROM larder.{table} WHERE mark = ANY ($1)");
                    self.rows(&text, &[(&marks, Type::INT8_ARRAY)]).await?;
                }
            }
        }
        self.forget_name(cache).await
    }

    /// Removes the release of a benchmark, and what it has told the feed.
    async fn forget_name(&self, cache: &str) -> Result<(), InspectError> {
        let name = [(&cache as _, Type::TEXT)];
        self.rows("DELETE FROM larder.caches WHERE cache = $1", &name).await?;
        self.rows("DELETE FROM larder.changes WHERE cache = $1", &name).await.map(drop)
    }
}

/// The table of this name, in larder's schema.
fn quoted(name: &str) -> String {
    format!("larder.\"{}\"", name.replace('"', "\"\""))
}
