//! What an operator finds under a key, on any server: the objects of every release, as they are stored.
//!
//! `connector::redis::inspect` and `connector::postgres::inspect` find it.

use crate::connector::remote::envelope::{self, DecodeError};
use std::time::Duration;

/// What is found under one key.
#[derive(Clone, Debug)]
pub struct Found {
    /// Why services read nothing from this cache at the moment. `None`: they do read.
    pub distrusted: Option<&'static str>,
    /// The primary key that was looked up: the key itself, or the primary key that the index key leads to. `None`: there is no index
    /// key, or what it leads to is gone.
    pub primary: Option<Vec<u8>>,
    /// Whether an index key leads from the key to an object, which may be gone.
    pub by_index_key: bool,
    /// Whether a note says that the source has nothing under the key, so that services do not load it.
    pub noted: bool,
    /// The object with that primary key, once for each release that has stored it.
    pub copies: Vec<FoundCopy>,
    /// The releases that have used the cache and have not stored the object.
    pub without: Vec<u64>,
}

impl Found {
    /// The copies that are served under the key, as long as services trust the cache.
    pub fn served(&self) -> impl Iterator<Item = &FoundCopy> {
        self.copies.iter().filter(|copy| copy.listing == Listing::Live)
    }
}

/// An object as one release has stored it.
#[derive(Clone, Debug)]
pub struct FoundCopy {
    /// The fingerprint of the release's schema.
    pub fingerprint: u64,
    /// The name of the release's primary index, if the server has it.
    pub primary_index: Option<String>,
    /// How many bytes are stored.
    pub bytes: u64,
    /// When the server removes the copy.
    pub expiry: Expiry,
    /// Whether the copy is served under the key that was asked for.
    pub listing: Listing,
    /// The object, or why the bytes are no object. A service that reads damaged bytes removes them.
    pub object: Result<FoundObject, String>,
}

/// When the server removes an object: by max age, or by last-use age if nobody gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Never: the object has no ages.
    Never,
    /// After this time.
    In(Duration),
    /// The server does not let us ask (PTTL).
    Unknown,
}

/// Whether an object is served under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The object lists the key, and is served under it.
    Live,
    /// The object lists the key, but the key was deleted since.
    Deleted,
    /// The object does not list the key: the index key is out of date, and no service believes it.
    Missing,
    /// The object was invalidated, and the server has not removed it yet.
    Invalidated,
    /// The cache was truncated, and the server has not removed the object yet.
    Truncated,
    /// A higher version was set, and the server has not removed the object yet.
    Outdated,
    /// Its max age is over, and the server has not removed it yet.
    Expired,
    /// Its last-use age is over, and the server has not removed it yet.
    Unused,
    /// The object cannot be read.
    Unreadable,
}

/// What the bytes of an object say.
#[derive(Clone, Debug)]
pub struct FoundObject {
    /// The version of the object, if it has one.
    pub version: Option<u64>,
    /// When the max age of the object is over, in milliseconds of the server's clock since 1970. `None` also if only max age ends the
    /// object: then the server's expiry of the key says the same.
    pub deadline: Option<u64>,
    /// The keys of the object, the primary key first.
    pub keys: Vec<FoundKey>,
    /// The payload: MessagePack with named fields.
    pub payload: Vec<u8>,
}

/// A key that an object lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundKey {
    /// The name of the key's index. `None`: this is the primary key, and the object does not name the primary index.
    pub index: Option<String>,
    /// The key.
    pub bytes: Vec<u8>,
    /// Whether the key was deleted since the object was stored.
    pub deleted: bool,
}

impl FoundObject {
    /// Reads an object. If a release is given by its fingerprint, an object of another release is an error.
    pub(crate) fn read(fingerprint: Option<u64>, bytes: &[u8]) -> Result<Self, String> {
        let opened = envelope::open(bytes).map_err(|error| match error {
            DecodeError::OtherSchema => "written in another layout than this version of larder knows".to_owned(),
            error => error.to_string(),
        })?;
        if fingerprint.is_some_and(|fingerprint| opened.fingerprint != fingerprint) {
            return Err(format!("written by the release {:016x}, and stored as if by another", opened.fingerprint));
        }
        let keys = opened.keys.into_iter().map(|key| FoundKey {
            index: key.index.map(|name| String::from_utf8_lossy(name).into_owned()),
            bytes: key.bytes.to_vec(),
            deleted: key.deleted,
        });
        Ok(Self {
            version: opened.version,
            deadline: opened.deadline,
            keys: keys.collect(),
            payload: opened.payload.to_vec(),
        })
    }
}
