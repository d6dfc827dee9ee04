//! Deferred invalidations: what could not be delivered, kept until it is, in the order it came.
//!
//! While a journal holds anything, its node reads nothing from the connector. Everything in it only ever *forgets*, so the
//! entries commute with each other and with whatever other nodes do, and applying one twice is harmless; that is
//! what makes coalescing by key, and the overflow into one "truncate everything", correct.
//!
//! # What a replay crosses out
//!
//! Each entry has the number of the call that deferred it last. A replay is of what there is up to some number, and crosses out just
//! that: what came meanwhile has a higher one, and stays. While a truncate waits, a key that is deferred adds nothing to it but its number.
//! Once it is being replayed it may have passed the key already, so that keys are kept again, each by itself: a second truncate
//! follows only where those overflow too.
//!
//! # Limits
//!
//! Keys, and bytes, since a key may have 64 KiB. Above either it becomes one truncate, which removes what every key would have
//! removed. What is lost is the *floor* of an `invalidate_below`: a truncate refuses loads that began before it, not lower versions
//! that are loaded after it.

use crate::contract::KeyBuf;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

/// What has to be done to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deferred {
    /// Only this key misses.
    Delete,
    /// The objects it leads to are forgotten, and lower versions refused where a floor is given.
    Invalidate {
        /// The lowest version that may be stored.
        floor: Option<u64>,
    },
}

impl Deferred {
    /// Both, where both are waiting: an invalidation covers a delete, and the higher floor covers the lower.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Delete, other) | (other, Self::Delete) => other,
            (Self::Invalidate { floor: a }, Self::Invalidate { floor: b }) => Self::Invalidate { floor: a.max(b) },
        }
    }
}

/// What an entry costs beyond its key, in bytes: its place in the map, and the allocation.
const OVERHEAD: usize = 96;

/// How much a journal holds before it becomes one truncate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) keys: usize,
    /// What the keys take up in memory, all told.
    pub(crate) bytes: usize,
}

/// What waits, as replay takes it.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Everything must go; the keys need nothing of their own then.
    pub(crate) truncate: bool,
    pub(crate) keys: Vec<(KeyBuf, Deferred)>,
    /// Up to where this reaches.
    pub(crate) until: u64,
}

/// The journal of one cache on one node.
#[derive(Debug)]
pub(crate) struct Journal {
    limits: Limits,
    book: Mutex<Book>,
    /// The number of entries, for a reader to see without the lock.
    length: AtomicU64,
}

#[derive(Debug, Default)]
struct Book {
    keys: HashMap<KeyBuf, (u64, Deferred)>,
    bytes: usize,
    /// When a truncate was last asked for.
    truncate: Option<u64>,
    /// Up to where a replay has taken what waits.
    taken: u64,
    now: u64,
}

impl Book {
    fn truncate(&mut self) {
        self.truncate = Some(self.now);
        self.keys = HashMap::new();
        self.bytes = 0;
    }

    fn add(&mut self, key: KeyBuf, what: Deferred) {
        let weight = weight(&key);
        match self.keys.entry(key) {
            Slot::Occupied(mut entry) => {
                let (at, waiting) = entry.get_mut();
                (*at, *waiting) = (self.now, waiting.and(what));
            }
            Slot::Vacant(place) => {
                place.insert((self.now, what));
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

    /// The number of entries; a truncate is one.
    pub(crate) fn len(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Adds what must be done to these keys. Returns whether the journal overflowed into a truncate.
    pub(crate) fn defer(&self, keys: impl IntoIterator<Item = KeyBuf>, what: Deferred) -> bool {
        let mut book = self.book.lock();
        book.now += 1;
        let mut overflowed = false;
        for key in keys {
            if book.truncate.is_some_and(|at| at > book.taken) {
                // It has yet to be done, and covers this key; it must only not be thought done before now.
                book.truncate = Some(book.now);
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

    /// Adds "forget everything".
    pub(crate) fn defer_truncate(&self) {
        let mut book = self.book.lock();
        book.now += 1;
        book.truncate();
        self.count(&book);
    }

    /// What waits now and was deferred after `since`, oldest first; `None` where nothing waits at all.
    pub(crate) fn waiting(&self, since: u64) -> Option<Waiting> {
        let mut book = self.book.lock();
        if book.truncate.is_none() && book.keys.is_empty() {
            return None;
        }
        book.taken = book.now;
        let newer = book.keys.iter().filter(|(_, (at, _))| *at > since);
        let mut keys: Vec<_> = newer.map(|(key, (at, what))| (*at, key.clone(), *what)).collect();
        keys.sort_by_key(|(at, ..)| *at);
        Some(Waiting {
            truncate: book.truncate.is_some_and(|at| at > since),
            keys: keys.into_iter().map(|(_, key, what)| (key, what)).collect(),
            until: book.now,
        })
    }

    /// Crosses out what was replayed; what came after [`waiting`](Self::waiting) was called stays. Returns how many entries went.
    pub(crate) fn replayed(&self, until: u64) -> u64 {
        let mut book = self.book.lock();
        let before = self.len();
        book.truncate = book.truncate.filter(|at| *at > until);
        book.keys.retain(|_, (at, _)| *at > until);
        book.bytes = book.keys.keys().map(weight).sum();
        if book.keys.is_empty() {
            // Gives back what an outage has taken.
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

    /// It may have passed the key already. A second truncate would follow wherever keys are deferred all the time.
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
