//! [`Sources`]: what is declared, and what of it is in force.

use super::{PREFIX, Source, Trigger, catalog, function, quoted, triggers};
use crate::connector::postgres::PostgresOptions;
use crate::connector::postgres::connecting::{Whom, sessions};
use std::collections::BTreeMap;
use std::fmt;
use tokio::task::JoinSet;
use tokio_postgres::Client;

/// The sources of each cache.
///
/// ```no_run
/// use larder::connector::postgres::PostgresOptions;
/// use larder::feed::{Source, Sources};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sources = Sources::new()
///     .of("instance", Source::new("projections.instances", ["id"], "id"))
///     .of("instance", Source::new("projections.restrictions", ["instance_id"], "id"));
/// let database = PostgresOptions::from_url("postgres://owner@db.internal/zitadel")?;
/// println!("{}", sources.sql(&database).await?);
/// sources.apply(&database).await?;
/// assert!(sources.check(&database).await?.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(BTreeMap<String, Vec<Source>>);

/// Why sources cannot be looked at or installed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A declared table cannot be what it is declared to be.
    #[error("the source `{table}`: {what}")]
    Declared {
        /// The table as it was declared.
        table: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The database could not be reached, or has refused something.
    #[error("the database: {0}")]
    Database(String),
}

impl From<tokio_postgres::Error> for SourceError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned()))
    }
}

/// A difference between what is declared and what is in force: a change that would be missed, or a trigger that nobody declared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A trigger is not there.
    Missing {
        /// The table, as SQL names it.
        table: String,
        /// The name of the trigger.
        trigger: String,
    },
    /// A trigger is there, and is disabled, or fires in other sessions than it is declared to.
    Disabled {
        /// The table, as SQL names it.
        table: String,
        /// The name of the trigger.
        trigger: String,
    },
    /// A trigger does something else than is declared: the declaration, or a column, has changed since.
    Other {
        /// The table, as SQL names it.
        table: String,
        /// The name of the trigger.
        trigger: String,
    },
    /// A trigger of larder that nothing declares.
    Undeclared {
        /// The table, as SQL names it.
        table: String,
        /// The name of the trigger.
        trigger: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { table, trigger } => {
                write!(f, "{table}: the trigger `{trigger}` is missing: its changes are not told")
            }
            Self::Disabled { table, trigger } => {
                write!(
                    f,
                    "{table}: the trigger `{trigger}` is disabled, or does not fire in all sessions that it should: its changes are not told"
                )
            }
            Self::Other { table, trigger } => {
                write!(f, "{table}: the trigger `{trigger}` is not what is declared: apply the declaration again")
            }
            Self::Undeclared { table, trigger } => write!(f, "{table}: nothing declares the trigger `{trigger}`"),
        }
    }
}

impl Sources {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same and one more source of this cache.
    #[must_use]
    pub fn of(mut self, cache: impl Into<String>, source: Source) -> Self {
        self.0.entry(cache.into()).or_default().push(source);
        self
    }

    /// The SQL that [`apply`](Self::apply) runs, for a person to read or run. Larder's own tables have to be there: see
    /// [`Postgres::SCHEMA`](crate::connector::postgres::Postgres::SCHEMA).
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub async fn sql(&self, database: &PostgresOptions) -> Result<String, SourceError> {
        let (client, _session) = connect(database).await?;
        Ok(self.triggers(&client).await?.iter().map(Trigger::sql).collect::<Vec<_>>().join("\n"))
    }

    /// Installs the triggers, and removes those of larder that are not declared, in one transaction. It waits for transactions that are writing to the tables.
    ///
    /// # Errors
    ///
    /// [`SourceError`]; nothing is changed then.
    pub async fn apply(&self, database: &PostgresOptions) -> Result<(), SourceError> {
        let (client, _session) = connect(database).await?;
        let declared = self.triggers(&client).await?;
        let mut sql = String::new();
        for (table, trigger) in installed(&client).await?.into_iter().map(|there| (there.table, there.name)) {
            if !declared.iter().any(|declared| (&declared.table, &declared.name) == (&table, &trigger)) {
                sql += &dropped(&table, &trigger);
            }
        }
        declared.iter().for_each(|trigger| sql += &trigger.sql());
        // Several statements that are sent at once are one transaction.
        client.batch_execute(&sql).await?;
        Ok(())
    }

    /// Removes every trigger of larder, and their functions, in one transaction.
    ///
    /// # Errors
    ///
    /// [`SourceError`]; nothing is changed then.
    pub async fn remove(database: &PostgresOptions) -> Result<(), SourceError> {
        let (client, _session) = connect(database).await?;
        let there = installed(&client).await?;
        let sql: String = there.iter().map(|there| dropped(&there.table, &there.name)).collect();
        client.batch_execute(&sql).await?;
        Ok(())
    }

    /// Compares what is in force with what is declared. Nothing found: every change is told, but for what no trigger sees.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub async fn check(&self, database: &PostgresOptions) -> Result<Vec<Finding>, SourceError> {
        let (client, _session) = connect(database).await?;
        let (declared, there) = (self.triggers(&client).await?, installed(&client).await?);
        let mut findings = Vec::new();
        for Trigger { table, name, body, always, .. } in &declared {
            let (table, trigger) = (table.clone(), name.clone());
            match there.iter().find(|there| (&there.table, &there.name) == (&table, &trigger)) {
                None => findings.push(Finding::Missing { table, trigger }),
                Some(there) if there.enabled != if *always { "A" } else { "O" } => {
                    findings.push(Finding::Disabled { table, trigger });
                }
                Some(there) if there.body != *body => findings.push(Finding::Other { table, trigger }),
                Some(_) => {}
            }
        }
        for Installed { table, name: trigger, .. } in there {
            if !declared.iter().any(|declared| (&declared.table, &declared.name) == (&table, &trigger)) {
                findings.push(Finding::Undeclared { table, trigger });
            }
        }
        Ok(findings)
    }

    /// The triggers of all sources. Everything that is declared is looked up before anything is changed.
    async fn triggers(&self, client: &Client) -> Result<Vec<Trigger>, SourceError> {
        let mut all: Vec<Trigger> = Vec::new();
        for (cache, sources) in &self.0 {
            for source in sources {
                let table = catalog::table(client, source).await?;
                for trigger in triggers(cache, source, &table) {
                    if all.iter().any(|other| (&other.table, &other.name) == (&trigger.table, &trigger.name)) {
                        let what = format!("it is declared twice for the cache `{cache}` with the same key and index");
                        return Err(SourceError::Declared { table: source.table.clone(), what });
                    }
                    all.push(trigger);
                }
            }
        }
        Ok(all)
    }
}

/// A trigger that is there.
struct Installed {
    table: String,
    name: String,
    /// As `pg_trigger.tgenabled` has it.
    enabled: String,
    body: String,
}

async fn installed(client: &Client) -> Result<Vec<Installed>, SourceError> {
    // A partition's copies of its parent's triggers have a parent of their own.
    let asked = "SELECT n.nspname, c.relname, t.tgname::text, t.tgenabled::text, p.prosrc FROM pg_trigger t \
        JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.oid = t.tgfoid \
        WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND starts_with(t.tgname::text, $1) ORDER BY 1, 2, 3";
    let rows = client.query(asked, &[&PREFIX]).await?;
    let found = rows.iter().map(|row| Installed {
        table: format!("{}.{}", quoted(row.get(0)), quoted(row.get(1))),
        name: row.get(2),
        enabled: row.get(3),
        body: row.get(4),
    });
    Ok(found.collect())
}

/// The statements that remove a trigger and its function.
fn dropped(table: &str, trigger: &str) -> String {
    let function = function(table, trigger);
    format!("DROP TRIGGER IF EXISTS {} ON {table};\nDROP FUNCTION IF EXISTS {function}();\n", quoted(trigger))
}

/// One session, which ends with what drives it.
async fn connect(database: &PostgresOptions) -> Result<(Client, JoinSet<()>), SourceError> {
    let reached = sessions(&database.clone().connections(1), Whom::Primary).await;
    let (clients, driver) = reached.map_err(|trouble| SourceError::Database(trouble.to_string()))?;
    let client = clients.into_iter().next().ok_or_else(|| SourceError::Database("no session was opened".to_owned()))?;
    Ok((client, driver))
}
