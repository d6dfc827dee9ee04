//! [`State`]: how the server, and larder's tables on it, are doing. Sizes and rows of tables are what the server keeps account of, so that nothing is
//! counted that could be long.

use super::{InspectError, Inspector};
use std::time::Duration;
use tokio_postgres::types::Type;

/// Rows are counted up to this number, and estimated above it.
const COUNTED: i64 = 100_000;

const SERVER: &str = "SELECT current_setting('server_version'), extract(epoch FROM now() - pg_postmaster_start_time())::float8, \
    (SELECT count(*) FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()), \
    (SELECT count(*) FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.application_name = 'larder'), \
    pg_has_role('pg_read_all_stats', 'USAGE')";

const CLOCK: &str = "SELECT c.epoch, c.generation, c.oldest, c.swept, extract(epoch FROM now() - c.turned)::float8, c.home = larder.home() \
    FROM larder.clock c";

/// The most that is counted; then, for fences and changes each: counted, estimated.
const COUNTS: &str = "SELECT (SELECT count(*) FROM (SELECT FROM larder.fences WHERE kind <> 'b' LIMIT $1) f), \
    (SELECT c.reltuples::int8 FROM pg_class c WHERE c.oid = 'larder.fences'::regclass), \
    (SELECT count(*) FROM (SELECT FROM larder.changes LIMIT $1) h), \
    (SELECT c.reltuples::int8 FROM pg_class c WHERE c.oid = 'larder.changes'::regclass)";

const TABLES: &str = "SELECT s.relname::text, pg_table_size(s.relid), pg_indexes_size(s.relid), s.n_live_tup, s.n_dead_tup, \
    extract(epoch FROM now() - greatest(s.last_autovacuum, s.last_vacuum))::float8 FROM pg_stat_user_tables s WHERE s.schemaname = 'larder' \
    AND s.relname NOT LIKE 'larder-bench-%' ORDER BY pg_total_relation_size(s.relid) DESC, s.relname";

/// A vacuum holds back nobody.
const OLDEST: &str = "SELECT a.pid, extract(epoch FROM now() - a.xact_start)::float8, a.state, a.usename::text, a.application_name \
    FROM pg_stat_activity a WHERE (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL) AND a.pid <> pg_backend_pid() \
    AND (a.datname = current_database() OR a.backend_type = 'walsender') AND a.backend_type <> 'autovacuum worker' \
    ORDER BY greatest(age(a.backend_xid), age(a.backend_xmin)) DESC, a.xact_start LIMIT 1";

const PREPARED: &str = "SELECT x.gid, extract(epoch FROM now() - x.prepared)::float8, \
    EXISTS (SELECT FROM larder.prepared p WHERE p.gid = x.gid AND p.prepared = x.prepared) AND NOT EXISTS (SELECT FROM larder.clock c WHERE c.home = larder.home()) \
    FROM pg_prepared_xacts x WHERE x.database = current_database() ORDER BY x.prepared";

/// How a server, and larder's tables on it, are doing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct State {
    /// Name and version, such as `PostgreSQL 15.18`.
    pub name: String,
    /// How long the server has been running.
    pub uptime: Duration,
    /// Sessions in this database, without this one.
    pub sessions: u64,
    /// Those of them that are named `larder`, as services are unless their URL gives them another `application_name`.
    pub larder_sessions: u64,
    /// Whether the user may see what the sessions of other users do (`pg_read_all_stats`). If not, their transactions are not seen.
    pub sees_all_sessions: bool,
    /// The clock of the tables. `None`: there is none, and nothing is cached.
    pub clock: Option<Clock>,
    /// Fences that are not swept yet.
    pub fences: Count,
    /// Changes for the feed that are not removed yet.
    pub changes: Count,
    /// Larder's tables, the largest first.
    pub tables: Vec<Table>,
    /// The running transaction that holds back vacuum and sweeps the longest.
    pub oldest_transaction: Option<Transaction>,
    /// Transactions that are prepared, and neither committed nor rolled back.
    pub prepared: Vec<Prepared>,
}

/// The clock of larder's tables.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Clock {
    /// Another one after a crash or a promotion.
    pub epoch: u64,
    /// Tickets that are taken now are of this generation.
    pub generation: u64,
    /// Tickets of earlier generations than this are refused.
    pub oldest: u64,
    /// Fences are swept up to this generation.
    pub swept: u64,
    /// How long ago the generation began.
    pub turned_ago: Duration,
    /// Whether the tables were made here. If not, they came with a copy of another database, and are not used.
    pub of_this_database: bool,
}

/// A number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// How many there are.
    pub rows: u64,
    /// Whether that is what the server estimates, and not counted.
    pub estimated: bool,
}

/// One of larder's tables.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// Its name, without the schema.
    pub name: String,
    /// Its size without its indexes, in bytes.
    pub bytes: u64,
    /// The size of its indexes, in bytes.
    pub index_bytes: u64,
    /// How many rows it has, as the server estimates.
    pub rows: u64,
    /// How many rows wait to be vacuumed, as the server estimates.
    pub dead_rows: u64,
    /// How long ago the last vacuum ended. `None`: there was none since the server's statistics began.
    pub vacuumed_ago: Option<Duration>,
}

/// A running transaction.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transaction {
    /// The server's process: `pg_terminate_backend` ends it.
    pub pid: i32,
    /// How long ago the transaction began.
    pub age: Duration,
    /// `active`, `idle in transaction` or the like.
    pub state: Option<String>,
    /// Whose it is.
    pub user: Option<String>,
    /// The name that the client has given itself.
    pub application: Option<String>,
}

/// A prepared transaction.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Prepared {
    /// Its name.
    pub gid: String,
    /// How long ago it was prepared.
    pub age: Duration,
    /// Whether nothing is cached until it has ended, because the server has lost what it had told larder's tables.
    pub keeps_the_clock_away: bool,
}

impl Inspector {
    /// Asks how the server and larder's tables are doing.
    ///
    /// # Errors
    ///
    /// As [`caches`](Self::caches).
    pub async fn state(&self) -> Result<State, InspectError> {
        let server = self.row(SERVER, &[]).await?;
        let clock = match self.rows(CLOCK, &[]).await?.first() {
            None => None,
            Some(row) => Some(Clock {
                epoch: self.at::<i64>(row, 0)?.unsigned_abs(),
                generation: u64::from(self.at::<i32>(row, 1)?.unsigned_abs()),
                oldest: u64::from(self.at::<i32>(row, 2)?.unsigned_abs()),
                swept: u64::from(self.at::<i32>(row, 3)?.unsigned_abs()),
                turned_ago: seconds(self.at(row, 4)?),
                of_this_database: self.at(row, 5)?,
            }),
        };
        let counts = self.row(COUNTS, &[(&(COUNTED + 1), Type::INT8)]).await?;
        let count = |at: usize| -> Result<Count, InspectError> {
            let (counted, estimated): (i64, i64) = (self.at(&counts, at)?, self.at(&counts, at + 1)?);
            let rows = if counted > COUNTED { counted.max(estimated) } else { counted };
            Ok(Count { rows: rows.unsigned_abs(), estimated: counted > COUNTED })
        };
        let mut tables = Vec::new();
        for row in self.rows(TABLES, &[]).await? {
            let number = |at| self.at::<i64>(&row, at).map(i64::unsigned_abs);
            tables.push(Table {
                name: self.at(&row, 0)?,
                bytes: number(1)?,
                index_bytes: number(2)?,
                rows: number(3)?,
                dead_rows: number(4)?,
                vacuumed_ago: self.at::<Option<f64>>(&row, 5)?.map(seconds),
            });
        }
        let mut prepared = Vec::new();
        for row in self.rows(PREPARED, &[]).await? {
            let (gid, age, keeps_the_clock_away) = (self.at(&row, 0)?, seconds(self.at(&row, 1)?), self.at(&row, 2)?);
            prepared.push(Prepared { gid, age, keeps_the_clock_away });
        }
        let oldest_transaction = match self.rows(OLDEST, &[]).await?.first() {
            None => None,
            Some(row) => Some(Transaction {
                pid: self.at(row, 0)?,
                age: seconds(self.at::<Option<f64>>(row, 1)?.unwrap_or_default()),
                state: self.at(row, 2)?,
                user: self.at(row, 3)?,
                application: self.at(row, 4)?,
            }),
        };
        let named: String = self.at(&server, 0)?;
        Ok(State {
            name: format!("PostgreSQL {}", named.split_whitespace().next().unwrap_or_default()),
            uptime: seconds(self.at(&server, 1)?),
            sessions: self.at::<i64>(&server, 2)?.unsigned_abs(),
            larder_sessions: self.at::<i64>(&server, 3)?.unsigned_abs(),
            sees_all_sessions: self.at(&server, 4)?,
            clock,
            fences: count(0)?,
            changes: count(2)?,
            tables,
            oldest_transaction,
            prepared,
        })
    }

    /// About how many objects the database holds, of all caches.
    ///
    /// # Errors
    ///
    /// As [`caches`](Self::caches).
    pub async fn objects(&self) -> Result<u64, InspectError> {
        let text = "SELECT s.n_live_tup FROM pg_stat_user_tables s WHERE s.relid = 'larder.objects'::regclass";
        let rows = self.rows(text, &[]).await?;
        rows.first().map_or(Ok(0), |row| self.at::<i64>(row, 0).map(i64::unsigned_abs))
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}
