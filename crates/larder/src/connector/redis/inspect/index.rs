//! One index of a cache, by name: finding, invalidating and deleting.

use super::object::{Expiry, Found, FoundCopy, FoundKey, FoundObject, Listing};
use super::{ClockReading, InspectError, InspectedCache, Inspector, bytes, read_clock};
use crate::connector::redis::forgetting::{self, BATCH};
use crate::connector::redis::layout::Layout;
use crate::connector::redis::trouble::What;
use crate::connector::{KeyBuf, KeyRef};
use crate::journal::Deferred;
use crate::key;
use redis::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The position that stands for an index of which only the name is known. Where a name is all there is to know, any will do
/// but 0, which is the primary index.
const SOME: u8 = 1;

/// A position that no index has: there are at most 255 of them.
const NONE: u8 = 255;

/// What the server shows of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Primary,
    Secondary,
    /// Nothing: it may be either.
    Unproven,
}

/// One index of an [`InspectedCache`].
#[derive(Debug)]
pub struct InspectedIndex<'a> {
    server: &'a Inspector,
    cache: String,
    name: String,
    kind: Kind,
    /// Secondary indexes that have keys.
    seen: Vec<String>,
    layout: Layout,
}

impl<'a> InspectedIndex<'a> {
    pub(super) fn new(cache: &InspectedCache<'a>, name: &str, kind: Kind, seen: Vec<String>) -> Self {
        let layout = cache.server.layout(&cache.name, name);
        Self { server: cache.server, cache: cache.name.clone(), name: name.to_owned(), kind, seen, layout }
    }

    /// Whether something on the server shows that the index exists.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.kind != Kind::Unproven
    }

    /// Whether it is known to be the primary index.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.kind == Kind::Primary
    }

    /// Looks at what is stored under a key, and changes nothing: neither ages nor what an evicting server knows of use.
    ///
    /// # Errors
    ///
    /// [`InspectError::Key`], [`InspectError::Server`].
    pub async fn find(&self, key: &[u8]) -> Result<Found, InspectError> {
        let mut found = self.find_copies(key).await?;
        let primary = found.primary.clone().unwrap_or_default();
        for copy in &mut found.copies {
            if let Ok(object) = &mut copy.object {
                self.name_keys(object, &primary, key).await?;
                copy.listing = self.listing(object, key);
            }
        }
        Ok(found)
    }

    /// Forgets every object that one of the keys leads to, in every release, and refuses what was loaded before. With a floor,
    /// versions lower than that are refused for a minute.
    ///
    /// # Errors
    ///
    /// [`InspectError::Unanswered`] says how far it came; [`InspectError::Lost`], [`InspectError::Key`], [`InspectError::Server`]: nothing was
    /// sent, or it was not done.
    ///
    /// # Cancellation
    ///
    /// It is not known which keys were handled. Nothing is remembered for later.
    pub async fn invalidate(&self, keys: &[Vec<u8>], floor: Option<u64>) -> Result<(), InspectError> {
        let as_primary = |key: &Vec<u8>| KeyBuf { index: 0, bytes: key[..].into() };
        let as_secondary = |key: &Vec<u8>| KeyBuf { index: SOME, bytes: key[..].into() };
        keys.iter().try_for_each(|key| key::check(key))?;
        let mut done = 0;
        for batch in keys.chunks(BATCH / 2) {
            let sent: Vec<KeyBuf> = match self.kind {
                Kind::Primary => batch.iter().map(as_primary).collect(),
                Kind::Secondary => batch.iter().map(as_secondary).collect(),
                // Both: the mark is the same, and what is forgotten in vain is loaded again.
                Kind::Unproven => batch.iter().map(as_primary).chain(batch.iter().map(as_secondary)).collect(),
            };
            self.send(&sent, Deferred::Invalidate { floor }, (done, keys.len())).await?;
            done += batch.len();
        }
        Ok(())
    }

    /// Makes just these keys miss, in every release.
    ///
    /// # Errors
    ///
    /// [`InspectError::Ambiguous`], and as [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn delete(&self, keys: &[Vec<u8>]) -> Result<(), InspectError> {
        keys.iter().try_for_each(|key| key::check(key))?;
        for (done, key) in keys.iter().enumerate() {
            for position in self.positions(key).await? {
                let key = KeyBuf { index: position, bytes: key[..].into() };
                self.send(&[key], Deferred::Delete, (done, keys.len())).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, keys: &[KeyBuf], what: Deferred, (done, of): (usize, usize)) -> Result<(), InspectError> {
        match forgetting::forget(&self.server.caller(), &self.layout, keys, what).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(InspectError::Lost { cache: self.cache.clone() }),
            Err(trouble) => {
                let reason = self.server.error(&trouble).to_string();
                Err(InspectError::Unanswered { done, of, reason })
            }
        }
    }

    /// The positions under which objects list the key. Nobody lists it: it is fenced all the same.
    async fn positions(&self, key: &[u8]) -> Result<Vec<u8>, InspectError> {
        let mut positions = match self.kind {
            Kind::Primary => return Ok(vec![0]),
            Kind::Secondary => vec![],
            Kind::Unproven => vec![0],
        };
        for copy in self.find(key).await?.copies {
            let Ok(object) = copy.object else { continue };
            let alike: Vec<&FoundKey> = object.alike(false, key).collect();
            let certain = alike.iter().find(|key| key.index.as_ref() == Some(&self.name));
            match (certain, &alike[..]) {
                (Some(key), _) => positions.push(key.position),
                (None, []) => {}
                (None, _) => return Err(InspectError::Ambiguous { index: self.name.clone() }),
            }
        }
        if positions.is_empty() {
            positions.push(NONE);
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(positions)
    }

    fn listing(&self, object: &FoundObject, key: &[u8]) -> Listing {
        let of_primary = || object.alike(true, key);
        let of_secondary = || {
            let named = |key: &&FoundKey| key.index.as_ref().is_none_or(|name| *name == self.name);
            object.alike(false, key).filter(named)
        };
        let alike: Vec<&FoundKey> = match self.kind {
            Kind::Primary => of_primary().collect(),
            Kind::Secondary => of_secondary().collect(),
            Kind::Unproven => of_primary().chain(of_secondary()).collect(),
        };
        match &alike[..] {
            [] => Listing::Missing,
            alike if alike.iter().any(|key| !key.deleted) => Listing::Live,
            _ => Listing::Deleted,
        }
    }

    async fn find_copies(&self, key: &[u8]) -> Result<Found, InspectError> {
        key::check(key)?;
        let mut read = redis::cmd("GETRANGE");
        let head = self.server.call(read.arg(self.layout.clock()).arg(0).arg(287)).await?;
        let clock = read_clock(&bytes(head).unwrap_or_default(), self.server.live.identity.history);
        let primary = match self.kind {
            Kind::Primary => Some(key.to_vec()),
            Kind::Secondary => self.led_to(&self.layout, key).await?,
            Kind::Unproven => Some(self.led_to(&self.layout, key).await?.unwrap_or_else(|| key.to_vec())),
        };
        let mut found = Found { clock, primary, copies: Vec::new(), without: Vec::new() };
        let Some(primary) = &found.primary else { return Ok(found) };
        for fingerprint in found.clock.iter().flat_map(|ClockReading { fingerprints, .. }| fingerprints) {
            match self.copy(*fingerprint, primary).await? {
                Some(copy) => found.copies.push(copy),
                None => found.without.push(*fingerprint),
            }
        }
        Ok(found)
    }

    /// The primary key that an index key leads to.
    async fn led_to(&self, layout: &Layout, key: &[u8]) -> Result<Option<Vec<u8>>, InspectError> {
        let mut get = redis::cmd("GET");
        get.arg(layout.index(KeyRef { index: SOME, bytes: key }));
        match self.server.caller().call(&get).await {
            Ok(hint) => Ok(bytes(hint).and_then(|hint| Layout::primary_of(&hint).map(<[u8]>::to_vec))),
            // Somebody else's value, which services take for no index key either.
            Err(trouble) if trouble.what() == Some(What::WrongType) => Ok(None),
            Err(trouble) => Err(self.server.error(&trouble)),
        }
    }

    async fn copy(&self, fingerprint: u64, primary: &[u8]) -> Result<Option<FoundCopy>, InspectError> {
        let name = self.layout.object_of(fingerprint, primary);
        let mut both = redis::Pipeline::with_capacity(2);
        both.cmd("GET").arg(&name).cmd("PTTL").arg(&name);
        let replies = self.server.caller().pipeline(&both).await.map_err(|trouble| self.server.error(&trouble))?;
        let mut replies = replies.into_iter();
        let (object, stored) = match replies.next() {
            Some(Value::BulkString(stored)) => (FoundObject::read(fingerprint, &stored), stored),
            Some(Value::ServerError(error)) => {
                let trouble = redis::RedisError::from(error).into();
                match super::Trouble::what(&trouble) {
                    Some(What::WrongType) => (Err("a value of another Redis type".to_owned()), Vec::new()),
                    _ => return Err(self.server.error(&trouble)),
                }
            }
            _ => return Ok(None),
        };
        let expiry = match replies.next() {
            Some(Value::Int(left)) => {
                u64::try_from(left).map_or(Expiry::Never, |left| Expiry::In(Duration::from_millis(left)))
            }
            _ => Expiry::Unknown,
        };
        let bytes = stored.len() as u64;
        Ok(Some(FoundCopy { fingerprint, bytes, expiry, listing: Listing::Unreadable, object }))
    }

    /// Gives names to the positions of an object's keys, as far as index keys show them.
    async fn name_keys(&self, object: &mut FoundObject, primary: &[u8], asked: &[u8]) -> Result<(), InspectError> {
        let mut names: BTreeMap<u8, Option<&str>> = BTreeMap::new();
        if self.kind == Kind::Primary {
            names.insert(0, Some(&self.name));
        }
        let asked: Vec<u8> = object.alike(false, asked).map(|key| key.position).collect();
        if let (Kind::Secondary, [position]) = (self.kind, &asked[..]) {
            names.insert(*position, Some(&self.name));
        }
        for key in &object.keys {
            if key.position == 0 || names.contains_key(&key.position) {
                continue;
            }
            let mut leading = Vec::new();
            for name in &self.seen {
                let layout = self.server.layout(&self.cache, name);
                if self.led_to(&layout, &key.bytes).await?.as_deref() == Some(primary) {
                    leading.push(name.as_str());
                }
            }
            // Two: the object has the same key in both, and this one may be either.
            names.insert(key.position, if let [name] = leading[..] { Some(name) } else { None });
        }
        for key in &mut object.keys {
            key.index = names.get(&key.position).copied().flatten().map(str::to_owned);
        }
        Ok(())
    }
}
