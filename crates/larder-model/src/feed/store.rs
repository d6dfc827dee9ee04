//! Where objects are kept: the memory of one node, or one server that all nodes share.

use super::database::{Position, Writers, objects};
use crate::source::{Keys, Object};

/// A cached value: the changes of the object that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Value(pub(super) Writers);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Store {
    pub(super) objects: [Option<Value>; 2],
    /// Up to where every change was applied to this server's data, as the nodes have left it there.
    pub(super) place: Option<Position>,
    /// The data may be older than what was applied: nobody has cleared it since the server came back.
    pub(super) unknown: bool,
}

/// A lookup that misses, and loads. Each runs once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Load {
    Waiting,
    /// In a tier: it has noted a ticket of the memory.
    Noted {
        overtaken: bool,
    },
    /// Without `note-first`: it has found the journal empty.
    Looked,
    /// It has its ticket, from this store.
    Ticketed {
        store: u8,
        overtaken: bool,
    },
    /// Without `ticket`: it has read before it takes its ticket.
    Read(Value),
    Loaded {
        store: u8,
        overtaken: bool,
        value: Value,
    },
    Done,
}

/// The keys of everything in a cache.
pub(super) const ALL: Keys = Keys::P.and(Keys::Q);

impl Store {
    /// Forgets objects, and refuses the loads of them that are under way. `fences`: the latter, too.
    pub(super) fn forget(&mut self, at: u8, keys: Keys, loads: &mut [(Object, Load)], fences: bool) {
        objects(keys).for_each(|object| self.objects[object.at()] = None);
        for (_, load) in loads.iter_mut().filter(|(object, _)| fences && keys.meets(object.key())) {
            match load {
                Load::Ticketed { store, overtaken } | Load::Loaded { store, overtaken, .. } if *store == at => {
                    *overtaken = true;
                }
                Load::Noted { overtaken } => *overtaken = true,
                _ => {}
            }
        }
    }
}
