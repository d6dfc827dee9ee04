//! Deferred invalidations: what could not be delivered, kept until it is, in the order it came.
//!
//! While a journal holds anything, its node reads nothing from the connector. Everything in it only ever *forgets*, so the
//! entries commute with each other and with whatever other nodes do, and applying one twice is harmless; that is
//! what makes coalescing by key, and the overflow into one "truncate everything", correct.
//!
//! An entry is removed only when the very state that was replayed is still in the journal: what came meanwhile stays.

use crate::connector::KeyBuf;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;

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

/// What waits, as replay takes it.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Everything must go; the keys need nothing of their own then.
    pub(crate) truncate: bool,
    pub(crate) keys: Vec<(KeyBuf, Deferred)>,
    /// Up to where this reaches.
    until: u64,
}

/// The journal of one cache on one node.
#[derive(Debug)]
pub(crate) struct Journal {
    limit: usize,
    book: Mutex<Book>,
    /// The number of entries, for a reader to see without the lock.
    length: AtomicU64,
}

#[derive(Debug, Default)]
struct Book {
    keys: HashMap<KeyBuf, (u64, Deferred)>,
    /// When a truncate was last asked for.
    truncate: Option<u64>,
    now: u64,
}

impl Journal {
    /// A journal that holds at most `limit` keys.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, book: Mutex::default(), length: AtomicU64::new(0) }
    }

    /// The number of entries; a truncate is one.
    pub(crate) fn len(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Adds what must be done to these keys. Returns whether the journal overflowed into a truncate.
    pub(crate) fn defer(&self, keys: impl IntoIterator<Item = KeyBuf>, what: Deferred) -> bool {
        let mut book = self.book.lock();
        book.now += 1;
        let now = book.now;
        let mut overflowed = false;
        for key in keys {
            if book.truncate.is_some() {
                // The truncate has yet to be done, and covers this key; it must only not be thought done before now.
                book.truncate = Some(now);
                break;
            }
            let entry = book.keys.entry(key).or_insert((now, what));
            *entry = (now, entry.1.and(what));
            if book.keys.len() > self.limit {
                book.keys = HashMap::new();
                book.truncate = Some(now);
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
        book.truncate = Some(book.now);
        book.keys = HashMap::new();
        self.count(&book);
    }

    /// What waits now, oldest first; `None` where nothing does.
    pub(crate) fn waiting(&self) -> Option<Waiting> {
        let book = self.book.lock();
        if book.truncate.is_none() && book.keys.is_empty() {
            return None;
        }
        let mut keys: Vec<_> = book.keys.iter().map(|(key, (at, what))| (*at, key.clone(), *what)).collect();
        keys.sort_by_key(|(at, ..)| *at);
        Some(Waiting {
            truncate: book.truncate.is_some(),
            keys: keys.into_iter().map(|(_, key, what)| (key, what)).collect(),
            until: book.now,
        })
    }

    /// Crosses out what was replayed; what came after [`waiting`](Self::waiting) was called stays.
    pub(crate) fn replayed(&self, done: &Waiting) {
        let mut book = self.book.lock();
        if book.truncate.is_some_and(|at| at <= done.until) {
            book.truncate = None;
        }
        if done.truncate {
            book.keys.retain(|_, (at, _)| *at > done.until);
        } else {
            for (key, _) in &done.keys {
                if book.keys.get(key).is_some_and(|(at, _)| *at <= done.until) {
                    book.keys.remove(key);
                }
            }
        }
        self.count(&book);
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

    fn key(text: &str) -> KeyBuf {
        KeyBuf { index: 0, bytes: text.as_bytes().into() }
    }

    #[test]
    fn keeps_order_and_coalesces_by_key() {
        let journal = Journal::new(10);
        journal.defer([key("a")], Deferred::Delete);
        journal.defer([key("b")], WHOLE);
        journal.defer([key("a")], Deferred::Invalidate { floor: Some(3) });
        journal.defer([key("a")], Deferred::Invalidate { floor: Some(2) });
        assert_eq!(journal.len(), 2);
        let waiting = journal.waiting().unwrap();
        assert_eq!(waiting.keys, [(key("b"), WHOLE), (key("a"), Deferred::Invalidate { floor: Some(3) })]);
    }

    #[test]
    fn what_comes_during_a_replay_is_not_crossed_out_by_it() {
        let journal = Journal::new(10);
        journal.defer([key("a"), key("b")], WHOLE);
        let waiting = journal.waiting().unwrap();
        journal.defer([key("a")], WHOLE);
        journal.replayed(&waiting);
        assert_eq!(journal.waiting().unwrap().keys, [(key("a"), WHOLE)]);
    }

    #[test]
    fn overflow_becomes_one_truncate_and_loses_nothing() {
        let journal = Journal::new(2);
        assert!(!journal.defer([key("a"), key("b")], WHOLE));
        assert!(journal.defer([key("c")], WHOLE));
        assert_eq!(journal.len(), 1);
        let waiting = journal.waiting().unwrap();
        assert!(waiting.truncate);
        // Deferred while the truncate runs: it may have passed this key already.
        journal.defer([key("d")], WHOLE);
        journal.replayed(&waiting);
        assert!(journal.waiting().unwrap().truncate);
    }

    #[test]
    fn a_truncate_covers_what_was_waiting() {
        let journal = Journal::new(10);
        journal.defer([key("a")], WHOLE);
        journal.defer_truncate();
        assert_eq!(journal.len(), 1);
        let waiting = journal.waiting().unwrap();
        journal.replayed(&waiting);
        assert_eq!(journal.len(), 0);
    }
}
