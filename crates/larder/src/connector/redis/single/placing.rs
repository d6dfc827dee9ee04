//! The place: up to where a feed was applied to this cache on this server.
//!
//! A place is written after everything that it tells of was answered, on the same connection. A replica and a snapshot have what the server
//! executed up to some moment. So whoever finds the place there finds what was applied before it, too.

use crate::connector::redis::single::Store;
use crate::connector::redis::wire::replies::bytes;
use crate::connector::redis::wire::rights::Command;
use crate::connector::remote::{Trouble, WhenCrowded};
use crate::contract::Place;
use redis::Value as Reply;

impl Store {
    pub(crate) async fn read_place(&self) -> Option<Place> {
        let connection = self.trusted()?;
        let mut read = redis::cmd("GET");
        read.arg(self.local.layout.place());
        let place = match self.link.call(WhenCrowded::Wait, &read).await {
            Ok(Reply::Nil) => None,
            Ok(reply) => Some(bytes(reply)?),
            Err(trouble) => {
                self.miss(&trouble);
                return None;
            }
        };
        (self.trusted() == Some(connection)).then_some(Place::new(place, connection))
    }

    pub(crate) async fn write_place(&self, place: Vec<u8>, connection: u64) {
        if self.trusted() != Some(connection) || self.link.kind().rights.missing().any_of(&[Command::Set]) {
            return;
        }
        let mut write = redis::cmd("SET");
        write.arg(self.local.layout.place()).arg(place);
        let (link, write) = (&self.link, &write);
        let sent = link.operation(WhenCrowded::Wait, |on| async move {
            // `on` was the connection in use a moment ago, and connections are numbered in their order. So it is the one that was asked for.
            if link.generation() == connection { on.send(write).await } else { Err(Trouble::Unavailable) }
        });
        if let Err(trouble) = sent.await {
            tracing::debug!(cache = %self.schema.cache, error = %trouble, "the place in the feed is not written");
        }
    }
}
