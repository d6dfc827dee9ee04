//! [`Source`]: a table that objects are built from, and the triggers that tell the feed when its rows change.
//!
//! A trigger is installed for each source and each event. On an ordinary table it runs once for each statement and looks at the rows before and after
//! (transition tables). On a partitioned table it runs for each row, since a statement that names a partition fires no statement trigger of the parent. The
//! trigger only calls `larder.touch`, in the writer's transaction: the change is told if and only if it commits.
//!
//! # What no trigger sees
//!
//! Attaching and detaching a partition that has rows, TRUNCATE of one partition, writes while triggers are disabled or `session_replication_role` is `replica`
//! ([`always`](Source::always) fires then, too), and `pg_restore --disable-triggers`. Call `larder.truncate('cache')` after those.

use std::fmt::Write as _;

mod catalog;
mod installed;

pub use installed::{Finding, SourceError, Sources};

/// A table, view of it or not, whose rows an object is built from.
///
/// ```
/// use larder::feed::Source;
///
/// // An instance is built from its row, and from those of its domains.
/// let own = Source::new("projections.instances", ["id"], "id");
/// let domains = Source::new("projections.instance_domains", ["instance_id"], "id").columns(["domain", "is_primary"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// The table, with its schema: `schema.table`. Upper case and other signs in double quotes, as in SQL.
    pub table: String,
    /// The columns whose values are the key, in the order of the key's parts.
    pub key: Vec<String>,
    /// The index of the entry that the key is of.
    pub index: String,
    /// The columns that an object is built from. An update that changes neither them nor the key tells nothing. Empty: every update tells.
    pub columns: Vec<String>,
    /// Whether the triggers fire on a subscriber of logical replication, and in sessions with `session_replication_role = replica`. They are row triggers then.
    pub always: bool,
}

impl Source {
    /// Every change of a row tells of the key in these columns.
    pub fn new<K: Into<String>>(
        table: impl Into<String>,
        key: impl IntoIterator<Item = K>,
        index: impl Into<String>,
    ) -> Self {
        let key = key.into_iter().map(Into::into).collect();
        Self { table: table.into(), key, index: index.into(), columns: Vec::new(), always: false }
    }

    /// The same with these [`columns`](#structfield.columns).
    #[must_use]
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The same with triggers that [always](#structfield.always) fire.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.always = true;
        self
    }
}

/// A trigger as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// The table, quoted as in SQL.
    pub(crate) table: String,
    pub(crate) name: String,
    /// `AFTER …`, up to the function.
    event: String,
    /// The body of its function.
    pub(crate) body: String,
    pub(crate) always: bool,
}

impl Trigger {
    /// The statements that make it.
    pub(crate) fn sql(&self) -> String {
        let (function, name) = (self.function(), quoted(&self.name));
        let mut sql = format!(
            "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger\n  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $larder${}$larder$;\n\
             DROP TRIGGER IF EXISTS {name} ON {table};\n\
             CREATE TRIGGER {name} {event}\n  EXECUTE FUNCTION {function}();\n",
            self.body,
            table = self.table,
            event = self.event,
        );
        if self.always {
            let _ = writeln!(sql, "ALTER TABLE {} ENABLE ALWAYS TRIGGER {name};", self.table);
        }
        sql
    }

    pub(crate) fn function(&self) -> String {
        function(&self.table, &self.name)
    }
}

/// What is known of a declared table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// As SQL names it, with its schema.
    pub(crate) name: String,
    pub(crate) partitioned: bool,
    /// For each part of the key, the expression of its bytes; `{}` stands for the column.
    pub(crate) key: Vec<(String, &'static str)>,
    /// For each column, the expression by which it is compared.
    pub(crate) columns: Vec<(String, &'static str)>,
}

/// The triggers of one source of a cache.
pub(crate) fn triggers(cache: &str, source: &Source, table: &Table) -> Vec<Trigger> {
    let rows = table.partitioned || source.always;
    let told = format!("{}, {}", literal(cache), literal(&source.index));
    let names: Vec<String> = table.key.iter().chain(&table.columns).map(|(column, _)| literal(column)).collect();
    let guard = format!(
        "\nBEGIN\n  -- A column was dropped or renamed since: nobody can say which keys are meant.\n  \
         IF NOT larder.has_columns(TG_RELID, {}) THEN\n    PERFORM larder.truncate({});\n    RETURN NULL;\n  END IF;\n",
        names.join(", "),
        literal(cache)
    );
    let key = |row: &str| key_of(row, table);
    let compared = |row: &str| {
        let columns = table.columns.iter().map(|(column, expression)| of_row(row, column, expression));
        std::iter::once(key(row)).chain(columns).collect::<Vec<_>>().join(", ")
    };
    let named = |event: &str| name(cache, source, event);
    let make = |event: &str, clause: String, body: String| Trigger {
        table: table.name.clone(),
        name: named(event),
        event: clause,
        body,
        always: source.always,
    };
    let mut all = Vec::new();
    if rows {
        let unchanged = if table.columns.is_empty() {
            "OLD IS NOT DISTINCT FROM NEW".to_owned()
        } else {
            format!("ROW({}) IS NOT DISTINCT FROM ROW({})", compared("OLD"), compared("NEW"))
        };
        let body = format!(
            "{guard}  IF TG_OP = 'UPDATE' AND {unchanged} THEN\n    RETURN NULL;\n  END IF;\n  \
             PERFORM larder.touch({told}, ARRAY(SELECT DISTINCT k FROM unnest(ARRAY[\n    \
             CASE WHEN TG_OP <> 'INSERT' THEN {} END,\n    CASE WHEN TG_OP <> 'DELETE' THEN {} END]) k WHERE k IS NOT NULL));\n  RETURN NULL;\nEND ",
            key("OLD"),
            key("NEW"),
        );
        all.push(make("row", format!("AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW", table.name), body));
    } else {
        let (old, new) = (key("r"), compared("r"));
        let one_side = |rows: &str| format!("SELECT {old} AS k FROM {rows} r");
        let both = if table.columns.is_empty() {
            format!("{} UNION {}", one_side("old_rows"), one_side("new_rows"))
        } else {
            format!(
                "SELECT k FROM ((SELECT {new} FROM old_rows r EXCEPT ALL SELECT {new} FROM new_rows r)\n    \
                 UNION ALL (SELECT {new} FROM new_rows r EXCEPT ALL SELECT {new} FROM old_rows r)) AS c(k)"
            )
        };
        for (event, tables, query) in [
            ("INSERT", "NEW TABLE AS new_rows", one_side("new_rows")),
            ("UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows", both),
            ("DELETE", "OLD TABLE AS old_rows", one_side("old_rows")),
        ] {
            let body = format!(
                "{guard}  PERFORM larder.touch({told}, ARRAY(SELECT DISTINCT k FROM (\n    {query}) s WHERE k IS NOT NULL));\n  RETURN NULL;\nEND "
            );
            let clause = format!("AFTER {event} ON {}\n  REFERENCING {tables} FOR EACH STATEMENT", table.name);
            all.push(make(&event.to_lowercase(), clause, body));
        }
    }
    let body = format!("\nBEGIN\n  PERFORM larder.truncate({});\n  RETURN NULL;\nEND ", literal(cache));
    all.push(make("truncate", format!("AFTER TRUNCATE ON {} FOR EACH STATEMENT", table.name), body));
    all
}

/// The bytes of the key in a row: those of its only part, or the netstrings of all.
fn key_of(row: &str, table: &Table) -> String {
    let part = |(column, expression): &(String, &'static str)| of_row(row, column, expression);
    match &*table.key {
        [only] => part(only),
        parts => parts.iter().map(|each| format!("larder.part({})", part(each))).collect::<Vec<_>>().join(" || "),
    }
}

fn of_row(row: &str, column: &str, expression: &str) -> String {
    expression.replace("{}", &format!("{row}.{}", quoted(column)))
}

/// How every trigger of larder begins.
pub(crate) const PREFIX: &str = "larder ";

/// The longest name that PostgreSQL keeps, in bytes.
const LONGEST: usize = 63;

/// What a trigger is called: for people, and the same each time.
fn name(cache: &str, source: &Source, event: &str) -> String {
    let begin = format!("{PREFIX}{cache} {} by {}", source.index, source.key.join(" "));
    within(&begin, &format!(" {event}"))
}

/// The function of a trigger, as SQL names it.
pub(crate) fn function(table: &str, trigger: &str) -> String {
    let table = table.replace('"', "");
    let (begin, end) = trigger.rsplit_once(' ').unwrap_or((trigger, ""));
    let begin = format!("{table} {}", begin.strip_prefix(PREFIX).unwrap_or(begin));
    format!("larder.{}", quoted(&within(&begin, &format!(" {end}"))))
}

/// A name of two parts, of which the first is cut where the whole is too long. A hash takes the place of what was cut.
fn within(begin: &str, end: &str) -> String {
    if begin.len() + end.len() <= LONGEST {
        return format!("{begin}{end}");
    }
    let hash = format!(" {:016x}{end}", xxhash_rust::xxh3::xxh3_64(begin.as_bytes()));
    let mut kept = LONGEST.saturating_sub(hash.len());
    while !begin.is_char_boundary(kept) {
        kept -= 1;
    }
    format!("{}{hash}", begin.get(..kept).unwrap_or_default())
}

/// A name as SQL takes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it.
pub(crate) fn literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", escaped.replace('\\', "\\\\")) } else { format!("'{escaped}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_reach_nothing_else() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'"), "E'a\\\\'''");
    }

    #[test]
    fn a_long_name_is_cut_and_stays_its_own() {
        let source = |key: &str| Source::new("t", [key], "id");
        let (one, two) = ("ü".repeat(60) + "1", "ü".repeat(60) + "2");
        let (one, two) = (name("cache", &source(&one), "insert"), name("cache", &source(&two), "insert"));
        assert!(one.len() <= LONGEST && two.len() <= LONGEST && one != two);
        assert_eq!(name("cache", &source("id"), "insert"), "larder cache id by id insert");
    }
}
