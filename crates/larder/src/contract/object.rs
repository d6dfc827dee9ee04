//! [`Object`]: what is stored.

use crate::codec::Value;
use crate::key::{KeyBuf, KeyRef};

/// An object on its way into a connector.
#[derive(Clone, Debug)]
pub struct Object {
    /// The one key of the primary index.
    pub primary: Box<[u8]>,
    /// All other keys, without duplicates.
    pub secondary: Vec<KeyBuf>,
    /// Its version, where the entry has one.
    pub version: Option<u64>,
    /// The object itself.
    pub value: Value,
}

impl Object {
    /// All keys, the primary one first.
    pub fn keys(&self) -> impl Iterator<Item = KeyRef<'_>> {
        std::iter::once(KeyRef { index: 0, bytes: &self.primary }).chain(self.secondary.iter().map(KeyBuf::as_ref))
    }
}
