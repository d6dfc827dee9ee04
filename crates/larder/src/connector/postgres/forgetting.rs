//! Appends the fences of keys, and tells the feed where a cache keeps its objects elsewhere.

use super::queries::Query;
use super::server::{Local, PostgresServer, ordered};
use crate::connector::remote::{Batch, Channel, Forgetting, Trouble};
use crate::contract::KeyBuf;
use tokio_postgres::Row;

pub(crate) fn is_delete(batch: &Batch<'_>) -> bool {
    *batch.what() == Forgetting::Delete
}

/// Forgets the keys of batches that are all deletes, or all invalidations.
pub(crate) async fn forget_alike(
    channel: &Channel<'_, PostgresServer>,
    local: &Local,
    batches: &[Batch<'_>],
) -> Result<Vec<Row>, Trouble> {
    let keys: Vec<&KeyBuf> = batches.iter().flat_map(|batch| batch.keys()).copied().collect();
    let marks: Vec<i64> = keys.iter().map(|key| local.marks.mark(key.as_ref())).collect();
    let marks = &marks;
    let kind = if batches.first().is_some_and(is_delete) { b'd' } else { b'i' }.cast_signed();
    if let Some(origin) = &local.told {
        let (cache, indexes) = (&*local.names.cache, local.names.indexes);
        let name = |key: &&KeyBuf| indexes.get(usize::from(key.index)).copied().unwrap_or_default();
        let names: Vec<&str> = keys.iter().map(name).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &*key.bytes).collect();
        let (names, keys) = (&names, &keys);
        return channel
            .run(|on| async move { on.rows(Query::Tell, &[marks, &kind, &cache, names, keys, origin]).await })
            .await;
    }
    let floors: Vec<Option<i64>> = batches.iter().flat_map(floors).collect();
    if floors.iter().all(Option::is_none) {
        if let [mark] = marks.as_slice() {
            return channel.run(|on| async move { on.rows(Query::ForgetOne, &[mark, &kind]).await }).await;
        }
        return channel.run(|on| async move { on.rows(Query::Forget, &[marks, &kind]).await }).await;
    }
    let primary: Vec<bool> = keys.iter().map(|key| key.index == 0).collect();
    let (floors, primary) = (&floors, &primary);
    channel.run(|on| async move { on.rows(Query::ForgetBelow, &[marks, floors, primary]).await }).await
}

/// For each key of a batch the lowest version that may be stored from now on.
fn floors(batch: &Batch<'_>) -> Vec<Option<i64>> {
    match batch.what() {
        Forgetting::Invalidate { floors } if !floors.is_empty() => {
            floors.iter().map(|floor| (*floor > 0).then(|| ordered(*floor))).collect()
        }
        _ => vec![None; batch.keys().len()],
    }
}
