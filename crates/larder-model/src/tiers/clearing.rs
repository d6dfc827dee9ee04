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

    /// The clock gets a new epoch, which says how the cache is followed from now on.
    fn new_epoch(&mut self, terms: Terms) {
        self.terms.push(terms);
        self.server.known.epoch = u8::try_from(self.terms.len()).unwrap_or(u8::MAX);
    }

    /// Whoever clears has removed everything, and settles the clock.
    fn settle(&mut self) {
        (self.server.clearing, self.server.lost, self.server.object) = (false, false, None);
        (self.recovery, self.joined) = (None, None);
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

    /// How long somebody waits who joins a clearing: who has begun it may follow the cache in another way than others did before.
    fn wait_joined(&self, world: &World) -> u8 {
        if !self.keeps(Removable::JoinedWaits) {
            0
        } else if self.keeps(Removable::JoinedLongest) {
            self.longest()
        } else {
            world.terms_of(world.server.known.epoch).validity
        }
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
        world.new_epoch(terms);
        if !self.keeps(Removable::TableKept) {
            world.nodes.iter_mut().for_each(|node| node.entry_in_table = None);
        }
        let waits = terms != before && self.keeps(Removable::TermsWait);
        let left = if waits { terms.validity.max(before.validity) } else { 0 };
        Some(Progress::Clearing { epoch: world.server.known.epoch, version, left })
    }

    /// A truncate has removed everything, and settles the clock, unless another clearing has begun since. Then too the truncate is answered as executed. (After a
    /// replica has taken over, the library defers the truncate. That promises less.)
    pub(super) fn end_truncate(&self, world: &mut World, epoch: u8, version: u8, left: u8) -> Option<Progress> {
        if world.server.foreign {
            return Some(Progress::Done);
        }
        if world.server.clearing && world.server.known.epoch == epoch {
            if left > 0 {
                return None;
            }
            world.settle();
        }
        Some(Progress::Executed { at: world.server.known, version, age: 0, replayed: false })
    }

    /// A recovery begins, or settles the clock; the same for a node that joins it.
    pub(super) fn recover(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            // Whoever recovers a server that has lost everything remembers how the cache was followed.
            Step::Renew if world.server.foreign => {
                let before = world.terms_of(world.server.known.epoch);
                if !world.server.clearing || self.keeps(Removable::EpochOfHistory) {
                    world.new_epoch(self.scene.recovers);
                }
                (world.server.clearing, world.server.foreign) = (true, false);
                let wait = before.validity.max(self.scene.recovers.validity);
                world.recovery = Some(if self.keeps(Removable::SettleWaits) { wait } else { 0 });
            }
            Step::Join if world.server.clearing && !world.server.foreign && world.joined.is_none() => {
                spend(&mut world.left.joins)?;
                world.joined = Some(self.wait_joined(world));
            }
            Step::Settle if world.recovery? == 0 => world.settle(),
            Step::SettleJoined if world.joined? == 0 => world.settle(),
            _ => return None,
        }
        Some(())
    }
}
