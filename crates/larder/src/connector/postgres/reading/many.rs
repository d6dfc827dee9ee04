//! Gets and lookups of several keys: one statement, of one snapshot.

use super::{Asked, Looked, Parameter, Way};
use crate::connector::near::Noted;
use crate::connector::postgres::connection::{Connection, unexpected};
use crate::connector::postgres::milliseconds;
use crate::connector::postgres::queries::Query;
use crate::connector::postgres::server::Store;
use crate::connector::remote::hints::Hint;
use crate::connector::remote::{Trouble, WhenCrowded};
use crate::contract::{KeyRef, Lookup, Lookups, Miss, Value};
use std::collections::HashMap;
use tokio_postgres::Row;

/// How many keys one statement looks up. More are looked up by several, one after the other, within one operation time-out.
const AT_ONCE: usize = 512;

/// The hint of an object that is to be touched, and its mark.
type Touched<'a> = Option<(&'a Hint, i64)>;

impl Store {
    pub(crate) async fn find_many(&self, keys: &[KeyRef<'_>]) -> Vec<Result<Value, Miss>> {
        self.look_many(keys, false).await.found
    }

    pub(crate) async fn find_many_or_ticket(&self, keys: &[KeyRef<'_>]) -> Lookups {
        self.look_many(keys, true).await
    }

    async fn look_many(&self, keys: &[KeyRef<'_>], for_loads: bool) -> Lookups {
        let all = |miss| Lookups { found: keys.iter().map(|_| Err(miss)).collect(), ticket: None };
        let asks = || {
            self.admit()?;
            let noted = self.note()?;
            self.trusted().map(|connection| (noted, connection)).ok_or(Miss::Distrusted)
        };
        let (noted, connection) = match asks() {
            Ok(asks) => asks,
            Err(miss) => return all(miss),
        };
        let asked: Vec<Asked<'_>> = keys.iter().map(|key| self.asked(*key)).collect();
        let touched: Vec<Touched<'_>> = asked.iter().map(|asked| self.touch_of(asked)).collect();
        let read = |on: std::sync::Arc<Connection>| {
            let (asked, touched) = (&asked, &touched);
            async move { self.read_many(&on, asked, touched, for_loads, noted.is_some()).await }
        };
        let rows = match self.link.operation(WhenCrowded::Shed, read).await {
            Ok(rows) => rows,
            Err(trouble) => {
                touched.iter().for_each(|touched| self.not_touched(*touched));
                return all(self.miss(&trouble));
            }
        };
        let Some(first) = rows.first() else {
            self.lost("the clock of the database's cache tables is gone");
            return all(Miss::Absent);
        };
        // The first row has the snapshot of the first statement: the oldest one, where there are several.
        let ticket = match self.link.kind().ticket_in(first) {
            Ok(ticket) => ticket,
            Err(trouble) => return all(self.miss(&trouble)),
        };
        ticket.into_iter().for_each(|ticket| self.saw(ticket));
        let mut found = Vec::with_capacity(keys.len());
        let mut known = HashMap::new();
        for ((asked, touched), row) in asked.iter().zip(touched).zip(&rows) {
            found.push(self.of_row(connection, row, asked, touched, noted, &mut known).await);
        }
        let loadable = found.iter().any(|found| found.as_ref().is_err_and(|miss| miss.is_loadable()));
        Lookups { found, ticket: ticket.filter(|_| for_loads && loadable) }
    }

    /// What a row says of its key. Keys of one object share its value, which is in `known` by the bytes.
    async fn of_row<'r>(
        &self,
        connection: u64,
        row: &'r Row,
        asked: &Asked<'_>,
        touched: Touched<'_>,
        noted: Option<Noted>,
        known: &mut HashMap<&'r [u8], Value>,
    ) -> Result<Value, Miss> {
        let looked = Looked::of(row, None, noted).map_err(|trouble| self.miss(&trouble))?;
        let payload = looked.payload;
        match self.judge(connection, looked, asked, touched).await {
            Lookup::Hit { value, .. } => {
                Ok(payload.map_or(value.clone(), |payload| known.entry(payload).or_insert(value).clone()))
            }
            Lookup::Miss { cause, .. } => {
                if cause == Miss::Absent && matches!(asked.way, Way::Hinted(_)) {
                    self.local.hints.forget(asked.key);
                }
                Err(cause)
            }
        }
    }

    /// Reads a row for each key, and renews last-use ages behind that on the same session, in the same round trip.
    async fn read_many(
        &self,
        on: &Connection,
        asked: &[Asked<'_>],
        touched: &[Touched<'_>],
        for_loads: bool,
        near: bool,
    ) -> Result<Vec<Row>, Trouble> {
        let session = on.session()?;
        let (shape, age) = (self.local.shape, milliseconds(self.schema.last_use_age));
        let query = match (for_loads, self.notes_absence()) {
            (true, true) if near => Query::NearManyOrNote,
            _ if near => Query::NearMany,
            (false, _) => Query::GetMany,
            (true, false) => Query::LookupMany,
            (true, true) => Query::LookupManyOrNote,
        };
        session.prepare(query).await?;
        let mut rows = Vec::with_capacity(asked.len());
        for (asked, touched) in asked.chunks(AT_ONCE).zip(touched.chunks(AT_ONCE)) {
            let marks: Vec<i64> = asked.iter().map(|asked| asked.mark).collect();
            let primary: Vec<bool> = asked.iter().map(|asked| asked.key.index == 0).collect();
            let read: [Parameter<'_>; 3] = [&marks, &primary, &shape];
            let objects: Vec<i64> = touched.iter().flatten().map(|(_, mark)| *mark).collect();
            let some = if objects.is_empty() {
                session.rows(query, &read).await?
            } else {
                session.prepare(Query::TouchMany).await?;
                let touch: [Parameter<'_>; 3] = [&objects, &shape, &age];
                let (some, sent) = tokio::join!(session.rows(query, &read), session.rows(Query::TouchMany, &touch));
                if sent.is_err() {
                    touched.iter().for_each(|touched| self.not_touched(*touched));
                }
                some?
            };
            match some.len() {
                0 => return Ok(Vec::new()),
                answered if answered == asked.len() => rows.extend(some),
                _ => return Err(unexpected()),
            }
        }
        Ok(rows)
    }
}
