//! What a PostgreSQL server is to [`remote`](crate::connector::remote): how it is connected to, and where its clock stands.
//!
//! The clock is the newest snapshot of the database. Nothing has to be cleared when a connection is new: the tables are empty after a crash and on a promoted
//! standby, a row of `larder.clock` that came with a dump is not believed, and every read compares an object with all fences. So the history of
//! the data is always the known one, and what recovery does here is to replay the journal.

use super::connection::{Connection, column, unexpected};
use super::errors::NOT_SET_UP;
use super::forgetting::{forget_alike, is_delete};
use super::marks::Marks;
use super::options::PostgresOptions;
use super::queries::Query;
use super::rights::Rights;
use super::snapshots::Snapshots;
use super::tls::Certificates;
use crate::clock::Clock;
use crate::connector::near::{Near, Rounds};
use crate::connector::remote::hints::Hints;
use crate::connector::remote::{
    Batch, Channel, Clearing, Clocked, Connected, Link, RemoteCache, ServerKind, Trouble, What,
};
use crate::contract::{Schema, Ticket};
use crate::protection::in_script;
use crate::telemetry::WarningLimit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio_postgres::Row;

/// One cache in one database, as this node sees it.
pub(crate) type Store = RemoteCache<PostgresServer>;

/// The tables and functions that larder needs.
pub(crate) const SCHEMA: &str = include_str!("sql/schema.sql");

/// Makes those wait for each other that make larder's tables, or triggers, in a database.
pub(crate) const LOCK: &str = "SELECT pg_advisory_xact_lock(1818325618);\n";

/// The history of the data, which is always the known one.
const HISTORY: u64 = 1;

/// Why there is no clock yet.
const STILL_PREPARED: &str = "the server has lost its cache tables, and a transaction that was prepared before that has not ended: nothing is cached until \
    it has (see pg_prepared_xacts; COMMIT PREPARED or ROLLBACK PREPARED ends it)";

/// How often a node looks whether fences are to be swept, in ms of its clock.
const SWEEP_EVERY: u64 = 5_000;

/// How many fences are swept in one statement: some milliseconds of the server's work.
pub(crate) const SWEEP_AT_ONCE: i32 = 2_000;

/// How many statements a heartbeat sweeps with. What is left waits for the next.
const SWEEPS: usize = 25;

/// One PostgreSQL database.
pub(crate) struct PostgresServer {
    pub(crate) options: PostgresOptions,
    pub(crate) certificates: Certificates,
    pub(crate) name: String,
    pub(crate) snapshots: Snapshots,
    /// When this node last looked whether there is something to sweep, in ms of its clock.
    swept: AtomicU64,
    /// Whether a cache of this node is pruning the database at this moment, for all of them.
    pub(crate) pruning: AtomicBool,
    pub(crate) rights: Rights,
}

/// What is kept on this node for one cache.
pub(crate) struct Local {
    pub(crate) marks: Marks,
    pub(crate) shape: i64,
    pub(crate) hints: Hints,
    pub(crate) undecodable: WarningLimit,
    /// The names by which people, and the feed, know the cache.
    pub(crate) names: Names,
    /// For a cache that keeps its objects elsewhere: what is forgotten is told to the feed as well. By this number the node knows its own
    /// changes again.
    pub(crate) told: Option<i64>,
    /// `None`: this node keeps no objects of the cache in its own memory.
    pub(crate) tier: Option<Arc<Tier>>,
}

/// What this node has of a cache in its own memory.
pub(crate) struct Tier {
    pub(crate) near: Arc<Near>,
    /// The polls of the feed, which keep it right.
    pub(crate) rounds: Rounds,
}

/// Where the clock stands.
pub(crate) struct Registered {
    pub(crate) epoch: i64,
    pub(crate) generation: i32,
    pub(crate) snapshot: String,
}

/// The names of a cache and of its indexes.
pub(crate) struct Names {
    pub(crate) cache: Arc<str>,
    pub(crate) indexes: &'static [&'static str],
}

impl PostgresServer {
    pub(crate) fn new(options: PostgresOptions) -> Self {
        let name = options.place();
        Self {
            options,
            certificates: Certificates::default(),
            name,
            snapshots: Snapshots::default(),
            swept: AtomicU64::new(0),
            pruning: AtomicBool::new(false),
            rights: Rights::default(),
        }
    }

    pub(crate) fn local(&self, schema: &Schema, clock: &Clock) -> Local {
        Local {
            marks: Marks::of(schema),
            shape: schema.fingerprint.cast_signed(),
            hints: Hints::new(self.options.hints, schema.last_use_age, clock.clone()),
            undecodable: WarningLimit::default(),
            names: Names { cache: schema.cache.clone(), indexes: schema.indexes },
            told: None,
            tier: None,
        }
    }

    /// The same for a cache that keeps its objects elsewhere.
    pub(crate) fn telling(&self, schema: &Schema, clock: &Clock, origin: i64) -> Local {
        Local { told: Some(origin), ..self.local(schema, clock) }
    }

    /// The same for a cache that this node keeps in its own memory, too.
    pub(crate) fn tiered(&self, schema: &Schema, clock: &Clock, tier: Arc<Tier>) -> Local {
        Local { tier: Some(tier), ..self.local(schema, clock) }
    }

    /// The ticket in the first three columns of a row: epoch, generation, snapshot. `None`: there is no clock.
    pub(crate) fn ticket_in(&self, row: &Row) -> Result<Option<Ticket>, Trouble> {
        let Some(epoch) = column(row, 0)? else { return Ok(None) };
        let (generation, snapshot) = (column(row, 1)?, column(row, 2)?);
        self.snapshots.keep(epoch, generation, snapshot).map(Some).ok_or_else(unexpected)
    }

    /// Registers a cache, if one is given, and reads where the clock stands.
    async fn register(&self, channel: &Channel<'_, Self>, cache: Option<&Local>) -> Result<Registered, Trouble> {
        let row = match cache {
            None => channel.run(|on| async move { on.row(Query::Register, &[]).await }).await?,
            Some(Local { shape, names, told, .. }) => {
                let followed = told.is_some();
                channel
                    .run(|on| async move {
                        on.row(Query::RegisterCache, &[&&*names.cache, shape, &followed, &names.indexes]).await
                    })
                    .await?
            }
        };
        let none = || Trouble::Error { what: What::Busy, text: STILL_PREPARED.to_owned() };
        let epoch = column::<Option<i64>>(&row, 0)?.ok_or_else(none)?;
        Ok(Registered { epoch, generation: column(&row, 1)?, snapshot: column(&row, 2)? })
    }

    /// Where the clock stands. The clock is made where it is missing, and so are the tables, where the options allow it.
    pub(crate) async fn registered(
        &self,
        channel: &Channel<'_, Self>,
        cache: Option<&Local>,
    ) -> Result<Registered, Trouble> {
        match self.register(channel, cache).await {
            Err(trouble) if self.options.create && is_not_set_up(&trouble) => {
                self.set_up(channel).await?;
                self.register(channel, cache).await
            }
            registered => registered,
        }
    }

    async fn set_up(&self, channel: &Channel<'_, Self>) -> Result<(), Trouble> {
        channel.run(|on| async move { set_up(&on).await }).await
    }

    /// Lets one generation of tickets end, where it is time, and removes fences that no ticket needs any more.
    async fn sweep(&self, link: &Link<Self>) -> Result<(), Trouble> {
        link.beat(|on| async move { on.row(Query::Turn, &[]).await }).await?;
        for _ in 0..SWEEPS {
            let row = link.beat(|on| async move { on.row(Query::Sweep, &[&SWEEP_AT_ONCE]).await }).await?;
            if column(&row, 2)? {
                break;
            }
        }
        for _ in 0..SWEEPS {
            let row = link.beat(|on| async move { on.row(Query::Trim, &[&SWEEP_AT_ONCE]).await }).await?;
            if !column::<bool>(&row, 0)? {
                break;
            }
        }
        Ok(())
    }
}

impl ServerKind for PostgresServer {
    type Connection = Connection;
    type Local = Local;

    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self, clock: &Clock) -> Result<Connected<Connection>, Trouble> {
        let (connection, mut driver) = Connection::open(&self.options, &self.certificates).await?;
        if let Some(renewal) = self.certificates.renewal() {
            renewal.warn(clock.now());
        }
        let ended = Box::pin(async move {
            drop(driver.join_next().await);
            "the server closed it"
        });
        Ok(Connected { connection, history: HISTORY, ended })
    }

    async fn heartbeat(&self, link: &Link<Self>, _: &Connection, caches: &[Arc<Store>]) -> Option<&'static str> {
        let standby = link.beat(|on| async move { column::<bool>(&on.row(Query::Standby, &[]).await?, 0) }).await;
        if let Ok(true) = standby {
            return Some("the server has become a standby");
        }
        let now = link.clock().now();
        if let Some(renewal) = self.certificates.renewal() {
            renewal.look_if_due(now);
        }
        if self.rights.are_due(now) {
            self.ask_for_rights(link).await;
        }
        let looked = self.swept.load(Ordering::Relaxed);
        // The tables may be missing where no cache was ever recovered.
        if caches.iter().any(|cache| cache.is_trusted()) && now >= looked.saturating_add(SWEEP_EVERY) {
            self.swept.store(now, Ordering::Relaxed);
            if let Err(error) = self.sweep(link).await {
                tracing::debug!(server = %self.name, %error, "what the cache no longer needs is not removed now");
            }
        }
        None
    }

    fn lacks_right(&self, cache: &str, error: &str) {
        if self.rights.refused(error) {
            tracing::warn!(server = %self.name, %cache, %error, "the server does not allow what larder needs to do");
        }
    }

    async fn read_clock(&self, channel: &Channel<'_, Self>, local: &Local) -> Result<Clocked, Trouble> {
        let Registered { epoch, generation, snapshot } = self.registered(channel, Some(local)).await?;
        let ticket = self.snapshots.keep(epoch, generation, &snapshot).ok_or_else(unexpected)?;
        Ok(Clocked {
            epoch: ticket.epoch,
            sequence: ticket.sequence,
            settled: true,
            history: HISTORY,
            registered: true,
        })
    }

    async fn clear(
        &self,
        channel: &Channel<'_, Self>,
        local: &Local,
        _: u64,
        _: Clearing,
    ) -> Result<Option<Clocked>, Trouble> {
        let cache = local.marks.cache;
        match &local.told {
            None => channel.run(|on| async move { on.rows(Query::Truncate, &[&cache]).await }).await?,
            Some(origin) => {
                let name = &*local.names.cache;
                channel.run(|on| async move { on.rows(Query::TellAll, &[&cache, &name, origin]).await }).await?
            }
        };
        // Where there is no clock there is nothing else either, and this makes one.
        self.read_clock(channel, local).await.map(Some)
    }

    async fn forget(
        &self,
        channel: &Channel<'_, Self>,
        local: &Local,
        batches: &[Batch<'_>],
        answers: &mut Vec<Result<Option<Ticket>, Trouble>>,
    ) -> Result<(), Trouble> {
        // One statement for all that are alike: how many keys it has makes no difference to the database.
        for alike in batches.chunk_by(|one, other| is_delete(one) == is_delete(other)) {
            let answer = match forget_alike(channel, local, alike).await {
                Ok(rows) => rows.first().map_or(Ok(None), |row| self.ticket_in(row)),
                Err(trouble) if trouble.is_of_its_command() => Err(trouble),
                Err(trouble) => return Err(trouble),
            };
            answers.extend(alike.iter().map(|_| answer.clone()));
        }
        Ok(())
    }

    /// Other nodes are waited for by nobody: the feed tells them. This node's own memory has nothing older after that.
    async fn elsewhere(&self, cache: &Store, _: Ticket) {
        cache.catch_up().await;
    }
}

/// Makes what larder needs in the database, in one transaction. Of several nodes at once one does.
pub(crate) async fn set_up(on: &Connection) -> Result<(), Trouble> {
    on.batch(&format!("{LOCK}{}", in_script(SCHEMA))).await
}

/// A version as the database compares it: it has signed numbers only.
pub(crate) fn ordered(version: u64) -> i64 {
    (version ^ (1 << 63)).cast_signed()
}

/// Whether tables or functions are missing.
pub(crate) fn is_not_set_up(trouble: &Trouble) -> bool {
    let Trouble::Error { what: What::Fault, text } = trouble else { return false };
    NOT_SET_UP.iter().any(|state| text.contains(&format!("(SQLSTATE {})", state.code())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protection::Protection;

    #[test]
    fn a_line_that_can_be_left_out_names_the_protection_that_it_is() {
        let lines = SCHEMA.lines().filter(|line| line.contains("protection:"));
        let named: Vec<Protection> = lines
            .map(|line| {
                let name = line.rsplit_once(" -- protection: ").map(|(_, name)| name);
                let known = Protection::ALL.into_iter().find(|protection| Some(protection.name()) == name);
                known.unwrap_or_else(|| panic!("{line}"))
            })
            .collect();
        let wanted = [Protection::Epoch, Protection::Generations, Protection::Drain];
        assert!(wanted.iter().all(|protection| named.contains(protection)), "{named:?}");
    }

    #[test]
    fn versions_keep_their_order() {
        let in_order = [0, 1, i64::MAX as u64 - 1, i64::MAX as u64, 1 << 63, u64::MAX];
        assert!(in_order.windows(2).all(|two| ordered(two[0]) < ordered(two[1])));
    }
}
