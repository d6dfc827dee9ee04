//! The connector that keeps objects in this process: bounded, no server, no serialisation, every promise of the contract.
//!
//! ```text
//!   Memory ── looks, and what loads find                                           memory.rs, looking.rs
//!     │
//!   Writer ── one change at a time, under a lock: objects, fences, room            storing.rs, forgetting.rs, records.rs, eviction.rs
//!     │       what lasts for a while: lowest versions, notes of what is absent     floors.rs, absent.rs, expiring.rs
//!     │
//!   Table ─── every key, primary or secondary, leads to its object in one lookup   table.rs
//!     │
//!   Pulse ─── one word per object: whether it is live, its last use                pulse.rs, ages.rs
//! ```
//!
//! # What a reader may observe
//!
//! A get takes one shared lock, finds its key, and asks the object's pulse whether the object is live. A writer first puts all keys
//! of an object into the table, and then makes the object live by one store. It ends an object by one store, too, before it removes
//! the keys. So no reader ever sees half a set, or an object under one key that is gone under another. Between the end of the
//! earlier state and the beginning of the new one, a get is a miss. Fences never expire, so no late fill is let in, however late.
//!
//! # Limits
//!
//! Nothing is shared with other processes, and nothing survives this process. An object that has expired keeps its memory until it
//! is pruned, replaced or evicted, or until a load finds that the source no longer has it.
//!
//! Everything here is bounded. Objects and notes are, by [`MemoryOptions`]; fences take 512 KiB, and lowest versions
//! ([`invalidate_below`](crate::Cache::invalidate_below)) at most 6 MB, however many are demanded: see `floors.rs` for what happens then.

use crate::clock::Clock;
use crate::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, LoadOptions, Lookup, Lookups, Miss, Object, OptionError,
    Pruned, Schema, Stats, Status, Stored, Ticket, Value, issue_ticket,
};
use crate::protection::{Protection, holds};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, RandomState};
use absent::Absent;
use ages::Ages;
use eviction::Queues;
use floors::Floors;
pub use options::MemoryOptions;
use pulse::Time;
use records::Records;
use std::sync::Arc;
pub(crate) use table::MarksOf;
use table::{Hashing, Place, Table};

mod absent;
mod ages;
mod eviction;
mod expiring;
mod floors;
mod forgetting;
mod looking;
pub(crate) mod options;
mod pulse;
mod records;
mod storing;
mod table;

/// Slots of the fence table. A slot remembers the newest sequence of any key in it, for ever. Two keys that share a slot are fenced
/// together, which can only refuse a fill that could have been accepted. If 100 keys change while a load runs, this refuses one in
/// 160 fills of an object with four keys. The caller has the loaded object all the same.
const SLOTS: usize = 1 << 16;

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
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schema = Schema::of::<Color>();
/// let memory = Memory::open(schema.clone(), MemoryOptions::new().max_objects(1000))?;
/// let colors = Cache::<Color>::new(Arc::new(memory), schema)?;
/// colors.set(Color { name: "barley".into() }).await;
/// assert!(colors.get(Color::NAME, "barley").await.is_some());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Memory {
    schema: Schema,
    /// Where evictions are counted: at the cache, also where everything else is counted by what the memory has copies of.
    evictions: Arc<Stats>,
    clock: Clock,
    ages: Ages,
    max_objects: u64,
    max_bytes: u64,
    table: Table,
    /// A truncate renews the epoch, so that all earlier tickets become worthless.
    epoch: AtomicU64,
    sequence: AtomicU64,
    writer: Mutex<Writer>,
}

/// The state that only changes need, not gets.
#[derive(Debug)]
struct Writer {
    /// For each slot, the sequence of the newest change (invalidate, delete or put) of any key in the slot.
    fences: Vec<u64>,
    floors: Floors,
    records: Records,
    queues: Queues,
    absent: Absent,
    /// How many objects there are.
    objects: u64,
    /// What all objects weigh together.
    bytes: u64,
    /// Places that have left the table. They are dropped when no lock is held any more.
    gone: Vec<Place>,
}

impl Memory {
    /// An empty cache.
    ///
    /// # Errors
    ///
    /// An option or the schema cannot be used: see [`MemoryOptions::validate`] and [`Schema::validate`].
    pub fn open(schema: Schema, options: MemoryOptions) -> Result<Self, OptionError> {
        Self::on_clock(schema, options, Clock::system())
    }

    /// Like [`open`](Self::open), with another clock to count ages by, so that a test advances time instead of sleeping.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn on_clock(schema: Schema, options: MemoryOptions, clock: Clock) -> Result<Self, OptionError> {
        Self::hashing(schema.stats().clone(), schema, options, clock, Hashing::Secret(RandomState::default()))
    }

    /// Like [`on_clock`](Self::on_clock), for objects that a server has. Keys are hashed as the server does for its marks. How objects are loaded is decided by
    /// what the server has, and it counts everything but evictions, so that no object is counted twice.
    #[allow(dead_code, reason = "only what has a server behind it needs this")]
    pub(crate) fn of_copies(
        schema: Schema,
        options: MemoryOptions,
        clock: Clock,
        marks: MarksOf,
    ) -> Result<Self, OptionError> {
        let copies = schema.clone().counted_alone().loading(LoadOptions::default());
        Self::hashing(schema.stats().clone(), copies, options, clock, Hashing::Marks(marks))
    }

    fn hashing(
        evictions: Arc<Stats>,
        schema: Schema,
        options: MemoryOptions,
        clock: Clock,
        hashing: Hashing,
    ) -> Result<Self, OptionError> {
        schema.validate()?;
        options.validate()?;
        let writer = Writer {
            fences: vec![0; SLOTS],
            floors: Floors::default(),
            records: Records::default(),
            queues: Queues::default(),
            absent: Absent::default(),
            objects: 0,
            bytes: 0,
            gone: Vec::new(),
        };
        Ok(Self {
            ages: Ages::of(&schema),
            evictions,
            schema,
            clock,
            max_objects: options.max_objects,
            max_bytes: options.max_bytes,
            table: Table::new(hashing),
            epoch: AtomicU64::new(fastrand::u64(1..)),
            sequence: AtomicU64::new(0),
            writer: Mutex::new(writer),
        })
    }

    #[inline]
    pub(crate) fn find(&self, key: KeyRef<'_>) -> Result<Value, Miss> {
        self.table.read(key, self.ages, Time::By(&self.clock))
    }

    /// The same for a reader who has read the precise clock: in ms.
    #[allow(dead_code, reason = "only what has a server behind it needs this")]
    #[inline]
    pub(crate) fn find_at(&self, key: KeyRef<'_>, now: u64) -> Result<Value, Miss> {
        self.table.read(key, self.ages, Time::At(now))
    }

    /// Runs a change under the writer's lock. Values that leave are dropped after the lock is released, because a value's drop may
    /// call this cache.
    fn change<T>(&self, act: impl FnOnce(&mut Writer) -> T) -> T {
        let mut writer = self.writer.lock();
        let result = act(&mut writer);
        let gone = std::mem::take(&mut writer.gone);
        drop(writer);
        drop(gone);
        result
    }

    /// Forgets everything. No earlier ticket is worth anything from then on.
    pub(crate) fn clear(&self) {
        let gone = self.change(|writer| {
            let epoch = self.epoch.load(Ordering::Acquire);
            let renewed = std::iter::repeat_with(|| fastrand::u64(1..)).find(|new| *new != epoch).unwrap_or(1);
            if holds(Protection::Epoch) {
                self.epoch.store(renewed, Ordering::Release);
            }
            let gone = self.table.clear();
            writer.objects = 0;
            writer.bytes = 0;
            writer.records = Records::default();
            writer.queues = Queues::default();
            writer.floors = Floors::default();
            writer.absent = Absent::default();
            gone
        });
        drop(gone);
    }

    /// The epoch is read first. If a truncate comes in between, the ticket has the old epoch and is worthless, which is safe.
    pub(crate) fn take_ticket(&self) -> Ticket {
        let epoch = self.epoch.load(Ordering::Acquire);
        issue_ticket(epoch, self.sequence.load(Ordering::Acquire))
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::AcqRel) + 1
    }
}

impl Writer {
    /// What objects and notes weigh together, in bytes.
    fn weighs(&self) -> u64 {
        self.bytes + self.absent.bytes()
    }

    fn fence(&self, hash: u64) -> u64 {
        self.fences.get(slot(hash)).copied().unwrap_or(u64::MAX)
    }

    fn raise_fence(&mut self, hash: u64, sequence: u64) {
        if let Some(fence) = self.fences.get_mut(slot(hash)) {
            *fence = sequence;
        }
    }
}

/// The slot of a key. It uses bits of the hash that the table does not use to find a place.
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

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        Answer::now(self.look(key))
    }

    fn fill_absent<'a>(&'a self, key: KeyRef<'a>, ticket: Ticket) -> Answer<'a, Fill> {
        Answer::now(self.store_absence(key, ticket))
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

    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Lookups> {
        Answer::now(keys.iter().map(|key| self.look(*key)).collect())
    }

    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        Answer::now(objects.into_iter().map(|object| self.store(object, Some(ticket), false)).collect())
    }

    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        // Each object gets a ticket of its own: with one ticket for all, an object could be overtaken by an earlier one of the call.
        let set = |object| self.store(object, Some(self.take_ticket()), true).stored;
        Answer::now(objects.into_iter().map(set).collect())
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        let hashes: Vec<u64> = keys.iter().map(|key| self.table.hash(key.as_ref())).collect();
        self.change(|writer| self.forget(writer, &hashes, keys.iter().map(KeyBuf::as_ref), floor));
        Answer::now(Ok(Delivery::Applied))
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.change(|writer| self.delete_keys(writer, &keys));
        Answer::now(Ok(Delivery::Applied))
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.clear();
        Answer::now(Ok(Delivery::Applied))
    }

    /// A prune works in small steps. Between two steps, changes and other tasks of the runtime have their turn. A prune that is dropped
    /// half-way has cleaned up a part.
    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        Answer::later(async move {
            let (mut next, mut pruned) = (0, Pruned::default());
            while self.prune_some(&mut next, &mut pruned) {
                tokio::task::yield_now().await;
            }
            Ok(pruned)
        })
    }

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        let untouched = self.change(|writer| {
            let fence = |key: &KeyBuf| writer.fence(self.table.hash(key.as_ref()));
            self.epoch.load(Ordering::Acquire) == since.epoch() && keys.iter().all(|key| fence(key) <= since.sequence())
        });
        Answer::now(Some(untouched))
    }

    fn status(&self) -> Status {
        let writer = self.writer.lock();
        let mut status = Status::default();
        (status.objects, status.bytes, status.readable) = (Some(writer.objects), Some(writer.weighs()), true);
        status
    }
}

#[cfg(test)]
mod tests;
