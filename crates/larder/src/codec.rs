//! How objects become bytes and back ([`Codec`]), what tells shapes apart ([`fingerprint`]), and the bytes that a connector with a
//! server stores (`codec/envelope.rs`).

use crate::connector::Value;
use crate::entry::{Entry, Index};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

#[cfg(feature = "redis")]
pub(crate) mod envelope;
mod shape;

/// How the objects of one entry type become bytes, without naming the type.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    encode: fn(&Value) -> Result<Vec<u8>, String>,
    decode: fn(&[u8]) -> Result<Value, String>,
    weigh: fn(&Value) -> u64,
}

impl Codec {
    /// The codec of an entry type: MessagePack with named fields.
    #[must_use]
    pub fn of<E: Entry>() -> Self {
        Self {
            encode: |value| match value.downcast_ref::<E>() {
                Some(object) => rmp_serde::to_vec_named(object).map_err(|error| error.to_string()),
                None => Err("a value of another type".to_owned()),
            },
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

    /// The payload of a value.
    ///
    /// # Errors
    ///
    /// Why it cannot be serialised.
    pub fn encode(&self, value: &Value) -> Result<Vec<u8>, String> {
        (self.encode)(value)
    }

    /// The value of a payload that [`encode`](Self::encode) has made.
    ///
    /// # Errors
    ///
    /// Why it cannot be deserialised.
    pub fn decode(&self, payload: &[u8]) -> Result<Value, String> {
        (self.decode)(payload)
    }

    /// What a value weighs in memory, in bytes: what the entry says, or its serialised length.
    #[must_use]
    pub fn weigh(&self, value: &Value) -> u64 {
        (self.weigh)(value)
    }
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
    let text = format!("L1\n{}\n{}\n{}", E::Index::NAMES.join(","), E::REVISION, shape::describe::<E>());
    xxh3_64(text.as_bytes())
}
