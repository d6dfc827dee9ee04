//! One poll: the difference of two snapshots.

use super::position::Position;
use crate::connector::postgres::Postgres;
use crate::connector::postgres::connection::column;
use crate::connector::postgres::queries::Query;
use crate::connector::remote::{Channel, Trouble};

/// One row of the feed.
pub(super) struct Change {
    /// The transaction that made it.
    pub(super) xid: u64,
    pub(super) cache: String,
    /// `None`: the whole cache.
    pub(super) index: Option<String>,
    pub(super) keys: Option<Vec<Vec<u8>>>,
    /// The cache of a node that has applied it itself.
    pub(super) origin: Option<i64>,
}

/// What a poll has brought.
pub(super) struct Polled {
    pub(super) position: Position,
    /// Changes that this position sees may be gone from the database.
    pub(super) trimmed: Position,
    pub(super) changes: Vec<Change>,
    /// The marks of what was touched in the caches that are kept in the database. `None`: nobody has asked, or some may be gone already.
    pub(super) touched: Option<Vec<u64>>,
}

fn position(epoch: i64, snapshot: &str) -> Result<Position, Trouble> {
    Position::new(epoch, snapshot).ok_or_else(|| Trouble::fault("the database answered no snapshot"))
}

/// A position to begin at: everything that is visible now is known, provided that nothing older is cached.
pub(super) async fn begin(postgres: &Postgres) -> Result<Position, Trouble> {
    let link = postgres.link();
    let registered = link.kind().registered(&Channel::Shared(link), None).await?;
    position(registered.epoch, &registered.snapshot)
}

/// What has become visible since. `None`: the server may not have all of it any more. `fences`: also what was touched in caches that are kept in the database.
pub(super) async fn poll(
    postgres: &Postgres,
    from: &Position,
    caches: &[&str],
    fences: bool,
) -> Result<Option<Polled>, Trouble> {
    let snapshot = &*from.snapshot;
    let query = if fences { Query::PollFences } else { Query::Poll };
    let rows = postgres.link().beat(|on| async move { on.rows(query, &[&snapshot, &caches]).await }).await?;
    let mut rows = rows.iter();
    // Without a clock the tables were emptied, by a crash or by hand.
    let Some(head) = rows.next() else { return Ok(None) };
    let Some(epoch) = column::<Option<i64>>(head, 0)? else { return Ok(None) };
    let now = position(epoch, column(head, 1)?)?;
    let trimmed = position(epoch, column(head, 2)?)?;
    if !from.covers(&trimmed) || !now.covers(from) {
        return Ok(None);
    }
    // Fences that the snapshot `previous` sees may have been swept.
    let whole = fences && from.covers(&position(epoch, column(head, 3)?)?);
    let (mut changes, mut touched) = (Vec::new(), Vec::new());
    for row in rows {
        let Some(cache) = column::<Option<String>>(row, 3)? else {
            touched.push(column::<i64>(row, 6)?.cast_unsigned());
            continue;
        };
        let (index, keys, origin) = (column(row, 4)?, column(row, 5)?, column(row, 6)?);
        let xid = column::<&str>(row, 7)?.parse().map_err(|_| Trouble::fault("the database answered no xid"))?;
        changes.push(Change { xid, cache, index, keys, origin });
    }
    Ok(Some(Polled { position: now, trimmed, changes, touched: whole.then_some(touched) }))
}
