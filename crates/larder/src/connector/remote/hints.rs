//! Hints: what this node remembers of where keys lead, and of when it last touched an object.
//!
//! With a hint, a lookup by a secondary key is one plain GET. And a last-use age does not turn every get into a write, because this node
//! touches an object only once in a while.
//!
//! A hint may be wrong at any time: the object itself says which keys it may be served under. The number of hints is bounded. A hint that
//! was forgotten costs one more round trip.

use crate::clock::Clock;
use crate::contract::{KeyBuf, KeyRef, Object};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is remembered of a key. All keys of an object may share one hint.
#[derive(Debug)]
pub(crate) struct Hint {
    pub(crate) primary: Box<[u8]>,
    /// When this node last touched the object, in ms of the clock. 0: not yet.
    touched: AtomicU64,
}

pub(crate) struct Hints {
    known: Cache<KeyBuf, Arc<Hint>>,
    clock: Clock,
    /// An object is touched again after this time, in ms. `None`: there is no last-use age.
    touch_after: Option<u64>,
}

impl Equivalent<KeyBuf> for KeyRef<'_> {
    fn equivalent(&self, key: &KeyBuf) -> bool {
        *self == key.as_ref()
    }
}

impl Hints {
    pub(crate) fn new(capacity: usize, last_use_age: Duration, clock: Clock) -> Self {
        // Rounded up: an age of less than a millisecond is still an age.
        let age = u64::try_from(last_use_age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self { known: Cache::new(capacity.max(1)), clock, touch_after: (age > 0).then_some(age / 10) }
    }

    /// Where a secondary key leads, if this node remembers.
    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<Arc<Hint>> {
        self.known.get(&key)
    }

    /// The hint for a primary key, which is made if there is none. `None`: there is no last-use age, so no hint is needed.
    pub(crate) fn of_primary(&self, key: KeyRef<'_>) -> Option<Arc<Hint>> {
        self.touch_after?;
        self.known.get(&key).or_else(|| Some(self.remember(key, key.bytes)))
    }

    /// Notes where a key leads. All keys of an object share one hint, so that the object is touched once and not once for each key.
    pub(crate) fn remember(&self, key: KeyRef<'_>, primary: &[u8]) -> Arc<Hint> {
        let shared = if key.index == 0 { None } else { self.of_primary(KeyRef { index: 0, bytes: primary }) };
        let fresh = || Arc::new(Hint { primary: primary.into(), touched: AtomicU64::new(0) });
        let hint = shared.unwrap_or_else(fresh);
        self.known.insert(key.to_buf(), hint.clone());
        hint
    }

    /// Notes where all keys of an object lead that was stored just now. Storing an object counts as touching it.
    pub(crate) fn remember_stored(&self, object: &Object) {
        let hint =
            Arc::new(Hint { primary: object.primary.clone(), touched: AtomicU64::new(self.clock.coarse().max(1)) });
        let known = object.keys().filter(|key| key.index != 0 || self.touch_after.is_some());
        known.for_each(|key| self.known.insert(key.to_buf(), hint.clone()));
    }

    pub(crate) fn forget(&self, key: KeyRef<'_>) {
        self.known.remove(&key);
    }

    /// Whether a get through this hint must touch the object. The answer is yes once in each interval.
    pub(crate) fn touch_is_due(&self, hint: &Hint) -> bool {
        let Some(interval) = self.touch_after else { return false };
        let now = self.clock.coarse();
        let touched = hint.touched.load(Ordering::Relaxed);
        let due = touched == 0 || now >= touched.saturating_add(interval);
        due && hint.touched.compare_exchange(touched, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes that the touch was not sent, or not answered. The next get touches the object.
    pub(crate) fn touch_failed(&self, hint: &Hint) {
        hint.touched.store(0, Ordering::Relaxed);
    }
}
