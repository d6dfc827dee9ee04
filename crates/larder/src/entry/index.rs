//! The indexes of an entry type, and their positions as they stand in a key.

use crate::contract::KeyBuf;
use crate::key::Key;
use std::fmt::Debug;
use std::hash::Hash;

/// The indexes of one entry type: a small enum, derived together with [`Entry`](super::Entry). An entry has 1 to 255 indexes: with another
/// number, a hand-written `Index` does not compile where its entry is cached.
pub trait Index: Copy + Eq + Hash + Debug + Send + Sync + 'static {
    /// The names, in the order of [`position`](Self::position); the primary index comes first.
    const NAMES: &'static [&'static str];

    /// The place of this index in [`NAMES`](Self::NAMES). A key whose index has no place there cannot be looked up or stored.
    fn position(self) -> usize;

    /// The index with this name.
    fn from_name(name: &str) -> Option<Self>;
}

/// The most indexes of an entry. The position of an index in a key is one byte, and 255 is the position of none.
pub(crate) const MOST: usize = 255;

/// The names of the indexes. Where their number does not fit into a key, this does not compile.
pub(crate) const fn names<I: Index>() -> &'static [&'static str] {
    const {
        assert!(!I::NAMES.is_empty(), "`Index::NAMES` is empty: an entry has at least one index, the primary one");
        assert!(I::NAMES.len() <= MOST, "`Index::NAMES` has more than 255 names: an entry has at most 255 indexes");
    }
    I::NAMES
}

/// The position of an index, as it stands in a key. `None`: `position` was written by hand, and returns a place that the names do not have.
#[inline]
pub(crate) fn position<I: Index>(index: I) -> Option<u8> {
    let position = index.position();
    // There are at most 255 names, so each of their places fits.
    if position < names::<I>().len() { u8::try_from(position).ok() } else { None }
}

/// The key as one of an index, also where the index has no position: then its bytes say which place it claims.
pub(crate) fn key_of<I: Index>(index: I, bytes: &[u8]) -> KeyBuf {
    match position(index) {
        Some(index) => KeyBuf { index, bytes: bytes.into() },
        None => KeyBuf { index: u8::MAX, bytes: (index.position(), bytes).encode().to_vec().into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    struct Place(usize);

    impl Index for Place {
        const NAMES: &'static [&'static str] = &["id", "host"];

        fn position(self) -> usize {
            self.0
        }

        fn from_name(_: &str) -> Option<Self> {
            None
        }
    }

    #[test]
    fn a_position_is_a_place_among_the_names() {
        assert_eq!([0, 1, 2, 254, 255, 256, 257, usize::MAX].map(|place| position(Place(place))), {
            let mut positions = [None; 8];
            (positions[0], positions[1]) = (Some(0), Some(1));
            positions
        });
    }

    #[test]
    fn keys_of_indexes_without_a_position_are_told_apart() {
        assert_eq!(key_of(Place(1), b"a"), KeyBuf { index: 1, bytes: b"a"[..].into() });
        let none = key_of(Place(256), b"a");
        assert_eq!(none.index, 255);
        assert_ne!(none, key_of(Place(257), b"a"));
        assert_ne!(none, key_of(Place(256), b"b"));
    }
}
