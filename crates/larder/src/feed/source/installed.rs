//! The triggers of larder that are in a database.

use super::{PREFIX, SEARCH_PATH, SourceError, TELL, TOUCH, Trigger, quoted, triggers};
use crate::connector::postgres::PostgresOptions;
use crate::connector::postgres::connecting::{Whom, sessions};
use crate::connector::postgres::tls::Certificates;
use crate::feed::declaration::Sources;
use tokio::task::JoinSet;
use tokio_postgres::Client;

/// A trigger that is there.
#[derive(Clone)]
pub(super) struct Installed {
    pub(super) table: String,
    pub(super) name: String,
    /// The cache that it tells of.
    pub(super) cache: String,
    /// As `pg_trigger.tgenabled` has it.
    pub(super) enabled: String,
    /// Its function, as SQL names it.
    pub(super) function: String,
    body: String,
    kind: i16,
    /// Whether it, and its function, have what larder gives them, beside what stands here.
    intact: bool,
    /// Whether the server has made it, for a partition, after the row trigger of the partitioned table.
    pub(super) cloned: bool,
}

/// Its only argument says which cache a trigger tells of. The argument ends with a zero byte.
const INSTALLED: &str = "SELECT quote_ident(n.nspname), n.nspname::text, c.relname::text, t.tgname::text, \
    coalesce(convert_from(substring(t.tgargs FOR nullif(position('\\x00'::bytea IN t.tgargs), 0) - 1), 'UTF8'), ''), t.tgenabled::text, \
    f.nspname::text, p.proname::text, p.prosrc, t.tgtype, \
    t.tgqual IS NULL AND t.tgattr::text = '' AND p.prosecdef AND p.proconfig @> ARRAY[$2::text], t.tgparentid <> 0 \
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace \
    WHERE NOT t.tgisinternal AND f.nspname = 'larder' AND starts_with(t.tgname::text, $1) ORDER BY 2, 3, 4";

/// Every trigger of larder in the database.
pub(super) async fn installed(client: &Client) -> Result<Vec<Installed>, SourceError> {
    let rows = client.query(INSTALLED, &[&PREFIX, &SEARCH_PATH]).await?;
    let found = rows.iter().map(|row| Installed {
        table: format!("{}.{}", quoted(row.get(1)), quoted(row.get(2))),
        name: row.get(3),
        cache: row.get(4),
        enabled: row.get(5),
        function: format!("{}.{}", row.get::<_, &str>(6), quoted(row.get(7))),
        body: row.get(8),
        kind: row.get(9),
        intact: row.get::<_, Option<bool>>(10) == Some(true),
        cloned: row.get(11),
    });
    Ok(found.collect())
}

impl Installed {
    /// Whether it does what is declared, when it fires.
    pub(super) fn does(&self, declared: &Trigger) -> bool {
        self.intact
            && self.body == declared.body
            && self.kind == declared.kind
            && self.function == declared.function
            && self.cache == declared.cache
    }

    /// Whether it does what is declared, but tells the feed only where it should tell everybody, or the other way round.
    pub(super) fn does_for_others(&self, declared: &Trigger) -> bool {
        let alike = |body: &str| body.replace(&format!("PERFORM {TELL}("), &format!("PERFORM {TOUCH}("));
        let body = alike(&self.body);
        self.body != declared.body
            && body == alike(&declared.body)
            && Self { body: declared.body.clone(), ..self.clone() }.does(declared)
    }

    /// Whether it does what is declared, whenever it should.
    pub(super) fn fulfils(&self, declared: &Trigger) -> bool {
        self.does(declared) && self.enabled == declared.enabled()
    }
}

/// Whether larder's tables are there; and whether the function is, and may be called by this user. An earlier release made tables without it.
const CAN_SAY: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'larder' AND c.relname = 'changes'), \
    EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'larder' AND p.proname = 'is_kept' \
    AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE'))";

/// Whether a cache keeps objects in this database, or has done so, or nobody can say.
async fn is_kept(client: &Client, cache: &str) -> Result<bool, SourceError> {
    let row = client.query_one(CAN_SAY, &[]).await?;
    match (row.get(0), row.get(1)) {
        (false, _) => Ok(false),
        (true, false) => Ok(true),
        (true, true) => Ok(client.query_one("SELECT larder.is_kept($1)", &[&cache]).await?.get(0)),
    }
}

/// A source that can have no triggers: its cache, and why.
pub(super) type Refused = (String, SourceError);

/// The triggers of all sources, and the sources that can have none.
pub(super) async fn resolved(sources: &Sources, client: &Client) -> Result<(Vec<Trigger>, Vec<Refused>), SourceError> {
    let mut all: Vec<Trigger> = Vec::new();
    let mut wrong = Vec::new();
    for (cache, source) in sources.all() {
        let table = match super::catalog::table(client, source).await {
            Ok(table) => table,
            Err(error @ SourceError::Declared { .. }) => {
                wrong.push((cache.to_owned(), error));
                continue;
            }
            Err(error) => return Err(error),
        };
        let feed_only = sources.is_elsewhere(cache) && !is_kept(client, cache).await?;
        let these = triggers(cache, source, &table, feed_only);
        if these.iter().any(|trigger| all.iter().any(|other| other.is(&trigger.table, &trigger.name))) {
            let what = format!("it is declared twice for the cache `{cache}` with the same key and index");
            wrong.push((cache.to_owned(), SourceError::Declared { table: source.table.clone(), what }));
            continue;
        }
        all.extend(these);
    }
    Ok((all, wrong))
}

/// One session, which ends with what drives it.
pub(super) async fn connect(database: &PostgresOptions) -> Result<(Client, JoinSet<()>), SourceError> {
    let options = database.clone().connections(1);
    let reached =
        tokio::time::timeout(database.connect_timeout, sessions(&options, &Certificates::default(), Whom::Primary))
            .await;
    let reached = reached.map_err(|_| {
        SourceError::Database(format!("no answer within {:?} (connect_timeout)", database.connect_timeout))
    })?;
    let (clients, driver) = reached.map_err(|trouble| SourceError::Database(trouble.to_string()))?;
    let client = clients.into_iter().next().ok_or_else(|| SourceError::Database("no session was opened".to_owned()))?;
    Ok((client, driver))
}
