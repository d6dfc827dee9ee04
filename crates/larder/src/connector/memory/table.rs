//! Every key of every object, in shards: one lookup leads from any key to its object.
//!
//! A place in the table holds its key and its object, so what a lookup must touch is the place, the key's bytes and the
//! object, in parallel, however many keys the object has.
//!
//! # Concurrency
//!
//! Readers take a shard's lock shared. Whoever changes the table holds the connector's writer lock, so that
//! nothing changes between two of their steps; a shard's own lock is held for one step only.

use super::held::Held;
use crate::connector::{KeyBuf, KeyRef};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::RwLock;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Shard]>,
    hasher: RandomState,
}

/// Apart from its neighbours, so that threads in different shards share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(RwLock<HashTable<Place>>);

#[derive(Debug)]
struct Place {
    hash: u64,
    key: KeyBuf,
    /// A deleted primary key still leads an invalidation to its object, and a get to nothing.
    deleted: bool,
    held: Arc<Held>,
}

impl Place {
    #[inline]
    fn is(&self, hash: u64, key: KeyRef<'_>) -> bool {
        self.hash == hash && self.key.index == key.index && *self.key.bytes == *key.bytes
    }
}

impl Table {
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shards = (threads * 8).next_power_of_two().clamp(16, 256);
        Self { shards: (0..shards).map(|_| Shard::default()).collect(), hasher: RandomState::default() }
    }

    #[inline]
    pub(super) fn hash(&self, key: KeyRef<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.bytes);
        hasher.write_u8(key.index);
        hasher.finish()
    }

    /// What `look` makes of the object that a reader finds under this key.
    #[inline]
    pub(super) fn read<T>(&self, key: KeyRef<'_>, look: impl FnOnce(&Held) -> T) -> Option<T> {
        let hash = self.hash(key);
        let table = self.shard(hash)?.0.read();
        let place = table.find(hash, |place| place.is(hash, key)).filter(|place| !place.deleted)?;
        Some(look(&place.held))
    }

    /// The object that this key leads a writer to.
    pub(super) fn find(&self, key: KeyRef<'_>) -> Option<Arc<Held>> {
        let hash = self.hash(key);
        let table = self.shard(hash)?.0.read();
        table.find(hash, |place| place.is(hash, key)).map(|place| place.held.clone())
    }

    /// Adds a key, which is in the table no more or not yet.
    pub(super) fn insert(&self, key: KeyBuf, held: &Arc<Held>) {
        let hash = self.hash(key.as_ref());
        if let Some(shard) = self.shard(hash) {
            let place = Place { hash, key, deleted: false, held: held.clone() };
            shard.0.write().insert_unique(hash, place, |place| place.hash);
        }
    }

    /// Removes every key of this object.
    pub(super) fn remove(&self, held: &Arc<Held>) {
        for hash in &held.hashes {
            let Some(shard) = self.shard(*hash) else { continue };
            let mut table = shard.0.write();
            let found =
                table.find_entry(*hash, |place| Arc::ptr_eq(&place.held, held)).ok().map(|entry| entry.remove().0);
            drop(table);
            // The place, and with it its key, is freed after the lock.
            drop(found);
        }
    }

    /// Makes a key lead nowhere. The object, if that was its last key.
    pub(super) fn delete(&self, key: KeyRef<'_>) -> Option<Arc<Held>> {
        let hash = self.hash(key);
        let mut table = self.shard(hash)?.0.write();
        let mut entry = table.find_entry(hash, |place| place.is(hash, key) && !place.deleted).ok()?;
        let held = entry.get().held.clone();
        if key.index == 0 {
            entry.get_mut().deleted = true;
        } else {
            entry.remove();
        }
        held.lose_key().then_some(held)
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The objects whose primary key is in this shard and that are wanted.
    pub(super) fn select(&self, shard: usize, wanted: impl Fn(&Held) -> bool) -> Vec<Arc<Held>> {
        let Some(shard) = self.shards.get(shard) else { return Vec::new() };
        let table = shard.0.read();
        let places = table.iter().filter(|place| place.key.index == 0 && wanted(&place.held));
        places.map(|place| place.held.clone()).collect()
    }

    /// Ends every object. What it answers is to be dropped when no lock is held: it is everything.
    pub(super) fn clear(&self) -> impl Sized + use<> {
        let take = |shard: &Shard| {
            let table = std::mem::take(&mut *shard.0.write());
            for place in &table {
                place.held.end();
            }
            table
        };
        self.shards.iter().map(take).collect::<Vec<_>>()
    }

    #[inline]
    fn shard(&self, hash: u64) -> Option<&Shard> {
        // A table finds its place by the lowest and the highest bits.
        self.shards.get((hash >> 32) as usize & (self.shards.len() - 1))
    }
}
