//! The source of record of a run with `--feed`: tables of a PostgreSQL database that writers change by plain SQL. Every state that was ever committed is
//! in a history beside them, written by the same transactions.
//!
//! # The order of versions
//!
//! A version is drawn from a sequence after the rows that it is for are locked, and before the transaction commits. So the versions of one object grow
//! with its commits. Versions of different objects need not: nobody compares them.

use crate::node::INSTANCES;
use crate::objects::{Key, Kind, State};
use crate::postgres::{Sql, SqlError};
use crate::source::Committed;
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::feed::{Source, Sources};
use std::collections::BTreeSet;

/// How far back a transaction may commit that drew its version earlier: transactions stay open for seconds, and draw hundreds in that time.
const LATE: u64 = 4_000;

const TABLES: &str = "CREATE SCHEMA app;
    CREATE SEQUENCE app.version;
    CREATE TABLE app.declared (number int4 PRIMARY KEY, id text NOT NULL, version int8 NOT NULL);
    CREATE TABLE app.called (number int4 PRIMARY KEY, id text NOT NULL, version int8 NOT NULL);
    CREATE TABLE app.history (version int8, number int4, there bool NOT NULL, PRIMARY KEY (version, number));";

/// The table of an instance. Triggers tell of the changes of the one, and writers call `larder.invalidate` for the other.
pub(crate) fn table(number: u32) -> &'static str {
    if is_declared(number) { "app.declared" } else { "app.called" }
}

pub(crate) fn is_declared(number: u32) -> bool {
    number.is_multiple_of(2)
}

/// The host of an instance, which it has for ever.
pub(crate) fn host(number: u32) -> u32 {
    number + 10_000
}

/// The instance that a key leads to, if it is there.
fn number(key: Key) -> u32 {
    if key.by == crate::objects::By::Host { key.number.saturating_sub(10_000) } else { key.number }
}

/// The instance's state with this version.
fn state(number: u32, version: u64) -> State {
    State { kind: Kind::Instance, number, sequence: version, hosts: vec![host(number)] }
}

/// Makes larder's tables, the source's tables with all instances, and the triggers.
pub(crate) async fn set_up(dsn: &str) -> Result<(), Box<dyn std::error::Error>> {
    let session = Sql::connect(dsn).await?;
    session.run(Postgres::SCHEMA).await?;
    session.run(TABLES).await?;
    for number in 0..INSTANCES {
        let (table, id) = (table(number), Key::id(Kind::Instance, number).text());
        session
            .run(&format!(
                "WITH drawn AS (SELECT nextval('app.version') AS version),
                 made AS (INSERT INTO {table} SELECT {number}, '{id}', version FROM drawn)
                 INSERT INTO app.history SELECT version, {number}, true FROM drawn"
            ))
            .await?;
    }
    let sources = Sources::new().of("instance", Source::new("app.declared", ["id"], "id"));
    sources.apply(&PostgresOptions::from_url(dsn)?).await?;
    Ok(())
}

/// Loads the instance that a key leads to.
pub(crate) async fn load(session: &Sql, key: Key) -> Result<Option<State>, SqlError> {
    let number = number(key);
    let text = format!("SELECT version FROM {} WHERE number = {number}", table(number));
    let found = session.column(&text).await?;
    let version = found.first().map(|version| version.parse().map_err(|_| SqlError::Shape)).transpose()?;
    Ok(version.map(|version| state(number, version)))
}

/// Reads what was committed.
pub(crate) struct Ledger {
    dsn: String,
    session: Option<Sql>,
    newest: u64,
    /// The versions that were read already, of those above which something may still be committed.
    read: BTreeSet<u64>,
}

impl Ledger {
    pub(crate) fn new(dsn: String) -> Self {
        Self { dsn, session: None, newest: 0, read: BTreeSet::new() }
    }

    /// Everything that was committed since the last call.
    pub(crate) async fn committed(&mut self) -> Result<Vec<Committed>, SqlError> {
        let session = match self.session.take().filter(|session| !session.client.is_closed()) {
            Some(session) => session,
            None => Sql::connect(&self.dsn).await?,
        };
        let from = self.newest.saturating_sub(LATE);
        let text = format!(
            "SELECT version || ' ' || number || ' ' || there::int FROM app.history WHERE version > {from} ORDER BY version, number"
        );
        let rows = session.column(&text).await?;
        self.session = Some(session);
        let mut committed = Vec::new();
        for row in rows {
            let mut parts = row.split(' ').map(str::parse::<u64>);
            let (Some(Ok(sequence)), Some(Ok(number)), Some(Ok(there))) = (parts.next(), parts.next(), parts.next())
            else {
                return Err(SqlError::Shape);
            };
            let number = u32::try_from(number).map_err(|_| SqlError::Shape)?;
            if !self.read.contains(&sequence) {
                let hosts = (there == 1).then(|| vec![host(number)]);
                committed.push(Committed { sequence, kind: Kind::Instance, number, hosts });
            }
        }
        self.read.extend(committed.iter().map(|one| one.sequence));
        self.newest = self.read.last().copied().unwrap_or(0).max(self.newest);
        self.read = self.read.split_off(&self.newest.saturating_sub(LATE));
        Ok(committed)
    }

    /// Whether a transaction that has drawn this version has committed.
    pub(crate) async fn has(session: &Sql, version: u64) -> Result<bool, SqlError> {
        let text = format!("SELECT count(*) FROM app.history WHERE version = {version}");
        Ok(session.number::<u32>(&text).await? > 0)
    }
}
