//! The journal: invalidations that could not be delivered yet, in the order in which they came.
//!
//! While a journal holds an entry, its node reads nothing from the connector.
//!
//! An entry can only *forget*. So the order of entries does not matter, neither among themselves nor beside the work of other nodes, and
//! to apply an entry twice is harmless. Therefore two entries for the same key may become one entry, and too many entries may become one
//! "truncate everything".
//!
//! # What a replay removes
//!
//! Each call that defers has a number, and each entry has the number of the last call that deferred it. A replay takes the entries up to
//! some number, applies them, and then removes the entries up to that number. An entry that came during the replay has a higher number,
//! and stays.
//!
//! While a truncate waits, a key that is deferred is covered by it, and only raises the number of the truncate. Once a replay has taken the
//! truncate, the truncate may have passed that key already. So from then on keys become entries of their own again. A second truncate
//! follows only if these overflow, too.
//!
//! # Limits
//!
//! The number of keys and their bytes are limited, because a key may have 64 KiB. Above either limit all entries become one truncate,
//! which forgets everything that the keys would have forgotten. Only the *floor* of an `invalidate_below` is lost: a truncate refuses
//! loads that began before it, but not lower versions that are loaded after it.

use crate::contract::KeyBuf;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

/// What must be done to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deferred {
    /// Make only this key miss.
    Delete,
    /// Forget the objects that the key leads to. If a floor is given, refuse lower versions.
    Invalidate {
        /// The lowest version that may be stored.
        floor: Option<u64>,
    },
}

impl Deferred {
    /// Combines two entries for the same key. An invalidation covers a delete, and the higher floor covers the lower.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Delete, other) | (other, Self::Delete) => other,
            (Self::Invalidate { floor: a }, Self::Invalidate { floor: b }) => Self::Invalidate { floor: a.max(b) },
        }
    }
}

/// What an entry costs beyond its key, in bytes: the place in the map, and the allocation.
const OVERHEAD: usize = 96;

/// How much a journal holds before it becomes one truncate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) keys: usize,
    /// How much memory all entries take together.
    pub(crate) bytes: usize,
}

/// The entries that a replay has taken.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Whether everything must be forgotten. The truncate then covers the keys, too.
    pub(crate) truncate: bool,
    pub(crate) keys: Vec<(KeyBuf, Deferred)>,
    /// The number up to which entries were taken.
    pub(crate) until: u64,
}

/// The journal of one cache on one node.
#[derive(Debug)]
pub(crate) struct Journal {
    limits: Limits,
    book: Mutex<Book>,
    /// The number of entries. A reader looks at it without the lock.
    length: AtomicU64,
}

#[derive(Debug, Default)]
struct Book {
    keys: HashMap<KeyBuf, (u64, Deferred)>,
    bytes: usize,
    /// If a truncate waits: the number of the last call that it covers.
    truncate: Option<u64>,
    /// The number up to which a replay has taken entries.
    taken: u64,
    /// How many calls have deferred something: the number of the last one.
    calls: u64,
}

impl Book {
    fn truncate(&mut self) {
        self.truncate = Some(self.calls);
        self.keys = HashMap::new();
        self.bytes = 0;
    }

    fn add(&mut self, key: KeyBuf, what: Deferred) {
        let weight = weight(&key);
        match self.keys.entry(key) {
            Slot::Occupied(mut entry) => {
                let (at, waiting) = entry.get_mut();
                (*at, *waiting) = (self.calls, waiting.and(what));
            }
            Slot::Vacant(place) => {
                place.insert((self.calls, what));
                self.bytes += weight;
            }
        }
    }
}

fn weight(key: &KeyBuf) -> usize {
    key.bytes.len() + OVERHEAD
}

impl Journal {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, book: Mutex::default(), length: AtomicU64::new(0) }
    }

    /// The number of entries. A truncate counts as one.
    pub(crate) fn len(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Adds what must be done to these keys. Returns whether the journal overflowed into a truncate.
    pub(crate) fn defer(&self, keys: impl IntoIterator<Item = KeyBuf>, what: Deferred) -> bool {
        let mut book = self.book.lock();
        book.calls += 1;
        let mut overflowed = false;
        for key in keys {
            if book.truncate.is_some_and(|at| at > book.taken) {
                // No replay has taken the truncate yet, so it covers this key. Its number is raised so that no earlier replay removes it.
                book.truncate = Some(book.calls);
                break;
            }
            book.add(key, what);
            if book.keys.len() > self.limits.keys || book.bytes > self.limits.bytes {
                book.truncate();
                overflowed = true;
            }
        }
        self.count(&book);
        overflowed
    }

    /// Adds a truncate, which takes the place of all entries.
    pub(crate) fn defer_truncate(&self) {
        let mut book = self.book.lock();
        book.calls += 1;
        book.truncate();
        self.count(&book);
    }

    /// Takes, for a replay, the entries that wait now and were deferred after `since`, oldest first. `None`: nothing waits at all.
    pub(crate) fn waiting(&self, since: u64) -> Option<Waiting> {
        let mut book = self.book.lock();
        if book.truncate.is_none() && book.keys.is_empty() {
            return None;
        }
        book.taken = book.calls;
        let newer = book.keys.iter().filter(|(_, (at, _))| *at > since);
        let mut keys: Vec<_> = newer.map(|(key, (at, what))| (*at, key.clone(), *what)).collect();
        keys.sort_by_key(|(at, ..)| *at);
        Some(Waiting {
            truncate: book.truncate.is_some_and(|at| at > since),
            keys: keys.into_iter().map(|(_, key, what)| (key, what)).collect(),
            until: book.calls,
        })
    }

    /// Removes the entries that were replayed. Entries that came after the call of [`waiting`](Self::waiting) stay. Returns how many
    /// entries were removed.
    pub(crate) fn replayed(&self, until: u64) -> u64 {
        let mut book = self.book.lock();
        let before = self.len();
        book.truncate = book.truncate.filter(|at| *at > until);
        book.keys.retain(|_, (at, _)| *at > until);
        book.bytes = book.keys.keys().map(weight).sum();
        if book.keys.is_empty() {
            // Gives back the memory that the entries of an outage have taken.
            book.keys = HashMap::new();
        }
        self.count(&book);
        before - self.len()
    }

    fn count(&self, book: &Book) {
        let length = book.keys.len() as u64 + u64::from(book.truncate.is_some());
        self.length.store(length, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Deferred = Deferred::Invalidate { floor: None };

    fn journal(keys: usize) -> Journal {
        Journal::new(Limits { keys, bytes: usize::MAX })
    }

    fn key(text: &str) -> KeyBuf {
        KeyBuf { index: 0, bytes: text.as_bytes().into() }
    }

    #[test]
    fn keeps_order_and_coalesces_by_key() {
        let journal = journal(10);
        journal.defer([key("a")], Deferred::Delete);
        journal.defer([key("b")], WHOLE);
        journal.defer([key("a")], Deferred::Invalidate { floor: Some(3) });
        journal.defer([key("a")], Deferred::Invalidate { floor: Some(2) });
        assert_eq!(journal.len(), 2);
        let waiting = journal.waiting(0).unwrap();
        assert_eq!(waiting.keys, [(key("b"), WHOLE), (key("a"), Deferred::Invalidate { floor: Some(3) })]);
    }

    #[test]
    fn what_comes_during_a_replay_is_not_crossed_out_by_it() {
        let journal = journal(10);
        journal.defer([key("a"), key("b")], WHOLE);
        let waiting = journal.waiting(0).unwrap();
        journal.defer([key("a")], WHOLE);
        assert_eq!(journal.replayed(waiting.until), 1);
        assert_eq!(journal.waiting(0).unwrap().keys, [(key("a"), WHOLE)]);
    }

    #[test]
    fn a_replay_that_failed_crosses_out_nothing_and_is_done_again() {
        let journal = journal(10);
        journal.defer([key("a")], WHOLE);
        let first = journal.waiting(0).unwrap();
        journal.defer([key("b")], WHOLE);
        let second = journal.waiting(0).unwrap();
        assert_eq!((first.keys.len(), second.keys.len()), (1, 2));
        assert_eq!(journal.replayed(second.until), 2);
        assert_eq!(journal.len(), 0);
    }

    #[test]
    fn what_was_sent_and_only_waits_to_be_confirmed_is_not_sent_again() {
        let journal = journal(10);
        journal.defer([key("a")], WHOLE);
        journal.defer_truncate();
        let sent = journal.waiting(0).unwrap();
        journal.defer([key("b")], WHOLE);
        let more = journal.waiting(sent.until).unwrap();
        assert!(!more.truncate);
        assert_eq!(more.keys, [(key("b"), WHOLE)]);
        assert_eq!(journal.replayed(more.until), 2, "both are confirmed");
        assert!(journal.waiting(sent.until).is_none());
    }

    #[test]
    fn overflow_becomes_one_truncate_and_loses_nothing() {
        let journal = journal(2);
        assert!(!journal.defer([key("a"), key("b")], WHOLE));
        assert!(journal.defer([key("c"), key("d")], WHOLE));
        assert!(!journal.defer([key("e")], WHOLE), "which covers what comes until it is done");
        assert_eq!(journal.len(), 1);
        let waiting = journal.waiting(0).unwrap();
        assert!(waiting.truncate);
        assert!(waiting.keys.is_empty());
        assert_eq!(journal.replayed(waiting.until), 1);
        assert_eq!(journal.len(), 0);
    }

    #[test]
    fn long_keys_overflow_by_their_bytes() {
        let journal = Journal::new(Limits { keys: 10, bytes: 2 * (OVERHEAD + 1000) });
        let long = |n: usize| key(&n.to_string().repeat(1000));
        assert!(!journal.defer([long(1), long(2)], WHOLE));
        assert!(!journal.defer([long(2)], WHOLE), "counted once");
        let waiting = journal.waiting(0).unwrap();
        journal.replayed(waiting.until);
        assert!(!journal.defer([long(3), long(4)], WHOLE), "what was replayed weighs nothing");
        assert!(journal.defer([key("x")], WHOLE));
        assert!(journal.waiting(0).unwrap().truncate);
    }

    /// The truncate may have passed the key already. If the key became a second truncate, keys that are deferred all the time would cause
    /// truncates for ever.
    #[test]
    fn a_key_that_is_deferred_while_a_truncate_is_replayed_waits_by_itself() {
        let journal = journal(2);
        journal.defer_truncate();
        let waiting = journal.waiting(0).unwrap();
        journal.defer([key("a")], WHOLE);
        assert_eq!(journal.replayed(waiting.until), 1);
        let waiting = journal.waiting(0).unwrap();
        assert!(!waiting.truncate);
        assert_eq!(waiting.keys, [(key("a"), WHOLE)]);
    }

    #[test]
    fn an_overflow_while_a_truncate_is_replayed_needs_another() {
        let journal = journal(1);
        journal.defer_truncate();
        let waiting = journal.waiting(0).unwrap();
        assert!(journal.defer([key("a"), key("b"), key("c")], WHOLE));
        journal.replayed(waiting.until);
        assert!(journal.waiting(0).unwrap().truncate);
    }

    #[test]
    fn a_truncate_covers_what_was_waiting() {
        let journal = journal(10);
        journal.defer([key("a")], WHOLE);
        journal.defer_truncate();
        assert_eq!(journal.len(), 1);
        let waiting = journal.waiting(0).unwrap();
        journal.replayed(waiting.until);
        assert_eq!(journal.len(), 0);
    }
}
