//! [`Marks`]: the 64 bits that stand for a key in the database.
//!
//! A mark is the first eight bytes of the SHA-256 of two netstrings, the names of cache and index, and the key. The database computes the same
//! (`larder.mark` in `sql/schema.sql`), so that a trigger or another client names a key as larder does. A B-tree entry has room for some 2,700
//! bytes, and a key may have 64 KiB: so the key itself stands in the payload only. Two keys with the same mark are forgotten together, and what is
//! served is decided by the whole key.

use crate::contract::{KeyRef, Object, Schema};
use sha2::{Digest, Sha256};

/// The marks of one cache.
#[derive(Clone)]
pub(crate) struct Marks {
    /// Of the cache as a whole.
    pub(crate) cache: i64,
    /// For each index, what its keys are hashed after.
    indexes: Box<[Sha256]>,
}

impl Marks {
    pub(crate) fn of(schema: &Schema) -> Self {
        let names = schema.indexes.iter().map(|index| begun(&schema.cache, index));
        Self { cache: ended(begun(&schema.cache, "")), indexes: names.collect() }
    }

    /// The mark of a key.
    pub(crate) fn mark(&self, key: KeyRef<'_>) -> i64 {
        // A key has an index of its schema.
        let Some(index) = self.indexes.get(usize::from(key.index)) else { return self.cache };
        let mut hash = index.clone();
        hash.update(key.bytes);
        ended(hash)
    }

    /// The mark of a primary key.
    pub(crate) fn primary(&self, bytes: &[u8]) -> i64 {
        self.mark(KeyRef { index: 0, bytes })
    }

    /// What an object is stored with: the mark of the cache, that of its primary key, and those of its other keys in their order.
    pub(crate) fn of_object(&self, object: &Object) -> Vec<i64> {
        let mut marks: Vec<i64> = std::iter::once(self.cache).chain(object.keys().map(|key| self.mark(key))).collect();
        if let Some(secondary) = marks.get_mut(2..) {
            secondary.sort_unstable();
        }
        marks
    }
}

/// The mark of a key, by the names of its cache and index.
pub(crate) fn named(cache: &str, index: &str, key: &[u8]) -> i64 {
    let mut hash = begun(cache, index);
    hash.update(key);
    ended(hash)
}

fn begun(cache: &str, index: &str) -> Sha256 {
    let mut hash = Sha256::new();
    for name in [cache, index] {
        hash.update(name.len().to_string());
        hash.update(b":");
        hash.update(name);
        hash.update(b",");
    }
    hash
}

fn ended(hash: Sha256) -> i64 {
    let digest = hash.finalize();
    digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::entry::color::Color;

    #[test]
    fn no_name_and_no_key_reaches_into_another() {
        let mark = |cache: &str, bytes: &[u8]| Marks::of(&Schema::of::<Color>().named(cache)).primary(bytes);
        assert_ne!(mark("a", b"b"), mark("a", b"c"));
        assert_ne!(mark("a", b"b"), mark("ab", b""));
        let marks = Marks::of(&Schema::of::<Color>().named("a"));
        assert_eq!(named("a", Color::INDEXES[0], b"k"), marks.primary(b"k"));
        assert_ne!(marks.cache, marks.primary(b""));
    }
}
