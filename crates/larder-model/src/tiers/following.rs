//! The steps of L1: follows, what fills it, hits.

use super::node::{Fill, Follow, Hit};
use super::server::{Entry, Known, Value};
use super::{Tiers, World, spend};
use crate::protections::Removable;
use crate::source::Keys;

impl Tiers {
    /// A follow: the server writes into its table what the node knows, and answers the marks since then.
    pub(super) fn follow(&self, world: &mut World, at: usize) -> Option<()> {
        let head = world.server.known;
        let node = world.nodes.get_mut(at)?;
        if node.gone || !world.server.is_settled() || matches!(node.follow, Follow::Extended { .. }) {
            return None;
        }
        // A node that still waits for an answer gives it up, and drops it.
        node.follow = Follow::Answered { age: 0, head };
        let known = if self.keeps(Removable::AckAfterApply) { node.known_now() } else { head };
        self.register(world, at, known)
    }

    /// The server writes the node's entry of the table.
    pub(super) fn register(&self, world: &mut World, at: usize, known: Known) -> Option<()> {
        let acknowledged = world.terms_of(world.server.known.epoch).acknowledged;
        let node = world.nodes.get_mut(at)?;
        let registers = self.keeps(Removable::RegisterFirst) || node.entry_in_table.is_some();
        if acknowledged && registers {
            let counters = node.counters();
            let counter = (0..).find(|fresh| !counters.contains(&Some(*fresh)))?;
            node.entry_in_table = Some(Entry { known, counter });
        }
        Some(())
    }

    /// The node applies what its follow has brought.
    pub(super) fn apply(&self, world: &mut World, at: usize) -> Option<()> {
        let follow = world.nodes.get(at)?.follow;
        match follow {
            Follow::Idle => return None,
            Follow::Extended { head } => {
                world.nodes.get_mut(at)?.follow = Follow::Idle;
                self.take_in(world, at, head)?;
            }
            Follow::Answered { age, head } => {
                let age = if self.keeps(Removable::ValidityFromSending) { age } else { 0 };
                let left = world.terms_of(head.epoch).validity.saturating_sub(age);
                let node = world.nodes.get_mut(at)?;
                node.valid = node.valid.max(left);
                node.follow = Follow::Idle;
                if self.keeps(Removable::ValidAfterMarks) {
                    self.take_in(world, at, head)?;
                } else {
                    node.follow = Follow::Extended { head };
                }
            }
        }
        Some(())
    }

    /// The server tells the node of the marks up to a sequence of the node's epoch. The validity stays as it is.
    pub(super) fn hear(&self, world: &mut World, at: usize, to: u8) -> Option<()> {
        let node = world.nodes.get(at)?;
        if node.gone || to <= node.known {
            return None;
        }
        let head = Known { epoch: node.epoch, sequence: to };
        self.take_in(world, at, head)
    }

    /// The node drops what the marks up to `head` touch, and then knows them.
    fn take_in(&self, world: &mut World, at: usize, head: Known) -> Option<()> {
        let known = world.nodes.get(at)?.known_now();
        let touched = world.marked(head.epoch, |mark| mark > known.sequence && mark <= head.sequence);
        let node = world.nodes.get_mut(at)?;
        if head.epoch != known.epoch {
            if self.keeps(Removable::EpochDrop) {
                node.held = None;
            }
            node.move_to(head);
        } else if head.sequence > known.sequence {
            if self.keeps(Removable::MarksApplied) {
                self.drop_touched(&mut node.held, touched);
            }
            node.move_to(head);
        }
        Some(())
    }

    /// The keys whose marks a value does not outlive.
    fn keys(&self, value: Value) -> Keys {
        let served_only = !self.keeps(Removable::DeletedKeys) && value.h_deleted;
        if served_only || !self.keeps(Removable::AllKeys) { Keys::P } else { Keys::P.and(Keys::H) }
    }

    pub(super) fn drop_touched(&self, held: &mut Option<Value>, touched: Keys) {
        *held = held.filter(|value| !touched.meets(self.keys(*value)));
    }

    /// The server answers a get, or stores a load: what it answers is on its way into L1.
    pub(super) fn get(&self, world: &mut World, at: usize, load: bool) -> Option<()> {
        let loaded = Value { version: world.source, h_deleted: false };
        let node = world.nodes.get_mut(at)?;
        let reads = !node.gone && (!node.blocked || !self.keeps(Removable::Journal));
        if !reads || node.fill != Fill::None || !world.server.is_settled() {
            return None;
        }
        node.fill = if load {
            world.server.object = Some(loaded);
            Fill::Answered { since: world.server.known, value: loaded }
        } else {
            Fill::Answered { since: node.known_now(), value: world.server.object? }
        };
        Some(())
    }

    /// Whether a value may be inserted: no mark of one of its keys was applied that it may lack.
    pub(super) fn is_current(&self, world: &World, at: usize, since: Known, value: Value) -> bool {
        let Some(node) = world.nodes.get(at) else { return false };
        let missed = world.marked(since.epoch, |mark| mark > since.sequence && node.has_applied(mark));
        since.epoch == node.epoch && (!missed.meets(self.keys(value)) || !self.keeps(Removable::Ring))
    }

    pub(super) fn insert(&self, world: &mut World, at: usize) -> Option<()> {
        match world.nodes.get(at)?.fill {
            Fill::None => return None,
            Fill::Answered { since, value } => {
                let current = self.is_current(world, at, since, value);
                let node = world.nodes.get_mut(at)?;
                node.fill = Fill::None;
                if current && self.keeps(Removable::CheckedInsert) {
                    node.held = Some(value);
                } else if current {
                    node.fill = Fill::Checked(value);
                }
            }
            Fill::Checked(value) => {
                let node = world.nodes.get_mut(at)?;
                (node.held, node.fill) = (Some(value), Fill::None);
            }
        }
        Some(())
    }

    /// Whether a hit that begins now may be served.
    pub(super) fn serves(&self, world: &World, at: usize) -> bool {
        world.nodes.get(at).is_some_and(|node| {
            let valid = node.valid > 0 || !self.keeps(Removable::Validity);
            !node.gone && valid && (!node.blocked || !self.keeps(Removable::Journal))
        })
    }

    pub(super) fn hit(&self, world: &mut World, at: usize) -> Option<()> {
        spend(&mut world.left.hits)?;
        let (serves, owed) = (self.serves(world, at), world.owed);
        let node = world.nodes.get_mut(at)?;
        let owed = [owed[0].max(node.owed[0]), owed[1].max(node.owed[1])];
        if node.gone || node.hit != Hit::None {
            return None;
        }
        node.hit = match self.keeps(Removable::ValidityFirst) {
            true if serves => Hit::Checked { owed },
            true => return None,
            false => Hit::Read { value: node.held?, owed },
        };
        Some(())
    }
}
