//! Floors: the lowest versions that invalidations have demanded.
//!
//! A floor is of one object, by the hash of its primary key, and lasts for a minute. Two keys with one hash share the higher floor.
//!
//! # At the bound
//!
//! No floor is dropped before its time, since a lower version could then be stored and C9 would be broken without a word. When more than
//! [`MOST`] floors are demanded within a minute, the oldest moves into a *common* floor: one of 65,536 slots, which all keys whose
//! hash falls into that slot share. The slot keeps the highest version and the latest end of all floors that have moved there. So a
//! common floor is stricter than each floor in it: the only thing it can do wrong is to refuse, for a minute at most, an object of
//! another key whose version is lower. That object is loaded again by whoever asks for it.
//!
//! One floor for the whole cache would have taken less room. It would have refused every object of the cache whose versions count
//! from zero, as soon as one other object with high versions was among five million.
//!
//! # Cost
//!
//! Constant time for each floor and each look. At most 6 MB, and nothing before the first floor.

use super::expiring::{Expiring, STEPS};
use super::{SLOTS, slot};

/// How long a floor lasts, in ms.
const LIFE: u64 = 60_000;

/// Floors that objects have for themselves.
const MOST: usize = 1 << 16;

#[derive(Debug, Default)]
pub(super) struct Floors {
    own: Expiring<u64>,
    /// Empty, or as many as there are slots.
    common: Vec<Common>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Common {
    version: u64,
    until: u64,
}

impl Floors {
    /// Demands that no version lower than this one is stored of the object whose primary key has this hash.
    pub(super) fn raise(&mut self, hash: u64, version: u64, now: u64) {
        self.expire(now, STEPS);
        let version = self.own.get(hash, now).map_or(version, |earlier| version.max(*earlier));
        self.own.put(hash, now.saturating_add(LIFE), version);
        while self.own.places() > MOST {
            if let Some(oldest) = self.own.drop_oldest() {
                self.share(oldest.hash, oldest.value, oldest.until, now);
            }
        }
    }

    fn share(&mut self, hash: u64, version: u64, until: u64, now: u64) {
        if self.common.is_empty() {
            self.common = vec![Common::default(); SLOTS];
        }
        if let Some(common) = self.common.get_mut(slot(hash)) {
            let earlier = if now < common.until { common.version } else { 0 };
            *common = Common { version: version.max(earlier), until: until.max(common.until) };
        }
    }

    /// The lowest version that may be stored now of the object whose primary key has this hash.
    pub(super) fn lowest(&self, hash: u64, now: u64) -> u64 {
        let own = self.own.get(hash, now).copied().unwrap_or(0);
        let common = self.common.get(slot(hash)).filter(|common| now < common.until);
        common.map_or(own, |common| own.max(common.version))
    }

    /// Forgets floors that are over, in so many steps at most. How many steps there were to take.
    pub(super) fn expire(&mut self, now: u64, steps: usize) -> usize {
        self.own.expire(now, steps, drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads over all slots, as the hash of a key does.
    fn hash(key: u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn the_highest_floor_counts_for_a_minute_after_the_last() {
        let mut floors = Floors::default();
        floors.raise(1, 7, 0);
        floors.raise(1, 5, 30_000);
        assert_eq!((floors.lowest(1, 30_000), floors.lowest(2, 30_000)), (7, 0));
        assert_eq!(floors.lowest(1, 89_999), 7);
        assert_eq!(floors.lowest(1, 90_000), 0);
        floors.raise(1, 3, 90_000);
        assert_eq!(floors.lowest(1, 90_000), 3, "what is over counts no more");
    }

    #[test]
    fn more_floors_than_there_is_room_for_are_kept_all_the_same_and_end_all_the_same() {
        const ALL: u64 = 4 * MOST as u64;
        let mut floors = Floors::default();
        for key in 0..ALL {
            floors.raise(hash(key), 1 + key, key / 100);
        }
        let now = ALL / 100;
        assert!(floors.own.places() <= MOST);
        assert_eq!(floors.common.len(), SLOTS);
        for key in 0..ALL {
            assert!(floors.lowest(hash(key), now) > key, "the floor of {key} is forgotten");
        }
        let end = now + LIFE;
        assert!((0..ALL).all(|key| floors.lowest(hash(key), end) == 0));
    }

    #[test]
    fn an_object_has_a_floor_of_its_own_as_long_as_there_is_room() {
        let mut floors = Floors::default();
        for key in 0..MOST as u64 {
            floors.raise(hash(key), 1_000_000, 0);
        }
        let strangers = MOST as u64..2 * MOST as u64;
        assert!(strangers.clone().all(|key| floors.lowest(hash(key), 0) == 0));
        // A common floor counts in its slot and in no other.
        floors.raise(hash(strangers.start), 1_000_000, 0);
        let hit = strangers.skip(1).filter(|key| floors.lowest(hash(*key), 0) > 0).count();
        assert!(hit <= 16, "{hit} strangers have the floor of one object");
    }

    #[test]
    fn floors_that_are_over_leave_a_few_at_a_time() {
        let mut floors = Floors::default();
        for key in 0..1000 {
            floors.raise(hash(key), 1, 0);
        }
        for key in 0..100 {
            let before = floors.own.places();
            floors.raise(hash(2000 + key), 1, LIFE);
            assert_eq!(before - floors.own.places(), STEPS - 1);
        }
        assert_eq!(floors.expire(LIFE, usize::MAX), 800);
        assert_eq!(floors.own.places(), 100);
    }
}
