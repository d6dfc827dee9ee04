//! Gets and lookups: one statement where it is known which object to read, and belief only in what the object says of itself.

use super::connection::{Connection, Parameters, column};
use super::queries::Query;
use super::server::Store;
use crate::connector::near::Noted;
use crate::connector::remote::envelope::{self, DecodeError};
use crate::connector::remote::hints::Hint;
use crate::connector::remote::{Trouble, WhenCrowded};
use crate::contract::{KeyRef, Lookup, Miss, Ticket, Value};
use std::sync::Arc;
use tokio_postgres::Row;

mod many;

/// What a statement is to find: a key, and what this node knows of where it leads.
pub(crate) struct Asked<'a> {
    pub(crate) key: KeyRef<'a>,
    pub(crate) mark: i64,
    way: Way,
}

enum Way {
    /// It is the primary key. With a last-use age, the hint says when the object was touched.
    Primary(Option<Arc<Hint>>),
    Hinted(Arc<Hint>),
    Cold,
}

/// What a lookup has found of one key.
struct Looked<'a> {
    ticket: Option<Ticket>,
    payload: Option<&'a [u8]>,
    /// How much of its max age is left, in ms; none where there is none. Negative: it is over.
    left: Option<f64>,
    /// The source was found to have nothing under the key.
    noted: bool,
    /// Whether this node may take the object into its own memory.
    near: Option<NearTerms>,
}

/// On what terms this node takes an object into its own memory.
struct NearTerms {
    /// How many marks the object has.
    marks: i32,
    /// How much of its last-use age is left, in ms; none where it has none.
    unused: Option<f64>,
    /// From before it was asked for.
    noted: Noted,
}

impl<'a> Looked<'a> {
    /// What stands behind the ticket in a row. `noted`: where this node has a memory of its own.
    fn of(row: &'a Row, ticket: Option<Ticket>, noted: Option<Noted>) -> Result<Self, Trouble> {
        let near = match noted {
            Some(noted) => {
                let unused = column(row, 7)?;
                column::<Option<i32>>(row, 6)?.map(|marks| NearTerms { marks, unused, noted })
            }
            None => None,
        };
        Ok(Self { ticket, noted: column(row, 3)?, payload: column(row, 4)?, left: column(row, 5)?, near })
    }
}

impl Store {
    pub(crate) fn asked<'a>(&self, key: KeyRef<'a>) -> Asked<'a> {
        let way = if key.index == 0 {
            Way::Primary(self.local.hints.of_primary(key))
        } else {
            self.local.hints.get(key).map_or(Way::Cold, Way::Hinted)
        };
        Asked { key, mark: self.local.marks.mark(key), way }
    }

    pub(crate) async fn find(&self, key: KeyRef<'_>) -> Result<Value, Miss> {
        if self.local.tier.is_some() {
            return match self.find_or_ticket(key).await {
                Lookup::Hit { value, .. } => Ok(value),
                Lookup::Miss { cause, .. } => Err(cause),
            };
        }
        let asked = self.asked(key);
        match self.get(&asked).await {
            Err(Miss::Absent) if matches!(asked.way, Way::Hinted(_)) => {
                self.local.hints.forget(key);
                self.get(&Asked { way: Way::Cold, ..asked }).await
            }
            found => found,
        }
    }

    async fn get(&self, asked: &Asked<'_>) -> Result<Value, Miss> {
        let Some(connection) = self.trusted() else { return Err(Miss::Distrusted) };
        let (shape, leads_to) = (self.local.shape, self.leads_to(asked));
        let by_place: Parameters<'_> = &[&asked.mark, &shape, &leads_to];
        let (query, parameters) = match asked.way {
            Way::Primary(_) => (Query::GetPrimary, by_place.get(..2).unwrap_or(by_place)),
            Way::Hinted(_) => (Query::GetHinted, by_place),
            Way::Cold => (Query::GetCold, by_place.get(..2).unwrap_or(by_place)),
        };
        let touched = self.touch_of(asked);
        let sent = self
            .link
            .operation(
                WhenCrowded::Shed,
                |on| async move { self.read_and_touch(&on, query, parameters, touched).await },
            )
            .await;
        let rows = sent.map_err(|trouble| self.gone(touched, &trouble))?;
        let payload =
            rows.first().map(|row| column::<&[u8]>(row, 0)).transpose().map_err(|trouble| self.miss(&trouble))?;
        let Some(payload) = payload else {
            self.not_touched(touched);
            return Err(Miss::Absent);
        };
        self.believe(connection, payload, asked).await
    }

    pub(crate) async fn find_or_ticket(&self, key: KeyRef<'_>) -> Lookup {
        let asked = self.asked(key);
        match self.lookup(&asked).await {
            Lookup::Miss { cause: Miss::Absent, .. } if matches!(asked.way, Way::Hinted(_)) => {
                self.local.hints.forget(key);
                self.lookup(&Asked { way: Way::Cold, ..asked }).await
            }
            looked => looked,
        }
    }

    async fn lookup(&self, asked: &Asked<'_>) -> Lookup {
        let noted = match self.note() {
            Ok(noted) => noted,
            Err(miss) => return Lookup::miss(miss, None),
        };
        let Some(connection) = self.trusted() else { return Lookup::miss(Miss::Distrusted, None) };
        let (shape, leads_to) = (self.local.shape, self.leads_to(asked));
        let by_place: Parameters<'_> = &[&asked.mark, &shape, &leads_to];
        let by_key = by_place.get(..2).unwrap_or(by_place);
        let near = noted.is_some();
        let pick = |far, here| if near { here } else { far };
        let (query, parameters) = match (&asked.way, self.notes_absence()) {
            (Way::Primary(_), false) => (pick(Query::LookupPrimary, Query::NearPrimary), by_key),
            (Way::Primary(_), true) => (pick(Query::LookupPrimaryOrNote, Query::NearPrimaryOrNote), by_key),
            (Way::Hinted(_), false) => (pick(Query::LookupHinted, Query::NearHinted), by_place),
            (Way::Hinted(_), true) => (pick(Query::LookupHintedOrNote, Query::NearHintedOrNote), by_place),
            (Way::Cold, false) => (pick(Query::LookupCold, Query::NearCold), by_key),
            (Way::Cold, true) => (pick(Query::LookupColdOrNote, Query::NearColdOrNote), by_key),
        };
        let touched = self.touch_of(asked);
        let sent = self
            .link
            .operation(
                WhenCrowded::Shed,
                |on| async move { self.read_and_touch(&on, query, parameters, touched).await },
            )
            .await;
        match sent {
            Ok(rows) => self.look(connection, &rows, asked, touched, noted).await,
            Err(trouble) => Lookup::miss(self.gone(touched, &trouble), None),
        }
    }

    /// What the rows of a lookup say.
    pub(crate) async fn look(
        &self,
        connection: u64,
        rows: &[Row],
        asked: &Asked<'_>,
        touched: Option<(&Hint, i64)>,
        noted: Option<Noted>,
    ) -> Lookup {
        match self.looked(rows, noted) {
            Ok(Some(looked)) => self.judge(connection, looked, asked, touched).await,
            Ok(None) => {
                self.lost("the clock of the database's cache tables is gone");
                Lookup::miss(Miss::Absent, None)
            }
            Err(trouble) => Lookup::miss(self.miss(&trouble), None),
        }
    }

    async fn judge(
        &self,
        connection: u64,
        looked: Looked<'_>,
        asked: &Asked<'_>,
        touched: Option<(&Hint, i64)>,
    ) -> Lookup {
        let Looked { ticket, payload, left, noted, near } = looked;
        let found = match payload {
            Some(payload) => self.believe(connection, payload, asked).await,
            None => Err(Miss::Absent),
        };
        let over = left.is_some_and(|left| left <= 0.0);
        match found {
            Ok(value) if !over => {
                let ahead = self.schema.refresh_ahead().as_secs_f64() * 1000.0;
                let due = left.is_some_and(|left| ahead > 0.0 && left <= ahead);
                if let (Some(near), Some(payload), false) = (near, payload, due) {
                    self.keep_near(&near, payload, &value, left.map(|left| left - ahead));
                }
                // A touch of nothing that could be touched is one that is due still.
                Lookup::Hit { value, due }
            }
            _ if noted => Lookup::miss(Miss::KnownAbsent, None),
            Ok(value) => {
                self.not_touched(touched);
                // A node that does not keep expired objects does not serve them either.
                let expired = (!self.schema.kept_after().is_zero()).then_some(value);
                Lookup::Miss { cause: Miss::Expired, ticket, expired }
            }
            Err(cause) => {
                self.not_touched(touched);
                let ticket = ticket.filter(|_| matches!(cause, Miss::Absent | Miss::Undecodable));
                Lookup::miss(cause, ticket)
            }
        }
    }

    /// Before this node asks for what it may take into its own memory; none where it has no such memory. After a deferral nothing is asked: so what was on its way
    /// meanwhile is refused there.
    fn note(&self) -> Result<Option<Noted>, Miss> {
        let Some(tier) = &self.local.tier else { return Ok(None) };
        let noted = tier.near.note();
        self.may_read().map(|()| Some(noted))
    }

    /// Takes an object into this node's own memory, no longer than it stays in the database, and not beyond `due`: in how many ms its max age is over soon.
    ///
    /// A hit in memory does not renew the last-use age in the database. So when half of that is over, the database is asked once more, and that renews it: an object that
    /// is in use stays there.
    ///
    /// An object has more marks than keys where another release knows keys of it that this one does not. Then the memory would not hear of them.
    fn keep_near(&self, near: &NearTerms, payload: &[u8], value: &Value, due: Option<f64>) {
        let Some(tier) = &self.local.tier else { return };
        let Some(object) = envelope::whole(&self.schema, payload, value.clone()) else { return };
        if usize::try_from(near.marks).ok() != Some(2 + object.secondary.len()) {
            return;
        }
        let stays = near.unused.map(|unused| unused / 2.0).into_iter().chain(due).reduce(f64::min);
        let ends = stays.map(|stays| near.noted.at.saturating_add(stays.max(0.0) as u64));
        tier.near.take(object, near.noted, ends);
    }

    fn looked<'a>(&self, rows: &'a [Row], noted: Option<Noted>) -> Result<Option<Looked<'a>>, Trouble> {
        let Some(row) = rows.first() else { return Ok(None) };
        let Some(ticket) = self.link.kind().ticket_in(row)? else { return Ok(None) };
        self.saw(ticket);
        Looked::of(row, Some(ticket), noted).map(Some)
    }

    /// The object in the payload, if it may be served under the key.
    async fn believe(&self, connection: u64, payload: &[u8], asked: &Asked<'_>) -> Result<Value, Miss> {
        // It may have been sent on a later connection than the one that was looked at.
        if self.trusted() != Some(connection) {
            return Err(Miss::Distrusted);
        }
        match envelope::decode(&self.schema, payload, asked.key) {
            Ok(value) => {
                self.remember_way(payload, asked);
                Ok(value)
            }
            Err(DecodeError::OtherKey) => Err(Miss::Absent),
            Err(error) => {
                self.discard(payload, asked, &error).await;
                Err(Miss::Undecodable)
            }
        }
    }

    /// Notes where a secondary key leads, unless that is known.
    fn remember_way(&self, payload: &[u8], asked: &Asked<'_>) {
        let known = match &asked.way {
            Way::Primary(_) => return,
            Way::Hinted(hint) => Some(&*hint.primary),
            Way::Cold => None,
        };
        let primary = envelope::primary(payload);
        if let Some(primary) = primary.filter(|_| primary != known) {
            self.local.hints.remember(asked.key, primary);
        }
    }

    /// Reports and removes what cannot be decoded (C11).
    async fn discard(&self, payload: &[u8], asked: &Asked<'_>, error: &DecodeError) {
        self.schema.stats.faults.increment();
        if let DecodeError::Payload(detail) = error {
            tracing::debug!(cache = %self.schema.cache, detail, "the payload of a stored object cannot be decoded");
        }
        if let Some(entries) = self.local.undecodable.admit(self.link.clock(), 1) {
            let (cache, bytes) = (&*self.schema.cache, payload.len());
            tracing::error!(%cache, entries, bytes, %error, "a stored object cannot be read and is removed");
        }
        let (mark, shape, leads_to) = (asked.mark, self.local.shape, self.leads_to(asked));
        let removed = self.link.operation(WhenCrowded::Shed, |on| async move {
            on.rows(Query::Discard, &[&mark, &shape, &leads_to, &payload]).await
        });
        if let Err(trouble) = removed.await {
            self.miss(&trouble);
        }
    }

    pub(crate) fn notes_absence(&self) -> bool {
        !self.schema.loading.negative_age.is_zero()
    }

    /// Where this node remembers the key to lead; the key itself, where it does not, or has no need to.
    fn leads_to(&self, asked: &Asked<'_>) -> i64 {
        match &asked.way {
            Way::Hinted(hint) => self.local.marks.primary(&hint.primary),
            Way::Primary(_) | Way::Cold => asked.mark,
        }
    }

    /// The hint of the object that a read has to touch, and its mark.
    fn touch_of<'a>(&self, asked: &'a Asked<'_>) -> Option<(&'a Hint, i64)> {
        let hint = match &asked.way {
            Way::Primary(hint) => hint.as_deref()?,
            Way::Hinted(hint) => hint,
            Way::Cold => return None,
        };
        self.local.hints.touch_is_due(hint).then(|| (hint, self.leads_to(asked)))
    }

    /// Reads, and renews the last-use age behind that on the same session, in the same round trip.
    async fn read_and_touch(
        &self,
        on: &Connection,
        query: Query,
        parameters: Parameters<'_>,
        touched: Option<(&Hint, i64)>,
    ) -> Result<Vec<Row>, Trouble> {
        let session = on.session()?;
        let Some((hint, mark)) = touched else { return session.rows(query, parameters).await };
        let (shape, age) = (self.local.shape, super::milliseconds(self.schema.last_use_age));
        session.prepare(query).await?;
        session.prepare(Query::Touch).await?;
        let touch: [Parameter<'_>; 3] = [&mark, &shape, &age];
        let (read, touch) = tokio::join!(session.rows(query, parameters), session.rows(Query::Touch, &touch));
        if touch.is_err() {
            self.local.hints.touch_failed(hint);
        }
        read
    }

    fn not_touched(&self, touched: Option<(&Hint, i64)>) {
        if let Some((hint, _)) = touched {
            self.local.hints.touch_failed(hint);
        }
    }

    fn gone(&self, touched: Option<(&Hint, i64)>, trouble: &Trouble) -> Miss {
        self.not_touched(touched);
        self.miss(trouble)
    }
}

pub(crate) type Parameter<'a> = &'a (dyn tokio_postgres::types::ToSql + Sync);
