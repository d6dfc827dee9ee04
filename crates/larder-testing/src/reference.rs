//! The contract in its plainest form: every object in one list behind one lock, every fence kept for good.
//!
//! Other connectors are compared with [`Reference`]. Tests of the conformance suite show that the suite accepts it, and that the suite
//! rejects it when any one thing in it is broken. A random test can compare a connector's answers with its answers.
//!
//! Do not use it in a service: a lookup walks the whole list, and fences are never dropped.
//!
//! Where the contract leaves a choice (an answer or a miss, to accept or to refuse), the reference keeps the object. So another connector
//! that misses where the reference has an object may still be right.

use larder::clock::Clock;
use larder::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lookup, Miss, Object, Pruned, Schema, Status, Stored,
    Ticket, Value, issue_ticket,
};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long, in milliseconds, an invalidation's lowest version is demanded.
const FLOOR_LIFE: u64 = 60_000;

/// Holds the objects of all caches, as a server does for other connectors. A clone is the same shelf.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    clock: Clock,
    caches: Arc<Mutex<HashMap<Arc<str>, Store>>>,
}

impl Shelf {
    /// An empty shelf whose ages are counted by `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, caches: Arc::default() }
    }

    pub(crate) fn caches<T>(&self, act: impl FnOnce(&mut HashMap<Arc<str>, Store>) -> T) -> T {
        // The lock may be poisoned by a test that panicked. The map is never left half-changed, so it can be used all the same.
        act(&mut self.caches.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One node's connector to the shelf. All connectors that are opened for the same cache share its objects.
///
/// ```
/// use larder::{Cache, Schema, clock::Clock};
/// use larder_testing::entries::Site;
/// use larder_testing::reference::{Reference, Shelf};
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let (clock, _hand) = Clock::manual();
/// let shelf = Shelf::new(clock);
/// let schema = Schema::of::<Site>();
/// let sites = Cache::<Site>::new(Arc::new(Reference::open(schema.clone(), &shelf)), schema).unwrap();
/// sites.set(Site::new("1", &["a.example"], "Acme")).await;
/// assert!(sites.get(Site::HOST, "a.example").await.is_some());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Reference {
    schema: Schema,
    shelf: Shelf,
}

/// What is stored for one cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) objects: Vec<Held>,
    /// For each key, the sequence of the newest change (invalidate, delete or put) of the key.
    pub(crate) fences: HashMap<KeyBuf, u64>,
    /// For each primary key, the lowest version that may be stored, and until when.
    pub(crate) floors: HashMap<Box<[u8]>, (u64, u64)>,
}

/// An object as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) fingerprint: u64,
    pub(crate) object: Object,
    /// The keys of the object that have not been deleted.
    pub(crate) live: Vec<KeyBuf>,
    pub(crate) stored_at: u64,
    pub(crate) used_at: u64,
}

impl Held {
    /// Whether an invalidation by this key reaches the object. A deleted key still leads to its object: it is one of the object's keys,
    /// and the caller that changes the object may know no other key.
    fn is_led_to_by(&self, key: KeyRef<'_>) -> bool {
        self.object.keys().any(|own| own == key)
    }

    pub(crate) fn lists(&self, key: KeyRef<'_>) -> bool {
        self.live.iter().any(|live| live.as_ref() == key)
    }

    pub(crate) fn expired(&self, schema: &Schema, now: u64) -> bool {
        outlived(schema.max_age(), now - self.stored_at) || outlived(schema.last_use_age(), now - self.used_at)
    }
}

fn outlived(age: Duration, lived: u64) -> bool {
    !age.is_zero() && Duration::from_millis(lived) >= age
}

impl Store {
    fn get(&mut self, key: KeyRef<'_>, schema: &Schema, now: u64) -> Result<Value, Miss> {
        let fits = |held: &Held| held.fingerprint == schema.fingerprint() && held.lists(key);
        let place = self.objects.iter().position(fits).ok_or(Miss::Absent)?;
        let held = self.objects.get_mut(place).ok_or(Miss::Absent)?;
        if held.expired(schema, now) {
            self.objects.remove(place);
            return Err(Miss::Expired);
        }
        held.used_at = now;
        Ok(held.object.value.clone())
    }

    fn ticket(&self) -> Ticket {
        issue_ticket(self.epoch, self.sequence)
    }

    fn fill(&mut self, object: Object, ticket: Ticket, schema: &Schema, now: u64) -> Stored {
        if self.overtaken(&object, ticket) {
            return Stored::Overtaken;
        }
        if self.outdated(&object, schema, now) {
            return Stored::Outdated;
        }
        let holders = self.objects.iter().filter(|held| held.object.primary != object.primary);
        let holders: Vec<_> =
            holders.filter(|held| object.keys().any(|key| held.is_led_to_by(key))).map(primary_of).collect();
        if !holders.is_empty() {
            self.sequence += 1;
            self.forget(&holders);
        }
        self.insert(object, schema, now);
        Stored::Accepted
    }

    fn put(&mut self, object: Object, ticket: Option<Ticket>, schema: &Schema, now: u64) -> Stored {
        let overtaken = ticket.is_none_or(|ticket| self.overtaken(&object, ticket));
        let outdated = self.outdated(&object, schema, now);
        let keys: Vec<_> = object.keys().map(KeyRef::to_buf).collect();
        self.sequence += 1;
        self.fence(&keys);
        if outdated && !overtaken {
            return Stored::Outdated;
        }
        self.forget(&keys);
        if overtaken {
            return Stored::Overtaken;
        }
        self.insert(object, schema, now);
        Stored::Accepted
    }

    pub(crate) fn invalidate(&mut self, keys: &[KeyBuf], floor: Option<u64>, now: u64) {
        self.sequence += 1;
        self.fence(keys);
        let mut primaries = self.forget(keys);
        primaries.extend(keys.iter().filter(|key| key.index == 0).map(|key| key.bytes.clone()));
        let Some(floor) = floor else { return };
        for primary in primaries {
            let (highest, until) = self.floors.entry(primary).or_default();
            *highest = if *until > now { floor.max(*highest) } else { floor };
            *until = now + FLOOR_LIFE;
        }
    }

    fn delete(&mut self, keys: &[KeyBuf]) {
        self.sequence += 1;
        self.fence(keys);
        for held in &mut self.objects {
            held.live.retain(|live| !keys.contains(live));
        }
        self.objects.retain(|held| !held.live.is_empty());
    }

    fn truncate(&mut self) {
        let epoch = self.epoch + 1;
        *self = Self { epoch, ..Self::default() };
    }

    fn prune(&mut self, schema: &Schema, now: u64) -> u64 {
        let before = self.objects.len();
        self.objects.retain(|held| !held.expired(schema, now));
        (before - self.objects.len()) as u64
    }

    fn overtaken(&self, object: &Object, ticket: Ticket) -> bool {
        let newer = |key: KeyRef<'_>| self.fences.get(&key.to_buf()).is_some_and(|fence| *fence > ticket.sequence());
        ticket.epoch() != self.epoch || object.keys().any(newer)
    }

    fn outdated(&self, object: &Object, schema: &Schema, now: u64) -> bool {
        let Some(version) = object.version else { return false };
        let stored = self.objects.iter().filter(|held| held.object.primary == object.primary);
        let higher = |held: &Held| !held.expired(schema, now) && held.object.version > Some(version);
        let floor = self.floors.get(&object.primary).filter(|(_, until)| *until > now);
        stored.into_iter().any(higher) || floor.is_some_and(|(floor, _)| *floor > version)
    }

    fn fence(&mut self, keys: &[KeyBuf]) {
        for key in keys {
            self.fences.insert(key.clone(), self.sequence);
        }
    }

    /// Removes every object that one of the keys leads to, in every shape. Fences these objects, and returns their primary keys.
    fn forget(&mut self, keys: &[KeyBuf]) -> Vec<Box<[u8]>> {
        let led_to = |held: &&Held| keys.iter().any(|key| held.is_led_to_by(key.as_ref()));
        let gone: HashSet<_> = self.objects.iter().filter(led_to).map(|held| held.object.primary.clone()).collect();
        self.objects.retain(|held| !gone.contains(&held.object.primary));
        for primary in &gone {
            self.fences.insert(KeyBuf { index: 0, bytes: primary.clone() }, self.sequence);
        }
        gone.into_iter().collect()
    }

    /// Stores an object. It replaces its own earlier state of the same shape.
    fn insert(&mut self, object: Object, schema: &Schema, now: u64) {
        let fingerprint = schema.fingerprint();
        self.objects.retain(|held| held.fingerprint != fingerprint || held.object.primary != object.primary);
        let live = object.keys().map(KeyRef::to_buf).collect();
        self.objects.push(Held { fingerprint, object, live, stored_at: now, used_at: now });
    }
}

fn primary_of(held: &Held) -> KeyBuf {
    KeyBuf { index: 0, bytes: held.object.primary.clone() }
}

impl Reference {
    /// Opens a cache on a shelf.
    #[must_use]
    pub fn open(schema: Schema, shelf: &Shelf) -> Self {
        Self { schema, shelf: shelf.clone() }
    }

    /// Reads or changes the cache's store in one step, under the shelf's lock.
    pub(crate) fn store<T>(&self, act: impl FnOnce(&mut Store, u64) -> T) -> T {
        let now = self.shelf.clock.now();
        self.shelf.caches(|caches| act(caches.entry(self.schema.cache().into()).or_default(), now))
    }

    fn fits(&self, object: &Object) -> bool {
        self.schema.codec().weigh(&object.value) <= self.schema.largest_object()
    }
}

impl Connector for Reference {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        Answer::now(self.store(|store, now| store.get(key, &self.schema, now)))
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        Answer::now(self.store(|store, now| Lookup::of(store.get(key, &self.schema, now), Some(store.ticket()))))
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        Answer::now(Some(self.store(|store, _| store.ticket())))
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        if !self.fits(&object) {
            return Answer::now(Fill::undated(Stored::Unfit));
        }
        Answer::now(self.store(|store, now| {
            let stored = store.fill(object, ticket, &self.schema, now);
            Fill::at(stored, store.ticket())
        }))
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        if !self.fits(&object) {
            let keys: Vec<_> = object.keys().map(KeyRef::to_buf).collect();
            self.store(|store, now| store.invalidate(&keys, None, now));
            return Answer::now(Stored::Unfit);
        }
        Answer::now(self.store(|store, now| store.put(object, ticket, &self.schema, now)))
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        self.store(|store, now| store.invalidate(&keys, floor, now));
        Answer::now(Ok(Delivery::Applied))
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.store(|store, _| store.delete(&keys));
        Answer::now(Ok(Delivery::Applied))
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.store(|store, _| store.truncate());
        Answer::now(Ok(Delivery::Applied))
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        let objects = self.store(|store, now| store.prune(&self.schema, now));
        Answer::now(Ok(Pruned::new(objects, 0)))
    }

    fn status(&self) -> Status {
        let objects = self.store(|store, _| store.objects.len());
        let mut status = Status::default();
        (status.objects, status.readable) = (Some(objects as u64), true);
        status
    }
}
