//! The keys of all objects, in shards. One lookup leads from any key to its object.
//!
//! A place holds a key, the object's value, and the way to the object's [`Pulse`](super::pulse::Pulse), in 64 bytes. So a lookup
//! fetches the place, and then the value's count of references, however many keys the object has. A long key costs one fetch more.
//! Primary keys have shards of their own, so that the many secondary keys do not spread the primary keys over more memory.
//!
//! # Concurrency
//!
//! A reader takes the lock of one shard, shared. A writer holds the connector's writer lock throughout, so that no other writer changes
//! the table between two of its steps; it holds the lock of a shard for one step only. No value is dropped under a lock, because a
//! value's drop may do anything.

use super::ages::Ages;
use super::pulse::{BLOCK, Block, Time};
use crate::clock::Clock;
use crate::contract::{KeyRef, Miss, Value};
use crate::sync::{RandomState, RwLock};
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// An object, by the place of its pulse.
pub(super) type Id = u32;

#[derive(Debug)]
pub(super) struct Table {
    /// The first half is for primary keys, the second half for secondary keys.
    shards: Box<[Shard]>,
    hashing: Hashing,
}

/// How keys become hashes.
#[derive(Debug)]
pub(super) enum Hashing {
    /// With a secret of this process, so that nobody can make up keys that share a hash.
    Secret(RandomState),
    /// As a server does for the marks in its log.
    #[allow(dead_code, reason = "only what has a server behind it needs this")]
    Marks(MarksOf),
}

/// How a server makes marks of keys.
#[allow(dead_code, reason = "only what has a server behind it needs this")]
pub(crate) enum MarksOf {
    /// XXH3, with a seed for each index.
    Seeds(Box<[u64]>),
    /// Some other function.
    Function(Box<dyn Fn(KeyRef<'_>) -> u64 + Send + Sync>),
}

impl std::fmt::Debug for MarksOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MarksOf").finish_non_exhaustive()
    }
}

impl Hashing {
    #[inline]
    fn of(&self, key: KeyRef<'_>) -> u64 {
        match self {
            Self::Secret(state) => {
                let mut hasher = state.build_hasher();
                hasher.write(key.bytes);
                hasher.write_u8(key.index);
                hasher.finish()
            }
            Self::Marks(MarksOf::Seeds(seeds)) => {
                xxh3_64_with_seed(key.bytes, seeds.get(usize::from(key.index)).copied().unwrap_or_default())
            }
            Self::Marks(MarksOf::Function(mark)) => mark(key),
        }
    }
}

/// Aligned, so that threads in different shards share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(RwLock<HashTable<Place>>);

#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Place {
    value: Value,
    block: Arc<Block>,
    /// When the object's max age is over, in ms of the clock.
    deadline: u64,
    key: Key,
}

/// A key in its place, with what else has room there: the index of the key, the place of the pulse in its block, and whether the key
/// was deleted. A get finds nothing by a deleted key. An invalidation still finds the object by a deleted key, because the object
/// still lists the key.
#[derive(Debug)]
enum Key {
    Short { deleted: bool, index: u8, pulse: u8, length: u8, bytes: [u8; SHORT] },
    Long { deleted: bool, index: u8, pulse: u8, bytes: Box<[u8]> },
}

/// The longest key, in bytes, that is stored in the place. Longer keys are allocated.
const SHORT: usize = 27;

/// What is the same in all places of an object.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) value: Value,
    pub(super) block: Arc<Block>,
    pub(super) pulse: u8,
    pub(super) deadline: u64,
}

impl Place {
    fn new(common: Common, key: KeyRef<'_>) -> Self {
        let Common { value, block, pulse, deadline } = common;
        let (deleted, index) = (false, key.index);
        let mut bytes = [0; SHORT];
        let key = match bytes.get_mut(..key.bytes.len()) {
            Some(room) => {
                room.copy_from_slice(key.bytes);
                // The length fits into a `u8`: the key is not longer than the room, which is shorter than 256.
                Key::Short { deleted, index, pulse, length: key.bytes.len() as u8, bytes }
            }
            None => Key::Long { deleted, index, pulse, bytes: key.bytes.into() },
        };
        Self { value, block, deadline, key }
    }

    #[inline]
    fn key(&self) -> KeyRef<'_> {
        match &self.key {
            Key::Short { index, length, bytes, .. } => {
                KeyRef { index: *index, bytes: bytes.get(..usize::from(*length)).unwrap_or_default() }
            }
            Key::Long { index, bytes, .. } => KeyRef { index: *index, bytes },
        }
    }

    #[inline]
    fn pulse(&self) -> u8 {
        let (Key::Short { pulse, .. } | Key::Long { pulse, .. }) = &self.key;
        *pulse
    }

    #[inline]
    fn deleted(&self) -> bool {
        let (Key::Short { deleted, .. } | Key::Long { deleted, .. }) = &self.key;
        *deleted
    }

    fn delete(&mut self) {
        let (Key::Short { deleted, .. } | Key::Long { deleted, .. }) = &mut self.key;
        *deleted = true;
    }

    fn id(&self) -> Id {
        self.block.number * BLOCK as u32 + u32::from(self.pulse())
    }
}

impl Table {
    pub(super) fn new(hashing: Hashing) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shards = (threads * 8).next_power_of_two().clamp(16, 256);
        Self { shards: (0..2 * shards).map(|_| Shard::default()).collect(), hashing }
    }

    #[inline]
    pub(super) fn hash(&self, key: KeyRef<'_>) -> u64 {
        self.hashing.of(key)
    }

    /// The value that a reader finds under this key, if it may be served.
    #[inline]
    pub(super) fn read(&self, key: KeyRef<'_>, ages: Ages, time: Time<'_>) -> Result<Value, Miss> {
        let hash = self.hash(key);
        let table = self.shard(hash, key.index).ok_or(Miss::Absent)?.0.read();
        let place =
            table.find(hash, |place| place.key() == key).filter(|place| !place.deleted()).ok_or(Miss::Absent)?;
        place.block.pulse(place.pulse()).serve(place.deadline, ages, time)?;
        Ok(place.value.clone())
    }

    /// The value under this key, if its object is still kept, also after its max age is over. This does not count as a use.
    pub(super) fn kept(&self, key: KeyRef<'_>, ages: Ages, clock: &Clock) -> Option<Value> {
        let hash = self.hash(key);
        let table = self.shard(hash, key.index)?.0.read();
        let place = table.find(hash, |place| place.key() == key).filter(|place| !place.deleted())?;
        let used = place.block.pulse(place.pulse()).live()?;
        let end = place.deadline.saturating_add(ages.kept).min(used.saturating_add(ages.last_use));
        (clock.now() < end).then(|| place.value.clone())
    }

    /// When the max age of the object under this key is over.
    pub(super) fn deadline(&self, key: KeyRef<'_>) -> Option<u64> {
        let hash = self.hash(key);
        let table = self.shard(hash, key.index)?.0.read();
        table.find(hash, |place| place.key() == key).map(|place| place.deadline)
    }

    /// The object that a writer finds by this key: also by a deleted key.
    pub(super) fn find(&self, key: KeyRef<'_>) -> Option<Id> {
        let hash = self.hash(key);
        let table = self.shard(hash, key.index)?.0.read();
        table.find(hash, |place| place.key() == key).map(Place::id)
    }

    /// Every object of which a key has this hash.
    #[allow(dead_code, reason = "only what has a server behind it needs this")]
    pub(super) fn with_hash(&self, hash: u64) -> Vec<Id> {
        let mut found = Vec::new();
        // Primary keys, and secondary ones.
        for index in [0, 1] {
            let Some(shard) = self.shard(hash, index) else { continue };
            let table = shard.0.read();
            let places = table.iter_hash(hash).filter(|place| self.hash(place.key()) == hash);
            found.extend(places.map(Place::id));
        }
        found
    }

    /// The object that a reader finds by this key: not by a deleted key.
    pub(super) fn find_undeleted(&self, key: KeyRef<'_>) -> Option<Id> {
        let hash = self.hash(key);
        let table = self.shard(hash, key.index)?.0.read();
        table.find(hash, |place| place.key() == key).filter(|place| !place.deleted()).map(Place::id)
    }

    /// Adds a key. The caller has made sure that the key is not in the table.
    pub(super) fn insert(&self, key: KeyRef<'_>, common: Common) {
        let hash = self.hash(key);
        if let Some(shard) = self.shard(hash, key.index) {
            let place = Place::new(common, key);
            shard.0.write().insert_unique(hash, place, |place| self.hash(place.key()));
        }
    }

    /// Removes the places of an object, found by the hashes of its keys. The first hash is that of the primary key.
    pub(super) fn remove(&self, id: Id, hashes: &[u64]) -> impl Iterator<Item = Place> {
        hashes.iter().enumerate().filter_map(move |(place, hash)| {
            let mut table = self.shard(*hash, u8::from(place > 0))?.0.write();
            table.find_entry(*hash, |place| place.id() == id).ok().map(|entry| entry.remove().0)
        })
    }

    /// Marks a key as deleted: from here on a get finds nothing by it. Returns the object of the key.
    pub(super) fn delete(&self, key: KeyRef<'_>) -> Option<Id> {
        let hash = self.hash(key);
        let mut table = self.shard(hash, key.index)?.0.write();
        let place = table.find_mut(hash, |place| place.key() == key && !place.deleted())?;
        place.delete();
        Some(place.id())
    }

    /// Takes all places out. The caller drops them when it holds no lock.
    pub(super) fn clear(&self) -> Vec<HashTable<Place>> {
        let take = |shard: &Shard| {
            let mut table = shard.0.write();
            // End the objects before their places leave. Otherwise an object whose key is gone here would still be found by its keys in
            // other shards.
            for place in &*table {
                place.block.pulse(place.pulse()).end();
            }
            std::mem::take(&mut *table)
        };
        self.shards.iter().map(take).collect()
    }

    /// How many keys there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.read().len()).sum()
    }

    #[inline]
    fn shard(&self, hash: u64, index: u8) -> Option<&Shard> {
        let half = self.shards.len() / 2;
        // Bits from the middle of the hash: the table itself uses the lowest and the highest bits.
        self.shards.get(((hash >> 32) as usize & (half - 1)) + if index == 0 { 0 } else { half })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_cache_line() {
        assert_eq!(size_of::<Place>(), 64);
    }

    #[test]
    fn a_key_of_any_length_is_what_it_was() {
        let common = Common { value: Arc::new(()), block: Arc::new(Block::new(3)), pulse: 7, deadline: 0 };
        for length in [1, SHORT - 1, SHORT, SHORT + 1, 300, 65_536] {
            let bytes = vec![b'x'; length];
            let key = KeyRef { index: 9, bytes: &bytes };
            let mut place = Place::new(common.clone(), key);
            assert_eq!(place.key(), key);
            assert_eq!(place.id(), 3 * 256 + 7);
            assert!(!place.deleted());
            place.delete();
            assert!(place.deleted());
        }
    }
}
