//! Every other step: time, the removal of dead followers, a replica that takes over, a server that loses everything.

use super::node::{Follow, Node, Progress};
use super::server::Server;
use super::{Step, Tiers, World, spend};
use crate::protections::Removable;

impl Tiers {
    pub(super) fn tick(&self, world: &mut World) -> Option<()> {
        let most = self.longest();
        let older = |age: &mut u8| *age = most.min(*age + 1);
        let nearer = |left: &mut u8| *left = left.saturating_sub(1);
        for node in &mut world.nodes {
            if self.keeps(Removable::ClocksRun) {
                nearer(&mut node.valid);
            }
            if let Follow::Answered { age, .. } = &mut node.follow {
                older(age);
            }
            match &mut node.progress {
                Progress::Sent { age } | Progress::Waiting { age, .. } => older(age),
                Progress::Clearing { left, .. } => nearer(left),
                Progress::Executed { age, .. } if !self.keeps(Removable::WaitFromAnswer) => older(age),
                _ => {}
            }
            if let Some((_, left)) = &mut node.seen {
                nearer(left);
            }
        }
        world.recovery.iter_mut().chain(&mut world.joined).for_each(nearer);
        Some(())
    }

    /// Somebody looks at a follower's entry, and removes it after the validity if it is still the same.
    pub(super) fn remove(&self, world: &mut World, at: usize, look: bool) -> Option<()> {
        let validity = world.terms_of(world.server.known.epoch).validity;
        let node = world.nodes.get_mut(at)?;
        if world.server.foreign {
            return None;
        }
        if look {
            if node.seen.is_some() {
                return None;
            }
            node.seen = Some((node.entry_in_table?, validity));
            return spend(&mut world.left.looks);
        }
        let (seen, left) = node.seen?;
        if left > 0 && self.keeps(Removable::RemoveAfterValidity) {
            return None;
        }
        node.seen = None;
        let by_counter = self.keeps(Removable::RemoveByCounter);
        let is_same =
            node.entry_in_table.is_some_and(|now| if by_counter { now == seen } else { now.known == seen.known });
        if is_same {
            node.entry_in_table = None;
        }
        Some(())
    }

    /// A replica takes over, or the server loses everything.
    pub(super) fn replace(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Save => {
                if world.left.promotions == 0 || world.saved.is_some() {
                    return None;
                }
                world.saved = Some(world.server);
                world.nodes.iter_mut().for_each(|node| node.entry_saved = node.entry_in_table);
            }
            Step::Promote => {
                spend(&mut world.left.promotions)?;
                world.server = world.saved.take()?;
                world.server.foreign = self.keeps(Removable::History);
                (world.recovery, world.joined) = (None, None);
                let restore = |node: &mut Node| node.entry_in_table = node.entry_saved.take();
                world.nodes.iter_mut().for_each(restore);
            }
            Step::Lose => {
                spend(&mut world.left.losses)?;
                let Server { known, .. } = world.server;
                world.server = Server { known, clearing: false, foreign: true, lost: true, object: None };
                (world.recovery, world.joined) = (None, None);
                world.nodes.iter_mut().for_each(|node| node.entry_in_table = None);
            }
            _ => return None,
        }
        Some(())
    }
}
