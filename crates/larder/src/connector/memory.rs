//! The connector that keeps objects in this process: bounded, no server, no serialisation, every promise of the contract.
//!
//! ```text
//!   Memory ── one operation at a time under the writer's lock: fences, floors      memory.rs, records.rs, eviction.rs
//!     │
//!   Table ─── every key, primary or secondary, leads to its object in one lookup   table.rs
//!     │
//!   Pulse ─── one word per object: whether it is live, its last use                pulse.rs, ages.rs
//! ```
//!
//! # What a reader may observe
//!
//! A get takes one shared lock, finds its key, and asks the object's pulse whether it is live. An object becomes live
//! when all of its keys are in the table, and ends in the same way, by one store: no reader ever sees half a set, or an
//! object under one key that is gone under another. Between the end of the earlier state and the beginning of the new one a
//! get is a miss. Fences have no expiry, so no late fill is let in, however late.
//!
//! # Limits
//!
//! Nothing is shared with other processes, and nothing survives this one. An object that has expired keeps its memory until
//! it is pruned, replaced or evicted.

use super::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Look, Looks, Miss, Object, Pruned, Schema, Status,
    Stored, Ticket, Value,
};
use crate::clock::Clock;
use crate::protection::{Protection, holds};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use absent::Absent;
use ages::Ages;
use eviction::Queues;
use records::{Record, Records};
use std::collections::HashMap;
use table::{Common, Id, Place, Table};

mod absent;
mod ages;
mod eviction;
mod pulse;
mod records;
mod table;

/// Slots of the fence table. A slot remembers the newest sequence of any key in it, for ever: two keys that share one are fenced
/// together, which can only refuse a fill that could have been accepted. With 100 keys changed while a load runs, that is once in
/// 160 fills of an object with four keys, and the caller has the object all the same.
const SLOTS: usize = 1 << 16;

/// How long an invalidation's lowest version is demanded, in ms.
const FLOOR_LIFE: u64 = 60_000;

/// What an object costs beyond its own weight, in bytes, for itself and for each key: table places and counters.
const OVERHEAD: u64 = 128;
const OVERHEAD_PER_KEY: u64 = 96;

/// How much a [`Memory`] may hold.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// Objects held at most; at least one.
    pub max_objects: u64,
    /// What they may weigh together, in bytes, by [`Entry::weight`](crate::Entry::weight) plus their keys and what it takes to find them;
    /// zero: no limit.
    pub max_bytes: u64,
    /// What ages are counted by.
    pub clock: Clock,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { max_objects: 100_000, max_bytes: 0, clock: Clock::system() }
    }
}

/// The objects of one cache in this process.
///
/// ```
/// use larder::connector::memory::{Memory, MemoryOptions};
/// use larder::{Cache, Entry, Schema};
/// use serde::{Deserialize, Serialize};
/// use std::sync::Arc;
///
/// #[derive(Clone, Serialize, Deserialize, Entry)]
/// #[entry(cache = "color")]
/// struct Color {
///     #[key(primary)]
///     name: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let schema = Schema::of::<Color>();
/// let memory = Memory::open(schema.clone(), MemoryOptions { max_objects: 1000, ..MemoryOptions::default() });
/// let colors = Cache::<Color>::new(Arc::new(memory), schema);
/// colors.set(Color { name: "barley".into() }).await;
/// assert!(colors.get(ColorIndex::Name, "barley").await.is_some());
/// # }
/// ```
#[derive(Debug)]
pub struct Memory {
    schema: Schema,
    clock: Clock,
    ages: Ages,
    max_objects: u64,
    max_bytes: u64,
    table: Table,
    /// Renewed by a truncate, so that no earlier ticket survives it.
    epoch: AtomicU64,
    sequence: AtomicU64,
    objects: AtomicU64,
    bytes: AtomicU64,
    writer: Mutex<Writer>,
}

/// What only changes need.
#[derive(Debug)]
struct Writer {
    /// The newest sequence that invalidated, deleted or put a key of each slot.
    fences: Vec<u64>,
    /// By the hash of a primary key: the lowest version that may be stored, and until when. Two keys with one hash can only
    /// refuse an object that could have been stored.
    floors: HashMap<u64, (u64, u64)>,
    records: Records,
    queues: Queues,
    absent: Absent,
    /// What has left the table, and is dropped when no lock is held any more.
    gone: Vec<Place>,
}

impl Memory {
    /// An empty cache.
    #[must_use]
    pub fn open(schema: Schema, options: MemoryOptions) -> Self {
        let writer = Writer {
            fences: vec![0; SLOTS],
            floors: HashMap::new(),
            records: Records::default(),
            queues: Queues::default(),
            absent: Absent::default(),
            gone: Vec::new(),
        };
        Self {
            ages: Ages::of(&schema),
            schema,
            clock: options.clock,
            max_objects: options.max_objects.max(1),
            max_bytes: options.max_bytes,
            table: Table::new(),
            epoch: AtomicU64::new(fastrand::u64(1..)),
            sequence: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            writer: Mutex::new(writer),
        }
    }

    #[inline]
    fn find(&self, key: KeyRef<'_>) -> Result<Value, Miss> {
        self.table.read(key, self.ages, &self.clock)
    }

    /// The ticket is taken after the look: whatever is changed in between is older than it, and older than the load.
    fn look(&self, key: KeyRef<'_>) -> Look {
        let cause = match self.find(key) {
            Ok(value) => return Look::Hit { value, due: self.is_due(key) },
            Err(cause) => cause,
        };
        let remembers = cause == Miss::Absent && !self.schema.loading.negative_age.is_zero();
        if remembers && self.writer.lock().absent.knows(key, self.clock.now()) {
            return Look::miss(Miss::KnownAbsent, None);
        }
        let expired =
            (cause == Miss::Expired && self.ages.kept > 0).then(|| self.table.kept(key, self.ages, &self.clock));
        Look::Miss { cause, ticket: Some(self.take_ticket()), expired: expired.flatten() }
    }

    fn is_due(&self, key: KeyRef<'_>) -> bool {
        let ahead = self.schema.refresh_ahead();
        if ahead.is_zero() {
            return false;
        }
        let ahead = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
        self.table.deadline(key).is_some_and(|deadline| self.clock.now().saturating_add(ahead) >= deadline)
    }

    fn remember_absent(&self, key: KeyRef<'_>, ticket: Ticket) -> Fill {
        let life = u64::try_from(self.schema.loading.negative_age.as_millis()).unwrap_or(u64::MAX).max(1);
        let hash = self.table.hash(key);
        self.change(|writer| {
            let overtaken = ticket.epoch != self.epoch.load(Ordering::Acquire)
                || (holds(Protection::Fence) && writer.fence(hash) > ticket.sequence);
            let now = self.clock.now();
            let stored = if overtaken || self.table.find(key).is_some_and(|id| !self.expired(writer, id, now)) {
                Stored::Overtaken
            } else if writer.absent.remember(key, now, now.saturating_add(life), self.max_objects) {
                Stored::Yes
            } else {
                Stored::Unfit
            };
            Fill { stored, at: Some(self.take_ticket()) }
        })
    }

    /// Changes something. What leaves is dropped afterwards, since what a value does then may be to ask this cache.
    fn change<T>(&self, act: impl FnOnce(&mut Writer) -> T) -> T {
        let mut writer = self.writer.lock();
        let result = act(&mut writer);
        let gone = std::mem::take(&mut writer.gone);
        drop(writer);
        drop(gone);
        result
    }

    /// The epoch is read first: a truncate in between makes a ticket of the old epoch, which is worth nothing.
    fn take_ticket(&self) -> Ticket {
        let epoch = self.epoch.load(Ordering::Acquire);
        Ticket { epoch, sequence: self.sequence.load(Ordering::Acquire) }
    }

    fn store(&self, object: Object, ticket: Option<Ticket>, put: bool) -> Fill {
        let weight = self.weigh(&object);
        let hashes: Box<[u64]> = object.keys().map(|key| self.table.hash(key)).collect();
        self.change(|writer| {
            let Some(weight) = weight else {
                if put {
                    self.forget(writer, &hashes, object.keys(), None);
                }
                return Fill::undated(Stored::Unfit);
            };
            let overtaken = ticket.is_none_or(|ticket| {
                ticket.epoch != self.epoch.load(Ordering::Acquire)
                    || (holds(Protection::Fence) && hashes.iter().any(|hash| writer.fence(*hash) > ticket.sequence))
            });
            let outdated = self.outdated(writer, &object, &hashes) && holds(Protection::Version);
            if put {
                writer.absent.forget(object.keys());
                let sequence = self.stamp();
                hashes.iter().for_each(|hash| writer.raise(*hash, sequence));
            }
            let stored = match (overtaken, outdated) {
                (true, _) => {
                    if put {
                        self.forget(writer, &hashes, object.keys(), None);
                    }
                    Stored::Overtaken
                }
                (false, true) => Stored::Outdated,
                (false, false) => {
                    self.insert(writer, object, hashes, weight);
                    self.schema.stats.stored_bytes.add(weight);
                    Stored::Yes
                }
            };
            // The writer's lock is still held: nothing is touched in between.
            Fill { stored, at: Some(self.take_ticket()) }
        })
    }

    /// What the object weighs; none where that is too much.
    fn weigh(&self, object: &Object) -> Option<u64> {
        let own = self.schema.codec.weigh(&object.value);
        if own > self.schema.max_object_size {
            let limit = self.schema.max_object_size;
            tracing::warn!(cache = %self.schema.cache, bytes = own, limit, "an object is over the size limit and is not cached");
            return None;
        }
        let keys: u64 = object.keys().map(|key| key.bytes.len() as u64 + OVERHEAD_PER_KEY).sum();
        let weight = own + keys + OVERHEAD;
        (self.max_bytes == 0 || weight <= self.max_bytes).then_some(weight)
    }

    fn outdated(&self, writer: &mut Writer, object: &Object, hashes: &[u64]) -> bool {
        let (Some(version), Some(primary)) = (object.version, hashes.first()) else { return false };
        let now = self.clock.now();
        if !writer.floors.is_empty() {
            writer.floors.retain(|_, (_, until)| *until > now);
        }
        let floor = writer.floors.get(primary).is_some_and(|(floor, _)| *floor > version);
        let stored = self.table.find(KeyRef { index: 0, bytes: &object.primary });
        floor
            || stored.is_some_and(|id| {
                let newer = writer.records.get(id).is_some_and(|record| record.version > Some(version));
                newer && !self.expired(writer, id, now)
            })
    }

    fn stamp(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether nobody is served it any more.
    fn expired(&self, writer: &Writer, id: Id, now: u64) -> bool {
        let (Some(record), Some(pulse)) = (writer.records.get(id), writer.records.pulse(id)) else { return true };
        let end = record.deadline.saturating_add(self.ages.kept);
        now >= end.min(pulse.used().saturating_add(self.ages.last_use))
    }

    /// Puts an object in place of its earlier state, and of whoever else holds one of its keys.
    fn insert(&self, writer: &mut Writer, object: Object, hashes: Box<[u64]>, weight: u64) {
        let earlier = self.table.find(KeyRef { index: 0, bytes: &object.primary });
        let uses = earlier.and_then(|id| Some(writer.records.pulse(id)?.uses())).unwrap_or(0);
        if let Some(earlier) = earlier {
            self.retire(writer, earlier);
        }
        for key in &object.secondary {
            // The earlier state is gone from the table, so who is found is another object.
            if let Some(other) = self.table.find(key.as_ref()) {
                self.fence_and_retire(writer, other, self.stamp());
            }
        }
        let primary = hashes.first().copied().unwrap_or_default();
        let keys = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        let now = if self.ages.none() { 0 } else { self.clock.now() };
        writer.absent.forget(object.keys());
        let deadline = now.saturating_add(self.ages.lifetime(&self.schema));
        let name = writer.records.add(Record { hashes, version: object.version, weight, deadline, keys });
        let Some((block, pulse)) = writer.records.block(name.id) else { return };
        let common = Common { value: object.value.clone(), block: block.clone(), pulse, deadline };
        for key in object.keys() {
            self.table.insert(key, common.clone());
        }
        block.pulse(pulse).begin(now, uses);
        let objects = self.objects.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(weight, Ordering::Relaxed) + weight;
        writer.queues.admit(name, primary, objects, &writer.records);
        self.make_room(writer, objects, bytes);
    }

    fn make_room(&self, writer: &mut Writer, mut objects: u64, mut bytes: u64) {
        while objects > self.max_objects || (self.max_bytes > 0 && bytes > self.max_bytes) {
            let Some(victim) = writer.queues.victim(&writer.records) else { return };
            self.retire(writer, victim.id);
            self.schema.stats.evicted.increment();
            objects = self.objects.load(Ordering::Relaxed);
            bytes = self.bytes.load(Ordering::Relaxed);
        }
    }

    /// Ends an object under all of its keys: first for readers, by its pulse, then in the table.
    fn retire(&self, writer: &mut Writer, id: Id) {
        if let Some(pulse) = writer.records.pulse(id) {
            pulse.end();
        }
        // The place of its pulse is free from here on; it is given away under the same lock, when no reader can see it.
        if let Some(record) = writer.records.remove(id) {
            writer.gone.extend(self.table.remove(id, &record.hashes));
            self.objects.fetch_sub(1, Ordering::Relaxed);
            self.bytes.fetch_sub(record.weight, Ordering::Relaxed);
        }
    }

    /// Fences the object's primary key, and ends it. The hash of that key.
    fn fence_and_retire(&self, writer: &mut Writer, id: Id, sequence: u64) -> Option<u64> {
        let primary = writer.records.get(id)?.primary();
        writer.raise(primary, sequence);
        self.retire(writer, id);
        Some(primary)
    }

    /// Fences the keys, ends every object they lead to, and fences it.
    fn forget<'a>(
        &self,
        writer: &mut Writer,
        hashes: &[u64],
        keys: impl Iterator<Item = KeyRef<'a>>,
        floor: Option<u64>,
    ) {
        let sequence = self.stamp();
        let until = self.clock.now() + FLOOR_LIFE;
        for (key, hash) in keys.zip(hashes) {
            writer.raise(*hash, sequence);
            writer.absent.forget(std::iter::once(key));
            let found = self.table.find(key).and_then(|id| self.fence_and_retire(writer, id, sequence));
            let primary = found.or((key.index == 0).then_some(*hash));
            if let (Some(floor), Some(primary)) = (floor, primary) {
                let (version, end) = writer.floors.entry(primary).or_default();
                *version = floor.max(*version);
                *end = until;
            }
        }
    }
}

impl Writer {
    fn fence(&self, hash: u64) -> u64 {
        self.fences.get(slot(hash)).copied().unwrap_or(u64::MAX)
    }

    fn raise(&mut self, hash: u64, sequence: u64) {
        if let Some(fence) = self.fences.get_mut(slot(hash)) {
            *fence = sequence;
        }
    }
}

/// Bits of the hash that the table does not need for finding its place.
fn slot(hash: u64) -> usize {
    (hash >> 40) as usize % SLOTS
}

impl Connector for Memory {
    #[inline]
    fn get_hit(&self, key: KeyRef<'_>) -> Option<Value> {
        self.find(key).ok()
    }

    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        Answer::now(self.find(key))
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Look> {
        Answer::now(self.look(key))
    }

    fn fill_absent<'a>(&'a self, key: KeyRef<'a>, ticket: Ticket) -> Answer<'a, Fill> {
        Answer::now(self.remember_absent(key, ticket))
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        Answer::now(Some(self.take_ticket()))
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        Answer::now(self.store(object, Some(ticket), false))
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        Answer::now(self.store(object, ticket, true).stored)
    }

    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        Answer::now(keys.iter().map(|key| self.find(*key)).collect())
    }

    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Looks> {
        Answer::now(keys.iter().map(|key| self.look(*key)).collect())
    }

    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        Answer::now(objects.into_iter().map(|object| self.store(object, Some(ticket), false)).collect())
    }

    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        // A ticket for each: one must not be overtaken by another of the same call.
        let set = |object| self.store(object, Some(self.take_ticket()), true).stored;
        Answer::now(objects.into_iter().map(set).collect())
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        let hashes: Vec<u64> = keys.iter().map(|key| self.table.hash(key.as_ref())).collect();
        self.change(|writer| self.forget(writer, &hashes, keys.iter().map(KeyBuf::as_ref), floor));
        Answer::now(Ok(Delivery::Applied))
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.change(|writer| {
            let sequence = self.stamp();
            writer.absent.forget(keys.iter().map(KeyBuf::as_ref));
            for key in &keys {
                writer.raise(self.table.hash(key.as_ref()), sequence);
                let Some(id) = self.table.delete(key.as_ref()) else { continue };
                let Some(record) = writer.records.get_mut(id) else { continue };
                record.keys -= 1;
                if record.keys == 0 {
                    self.retire(writer, id);
                }
            }
        });
        Answer::now(Ok(Delivery::Applied))
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        let gone = self.change(|writer| {
            let epoch = self.epoch.load(Ordering::Acquire);
            let renewed = std::iter::repeat_with(|| fastrand::u64(1..)).find(|new| *new != epoch).unwrap_or(1);
            if holds(Protection::Epoch) {
                self.epoch.store(renewed, Ordering::Release);
            }
            let gone = self.table.clear();
            self.objects.store(0, Ordering::Relaxed);
            self.bytes.store(0, Ordering::Relaxed);
            writer.records = Records::default();
            writer.queues = Queues::default();
            writer.floors.clear();
            writer.absent.clear();
            gone
        });
        drop(gone);
        Answer::now(Ok(Delivery::Applied))
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        let mut pruned = Pruned::default();
        let mut block = 0;
        loop {
            // One block at a time, so that nobody waits for the whole of it.
            let more = self.change(|writer| {
                let now = self.clock.now();
                writer.absent.prune(now);
                let expired: Vec<Id> = writer
                    .records
                    .of_block(block)
                    .map(|(id, _)| id)
                    .filter(|id| self.expired(writer, *id, now))
                    .collect();
                pruned.objects += expired.len() as u64;
                expired.into_iter().for_each(|id| self.retire(writer, id));
                block += 1;
                block < writer.records.blocks()
            });
            if !more {
                return Answer::now(Ok(pruned));
            }
        }
    }

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        let untouched = self.change(|writer| {
            let fence = |key: &KeyBuf| writer.fence(self.table.hash(key.as_ref()));
            self.epoch.load(Ordering::Acquire) == since.epoch && keys.iter().all(|key| fence(key) <= since.sequence)
        });
        Answer::now(Some(untouched))
    }

    fn status(&self) -> Status {
        Status {
            objects: Some(self.objects.load(Ordering::Relaxed)),
            bytes: Some(self.bytes.load(Ordering::Relaxed)),
            readable: true,
            ..Status::default()
        }
    }
}

#[cfg(test)]
mod tests;
