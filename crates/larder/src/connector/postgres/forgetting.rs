//! Appends the fences of keys, and tells the feed where a cache keeps its objects elsewhere.

use super::queries::Query;
use super::server::{Local, PostgresServer};
use crate::connector::remote::{Batch, Channel, Forgetting, Trouble};
use tokio_postgres::Row;

pub(crate) async fn fence(
    channel: &Channel<'_, PostgresServer>,
    marks: &Vec<i64>,
    kind: u8,
) -> Result<Vec<Row>, Trouble> {
    let kind = kind.cast_signed();
    channel.run(|on| async move { on.rows(Query::Forget, &[marks, &kind]).await }).await
}

/// Forgets keys, and tells the feed.
pub(crate) async fn tell(
    channel: &Channel<'_, PostgresServer>,
    local: &Local,
    batch: &Batch<'_>,
    marks: &Vec<i64>,
    what: &Forgetting,
) -> Result<Vec<Row>, Trouble> {
    let Some(origin) = &local.told else { return Ok(Vec::new()) };
    let (cache, indexes) = (&*local.names.cache, local.names.indexes);
    let kind = if *what == Forgetting::Delete { b'd' } else { b'i' }.cast_signed();
    let names: Vec<&str> =
        batch.keys().iter().map(|key| indexes.get(usize::from(key.index)).copied().unwrap_or_default()).collect();
    let keys: Vec<&[u8]> = batch.keys().iter().map(|key| &*key.bytes).collect();
    let (names, keys) = (&names, &keys);
    channel.run(|on| async move { on.rows(Query::Tell, &[marks, &kind, &cache, names, keys, origin]).await }).await
}
