//! The steps of a poll.

use super::database::{Position, Writers};
use super::node::{Applying, AtPlace, Membership, Poll};
use super::store::ALL;
use super::{Feed, Outcome, World};
use crate::protections::Removable;

impl Feed {
    /// A poll begins. A cache in memory that has not joined joins: what it holds may be from before the position, and is forgotten.
    pub(super) fn poll(&self, world: &mut World, at: usize) -> Option<()> {
        let node = world.nodes.get_mut(at)?;
        if node.poll != Poll::Idle {
            return None;
        }
        let joins = node.membership == Membership::Outside;
        let forgets_early = node.position.is_none() && !self.keeps(Removable::ClearAfterPosition);
        if joins {
            node.membership = Membership::Joined;
        }
        node.poll = Poll::Asking { age: 0, asked: node.membership == Membership::Joined };
        if joins && self.keeps(Removable::ClearAtJoin) || forgets_early {
            self.forget(world, u8::try_from(at).ok()?, ALL)?;
        }
        Self::own_poll_begins(world, at);
        Some(())
    }

    /// The database executes the statement of a poll. On a shared server a poll begins at this moment: no later beginning is possible, so the
    /// cache is read for as long as it may be.
    pub(super) fn answer(&self, world: &mut World, at: usize) -> Option<()> {
        let mut node = *world.nodes.get(at)?;
        if self.scene.shared && node.poll == Poll::Idle && node.membership == Membership::Joined {
            node.poll = Poll::Asking { age: 0, asked: true };
        }
        let database = &mut world.database;
        let (mut position, mut membership) = (node.position, node.membership);
        let poll = match (node.poll, position) {
            (Poll::Asking { age, asked }, None) => {
                let _ = database.register(self.removed);
                let clear = self.keeps(Removable::ClearAfterPosition);
                let position = database.head(self.removed)?;
                Poll::Applying(Applying { clear, ..applying(age, asked, position) })
            }
            (Poll::Asking { age, asked }, Some(from)) if !database.goes_on_from(from, self.removed) => {
                position = None;
                if self.scene.shared {
                    membership = Membership::Outside;
                    Poll::Idle
                } else if self.keeps(Removable::ClearAfterPosition) {
                    Poll::Asking { age, asked }
                } else {
                    Poll::Idle
                }
            }
            (Poll::Asking { age, asked }, Some(from)) => {
                let changes = database.changes_since(from.snapshot, self.removed);
                if !self.keeps(Removable::OneStatement) {
                    Poll::Reading { age, asked, changes }
                } else {
                    self.brought(age, asked, database.head(self.removed)?, changes)
                }
            }
            (Poll::Reading { age, asked, changes }, _) => {
                self.brought(age, asked, database.head(self.removed)?, changes)
            }
            (Poll::Joining { place }, _) => match database.head(self.removed) {
                Some(head) => self.brought_by_join(world, head, place),
                None => {
                    position = None;
                    Poll::Idle
                }
            },
            _ => return None,
        };
        let node = world.nodes.get_mut(at)?;
        (node.position, node.membership, node.poll) = (position, membership, poll);
        if self.scene.shared
            && let Poll::Applying(Applying { place: AtPlace::Unneeded, .. }) = poll
        {
            // It brings nothing.
            return self.count(world, at);
        }
        Some(())
    }

    fn brought(&self, age: u8, asked: bool, position: Position, changes: Writers) -> Poll {
        let changes = if asked { changes } else { Writers::NONE };
        let place = if self.scene.shared && !changes.is_empty() { AtPlace::Unread } else { AtPlace::Unneeded };
        Poll::Applying(Applying { changes, place, ..applying(age, asked, position) })
    }

    /// The next change is applied: the clearing, or the change of the first writer.
    pub(super) fn apply(&self, world: &mut World, at: usize, outcome: Outcome) -> Option<()> {
        let node = *world.nodes.get(at)?;
        let Poll::Applying(mut applying) = node.poll else { return None };
        if applying.place == AtPlace::Unread {
            return None;
        }
        let keys = if std::mem::take(&mut applying.clear) {
            ALL
        } else {
            let writer = applying.changes.each().next()?;
            applying.changes.remove(writer);
            self.scene.writers.get(writer)?.keys
        };
        let mut poll = None;
        match (outcome, self.store_of(at, world)) {
            (Outcome::Applied, Some(store)) => self.forget(world, store, keys)?,
            (Outcome::Deferred, store) => {
                if store.is_some() {
                    world.left.deferrals = world.left.deferrals.checked_sub(1)?;
                }
                applying.deferred = true;
            }
            (Outcome::Failed, Some(_)) => {
                world.left.errors = world.left.errors.checked_sub(1)?;
                if self.keeps(Removable::AppliedCounts) {
                    poll = Some(Poll::Idle);
                } else {
                    applying.failed = true;
                }
            }
            _ => return None,
        }
        let node = world.nodes.get_mut(at)?;
        if outcome == Outcome::Deferred {
            node.journal = node.journal.and(keys);
        }
        if poll.is_some() {
            node.membership = Membership::Outside;
        }
        node.poll = poll.unwrap_or(Poll::Applying(applying));
        Some(())
    }

    /// Everything is applied, and the poll counts.
    pub(super) fn count(&self, world: &mut World, at: usize) -> Option<()> {
        let node = world.nodes.get_mut(at)?;
        let Poll::Applying(applying) = node.poll else { return None };
        if applying.clear || !applying.changes.is_empty() {
            return None;
        }
        if applying.joins {
            node.membership = Membership::Joined;
        } else {
            node.position = Some(applying.position);
        }
        if applying.asked {
            let age = if self.keeps(Removable::DeadlineFromBegin) { applying.age } else { 0 };
            node.valid = node.valid.max(self.scene.deadline - age);
        }
        node.poll = Poll::Idle;
        Self::own_poll_counts(world, at);
        Some(())
    }
}

pub(super) fn applying(age: u8, asked: bool, position: Position) -> Applying {
    Applying {
        age,
        asked,
        joins: false,
        position,
        clear: false,
        changes: Writers::NONE,
        place: AtPlace::Unneeded,
        deferred: false,
        failed: false,
    }
}
