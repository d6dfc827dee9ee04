//! How objects become bytes and back ([`Codec`]), and what tells shapes apart ([`fingerprint`]).

use crate::entry::{Entry, index};
use std::any::{Any, type_name};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

mod faithful;
mod order_free_hash;
mod shape;

pub(crate) use order_free_hash::order_free_hash;

/// An object of a type that a connector does not know.
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
                    // What cannot be serialised weighs what was counted until then.
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

    /// The payload of a value. It was read back once, and gave a value with the same payload: what [`decode`](Self::decode) gives later is
    /// what was encoded, as far as the type's `Serialize` tells values apart. That costs about four times what writing alone
    /// costs, a microsecond more for 300 bytes; the ignored test `what_the_proof_costs` measures it.
    ///
    /// # Errors
    ///
    /// What would be lost: see [`EncodeError`].
    pub fn encode(&self, value: &Value) -> Result<Vec<u8>, EncodeError> {
        (self.encode)(value)
    }

    /// The payload of a value that nobody will read back, to compare it with others.
    pub(crate) fn write(&self, value: &Value) -> Result<Vec<u8>, EncodeError> {
        (self.write)(value)
    }

    /// The value of a payload that [`encode`](Self::encode) has made.
    ///
    /// # Errors
    ///
    /// Why it cannot be deserialised. The text may quote what is stored.
    pub fn decode(&self, payload: &[u8]) -> Result<Value, String> {
        (self.decode)(payload)
    }

    /// What a value weighs in memory, in bytes: what the entry says, or its serialised length.
    #[must_use]
    pub fn weigh(&self, value: &Value) -> u64 {
        (self.weigh)(value)
    }
}

/// Why an object cannot be stored as bytes. The table "What can be stored" at [`Entry`] says which types that concerns, and what to do.
///
/// The message names fields, and never what they hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value is not of the entry type.
    #[error("it is of another type")]
    OtherType,
    /// Its `Serialize` returned an error, whose text is here and may quote the object.
    #[error("its `Serialize` returns an error")]
    Unwritable(String),
    /// It holds a `Some` that would be read back as `None`. The names of the fields that lead there, as far as they are known.
    #[error(
        "{}holds `Some` of a value that is written as nil, such as `Some(None)` or `Some(())`, which would be read back as `None`",
        if .0.is_empty() { "it ".to_owned() } else { format!("`{}` ", .0) }
    )]
    SomeOfNothing(String),
    /// Its `Deserialize` does not take the bytes that its `Serialize` has written. The text of the error is here and may quote the object.
    #[error("its `Deserialize` refuses what its `Serialize` has written")]
    Unreadable(String),
    /// Its `Deserialize` makes another value of the bytes.
    #[error("its `Deserialize` makes another value of what its `Serialize` has written")]
    OtherValue,
    /// Its keys are too many or too long.
    #[error("{0}")]
    Keys(&'static str),
}

impl EncodeError {
    /// What serde has said, where it has. It may quote the object, so it belongs in no log above the level debug.
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

/// The payload of an object, if what is read back from it is the same object.
///
/// Objects cannot be compared, being of any type, so their payloads are.
fn proven<E: Entry>(object: &E) -> Result<Vec<u8>, EncodeError> {
    let payload = faithful::write(object, 0)?;
    let read: E = rmp_serde::from_slice(&payload).map_err(|error| EncodeError::Unreadable(error.to_string()))?;
    let again = faithful::write(&read, payload.len()).map_err(|_| EncodeError::OtherValue)?;
    if again == payload {
        return Ok(payload);
    }
    // A hash map comes in another order each time.
    let hash = order_free_hash(&payload);
    if order_free_hash(&again) == hash {
        return Ok(payload);
    }
    // What differs each time that one and the same object is written, as a ciphertext does, tells nothing of what was read.
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
