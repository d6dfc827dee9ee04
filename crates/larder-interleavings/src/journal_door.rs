//! A way for tests into the journal, which is private in larder.

use crate::contract::KeyBuf;
use crate::journal::{Deferred, Journal, Limits, Waiting};

/// A journal of invalidations. Each has a version, so that a test can tell one from the next.
#[derive(Debug)]
pub struct Waits(Journal);

/// What a replay has taken from the journal.
#[derive(Debug)]
pub struct Replay(Waiting);

impl Waits {
    /// A journal that holds at most `limit` keys.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Journal::new(Limits { keys: limit, bytes: usize::MAX }))
    }

    /// Defers the invalidation of a key.
    pub fn defer(&self, key: &str, version: u64) {
        self.0.defer([named(key)], Deferred::Invalidate { floor: Some(version) });
    }

    /// Defers a truncate.
    pub fn defer_truncate(&self) {
        self.0.defer_truncate();
    }

    /// How many entries wait, asked in the way a reader asks: without the lock.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether no entry waits, asked in the way a reader asks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries that wait now, for a replay.
    #[must_use]
    pub fn waiting(&self) -> Option<Replay> {
        self.0.waiting(0).map(Replay)
    }

    /// Removes the entries that were replayed.
    pub fn replayed(&self, replay: &Replay) {
        self.0.replayed(replay.0.until);
    }
}

impl Replay {
    /// Whether this replay forgets the given version of the object that the key leads to.
    #[must_use]
    pub fn covers(&self, key: &str, version: u64) -> bool {
        let covers = |what: &Deferred| matches!(what, Deferred::Invalidate { floor } if *floor >= Some(version));
        self.0.truncate || self.0.keys.iter().any(|(waiting, what)| *waiting == named(key) && covers(what))
    }
}

fn named(key: &str) -> KeyBuf {
    KeyBuf { index: 0, bytes: key.as_bytes().into() }
}
