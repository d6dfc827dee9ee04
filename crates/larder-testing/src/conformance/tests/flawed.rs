//! [`Flawed`]: the reference with one flaw.

use crate::reference::{Held, Reference, Shelf, Store};
use larder::EncodeError;
use larder::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lookup, Miss, Object, Pruned, Schema, Status, Stored,
    Ticket, Value,
};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::yield_now;

/// What the connector does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    IndexesMixedUp,
    KeepsTheFirst,
    DroppedKeysStay,
    HolderStays,
    HolderLosesTheKeyOnly,
    SetsTwice,
    InvalidatesAskedKeyOnly,
    InvalidatesFirstKeyOnly,
    RemembersWhatItGot,
    DeleteInvalidates,
    DeletesFirstKeyOnly,
    TruncateLeavesOne,
    TruncatesAllCaches,
    TruncatesByPrefix,
    WholeSeconds,
    GetRenewsMaxAge,
    UseNotCounted,
    PruneIsUse,
    FillIgnoresTicket,
    FencesWhatIsStoredOnly,
    PutLeavesNoFence,
    DisplacedWithoutFence,
    FenceEndsWithLife,
    FenceEndsWithDelete,
    FenceEndsWithEviction,
    FenceEndsWithNewerObject,
    EpochStays,
    PutNeedsNoTicket,
    VersionIgnored,
    VersionAsText,
    VersionAsDouble,
    FloorIgnored,
    UnfitKeepsOlder,
    TakesWhatCannotBeRead,
    InvalidatesOwnRelease,
    FillEvictsOtherRelease,
    ReadsOtherRelease,
    LosesDroppedInvalidation,
    LosesTheRestOfDroppedSets,
    PutsByHalves,
    LeaksPermits,
    KeysEndAtZero,
    KeysWithoutCase,
    LongKeysCut,
    KeysArePatterns,
    KeysJoinTheirIndex,
    KeysTrimmed,
    ManyAnsweredInReverse,
    ManySetInReverse,
    ManyFilledByTheFirst,
}

/// The reference, with one flaw or without.
pub(super) struct Flawed {
    inner: Reference,
    shelf: Shelf,
    schema: Schema,
    flaw: Option<Flaw>,
    /// The values that this node has got, for [`Flaw::RemembersWhatItGot`].
    remembered: Mutex<HashMap<KeyBuf, Value>>,
    leaked: AtomicUsize,
}

/// The result of an operation of the reference, whose operations all answer at once.
pub(super) fn at_once<T>(answer: Answer<'_, T>) -> T {
    match answer {
        Answer::Now(Some(result)) => result,
        _ => panic!("the reference answers at once"),
    }
}

fn of_object(object: &Object) -> Vec<KeyBuf> {
    object.keys().map(KeyRef::to_buf).collect()
}

impl Flawed {
    pub(super) fn open(schema: Schema, shelf: &Shelf, flaw: Option<Flaw>) -> Self {
        let mut seen = schema.clone();
        if flaw == Some(Flaw::WholeSeconds) {
            let whole = |age: Duration| Duration::from_secs(age.as_secs());
            seen = seen.clone().ages(whole(schema.max_age()), whole(schema.last_use_age()));
        }
        let inner = Reference::open(seen, shelf);
        Self { inner, shelf: shelf.clone(), schema, flaw, remembered: Mutex::default(), leaked: AtomicUsize::new(0) }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// The key that this connector uses in place of the given one.
    fn key(&self, key: KeyRef<'_>) -> KeyBuf {
        let mut bytes = key.bytes.to_vec();
        let mut index = key.index;
        match self.flaw {
            Some(Flaw::KeysEndAtZero) => bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
            Some(Flaw::KeysWithoutCase) => bytes.make_ascii_lowercase(),
            Some(Flaw::LongKeysCut) => bytes.truncate(512),
            Some(Flaw::KeysTrimmed) => bytes = bytes.trim_ascii().to_vec(),
            // Only secondary indexes are joined. With the primary index, too, this would be the flaw `IndexesMixedUp`.
            Some(Flaw::KeysJoinTheirIndex) if index > 0 => {
                let name = self.schema.indexes()[usize::from(index)];
                bytes.splice(..0, name.bytes());
                index = 1;
            }
            _ => {}
        }
        KeyBuf { index, bytes: bytes.into() }
    }

    fn keys(&self, keys: Vec<KeyBuf>) -> Vec<KeyBuf> {
        keys.iter().map(|key| self.key(key.as_ref())).collect()
    }

    fn object(&self, mut object: Object) -> Object {
        object.primary = self.key(KeyRef { index: 0, bytes: &object.primary }).bytes;
        object.secondary = self.keys(object.secondary);
        match self.flaw {
            Some(Flaw::VersionIgnored) => object.version = None,
            // Padded with zeros, numbers compare like texts: by their first digit.
            Some(Flaw::VersionAsText) => {
                object.version = object.version.map(|version| format!("{version:0<19}").parse().unwrap_or(version));
            }
            Some(Flaw::VersionAsDouble) => object.version = object.version.map(|version| version as f64 as u64),
            _ => {}
        }
        object
    }

    fn read(&self, key: KeyRef<'_>) -> Result<Value, Miss> {
        let key = self.key(key);
        if self.has(Flaw::LeaksPermits) && self.leaked.load(Ordering::Relaxed) > 500 {
            return Err(Miss::Shed);
        }
        if self.has(Flaw::RemembersWhatItGot)
            && let Some(value) = self.remembered.lock().unwrap().get(&key)
        {
            return Ok(value.clone());
        }
        let before = self.inner.store(|store, _| store.objects.iter().find(|held| held.lists(key.as_ref())).cloned());
        let mut found = at_once(self.inner.get(key.as_ref()));
        match self.flaw {
            Some(Flaw::IndexesMixedUp) => {
                for index in 0..self.schema.indexes().len() as u8 {
                    found = found.or_else(|_| at_once(self.inner.get(KeyRef { index, ..key.as_ref() })));
                }
            }
            Some(Flaw::ReadsOtherRelease) => {
                if let Some(held) = before {
                    found = Ok(held.object.value);
                }
            }
            Some(Flaw::GetRenewsMaxAge) => self.each_held(|held, now| held.stored_at = now),
            Some(Flaw::UseNotCounted) => {
                if let Some(before) = before {
                    self.each_held(|held, _| {
                        if held.object.primary == before.object.primary {
                            held.used_at = before.used_at;
                        }
                    });
                }
            }
            Some(Flaw::FenceEndsWithLife) if matches!(found, Err(Miss::Expired)) => self.unfence(&before),
            Some(Flaw::RemembersWhatItGot) => {
                if let Ok(value) = &found {
                    self.remembered.lock().unwrap().insert(key, value.clone());
                }
            }
            _ => {}
        }
        found
    }

    fn each_held(&self, mut act: impl FnMut(&mut Held, u64)) {
        self.inner.store(|store, now| store.objects.iter_mut().for_each(|held| act(held, now)));
    }

    fn unfence<'a>(&self, gone: impl IntoIterator<Item = &'a Held>) {
        self.unfence_keys(&gone.into_iter().flat_map(|held| of_object(&held.object)).collect::<Vec<_>>());
    }

    fn unfence_keys(&self, keys: &[KeyBuf]) {
        self.inner.store(|store, _| store.fences.retain(|key, _| !keys.contains(key)));
    }

    fn objects(&self) -> Vec<Held> {
        self.inner.store(|store, _| store.objects.clone())
    }

    /// Applies the flaw to a fill or a put after the object was stored.
    fn after_store(&self, object: &Object, before: Vec<Held>) {
        let keys = of_object(object);
        let other = |held: &Held| held.object.primary != object.primary;
        let takes = |held: &Held| keys.iter().any(|key| held.lists(key.as_ref()));
        let kept: Vec<Held> = match self.flaw {
            Some(Flaw::DroppedKeysStay) => before.into_iter().filter(|held| !other(held)).collect(),
            Some(Flaw::HolderStays | Flaw::HolderLosesTheKeyOnly) => {
                before.into_iter().filter(|held| other(held) && takes(held)).collect()
            }
            Some(Flaw::DisplacedWithoutFence) => {
                let displaced = before.into_iter().filter(|held| other(held) && takes(held));
                let primaries: Vec<_> = displaced.map(|held| KeyBuf { index: 0, bytes: held.object.primary }).collect();
                return self.unfence_keys(&primaries);
            }
            Some(Flaw::FenceEndsWithNewerObject) => return self.unfence_keys(&keys),
            _ => return,
        };
        self.inner.store(|store, _| {
            for mut held in kept {
                if !self.has(Flaw::HolderStays) {
                    held.live.retain(|live| !keys.contains(live));
                }
                // In front, so that it is found first.
                store.objects.insert(0, held);
            }
        });
    }

    fn look_at(&self, object: &Object) -> Vec<Held> {
        match self.flaw {
            Some(
                Flaw::DroppedKeysStay
                | Flaw::HolderStays
                | Flaw::HolderLosesTheKeyOnly
                | Flaw::DisplacedWithoutFence
                | Flaw::PutLeavesNoFence,
            ) => self.objects(),
            _ => self.inner.store(|store, _| {
                store.objects.iter().filter(|held| held.object.primary == object.primary).cloned().collect()
            }),
        }
    }

    fn filled(&self, object: Object, mut ticket: Ticket) -> Fill {
        let object = self.object(object);
        let before = self.look_at(&object);
        if self.has(Flaw::FillIgnoresTicket) {
            ticket = self.now();
        }
        if self.has(Flaw::KeepsTheFirst) && !before.is_empty() {
            return Fill::undated(Stored::Accepted);
        }
        if self.has(Flaw::FenceEndsWithLife) {
            let expired = |held: &&Held| self.inner.store(|_, now| held.expired(&self.schema, now));
            self.unfence(before.iter().filter(expired));
        }
        let filled = at_once(self.inner.fill(object.clone(), ticket));
        if filled.stored == Stored::Accepted {
            self.after_store(&object, before);
            if self.has(Flaw::FillEvictsOtherRelease) {
                self.inner.store(|store, _| {
                    let other = |held: &Held| held.fingerprint != self.schema.fingerprint();
                    store.objects.retain(|held| held.object.primary != object.primary || !other(held));
                });
            }
        }
        filled
    }

    fn now(&self) -> Ticket {
        self.inner.store(|store, _| larder::contract::issue_ticket(store.epoch, store.sequence))
    }

    fn put_now(&self, object: Object, mut ticket: Option<Ticket>) -> Stored {
        let unfit = self.schema.codec().weigh(&object.value) > self.schema.largest_object();
        if self.has(Flaw::UnfitKeepsOlder) && unfit {
            return Stored::Unfit;
        }
        let unreadable = || matches!(self.schema.codec().encode(&object.value), Err(EncodeError::Unreadable(_)));
        if self.has(Flaw::TakesWhatCannotBeRead) && unreadable() {
            let forgotten = at_once(self.inner.invalidate(of_object(&object), None));
            return forgotten.map_or(Stored::Unavailable, |_| Stored::Accepted);
        }
        let object = self.object(object);
        let before = self.look_at(&object);
        if self.has(Flaw::KeepsTheFirst) && !before.is_empty() {
            return Stored::Accepted;
        }
        if self.has(Flaw::PutNeedsNoTicket) {
            ticket = ticket.or(Some(self.now()));
        }
        let fences = self.has(Flaw::PutLeavesNoFence).then(|| self.inner.store(|store, _| store.fences.clone()));
        let stored = at_once(self.inner.put(object.clone(), ticket));
        if let Some(fences) = fences {
            self.inner.store(|store, _| store.fences = fences);
        }
        if stored == Stored::Accepted {
            self.after_store(&object, before);
        }
        stored
    }

    fn invalidated(&self, keys: Vec<KeyBuf>, floor: Option<u64>) {
        let mut keys = self.keys(keys);
        let floor = floor.filter(|_| !self.has(Flaw::FloorIgnored));
        match self.flaw {
            Some(Flaw::InvalidatesAskedKeyOnly) => return drop(at_once(self.inner.delete(keys))),
            Some(Flaw::InvalidatesFirstKeyOnly) => keys.truncate(1),
            Some(Flaw::KeysArePatterns) => self.inner.store(|store, _| {
                let matches = |key: &KeyBuf| keys.iter().any(|pattern| is_pattern_of(pattern, key));
                store.objects.retain(|held| !held.live.iter().any(matches));
            }),
            _ => {}
        }
        let objects = self.objects();
        let fences = self.inner.store(|store, _| store.fences.clone());
        drop(at_once(self.inner.invalidate(keys, floor)));
        self.inner.store(|store, _| match self.flaw {
            Some(Flaw::FencesWhatIsStoredOnly) => {
                let sequence = store.sequence;
                store.fences = fences;
                let there = |held: &Held| store.objects.iter().any(|other| other.object.primary == held.object.primary);
                for held in objects.iter().filter(|held| !there(held)) {
                    store.fences.extend(of_object(&held.object).into_iter().map(|key| (key, sequence)));
                }
            }
            Some(Flaw::InvalidatesOwnRelease) => {
                store.objects.extend(objects.into_iter().filter(|held| held.fingerprint != self.schema.fingerprint()));
            }
            _ => {}
        });
    }

    fn truncated(&self) {
        let before = self.inner.store(|store, _| (store.epoch, store.sequence, store.objects.first().cloned()));
        drop(at_once(self.inner.truncate()));
        let name: std::sync::Arc<str> = self.schema.cache().into();
        let (epoch, sequence, first) = before;
        match self.flaw {
            Some(Flaw::TruncateLeavesOne) => self.inner.store(|store, _| store.objects.extend(first)),
            Some(Flaw::EpochStays) => self.inner.store(|store, _| (store.epoch, store.sequence) = (epoch, sequence)),
            Some(Flaw::TruncatesAllCaches) => self.shelf.caches(|caches| caches.values_mut().for_each(empty)),
            Some(Flaw::TruncatesByPrefix) => self.shelf.caches(|caches| {
                caches.iter_mut().filter(|(other, _)| other.starts_with(&*name)).for_each(|(_, store)| empty(store));
            }),
            _ => {}
        }
    }

    fn changes(&self) {
        self.remembered.lock().unwrap().clear();
    }
}

fn empty(store: &mut Store) {
    store.objects.clear();
}

fn is_pattern_of(pattern: &KeyBuf, key: &KeyBuf) -> bool {
    let begins = pattern.bytes.strip_suffix(b"*").is_some_and(|begin| key.bytes.starts_with(begin));
    pattern.index == key.index && begins
}

impl Connector for Flawed {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        if !self.has(Flaw::LeaksPermits) {
            return Answer::now(self.read(key));
        }
        Answer::later(async move {
            self.leaked.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
            let found = self.read(key);
            // A dropped future does not get here: this is the leak.
            self.leaked.fetch_sub(1, Ordering::Relaxed);
            found
        })
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        Answer::now(Lookup::of(self.read(key), Some(self.now())))
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.inner.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        self.changes();
        Answer::now(self.filled(object, ticket))
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        self.changes();
        if self.has(Flaw::SetsTwice) {
            return Answer::later(async move {
                let before = self.objects();
                let stored = self.put_now(object, ticket);
                yield_now().await;
                let after = self.inner.store(|store, _| std::mem::replace(&mut store.objects, before));
                yield_now().await;
                self.inner.store(|store, _| store.objects = after);
                stored
            });
        }
        if !self.has(Flaw::PutsByHalves) {
            return Answer::now(self.put_now(object, ticket));
        }
        Answer::later(async move {
            let (primary, all) = (object.primary.clone(), of_object(&object));
            let stored = self.put_now(object, ticket);
            if stored == Stored::Accepted {
                let live = |live: Vec<KeyBuf>| {
                    self.each_held(|held, _| {
                        if held.object.primary == primary {
                            held.live.clone_from(&live);
                        }
                    });
                };
                live(all.iter().take(1).cloned().collect());
                yield_now().await;
                live(all);
            }
            stored
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        let mut found: Vec<_> = keys.iter().map(|key| self.read(*key)).collect();
        if self.has(Flaw::ManyAnsweredInReverse) {
            found.reverse();
        }
        Answer::now(found)
    }

    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        self.changes();
        let mut filled = Vec::new();
        for object in objects {
            // The flaw: if the first fill is accepted, all others are.
            let accepted = self.has(Flaw::ManyFilledByTheFirst)
                && filled.first().is_some_and(|first: &Fill| first.stored == Stored::Accepted);
            filled.push(self.filled(object, if accepted { self.now() } else { ticket }));
        }
        Answer::now(filled)
    }

    fn set_many(&self, mut objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        let reverse = self.has(Flaw::ManySetInReverse);
        if reverse {
            objects.reverse();
        }
        Answer::later(async move {
            let mut stored = Vec::new();
            for object in objects {
                stored.push(self.set(object).await);
                if self.has(Flaw::LosesTheRestOfDroppedSets) {
                    yield_now().await;
                }
            }
            if reverse {
                stored.reverse();
            }
            stored
        })
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        self.changes();
        if !self.has(Flaw::LosesDroppedInvalidation) {
            self.invalidated(keys, floor);
            return Answer::now(Ok(Delivery::Applied));
        }
        Answer::later(async move {
            yield_now().await;
            self.invalidated(keys, floor);
            Ok(Delivery::Applied)
        })
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.changes();
        let mut keys = self.keys(keys);
        match self.flaw {
            Some(Flaw::DeleteInvalidates) => return self.inner.invalidate(keys, None),
            Some(Flaw::DeletesFirstKeyOnly) => keys.truncate(1),
            _ => {}
        }
        let answer = self.inner.delete(keys.clone());
        if self.has(Flaw::FenceEndsWithDelete) {
            self.unfence_keys(&keys);
        }
        answer
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.changes();
        self.truncated();
        Answer::now(Ok(Delivery::Applied))
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        match self.flaw {
            Some(Flaw::PruneIsUse) => self.each_held(|held, now| held.used_at = now),
            Some(Flaw::FenceEndsWithLife) => {
                let expired = |held: &&Held| self.inner.store(|_, now| held.expired(&self.schema, now));
                self.unfence(self.objects().iter().filter(expired));
            }
            _ => {}
        }
        self.inner.prune()
    }

    fn status(&self) -> Status {
        self.inner.status()
    }
}
