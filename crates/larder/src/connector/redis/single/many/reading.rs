//! Gets and lookups of several keys. `round_trip.rs` sends the requests, and `search.rs` keeps what is known so far.

use super::round_trip::AT_ONCE;
use super::search::{Damaged, Ended, Search};
use crate::connector::near::Near;
use crate::connector::redis::scripts;
use crate::connector::redis::single::Store;
use crate::connector::redis::wire::parcel::Parcel;
use crate::connector::remote::WhenCrowded;
use crate::contract::{KeyRef, Lookups, Miss, Value};

impl Store {
    pub(crate) async fn find_many(&self, keys: &[KeyRef<'_>]) -> Vec<Result<Value, Miss>> {
        self.look_many(keys, false).await.found
    }

    pub(crate) async fn find_many_or_ticket(&self, keys: &[KeyRef<'_>]) -> Lookups {
        self.look_many(keys, true).await
    }

    async fn look_many(&self, keys: &[KeyRef<'_>], with_ticket: bool) -> Lookups {
        // In this order, as in a get of one.
        let noted = self.local.near().map(Near::note);
        let connection = match self.admit().and_then(|()| self.trusted().ok_or(Miss::Distrusted)) {
            Ok(connection) => connection,
            Err(miss) => return Lookups { found: keys.iter().map(|_| Err(miss)).collect(), ticket: None },
        };
        let newest = self.newest();
        let (mut search, places) = Search::of(self, keys);
        let mut cause = None;
        if !search.asked.is_empty() {
            let talk = &mut search;
            let talk = |wire| async move { talk.run(&wire, with_ticket).await };
            let sent = self.link.converse(WhenCrowded::Shed, talk).await;
            cause = sent.err().map(|trouble| self.miss(&trouble));
        }
        let clock = search.clock.take();
        search.date().await;
        let Ended { found, objects, damaged } = search.end(cause);
        self.discard_all(damaged).await;
        // A request may have been sent on a later connection than the one that was checked.
        let believed = self.trusted() == Some(connection);
        if let Some(noted) = noted.filter(|_| believed) {
            for (read, bytes) in &objects {
                self.keep_near(read, bytes, noted).await;
            }
        }
        let each = places.into_iter().map(|place| match found.get(place) {
            Some(found) if believed => found.clone(),
            _ => Err(Miss::Distrusted),
        });
        let found: Vec<_> = each.collect();
        let loadable = found.iter().any(|found| found.as_ref().is_err_and(|miss| miss.is_loadable()));
        let ticket = match clock.filter(|_| loadable) {
            Some(clock) => self.ticket_from(clock, newest).await,
            None => None,
        };
        Lookups { found, ticket }
    }

    /// Reports and removes what cannot be decoded (C11).
    async fn discard_all(&self, damaged: Vec<Damaged>) {
        for some in damaged.chunks(AT_ONCE) {
            let mut parcel = Parcel::new();
            for Damaged { name, bytes, why } in some {
                self.report_undecodable(bytes.len(), why);
                parcel.script(&scripts::DISCARD, |call| {
                    call.arg(1).arg(name).arg(bytes);
                });
            }
            if let Err(trouble) = self.link.parcel(WhenCrowded::Shed, &parcel, &mut Vec::new()).await {
                self.miss(&trouble);
            }
        }
    }
}
