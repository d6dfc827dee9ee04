//! Deletes and invalidations in batches of keys. Each batch is one atomic step on the server.

use super::journal::Deferred;
use crate::contract::KeyBuf;

/// How many keys a batch has at most.
pub const BATCH: usize = 128;

/// Up to [`BATCH`] keys: all of them are deleted, or all of them are invalidated.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(crate) keys: Vec<&'a KeyBuf>,
    pub(crate) what: Forgetting,
}

/// What is done to the keys of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forgetting {
    /// Just these keys miss from now on.
    Delete,
    /// Every object that one of the keys leads to is forgotten.
    Invalidate {
        /// The lowest version that may be stored from now on, key by key; 0 if a key demands none. Empty if no key demands one.
        floors: Vec<u64>,
    },
}

impl<'a> Batch<'a> {
    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[&'a KeyBuf] {
        &self.keys
    }

    /// What is done to them.
    #[must_use]
    pub fn what(&self) -> &Forgetting {
        &self.what
    }

    /// A batch that does the same to all of these keys.
    pub(crate) fn alike(keys: &'a [KeyBuf], what: Deferred) -> Self {
        let what = match what {
            Deferred::Delete => Forgetting::Delete,
            Deferred::Invalidate { floor: None } => Forgetting::Invalidate { floors: Vec::new() },
            Deferred::Invalidate { floor: Some(floor) } => Forgetting::Invalidate { floors: vec![floor; keys.len()] },
        };
        Self { keys: keys.iter().collect(), what }
    }

    /// The entries of a journal, in as few batches as possible. Deletes and invalidations may change places, because all of them only forget.
    pub(crate) fn of_journal(entries: &'a [(KeyBuf, Deferred)]) -> Vec<Self> {
        let deleted = |(key, what): &'a (KeyBuf, Deferred)| (*what == Deferred::Delete).then_some(key);
        let invalidated = |(key, what): &'a (KeyBuf, Deferred)| match what {
            Deferred::Delete => None,
            Deferred::Invalidate { floor } => Some((key, floor.unwrap_or(NO_FLOOR))),
        };
        let deleted: Vec<_> = entries.iter().filter_map(deleted).collect();
        let invalidated: Vec<_> = entries.iter().filter_map(invalidated).collect();
        let invalidations = invalidated.chunks(BATCH).map(|batch| {
            let (keys, mut floors): (Vec<_>, Vec<_>) = batch.iter().copied().unzip();
            if floors.iter().all(|floor| *floor == NO_FLOOR) {
                floors.clear();
            }
            Self { keys, what: Forgetting::Invalidate { floors } }
        });
        let deletes = deleted.chunks(BATCH).map(|batch| Self { keys: batch.to_vec(), what: Forgetting::Delete });
        invalidations.chain(deletes).collect()
    }
}

/// The floor of a key that demands none: no version is lower.
const NO_FLOOR: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> KeyBuf {
        KeyBuf { index: 0, bytes: number.to_string().into_bytes().into() }
    }

    /// Each deferred set of a versioned entry has a floor of its own, and a delete may stand between any two of them.
    #[test]
    fn whatever_a_journal_holds_goes_in_full_batches() {
        let entries: Vec<_> = (0..3 * BATCH)
            .map(|number| match number % 3 {
                0 => (key(number), Deferred::Delete),
                1 => (key(number), Deferred::Invalidate { floor: None }),
                _ => (key(number), Deferred::Invalidate { floor: Some(number as u64) }),
            })
            .collect();
        let batches = Batch::of_journal(&entries);
        assert_eq!(batches.len(), 3);
        for batch in &batches {
            assert_eq!(batch.keys.len(), BATCH);
            let Forgetting::Invalidate { floors } = &batch.what else { continue };
            for (key, floor) in batch.keys.iter().zip(floors) {
                let (_, what) = entries.iter().find(|(entry, _)| entry == *key).unwrap();
                let expected = if *floor == NO_FLOOR { None } else { Some(*floor) };
                assert_eq!(*what, Deferred::Invalidate { floor: expected });
            }
        }
        let plain = [(key(1), Deferred::Invalidate { floor: None })];
        assert!(matches!(&Batch::of_journal(&plain)[0].what, Forgetting::Invalidate { floors } if floors.is_empty()));
        assert!(Batch::of_journal(&[]).is_empty());
    }
}
