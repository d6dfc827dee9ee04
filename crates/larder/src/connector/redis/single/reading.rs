//! Gets and lookups. If this node knows which object to read, it sends one GET. It serves an object only if the object lists the key.

use crate::connector::near::{Near, Noted};
use crate::connector::redis::layout::Layout;
use crate::connector::redis::scripts;
use crate::connector::redis::single::{Store, milliseconds};
use crate::connector::redis::wire::replies::unexpected;
use crate::connector::redis::wire::rights::Command;
use crate::connector::remote::WhenCrowded;
use crate::connector::remote::envelope::{self, DecodeError};
use crate::connector::remote::hints::Hint;
use crate::connector::remote::{Trouble, What};
use crate::contract::{KeyRef, Lookup, Miss, Ticket, Value};
use redis::{Cmd, Pipeline, Value as Reply};
use std::sync::Arc;

/// An object that was read, and its age.
pub(crate) struct ReadObject {
    pub(crate) value: Value,
    pub(crate) age: Age,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    Fresh,
    /// Its max age is over soon.
    Due,
    /// Its max age is over. It is kept to be served if the load of its successor fails.
    Expired,
}

impl Store {
    pub(crate) async fn find(&self, key: KeyRef<'_>) -> Result<Value, Miss> {
        let found = match self.find_known(key).await {
            Err(Cold::Miss(miss)) => return Err(miss),
            Err(Cold::Unknown(tried)) => {
                let mut get = redis::cmd("GET");
                get.arg(self.local.layout.index(key));
                let hint = self.link.call(WhenCrowded::Shed, &get).await.map_err(|trouble| self.miss(&trouble))?;
                self.find_hinted(key, hint, tried).await?
            }
            Ok(found) => found,
        };
        if found.age == Age::Expired { Err(Miss::Expired) } else { Ok(found.value) }
    }

    pub(crate) async fn find_or_ticket(&self, key: KeyRef<'_>) -> Lookup {
        let found = match self.find_known(key).await {
            Ok(found) => Ok(found),
            Err(Cold::Miss(miss)) => Err(miss),
            Err(Cold::Unknown(tried)) => {
                // The ticket is taken in the same round trip: a load begins only after the round trip.
                let newest = self.newest();
                let mut both = Pipeline::with_capacity(2);
                both.cmd("GET").arg(self.local.layout.index(key));
                both.add_command(self.read_clock());
                let mut replies = match self.link.pipeline(&both).await {
                    Ok(replies) => replies.into_iter(),
                    Err(trouble) => return Lookup::miss(self.miss(&trouble), None),
                };
                let hint = replies.next().unwrap_or(Reply::Nil);
                let clock = replies.next().unwrap_or(Reply::Nil);
                let found = self.find_hinted(key, hint, tried).await;
                return self.look(found, async || self.ticket_from(clock, newest).await).await;
            }
        };
        self.look(found, async || self.take_ticket(WhenCrowded::Shed).await).await
    }

    /// The answer to a caller that may load what is missing. Takes a ticket only if there is something to load.
    pub(crate) async fn look(
        &self,
        found: Result<ReadObject, Miss>,
        ticket: impl AsyncFnOnce() -> Option<Ticket>,
    ) -> Lookup {
        match found {
            Ok(ReadObject { value, age: Age::Expired }) => {
                // A node that does not keep expired objects does not serve them either.
                let expired = (!self.schema.kept_after().is_zero()).then_some(value);
                Lookup::Miss { cause: Miss::Expired, ticket: ticket().await, expired }
            }
            Ok(ReadObject { value, age }) => Lookup::Hit { value, due: age == Age::Due },
            Err(miss @ (Miss::Absent | Miss::Expired | Miss::Undecodable)) => Lookup::miss(miss, ticket().await),
            Err(miss) => Lookup::miss(miss, None),
        }
    }

    /// Reads the object with one GET, if this node knows which object to read.
    async fn find_known(&self, key: KeyRef<'_>) -> Result<ReadObject, Cold> {
        self.may_read().map_err(Cold::Miss)?;
        if key.index == 0 {
            let hint = self.local.hints.of_primary(key);
            return self.read(key.bytes, hint.as_deref(), key).await.map_err(Cold::Miss);
        }
        let Some(hint) = self.local.hints.get(key) else { return Err(Cold::Unknown(None)) };
        match self.read(&hint.primary, Some(&hint), key).await {
            Err(Miss::Absent) => Err(Cold::Unknown(Some(hint))),
            other => other.map_err(Cold::Miss),
        }
    }

    /// Reads the object that an index key leads to, unless it is the one that was tried already.
    pub(crate) async fn find_hinted(
        &self,
        key: KeyRef<'_>,
        hint: Reply,
        tried: Option<Arc<Hint>>,
    ) -> Result<ReadObject, Miss> {
        let hint = match hint {
            Reply::BulkString(hint) => hint,
            Reply::ServerError(error) => return Err(self.miss(&redis::RedisError::from(error).into())),
            _ => {
                self.local.hints.forget(key);
                return Err(Miss::Absent);
            }
        };
        let Some(primary) = Layout::primary_of(&hint) else {
            // The hint of this node is out of date: the next lookup must begin with the index key.
            self.local.hints.forget(key);
            return Err(self.nothing(&hint, key));
        };
        if tried.is_some_and(|tried| *tried.primary == *primary) {
            return Err(Miss::Absent);
        }
        let hint = self.local.hints.remember(key, primary);
        self.read(primary, Some(&hint), key).await
    }

    async fn read(&self, primary: &[u8], hint: Option<&Hint>, key: KeyRef<'_>) -> Result<ReadObject, Miss> {
        let name = self.local.layout.object(primary);
        let mut get = redis::cmd("GET");
        get.arg(&name);
        // In this order: what is deferred is in the journal before this node's memory is cleared. So what was noted after that is not asked for.
        let noted = self.local.near().map(Near::note);
        self.may_read()?;
        let Some(connection) = self.trusted() else { return Err(Miss::Distrusted) };
        let touched = hint.filter(|hint| self.may_touch() && self.local.hints.touch_is_due(hint));
        let reply = match touched {
            None => self.link.call(WhenCrowded::Shed, &get).await,
            Some(hint) => {
                let age = milliseconds(self.schema.last_use_age);
                let kept = milliseconds(self.schema.kept_after());
                let touch = |call: &mut Cmd, _| {
                    call.arg(1).arg(&name).arg(age).arg(kept);
                };
                let both = self.link.command_and_script(WhenCrowded::Shed, get, &scripts::TOUCH, touch).await;
                both.map(|(object, touch)| {
                    if let Err(trouble) = touch {
                        self.local.hints.touch_failed(hint);
                        if trouble.what() == Some(What::Forbidden) {
                            self.miss(&trouble);
                        }
                    }
                    object
                })
            }
        };
        if let Some(hint) = touched
            && !matches!(reply, Ok(Reply::BulkString(_)))
        {
            self.local.hints.touch_failed(hint);
        }
        let read = self.believe(connection, name, reply, key).await;
        if let (Some(noted), Ok((read, bytes))) = (noted, &read) {
            self.keep_near(read, bytes, noted).await;
        }
        read.map(|(read, _)| read)
    }

    /// Takes an object that was read into this node's own memory, if it has one. `noted`: from before it was asked for.
    pub(crate) async fn keep_near(&self, read: &ReadObject, bytes: &[u8], noted: Noted) {
        let Some(near) = self.local.near().filter(|_| read.age == Age::Fresh) else { return };
        let mut ends = None;
        if !self.schema.max_age.is_zero() {
            // A node without such a memory may have stored it without its deadline.
            let Some((deadline, _)) = envelope::deadline(bytes) else { return };
            let here = self.link.clock().now();
            let Some(there) = self.link.server_time().await else { return };
            let due = deadline.saturating_sub(milliseconds(self.schema.refresh_ahead()));
            ends = Some(here.saturating_add(due.saturating_sub(there)));
        }
        if let Some(object) = envelope::whole(&self.schema, bytes, read.value.clone()) {
            near.take(object, noted, ends);
        }
    }

    /// Whether the user has the rights to renew a last-use age.
    pub(crate) fn may_touch(&self) -> bool {
        !self.link.kind().rights.missing().any_of(&[Command::PExpire, Command::GetRange, Command::Time])
    }

    /// What the reply to a GET of an object key means for a lookup by `key`. When the GET was sent, `connection` was in use.
    pub(crate) async fn believe(
        &self,
        connection: u64,
        name: Vec<u8>,
        reply: Result<Reply, Trouble>,
        key: KeyRef<'_>,
    ) -> Result<(ReadObject, Vec<u8>), Miss> {
        let object = match reply {
            Ok(Reply::BulkString(object)) => object,
            Ok(Reply::Nil) => return Err(Miss::Absent),
            Ok(_) => return Err(self.miss(&unexpected("GET"))),
            Err(trouble) if trouble.what() == Some(What::WrongType) => {
                return self.discard(name, Vec::new(), DecodeError::Damaged("a value of another Redis type")).await;
            }
            Err(trouble) => return Err(self.miss(&trouble)),
        };
        // The GET may have been sent on a later connection than the one that was checked.
        if self.trusted() != Some(connection) {
            return Err(Miss::Distrusted);
        }
        match envelope::decode(&self.schema, &object, key) {
            Ok(value) => Ok((ReadObject { value, age: self.age(&object).await }, object)),
            Err(DecodeError::OtherKey) => Err(Miss::Absent),
            Err(_) if key.index == 0 && object == self.local.layout.absence(key) => Err(self.nothing(&object, key)),
            Err(_) if Layout::is_absence(&object) => Err(Miss::Absent),
            Err(error) => self.discard(name, object, error).await,
        }
    }

    pub(crate) async fn age(&self, object: &[u8]) -> Age {
        let ahead = milliseconds(self.schema.refresh_ahead());
        let Some((deadline, kept)) = envelope::deadline(object) else { return Age::Fresh };
        // Unless the object is kept, the server removes it at its deadline, so its time need not be compared.
        if !kept && ahead == 0 {
            return Age::Fresh;
        }
        match self.link.server_time().await {
            Some(now) if now >= deadline && kept => Age::Expired,
            Some(now) if now.saturating_add(ahead) >= deadline => Age::Due,
            None if kept => Age::Expired,
            _ => Age::Fresh,
        }
    }

    /// The miss for a note that the source has nothing: `KnownAbsent` if this node remembers absences and the note is for this very key.
    pub(crate) fn nothing(&self, absence: &[u8], key: KeyRef<'_>) -> Miss {
        let remembers = !self.schema.loading.negative_age.is_zero();
        if remembers && absence == self.local.layout.absence(key) { Miss::KnownAbsent } else { Miss::Absent }
    }

    /// Counts bytes that cannot be decoded. They are logged only once in a while, since a wrong type fails at every read.
    pub(crate) fn report_undecodable(&self, bytes: usize, error: &DecodeError) {
        self.schema.stats.faults.increment();
        if let DecodeError::Payload(detail) = error {
            tracing::debug!(cache = %self.schema.cache, detail, "the payload of a stored object cannot be decoded");
        }
        if let Some(entries) = self.local.undecodable.admit(self.link.clock(), 1) {
            let cache = &*self.schema.cache;
            tracing::error!(%cache, entries, bytes, %error, "a stored object cannot be read and is removed");
        }
    }

    /// Reports and removes what cannot be decoded (C11).
    async fn discard<T>(&self, name: Vec<u8>, read: Vec<u8>, error: DecodeError) -> Result<T, Miss> {
        self.report_undecodable(read.len(), &error);
        let arguments = |call: &mut Cmd| {
            call.arg(1).arg(&name).arg(&read);
        };
        if let Err(trouble) = self.link.script(WhenCrowded::Shed, &scripts::DISCARD, arguments).await {
            self.miss(&trouble);
        }
        Err(Miss::Undecodable)
    }
}

enum Cold {
    Miss(Miss),
    /// This node does not know which object to read. If it had a hint that was wrong: that hint.
    Unknown(Option<Arc<Hint>>),
}
