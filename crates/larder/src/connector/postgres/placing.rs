//! The place: up to where a feed of another database was applied to this cache.
//!
//! A place is written after the transactions of everything that it tells of. Its table is UNLOGGED like the others, so it is gone where they are.

use super::connection::column;
use super::queries::Query;
use super::server::Store;
use crate::connector::remote::{Trouble, WhenCrowded};
use crate::contract::Place;

impl Store {
    pub(crate) async fn read_place(&self) -> Option<Place> {
        let connection = self.trusted()?;
        let cache = self.local.marks.cache;
        let read = self.link.operation(WhenCrowded::Wait, |on| async move { on.rows(Query::Place, &[&cache]).await });
        let place = read.await.and_then(|rows| rows.first().map(|row| column(row, 0)).transpose());
        let place = place.map_err(|trouble| self.miss(&trouble)).ok()?;
        (self.trusted() == Some(connection)).then_some(Place::new(place, connection))
    }

    pub(crate) async fn write_place(&self, place: Vec<u8>, connection: u64) {
        if self.trusted() != Some(connection) {
            return;
        }
        let (link, cache, place) = (&self.link, self.local.marks.cache, &place);
        let sent = link.operation(WhenCrowded::Wait, |on| async move {
            // `on` was the connection in use a moment ago, and connections are numbered in their order. So it is the one that was asked for.
            if link.generation() != connection {
                return Err(Trouble::Unavailable);
            }
            on.rows(Query::SetPlace, &[&cache, place]).await
        });
        if let Err(trouble) = sent.await {
            tracing::debug!(cache = %self.schema.cache, error = %trouble, "the place in the feed is not written");
        }
    }
}
