//! Tickets out of the snapshots of an application's transactions.

use super::server::Store;
use crate::contract::{Answer, OtherDatabase, Snapshot, Snapshots, Ticket};

impl Snapshots for Store {
    fn ticket_of<'a>(&'a self, snapshot: &'a Snapshot) -> Answer<'a, Result<Option<Ticket>, OtherDatabase>> {
        Answer::later(self.keep(snapshot))
    }
}

impl Store {
    /// Keeps the snapshot of a transaction. Each database has an epoch of its own, so a snapshot with another epoch than this node knows is of
    /// another database, or this node has not heard yet that its database has a new clock. The database says which of the two it is.
    async fn keep(&self, snapshot: &Snapshot) -> Result<Option<Ticket>, OtherDatabase> {
        if self.may_read().is_err() {
            return Ok(None);
        }
        if self.newest().is_none_or(|newest| newest.epoch.cast_signed() != snapshot.epoch) {
            match self.take_ticket().await {
                Some(now) if now.epoch.cast_signed() != snapshot.epoch => return Err(OtherDatabase),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        // The snapshot may be old. So it is not noted as one that this node has seen: the newest of those tells whether the database went back in time.
        Ok(self.link.kind().snapshots.keep(snapshot.epoch, snapshot.generation, &snapshot.text))
    }
}
