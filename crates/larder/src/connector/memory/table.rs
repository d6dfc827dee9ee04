//! Every key of every object, in shards: one lookup leads from any key to its object.
//!
//! A place holds its key, the object's value and the way to its [`Pulse`](super::pulse::Pulse), in 64 bytes: what a lookup has to
//! fetch is the place and the value's count of references, in that order, however many keys the object has. Longer keys
//! are one fetch more. Primary keys have shards of their own, so that the many secondary ones do not spread them over
//! more memory.
//!
//! # Concurrency
//!
//! Readers take a shard's lock shared. Whoever changes the table holds the connector's writer lock, so that
//! nothing changes between two of their steps; a shard's own lock is held for one step only. Nothing is dropped under a lock:
//! what a value does when it is dropped is its own business.

use super::ages::Ages;
use super::pulse::{BLOCK, Block};
use crate::clock::Clock;
use crate::contract::{KeyRef, Miss, Value};
use crate::sync::{RandomState, RwLock};
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// An object, by the place of its pulse.
pub(super) type Id = u32;

#[derive(Debug)]
pub(super) struct Table {
    /// First those of primary keys, then as many of secondary keys.
    shards: Box<[Shard]>,
    hasher: RandomState,
}

/// Apart from its neighbours, so that threads in different shards share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(RwLock<HashTable<Place>>);

#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Place {
    value: Value,
    block: Arc<Block>,
    /// When the object's max age is over, by the clock.
    deadline: u64,
    key: Key,
}

/// A key as it lies in its place, and what else has room there: the index it is of, where in its block the pulse is, and whether
/// it was deleted. A deleted key still leads an invalidation to its object, as the object lists it all the same, and a get to
/// nothing.
#[derive(Debug)]
enum Key {
    Short { deleted: bool, index: u8, pulse: u8, length: u8, bytes: [u8; SHORT] },
    Long { deleted: bool, index: u8, pulse: u8, bytes: Box<[u8]> },
}

/// The longest key that lies in its place.
const SHORT: usize = 27;

/// What all places of an object have in common.
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
                // Not longer than the room, which is less than 256.
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
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shards = (threads * 8).next_power_of_two().clamp(16, 256);
        Self { shards: (0..2 * shards).map(|_| Shard::default()).collect(), hasher: RandomState::default() }
    }

    #[inline]
    pub(super) fn hash(&self, key: KeyRef<'_>) -> u64 {
        hash(&self.hasher, key)
    }

    /// The value that a reader finds under this key, if it may be served.
    #[inline]
    pub(super) fn read(&self, key: KeyRef<'_>, ages: Ages, clock: &Clock) -> Result<Value, Miss> {
        let hash = self.hash(key);
        let table = self.shard(hash, key.index).ok_or(Miss::Absent)?.0.read();
        let place =
            table.find(hash, |place| place.key() == key).filter(|place| !place.deleted()).ok_or(Miss::Absent)?;
        place.block.pulse(place.pulse()).serve(place.deadline, ages, clock)?;
        Ok(place.value.clone())
    }

    /// The value under this key, if its max age is over and it is kept beyond that. It is no use of it.
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

    /// The object that this key leads a writer to.
    pub(super) fn find(&self, key: KeyRef<'_>) -> Option<Id> {
        let hash = self.hash(key);
        let table = self.shard(hash, key.index)?.0.read();
        table.find(hash, |place| place.key() == key).map(Place::id)
    }

    /// The object that this key leads a reader to: not by a key that was deleted.
    pub(super) fn leads(&self, key: KeyRef<'_>) -> Option<Id> {
        let hash = self.hash(key);
        let table = self.shard(hash, key.index)?.0.read();
        table.find(hash, |place| place.key() == key).filter(|place| !place.deleted()).map(Place::id)
    }

    /// Adds a key, which is in the table no more or not yet.
    pub(super) fn insert(&self, key: KeyRef<'_>, common: Common) {
        let hash = self.hash(key);
        if let Some(shard) = self.shard(hash, key.index) {
            let place = Place::new(common, key);
            shard.0.write().insert_unique(hash, place, |place| self::hash(&self.hasher, place.key()));
        }
    }

    /// Removes the keys with these hashes, of which the first is that of the primary key, if they are this object's.
    pub(super) fn remove(&self, id: Id, hashes: &[u64]) -> impl Iterator<Item = Place> {
        hashes.iter().enumerate().filter_map(move |(place, hash)| {
            let mut table = self.shard(*hash, u8::from(place > 0))?.0.write();
            table.find_entry(*hash, |place| place.id() == id).ok().map(|entry| entry.remove().0)
        })
    }

    /// Makes a key lead readers nowhere. Whose it was.
    pub(super) fn delete(&self, key: KeyRef<'_>) -> Option<Id> {
        let hash = self.hash(key);
        let mut table = self.shard(hash, key.index)?.0.write();
        let place = table.find_mut(hash, |place| place.key() == key && !place.deleted())?;
        place.delete();
        Some(place.id())
    }

    /// Takes everything out, for the caller to drop.
    pub(super) fn clear(&self) -> Vec<HashTable<Place>> {
        let take = |shard: &Shard| {
            let mut table = shard.0.write();
            // First, or an object that is gone here would still be there under its keys in other shards.
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
        // A table finds its place by the lowest and the highest bits.
        self.shards.get(((hash >> 32) as usize & (half - 1)) + if index == 0 { 0 } else { half })
    }
}

#[inline]
fn hash(hasher: &RandomState, key: KeyRef<'_>) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(key.bytes);
    hasher.write_u8(key.index);
    hasher.finish()
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
