//! The bytes of an object, as connectors with a server store them.
//!
//! An object is self-validating: whoever reads it, through whatever key, finds in it the shape it was written with, the keys
//! it may be served under and a checksum, and takes nothing on trust. Integers are big-endian, since the server's scripts read
//! them too.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 2 | `L1`: this layout |
//! | 2 | 1 | encoding of the payload: 1 = MessagePack with named fields |
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
//! A secondary key is listed with the name of its index before it (`host:acme.example`), since other releases count their indexes
//! in another way, and have to find in it what they invalidate, delete and prune.

use crate::connector::{KeyRef, Object, Schema, Value};
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 2] = *b"L1";
const MESSAGEPACK: u8 = 1;
const DEADLINE: usize = 20;
const CHECKSUM: usize = 28;
const LIST_LENGTH: usize = 36;
const FLAGS: usize = 42;

/// How the key list says which key is the primary one.
pub(crate) const PRIMARY: u8 = 0;
pub(crate) const SECONDARY: u8 = 1;

/// What stands before a key in the key list: whether it is the primary one, and the name of its index.
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
    /// The payload could not be decoded although it is intact.
    #[error("the payload cannot be decoded: {0}")]
    Payload(String),
}

/// The bytes of an object.
pub(crate) fn encode(schema: &Schema, object: &Object) -> Result<Vec<u8>, String> {
    let payload = schema.codec.encode(&object.value)?;
    let keys = 1 + object.secondary.len();
    let listed = |key: KeyRef<'_>| {
        let (kind, index) = qualifier(schema.indexes, key.index);
        (kind, index, index.map_or(0, |index| index.len() + 1) + key.bytes.len())
    };
    let list: usize = object.keys().map(|key| 5 + listed(key).2).sum();
    let mut bytes = Vec::with_capacity(FLAGS + keys + list + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.push(MESSAGEPACK);
    bytes.push(u8::from(object.version.is_some()));
    bytes.extend_from_slice(&schema.fingerprint.to_be_bytes());
    bytes.extend_from_slice(&object.version.unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&u32::try_from(list).map_err(|_| "the keys are longer than 4 GiB")?.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(keys).map_err(|_| "more than 65,535 keys")?.to_be_bytes());
    bytes.resize(FLAGS + keys, 0);
    for key in object.keys() {
        let (kind, index, length) = listed(key);
        bytes.push(kind);
        bytes.extend_from_slice(&u32::try_from(length).map_err(|_| "a key over 4 GiB")?.to_be_bytes());
        if let Some(index) = index {
            bytes.extend_from_slice(index.as_bytes());
            bytes.push(b':');
        }
        bytes.extend_from_slice(key.bytes);
    }
    bytes.extend_from_slice(&payload);
    let checksum = checksum(&bytes, keys).ok_or("shorter than its header")?;
    if let Some(place) = bytes.get_mut(CHECKSUM..CHECKSUM + 8) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    Ok(bytes)
}

/// The object in `bytes`, if it may be served under `key`.
pub(crate) fn decode(schema: &Schema, bytes: &[u8], key: KeyRef<'_>) -> Result<Value, DecodeError> {
    use DecodeError::{Damaged, OtherKey, OtherSchema};
    if bytes.get(..2) != Some(&MAGIC) {
        return Err(if bytes.first() == Some(&b'L') { OtherSchema } else { Damaged("no header") });
    }
    if bytes.get(2) != Some(&MESSAGEPACK) || array(bytes, 4) != Some(schema.fingerprint.to_be_bytes()) {
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
            return schema.codec.decode(payload).map_err(DecodeError::Payload);
        }
    }
    Err(OtherKey)
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
