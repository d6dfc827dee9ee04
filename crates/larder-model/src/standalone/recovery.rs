//! What a node defers, and what its supervisor does until the node may read again: it proves the history, clears the cache or replays the
//! journal.

use super::{Standalone, Who, World};
use crate::node::{Node, Phase, Stage};
use crate::protections::Removable;
use crate::server::{Command, Reply, State};
use crate::source::{Keys, States};

impl Standalone {
    /// Puts a change into the journal, because it was not answered or cannot be sent.
    pub(super) fn defer(&self, world: &mut World, at: usize, command: Command, forbids: States, truncate: u8) {
        let node = &mut world.nodes[at];
        node.owed.add(forbids);
        node.owed_truncate = node.owed_truncate.max(truncate);
        if !self.keeps(Removable::DeferredBindsOneNode) {
            world.forbidden.add(forbids);
        }
        if !self.keeps(Removable::Journal) {
            return;
        }
        let (keys, floor) = match command {
            Command::Store { mode, value, .. } if mode.is_put() => (value.keys(), 0),
            Command::Invalidate { keys, floor } => (keys, floor),
            Command::DeleteH => (Keys::H, 0),
            _ => (Keys::NONE, 0),
        };
        node.journal_floor = node.journal_floor.max(floor);
        let replaying = matches!(node.phase, Phase::Replaying(_));
        if keys.is_empty() {
            node.journal_all = true;
            // The end of the replay that is under way must not cross out this newer truncate.
            node.journal = if replaying { Keys::P } else { Keys::NONE };
        } else if !node.journal_all || replaying {
            node.journal = node.journal.and(keys);
        }
    }

    pub(super) fn recover(&self, world: &mut World, at: usize) {
        match world.nodes[at].phase {
            Phase::Unproven => {
                let trusted = world.server.clock.is_some_and(|clock| {
                    clock.state == State::Settled && (clock.known || !self.keeps(Removable::History))
                });
                world.nodes[at].phase = if trusted { Phase::Live } else { Phase::Clearing(Stage::Renew) };
            }
            Phase::Live if world.nodes[at].journal_all => world.nodes[at].phase = Phase::Replaying(Stage::Renew),
            Phase::Live => {
                let Node { journal: keys, journal_floor: floor, .. } = world.nodes[at];
                if self.execute(world, Command::Invalidate { keys, floor }) == Reply::Lost {
                    world.nodes[at].phase = Phase::Unproven;
                } else {
                    self.replayed(world, at);
                }
            }
            Phase::Clearing(stage) | Phase::Replaying(stage) => {
                self.clear(world, Who::Node(at), stage, Keys::NONE, 0, States::default());
            }
        }
    }

    /// Empties the journal after its replay. What it promised to this node now holds on every node.
    pub(super) fn replayed(&self, world: &mut World, at: usize) {
        let node = &mut world.nodes[at];
        world.forbidden.add(node.owed);
        world.truncated = world.truncated.max(node.owed_truncate);
        *node = Node { phase: Phase::Live, connection: node.connection, ..Node::default() };
    }
}
