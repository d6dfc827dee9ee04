//! Removes what has ended: objects, fences, and the rows that lead nowhere.

use super::connection::column;
use super::queries::Query;
use super::server::{SWEEP_AT_ONCE, Store};
use crate::connector::remote::{Trouble, WhenCrowded};
use crate::contract::{Error, Pruned};
use tokio_postgres::Row;

/// How many pages of each table are looked at in one statement.
const PAGES: i32 = 256;

impl Store {
    /// For all caches in the database: they share its tables.
    pub(crate) async fn prune_all(&self) -> Result<Pruned, Error> {
        self.pruned().await.map_err(|trouble| {
            self.miss(&trouble);
            Error::Unavailable { cache: self.schema.cache.clone(), reason: trouble.to_string() }
        })
    }

    async fn pruned(&self) -> Result<Pruned, Trouble> {
        let mut pruned = Pruned::default();
        self.ask(Query::Turn, &[]).await?;
        loop {
            let swept = self.ask(Query::Sweep, &[&SWEEP_AT_ONCE]).await?;
            pruned.objects += count(&swept, 1)?;
            if column(&swept, 2)? {
                break;
            }
        }
        let mut page = 0_i64;
        loop {
            let row = self.ask(Query::Prune, &[&page, &PAGES]).await?;
            pruned.objects += count(&row, 1)?;
            pruned.keys += count(&row, 2)?;
            match column(&row, 0)? {
                Some(next) => page = next,
                None => return Ok(pruned),
            }
        }
    }

    async fn ask(&self, query: Query, parameters: super::connection::Parameters<'_>) -> Result<Row, Trouble> {
        self.link.operation(WhenCrowded::Wait, |on| async move { on.row(query, parameters).await }).await
    }
}

fn count(row: &Row, at: usize) -> Result<u64, Trouble> {
    let count: i32 = column(row, at)?;
    Ok(u64::from(count.unsigned_abs()))
}
