//! [`Object`]: an object that is to be stored, with its keys.

use crate::codec::Value;
use crate::key::{KeyBuf, KeyRef};

/// An object on its way into a connector.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Object {
    /// The object's only key in the primary index.
    pub primary: Box<[u8]>,
    /// All other keys, without duplicates.
    pub secondary: Vec<KeyBuf>,
    /// The object's version, if the entry has versions.
    pub version: Option<u64>,
    /// The object itself.
    pub value: Value,
}

impl Object {
    /// An object with these keys, for code that calls a connector without a cache, such as a test.
    #[must_use]
    pub fn new(primary: impl Into<Box<[u8]>>, secondary: Vec<KeyBuf>, version: Option<u64>, value: Value) -> Self {
        Self { primary: primary.into(), secondary, version, value }
    }

    /// All keys, the primary one first.
    pub fn keys(&self) -> impl Iterator<Item = KeyRef<'_>> {
        std::iter::once(KeyRef { index: 0, bytes: &self.primary }).chain(self.secondary.iter().map(KeyBuf::as_ref))
    }
}
