//! The hash slots of a cluster: the clock, the index key of h, and the two objects. Each [`Command`] is atomic on one slot, and does not see
//! the other slots.

use crate::protections::{Removable, Removed};
use crate::source::{Keys, OBJECTS, Object, Value};

/// Epoch and sequence of the clock before a load or write began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket {
    pub(crate) epoch: u8,
    pub(crate) sequence: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stored {
    pub(crate) value: Value,
    /// How many changes had begun when the object was loaded. Not part of the protocol; needed to check C5 and C8.
    pub(crate) born: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectSlot {
    pub(crate) fence: u8,
    pub(crate) stored: Option<Stored>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct IndexSlot {
    pub(crate) fence: u8,
    /// The stamp of each object that claims h.
    pub(crate) claims: [Option<u8>; 2],
}

/// All slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slots {
    pub(crate) clock: Ticket,
    pub(crate) index: IndexSlot,
    pub(crate) objects: [ObjectSlot; 2],
}

/// A command to one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Command {
    /// Clock: read the ticket.
    Look,
    /// Clock: take the next sequence.
    Next,
    /// Clock: take a new epoch and the next sequence.
    Renew,
    /// Index key: claim it for an object, and return the other claimants.
    Claim {
        object: Object,
        ticket: Ticket,
        /// The sequence with which a set or update fences the key.
        fence: Option<u8>,
    },
    /// Index key: drop the claim of a displaced object, if it is older than its displacement.
    Unclaim { object: Object, sequence: u8 },
    /// Index key: fence it, and return all claimants.
    Fence { sequence: u8 },
    /// Index key: drop all claims that are older than the sequence.
    DropClaims { sequence: u8 },
    /// Object: fence it and remove the stored object.
    Forget { object: Object, sequence: u8 },
    /// Object: remove the stored object.
    Remove { object: Object },
    /// Object: store it, unless its fence refuses that.
    Store { value: Value, ticket: Ticket, fence: Option<u8>, born: u8 },
}

/// What a slot answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    Refused,
    Clock(Ticket),
    /// The primary keys of the objects that claim the key.
    Claimants(Keys),
}

impl Slots {
    pub(crate) fn new() -> Self {
        let clock = Ticket { epoch: 1, sequence: 0 };
        Self { clock, index: IndexSlot::default(), objects: [ObjectSlot::default(); 2] }
    }

    pub(crate) fn execute(&mut self, command: Command, removed: Removed) -> Reply {
        match command {
            Command::Look => return Reply::Clock(self.clock),
            Command::Next => {
                self.clock.sequence += 1;
                return Reply::Clock(self.clock);
            }
            Command::Renew => {
                self.clock.sequence += 1;
                self.clock.epoch += 1;
                return Reply::Clock(self.clock);
            }
            Command::Claim { object, ticket, fence } => return self.claim(object, ticket, fence, removed),
            Command::Unclaim { object, sequence } => {
                let claim = &mut self.index.claims[object.at()];
                if claim.is_some_and(|stamp| stamp < sequence) || !removed.keeps(Removable::Stamps) {
                    *claim = None;
                }
            }
            Command::Fence { sequence } => {
                self.index.fence = self.index.fence.max(sequence);
                return Reply::Claimants(self.claimants());
            }
            Command::DropClaims { sequence } => {
                let stays = removed.keeps(Removable::KeepClaims);
                for claim in &mut self.index.claims {
                    *claim = claim.filter(|stamp| stays && *stamp >= sequence);
                }
            }
            Command::Forget { object, sequence } => {
                let slot = &mut self.objects[object.at()];
                slot.fence = slot.fence.max(sequence);
                slot.stored = None;
            }
            Command::Remove { object } => self.objects[object.at()].stored = None,
            Command::Store { value, ticket, fence, born } => {
                let slot = &mut self.objects[value.object.at()];
                if slot.fence > ticket.sequence && removed.keeps(Removable::RefuseInObjectSlot) {
                    return Reply::Refused;
                }
                slot.stored = Some(Stored { value, born });
                slot.fence = slot.fence.max(fence.unwrap_or(0));
            }
        }
        Reply::Done
    }

    fn claim(&mut self, object: Object, ticket: Ticket, fence: Option<u8>, removed: Removed) -> Reply {
        if self.index.fence > ticket.sequence && removed.keeps(Removable::RefuseInIndexSlot) {
            return Reply::Refused;
        }
        let others = self.claimants().without(object.key());
        if !removed.keeps(Removable::Claims) {
            self.index.claims = [None; 2];
        }
        let claim = &mut self.index.claims[object.at()];
        *claim = (*claim).max(Some(ticket.sequence));
        self.index.fence = self.index.fence.max(fence.unwrap_or(0));
        Reply::Claimants(others)
    }

    fn claimants(&self) -> Keys {
        let claims = OBJECTS.into_iter().filter(|object| self.index.claims[object.at()].is_some());
        claims.fold(Keys::NONE, |keys, object| keys.and(object.key()))
    }
}
