//! What this node remembers of where keys lead, so that a lookup by any key is one plain GET, and of when it last touched
//! an object, so that a last-use age does not turn every get into a write.
//!
//! A hint may be wrong at any time: the object itself says which keys it may be served under. The memory is bounded; what
//! is forgotten costs one more round trip.

use crate::clock::Clock;
use crate::contract::{KeyBuf, KeyRef, Object};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One remembered key.
#[derive(Debug)]
pub(crate) struct Hint {
    pub(crate) primary: Box<[u8]>,
    touched: AtomicU64,
}

pub(crate) struct Hints {
    known: Cache<KeyBuf, Arc<Hint>>,
    clock: Clock,
    /// Touch again after this long, in ms; `None` where there is no last-use age.
    touch_after: Option<u64>,
}

impl Equivalent<KeyBuf> for KeyRef<'_> {
    fn equivalent(&self, key: &KeyBuf) -> bool {
        *self == key.as_ref()
    }
}

impl Hints {
    pub(crate) fn new(capacity: usize, last_use_age: Duration, clock: Clock) -> Self {
        // An age under a millisecond is one, not none.
        let age = u64::try_from(last_use_age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self { known: Cache::new(capacity.max(1)), clock, touch_after: (age > 0).then_some(age / 10) }
    }

    /// Where a secondary key leads, as far as this node remembers.
    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<Arc<Hint>> {
        self.known.get(&key)
    }

    /// What is remembered of an object that is looked up by its primary key: needed only where there is a last-use age.
    pub(crate) fn of_primary(&self, key: KeyRef<'_>) -> Option<Arc<Hint>> {
        self.touch_after?;
        self.known.get(&key).or_else(|| Some(self.remember(key, key.bytes)))
    }

    /// Notes where a key leads. All keys of an object share what is known of it, so that it is touched once and not once per key.
    pub(crate) fn remember(&self, key: KeyRef<'_>, primary: &[u8]) -> Arc<Hint> {
        let shared = if key.index == 0 { None } else { self.of_primary(KeyRef { index: 0, bytes: primary }) };
        let fresh = || Arc::new(Hint { primary: primary.into(), touched: AtomicU64::new(0) });
        let hint = shared.unwrap_or_else(fresh);
        self.known.insert(key.to_buf(), hint.clone());
        hint
    }

    /// Notes where all keys of an object lead that was stored now, which is as good as a touch.
    pub(crate) fn remember_stored(&self, object: &Object) {
        let hint =
            Arc::new(Hint { primary: object.primary.clone(), touched: AtomicU64::new(self.clock.coarse().max(1)) });
        let known = object.keys().filter(|key| key.index != 0 || self.touch_after.is_some());
        known.for_each(|key| self.known.insert(key.to_buf(), hint.clone()));
    }

    pub(crate) fn forget(&self, key: KeyRef<'_>) {
        self.known.remove(&key);
    }

    /// Whether a get through this hint has to touch the object; says yes once per interval.
    pub(crate) fn touch_is_due(&self, hint: &Hint) -> bool {
        let Some(interval) = self.touch_after else { return false };
        let now = self.clock.coarse();
        let touched = hint.touched.load(Ordering::Relaxed);
        let due = touched == 0 || now >= touched.saturating_add(interval);
        due && hint.touched.compare_exchange(touched, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The touch was not sent, or not answered: the next get does it.
    pub(crate) fn touch_failed(&self, hint: &Hint) {
        hint.touched.store(0, Ordering::Relaxed);
    }
}
