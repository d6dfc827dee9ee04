//! A node: its place in the feed, its poll, and what it may read.

use super::database::{Position, Writers};
use crate::source::Keys;

/// Whether the polls of a node ask for its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Membership {
    /// The cache is not opened yet.
    Absent,
    /// Opened, or given up: it joins next.
    Outside,
    Joined,
}

/// Where a poll is. Ages are in ticks since the poll began, and count no further than the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Poll {
    Idle,
    /// The statement is on its way. `asked`: it asks for the cache.
    Asking {
        age: u8,
        asked: bool,
    },
    /// Without `one-statement`: the rows are read, and the snapshot is next.
    Reading {
        age: u8,
        asked: bool,
        changes: Writers,
    },
    /// A cache on a shared connector joins: it has read the place.
    Joining {
        place: Option<Position>,
    },
    /// Answered, and what it brought is being applied.
    Applying(Applying),
}

/// What a poll has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Applying {
    pub(super) age: u8,
    pub(super) asked: bool,
    /// It is the first poll of a cache that joins.
    pub(super) joins: bool,
    pub(super) position: Position,
    /// Everything is to be forgotten.
    pub(super) clear: bool,
    /// Changes that are not applied yet.
    pub(super) changes: Writers,
    pub(super) place: AtPlace,
    /// A change, or the clearing, went into the journal.
    pub(super) deferred: bool,
    /// A change could not be applied, and nobody will apply it. Only without `applied-counts`.
    pub(super) failed: bool,
}

/// What a poll knows of the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum AtPlace {
    /// There is none to look at, or no need to.
    Unneeded,
    /// It is to be read before changes are applied.
    Unread,
    /// It may be set once the changes are applied.
    Read,
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) position: Option<Position>,
    pub(super) membership: Membership,
    /// For how many ticks the cache may be read.
    pub(super) valid: u8,
    pub(super) poll: Poll,
    /// The changes that a get which is under way must show.
    pub(super) owed: Writers,
    /// The server of the shared connector that it is connected to.
    pub(super) connected: Option<u8>,
    /// The server that it was connected to before.
    pub(super) before: u8,
    /// What it could not forget on the shared connector yet.
    pub(super) journal: Keys,
}

impl Node {
    pub(super) fn new(membership: Membership, position: Option<Position>) -> Self {
        Self {
            position,
            membership,
            valid: 0,
            poll: Poll::Idle,
            owed: Writers::NONE,
            connected: Some(0),
            before: 0,
            journal: Keys::NONE,
        }
    }

    /// Whether a get that begins now looks into the cache.
    pub(super) fn may_read(&self) -> bool {
        self.valid > 0 && self.connected.is_some() && self.journal.is_empty()
    }

    pub(super) fn tick(&mut self, deadline: u8) {
        match &mut self.poll {
            Poll::Asking { age, .. } | Poll::Reading { age, .. } | Poll::Applying(Applying { age, .. }) => {
                *age = deadline.min(*age + 1);
            }
            Poll::Idle | Poll::Joining { .. } => {}
        }
    }
}
