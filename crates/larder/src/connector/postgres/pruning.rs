//! Removes what has ended: objects, fences, and the rows that lead nowhere.

use super::connection::{Parameters, column};
use super::queries::Query;
use super::server::{SWEEP_AT_ONCE, Store};
use crate::connector::remote::{Trouble, WhenCrowded};
use crate::contract::{Error, Pruned};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::Row;

/// How many pages of each table are looked at in one statement.
const PAGES: i32 = 256;

/// Who can send the statements of a prune.
pub(crate) trait Asks {
    /// Sends a statement that has one row.
    fn ask(&self, query: Query, parameters: Parameters<'_>) -> impl Future<Output = Result<Row, Trouble>> + Send;
}

impl Asks for Store {
    async fn ask(&self, query: Query, parameters: Parameters<'_>) -> Result<Row, Trouble> {
        self.link.operation(WhenCrowded::Wait, |on| async move { on.row(query, parameters).await }).await
    }
}

/// Ends when it is dropped, also where the future of a prune is.
struct Turn<'a>(&'a AtomicBool);

impl<'a> Turn<'a> {
    /// `None`: somebody else prunes.
    fn begin(pruning: &'a AtomicBool) -> Option<Self> {
        (!pruning.swap(true, Ordering::AcqRel)).then_some(Self(pruning))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Store {
    /// For all caches in the database: they share its tables. While one cache of this node does that, the others have nothing to do.
    pub(crate) async fn prune_all(&self) -> Result<Pruned, Error> {
        let Some(_turn) = Turn::begin(&self.link.kind().pruning) else { return Ok(Pruned::default()) };
        prune(self, |_, _, _| {}).await.map_err(|trouble| {
            self.miss(&trouble);
            Error::Unavailable { cache: self.schema.cache.clone(), reason: trouble.to_string() }
        })
    }
}

/// Prunes the database. `told` is called with the pages that were looked at, the pages that there are, and what was removed so far.
pub(crate) async fn prune<A: Asks + Sync>(
    on: &A,
    mut told: impl FnMut(u64, u64, Pruned) + Send,
) -> Result<Pruned, Trouble> {
    let mut pruned = Pruned::default();
    on.ask(Query::Turn, &[]).await?;
    loop {
        let swept = on.ask(Query::Sweep, &[&SWEEP_AT_ONCE]).await?;
        pruned.objects += count(&swept, 1)?;
        if column(&swept, 2)? {
            break;
        }
    }
    let mut page = 0_i64;
    loop {
        let row = on.ask(Query::Prune, &[&page, &PAGES]).await?;
        pruned.objects += count(&row, 1)?;
        pruned.keys += count(&row, 2)?;
        let of: i64 = column(&row, 3)?;
        match column(&row, 0)? {
            Some(next) => page = next,
            None => return Ok(pruned),
        }
        told(page.unsigned_abs(), of.unsigned_abs(), pruned);
    }
}

fn count(row: &Row, at: usize) -> Result<u64, Trouble> {
    let count: i32 = column(row, at)?;
    Ok(u64::from(count.unsigned_abs()))
}
