//! A node: whether it may read, its journal, and the tasks that run on it.
//!
//! # What a node may observe
//!
//! The replies to its own commands, and the source. It never learns whether a command that was not answered has been executed, or
//! will be.

use crate::server::{Command, Ticket};
use crate::source::{Change, Keys, Object, States, Value};

/// One of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) phase: Phase,
    /// The connection in use, by number: another one after each command that was given up, since what is sent on one connection is executed in order.
    pub(crate) connection: u8,
    /// Keys to be invalidated.
    pub(crate) journal: Keys,
    /// The journal holds a truncate.
    pub(crate) journal_all: bool,
    /// The lowest version that an invalidation in the journal demands.
    pub(crate) journal_floor: u8,
    /// What the journal promises this node: states that it will not read. No part of the protocol.
    pub(crate) owed: States,
    /// The newest truncate that it has deferred, by number. No part of the protocol.
    pub(crate) owed_truncate: u8,
}

/// How far the supervisor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Connected, and the server's history proven on this connection.
    #[default]
    Live,
    /// Cut off, or connected and in doubt: the next thing is to look at the clock.
    Unproven,
    /// Connected, and clearing what cannot be trusted.
    Clearing(Stage),
    /// Replaying a truncate.
    Replaying(Stage),
}

impl Node {
    pub(crate) fn has_journal(&self) -> bool {
        self.journal_all || !self.journal.is_empty()
    }

    /// Whether this node may read, take tickets and fill.
    pub(crate) fn may_read(&self) -> bool {
        self.phase == Phase::Live && !self.has_journal()
    }
}

/// How far somebody is who clears the cache: truncate, recovery, and the replay of a truncate do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stage {
    Renew,
    Remove {
        epoch: u8,
        left: Keys,
        /// Whether the history that settle will name is still the server's.
        known: bool,
    },
}

/// What one task does, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Task {
    /// A lookup by this key that misses: ticket, load, fill.
    Load(Keys),
    /// The same, by a primary key, from a replica of the source that lags one version behind.
    LoadLagging(Object),
    /// Changes the source, then invalidates these keys.
    Invalidate(Change, Keys),
    /// The same, and demands that no lower version is stored.
    InvalidateBelow(Change, Object),
    /// Changes the source, then sets the object: a first attempt with the newest ticket that the node has seen, and, if that is overtaken, a put
    /// with the ticket of the answer.
    Set(Change, Object),
    /// Changes the source, then sets P and Q in one call of two scripts on one ticket. Nothing comes between the change and the ticket: the
    /// assumption `set-of-current`.
    SetBoth(Change),
    /// A load by h that finds nothing: ticket, note. Whether the object that has h, if any, is over by then.
    FindNothing { over: bool },
    /// Update: ticket, change of the source, put.
    Update(Change, Object),
    /// Deletes h.
    DeleteH,
    /// Truncates the cache.
    Truncate,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Progress {
    Waiting,
    /// Has its ticket, and will load or write next.
    Ticketed {
        ticket: Ticket,
        born: u8,
    },
    /// Has the value, and will take its ticket next: a set, or without the protection `ticket`.
    Holding {
        value: Value,
        /// What may not be read once this is done.
        forbids: States,
        /// A newer state was invalidated meanwhile.
        overtaken: bool,
        /// Of a set: it asks the clock for its ticket, since what it has seen of the clock was of no use.
        asks: bool,
    },
    /// A call of two scripts: what is left to put, and what may not be read once that is done.
    Several {
        /// The call's ticket at first; then where the script before has ended.
        ticket: Ticket,
        born: u8,
        /// Which keys others have touched between the call's ticket and that.
        others: Keys,
        left: [Option<(Value, States)>; 2],
    },
    /// The command is sent; once it is answered, `forbids` holds.
    Sent {
        command: Command,
        forbids: States,
    },
    Clearing {
        stage: Stage,
        /// Which truncate this is, by number.
        number: u8,
        forbids: States,
    },
    Done,
}
