//! One word for each object, which readers look at: whether the object is live, when it was last used, and how often.
//!
//! The words of all objects lie close together, eight bytes each. So they stay in a core's cache while the objects themselves do not.
//! A word is given to another object only when its object has left the table under all of its keys. No reader can be looking at the
//! word then: a reader holds the lock of the shard in which it found the word, until it is done with it.

use super::ages::Ages;
use crate::clock::Clock;
use crate::contract::Miss;
use crate::sync::atomic::{AtomicU64, Ordering};

/// How many words are allocated together.
pub(super) const BLOCK: usize = 256;

/// Bit 0: whether the object is live. Bits 1 and 2: uses since the eviction policy last looked, up to [`MAX_USES`]. The other bits: when
/// the object was last used, in ms of the clock. The stored time may be earlier than the last use, but never later.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

const LIVE: u64 = 1;
const USE: u64 = 2;
const USES: u64 = 3 * USE;
const USED: u32 = 3;

/// Uses are counted up to this. That is enough to tell an object that is used from one that was used once.
pub(super) const MAX_USES: u64 = 3;

/// What time it is for a reader.
#[derive(Clone, Copy, Debug)]
pub(super) enum Time<'a> {
    /// By this clock, which is read as precisely as the question needs.
    By(&'a Clock),
    /// The reader has read the precise clock: in ms.
    At(u64),
}

impl Time<'_> {
    /// How much later a use must be than the one that is stored, to be stored itself, in ms. The coarse clock stands still for some milliseconds anyway; the
    /// precise one would have nearly every reader write.
    #[inline]
    fn grain(self) -> u64 {
        match self {
            Self::By(_) => 1,
            Self::At(_) => 8,
        }
    }

    /// A time that is on the same side of `end` as the present, and not later than the present.
    #[inline]
    fn beside(self, end: u64) -> u64 {
        match self {
            Self::At(now) => now,
            Self::By(clock) => {
                let coarse = clock.coarse();
                if coarse.saturating_add(Clock::COARSE_LAG) < end { coarse } else { clock.now() }
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Block {
    /// The number of this block among all blocks.
    pub(super) number: u32,
    pulses: [Pulse; BLOCK],
}

impl Block {
    pub(super) fn new(number: u32) -> Self {
        Self { number, pulses: std::array::from_fn(|_| Pulse::default()) }
    }

    /// The word at a place of the block. A `u8` can name every word and no more, so this cannot fail.
    #[inline]
    pub(super) fn pulse(&self, place: u8) -> &Pulse {
        const { assert!(BLOCK == 1 << u8::BITS) };
        &self.pulses[usize::from(place)]
    }
}

impl Pulse {
    /// From here on readers see the object, under all of its keys.
    pub(super) fn begin(&self, now: u64, uses: u64) {
        self.0.store((now << USED) | (uses * USE) | LIVE, Ordering::Release);
    }

    /// From here on no reader sees the object. Returns whether the object was live.
    pub(super) fn end(&self) -> bool {
        self.0.fetch_and(!LIVE, Ordering::AcqRel) & LIVE != 0
    }

    /// Whether the object may be served now. If it may, this counts as a use.
    #[inline]
    pub(super) fn serve(&self, deadline: u64, ages: Ages, time: Time<'_>) -> Result<(), Miss> {
        let word = self.0.load(Ordering::Acquire);
        if word & LIVE == 0 {
            return Err(Miss::Absent);
        }
        let mut used = word >> USED;
        if !ages.none() {
            let end = deadline.min(used.saturating_add(ages.last_use));
            let now = time.beside(end);
            if now >= end {
                return Err(Miss::Expired);
            }
            if ages.counts_uses() && now >= used.saturating_add(time.grain()) {
                used = now;
            }
        }
        let uses = if word & USES == USES { word & USES } else { (word & USES) + USE };
        let next = (used << USED) | uses | LIVE;
        // The word is written once in a while at most, so that readers on other cores keep their copy of it. If another thread has
        // changed the word meanwhile, that thread has counted a use or ended the object, and its change stays.
        if next != word {
            let _ = self.0.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        Ok(())
    }

    /// When the object was last used, in ms of the clock, if it is live.
    pub(super) fn live(&self) -> Option<u64> {
        let word = self.0.load(Ordering::Acquire);
        (word & LIVE != 0).then_some(word >> USED)
    }

    /// When the object was last used, in ms of the clock.
    pub(super) fn used(&self) -> u64 {
        self.0.load(Ordering::Relaxed) >> USED
    }

    pub(super) fn uses(&self) -> u64 {
        (self.0.load(Ordering::Relaxed) & USES) / USE
    }

    /// Sets the count of uses. A use that a reader counts at the same time may be lost; the object may then be evicted a little earlier.
    pub(super) fn set_uses(&self, uses: u64) {
        let set = |word| Some((word & !USES) | (uses.min(MAX_USES) * USE));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
    }
}
