//! A node: whether it may read, its journal, and the tasks that run on it.
//!
//! # What a node may observe
//!
//! The replies to its own commands, and the source. If a command was not answered, the node never learns whether it was or will be executed.

use crate::server::{Command, Ticket};
use crate::source::{Change, Keys, Object, States, Value};

/// One of the two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) phase: Phase,
    /// The number of the connection in use. A node that has given a command up goes on with a new connection, because commands on one
    /// connection are executed in order.
    pub(crate) connection: u8,
    /// The keys in the journal.
    pub(crate) journal: Keys,
    /// Whether the journal holds a truncate.
    pub(crate) journal_all: bool,
    /// The lowest version that an invalidation in the journal demands.
    pub(crate) journal_floor: u8,
    /// The states that this node must not read, because it has deferred their invalidation. Not part of the protocol; needed to check C10.
    pub(crate) owed: States,
    /// The number of the newest truncate that this node has deferred. Not part of the protocol; needed to check C10.
    pub(crate) owed_truncate: u8,
}

/// What the supervisor is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Connected, and the server's history is proven on this connection.
    #[default]
    Live,
    /// Cut off, or connected but in doubt about the clock. The next step is to read the clock.
    Unproven,
    /// Connected, and clearing the cache, which cannot be trusted.
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

/// The stages of clearing the cache. A truncate, a recovery and the replay of a truncate go through the same stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stage {
    Renew,
    Remove {
        epoch: u8,
        left: Keys,
        /// Whether the history that settle will name is still the server's present history.
        known: bool,
    },
}

/// What a task does. Each task runs once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Task {
    /// A lookup by this key that misses: ticket, load, fill.
    Load(Keys),
    /// The same by a primary key, from a replica of the source that lags one version behind.
    LoadLagging(Object),
    /// Changes the source, then invalidates these keys.
    Invalidate(Change, Keys),
    /// Changes the source, then invalidates the object, and demands that no lower version is stored.
    InvalidateBelow(Change, Object),
    /// Changes the source, then sets the object. The first attempt has the newest ticket that the node has seen. If it is overtaken, the
    /// second attempt has the ticket of the answer.
    Set(Change, Object),
    /// Changes the source, then sets P and Q in one call of two scripts on one ticket. No step comes between the change and the ticket: that
    /// is the assumption `set-of-current`.
    SetBoth(Change),
    /// A load by h that finds nothing: ticket, note. `over`: as in [`Command::FindNothing`].
    FindNothing { over: bool },
    /// Update: ticket, change of the source, put.
    Update(Change, Object),
    /// Deletes h.
    DeleteH,
    /// Truncates the cache.
    Truncate,
}

/// The progress of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Progress {
    Waiting,
    /// The task has its ticket, and will load or write next.
    Ticketed {
        ticket: Ticket,
        born: u8,
    },
    /// The task has the value, and will take its ticket next: a set, or any store without the protection `ticket`.
    Holding {
        value: Value,
        /// The states that may not be read once the task is done.
        forbids: States,
        /// Whether a newer state was invalidated meanwhile.
        overtaken: bool,
        /// Whether a set must ask the clock for its ticket, because it cannot use a ticket that the node has seen.
        asks: bool,
    },
    /// A call of two scripts.
    Several {
        /// The call's ticket at first; later epoch and sequence at the end of the first script.
        ticket: Ticket,
        born: u8,
        /// The keys that others have touched between the call's ticket and the end of the first script.
        others: Keys,
        /// The values that are left to put, each with the states that may not be read once it is put.
        left: [Option<(Value, States)>; 2],
    },
    /// The command can be sent. Once it is answered, no read may return the states in `forbids`.
    Sent {
        command: Command,
        forbids: States,
    },
    Clearing {
        stage: Stage,
        /// The number of the truncate.
        number: u8,
        forbids: States,
    },
    Done,
}
