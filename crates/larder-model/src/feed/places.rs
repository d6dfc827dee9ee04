//! What a shared server adds: the place, up to where every change was applied to its data, and how a cache joins from there.

use super::database::Position;
use super::node::{Applying, AtPlace, Membership, Poll};
use super::polls::applying;
use super::{Feed, World};
use crate::protections::Removable;

impl Feed {
    /// A poll for the other caches of the node, while this one is outside.
    pub(super) fn pass(&self, world: &mut World, at: usize) -> Option<()> {
        let node = world.nodes.get(at)?;
        let is_between = node.poll == Poll::Idle || !self.keeps(Removable::JoinAfterPosition);
        if node.membership != Membership::Outside || !is_between {
            return None;
        }
        let _ = world.database.register(self.removed);
        let now = world.database.head(self.removed);
        world.nodes.get_mut(at)?.position = now;
        Some(())
    }

    /// A cache begins to join.
    pub(super) fn join(&self, world: &mut World, at: usize) -> Option<()> {
        let node = world.nodes.get_mut(at)?;
        let is_outside = node.membership == Membership::Outside && node.poll == Poll::Idle;
        if !is_outside || node.position.is_none() {
            return None;
        }
        let place = world.stores.get(usize::from(node.connected?))?.place;
        node.poll = Poll::Joining { place };
        Some(())
    }

    /// The poll from the place. Without a place that fits, everything is forgotten.
    pub(super) fn brought_by_join(&self, world: &World, head: Position, place: Option<Position>) -> Poll {
        let join = Applying { joins: true, place: AtPlace::Read, ..applying(0, true, head) };
        match place.filter(|place| world.database.goes_on_from(*place, self.removed)) {
            Some(place) => {
                let changes = world.database.changes_since(place.snapshot, self.removed);
                Poll::Applying(Applying { changes, ..join })
            }
            None => Poll::Applying(Applying { clear: self.keeps(Removable::ClearWithoutPlace), ..join }),
        }
    }

    /// Before changes are applied: those that the place sees are applied already.
    pub(super) fn read_place(&self, world: &mut World, at: usize) -> Option<()> {
        let node = world.nodes.get_mut(at)?;
        let Poll::Applying(poll) = &mut node.poll else { return None };
        if poll.place != AtPlace::Unread {
            return None;
        }
        poll.place = AtPlace::Read;
        if let Some(store) = node.connected
            && let Some(place) = world.stores.get(usize::from(store))?.place
        {
            poll.changes = poll.changes.without(world.database.seen(poll.changes, place, self.removed));
        }
        Some(())
    }

    /// The place is set to the position of the poll, if everything up to there is applied.
    pub(super) fn set_place(&self, world: &mut World, at: usize) -> Option<()> {
        let node = world.nodes.get_mut(at)?;
        let Poll::Applying(poll) = &mut node.poll else { return None };
        let is_applied = !poll.clear && poll.changes.is_empty() || !self.keeps(Removable::PlaceAfterApplied);
        let is_deferred = if !self.keeps(Removable::DeferralHoldsPlace) {
            false
        } else if !self.keeps(Removable::JournalHoldsPlace) {
            poll.deferred
        } else {
            !node.journal.is_empty()
        };
        if poll.place != AtPlace::Read || !is_applied || is_deferred || poll.failed {
            return None;
        }
        poll.place = AtPlace::Set;
        let is_over = !poll.clear && poll.changes.is_empty();
        world.stores.get_mut(usize::from(node.connected?))?.place = Some(poll.position);
        // The sooner the poll counts, the more gets read.
        if is_over { self.count(world, at) } else { Some(()) }
    }
}
