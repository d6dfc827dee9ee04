//! What the database says of a declared table, and whether a trigger can tell its key.

use super::installed::SourceError;
use super::{Source, Table, quoted};
use tokio_postgres::Client;

/// Looks a declared table up, and refuses what no trigger can tell.
pub(super) async fn table(client: &Client, source: &Source) -> Result<Table, SourceError> {
    let named = |what: String| SourceError::Declared { table: source.table.clone(), what };
    let asked = "SELECT c.oid, c.relkind::text, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.oid = to_regclass($1)";
    let row = client.query_opt(asked, &[&source.table]).await?;
    let Some(row) = row else {
        return Err(named("there is no such table, or this user may not see its schema".to_owned()));
    };
    let (oid, kind, schema, name): (u32, String, String, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let partitioned = match &*kind {
        "r" => false,
        "p" => true,
        "v" | "m" => return Err(named("it is a view: declare the tables that it is made of".to_owned())),
        "f" => return Err(named("it is a foreign table, whose changes this database does not see".to_owned())),
        _ => return Err(named("it is no table".to_owned())),
    };
    if source.key.is_empty() {
        return Err(named("no column is declared as its key".to_owned()));
    }
    let asked = "SELECT a.attname::text, format_type(a.atttypid, NULL), t.typtype::text, a.attgenerated::text \
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped";
    let columns: Vec<(String, String, String, String)> = client
        .query(asked, &[&oid])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let column = |wanted: &String| {
        let found = columns.iter().find(|(name, ..)| name == wanted);
        let known = || columns.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>().join(", ");
        let (name, of_type, kind, generated) =
            found.ok_or_else(|| named(format!("it has no column `{wanted}`; its columns are {}", known())))?;
        if generated == "v" {
            return Err(named(format!(
                "`{wanted}` is a virtual generated column, which no trigger can read: declare the columns that it is made of"
            )));
        }
        Ok((name.clone(), of_type.clone(), kind.clone()))
    };
    let mut key = Vec::new();
    for wanted in &source.key {
        let (name, of_type, kind) = column(wanted)?;
        let expression = key_expression(&of_type, &kind).ok_or_else(|| {
            named(format!("`{wanted}` is of type {of_type}, whose text is not what larder's keys are: use text, bytea, an integer, uuid, inet or an enum"))
        })?;
        key.push((name, expression));
    }
    let mut compared = Vec::new();
    for wanted in &source.columns {
        let (name, of_type, _) = column(wanted)?;
        compared.push((name, if of_type == "json" || of_type == "xml" { "{}::text" } else { "{}" }));
    }
    Ok(Table { name: format!("{}.{}", quoted(&schema), quoted(&name)), partitioned, key, columns: compared })
}

/// The bytes of a key in a column of this type, as larder encodes it. `None`: its text depends on settings, or is another than larder's.
fn key_expression(of_type: &str, kind: &str) -> Option<&'static str> {
    match of_type {
        "text" | "character varying" | "name" => Some("convert_to({}::text, 'UTF8')"),
        "bytea" => Some("{}"),
        "smallint" | "integer" | "bigint" | "uuid" => Some("convert_to({}::text, 'UTF8')"),
        "inet" => Some("convert_to(host({}), 'UTF8')"),
        _ if kind == "e" => Some("convert_to({}::text, 'UTF8')"),
        _ => None,
    }
}
