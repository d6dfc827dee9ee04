//! Triggers are installed and removed.

use super::installed::{Installed, connect, installed, resolved};
use super::{SourceError, Trigger, literal, quoted};
use crate::connector::postgres::{Postgres, PostgresOptions, server};
use crate::feed::declaration::Sources;
use std::collections::BTreeSet;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// What became of the triggers of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// Whether larder's own tables were missing, and were made.
    pub made_tables: bool,
    /// The caches of which everything was forgotten, because a trigger was made or mended: what changed before that was not told.
    pub forgotten: Vec<String>,
    /// The triggers of larder in the database: those that are declared, in the order of their sources, and then all others.
    pub triggers: Vec<TriggerChange>,
}

/// What became of one trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TriggerChange {
    /// The table, as SQL names it.
    pub table: String,
    /// The cache that the trigger tells of.
    pub cache: String,
    /// The name of the trigger.
    pub trigger: String,
    /// What was done.
    pub done: Done,
}

/// What was done with a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Done {
    /// It was missing, and is there now.
    Made,
    /// It was disabled, or was something else than is declared, and is as declared now.
    Mended,
    /// It was as declared, and was not touched.
    Kept,
    /// Nothing declares it, and it is gone now.
    Removed,
    /// It tells another cache than those of these sources, and was not touched.
    Left,
}

impl Sources {
    /// The SQL that puts all triggers into place, for a person to read or run; it can be run again. Larder's own tables have to be there: see
    /// [`Postgres::SCHEMA`]. [`apply`](Self::apply) runs as much of it as is needed.
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
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub async fn sql(&self, database: &PostgresOptions) -> Result<String, SourceError> {
        let (client, _session) = connect(database).await?;
        let (declared, wrong) = resolved(self, &client).await?;
        match SourceError::all(wrong) {
            Some(error) => Err(error),
            None => {
                let triggers: Vec<String> = declared.iter().map(Trigger::sql).collect();
                let caches: BTreeSet<&str> = self.caches().collect();
                Ok(format!("{}{}\n{}", expected_elsewhere(&declared), triggers.join("\n"), forget(&caches)))
            }
        }
    }

    /// Installs the triggers, and removes those of the same caches that are not declared, in one transaction. It makes larder's own tables where they
    /// are missing and the options say [`create`](PostgresOptions::create). It waits for transactions that are writing to the tables, and those that begin to
    /// write meanwhile wait for it. Triggers that are as declared are not touched, nor are those of other caches.
    ///
    /// What was changed before a trigger was there was not told. So the same transaction forgets everything in the caches that got a trigger: writers
    /// from before have committed then, and writers from then on are told of.
    ///
    /// # Errors
    ///
    /// [`SourceError`]; nothing is changed then.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, either everything is changed or nothing.
    pub async fn apply(&self, database: &PostgresOptions) -> Result<Applied, SourceError> {
        let (client, _session) = connect(database).await?;
        let (declared, wrong) = resolved(self, &client).await?;
        if let Some(error) = SourceError::all(wrong) {
            return Err(error);
        }
        let made_tables = expect_tables(&client, database).await?;
        let there = installed(&client).await?;
        let mut triggers = Vec::new();
        let mut sql = String::new();
        let (mut made, mut forgotten) = (Vec::new(), BTreeSet::new());
        for wanted in &declared {
            let found = there.iter().find(|there| !there.cloned && wanted.is(&there.table, &there.name));
            let clones = || {
                there
                    .iter()
                    .filter(|there| there.cloned && there.function == wanted.function && there.name == wanted.name)
            };
            let done = match found {
                None => Done::Made,
                Some(found) if found.fulfils(wanted) && clones().all(|clone| clone.enabled == wanted.enabled()) => {
                    Done::Kept
                }
                Some(_) => Done::Mended,
            };
            if done != Done::Kept {
                // A trigger that was disabled is enabled when it is replaced, and so are its clones.
                sql += &wanted.sql();
                made.push(wanted);
                // A trigger that is to tell the feed only from now on has told it of everything before.
                if !found.is_some_and(|found| wanted.feed_only && found.does_for_others(wanted)) {
                    forgotten.insert(&*wanted.cache);
                }
            }
            triggers.push(TriggerChange::of(wanted, done));
        }
        let undeclared = || {
            there
                .iter()
                .filter(|there| !there.cloned && !declared.iter().any(|wanted| wanted.is(&there.table, &there.name)))
        };
        let (gone, left): (Vec<_>, Vec<_>) =
            undeclared().partition(|there| self.caches().any(|cache| cache == there.cache));
        sql += &removed(&gone, &declared, &left);
        triggers.extend(gone.iter().map(|there| there.change(Done::Removed)));
        triggers.extend(left.iter().map(|there| there.change(Done::Left)));
        sql += &forget(&forgotten);
        sql.insert_str(0, &expected_elsewhere(made));
        if made_tables {
            sql.insert_str(0, Postgres::SCHEMA);
        }
        run(&client, &sql).await?;
        let forgotten = forgotten.into_iter().map(str::to_owned).collect();
        Ok(Applied { made_tables, forgotten, triggers })
    }

    /// Removes every trigger of these caches, and their functions, in one transaction. Those of other caches are left as they are.
    ///
    /// # Errors
    ///
    /// [`SourceError::Database`]; nothing is changed then.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, either everything is removed or nothing.
    pub async fn remove(&self, database: &PostgresOptions) -> Result<Applied, SourceError> {
        let (client, _session) = connect(database).await?;
        let there = installed(&client).await?;
        remove(&client, there, |found| self.caches().any(|cache| cache == found.cache)).await
    }

    /// Removes every trigger of larder that these sources do not declare, also those of other caches, in one transaction.
    ///
    /// # Errors
    ///
    /// [`SourceError`]; nothing is changed then.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, either everything is removed or nothing.
    pub async fn remove_undeclared(&self, database: &PostgresOptions) -> Result<Applied, SourceError> {
        let (client, _session) = connect(database).await?;
        let (declared, wrong) = resolved(self, &client).await?;
        if let Some(error) = SourceError::all(wrong) {
            return Err(error);
        }
        let there = installed(&client).await?;
        remove(&client, there, |found| !declared.iter().any(|wanted| wanted.is(&found.table, &found.name))).await
    }
}

async fn remove(
    client: &Client,
    there: Vec<Installed>,
    goes: impl Fn(&Installed) -> bool,
) -> Result<Applied, SourceError> {
    let (gone, left): (Vec<_>, Vec<_>) = there.iter().filter(|there| !there.cloned).partition(|there| goes(there));
    run(client, &removed(&gone, &[], &left)).await?;
    let triggers =
        gone.iter().map(|there| there.change(Done::Removed)).chain(left.iter().map(|there| there.change(Done::Left)));
    Ok(Applied { triggers: triggers.collect(), ..Applied::default() })
}

/// The statements that fail if a cache keeps objects in this database, and one of these triggers tells of it to the feed only.
fn expected_elsewhere<'a>(triggers: impl IntoIterator<Item = &'a Trigger>) -> String {
    let feed_only = triggers.into_iter().filter(|trigger| trigger.feed_only);
    let caches: BTreeSet<&str> = feed_only.map(|trigger| &*trigger.cache).collect();
    caches.into_iter().map(|cache| format!("SELECT larder.expect_elsewhere({});\n", literal(cache))).collect()
}

/// The statements that forget everything in these caches.
fn forget(caches: &BTreeSet<&str>) -> String {
    let forgotten = caches.iter().map(|cache| {
        format!(
            "-- What changed before the triggers were there was not told.\nSELECT larder.truncate({});\n",
            literal(cache)
        )
    });
    forgotten.collect()
}

/// Several statements that are sent at once are one transaction. Of several that make larder's tables or triggers one does so at a time.
async fn run(client: &Client, sql: &str) -> Result<(), SourceError> {
    client.batch_execute(&format!("{}{sql}", server::LOCK)).await.map_err(|error| match error.as_db_error() {
        Some(said) if *said.code() == SqlState::INSUFFICIENT_PRIVILEGE => SourceError::Database(format!(
            "{}: run this as a user that may, such as the owner of the tables and of the schema larder",
            said.message()
        )),
        _ => error.into(),
    })
}

/// The statement that removes a trigger.
fn dropped(trigger: &Installed) -> String {
    format!("DROP TRIGGER {} ON {};\n", quoted(&trigger.name), trigger.table)
}

/// The statements that remove triggers, and those functions that no other trigger has.
fn removed(gone: &[&Installed], declared: &[Trigger], left: &[&Installed]) -> String {
    let mut sql: String = gone.iter().map(|trigger| dropped(trigger)).collect();
    let functions: BTreeSet<&str> = gone.iter().map(|trigger| trigger.function.as_str()).collect();
    let used = |function: &str| {
        declared.iter().any(|trigger| trigger.function == function)
            || left.iter().any(|trigger| trigger.function == function)
    };
    for function in functions.into_iter().filter(|function| !used(function)) {
        sql += &format!("DROP FUNCTION {function}();\n");
    }
    sql
}

/// Whether larder's own tables are to be made. An error: they cannot be used, or not be made.
async fn expect_tables(client: &Client, database: &PostgresOptions) -> Result<bool, SourceError> {
    let asked = "SELECT current_user::text, current_database()::text, n.oid IS NOT NULL, \
        has_database_privilege(current_database(), 'CREATE'), coalesce(has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE'), false), \
        EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'changes'), \
        coalesce((SELECT bool_and(has_table_privilege(c.oid, 'INSERT')) FROM pg_class c \
                  WHERE c.relnamespace = n.oid AND c.relname IN ('changes', 'fences')), false) \
        FROM (SELECT 1) one LEFT JOIN pg_namespace n ON n.nspname = 'larder'";
    let row = client.query_one(asked, &[]).await?;
    let (user, base): (String, String) = (row.get(0), row.get(1));
    let [schema, create, creates_there, tables, writes] = [2, 3, 4, 5, 6].map(|at| row.get::<_, bool>(at));
    let missing = |what: String| Err(SourceError::Tables(what));
    match (tables, schema) {
        (true, _) if !creates_there => missing(format!(
            "the user {user} lacks the rights CREATE and USAGE on the schema larder, where the functions of the triggers are: have its owner run \
             `GRANT CREATE, USAGE ON SCHEMA larder TO {}`, or run this as its owner",
            quoted(&user)
        )),
        // The functions run with the rights of whoever installs them: without this right every write of the application would fail.
        (true, _) if !writes => missing(format!(
            "the user {user} lacks the right INSERT on larder.changes and larder.fences: have their owner run \
             `GRANT INSERT ON larder.changes, larder.fences TO {}`, or run this as their owner",
            quoted(&user)
        )),
        (true, _) => Ok(false),
        _ if !database.create => {
            missing("larder's tables are not there, and `create` is false: run `larder postgres setup`".to_owned())
        }
        (_, true) if creates_there => Ok(true),
        (_, false) if create => Ok(true),
        _ => {
            let what = if schema { "schema larder".to_owned() } else { format!("database {base}") };
            missing(format!(
                "larder's tables are not there, and the user {user} lacks the right CREATE on the {what}: have an administrator run `larder postgres setup`"
            ))
        }
    }
}

impl TriggerChange {
    fn of(trigger: &Trigger, done: Done) -> Self {
        Self { table: trigger.table.clone(), cache: trigger.cache.clone(), trigger: trigger.name.clone(), done }
    }
}

impl Installed {
    fn change(&self, done: Done) -> TriggerChange {
        TriggerChange { table: self.table.clone(), cache: self.cache.clone(), trigger: self.name.clone(), done }
    }
}
