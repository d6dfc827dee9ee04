//! What an operator finds under a key: the objects of every release, as they are.

use super::{ClockReading, ClockState};
use crate::codec::envelope::{self, DecodeError};
use std::time::Duration;

/// What is found under one key.
#[derive(Clone, Debug)]
pub struct Found {
    /// The clock of the cache, at the same time or a little before.
    pub clock: Option<ClockReading>,
    /// The primary key that was looked for: the key itself, or where its index key leads. `None`: there is no index key.
    pub primary: Option<Vec<u8>>,
    /// The object with that primary key, once per release that has stored it.
    pub copies: Vec<FoundCopy>,
    /// The releases that have used the cache and have not stored it.
    pub without: Vec<u64>,
}

impl Found {
    /// The copies that are served under the key, as long as services trust the cache.
    pub fn served(&self) -> impl Iterator<Item = &FoundCopy> {
        self.copies.iter().filter(|copy| copy.listing == Listing::Live)
    }

    /// Why services read nothing from the whole cache at the moment, where they do not.
    #[must_use]
    pub fn distrusted(&self) -> Option<&'static str> {
        match &self.clock {
            None => Some("the clock of the cache is lost; the next service that connects or loads clears the cache"),
            Some(clock) if clock.state != ClockState::Settled => Some("the cache is being cleared"),
            Some(ClockReading { of_this_history: Some(false), .. }) => Some(
                "the server was restarted or its data replaced since the cache was last used; the next service that connects \
                 clears the cache",
            ),
            Some(_) => None,
        }
    }
}

/// An object as one release has stored it.
#[derive(Clone, Debug)]
pub struct FoundCopy {
    /// The fingerprint of the release's schema.
    pub fingerprint: u64,
    /// What is stored, in bytes.
    pub bytes: u64,
    /// When the server removes it.
    pub expiry: Expiry,
    /// Whether it is served under the key that was asked for.
    pub listing: Listing,
    /// What it is, or why its bytes are no object. A service that reads such bytes removes them.
    pub object: Result<FoundObject, String>,
}

/// When the server removes an object: by max age, or by last-use age if nobody gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It has no ages.
    Never,
    /// After this time.
    In(Duration),
    /// The server does not let us ask (PTTL).
    Unknown,
}

/// Whether an object is served under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It lists the key.
    Live,
    /// It lists the key, which was deleted since.
    Deleted,
    /// It does not list the key: the index key is out of date, and no service believes it.
    Missing,
    /// It cannot be read.
    Unreadable,
}

/// What an object says of itself.
#[derive(Clone, Debug)]
pub struct FoundObject {
    /// Its version, where it has one.
    pub version: Option<u64>,
    /// Until when it lives by max age, in milliseconds of the server's clock since 1970. Written only where there is a last-use age too.
    pub deadline: Option<u64>,
    /// Its keys, the primary one first.
    pub keys: Vec<FoundKey>,
    /// The payload: MessagePack with named fields.
    pub payload: Vec<u8>,
}

/// A key that an object lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundKey {
    /// The position of its index in the release's schema; 0 is the primary index.
    pub position: u8,
    /// The name of its index, where an index key shows it.
    pub index: Option<String>,
    /// The key.
    pub bytes: Vec<u8>,
    /// Whether it was deleted since the object was stored.
    pub deleted: bool,
}

impl FoundObject {
    pub(super) fn read(fingerprint: u64, bytes: &[u8]) -> Result<Self, String> {
        let opened = envelope::open(bytes).map_err(|error| match error {
            DecodeError::OtherSchema => "written in another layout than this version of larder knows".to_owned(),
            error => error.to_string(),
        })?;
        if opened.fingerprint != fingerprint {
            return Err(format!("written by the release {:016x}, and stored as if by another", opened.fingerprint));
        }
        let keys = opened.keys.into_iter().map(|(key, deleted)| FoundKey {
            position: key.index,
            index: None,
            bytes: key.bytes.to_vec(),
            deleted,
        });
        Ok(Self {
            version: opened.version,
            deadline: opened.deadline,
            keys: keys.collect(),
            payload: opened.payload.to_vec(),
        })
    }

    /// The keys with these bytes, in the primary index or in any other.
    pub(super) fn alike(&self, primary: bool, bytes: &[u8]) -> impl Iterator<Item = &FoundKey> {
        self.keys.iter().filter(move |key| (key.position == 0) == primary && key.bytes == bytes)
    }
}
