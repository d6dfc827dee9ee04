//! One index of a cache, by name: finding, invalidating and deleting.

use crate::connector::redis::inspect::index_kind::{PRIMARY, Registered, SECONDARY, Standing};
use crate::connector::redis::inspect::server::Server;
use crate::connector::redis::inspect::{
    ClockReading, ClockState, Expiry, Found, FoundCopy, FoundKey, FoundObject, InspectError, InspectedCache, Listing,
};
use crate::connector::redis::layout::Layout;
use crate::connector::redis::single::forgetting;
use crate::connector::redis::wire::caller::Caller;
use crate::connector::redis::wire::replies::{bytes, unexpected};
use crate::connector::remote::BATCH;
use crate::connector::remote::journal::Deferred;
use crate::connector::remote::{Trouble, What};
use crate::contract::{Following, KeyBuf, KeyRef};
use crate::key;
use crate::nearest::nearest;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// What stands in place of an object that does not exist.
const NOTE: &str = "no object: a note that the source has nothing under this key, kept for its negative age";

/// Why services read nothing from a cache with this clock.
fn distrusted(clock: Option<&ClockReading>) -> Option<&'static str> {
    match clock {
        None => Some("the clock of the cache is lost; the next service that connects or loads clears the cache"),
        Some(clock) if clock.state != ClockState::Settled => Some("the cache is being cleared"),
        Some(ClockReading { of_this_history: Some(false), .. }) => Some(
            "the server was restarted or its data replaced since the cache was last used; the next service that connects \
             clears the cache",
        ),
        Some(_) => None,
    }
}

/// One index of an [`InspectedCache`].
#[derive(Debug)]
pub struct InspectedIndex {
    server: Arc<Server>,
    cache: String,
    standing: Standing,
    name: String,
    seen: Vec<String>,
    registered: Registered,
    layout: Layout,
}

impl InspectedIndex {
    pub(super) fn new(
        cache: &InspectedCache,
        name: &str,
        standing: Standing,
        seen: Vec<String>,
        registered: Registered,
    ) -> Self {
        let layout = cache.layout.of_index(name);
        Self {
            server: cache.server.clone(),
            cache: cache.name.clone(),
            standing,
            name: name.to_owned(),
            seen,
            registered,
            layout,
        }
    }

    /// Whether something on the server shows that the index exists: see the [module](super).
    #[must_use]
    pub fn is_proven(&self) -> bool {
        !matches!(self.standing, Standing::Unproven | Standing::Absent)
    }

    /// Whether there is certainly no such index: every release that uses the cache has registered its indexes, and this is none of them.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.standing == Standing::Absent
    }

    /// Whether this is certainly the primary index.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.standing == Standing::Primary
    }

    /// The names of the indexes that the server shows: those that were registered; and if this index is not among them, those that
    /// keys and objects show.
    #[must_use]
    pub fn others(&self) -> &[String] {
        &self.seen
    }

    /// If this index is not proven: the known index with the most similar name, if one is similar at all.
    #[must_use]
    pub fn nearest(&self) -> Option<&str> {
        nearest(&self.name, self.seen.iter().map(String::as_str)).filter(|_| !self.is_proven())
    }

    /// Looks at what is stored under a key. This changes nothing: neither ages, nor what a server that evicts knows of use. If the
    /// index is not proven, the key is looked up as a secondary key first, and then as a primary key.
    ///
    /// # Errors
    ///
    /// [`InspectError::Key`], [`InspectError::ForeignClock`], [`InspectError::DamagedClock`], [`InspectError::Server`].
    pub async fn find(&self, key: &[u8]) -> Result<Found, InspectError> {
        key::check(key)?;
        let clock = self.server.clock(&self.cache, &self.layout).await?;
        let primary = match self.standing {
            Standing::Primary => Some(key.to_vec()),
            Standing::Secondary => self.led_to(key).await?,
            Standing::Both | Standing::Unproven | Standing::Absent => {
                Some(self.led_to(key).await?.unwrap_or_else(|| key.to_vec()))
            }
        };
        let distrusted = distrusted(clock.as_ref());
        let by_index_key = primary.as_deref().is_some_and(|primary| primary != key);
        let mut found =
            Found { distrusted, primary, by_index_key, noted: false, copies: Vec::new(), without: Vec::new() };
        let Some(primary) = &found.primary else { return Ok(found) };
        for fingerprint in clock.iter().flat_map(|clock| &clock.fingerprints) {
            match self.copy(*fingerprint, primary, key).await? {
                Some(copy) => found.copies.push(copy),
                None => found.without.push(*fingerprint),
            }
        }
        Ok(found)
    }

    /// How many of the keys lead to an object of any release. A moment later the number may be another.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub async fn leading(&self, keys: &[Vec<u8>]) -> Result<u64, InspectError> {
        keys.iter().try_for_each(|key| key::check(key))?;
        let releases =
            self.server.clock(&self.cache, &self.layout).await?.map(|clock| clock.fingerprints).unwrap_or_default();
        if releases.is_empty() {
            return Ok(0);
        }
        let mut leading = 0;
        for batch in keys.chunks(BATCH) {
            let mut hints = redis::cmd("MGET");
            batch.iter().for_each(|key| {
                hints.arg(self.layout.index(KeyRef { index: SECONDARY, bytes: key }));
            });
            let hints = match self.standing {
                Standing::Primary => vec![Value::Nil; batch.len()],
                _ => match self.server.call(&hints).await? {
                    Value::Array(hints) => hints,
                    _ => return Err(self.server.error(&unexpected("MGET"))),
                },
            };
            let mut exist = redis::Pipeline::new();
            for (key, hint) in batch.iter().zip(hints) {
                let led_to = bytes(hint).and_then(|hint| Layout::primary_of(&hint).map(<[u8]>::to_vec));
                let primary = match self.standing {
                    Standing::Secondary => led_to,
                    _ => Some(led_to.unwrap_or_else(|| key.clone())),
                };
                let Some(primary) = primary else { continue };
                exist.cmd("EXISTS");
                releases.iter().for_each(|release| {
                    exist.arg(self.layout.object_of(*release, &primary));
                });
            }
            if exist.is_empty() {
                continue;
            }
            let found = self.server.pipeline(&exist).await?;
            leading += found.iter().filter(|found| matches!(found, Value::Int(1..))).count() as u64;
        }
        Ok(leading)
    }

    /// Forgets every object that one of the keys leads to, in every release. Fills whose load began before are refused. With a `floor`,
    /// lower versions are refused for a minute. If the index is not proven, the keys are taken for secondary keys and for primary keys.
    ///
    /// # Errors
    ///
    /// [`InspectError::Unanswered`] says how many keys were handled; [`InspectError::Lost`], [`InspectError::Key`]: nothing was done.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, nobody knows which keys were handled. Nothing is remembered for later.
    pub async fn invalidate(&self, keys: &[Vec<u8>], floor: Option<u64>) -> Result<(), InspectError> {
        self.forget(keys, Deferred::Invalidate { floor }).await
    }

    /// Makes just these keys miss, in every release.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn delete(&self, keys: &[Vec<u8>]) -> Result<(), InspectError> {
        self.forget(keys, Deferred::Delete).await
    }

    async fn forget(&self, keys: &[Vec<u8>], what: Deferred) -> Result<(), InspectError> {
        keys.iter().try_for_each(|key| key::check(key))?;
        let positions = self.standing.positions();
        let (mut done, mut wait) = (0, Duration::ZERO);
        for batch in keys.chunks(BATCH / positions.len()) {
            let sent: Vec<KeyBuf> = positions
                .iter()
                .flat_map(|position| batch.iter().map(|key| KeyBuf { index: *position, bytes: key[..].into() }))
                .collect();
            match forgetting::forget(&self.server.caller(), &self.layout, &sent, what).await {
                Ok(Some(at)) => {
                    done += batch.len();
                    wait = Following::wait_after(at.epoch);
                }
                Ok(None) => return Err(InspectError::Lost { cache: self.cache.clone() }),
                Err(trouble) => {
                    let reason = self.server.error(&trouble).to_string();
                    return Err(InspectError::Unanswered { done, of: keys.len(), reason });
                }
            }
        }
        self.server.confirm().await?;
        // Nodes may keep the cache in their own memory.
        sleep(wait).await;
        Ok(())
    }

    /// The primary key that an index key leads to.
    async fn led_to(&self, key: &[u8]) -> Result<Option<Vec<u8>>, InspectError> {
        let mut get = redis::cmd("GET");
        get.arg(self.layout.index(KeyRef { index: SECONDARY, bytes: key }));
        match self.server.caller().call(&get).await {
            Ok(hint) => Ok(bytes(hint).and_then(|hint| Layout::primary_of(&hint).map(<[u8]>::to_vec))),
            // The value was not written by larder. Services do not take it for an index key either.
            Err(trouble) if trouble.what() == Some(What::WrongType) => Ok(None),
            Err(trouble) => Err(self.server.error(&trouble)),
        }
    }

    async fn copy(&self, fingerprint: u64, primary: &[u8], key: &[u8]) -> Result<Option<FoundCopy>, InspectError> {
        let name = self.layout.object_of(fingerprint, primary);
        let mut both = redis::Pipeline::with_capacity(2);
        both.cmd("GET").arg(&name).cmd("PTTL").arg(&name);
        let replies = self.server.pipeline(&both).await?;
        let mut replies = replies.into_iter();
        let (object, stored) = match replies.next() {
            Some(Value::BulkString(stored)) if Layout::is_absence(&stored) => (Err(NOTE.to_owned()), stored),
            Some(Value::BulkString(stored)) => (FoundObject::read(Some(fingerprint), &stored), stored),
            Some(Value::ServerError(error)) => match Trouble::from(redis::RedisError::from(error)) {
                trouble if trouble.what() == Some(What::WrongType) => {
                    (Err("a value of another Redis type".to_owned()), Vec::new())
                }
                trouble => return Err(self.server.error(&trouble)),
            },
            _ => return Ok(None),
        };
        let expiry = match replies.next() {
            Some(Value::Int(left)) => {
                u64::try_from(left).map_or(Expiry::Never, |left| Expiry::In(Duration::from_millis(left)))
            }
            _ => Expiry::Unknown,
        };
        let listing = object.as_ref().map_or(Listing::Unreadable, |object| self.listing(object, key));
        let names = self.registered.get(&fingerprint).and_then(Option::as_ref);
        let primary_index = names.and_then(|names| names.first().cloned());
        Ok(Some(FoundCopy { fingerprint, primary_index, bytes: stored.len() as u64, expiry, listing, object }))
    }

    fn listing(&self, object: &FoundObject, key: &[u8]) -> Listing {
        let here = |found: &&FoundKey| {
            let position = if found.index.is_none() { PRIMARY } else { SECONDARY };
            let name = found.index.as_ref().is_none_or(|name| *name == self.name);
            found.bytes == key && name && self.standing.positions().contains(&position)
        };
        match object.keys.iter().filter(here).map(|key| key.deleted).min() {
            None => Listing::Missing,
            Some(false) => Listing::Live,
            Some(true) => Listing::Deleted,
        }
    }
}
