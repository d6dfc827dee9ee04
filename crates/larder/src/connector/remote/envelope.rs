//! The bytes of an object, as connectors with a server store them.
//!
//! An object is self-validating. A reader, whichever key it came by, finds in the bytes the shape that they were written with, the keys
//! that the object may be served under, and a checksum. The reader takes nothing on trust. Integers are big-endian, because the server's
//! scripts read them, too.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 2 | `L1`: this layout |
//! | 2 | 1 | encoding of the payload: 1 = MessagePack with named fields; plus 128, if the object is kept beyond its deadline |
//! | 3 | 1 | 1 if a version follows, else 0 |
//! | 4 | 8 | fingerprint of the entry's schema |
//! | 12 | 8 | version |
//! | 20 | 8 | deadline by max age, milliseconds of the server's clock, 0 = none; written by the server, not in the checksum |
//! | 28 | 8 | checksum: XXH3-64 of everything but itself, the deadline and the key flags |
//! | 36 | 4 | length of the key list, in bytes |
//! | 40 | 2 | number of keys, *n* |
//! | 42 | *n* | key flags: 0 = live, else deleted since; written by the server, not in the checksum |
//! | 42 + *n* | | key list: for each key 0 = primary or 1 = secondary (1), a length (4), and so many bytes; the primary key first |
//! | | | payload |
//!
//! A secondary key is listed after the name of its index (`host:acme.example`), not after a number: other releases may number their
//! indexes in another way, and must find in the list what they invalidate, delete and prune.

use crate::codec::EncodeError;
#[cfg(any(feature = "redis", feature = "postgres"))]
use crate::contract::KeyBuf;
use crate::contract::{KeyRef, Object, Schema, Value};
use crate::protection::{Protection, holds};
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 2] = *b"L1";
const MESSAGEPACK: u8 = 1;
const KEPT: u8 = 128;
const DEADLINE: usize = 20;
const CHECKSUM: usize = 28;
const LIST_LENGTH: usize = 36;
const FLAGS: usize = 42;

/// How the key list says which key is the primary one.
pub(crate) const PRIMARY: u8 = 0;
pub(crate) const SECONDARY: u8 = 1;

/// What stands before a key in the key list: whether it is the primary key, and the name of the index of a secondary key.
pub(crate) fn qualifier<'a>(indexes: &[&'a str], index: u8) -> (u8, Option<&'a str>) {
    match index {
        0 => (PRIMARY, None),
        _ => (SECONDARY, Some(indexes.get(usize::from(index)).copied().unwrap_or("?"))),
    }
}

/// Why stored bytes are not an object that can be served under the key they were found by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The object does not list the key, or the key was deleted: an ordinary miss.
    #[error("the object does not list this key")]
    OtherKey,
    /// The bytes are cut short, or their checksum is wrong, or they are no object at all.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// The bytes were written with another schema or another layout.
    #[error("written with another schema")]
    OtherSchema,
    /// The payload could not be decoded although it is intact. The text may quote it.
    #[error("the payload cannot be decoded")]
    Payload(String),
}

/// An object with more keys is not stored: a server handles all keys of an object in one step, which holds up others.
pub(crate) const MAX_KEYS: usize = 1024;

/// The bytes of an object, if they can be stored. The reason why they cannot is counted and told.
pub(crate) fn storable(schema: &Schema, object: &Object) -> Option<Vec<u8>> {
    let (cache, stats) = (&*schema.cache, &schema.stats);
    let keys = 1 + object.secondary.len();
    if keys > MAX_KEYS {
        stats.unfit(cache, "it has too many keys", format_args!("{keys} of them, and {MAX_KEYS} at most"));
        return None;
    }
    match encode(schema, object) {
        Ok(bytes) if bytes.len() as u64 <= schema.max_object_size => Some(bytes),
        Ok(bytes) => {
            let (size, limit) = (bytes.len(), schema.max_object_size);
            stats.unfit(cache, "it is too large", format_args!("{size} bytes, and {limit} at most"));
            None
        }
        Err(error) => {
            let entry = schema.codec.entry();
            let details = format_args!("{entry}: {error} (see `larder::Entry`, \"What can be stored\")");
            stats.unfit(cache, "its bytes would not keep it", details);
            tracing::debug!(cache, entry, %error, detail = error.detail(), "an object cannot be cached");
            None
        }
    }
}

/// The bytes of an object.
pub(crate) fn encode(schema: &Schema, object: &Object) -> Result<Vec<u8>, EncodeError> {
    let keys_over_4_gib = |_| EncodeError::Keys("its keys are longer than 4 GiB");
    let payload = schema.codec.encode(&object.value)?;
    let keys = 1 + object.secondary.len();
    let listed = |key: KeyRef<'_>| {
        let (kind, index) = qualifier(schema.indexes, key.index);
        (kind, index, index.map_or(0, |index| index.len() + 1) + key.bytes.len())
    };
    let list: usize = object.keys().map(|key| 5 + listed(key).2).sum();
    let mut bytes = Vec::with_capacity(FLAGS + keys + list + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.push(if schema.kept_after().is_zero() { MESSAGEPACK } else { MESSAGEPACK | KEPT });
    bytes.push(u8::from(object.version.is_some()));
    bytes.extend_from_slice(&schema.fingerprint.to_be_bytes());
    bytes.extend_from_slice(&object.version.unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&u32::try_from(list).map_err(keys_over_4_gib)?.to_be_bytes());
    let count = u16::try_from(keys).map_err(|_| EncodeError::Keys("it has more than 65,535 keys"))?;
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.resize(FLAGS + keys, 0);
    for key in object.keys() {
        let (kind, index, length) = listed(key);
        bytes.push(kind);
        bytes.extend_from_slice(&u32::try_from(length).map_err(keys_over_4_gib)?.to_be_bytes());
        if let Some(index) = index {
            bytes.extend_from_slice(index.as_bytes());
            bytes.push(b':');
        }
        bytes.extend_from_slice(key.bytes);
    }
    bytes.extend_from_slice(&payload);
    if let Some(checksum) = checksum(&bytes, keys)
        && let Some(place) = bytes.get_mut(CHECKSUM..CHECKSUM + 8)
    {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    Ok(bytes)
}

/// The object in `bytes`, if it may be served under `key`.
pub(crate) fn decode(schema: &Schema, bytes: &[u8], key: KeyRef<'_>) -> Result<Value, DecodeError> {
    schema.codec.decode(payload(schema, bytes, key)?).map_err(DecodeError::Payload)
}

/// The object in `bytes`, which were decoded to `value`, with all keys that it lists. `None`: one of its keys was deleted, or belongs to an index that this
/// release does not have.
#[cfg(any(feature = "redis", feature = "postgres"))]
pub(crate) fn whole(schema: &Schema, bytes: &[u8], value: Value) -> Option<Object> {
    let version = (bytes.get(3) == Some(&1)).then(|| array(bytes, 12).map(u64::from_be_bytes)).flatten();
    let count = usize::from(u16::from_be_bytes(array(bytes, LIST_LENGTH + 4)?));
    if bytes.get(FLAGS..FLAGS + count)?.iter().any(|flag| *flag != 0) {
        return None;
    }
    let mut list = bytes.get(FLAGS + count..)?;
    let (mut primary, mut secondary) = (None, Vec::with_capacity(count.saturating_sub(1)));
    for _ in 0..count {
        let (kind, listed, rest) = split_key(list)?;
        list = rest;
        if kind == PRIMARY {
            primary = Some(listed.into());
            continue;
        }
        let (name, key) = listed.split_at(listed.iter().position(|byte| *byte == b':')?);
        let index = schema.indexes.iter().position(|index| index.as_bytes() == name)?;
        secondary.push(KeyBuf { index: u8::try_from(index).ok()?, bytes: key.get(1..)?.into() });
    }
    Some(Object { primary: primary?, secondary, version, value })
}

/// The payload of the object in `bytes`, if it may be served under `key`.
pub(crate) fn payload<'a>(schema: &Schema, bytes: &'a [u8], key: KeyRef<'_>) -> Result<&'a [u8], DecodeError> {
    use DecodeError::{Damaged, OtherKey, OtherSchema};
    if bytes.get(..2) != Some(&MAGIC) {
        return Err(if bytes.first() == Some(&b'L') { OtherSchema } else { Damaged("no header") });
    }
    if bytes.get(2).is_none_or(|encoding| encoding & !KEPT != MESSAGEPACK)
        || array(bytes, 4) != Some(schema.fingerprint.to_be_bytes())
    {
        return Err(OtherSchema);
    }
    let short = Damaged("truncated");
    let (Some(list_length), Some(keys)) = (array(bytes, LIST_LENGTH), array(bytes, LIST_LENGTH + 4)) else {
        return Err(short);
    };
    let keys = usize::from(u16::from_be_bytes(keys));
    if array(bytes, CHECKSUM) != checksum(bytes, keys).map(u64::to_be_bytes) {
        return Err(Damaged("the checksum does not match"));
    }
    let list_start = FLAGS + keys;
    let list_end = list_start.saturating_add(u32::from_be_bytes(list_length) as usize);
    let (Some(mut list), Some(payload)) = (bytes.get(list_start..list_end), bytes.get(list_end..)) else {
        return Err(short);
    };
    let (kind, index) = qualifier(schema.indexes, key.index);
    for place in 0..keys {
        let Some((found, listed, rest)) = split_key(list) else { return Err(short) };
        list = rest;
        let listed = match index {
            None => Some(listed),
            Some(index) => listed.strip_prefix(index.as_bytes()).and_then(|listed| listed.strip_prefix(b":")),
        };
        if found == kind && listed == Some(key.bytes) {
            if bytes.get(FLAGS + place) != Some(&0) {
                return Err(OtherKey);
            }
            return Ok(payload);
        }
    }
    if !holds(Protection::Validate) {
        return Ok(payload);
    }
    Err(OtherKey)
}

#[cfg(feature = "postgres")]
/// The primary key of an object that was decoded.
pub(crate) fn primary(bytes: &[u8]) -> Option<&[u8]> {
    let keys = array(bytes, LIST_LENGTH + 4).map(u16::from_be_bytes)?;
    let (kind, primary, _) = split_key(bytes.get(FLAGS + usize::from(keys)..)?)?;
    (kind == PRIMARY).then_some(primary)
}

#[cfg(any(feature = "redis", test))]
/// When the max age of an object is over, in milliseconds of the server's clock; and whether the object is kept beyond that time, so
/// that a reader must compare the time. `None`: the server had no reason to write the time.
pub(crate) fn deadline(bytes: &[u8]) -> Option<(u64, bool)> {
    let deadline = array(bytes, DEADLINE).map(u64::from_be_bytes).filter(|deadline| *deadline != 0)?;
    Some((deadline, bytes.get(2).is_some_and(|encoding| encoding & KEPT != 0)))
}

/// A stored object, read without knowing its type and without a key that it was asked for by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    pub(crate) fingerprint: u64,
    pub(crate) version: Option<u64>,
    /// When the max age is over, in milliseconds of the server's clock. `None`: the server had no reason to write the time.
    pub(crate) deadline: Option<u64>,
    /// All keys, the primary key first.
    pub(crate) keys: Vec<Listed<'a>>,
    pub(crate) payload: &'a [u8],
}

/// A key that an object lists.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed<'a> {
    /// The name of the key's index. `None`: this is the primary key, whose index is not named.
    pub(crate) index: Option<&'a [u8]>,
    pub(crate) bytes: &'a [u8],
    pub(crate) deleted: bool,
}

/// Opens an object of any schema.
pub(crate) fn open(bytes: &[u8]) -> Result<Opened<'_>, DecodeError> {
    use DecodeError::{Damaged, OtherSchema};
    if bytes.get(..2) != Some(&MAGIC) {
        return Err(if bytes.first() == Some(&b'L') { OtherSchema } else { Damaged("no header") });
    }
    let short = || Damaged("truncated");
    let number = |at| array(bytes, at).map(u64::from_be_bytes).ok_or_else(short);
    let (fingerprint, version, deadline) = (number(4)?, number(12)?, number(DEADLINE)?);
    let list_length = array(bytes, LIST_LENGTH).map(u32::from_be_bytes).ok_or_else(short)?;
    let count = array(bytes, LIST_LENGTH + 4).map(u16::from_be_bytes).map(usize::from).ok_or_else(short)?;
    if array(bytes, CHECKSUM) != checksum(bytes, count).map(u64::to_be_bytes) {
        return Err(Damaged("the checksum does not match"));
    }
    if bytes.get(2).is_none_or(|encoding| encoding & !KEPT != MESSAGEPACK) {
        return Err(OtherSchema);
    }
    let list_start = FLAGS + count;
    let list_end = list_start.saturating_add(list_length as usize);
    let mut list = bytes.get(list_start..list_end).ok_or_else(short)?;
    let payload = bytes.get(list_end..).ok_or_else(short)?;
    let mut keys = Vec::with_capacity(count);
    for place in 0..count {
        let (kind, listed, rest) = split_key(list).ok_or_else(short)?;
        list = rest;
        let colon = listed.iter().position(|byte| *byte == b':').filter(|_| kind != PRIMARY);
        let (index, bytes_of_key) = match colon.map(|colon| listed.split_at(colon)) {
            Some((index, key)) => (Some(index), key.get(1..).unwrap_or_default()),
            None if kind == PRIMARY => (None, listed),
            None => return Err(Damaged("a secondary key without the name of its index")),
        };
        let deleted = bytes.get(FLAGS + place) != Some(&0);
        keys.push(Listed { index, bytes: bytes_of_key, deleted });
    }
    let version = (bytes.get(3) == Some(&1)).then_some(version);
    Ok(Opened { fingerprint, version, deadline: (deadline != 0).then_some(deadline), keys, payload })
}

fn split_key(list: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let kind = *list.first()?;
    let length = u32::from_be_bytes(array(list, 1)?) as usize;
    let (bytes, rest) = list.get(5..)?.split_at_checked(length)?;
    Some((kind, bytes, rest))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn checksum(bytes: &[u8], keys: usize) -> Option<u64> {
    let mut hash = Xxh3::new();
    hash.update(bytes.get(..DEADLINE)?);
    hash.update(bytes.get(LIST_LENGTH..FLAGS)?);
    hash.update(bytes.get(FLAGS + keys..)?);
    Some(hash.digest())
}

/// Gives the bytes the head and the checksum of an object, if they are long enough. For fuzzing: random bytes would never get past the
/// checksum.
#[cfg(any(test, fuzzing))]
pub(crate) fn seal(bytes: &mut [u8], fingerprint: u64) -> bool {
    let Some(keys) = array(bytes, LIST_LENGTH + 4).map(u16::from_be_bytes) else { return false };
    let head = [&MAGIC[..], &[MESSAGEPACK, bytes.get(3).copied().unwrap_or(0)], &fingerprint.to_be_bytes()].concat();
    if let Some(place) = bytes.get_mut(..head.len()) {
        place.copy_from_slice(&head);
    }
    let Some(checksum) = checksum(bytes, usize::from(keys)) else { return false };
    if let Some(place) = bytes.get_mut(CHECKSUM..CHECKSUM + 8) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::KeyBuf;
    use crate::{Entry, entry};
    use std::sync::Arc;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Color(String);

    impl Entry for Color {
        const CACHE: &'static str = "color";
        const INDEXES: &'static [&'static str] = &["name", "hex", "host"];
        fn keys(&self, keys: &mut entry::Keys<Self>) {
            keys.add(entry::Index::at::<0>(), &self.0);
        }
    }

    fn stored() -> Vec<u8> {
        let secondary = vec![KeyBuf { index: 2, bytes: b"ho:\0st"[..].into() }];
        let value = Arc::new(Color("barley".to_owned()));
        let object = Object { primary: b"1:"[..].into(), secondary, version: Some(7), value };
        encode(&Schema { fingerprint: 0xabcd, ..Schema::of::<Color>() }, &object).unwrap()
    }

    #[test]
    fn an_object_is_opened_without_its_type() {
        let mut bytes = stored();
        // The server writes the deadline and the key flags.
        bytes[DEADLINE + 7] = 9;
        bytes[FLAGS + 1] = 1;
        let opened = open(&bytes).unwrap();
        assert_eq!((opened.fingerprint, opened.version, opened.deadline), (0xabcd, Some(7), Some(9)));
        assert_eq!(opened.payload, b"\xa6barley");
        let primary = Listed { index: None, bytes: b"1:", deleted: false };
        let host = Listed { index: Some(b"host"), bytes: b"ho:\0st", deleted: true };
        assert_eq!(opened.keys, [primary, host]);
    }

    #[test]
    fn what_is_no_whole_object_is_not_opened() {
        let bytes = stored();
        for length in 0..bytes.len() {
            assert!(open(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        for at in (0..DEADLINE).chain(CHECKSUM..FLAGS).chain(FLAGS + 2..bytes.len()) {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            assert!(open(&other).is_err(), "byte {at} is another");
        }
    }
}
