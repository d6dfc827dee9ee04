//! The journal, which larder keeps to itself, as a test can use it.

use crate::contract::KeyBuf;
use crate::journal::{Deferred, Journal, Limits, Waiting};

/// A journal of invalidations by version, so that one can be told from the next.
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

    /// How much waits, as a reader asks.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether nothing waits, as a reader asks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What waits now.
    #[must_use]
    pub fn waiting(&self) -> Option<Replay> {
        self.0.waiting(0).map(Replay)
    }

    /// Crosses out what was replayed.
    pub fn replayed(&self, replay: &Replay) {
        self.0.replayed(replay.0.until);
    }
}

impl Replay {
    /// Whether it forgets this version of what the key leads to.
    #[must_use]
    pub fn covers(&self, key: &str, version: u64) -> bool {
        let covers = |what: &Deferred| matches!(what, Deferred::Invalidate { floor } if *floor >= Some(version));
        self.0.truncate || self.0.keys.iter().any(|(waiting, what)| *waiting == named(key) && covers(what))
    }
}

fn named(key: &str) -> KeyBuf {
    KeyBuf { index: 0, bytes: key.as_bytes().into() }
}
