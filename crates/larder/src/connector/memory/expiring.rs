//! Values that last for a while. They are found by a hash, and leave in the order in which they came.
//!
//! # Cost
//!
//! Nothing here looks at all values. Whoever adds one takes a bounded number of [steps](Expiring::expire), each of which looks at the
//! oldest value only. So the lock under which this lies is never held for longer because there are many values.

use hashbrown::HashTable;
use std::collections::VecDeque;

/// Steps that each change takes: more than one, so that values leave faster than new ones come.
pub(super) const STEPS: usize = 2;

#[derive(Debug)]
pub(super) struct Expiring<T> {
    table: HashTable<Slot<T>>,
    /// One place for each value, the oldest first: its hash, and when it was to end. A value that was removed leaves its place behind
    /// until the place comes to the front. Places are what the users of this type bound.
    order: VecDeque<(u64, u64)>,
}

/// Two values with one hash cannot both be here: the later one takes the place of the earlier.
#[derive(Debug)]
pub(super) struct Slot<T> {
    pub(super) hash: u64,
    /// In ms of the clock.
    pub(super) until: u64,
    pub(super) value: T,
}

impl<T> Default for Expiring<T> {
    fn default() -> Self {
        Self { table: HashTable::new(), order: VecDeque::new() }
    }
}

impl<T> Expiring<T> {
    /// How many places there are: at least as many as values.
    pub(super) fn places(&self) -> usize {
        self.order.len()
    }

    /// The value with this hash, unless it has ended.
    pub(super) fn get(&self, hash: u64, now: u64) -> Option<&T> {
        let slot = self.table.find(hash, |slot| slot.hash == hash)?;
        (now < slot.until).then_some(&slot.value)
    }

    /// Puts a value in the place of the one with the same hash, which is returned.
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

    /// Takes `steps` steps at most, and tells `gone` of each value that leaves. A step looks at the oldest place: if its time is over, the
    /// place is given up, and its value leaves, unless the value was put anew meanwhile: then it has the newest place from now on.
    /// How many steps there were to take.
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

    /// Gives the oldest place up, and returns what was in it, whether it has ended or not.
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
