//! The steps of a clearing, by a truncate or by a recovery: the clock gets a new epoch, everything is removed, the clock is settled.
//!
//! The removal is one step with the settling: until then nothing is stored, and nothing is read that must not be. Several nodes may clear side by side. Whoever
//! settles the clock first has removed everything.

use super::node::Progress;
use super::server::Server;
use super::{Change, Step, Terms, Tiers, World, spend};
use crate::protections::Removable;

impl World {
    /// What an epoch says.
    pub(super) fn terms_of(&self, epoch: u8) -> Terms {
        self.terms[usize::from(epoch) - 1]
    }

    /// The clock gets a new epoch.
    fn new_epoch(&mut self, terms: Terms) {
        self.terms.push(terms);
        self.server.known.epoch = u8::try_from(self.terms.len()).unwrap_or(u8::MAX);
    }

    /// Whoever clears has removed everything, and settles the clock. If the cache is to be followed in another way, the clock gets one more epoch.
    fn settle(&mut self, terms: Terms) {
        (self.server.clearing, self.server.lost, self.server.object) = (false, false, None);
        (self.recovery, self.joined) = (None, None);
        if self.terms_of(self.server.known.epoch) != terms {
            self.new_epoch(terms);
        }
    }

    /// How the cache was followed before the data was lost that somebody recovers, as far as that one knows: from the data that it finds, and from what it
    /// remembers.
    fn followed_before(&self, remembers: bool) -> Terms {
        let found = self.terms_of(self.server.known.epoch);
        let remembered = self.terms.last().copied().filter(|_| remembers);
        remembered.filter(|remembered| remembered.validity > found.validity).unwrap_or(found)
    }
}

impl Tiers {
    /// The longest validity that there may be.
    pub(super) fn longest(&self) -> u8 {
        let of_truncates = self.scene.nodes.iter().filter_map(|role| match role.change {
            Some(Change::TruncateTo(terms)) => Some(terms),
            _ => None,
        });
        let all = self.scene.terms.iter().copied().chain([self.scene.recovers]).chain(of_truncates);
        all.map(|terms| terms.validity).max().unwrap_or(0)
    }

    /// Whether the scene has a truncate that may change how the cache is followed.
    fn changes_terms(&self) -> bool {
        self.scene.nodes.iter().any(|role| matches!(role.change, Some(Change::TruncateTo(_))))
    }

    /// How long somebody waits who joins a clearing.
    fn wait_joined(&self, world: &World) -> u8 {
        if self.keeps(Removable::JoinedWaits) { world.terms_of(world.server.known.epoch).validity } else { 0 }
    }

    /// A truncate reads the clock. Where nobody changes how the cache is followed, it goes on in the same step.
    pub(super) fn begin_truncate(&self, world: &mut World, change: Change) -> Option<Progress> {
        let epoch = world.server.known.epoch;
        if self.changes_terms() {
            return (!world.server.foreign).then_some(Progress::Read { epoch });
        }
        self.renew_for_truncate(world, change, epoch)
    }

    /// A truncate gives the clock a new epoch, unless it has another one than the truncate has read. The table of followers stays. Without a clock, the
    /// truncate is deferred until a recovery has made one.
    pub(super) fn renew_for_truncate(&self, world: &mut World, change: Change, read: u8) -> Option<Progress> {
        let Server { foreign, lost, .. } = world.server;
        let makes_one = foreign && lost && !self.keeps(Removable::ProvenClock);
        if foreign && !makes_one {
            return None;
        }
        let joins = world.server.clearing && !makes_one;
        if joins {
            spend(&mut world.left.joins)?;
        } else if world.server.known.epoch != read && self.keeps(Removable::RenewOfRead) {
            return Some(Progress::Ready);
        }
        world.source += 1;
        let version = world.source;
        if joins {
            return Some(Progress::Clearing {
                epoch: world.server.known.epoch,
                version,
                left: self.wait_joined(world),
            });
        }
        let before = world.terms_of(read);
        let terms = if let Change::TruncateTo(terms) = change { terms } else { before };
        (world.server.foreign, world.server.lost, world.server.clearing) = (false, false, true);
        world.new_epoch(if self.keeps(Removable::FollowedAsBefore) { before } else { terms });
        if !self.keeps(Removable::TableKept) {
            world.nodes.iter_mut().for_each(|node| node.entry_in_table = None);
        }
        let waits = terms != before && self.keeps(Removable::TermsWait);
        let left = if waits { before.validity } else { 0 };
        Some(Progress::Clearing { epoch: world.server.known.epoch, version, left })
    }

    /// A truncate has removed everything, and settles the clock. If another clearing has begun since, or has ended in another way, the truncate begins again. (After a
    /// replica has taken over, the library defers the truncate. That promises less.)
    pub(super) fn end_truncate(
        &self,
        world: &mut World,
        change: Change,
        epoch: u8,
        version: u8,
        left: u8,
    ) -> Option<Progress> {
        if world.server.foreign {
            return Some(Progress::Done);
        }
        let followed = world.terms_of(epoch);
        let terms = if let Change::TruncateTo(terms) = change { terms } else { followed };
        if world.server.known.epoch != epoch {
            return Some(Progress::Ready);
        } else if world.server.clearing {
            if left > 0 {
                return None;
            }
            world.settle(terms);
        } else if terms != followed {
            return Some(Progress::Ready);
        }
        Some(Progress::Executed { at: world.server.known, version, age: 0, replayed: false })
    }

    /// A recovery begins, or settles the clock; the same for a node that joins it.
    pub(super) fn recover(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Renew if world.server.foreign => {
                let before = world.followed_before(self.keeps(Removable::Remembered));
                if !world.server.clearing || self.keeps(Removable::EpochOfHistory) {
                    world.new_epoch(before);
                }
                (world.server.clearing, world.server.foreign) = (true, false);
                world.recovery = Some(if self.keeps(Removable::SettleWaits) { before.validity } else { 0 });
            }
            Step::Join if world.server.clearing && !world.server.foreign && world.joined.is_none() => {
                spend(&mut world.left.joins)?;
                world.joined = Some(self.wait_joined(world));
            }
            Step::Settle if world.recovery? == 0 => world.settle(self.scene.recovers),
            Step::SettleJoined if world.joined? == 0 => world.settle(self.scene.recovers),
            _ => return None,
        }
        Some(())
    }
}
