//! The steps of a change: the server executes it, its node drops what it holds, and it is answered when no L1 can be stale any more.

use super::node::{Fill, Progress};
use super::server::{Known, Mark};
use super::{Change, Tiers, World, spend};
use crate::protections::Removable;
use crate::source::Keys;

impl Change {
    /// The keys that it is asked for.
    fn keys(self) -> Keys {
        match self {
            Self::Invalidate(keys) => keys,
            Self::Delete => Keys::H,
            Self::Truncate | Self::TruncateTo(_) => Keys::P.and(Keys::H),
        }
    }

    fn truncates(self) -> bool {
        matches!(self, Self::Truncate | Self::TruncateTo(_))
    }

    /// Whether it forgets P.
    fn forgets(self) -> bool {
        self != Self::Delete && self.keys().meets(Keys::P.and(Keys::H))
    }

    /// What gets owe after this change: nothing older under P and h, or under h alone.
    fn owes(self, owed: &mut [u8; 2], version: u8) {
        if self.forgets() {
            owed[0] = owed[0].max(version);
        }
        if self.forgets() || self == Self::Delete {
            owed[1] = owed[1].max(version);
        }
    }
}

impl Tiers {
    /// The next step of the node's change.
    pub(super) fn change(&self, world: &mut World, at: usize) -> Option<()> {
        let change = self.role(at)?.change?;
        let next = match world.nodes.get(at)?.progress {
            Progress::Ready if change.truncates() => self.begin_truncate(world, change)?,
            Progress::Read { epoch } => self.renew_for_truncate(world, change, epoch)?,
            Progress::Clearing { epoch, version, left } => self.end_truncate(world, change, epoch, version, left)?,
            Progress::Ready if !self.keeps(Removable::WaitFromAnswer) => Progress::Sent { age: 0 },
            Progress::Ready => self.execute(world, change, None, 0)?,
            Progress::Sent { age } => self.execute(world, change, None, age)?,
            Progress::Deferred { version } => self.execute(world, change, Some(version), 0)?,
            Progress::Executed { at: executed, version, age, replayed } => {
                self.drop_own(world, at, executed)?;
                let node = world.nodes.get_mut(at)?;
                if replayed {
                    node.blocked = false;
                    Progress::Done
                } else {
                    Progress::Waiting { at: executed, version, age }
                }
            }
            Progress::Waiting { at: executed, version, age } => {
                if age < self.wait(world, executed) && !self.is_acknowledged(world, at, executed) {
                    return None;
                }
                change.owes(&mut world.owed, version);
                Progress::Done
            }
            Progress::Done => return None,
        };
        world.nodes.get_mut(at)?.progress = next;
        Some(())
    }

    /// The server executes the change. `version`: the change was made before, and waited in the journal.
    fn execute(&self, world: &mut World, change: Change, version: Option<u8>, age: u8) -> Option<Progress> {
        if world.server.foreign || world.server.lost {
            return None;
        }
        let replayed = version.is_some();
        let version = version.unwrap_or_else(|| {
            world.source += 1;
            world.source
        });
        let mut keys = change.keys();
        if change == Change::Delete {
            if let Some(held) = &mut world.server.object {
                held.h_deleted = true;
            }
        } else if change.forgets() && world.server.object.take().is_some() {
            keys = keys.and(Keys::P);
        }
        world.server.known.sequence += 1;
        let at = world.server.known;
        world.log.push(Mark { at, keys });
        Some(Progress::Executed { at, version, age, replayed })
    }

    /// How long a change waits without acknowledgements.
    pub(super) fn wait(&self, world: &World, change: Known) -> u8 {
        if !self.keeps(Removable::ChangeWaits) {
            return 0;
        }
        world.terms_of(change.epoch).validity - u8::from(!self.keeps(Removable::WaitLonger))
    }

    /// Whether every follower but the own one has acknowledged the change.
    pub(super) fn is_acknowledged(&self, world: &World, own: usize, change: Known) -> bool {
        let trusted = world.server.is_settled() && world.server.known.epoch == change.epoch;
        let others = world.nodes.iter().enumerate().filter(|(at, _)| *at != own);
        world.terms_of(change.epoch).acknowledged
            && (trusted || !self.keeps(Removable::TrustedTable))
            && others
                .filter_map(|(_, node)| node.entry_in_table)
                .all(|entry| entry.known.epoch == change.epoch && entry.known.sequence >= change.sequence)
    }

    /// The node's change was answered: its own L1 drops what the change has touched, and remembers the mark. What it knows stays as it is, since there may
    /// be marks of others before this one. Marks of another epoch cannot be compared with what is on its way, so everything is dropped then. The node does not
    /// go to that epoch: epochs have no order, and this one may be the older.
    fn drop_own(&self, world: &mut World, at: usize, change: Known) -> Option<()> {
        if !self.role(at)?.follows {
            return Some(());
        }
        let touched = world.marked(change.epoch, |mark| mark == change.sequence);
        let node = world.nodes.get_mut(at)?;
        if change.epoch != node.epoch && self.keeps(Removable::OwnEpoch) {
            node.held = None;
            if self.keeps(Removable::OwnEpochFills) {
                node.fill = Fill::None;
            }
        } else if change.epoch != node.epoch {
            self.drop_touched(&mut node.held, touched);
        } else if change.sequence > node.known {
            if self.keeps(Removable::OwnDrop) {
                self.drop_touched(&mut node.held, touched);
            }
            if self.keeps(Removable::OwnMark) {
                node.own |= 1 << change.sequence;
            }
            if !self.keeps(Removable::OwnNotKnown) {
                node.move_to(change);
            }
        }
        Some(())
    }

    /// The node's change cannot be delivered. The node drops what it holds, and reads nothing until the change was replayed.
    pub(super) fn defer(&self, world: &mut World, at: usize) -> Option<()> {
        let change = self.role(at)?.change.filter(|change| !change.truncates())?;
        if world.nodes.get(at)?.progress != Progress::Ready {
            return None;
        }
        spend(&mut world.left.deferrals)?;
        world.source += 1;
        let version = world.source;
        let node = world.nodes.get_mut(at)?;
        self.drop_touched(&mut node.held, change.keys());
        (node.blocked, node.progress) = (true, Progress::Deferred { version });
        change.owes(&mut node.owed, version);
        Some(())
    }
}
