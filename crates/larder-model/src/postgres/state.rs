//! What is in the database, and where each task is.

use super::{Happens, Shape};
use crate::source::{Keys, Object, Source, States, Value};

/// A set of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Transactions(u8);

impl Transactions {
    pub(super) fn has(self, transaction: usize) -> bool {
        self.0 & 1 << transaction != 0
    }

    pub(super) fn add(&mut self, transaction: usize) {
        self.0 |= 1 << transaction;
    }

    pub(super) fn remove(&mut self, transaction: usize) {
        self.0 &= !(1 << transaction);
    }
}

/// The row of `larder.clock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Clock {
    pub(super) epoch: u8,
    pub(super) generation: u8,
    pub(super) oldest: u8,
    pub(super) swept: u8,
    pub(super) began: Transactions,
    pub(super) previous: Transactions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket {
    pub(super) epoch: u8,
    pub(super) generation: u8,
    pub(super) snapshot: Transactions,
}

/// The committed fences of one transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fence {
    pub(super) keys: Keys,
    /// Of a set that was outdated: its version. Then only lower versions of the object are forgotten.
    pub(super) outdated: Option<(Object, u8)>,
}

/// A committed row of `larder.objects`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) value: Value,
    pub(super) marks: Keys,
    pub(super) seen: Transactions,
    pub(super) writer: usize,
}

/// The committed row of h in `larder.keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct KeyRow {
    pub(super) leads_to: Object,
    pub(super) generation: u8,
}

/// The rows of both objects, in both shapes.
pub(super) type Rows = [[Option<Row>; 2]; 2];

/// A store whose check has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Storing {
    pub(super) value: Value,
    pub(super) shape: Shape,
    pub(super) ticket: Ticket,
    pub(super) marks: Keys,
    pub(super) put: Option<States>,
    /// Whether the keys are done.
    pub(super) keyed: bool,
    /// Whether it holds the row of h.
    pub(super) holds: bool,
    pub(super) displaced: Keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Progress {
    Waiting,
    Ticketed(Ticket),
    /// A set of a versioned object: the source is changed, and the ticket is next.
    Changed {
        value: Value,
        forbids: States,
    },
    Loaded {
        value: Value,
        ticket: Ticket,
        put: Option<States>,
    },
    Storing(Storing),
    Prepared,
    /// Its fences are to be committed. Then these states may not be read.
    Fencing {
        fence: Fence,
        forbids: States,
    },
    Done,
}

/// A sweep under way: it holds the lock of this generation alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Sweep {
    pub(super) generation: u8,
    pub(super) fences: Transactions,
    pub(super) chosen: Option<Chosen>,
}

/// What a sweep has seen when it chose the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Chosen {
    pub(super) h: Option<Object>,
    pub(super) present: [[bool; 2]; 2],
}

/// The state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct World {
    pub(super) source: Source,
    pub(super) committed: Transactions,
    pub(super) clock: Option<Clock>,
    pub(super) fences: Vec<Fence>,
    pub(super) rows: Rows,
    pub(super) h: Option<KeyRow>,
    /// Prepared transactions whose fences a crash has lost.
    pub(super) lost: Transactions,
    pub(super) sweep: Option<Sweep>,
    /// The row of h that a prune has found, and will remove unless it was changed or is held.
    pub(super) pruning: Option<KeyRow>,
    pub(super) tasks: Vec<Progress>,
    pub(super) left: Happens,
    /// States that no read that begins now may return.
    pub(super) forbidden: States,
    /// The same for reads of the shape `Bare`: a key that it does not list forgets it only through a stored object that lists the key.
    pub(super) forbidden_bare: States,
}

pub(super) fn commit(world: &mut World, at: usize, fence: Fence, forbids: States) {
    let lists_h = |row: &Row| {
        row.value.lists_h
            && !each_fence(world).any(|(by, fence)| by != row.writer && !row.seen.has(by) && forgets(fence, row))
    };
    if !fence.keys.meets(Keys::H) || world.rows.iter().flatten().flatten().any(lists_h) {
        world.forbidden_bare.add(forbids);
    }
    world.committed.add(at);
    if let Some(place) = world.fences.get_mut(at) {
        *place = fence;
    }
    world.forbidden.add(forbids);
}

/// The visible fences, with their transactions.
pub(super) fn each_fence(world: &World) -> impl Iterator<Item = (usize, Fence)> {
    world.fences.iter().copied().enumerate().filter(|(_, fence)| !fence.keys.is_empty())
}

pub(super) fn forgets(fence: Fence, row: &Row) -> bool {
    match fence.outdated {
        Some((object, version)) => row.value.object == object && row.value.version < version,
        None => fence.keys.meets(row.marks),
    }
}
