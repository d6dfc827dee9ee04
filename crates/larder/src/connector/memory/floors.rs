//! Floors: the lowest versions that invalidations have demanded.
//!
//! A floor belongs to one object, found by the hash of its primary key, and lasts for a minute. Two keys with the same hash share the
//! higher floor.
//!
//! # At the bound
//!
//! No floor is dropped before its time: a lower version could then be stored, and C9 would be broken without a word. When more than
//! [`MAX_OWN`] floors are demanded within a minute, the oldest floor moves into a *common* floor. There are 65,536 common floors, and
//! all keys whose hash falls into the same slot share one. A common floor keeps the highest version and the latest end of all floors
//! that have moved there, so it is stricter than each of them. The only thing a common floor can do wrong is to refuse, for a minute
//! at most, an object of another key whose version is lower. The next caller that asks for that object loads it again.
//!
//! One common floor for the whole cache would take less room. But a single object with high versions would then make the cache refuse
//! every object whose versions count from zero.
//!
//! # Cost
//!
//! Each floor and each look takes constant time. All floors take at most 6 MB, and nothing before the first floor is demanded.

use super::expiring::{Expiring, STEPS};
use super::{SLOTS, slot};

/// How long a floor lasts, in ms.
const LIFE: u64 = 60_000;

/// How many floors may belong to one object each. Further floors are common floors.
const MAX_OWN: usize = 1 << 16;

#[derive(Debug, Default)]
pub(super) struct Floors {
    own: Expiring<u64>,
    /// Empty before the first common floor; after that, one for each slot.
    common: Vec<Common>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Common {
    version: u64,
    until: u64,
}

impl Floors {
    /// Demands that no version lower than `version` is stored of the object whose primary key has this hash.
    pub(super) fn raise(&mut self, hash: u64, version: u64, now: u64) {
        self.expire(now, STEPS);
        let version = self.own.get(hash, now).map_or(version, |earlier| version.max(*earlier));
        self.own.put(hash, now.saturating_add(LIFE), version);
        while self.own.places() > MAX_OWN {
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

    /// Forgets floors that are over, in at most `steps` steps. Returns the number of steps taken.
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
        const ALL: u64 = 4 * MAX_OWN as u64;
        let mut floors = Floors::default();
        for key in 0..ALL {
            floors.raise(hash(key), 1 + key, key / 100);
        }
        let now = ALL / 100;
        assert!(floors.own.places() <= MAX_OWN);
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
        for key in 0..MAX_OWN as u64 {
            floors.raise(hash(key), 1_000_000, 0);
        }
        let strangers = MAX_OWN as u64..2 * MAX_OWN as u64;
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
