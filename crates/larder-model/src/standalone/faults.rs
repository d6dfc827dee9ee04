//! The faults that change more than one thing: a command without an answer, a node that dies, a server that restarts.

use super::{Standalone, Who, World};
use crate::node::{Node, Phase, Progress, Stage};
use crate::protections::Removable;
use crate::server::{Command, Mode};
use crate::source::Keys;

impl Standalone {
    /// The next command is not answered. It may be executed later.
    pub(super) fn give_up(&self, world: &mut World, who: Who, keys: Keys) {
        world.faults.unanswered -= 1;
        let (node, progress) = match who {
            Who::Task(at) => (self.tasks[at].0, Some(world.tasks[at])),
            Who::Node(at) => (at, None),
        };
        match progress {
            Some(Progress::Sent { command, forbids }) => {
                let command = self.signed(world, node, command);
                world.late.push(command);
                world.nodes[node].connection += u8::from(self.keeps(Removable::Connection));
                if !matches!(command, Command::Store { mode: Mode::Fill, .. } | Command::FindNothing { .. }) {
                    self.defer(world, node, command, forbids, 0);
                }
            }
            // A set that asks for its ticket.
            Some(Progress::Holding { value, forbids, .. }) => {
                self.defer(world, node, Command::Invalidate { keys: value.keys(), floor: 0 }, forbids, 0);
            }
            Some(Progress::Clearing { stage, number, forbids }) => {
                world.late.push(self.clearing_command(world, stage, keys));
                self.defer(world, node, Command::Renew { epoch: 0 }, forbids, number);
            }
            Some(_) => {}
            None => {
                if let Phase::Clearing(stage) | Phase::Replaying(stage) = world.nodes[node].phase {
                    world.late.push(self.clearing_command(world, stage, keys));
                }
                world.nodes[node].phase = Phase::Unproven;
            }
        }
        if let Who::Task(at) = who {
            world.tasks[at] = Progress::Done;
        }
    }

    pub(super) fn crash(&self, world: &mut World, node: usize) {
        world.faults.crashes -= 1;
        if !self.keeps(Removable::JournalDiesWithNode) {
            world.forbidden.add(world.nodes[node].owed);
        }
        let connection = world.nodes[node].connection + 1;
        world.nodes[node] = Node { phase: Phase::Unproven, connection, ..Node::default() };
        for (progress, (of, _)) in world.tasks.iter_mut().zip(&self.tasks) {
            if *of == node && *progress != Progress::Waiting {
                *progress = Progress::Done;
            }
        }
    }

    pub(super) fn restart(&self, world: &mut World) {
        world.faults.restarts -= 1;
        match world.saved.take() {
            Some(saved) => world.server = saved,
            None => world.server.empty(),
        }
        for task in &mut world.tasks {
            if let Progress::Clearing { stage: Stage::Remove { known, .. }, .. } = task {
                *known = false;
            }
        }
        if self.keeps(Removable::RestartClosesConnections) {
            world.late.clear();
            world.nodes.iter_mut().for_each(|node| node.phase = Phase::Unproven);
        }
    }
}
