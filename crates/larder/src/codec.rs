//! How objects become bytes, and bytes become objects ([`Codec`]); and how the shape of an entry is identified ([`fingerprint`]).

use crate::entry::{Entry, index};
use std::any::{Any, type_name};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

mod faithful;
mod order_free_hash;
mod shape;

pub(crate) use order_free_hash::order_free_hash;

/// An object whose type a connector does not know.
pub type Value = Arc<dyn Any + Send + Sync>;

/// How the objects of one entry type become bytes, without naming the type.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    entry: &'static str,
    write: fn(&Value) -> Result<Vec<u8>, EncodeError>,
    encode: fn(&Value) -> Result<Vec<u8>, EncodeError>,
    decode: fn(&[u8]) -> Result<Value, String>,
    weigh: fn(&Value) -> u64,
}

impl Codec {
    /// The codec of an entry type: MessagePack with named fields.
    #[must_use]
    pub fn of<E: Entry>() -> Self {
        Self {
            entry: type_name::<E>(),
            write: |value| {
                rmp_serde::to_vec_named(entry::<E>(value)?).map_err(|error| EncodeError::Unwritable(error.to_string()))
            },
            encode: |value| proven(entry::<E>(value)?),
            decode: |bytes| match rmp_serde::from_slice::<E>(bytes) {
                Ok(object) => Ok(Arc::new(object)),
                Err(error) => Err(error.to_string()),
            },
            weigh: |value| match value.downcast_ref::<E>() {
                Some(object) => object.weight().unwrap_or_else(|| {
                    let mut length = ByteCount(0);
                    let mut serializer = rmp_serde::Serializer::new(&mut length).with_struct_map();
                    // An object that cannot be serialised weighs what was counted before the error.
                    let _ = object.serialize(&mut serializer);
                    length.0
                }),
                None => 0,
            },
        }
    }

    /// The name of the entry type, for messages.
    #[must_use]
    pub fn entry(&self) -> &'static str {
        self.entry
    }

    /// The payload of a value.
    ///
    /// Before it is returned, the payload is read back once, and the value that comes out must have the same payload. So
    /// [`decode`](Self::decode) later gives what was encoded, as far as the type's `Serialize` tells values apart. To encode costs about
    /// four times as much as to write alone, a microsecond more for 300 bytes. The ignored test `what_the_proof_costs` measures this.
    ///
    /// # Errors
    ///
    /// The value cannot be stored without loss: see [`EncodeError`].
    pub fn encode(&self, value: &Value) -> Result<Vec<u8>, EncodeError> {
        (self.encode)(value)
    }

    /// The payload of a value, only for a comparison with other payloads. It is not proven that it can be read back.
    pub(crate) fn write(&self, value: &Value) -> Result<Vec<u8>, EncodeError> {
        (self.write)(value)
    }

    /// The value of a payload that [`encode`](Self::encode) has made.
    ///
    /// # Errors
    ///
    /// The payload cannot be deserialised. The text says why, and may quote the payload.
    pub fn decode(&self, payload: &[u8]) -> Result<Value, String> {
        (self.decode)(payload)
    }

    /// What a value weighs in memory, in bytes: what [`Entry::weight`] says, or else the serialised length.
    #[must_use]
    pub fn weigh(&self, value: &Value) -> u64 {
        (self.weigh)(value)
    }
}

/// Why an object cannot be stored as bytes. The table "What can be stored" at [`Entry`] says which types are concerned, and what to do.
///
/// The message names fields, and never their contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value is not of the entry type.
    #[error("it is of another type")]
    OtherType,
    /// `Serialize` of the type returned an error. The text of the error is here, and may quote the object.
    #[error("its `Serialize` returns an error")]
    Unwritable(String),
    /// The object holds a `Some` that would be read back as `None`. The names of the fields that lead to it are here, as far as they are
    /// known.
    #[error(
        "{}holds `Some` of a value that is written as nil, such as `Some(None)` or `Some(())`, which would be read back as `None`",
        if .0.is_empty() { "it ".to_owned() } else { format!("`{}` ", .0) }
    )]
    SomeOfNothing(String),
    /// `Deserialize` of the type refuses the bytes that its `Serialize` has written. The text of the error is here, and may quote the
    /// object.
    #[error("its `Deserialize` refuses what its `Serialize` has written")]
    Unreadable(String),
    /// `Deserialize` of the type makes another value of the bytes that its `Serialize` has written.
    #[error("its `Deserialize` makes another value of what its `Serialize` has written")]
    OtherValue,
    /// The object has too many keys, or a key that is too long.
    #[error("{0}")]
    Keys(&'static str),
}

impl EncodeError {
    /// The text of serde's error, if there is one. It may quote the object, so do not log it above the level debug.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Unwritable(text) | Self::Unreadable(text) => Some(text),
            _ => None,
        }
    }
}

fn entry<E: Entry>(value: &Value) -> Result<&E, EncodeError> {
    value.downcast_ref().ok_or(EncodeError::OtherType)
}

/// The payload of an object, if reading it back gives the same object.
///
/// Objects of any type cannot be compared, so this compares the payload of the object with the payload of what was read back.
fn proven<E: Entry>(object: &E) -> Result<Vec<u8>, EncodeError> {
    let payload = faithful::write(object, 0)?;
    let read: E = rmp_serde::from_slice(&payload).map_err(|error| EncodeError::Unreadable(error.to_string()))?;
    let again = faithful::write(&read, payload.len()).map_err(|_| EncodeError::OtherValue)?;
    if again == payload {
        return Ok(payload);
    }
    // A hash map is written in another order each time, so payloads that differ only in their order are the same.
    let hash = order_free_hash(&payload);
    if order_free_hash(&again) == hash {
        return Ok(payload);
    }
    // An object may be written differently each time, for example when a field is encrypted. Then a difference proves nothing.
    let differs_each_time = order_free_hash(&faithful::write(object, payload.len())?) != hash;
    if differs_each_time { Ok(payload) } else { Err(EncodeError::OtherValue) }
}

struct ByteCount(u64);

impl std::io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Identifies the shape of an entry's stored bytes: releases whose shapes differ do not read each other's objects.
pub(crate) fn fingerprint<E: Entry>() -> u64 {
    let text = format!("L1\n{}\n{}\n{}", index::names::<E>().join(","), E::REVISION, shape::describe::<E>());
    xxh3_64(text.as_bytes())
}

#[cfg(test)]
mod tests;
