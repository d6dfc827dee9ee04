//! Values that last for a while. A value is found by its hash. Values leave in the order in which they came.
//!
//! # Cost
//!
//! Nothing here looks at all values. Code that adds a value takes a bounded number of [steps](Expiring::expire), and each step looks
//! only at the oldest place. So the lock around this is held no longer when there are many values.

use hashbrown::HashTable;
use std::collections::VecDeque;

/// Steps that each change takes. More than one, so that values leave faster than new values come.
pub(super) const STEPS: usize = 2;

#[derive(Debug)]
pub(super) struct Expiring<T> {
    table: HashTable<Slot<T>>,
    /// One place for each value, oldest first: the hash of the value, and when the value was to end. The place of a value that was
    /// removed stays until it comes to the front. The users of this type limit the number of places.
    order: VecDeque<(u64, u64)>,
}

/// A value and when it ends. There is one slot for a hash: a later value with the same hash replaces the earlier value.
#[derive(Debug)]
pub(super) struct Slot<T> {
    pub(super) hash: u64,
    /// When the value ends, in ms of the clock.
    pub(super) until: u64,
    pub(super) value: T,
}

impl<T> Default for Expiring<T> {
    fn default() -> Self {
        Self { table: HashTable::new(), order: VecDeque::new() }
    }
}

impl<T> Expiring<T> {
    /// How many places there are: at least as many as there are values.
    pub(super) fn places(&self) -> usize {
        self.order.len()
    }

    /// The value with this hash, unless it has ended.
    pub(super) fn get(&self, hash: u64, now: u64) -> Option<&T> {
        let slot = self.table.find(hash, |slot| slot.hash == hash)?;
        (now < slot.until).then_some(&slot.value)
    }

    /// Adds a value. A value with the same hash is replaced, and returned.
    pub(super) fn put(&mut self, hash: u64, until: u64, value: T) -> Option<T> {
        if let Some(slot) = self.table.find_mut(hash, |slot| slot.hash == hash) {
            slot.until = until;
            return Some(std::mem::replace(&mut slot.value, value));
        }
        self.table.insert_unique(hash, Slot { hash, until, value }, |slot| slot.hash);
        self.order.push_back((hash, until));
        None
    }

    pub(super) fn remove(&mut self, hash: u64) -> Option<T> {
        let found = self.table.find_entry(hash, |slot| slot.hash == hash).ok()?;
        Some(found.remove().0.value)
    }

    /// Takes at most `steps` steps, calls `gone` with each value that leaves, and returns the number of steps taken.
    ///
    /// A step looks at the oldest place. If the time of the place is not over, there is no step to take. Otherwise the place is
    /// given up and its value leaves. But a value that was put again meanwhile, with a later end, stays and gets the newest place.
    pub(super) fn expire(&mut self, now: u64, steps: usize, mut gone: impl FnMut(T)) -> usize {
        for taken in 0..steps {
            let Some((hash, until)) = self.order.front().copied().filter(|(_, until)| *until <= now) else {
                return taken;
            };
            self.order.pop_front();
            match self.table.find_entry(hash, |slot| slot.hash == hash) {
                Ok(found) if found.get().until > until => self.order.push_back((hash, found.get().until)),
                Ok(found) => gone(found.remove().0.value),
                Err(_) => {}
            }
        }
        steps
    }

    /// Gives up the oldest place, and returns the value that belongs to it, whether the value has ended or not.
    pub(super) fn drop_oldest(&mut self) -> Option<Slot<T>> {
        let (hash, _) = self.order.pop_front()?;
        let found = self.table.find_entry(hash, |slot| slot.hash == hash).ok()?;
        Some(found.remove().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(values: &mut Expiring<char>, now: u64, steps: usize) -> (usize, Vec<char>) {
        let mut gone = Vec::new();
        let taken = values.expire(now, steps, |value| gone.push(value));
        (taken, gone)
    }

    #[test]
    fn a_value_is_there_until_it_ends_whether_it_has_left_or_not() {
        let mut values = Expiring::default();
        assert_eq!(values.put(1, 10, 'a'), None);
        assert_eq!(values.get(1, 9), Some(&'a'));
        assert_eq!((values.get(1, 10), values.get(2, 9)), (None, None));
        assert_eq!(values.put(1, 20, 'b'), Some('a'));
        assert_eq!(values.get(1, 19), Some(&'b'));
        assert_eq!(values.places(), 1);
    }

    #[test]
    fn the_oldest_leave_first_in_as_many_steps_as_are_taken_and_no_more() {
        let mut values = Expiring::default();
        for (hash, value) in (1..).zip('a'..='e') {
            values.put(hash, 10 * hash, value);
        }
        assert_eq!(expired(&mut values, 9, 9), (0, vec![]));
        assert_eq!(expired(&mut values, 40, 3), (3, vec!['a', 'b', 'c']));
        assert_eq!(expired(&mut values, 40, 3), (1, vec!['d']));
        assert_eq!(values.places(), 1);
        assert_eq!(values.drop_oldest().map(|slot| (slot.hash, slot.until, slot.value)), Some((5, 50, 'e')));
        assert!(values.drop_oldest().is_none());
    }

    #[test]
    fn what_was_put_anew_stays_for_its_new_time() {
        let mut values = Expiring::default();
        values.put(1, 10, 'a');
        values.put(2, 11, 'b');
        values.put(1, 30, 'c');
        assert_eq!(expired(&mut values, 20, 9), (2, vec!['b']));
        assert_eq!((values.get(1, 29), values.places()), (Some(&'c'), 1));
        assert_eq!(expired(&mut values, 30, 9), (1, vec!['c']));
    }

    #[test]
    fn what_was_removed_and_put_again_leaves_once() {
        let mut values = Expiring::default();
        values.put(1, 10, 'a');
        assert_eq!(values.remove(1), Some('a'));
        assert_eq!(values.remove(1), None);
        values.put(1, 15, 'b');
        assert_eq!(values.places(), 2, "the first place is still there");
        assert_eq!(expired(&mut values, 10, 9), (1, vec![]));
        assert_eq!(values.get(1, 14), Some(&'b'));
        assert_eq!(expired(&mut values, 15, 9), (2, vec!['b']));
        assert_eq!(values.places(), 0);
    }
}
