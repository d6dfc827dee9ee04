//! The server: the clock of one cache with its log, the object, and how far each follower is.

use crate::source::Keys;

/// What the server and L1 hold of P.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Value {
    /// The changes before this number were made when the value was loaded.
    pub(super) version: u8,
    /// Whether h was deleted: the value still belongs to h, and is not served under h.
    pub(super) h_deleted: bool,
}

impl Value {
    /// Whether it is newer than what is owed, under each key under which it is served.
    pub(super) fn pays(self, owed: [u8; 2]) -> bool {
        self.version >= owed[0] && (self.h_deleted || self.version >= owed[1])
    }
}

/// Up to where changes are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Known {
    pub(super) epoch: u8,
    pub(super) sequence: u8,
}

/// What the table says of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) known: Known,
    /// Another one with each follow.
    pub(super) counter: u8,
}

/// The keys that one change has touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) at: Known,
    pub(super) keys: Keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Server {
    pub(super) known: Known,
    /// The cache is being cleared: nothing is stored or followed, and changes are executed.
    pub(super) clearing: bool,
    /// The clock belongs to another history: no node publishes its connection before a recovery has begun.
    pub(super) foreign: bool,
    /// The clock is gone, and the connections to the server are open: then it is `foreign`, too. Or it was made anew since then, and is not settled yet. No
    /// change is executed until it is: changes are deferred.
    pub(super) lost: bool,
    pub(super) object: Option<Value>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self { known: Known { epoch: 1, sequence: 0 }, clearing: false, foreign: false, lost: false, object: None }
    }

    pub(super) fn is_settled(self) -> bool {
        !self.clearing && !self.foreign
    }
}

impl super::World {
    /// The sequence of the newest mark of an epoch.
    pub(super) fn newest(&self, epoch: u8) -> u8 {
        self.log.iter().filter(|mark| mark.at.epoch == epoch).map(|mark| mark.at.sequence).max().unwrap_or(0)
    }

    /// The keys of those marks of an epoch whose sequences pass the test.
    pub(super) fn marked(&self, epoch: u8, passes: impl Fn(u8) -> bool) -> Keys {
        let marks = self.log.iter().filter(|mark| mark.at.epoch == epoch && passes(mark.at.sequence));
        marks.fold(Keys::NONE, |keys, mark| keys.and(mark.keys))
    }
}
