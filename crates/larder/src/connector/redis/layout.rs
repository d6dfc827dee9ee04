//! The names of all keys that a cache has on the server.
//!
//! | key | value |
//! |---|---|
//! | `prefix:cache:c` | the clock: epoch, sequence, schemas and the log of touched keys, in one string |
//! | `prefix:cache:o<fingerprint>:<primary key>` | an object, as `remote/envelope.rs` describes it |
//! | `prefix:cache:i<index>:<key>` | an index key, which holds a hint |
//! | `prefix:cache:v<primary key>` | the lowest version that may be stored, for a while after an invalidation asked for it |
//! | `prefix:cache:l<index>:<key>` | the lease of the node that loads what is missing under this key; expires by itself |
//! | `prefix:cache:s<random>` | a staged large object, or a record between scripts of one call (`store_many.lua`); expires by itself |
//! | `prefix:cache:n<fingerprint>` | the names of a release's indexes, for people (`index_names.rs`); stays when the cache is cleared |
//! | `prefix:cache:p` | up to where a feed was applied to this cache (`single/placing.rs`); stays when the cache is cleared |
//! | `prefix::w` | in strict mode, a key without meaning that is written before a WAIT; expires by itself |
//!
//! A *hint* is a label (4 bytes), the mark of the primary key (8 bytes), and the primary key. Index keys that were written together have one
//! label, and expire together. Label 0: they never expire.
//!
//! A *note* says that the source has nothing under a key. It stands in the object key of a primary key, or in the index key of a secondary
//! key, and has 12 bytes: the key's mark and `none`. No reader takes a note for an object or a hint.
//!
//! In a cluster the cache's name stands in braces, `prefix:{cache}:…`, and so does that of `prefix:{cache}::w`.
//!
//! The names of prefixes, caches and indexes contain no colon and no brace, and a key always comes last. So no key can reach into another name, whatever
//! bytes it contains.

use crate::connector::redis::index_names;
use crate::connector::remote::envelope;
use crate::contract::{KeyRef, Schema};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

#[derive(Debug)]
pub(crate) struct Layout {
    /// `prefix:cache:`
    base: String,
    /// The fingerprint as 16 hex digits.
    pub(crate) fingerprint: String,
    indexes: Names,
}

#[derive(Debug)]
enum Names {
    /// The names of a schema's indexes, by position.
    Schema(&'static [&'static str]),
    /// The one index that an operator has named. At position 0 it is the primary index, at any other position a secondary one.
    One(String),
}

impl Layout {
    /// `base` is what the names of all keys begin with: see [`base`].
    pub(crate) fn new(base: String, schema: &Schema) -> Self {
        Self { base, fingerprint: format!("{:016x}", schema.fingerprint), indexes: Names::Schema(schema.indexes) }
    }

    /// The layout for an operator, who knows names but no schema. The empty fingerprint registers nothing in the clock.
    pub(crate) fn without_schema(base: String, index: &str) -> Self {
        Self { base, fingerprint: String::new(), indexes: Names::One(index.to_owned()) }
    }

    /// The same cache, and another index that an operator has named.
    pub(crate) fn of_index(&self, index: &str) -> Self {
        Self::without_schema(self.base.clone(), index)
    }

    /// What the names of all keys begin with.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn clock(&self) -> String {
        format!("{}c", self.base)
    }

    /// The key that says up to where a feed was applied.
    pub(crate) fn place(&self) -> String {
        format!("{}p", self.base)
    }

    /// The beginning of the keys that hold the index names of releases. The fingerprint follows.
    pub(crate) fn index_names_prefix(&self) -> String {
        format!("{}n", self.base)
    }

    /// The key that holds the index names of a release.
    pub(crate) fn index_names_of(&self, fingerprint: u64) -> String {
        format!("{}{fingerprint:016x}", self.index_names_prefix())
    }

    /// The value of that key for this release. Empty if the layout has no schema.
    pub(crate) fn registered_names(&self) -> String {
        match &self.indexes {
            Names::Schema(names) => index_names::written(names),
            Names::One(_) => String::new(),
        }
    }

    /// The beginning of object keys. `schema:primary` follows.
    pub(crate) fn object_prefix(&self) -> String {
        format!("{}o", self.base)
    }

    /// The object key of a release that is not the layout's own.
    pub(crate) fn object_of(&self, fingerprint: u64, primary: &[u8]) -> Vec<u8> {
        [format!("{}{fingerprint:016x}:", self.object_prefix()).as_bytes(), primary].concat()
    }

    pub(crate) fn object(&self, primary: &[u8]) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.base.len() + 18 + primary.len());
        name.extend_from_slice(self.base.as_bytes());
        name.push(b'o');
        name.extend_from_slice(self.fingerprint.as_bytes());
        name.push(b':');
        name.extend_from_slice(primary);
        name
    }

    pub(crate) fn index(&self, key: KeyRef<'_>) -> Vec<u8> {
        let mut name = self.index_prefix(key.index).into_bytes();
        name.extend_from_slice(key.bytes);
        name
    }

    pub(crate) fn index_prefix(&self, index: u8) -> String {
        format!("{}i{}:", self.base, self.index_name(index))
    }

    pub(crate) fn floor_prefix(&self) -> String {
        format!("{}v", self.base)
    }

    pub(crate) fn floor(&self, primary: &[u8]) -> Vec<u8> {
        let mut name = self.floor_prefix().into_bytes();
        name.extend_from_slice(primary);
        name
    }

    pub(crate) fn lease(&self, key: KeyRef<'_>) -> Vec<u8> {
        let mut name = format!("{}l{}:", self.base, self.index_name(key.index)).into_bytes();
        name.extend_from_slice(key.bytes);
        name
    }

    /// The note that the source has nothing under this key.
    pub(crate) fn absence(&self, key: KeyRef<'_>) -> [u8; 12] {
        let mut absence = [0; 12];
        for (place, byte) in absence.iter_mut().zip(self.mark(key).into_iter().chain(*b"none")) {
            *place = byte;
        }
        absence
    }

    /// Whether the bytes are such a note, for whichever key.
    pub(crate) fn is_absence(bytes: &[u8]) -> bool {
        bytes.len() == 12 && bytes.ends_with(b"none")
    }

    pub(crate) fn staged(&self) -> String {
        format!("{}s{:016x}{:016x}", self.base, fastrand::u64(..), fastrand::u64(..))
    }

    /// A pattern that matches everything of this cache.
    pub(crate) fn all(&self) -> Vec<u8> {
        self.pattern(b"*")
    }

    /// A pattern that matches everything of this cache but its clock, its place and its index names.
    pub(crate) fn everything(&self) -> Vec<u8> {
        self.pattern(b"[oivsl]*")
    }

    /// A pattern that matches everything of this cache but its objects, its clock, its place and its index names.
    pub(crate) fn around_objects(&self) -> Vec<u8> {
        self.pattern(b"[ivsl]*")
    }

    /// A pattern that matches every index key.
    pub(crate) fn index_keys(&self) -> Vec<u8> {
        self.pattern(b"i*:*")
    }

    /// A pattern that matches every object and every index key.
    pub(crate) fn objects_and_index_keys(&self) -> Vec<u8> {
        self.pattern(b"[oi]*")
    }

    fn pattern(&self, rest: &[u8]) -> Vec<u8> {
        pattern(&self.base, rest)
    }

    /// How many bytes stand before index and key in the name of an index key. The rest is the key as an object lists it.
    pub(crate) fn before_index(&self) -> usize {
        self.base.len() + 1
    }

    /// A key as an object lists it.
    pub(crate) fn listed(&self, key: KeyRef<'_>) -> Vec<u8> {
        let (kind, index) = match &self.indexes {
            Names::Schema(indexes) => envelope::qualifier(indexes, key.index),
            Names::One(name) => envelope::qualifier(&["", name], key.index.min(1)),
        };
        let mut listed = vec![kind];
        if let Some(index) = index {
            listed.extend_from_slice(index.as_bytes());
            listed.push(b':');
        }
        listed.extend_from_slice(key.bytes);
        listed
    }

    fn index_name(&self, index: u8) -> &str {
        match &self.indexes {
            Names::Schema(indexes) => indexes.get(usize::from(index)).copied().unwrap_or("?"),
            Names::One(name) => name,
        }
    }

    /// The mark that stands for a key in the log of the clock. Every release computes the same mark for the same key, whatever it calls its
    /// primary index. If two keys have the same mark, they are fenced together: a fill may be refused that could have been accepted.
    pub(crate) fn mark(&self, key: KeyRef<'_>) -> [u8; 8] {
        xxh3_64_with_seed(key.bytes, self.seed(key.index)).to_be_bytes()
    }

    /// The seeds of the marks, one for each index.
    pub(crate) fn seeds(&self) -> Box<[u64]> {
        let count = match &self.indexes {
            Names::Schema(indexes) => u8::try_from(indexes.len()).unwrap_or(u8::MAX),
            Names::One(_) => 2,
        };
        (0..count).map(|index| self.seed(index)).collect()
    }

    fn seed(&self, index: u8) -> u64 {
        if index == 0 { 0 } else { xxh3_64(self.index_name(index).as_bytes()) }
    }

    /// The primary key that a hint, as an index key holds it, leads to.
    pub(crate) fn primary_of(hint: &[u8]) -> Option<&[u8]> {
        hint.get(12..).filter(|primary| !primary.is_empty())
    }
}

/// What the names of all keys of a cache begin with.
pub(crate) fn base(prefix: &str, cache: &str) -> String {
    format!("{prefix}:{cache}:")
}

/// The same in a cluster: the cache's name is the hash tag of all its keys, so that they are in one slot, and every script finds them on one node.
pub(crate) fn base_in_cluster(prefix: &str, cache: &str) -> String {
    format!("{prefix}:{{{cache}}}:")
}

/// A pattern that matches `before` literally, and then `rest`.
pub(crate) fn pattern(before: &str, rest: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(before.len() + rest.len());
    for byte in before.bytes() {
        if b"\\*?[]^-".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.extend_from_slice(rest);
    pattern
}
