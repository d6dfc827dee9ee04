//! One object as it is held: its value, its ages, and the one bit that says whether it is live.

use crate::clock::Clock;
use crate::connector::{Miss, Schema, Value};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The age limits of a cache, in ms; [`NEVER`] where there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    max: u64,
    last_use: u64,
}

const NEVER: u64 = u64::MAX;

/// Uses are counted up to this: it tells what is used from what was used once.
const MANY: u8 = 3;

impl Ages {
    pub(super) fn of(schema: &Schema) -> Self {
        // An age under a millisecond is one, not none.
        let limit = |age: Duration| match age.as_nanos().div_ceil(1_000_000) {
            0 => NEVER,
            some => u64::try_from(some).unwrap_or(NEVER),
        };
        Self { max: limit(schema.max_age), last_use: limit(schema.last_use_age) }
    }

    fn none(self) -> bool {
        self.max == NEVER && self.last_use == NEVER
    }
}

#[derive(Debug)]
pub(super) struct Held {
    value: Value,
    live: AtomicBool,
    /// How often it was used since the eviction policy last looked, up to [`MANY`].
    uses: AtomicU8,
    /// Keys that have not been deleted.
    keys: AtomicU32,
    /// When its max age is over, by the clock.
    deadline: u64,
    /// When it was last used, by the clock; never later than it was.
    used: AtomicU64,
    pub(super) version: Option<u64>,
    /// In bytes.
    pub(super) weight: u64,
    /// The hash of each of its keys, the primary one first: with them the table finds its places again.
    pub(super) hashes: Box<[u64]>,
}

impl Held {
    pub(super) fn new(
        value: Value,
        version: Option<u64>,
        hashes: Box<[u64]>,
        weight: u64,
        uses: u8,
        ages: Ages,
        clock: &Clock,
    ) -> Self {
        let now = if ages.none() { 0 } else { clock.now() };
        Self {
            value,
            live: AtomicBool::new(false),
            uses: AtomicU8::new(uses),
            keys: AtomicU32::new(u32::try_from(hashes.len()).unwrap_or(u32::MAX)),
            deadline: now.saturating_add(ages.max),
            used: AtomicU64::new(now),
            version,
            weight,
            hashes,
        }
    }

    /// From here on readers see it, under all of its keys.
    pub(super) fn begin(&self) {
        self.live.store(true, Ordering::Release);
    }

    /// From here on no reader sees it. Whether it was live.
    pub(super) fn end(&self) -> bool {
        self.live.swap(false, Ordering::AcqRel)
    }

    /// The value, if it may be served now; that is a use.
    #[inline]
    pub(super) fn serve(&self, ages: Ages, clock: &Clock) -> Result<Value, Miss> {
        if !self.live.load(Ordering::Acquire) {
            return Err(Miss::Absent);
        }
        if !ages.none() {
            let used = self.used.load(Ordering::Relaxed);
            let end = self.deadline.min(used.saturating_add(ages.last_use));
            let mut now = clock.coarse();
            if now.saturating_add(Clock::COARSE_LAG) >= end {
                now = clock.now();
                if now >= end {
                    return Err(Miss::Expired);
                }
            }
            // A line that is only read stays in every core's cache: it is written once a millisecond at most.
            if ages.last_use != NEVER && now > used {
                self.used.store(now, Ordering::Relaxed);
            }
        }
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < MANY {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
        Ok(self.value.clone())
    }

    pub(super) fn expired(&self, ages: Ages, now: u64) -> bool {
        now >= self.deadline.min(self.used.load(Ordering::Relaxed).saturating_add(ages.last_use))
    }

    pub(super) fn primary(&self) -> u64 {
        self.hashes.first().copied().unwrap_or_default()
    }

    pub(super) fn uses(&self) -> u8 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Sets the count of uses; what a reader adds at the same time may be lost, which costs the object a little time.
    pub(super) fn set_uses(&self, uses: u8) {
        self.uses.store(uses, Ordering::Relaxed);
    }

    /// Counts a deleted key. Whether it was the last one.
    pub(super) fn lose_key(&self) -> bool {
        self.keys.fetch_sub(1, Ordering::Relaxed) == 1
    }
}
