//! What the database says of a declared table, and whether a trigger can tell its key.

use super::{Column, SourceError, Table, quoted};
use crate::feed::declaration::Source;
use tokio_postgres::Client;

/// A table, its schema, and what this user may do with it.
const TABLE: &str = "SELECT c.oid, c.relkind::text, n.nspname::text, c.relname::text, c.relpersistence::text, \
    EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid), has_table_privilege(c.oid, 'TRIGGER'), pg_has_role(c.relowner, 'USAGE'), \
    pg_get_userbyid(c.relowner)::text, current_user::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";

/// The tables that a table is made of, at every depth.
const PARTS: &str = "WITH RECURSIVE parts(oid) AS (SELECT inhrelid FROM pg_inherits WHERE inhparent = $1 \
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON i.inhparent = p.oid) \
    SELECT n.nspname::text, c.relname::text, c.relkind::text FROM parts p JOIN pg_class c ON c.oid = p.oid \
    JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2";

const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, NULL), t.typtype::text, a.attgenerated::text \
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Looks a declared table up, and refuses what no trigger can tell, and what this user may not install.
pub(super) async fn table(client: &Client, source: &Source) -> Result<Table, SourceError> {
    let named = |what: String| SourceError::Declared { table: source.table.clone(), what };
    let row = client.query_opt(TABLE, &[&source.table]).await.map_err(|error| match error.as_db_error() {
        Some(said) => named(said.message().to_owned()),
        None => error.into(),
    })?;
    let Some(row) = row else {
        return Err(named("there is no such table; give it with its schema, such as app.instances".to_owned()));
    };
    let (oid, kind, schema, name): (u32, String, String, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let partitioned = match &*kind {
        "r" => false,
        "p" => true,
        "v" | "m" => return Err(named("it is a view: declare the tables that it is made of".to_owned())),
        "f" => return Err(named("it is a foreign table, whose changes this database does not see".to_owned())),
        _ => return Err(named("it is no table".to_owned())),
    };
    if row.get::<_, String>(4) == "t" {
        return Err(named("it is a temporary table, which goes with its session".to_owned()));
    }
    if schema == "larder" && ["changes", "fences"].contains(&&*name) {
        return Err(named("it is larder's own table, into which the triggers write".to_owned()));
    }
    if source.key.is_empty() {
        return Err(named("no column is declared as its key".to_owned()));
    }
    let partitions = parts(client, oid, partitioned).await?.map_err(named)?;
    let columns = client.query(COLUMNS, &[&oid]).await?;
    let columns: Vec<Found> = columns
        .iter()
        .map(|row| Found { name: row.get(0), of_type: row.get(1), kind: row.get(2), generated: row.get(3) })
        .collect();
    let key = source.key.iter().map(|wanted| find(&columns, wanted).and_then(Found::key)).collect::<Result<_, _>>();
    let compared =
        source.columns.iter().map(|wanted| find(&columns, wanted).map(Found::compared)).collect::<Result<_, _>>();
    let table = Table {
        name: format!("{}.{}", quoted(&schema), quoted(&name)),
        by_row: partitioned || row.get(5),
        partitions,
        key: key.map_err(named)?,
        columns: compared.map_err(named)?,
    };
    let (may, owns, owner, user): (bool, bool, String, String) = (row.get(6), row.get(7), row.get(8), row.get(9));
    if !may {
        let sql = format!("GRANT TRIGGER ON {} TO {}", table.name, quoted(&user));
        return Err(named(format!(
            "the user {user} lacks the right TRIGGER on it: have {owner} run `{sql}`, or run this as {owner}"
        )));
    }
    if source.always && !owns {
        return Err(named(format!(
            "only its owner may have triggers fire always, and the user {user} is not {owner}: run this as {owner}"
        )));
    }
    Ok(table)
}

/// The partitions of a table. The inner error says why no trigger can tell all of its changes.
async fn parts(client: &Client, oid: u32, partitioned: bool) -> Result<Result<Vec<String>, String>, SourceError> {
    let mut parts = Vec::new();
    for row in client.query(PARTS, &[&oid]).await? {
        let (schema, name, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let part = format!("{}.{}", quoted(&schema), quoted(&name));
        if !partitioned {
            return Ok(Err(format!(
                "the table {part} inherits from it, and a statement that names {part} fires no trigger of it: larder tells of partitioned tables, and not of inheritance"
            )));
        }
        if kind == "f" {
            return Ok(Err(format!(
                "its partition {part} is a foreign table, whose changes this database does not see"
            )));
        }
        parts.push(part);
    }
    Ok(Ok(parts))
}

/// A column, as the catalogue has it.
struct Found {
    name: String,
    of_type: String,
    /// `pg_type.typtype`.
    kind: String,
    /// `pg_attribute.attgenerated`.
    generated: String,
}

fn find<'a>(columns: &'a [Found], wanted: &str) -> Result<&'a Found, String> {
    let Some(found) = columns.iter().find(|column| column.name == wanted) else {
        let known = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(format!("it has no column `{wanted}`; its columns are {known}"));
    };
    if found.generated == "v" {
        return Err(format!(
            "`{wanted}` is a virtual generated column, which no trigger can read: declare the columns that it is made of"
        ));
    }
    Ok(found)
}

impl Found {
    /// The bytes of a key in this column, as larder encodes it. Refuses a type whose text depends on settings, or is another than larder's.
    fn key(&self) -> Result<Column, String> {
        let (expression, only) = match &*self.of_type {
            "text" | "character varying" | "name" | "smallint" | "integer" | "bigint" | "uuid" => {
                ("convert_to({}::text, 'UTF8')", false)
            }
            "bytea" => ("{}", true),
            "inet" => ("convert_to(host({}), 'UTF8')", true),
            _ if self.kind == "e" => ("convert_to({}::text, 'UTF8')", false),
            other => {
                return Err(format!(
                    "`{}` is of type {other}, whose text is not what larder's keys are: use text, bytea, an integer, uuid, inet or an enum",
                    self.name
                ));
            }
        };
        Ok(Column { name: self.name.clone(), expression, of_type: only.then(|| self.of_type.clone()) })
    }

    /// What is compared to find out whether the column has changed. Equal has to mean the same: so most types are compared by their text, byte by byte. Two
    /// texts may be equal in a collation and differ, and some types cannot be compared at all.
    fn compared(&self) -> Column {
        let only = matches!(
            &*self.of_type,
            "boolean"
                | "smallint"
                | "integer"
                | "bigint"
                | "uuid"
                | "bytea"
                | "date"
                | "timestamp without time zone"
                | "timestamp with time zone"
        );
        let expression = if only { "{}" } else { "{}::text COLLATE \"C\"" };
        Column { name: self.name.clone(), expression, of_type: only.then(|| self.of_type.clone()) }
    }
}
