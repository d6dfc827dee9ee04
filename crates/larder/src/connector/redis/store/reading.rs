//! Gets and lookups: one GET where it is known which object to read, and belief only in what the object says of itself.

use super::super::hints::Hint;
use super::super::trouble::{Trouble, What};
use super::super::{clearing::unexpected, layout::Layout, scripts};
use super::{Store, milliseconds};
use crate::codec::envelope::{self, DecodeError};
use crate::connector::{KeyRef, Miss, Ticket, Value};
use redis::{Cmd, Pipeline, Value as Reply};
use std::sync::Arc;

impl Store {
    pub(super) async fn find(&self, key: KeyRef<'_>) -> Result<Value, Miss> {
        match self.find_known(key).await {
            Err(Cold::Miss(miss)) => Err(miss),
            Err(Cold::Unknown(tried)) => {
                let mut get = redis::cmd("GET");
                get.arg(self.layout.index(key));
                let hint = self.link.call(&get).await.map_err(|trouble| self.miss(&trouble))?;
                self.find_hinted(key, hint, tried).await
            }
            Ok(value) => Ok(value),
        }
    }

    pub(super) async fn find_or_ticket(&self, key: KeyRef<'_>) -> Result<Value, (Miss, Option<Ticket>)> {
        let miss = match self.find_known(key).await {
            Ok(value) => return Ok(value),
            Err(Cold::Miss(miss)) => miss,
            Err(Cold::Unknown(tried)) => {
                // The ticket comes along in the same round trip: the load begins after it either way.
                let newest = self.newest();
                let mut both = Pipeline::with_capacity(2);
                both.cmd("GET").arg(self.layout.index(key));
                both.add_command(self.read_clock());
                let mut replies = match self.link.pipeline(&both).await {
                    Ok(replies) => replies.into_iter(),
                    Err(trouble) => return Err((self.miss(&trouble), None)),
                };
                let hint = replies.next().unwrap_or(Reply::Nil);
                let clock = replies.next().unwrap_or(Reply::Nil);
                return match self.find_hinted(key, hint, tried).await {
                    Ok(value) => Ok(value),
                    Err(miss) => Err((miss, self.ticket_from(clock, newest).await)),
                };
            }
        };
        let ticket = match miss {
            Miss::Absent | Miss::Expired | Miss::Undecodable => self.take_ticket().await,
            _ => None,
        };
        Err((miss, ticket))
    }

    /// What one GET of the object key finds, where it is known which that is.
    async fn find_known(&self, key: KeyRef<'_>) -> Result<Value, Cold> {
        self.may_read().map_err(Cold::Miss)?;
        if key.index == 0 {
            let hint = self.hints.of_primary(key);
            return self.read(key.bytes, hint.as_deref(), key).await.map_err(Cold::Miss);
        }
        let Some(hint) = self.hints.get(key) else { return Err(Cold::Unknown(None)) };
        match self.read(&hint.primary, Some(&hint), key).await {
            Err(Miss::Absent) => Err(Cold::Unknown(Some(hint))),
            other => other.map_err(Cold::Miss),
        }
    }

    /// The object that an index key leads to, unless that is the one that was tried already.
    async fn find_hinted(&self, key: KeyRef<'_>, hint: Reply, tried: Option<Arc<Hint>>) -> Result<Value, Miss> {
        let hint = match hint {
            Reply::BulkString(hint) => hint,
            Reply::ServerError(error) => return Err(self.miss(&redis::RedisError::from(error).into())),
            _ => {
                self.hints.forget(key);
                return Err(Miss::Absent);
            }
        };
        let Some(primary) = Layout::primary_of(&hint) else { return Err(Miss::Absent) };
        if tried.is_some_and(|tried| *tried.primary == *primary) {
            return Err(Miss::Absent);
        }
        let hint = self.hints.remember(key, primary);
        self.read(primary, Some(&hint), key).await
    }

    async fn read(&self, primary: &[u8], hint: Option<&Hint>, key: KeyRef<'_>) -> Result<Value, Miss> {
        let name = self.layout.object(primary);
        let mut get = redis::cmd("GET");
        get.arg(&name);
        let Some(connection) = self.trusted() else { return Err(Miss::Distrusted) };
        let touched = hint.filter(|hint| self.hints.touch_is_due(hint));
        let reply = match touched {
            None => self.link.call(&get).await,
            Some(hint) => {
                let age = milliseconds(self.schema.last_use_age);
                let touch = |call: &mut Cmd| {
                    call.arg(1).arg(&name).arg(age);
                };
                self.link.command_and_script(get, &scripts::TOUCH, touch).await.map(|(object, touch)| {
                    if touch.is_err() {
                        self.hints.touch_failed(hint);
                    }
                    object
                })
            }
        };
        if let Some(hint) = touched
            && !matches!(reply, Ok(Reply::BulkString(_)))
        {
            self.hints.touch_failed(hint);
        }
        let object = match reply {
            Ok(Reply::BulkString(object)) => object,
            Ok(Reply::Nil) => return Err(Miss::Absent),
            Ok(_) => return Err(self.miss(&unexpected("GET"))),
            Err(trouble) if trouble.what() == Some(What::WrongType) => {
                return self.discard(name, Vec::new(), "a value of another Redis type").await;
            }
            Err(trouble) => return Err(self.miss(&trouble)),
        };
        // It may have been sent on a later connection than the one that was looked at.
        if self.trusted() != Some(connection) {
            return Err(Miss::Distrusted);
        }
        match envelope::decode(&self.schema, &object, key) {
            Ok(value) => Ok(value),
            Err(DecodeError::OtherKey) => Err(Miss::Absent),
            Err(error) => self.discard(name, object, &error.to_string()).await,
        }
    }

    /// Reports and removes what cannot be decoded (C11).
    async fn discard(&self, name: Vec<u8>, read: Vec<u8>, why: &str) -> Result<Value, Miss> {
        tracing::error!(cache = %self.schema.cache, bytes = read.len(), "a stored object cannot be read and is removed: {why}");
        self.schema.stats.faults.increment();
        let arguments = |call: &mut Cmd| {
            call.arg(1).arg(&name).arg(&read);
        };
        if let Err(trouble) = self.link.script(&scripts::DISCARD, arguments).await {
            self.miss(&trouble);
        }
        Err(Miss::Undecodable)
    }

    pub(super) fn miss(&self, trouble: &Trouble) -> Miss {
        match trouble {
            Trouble::Unavailable | Trouble::Unconfirmed => Miss::Unavailable,
            Trouble::Shed => Miss::Shed,
            Trouble::TimedOut => Miss::TimedOut,
            Trouble::Error { what: What::Fault | What::WrongType | What::NoScript, text } => {
                tracing::error!(cache = %self.schema.cache, "the server rejected a command of ours: {text}");
                self.schema.stats.faults.increment();
                Miss::Fault
            }
            Trouble::Error { .. } => Miss::Unavailable,
        }
    }
}

enum Cold {
    Miss(Miss),
    /// It is not known which object to read, or the one remembered (and tried) was not it.
    Unknown(Option<Arc<Hint>>),
}
