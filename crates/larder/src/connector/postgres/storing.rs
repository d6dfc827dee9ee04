//! Fills, puts and sets, and what a load that found nothing leaves behind.

use super::connection::{Connection, Parameters, Session, column, unexpected};
use super::milliseconds;
use super::queries::Query;
use super::server::{PostgresServer, Store, ordered};
use super::snapshots::{Taken, ticket};
use crate::connector::remote::{Trouble, Undelivered, WhenCrowded, envelope};
use crate::contract::{Fill, KeyBuf, KeyRef, Object, Stored, Ticket};
use std::time::Duration;
use tokio_postgres::Row;

mod many;

/// What becomes of an object that is overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing.
    Fill,
    /// Nothing. Nodes keep objects of the cache in their own memory.
    NearFill,
    /// Its keys are invalidated.
    Put,
    /// It is sent once more, as a put.
    Set,
}

/// A time in ms, where there is one.
fn age(time: Duration) -> Option<i64> {
    (!time.is_zero()).then(|| milliseconds(time))
}

impl Mode {
    fn when_crowded(self) -> WhenCrowded {
        match self {
            Self::Fill | Self::NearFill => WhenCrowded::Shed,
            Self::Put | Self::Set => WhenCrowded::Wait,
        }
    }

    /// As `larder.store` knows it.
    fn letter(self) -> i8 {
        match self {
            Self::Fill => b'f',
            Self::NearFill => b'n',
            Self::Put => b'p',
            Self::Set => b's',
        }
        .cast_signed()
    }
}

/// What all objects of a call are stored with.
struct Terms {
    mode: Mode,
    /// Max age, last-use age, and for how long expired objects are kept.
    ages: [Option<i64>; 3],
    ticket: Ticket,
    taken: Taken,
}

/// An object on its way.
struct Parcel<'a> {
    object: &'a Object,
    bytes: &'a [u8],
    marks: Vec<i64>,
    version: Option<i64>,
}

impl Parcel<'_> {
    async fn send(&self, session: &Session, terms: &Terms, shape: i64) -> Result<Row, Trouble> {
        let Self { bytes, marks, version, .. } = self;
        let Terms { mode, ages: [max_age, last_use_age, kept], ticket, taken } = terms;
        let (letter, epoch, snapshot) = (mode.letter(), ticket.epoch.cast_signed(), &*taken.snapshot);
        let parameters: Parameters<'_> = &[
            &letter,
            &shape,
            marks,
            version,
            bytes,
            max_age,
            last_use_age,
            kept,
            &epoch,
            &taken.generation,
            &snapshot,
        ];
        session.rows(Query::Store, parameters).await?.into_iter().next().ok_or_else(unexpected)
    }
}

impl Store {
    /// Sends an object. A ticket whose snapshot this node has forgotten is one that was overtaken.
    async fn send(&self, mode: Mode, object: &Object, bytes: &[u8], taken: Option<Ticket>) -> Result<Fill, Trouble> {
        let Some(terms) = self.terms(mode, taken)? else { return Ok(Fill::undated(Stored::Overtaken)) };
        let parcel = self.parcel(object, bytes);
        let (sent, with) = (&parcel, &terms);
        let store =
            |on: std::sync::Arc<Connection>| async move { sent.send(on.session()?, with, self.local.shape).await };
        let row = self.link.operation(mode.when_crowded(), store).await?;
        let (fill, forgotten) = self.stored(&row, &parcel)?;
        if forgotten {
            self.catch_up().await;
        }
        Ok(fill)
    }

    /// What a store needs beside the object. `None`: the ticket is missing, or this node has forgotten its snapshot.
    fn terms(&self, mode: Mode, taken: Option<Ticket>) -> Result<Option<Terms>, Trouble> {
        if !self.is_trusted() {
            return Err(Trouble::Unavailable);
        }
        let known = taken.and_then(|ticket| Some((ticket, self.link.kind().snapshots.of(ticket)?)));
        let ages = [self.schema.lifetime(), self.schema.last_use_age, self.schema.kept_after()].map(age);
        Ok(known.map(|(ticket, snapshot)| Terms { mode, ages, ticket, taken: snapshot }))
    }

    fn parcel<'a>(&self, object: &'a Object, bytes: &'a [u8]) -> Parcel<'a> {
        Parcel { object, bytes, marks: self.local.marks.of_object(object), version: object.version.map(ordered) }
    }

    /// How a fill is stored.
    fn filling(&self) -> Mode {
        if self.local.tier.is_some() { Mode::NearFill } else { Mode::Fill }
    }

    /// This node's own memory, if it has one, has nothing after that which was touched before.
    pub(crate) async fn catch_up(&self) {
        if let Some(tier) = &self.local.tier {
            tier.rounds.catch_up(&tier.near, self.link.home()).await;
        }
    }

    /// What became of an object, and whether memories must forget another one, or an earlier state of it, that it has displaced.
    fn stored(&self, row: &Row, parcel: &Parcel<'_>) -> Result<(Fill, bool), Trouble> {
        let answer: Vec<&str> = column(row, 0)?;
        let mut answer = answer.into_iter();
        let letter = answer.next().and_then(|letter| letter.bytes().next());
        let stored = self.outcome(letter)?;
        let decided = (answer.next(), answer.next(), answer.next());
        let (Some(epoch), Some(generation), Some(snapshot)) = decided else { return Err(unexpected()) };
        let (epoch, generation) = epoch.parse().ok().zip(generation.parse().ok()).ok_or_else(unexpected)?;
        let at = self.link.kind().snapshots.keep(epoch, generation, snapshot);
        at.into_iter().for_each(|at| self.saw(at));
        let fill = Fill { stored, at };
        if stored != Stored::Accepted {
            return Ok((fill, false));
        }
        let displaced: u64 = answer.next().and_then(|number| number.parse().ok()).ok_or_else(unexpected)?;
        if displaced > 0 {
            self.schema.stats.displace(&self.schema.cache, &parcel.object.primary, displaced);
        }
        self.schema.stats.stored_bytes.add(parcel.bytes.len() as u64);
        self.local.hints.remember_stored(parcel.object);
        self.has_room();
        Ok((fill, displaced > 0 || letter == Some(b'r')))
    }

    /// The outcome that a letter stands for.
    fn outcome(&self, letter: Option<u8>) -> Result<Stored, Trouble> {
        match letter {
            Some(b'y' | b'r') => Ok(Stored::Accepted),
            Some(b'o') => Ok(Stored::Overtaken),
            Some(b'v') => Ok(Stored::Outdated),
            Some(b'l') => {
                self.lost("the clock of the database's cache tables is gone");
                Err(Trouble::Unavailable)
            }
            _ => Err(unexpected()),
        }
    }

    /// What became of the news that there is nothing, and when it was decided.
    fn noted(&self, row: &Row, taken: Ticket) -> Result<Fill, Trouble> {
        let stored = self.outcome(Some(column::<i8>(row, 0)?.cast_unsigned()))?;
        let at: Option<&str> = column(row, 1)?;
        Ok(Fill { stored, at: at.and_then(|at| ticket(taken.epoch.cast_signed(), at)) })
    }

    pub(crate) async fn fill_object(&self, object: Object, ticket: Ticket) -> Fill {
        let Some(bytes) = envelope::storable(&self.schema, &object) else { return Fill::undated(Stored::Unfit) };
        if self.is_full() {
            return Fill::undated(Stored::Full);
        }
        match self.send(self.filling(), &object, &bytes, Some(ticket)).await {
            Ok(fill) => fill,
            Err(trouble) => Fill::undated(self.not_stored(&trouble)),
        }
    }

    pub(crate) async fn put_object(&self, object: Object, ticket: Option<Ticket>) -> Stored {
        let guards = self.guards(&object);
        self.put_guarded(&object, ticket, guards).await
    }

    /// Sends the object with the newest ticket that this node has seen. If a key was touched since, the answer brings a newer ticket, and the object is
    /// sent once more. The keys are guarded before that: a caller who goes away while it waits has changed the source already.
    pub(crate) async fn set_object(&self, object: Object) -> Stored {
        let guards = self.guards(&object);
        self.set_guarded(&object, guards).await
    }

    async fn set_guarded(&self, object: &Object, guards: Vec<Undelivered<'_, PostgresServer>>) -> Stored {
        let Some(bytes) = envelope::storable(&self.schema, object) else {
            return self.forget_instead(Stored::Unfit, guards).await;
        };
        let mut ticket = None;
        if let Some(seen) = self.seen_ticket() {
            let connection = self.link.generation();
            match self.send(Mode::Set, object, &bytes, Some(seen)).await {
                Ok(Fill { stored: Stored::Overtaken, at }) => ticket = at,
                sent => return self.settle(connection, guards, sent).await,
            }
        }
        if ticket.is_none() {
            ticket = match self.ask_for_ticket(WhenCrowded::Wait).await {
                Ok(ticket) => ticket,
                // Whoever waits in vain waits once.
                Err(trouble @ Trouble::TimedOut(_)) => {
                    guards.into_iter().for_each(|guard| guard.deferred(&trouble));
                    return Stored::Unavailable;
                }
                Err(_) => None,
            };
        }
        self.put_bytes(object, &bytes, ticket, guards).await
    }

    async fn put_guarded(
        &self,
        object: &Object,
        ticket: Option<Ticket>,
        guards: Vec<Undelivered<'_, PostgresServer>>,
    ) -> Stored {
        match envelope::storable(&self.schema, object) {
            Some(bytes) => self.put_bytes(object, &bytes, ticket, guards).await,
            None => self.forget_instead(Stored::Unfit, guards).await,
        }
    }

    async fn put_bytes(
        &self,
        object: &Object,
        bytes: &[u8],
        ticket: Option<Ticket>,
        guards: Vec<Undelivered<'_, PostgresServer>>,
    ) -> Stored {
        if ticket.is_none_or(|ticket| self.link.kind().snapshots.of(ticket).is_none()) {
            return self.forget_instead(Stored::Overtaken, guards).await;
        }
        let connection = self.link.generation();
        let sent = self.send(Mode::Put, object, bytes, ticket).await;
        self.settle(connection, guards, sent).await
    }

    /// Tells the database that a load has found nothing under this key.
    pub(crate) async fn fill_absence(&self, key: KeyRef<'_>, ticket: Ticket) -> Fill {
        if !self.is_trusted() {
            return Fill::undated(Stored::Unavailable);
        }
        let Some(Taken { generation, snapshot }) = self.link.kind().snapshots.of(ticket) else {
            return Fill::undated(Stored::Overtaken);
        };
        let (cache, mark, is_primary) = (self.local.marks.cache, self.local.marks.mark(key), key.index == 0);
        let (ahead, life) = (milliseconds(self.schema.refresh_ahead()), age(self.schema.loading.negative_age));
        let epoch = ticket.epoch.cast_signed();
        let absent = |on: std::sync::Arc<Connection>| async move {
            on.row(Query::Absent, &[&cache, &mark, &is_primary, &ahead, &life, &epoch, &generation, &&*snapshot]).await
        };
        let sent = self.link.operation(WhenCrowded::Shed, absent).await;
        match sent.and_then(|row| self.noted(&row, ticket)) {
            Ok(fill) => fill,
            Err(trouble) => Fill::undated(self.not_stored(&trouble)),
        }
    }

    pub(crate) async fn take_ticket(&self) -> Option<Ticket> {
        self.ask_for_ticket(WhenCrowded::Wait).await.ok().flatten()
    }

    async fn ask_for_ticket(&self, crowded: WhenCrowded) -> Result<Option<Ticket>, Trouble> {
        if self.may_read().is_err() {
            return Ok(None);
        }
        let rows = self.link.operation(crowded, |on| async move { on.rows(Query::Ticket, &[]).await }).await?;
        let ticket = rows.first().map(|row| self.link.kind().ticket_in(row)).transpose()?.flatten();
        match ticket {
            Some(ticket) => self.saw(ticket),
            None => self.lost("the clock of the database's cache tables is gone"),
        }
        Ok(ticket)
    }

    /// Whether no fence of these keys, or of the whole cache, is newer than the ticket.
    pub(crate) async fn was_untouched(&self, keys: &[KeyBuf], since: Ticket) -> Option<bool> {
        let connection = self.trusted().filter(|_| self.may_read().is_ok())?;
        let Some(Taken { generation, snapshot }) = self.link.kind().snapshots.of(since) else { return Some(false) };
        let mut marks: Vec<i64> = keys.iter().map(|key| self.local.marks.mark(key.as_ref())).collect();
        marks.push(self.local.marks.cache);
        let epoch = since.epoch.cast_signed();
        let untouched = |on: std::sync::Arc<Connection>| async move {
            on.row(Query::Untouched, &[&marks, &epoch, &generation, &&*snapshot]).await
        };
        let row = self.link.operation(WhenCrowded::Shed, untouched).await.ok()?;
        if self.trusted() != Some(connection) {
            return None;
        }
        column(&row, 0).ok()
    }
}
