//! [`Paper`]: the reference, with its objects stored as bytes.
//!
//! The bytes of an object are a *sheet*: a line of text that begins with the keys and ends with a checksum. A register maps each sheet that
//! was written to its object. A changed sheet is not in the register, so damage is always noticed.

use super::flawed::at_once;
use crate::reference::{Reference, Shelf};
use larder::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lookup, Miss, Object, Pruned, Schema, Status, Stored,
    Ticket, Value,
};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

/// What the connector does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// Panics if the bytes are damaged.
    Panics,
    /// Does not remove damaged bytes.
    LeavesDamage,
    /// Answers damaged bytes with the cause `Absent`, so that they are not reported.
    TellsNobody,
    /// Does not check that the object lists the key.
    BelievesTheKey,
    /// Does not invalidate an object whose bytes are damaged.
    DamageHinders,
}

/// Where an object is kept: cache, shape, primary key.
type Place = (Arc<str>, u64, Box<[u8]>);

/// The sheets of all nodes.
#[derive(Clone, Default)]
pub(super) struct Sheets(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    sheets: HashMap<Place, Vec<u8>>,
    register: HashMap<Vec<u8>, Object>,
}

impl Sheets {
    pub(super) fn rewrite(&self, cache: &str, edit: &mut (dyn FnMut(&mut Vec<u8>) + Send)) {
        let mut written = self.lock();
        written.sheets.iter_mut().filter(|(place, _)| *place.0 == *cache).for_each(|(_, sheet)| edit(sheet));
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap()
    }
}

pub(super) struct Paper {
    inner: Reference,
    sheets: Sheets,
    schema: Schema,
    mistake: Option<Mistake>,
}

impl Paper {
    pub(super) fn open(schema: Schema, shelf: &Shelf, sheets: &Sheets, mistake: Option<Mistake>) -> Self {
        Self { inner: Reference::open(schema.clone(), shelf), sheets: sheets.clone(), schema, mistake }
    }

    fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn place(&self, primary: &[u8]) -> Place {
        (Arc::<str>::from(self.schema.cache()), self.schema.fingerprint(), primary.into())
    }

    fn write(&self, object: Object) {
        let mut written = self.sheets.lock();
        let number = written.register.len();
        let mut sheet =
            format!("{:?} {} {number}", object.keys().collect::<Vec<_>>(), self.schema.fingerprint()).into_bytes();
        // With the checksum, a flipped bit never turns one sheet into another.
        let mut sum = DefaultHasher::new();
        sheet.hash(&mut sum);
        sheet.extend(sum.finish().to_be_bytes());
        written.sheets.insert(self.place(&object.primary), sheet.clone());
        written.register.insert(sheet, object);
    }

    fn stored(&self, object: Object, stored: Stored) -> Stored {
        if stored == Stored::Accepted {
            self.write(object);
        }
        stored
    }

    fn read(&self, key: KeyRef<'_>) -> Result<Value, Miss> {
        // The object that the key leads to. Its value comes from the sheet, not from here.
        let leads = self.inner.store(|store, _| {
            let own = store.objects.iter().filter(|held| held.fingerprint == self.schema.fingerprint());
            own.into_iter().find(|held| held.lists(key)).map(|held| held.object.primary.clone())
        });
        at_once(self.inner.get(key))?;
        let place = self.place(&leads.ok_or(Miss::Absent)?);
        let mut written = self.sheets.lock();
        let sheet = written.sheets.get(&place).cloned().unwrap_or_default();
        let found = written.register.get(&sheet).cloned();
        if self.has(Mistake::Panics) {
            return Ok(found.expect("these bytes are what was written").value);
        }
        match found {
            // The sheet may have been swapped with another, so the object must list the key.
            Some(object) if object.keys().any(|listed| listed == key) || self.has(Mistake::BelievesTheKey) => {
                Ok(object.value)
            }
            Some(_) => Err(Miss::Absent),
            None => {
                if !self.has(Mistake::LeavesDamage) {
                    written.sheets.remove(&place);
                    let primary = place.2;
                    self.inner.store(|store, _| store.objects.retain(|held| held.object.primary != primary));
                }
                Err(if self.has(Mistake::TellsNobody) { Miss::Absent } else { Miss::Undecodable })
            }
        }
    }

    fn hindered(&self, keys: &[KeyBuf]) -> bool {
        let written = self.sheets.lock();
        let damaged =
            |place: &Place| written.sheets.get(place).is_some_and(|sheet| !written.register.contains_key(sheet));
        self.has(Mistake::DamageHinders)
            && self.inner.store(|store, _| {
                let led_to = store.objects.iter().filter(|held| keys.iter().any(|key| held.lists(key.as_ref())));
                led_to.into_iter().any(|held| damaged(&self.place(&held.object.primary)))
            })
    }
}

impl Connector for Paper {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        Answer::now(self.read(key))
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        Answer::now(Lookup::of(self.read(key), at_once(self.inner.ticket())))
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.inner.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        let filled = at_once(self.inner.fill(object.clone(), ticket));
        self.stored(object, filled.stored);
        Answer::now(filled)
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        let stored = at_once(self.inner.put(object.clone(), ticket));
        Answer::now(self.stored(object, stored))
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        if self.hindered(&keys) {
            return Answer::now(Ok(Delivery::Deferred));
        }
        self.inner.invalidate(keys, floor)
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.inner.delete(keys)
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.inner.truncate()
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        self.inner.prune()
    }

    fn status(&self) -> Status {
        self.inner.status()
    }
}
