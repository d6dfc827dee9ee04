//! A node: its L1, what is on its way to it, its change, and what the server's table says of it.

use super::server::{Entry, Known, Value};

/// The follow that the node waits for. Ages are in ticks since it was sent, and count no further than the validity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Follow {
    #[default]
    Idle,
    /// Executed. The answer is on its way: the server's head, and the marks up to there.
    Answered { age: u8, head: Known },
    /// Without `valid-after-marks`: the validity is extended, and the marks are next.
    Extended { head: Known },
}

/// What is on its way into L1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Fill {
    #[default]
    None,
    /// `since`: what the value certainly shows.
    Answered { since: Known, value: Value },
    /// Without `checked-insert`: found to be current, and inserted next.
    Checked(Value),
}

/// A hit that takes its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Hit {
    #[default]
    None,
    /// It has found the L1 valid, and reads next. It must return nothing older than this.
    Checked { owed: [u8; 2] },
    /// Without `validity-first`: it has read this, and looks whether the L1 is valid next.
    Read { value: Value, owed: [u8; 2] },
}

/// How far the node's change is. Ages count no further than the validity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Progress {
    #[default]
    Ready,
    /// Only without `wait-from-answer`.
    Sent {
        age: u8,
    },
    /// A truncate has read the clock's epoch. Only where it may change how the cache is followed.
    Read {
        epoch: u8,
    },
    /// A truncate has given the clock this epoch, or has joined its clearing. It waits for so many ticks more before it settles the clock.
    Clearing {
        epoch: u8,
        version: u8,
        left: u8,
    },
    /// In the journal.
    Deferred {
        version: u8,
    },
    /// Executed at this sequence. The answer is on its way.
    Executed {
        at: Known,
        version: u8,
        age: u8,
        replayed: bool,
    },
    /// Answered this long ago. It waits for the followers.
    Waiting {
        at: Known,
        version: u8,
        age: u8,
    },
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Node {
    /// It has died.
    pub(super) gone: bool,
    pub(super) epoch: u8,
    /// All marks of the epoch up to this sequence are applied.
    pub(super) known: u8,
    /// A bit for each later mark that is applied as well, since it is of the node's own change.
    pub(super) own: u8,
    pub(super) held: Option<Value>,
    /// For how many ticks L1 may be read.
    pub(super) valid: u8,
    pub(super) follow: Follow,
    /// A follow that was given up, and that the server may still execute.
    pub(super) late: Option<Known>,
    pub(super) fill: Fill,
    pub(super) hit: Hit,
    /// Its journal holds a change.
    pub(super) blocked: bool,
    /// The same as the world's, by what this node has deferred.
    pub(super) owed: [u8; 2],
    pub(super) progress: Progress,
    pub(super) entry_in_table: Option<Entry>,
    /// The same in the replica.
    pub(super) entry_saved: Option<Entry>,
    /// What somebody has seen in the table who would remove this entry, and for how many ticks more it must stay the same.
    pub(super) seen: Option<(Entry, u8)>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            gone: false,
            epoch: 1,
            known: 0,
            own: 0,
            held: None,
            valid: 0,
            follow: Follow::Idle,
            late: None,
            fill: Fill::None,
            hit: Hit::None,
            blocked: false,
            owed: [0; 2],
            progress: Progress::Ready,
            entry_in_table: None,
            entry_saved: None,
            seen: None,
        }
    }
}

impl Node {
    pub(super) fn known_now(&self) -> Known {
        Known { epoch: self.epoch, sequence: self.known }
    }

    /// Whether this mark of the node's epoch was applied.
    pub(super) fn has_applied(&self, sequence: u8) -> bool {
        sequence <= self.known || self.own & 1 << sequence != 0
    }

    /// Moves to another point of the log, and forgets own marks up to there.
    pub(super) fn move_to(&mut self, known: Known) {
        if known.epoch != self.epoch {
            self.own = 0;
        }
        (self.epoch, self.known) = (known.epoch, known.sequence);
        self.own &= !((1_u8 << known.sequence) | ((1 << known.sequence) - 1));
    }

    /// It dies. The server does not hear of it, and may still execute what was sent.
    pub(super) fn die(&mut self) {
        let Self { late, entry_in_table, entry_saved, seen, .. } = *self;
        *self =
            Self { gone: true, progress: Progress::Done, late, entry_in_table, entry_saved, seen, ..Self::default() };
    }
}
