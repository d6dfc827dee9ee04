//! Fills and sets of several objects. Each object is a statement, and so a transaction, of its own: it is stored or refused for itself, and fences
//! what it displaces. The statements go one behind the other on one session, and nobody waits for an answer in between.

use super::{Mode, Parcel, Terms};
use crate::connector::postgres::connection::Connection;
use crate::connector::postgres::queries::Query;
use crate::connector::postgres::server::{PostgresServer, Store};
use crate::connector::remote::{Trouble, Undelivered, WhenCrowded, envelope};
use crate::contract::{Delivery, Fill, Object, Stored, Ticket};
use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use tokio_postgres::Row;

/// How many objects go in one round trip. Each round trip has an operation time-out of its own, and lets other operations get in between.
const AT_ONCE: usize = 128;

/// How many bytes go in one round trip, if it has more than one object.
const BYTES: usize = 1 << 20;

/// One object of a set of many.
struct Set<'a> {
    object: Object,
    /// `None`: it cannot be stored.
    bytes: Option<Vec<u8>>,
    /// Of its keys. Empty: what the object has changed is settled.
    guards: Vec<Undelivered<'a, PostgresServer>>,
    stored: Stored,
}

impl Set<'_> {
    /// Puts the keys into the journal.
    fn deferred(&mut self, because: &Trouble) {
        self.stored = Stored::Unavailable;
        self.guards.drain(..).for_each(|guard| guard.deferred(because));
    }
}

impl Store {
    pub(crate) async fn fill_objects(&self, objects: Vec<Object>, ticket: Ticket) -> Vec<Fill> {
        let bytes: Vec<_> = objects.iter().map(|object| envelope::storable(&self.schema, object)).collect();
        let mode = self.filling();
        let terms = match self.terms(mode, Some(ticket)) {
            _ if self.is_full() => Err(Stored::Full),
            Ok(Some(terms)) => Ok(terms),
            Ok(None) => Err(Stored::Overtaken),
            Err(trouble) => Err(self.not_stored(&trouble)),
        };
        let sent = match &terms {
            Ok(terms) => {
                let fit = objects.iter().zip(&bytes).filter_map(|(object, bytes)| Some((object, bytes.as_deref()?)));
                let parcels: Vec<_> = fit.map(|(object, bytes)| self.parcel(object, bytes)).collect();
                self.store_all(mode, &parcels, terms).await
            }
            Err(_) => Vec::new(),
        };
        if sent.iter().flatten().any(|(_, forgotten)| *forgotten) {
            self.catch_up().await;
        }
        let mut sent = sent.into_iter();
        let each = bytes.iter().map(|bytes| match (bytes, &terms) {
            (None, _) => Fill::undated(Stored::Unfit),
            (Some(_), Err(stored)) => Fill::undated(*stored),
            (Some(_), Ok(_)) => match sent.next().unwrap_or(Err(Trouble::Unavailable)) {
                Ok((fill, _)) => fill,
                Err(trouble) => Fill::undated(self.not_stored(&trouble)),
            },
        });
        each.collect()
    }

    /// Sets several objects, in [runs](run). Each run has one ticket. If an object displaces a later one of its run, the later one is refused, and set
    /// once more: alone, with a ticket of its own, as if its turn had come only then.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the keys of all objects that are not settled go into the journal.
    pub(crate) async fn set_objects(&self, objects: Vec<Object>) -> Vec<Stored> {
        // All keys are guarded before anything is sent: the source has the new states already.
        let set = |object| Set {
            guards: self.guards(&object),
            bytes: envelope::storable(&self.schema, &object),
            stored: Stored::Unfit,
            object,
        };
        let mut sets: Vec<Set<'_>> = objects.into_iter().map(set).collect();
        let mut rest = sets.as_mut_slice();
        let mut failed = None;
        while !rest.is_empty() {
            let (some, after) = rest.split_at_mut(run(rest).min(rest.len()));
            if failed.is_none() {
                failed = self.set_some(some).await;
            }
            // Whoever has waited in vain waits for nothing else.
            if let Some(trouble) = &failed {
                some.iter_mut().filter(|set| !set.guards.is_empty()).for_each(|set| set.deferred(trouble));
            }
            rest = after;
        }
        // Whoever has deferred something forgets everything that is in memory, and need not wait for a poll that may fail as well.
        if failed.is_none() {
            self.catch_up().await;
        }
        sets.into_iter().map(|set| set.stored).collect()
    }

    /// Sets the objects of a run, and makes the database forget the keys of those that were not stored: their earlier states must go. Answers why
    /// nothing more is to be sent.
    async fn set_some(&self, sets: &mut [Set<'_>]) -> Option<Trouble> {
        if sets.iter().any(|set| set.bytes.is_some()) {
            let ticket = match self.ask_for_ticket(WhenCrowded::Wait).await {
                Err(trouble @ Trouble::TimedOut(_)) => return Some(trouble),
                ticket => ticket.ok().flatten(),
            };
            if let Some(trouble) = self.set_fit(sets, ticket).await {
                return Some(trouble);
            }
        }
        let (guards, stored): (Vec<_>, Vec<_>) = sets
            .iter_mut()
            .filter(|set| !set.guards.is_empty())
            .map(|set| (std::mem::take(&mut set.guards), &mut set.stored))
            .unzip();
        if guards.is_empty() || self.send_all(guards.into_iter().flatten().collect()).await == Delivery::Applied {
            return None;
        }
        stored.into_iter().for_each(|stored| *stored = Stored::Unavailable);
        Some(Trouble::Unavailable)
    }

    /// Sends those objects that can be stored. Leaves the guards of those that are not settled.
    async fn set_fit(&self, sets: &mut [Set<'_>], ticket: Option<Ticket>) -> Option<Trouble> {
        let connection = self.link.generation();
        let terms = match self.terms(Mode::Put, ticket) {
            Ok(Some(terms)) => Ok(terms),
            Ok(None) => Err(Stored::Overtaken),
            Err(trouble) => Err(self.not_stored(&trouble)),
        };
        let mut fit: Vec<_> = sets.iter_mut().filter(|set| set.bytes.is_some()).collect();
        let terms = match terms {
            Ok(terms) => terms,
            Err(stored) => {
                fit.iter_mut().for_each(|set| set.stored = stored);
                return None;
            }
        };
        let parcels = fit.iter().filter_map(|set| Some(self.parcel(&set.object, set.bytes.as_deref()?)));
        let parcels: Vec<_> = parcels.collect();
        let sent = self.store_all(Mode::Put, &parcels, &terms).await;
        let (mut failed, mut displaced) = (None, false);
        let mut again = Vec::new();
        for (set, sent) in fit.iter_mut().zip(sent) {
            match sent {
                // An earlier object has displaced some object: perhaps this one.
                Ok((Fill { stored: Stored::Overtaken, .. }, _)) if displaced => again.push(set),
                Ok((fill, displaces)) => {
                    displaced |= displaces;
                    let delivered = self.delivered(connection, std::mem::take(&mut set.guards), None).await;
                    set.stored = if delivered { fill.stored } else { Stored::Unavailable };
                }
                Err(trouble) => {
                    set.stored = self.not_stored(&trouble);
                    failed = failed.or(Some(trouble).filter(|trouble| matches!(trouble, Trouble::TimedOut(_))));
                }
            }
        }
        for set in again {
            // If its turn does not come: as if somebody else had overtaken it.
            set.stored = Stored::Overtaken;
            if failed.is_none() {
                let guards = std::mem::take(&mut set.guards);
                set.stored = self.set_guarded(&set.object, guards).await;
                failed = Some(Trouble::Unavailable).filter(|_| set.stored == Stored::Unavailable);
            }
        }
        failed
    }

    /// Sends the objects, in as few round trips as their number and size allow. Answers for each what became of it, and whether it has displaced another
    /// object. After trouble that does not concern a single object nothing more is sent.
    async fn store_all(&self, mode: Mode, parcels: &[Parcel<'_>], terms: &Terms) -> Vec<Result<(Fill, bool), Trouble>> {
        let mut all = Vec::with_capacity(parcels.len());
        let mut rest = parcels;
        while let Some((lot, after)) = rest.split_at_checked(lot(rest)).filter(|(lot, _)| !lot.is_empty()) {
            match self.store_lot(mode, lot, terms).await {
                Ok(rows) => {
                    let outcomes = rows.into_iter().zip(lot);
                    all.extend(outcomes.map(|(row, parcel)| self.stored(&row?, parcel)));
                }
                Err(trouble) => {
                    all.extend(rest.iter().map(|_| Err(trouble.clone())));
                    break;
                }
            }
            rest = after;
        }
        all
    }

    /// Sends some objects in one round trip.
    async fn store_lot(
        &self,
        mode: Mode,
        lot: &[Parcel<'_>],
        terms: &Terms,
    ) -> Result<Vec<Result<Row, Trouble>>, Trouble> {
        let send = |on: std::sync::Arc<Connection>| async move {
            let session = on.session()?;
            session.prepare(Query::Store).await?;
            let rows = all(lot.iter().map(|parcel| parcel.send(session, terms, self.local.shape))).await;
            let of_all =
                |row: &Result<Row, Trouble>| row.as_ref().err().filter(|trouble| !trouble.is_of_its_command()).cloned();
            rows.iter().find_map(of_all).map_or(Ok(rows), Err)
        };
        self.link.operation(mode.when_crowded(), send).await
    }
}

/// How many of the objects go in the next round trip.
fn lot(parcels: &[Parcel<'_>]) -> usize {
    let mut bytes = 0;
    let fits = parcels.iter().take(AT_ONCE).take_while(|parcel| {
        bytes += parcel.bytes.len();
        bytes <= BYTES
    });
    fits.count().max(1).min(parcels.len())
}

/// How many objects are of the first run: all of them can be stored, or none can, and no two of them list the same key.
///
/// An object that lists a key of an earlier one needs a newer ticket than that one: the earlier one fences its keys, and a put that is overtaken
/// forgets what is stored, whatever its version. And an object that cannot be stored makes the database forget its keys when its turn comes: a later
/// object may list one of them.
fn run(sets: &[Set<'_>]) -> usize {
    let mut keys = HashSet::new();
    let fits = |set: &&Set<'_>| sets.first().is_some_and(|first| first.bytes.is_some() == set.bytes.is_some());
    let alone = sets.iter().take_while(fits).take_while(|set| set.object.keys().all(|key| keys.insert(key)));
    alone.count().max(1)
}

/// Waits for all of them. They are begun in this order.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, output) in futures.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(ready) => *output = Some(ready),
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
