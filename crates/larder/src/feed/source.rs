//! Triggers of a [`Source`], a table that objects are built from. They tell the feed when its rows change.
//!
//! A trigger is installed for each source and each event. On an ordinary table it runs once for each statement and looks at the rows before and after
//! (transition tables). On a partitioned table, and on a table that is part of another one, it runs for each row, since a statement that names the one
//! fires no statement trigger of the other. TRUNCATE fires statement triggers only, so each partition has a trigger of its own for it. The triggers only call
//! `larder.touch`, `larder.tell` and `larder.truncate`, in the writer's transaction: the change is told if and only if it commits.
//!
//! `larder.touch` tells the feed, and the objects that are kept in this database. `larder.tell` tells the feed only. It is called only for caches that are
//! declared to be [elsewhere](Sources::elsewhere), and of which no service has kept objects here: see `larder.keep_here` in `schema.sql`.
//!
//! # What no trigger sees
//!
//! Attaching and detaching a partition that has rows, TRUNCATE of a partition that was made after the triggers (`larder check` finds it), writes while
//! triggers are disabled or `session_replication_role` is `replica` ([`always`](Source::always) fires then, too), and `pg_restore --disable-triggers`. Call
//! `larder.truncate('cache')` after those.

use super::declaration::Source;
#[cfg(doc)]
use super::declaration::Sources;

use std::collections::BTreeMap;

mod apply;
mod catalog;
mod check;
mod error;
mod installed;
mod naming;

pub use apply::{Applied, Done, TriggerChange};
pub use check::Finding;
pub use error::SourceError;
pub use naming::{Known, Naming};

/// A trigger as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// The table, quoted as in SQL.
    pub(crate) table: String,
    pub(crate) name: String,
    /// The cache that it tells of, and the index.
    cache: String,
    index: String,
    /// `AFTER …`, up to the function.
    clause: String,
    /// The same as the number in `pg_trigger.tgtype`.
    kind: i16,
    /// Its function, as SQL names it.
    pub(crate) function: String,
    /// The body of the function.
    body: String,
    always: bool,
    /// Whether it tells the feed only.
    feed_only: bool,
    /// The partitioned table whose trigger has the same function and makes it.
    partition_of: Option<String>,
}

/// How every function of a trigger is declared.
const FUNCTION: &str = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp";

/// The same as `pg_proc.proconfig` says it.
pub(crate) const SEARCH_PATH: &str = "search_path=pg_catalog, pg_temp";

impl Trigger {
    /// The statements that make it, or put it into place again. Readers of the table do not wait for them.
    pub(crate) fn sql(&self) -> String {
        let Self { table, function, clause, cache, index, .. } = self;
        let name = quoted(&self.name);
        let mut sql = String::new();
        if self.partition_of.is_none() {
            let what = if self.kind & TRUNCATE == 0 {
                format!("the keys of its index {index}")
            } else {
                "everything".to_owned()
            };
            sql = format!(
                "-- {}: tells the cache {cache} of {what}\nCREATE OR REPLACE FUNCTION {function}() RETURNS trigger\n  {FUNCTION} AS $larder${}$larder$;\n",
                one_line(table),
                self.body
            );
        }
        // The argument says which cache the trigger belongs to.
        sql +=
            &format!("CREATE OR REPLACE TRIGGER {name} {clause}\n  EXECUTE FUNCTION {function}({});\n", literal(cache));
        if self.always {
            sql += &format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name};\n");
        }
        sql
    }

    /// Of which sessions' changes it is to tell, as `pg_trigger.tgenabled` says it.
    pub(crate) fn enabled(&self) -> &'static str {
        if self.always { "A" } else { "O" }
    }

    pub(crate) fn is(&self, table: &str, name: &str) -> bool {
        self.table == table && self.name == name
    }
}

/// A comment must end with its line.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Values of `pg_trigger.tgtype`.
const ROW: i16 = 1;
const INSERT: i16 = 4;
const DELETE: i16 = 8;
const UPDATE: i16 = 16;
const TRUNCATE: i16 = 32;

/// What is known of a declared table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// As SQL names it, with its schema.
    pub(crate) name: String,
    /// Whether statements that change its rows may name another table: the one that it is part of, or its partitions.
    pub(crate) by_row: bool,
    /// As SQL names them.
    pub(crate) partitions: Vec<String>,
    /// The parts of the key.
    pub(crate) key: Vec<Column>,
    /// What is compared beside the key.
    pub(crate) columns: Vec<Column>,
}

/// A column that a trigger reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The expression that is read; `{}` stands for the column.
    pub(crate) expression: &'static str,
    /// The type that the column has to have for the expression to be right. `None`: any will do.
    pub(crate) of_type: Option<String>,
}

/// The triggers of one source of a cache.
pub(crate) fn triggers(cache: &str, source: &Source, table: &Table, feed_only: bool) -> Vec<Trigger> {
    let make = |event: &str, kind: i16, clause: String, body: String| {
        let name = name(cache, source, event);
        Trigger {
            table: table.name.clone(),
            function: function(&table.name, &name),
            name,
            cache: cache.to_owned(),
            index: source.index.clone(),
            clause,
            kind,
            body,
            always: source.always,
            feed_only,
            partition_of: None,
        }
    };
    let function = if feed_only { TELL } else { TOUCH };
    let told = format!("{function}({}, {}", literal(cache), literal(&source.index));
    let guard = format!(
        "\nBEGIN\n  -- A column was dropped or renamed since, or has another type: nobody can say which keys are meant.\n  \
         IF {} THEN\n    PERFORM larder.truncate({});\n    RETURN NULL;\n  END IF;\n",
        lacks_columns(table),
        literal(cache)
    );
    let mut all = Vec::new();
    if table.by_row || source.always {
        let clause = format!("AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW", table.name);
        all.push(make("row", ROW | INSERT | UPDATE | DELETE, clause, guard + &body_by_row(&told, table)));
    } else {
        for (event, kind, tables, query) in [
            ("INSERT", INSERT, "NEW TABLE AS new_rows", one_side("new_rows", table)),
            ("UPDATE", UPDATE, "OLD TABLE AS old_rows NEW TABLE AS new_rows", both_sides(table)),
            ("DELETE", DELETE, "OLD TABLE AS old_rows", one_side("old_rows", table)),
        ] {
            let body = format!(
                "{guard}  PERFORM {told}, ARRAY(SELECT DISTINCT k FROM (\n    {query}) s WHERE k IS NOT NULL));\n  RETURN NULL;\nEND "
            );
            let clause = format!("AFTER {event} ON {}\n  REFERENCING {tables} FOR EACH STATEMENT", table.name);
            all.push(make(&event.to_lowercase(), kind, clause, body));
        }
    }
    let clause = |table: &str| format!("AFTER TRUNCATE ON {table} FOR EACH STATEMENT");
    let body = format!("\nBEGIN\n  PERFORM larder.truncate({});\n  RETURN NULL;\nEND ", literal(cache));
    let truncate = make("truncate", TRUNCATE, clause(&table.name), body);
    all.push(truncate.clone());
    all.extend(table.partitions.iter().map(|partition| Trigger {
        table: partition.clone(),
        clause: clause(partition),
        partition_of: Some(table.name.clone()),
        ..truncate.clone()
    }));
    all
}

/// Whether one of the columns that the trigger reads is no longer there, or has another type. If it is, no write of an application must fail.
///
/// It stands in each trigger: a function that is called for it costs three times as much.
fn lacks_columns(table: &Table) -> String {
    let mut read: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for column in table.key.iter().chain(&table.columns) {
        let of_type = read.entry(&column.name).or_default();
        *of_type = of_type.or(column.of_type.as_deref());
    }
    let each = read.iter().map(|(name, of_type)| {
        let name = format!("a.attname = {}", literal(name));
        match of_type {
            None => name,
            Some(of_type) => format!("{name} AND format_type(a.atttypid, NULL) = {}", literal(of_type)),
        }
    });
    format!(
        "(SELECT count(*) FROM pg_attribute a WHERE a.attrelid = TG_RELID AND NOT a.attisdropped\n    AND ({})) <> {}",
        each.collect::<Vec<_>>().join(" OR "),
        read.len()
    )
}

/// What a trigger calls with the keys of an index.
const TOUCH: &str = "larder.touch";
/// The same where it tells the feed only.
const TELL: &str = "larder.tell";

/// What a row trigger does after the guard.
fn body_by_row(told: &str, table: &Table) -> String {
    let unchanged = if table.columns.is_empty() {
        // Compares the bytes, so that it knows every type.
        "OLD *= NEW".to_owned()
    } else {
        format!("ROW({}) IS NOT DISTINCT FROM ROW({})", compared("OLD", table), compared("NEW", table))
    };
    format!(
        "  IF TG_OP = 'UPDATE' AND {unchanged} THEN\n    RETURN NULL;\n  END IF;\n  \
         PERFORM {told}, ARRAY(SELECT DISTINCT k FROM unnest(ARRAY[\n    \
         CASE WHEN TG_OP <> 'INSERT' THEN {} END,\n    CASE WHEN TG_OP <> 'DELETE' THEN {} END]) k WHERE k IS NOT NULL));\n  RETURN NULL;\nEND ",
        key_of("OLD", table),
        key_of("NEW", table),
    )
}

/// The keys of all rows that were inserted, or deleted.
fn one_side(rows: &str, table: &Table) -> String {
    format!("SELECT {} AS k FROM {rows} r", key_of("r", table))
}

/// The keys of all rows that an update has changed.
fn both_sides(table: &Table) -> String {
    if table.columns.is_empty() {
        return format!("{} UNION ALL {}", one_side("old_rows", table), one_side("new_rows", table));
    }
    let row = compared("r", table);
    format!(
        "SELECT k FROM ((SELECT {row} FROM old_rows r EXCEPT ALL SELECT {row} FROM new_rows r)\n    \
         UNION ALL (SELECT {row} FROM new_rows r EXCEPT ALL SELECT {row} FROM old_rows r)) AS c(k)"
    )
}

/// The key and the columns of a row.
fn compared(row: &str, table: &Table) -> String {
    let columns = table.columns.iter().map(|column| column.of(row));
    std::iter::once(key_of(row, table)).chain(columns).collect::<Vec<_>>().join(", ")
}

/// The bytes of the key in a row: those of its only part, or the netstrings of all.
fn key_of(row: &str, table: &Table) -> String {
    match &*table.key {
        [only] => only.of(row),
        parts => parts.iter().map(|part| format!("larder.part({})", part.of(row))).collect::<Vec<_>>().join(" || "),
    }
}

impl Column {
    fn of(&self, row: &str) -> String {
        self.expression.replace("{}", &format!("{row}.{}", quoted(&self.name)))
    }
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
fn function(table: &str, trigger: &str) -> String {
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
