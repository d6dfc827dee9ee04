//! What an operator finds under a key, on any server: the objects of every release, as they are stored.
//!
//! `connector::redis::inspect` and `connector::postgres::inspect` find it.

use crate::connector::remote::envelope::{self, DecodeError};
use crate::key::Key;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
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

    /// Whether the object has a field of this name, and the field holds its primary key.
    #[cfg(feature = "redis")]
    pub(crate) fn primary_is_field(&self, name: &str) -> bool {
        let primary = self.keys.iter().find(|key| key.index.is_none());
        let mut reader = rmp_serde::Deserializer::from_read_ref(&*self.payload);
        // A limit of depth, so that no bytes whatever can exhaust the stack.
        reader.set_max_depth(DEEPEST);
        let field = BTreeMap::<String, AsKey>::deserialize(&mut reader)
            .ok()
            .and_then(|mut fields| fields.remove(name))
            .and_then(|AsKey(bytes)| bytes);
        field.is_some() && field.as_ref() == primary.map(|key| &key.bytes)
    }
}

/// How deep values may be nested in an object whose fields are read.
const DEEPEST: usize = 128;

/// The value of a field, encoded as a key. `None`: a value of this type cannot be a key.
struct AsKey(Option<Vec<u8>>);

impl<'de> Deserialize<'de> for AsKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyField)
    }
}

struct AnyField;

impl<'de> Visitor<'de> for AnyField {
    type Value = AsKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<AsKey, E> {
        Ok(AsKey(Some(text.encode().to_vec())))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<AsKey, E> {
        Ok(AsKey(Some(bytes.encode().to_vec())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<AsKey, E> {
        Ok(AsKey(Some(number.encode().to_vec())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<AsKey, E> {
        Ok(AsKey(Some(number.encode().to_vec())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<AsKey, E> {
        Ok(AsKey(Some(value.encode().to_vec())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<AsKey, E> {
        Ok(AsKey(None))
    }

    fn visit_unit<E>(self) -> Result<AsKey, E> {
        Ok(AsKey(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<AsKey, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(AsKey(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<AsKey, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(AsKey(None))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<AsKey, D::Error> {
        IgnoredAny::deserialize(extension).map(|_| AsKey(None))
    }
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;
    use serde::Serialize;

    #[test]
    fn a_field_that_holds_the_primary_key() {
        #[derive(Serialize)]
        struct Object {
            id: &'static str,
            number: u64,
            below: i8,
            rest: (Option<()>, f32, Vec<u8>, BTreeMap<u8, u8>),
        }
        let object = |primary: &str| FoundObject {
            version: None,
            deadline: None,
            keys: vec![
                FoundKey { index: Some("host".to_owned()), bytes: b"b".to_vec(), deleted: false },
                FoundKey { index: None, bytes: primary.as_bytes().to_vec(), deleted: false },
            ],
            payload: rmp_serde::to_vec_named(&Object {
                id: "a",
                number: u64::MAX,
                below: -7,
                rest: (None, 0.1, vec![1], BTreeMap::from([(1, 2)])),
            })
            .unwrap(),
        };
        for (name, primary) in [("id", "a"), ("number", "18446744073709551615"), ("below", "-7")] {
            assert!(object(primary).primary_is_field(name), "{name}");
        }
        for (name, primary) in [("id", "b"), ("ids", "a"), ("rest", "a"), ("number", "a")] {
            assert!(!object(primary).primary_is_field(name), "{name}");
        }
        let mut other = object("a");
        other.payload = b"\xa1a".to_vec();
        assert!(!other.primary_is_field("id"), "no fields at all");
        other.payload = [&b"\x81\xa2id"[..], &[0x91; 100_000]].concat();
        assert!(!other.primary_is_field("id"), "and no end");
    }
}
