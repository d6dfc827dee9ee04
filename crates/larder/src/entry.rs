//! What can be cached, and how it is found: [`Entry`], its [`Index`]es and the [`Keys`] of one object.

use crate::key::Key;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::Hash;

pub use larder_derive::Entry;

#[doc(hidden)]
pub mod derived;

/// A type whose objects can be cached; usually derived.
///
/// ```
/// use larder::Entry;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize, Entry)]
/// #[entry(cache = "instance")]
/// struct Instance {
///     #[key(primary)]
///     id: String,
///     #[key(index = "host")]
///     hosts: Vec<String>,
///     #[version]
///     sequence: u64,
///     name: String,
/// }
/// # use larder::Index;
/// assert_eq!(InstanceIndex::NAMES, ["id", "host"]);
/// ```
pub trait Entry: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The indexes of this type, the primary one first.
    type Index: Index;

    /// The name of the cache that holds these objects: letters, digits, `_`, `-` and `.`.
    const CACHE: &'static str;

    /// Raise it when the meaning of the stored data changes and its shape does not. The shape itself (names and types of
    /// the serialised fields, at any depth, and the indexes) is part of the fingerprint already.
    const REVISION: u32 = 0;

    /// Whether [`version`](Self::version) returns one.
    const VERSIONED: bool = false;

    /// Adds all keys of this object. Exactly one key of the primary index is expected; any number of the others.
    fn keys(&self, keys: &mut Keys<Self::Index>);

    /// The version of this state of the object; a higher one is newer. At most `i64::MAX`.
    fn version(&self) -> Option<u64> {
        None
    }

    /// What the object weighs in memory, in bytes, where the cache is bounded by weight. By default its serialised length.
    fn weight(&self) -> Option<u64> {
        None
    }
}

/// The indexes of one entry type: a small enum, derived together with [`Entry`].
pub trait Index: Copy + Eq + Hash + Debug + Send + Sync + 'static {
    /// The names, in the order of [`position`](Self::position); the primary index comes first.
    const NAMES: &'static [&'static str];

    /// The place of this index in [`NAMES`](Self::NAMES).
    fn position(self) -> usize;

    /// The index with this name.
    fn from_name(name: &str) -> Option<Self>;
}

/// Collects the keys of one object.
#[derive(Debug)]
pub struct Keys<I> {
    found: Vec<(I, Vec<u8>)>,
}

impl<I: Index> Keys<I> {
    /// Adds one key of `index`. A key that is there already is not added again.
    pub fn add(&mut self, index: I, key: impl Key) {
        let bytes = key.encode();
        if !self.found.iter().any(|(i, k)| *i == index && **k == *bytes) {
            self.found.push((index, bytes.to_vec()));
        }
    }

    /// The keys of `entry`, in the order it names them.
    pub fn of<E: Entry<Index = I>>(entry: &E) -> Vec<(I, Vec<u8>)> {
        let mut keys = Self { found: Vec::with_capacity(4) };
        entry.keys(&mut keys);
        keys.found
    }
}
