//! Which steps are possible next.

use super::tasks::is_first_attempt;
use super::{Faults, Standalone, Step, Who, World};
use crate::node::{Phase, Progress, Stage, Task};
use crate::protections::Removable;
use crate::server::{Command, Mode};
use crate::source::{Keys, OBJECTS};

impl Standalone {
    pub(super) fn steps_of_tasks(&self, world: &World, steps: &mut Vec<Step>) {
        for (at, (node, task)) in self.tasks.iter().enumerate() {
            let node = &world.nodes[*node];
            if self.can_go(world, at) {
                steps.push(Step::Go(at));
            }
            match world.tasks[at] {
                Progress::Clearing { stage, .. } if node.phase != Phase::Unproven => {
                    self.removals(Who::Task(at), stage, world, steps);
                }
                Progress::Sent { command, .. } => {
                    let put = matches!(command, Command::Store { mode, .. } if mode.is_put());
                    let sent = if matches!(task, Task::Load(_) | Task::LoadLagging(_) | Task::FindNothing { .. }) {
                        node.may_read()
                    } else {
                        node.phase == Phase::Live
                    };
                    // The assumption `set-of-current` must hold when the set is sent, even if the set is not answered.
                    let current = !is_first_attempt(command) || self.can_go(world, at);
                    if (sent || put) && current && world.faults.unanswered > 0 {
                        steps.push(Step::GiveUp(Who::Task(at), Keys::NONE));
                    }
                    if put && node.phase != Phase::Live && self.can_go(world, at) {
                        steps.push(Step::PutUnproven(at));
                    }
                }
                // A set that asks for its ticket.
                Progress::Holding { asks: true, .. } if node.may_read() && world.faults.unanswered > 0 => {
                    steps.push(Step::GiveUp(Who::Task(at), Keys::NONE));
                }
                _ => {}
            }
        }
    }

    pub(super) fn steps_of_nodes(&self, world: &World, steps: &mut Vec<Step>) {
        let unsettled = world.server.ticket().is_none();
        for (at, node) in world.nodes.iter().enumerate() {
            match node.phase {
                Phase::Unproven => steps.push(Step::Recover(at)),
                Phase::Live => {
                    if node.has_journal() {
                        steps.push(Step::Recover(at));
                    }
                    if unsettled {
                        steps.push(Step::Doubt(at));
                    }
                }
                Phase::Clearing(stage) | Phase::Replaying(stage) => {
                    match stage {
                        Stage::Remove { left, .. } if !left.is_empty() => {}
                        _ => steps.push(Step::Recover(at)),
                    }
                    self.removals(Who::Node(at), stage, world, steps);
                }
            }
            if world.faults.cuts > 0 && node.phase != Phase::Unproven {
                steps.push(Step::Cut(at));
            }
            if world.faults.crashes > 0 {
                steps.push(Step::Crash(at));
            }
        }
    }

    pub(super) fn steps_of_server(&self, world: &World, steps: &mut Vec<Step>) {
        steps.extend((0..world.late.len()).map(Step::Late));
        let Faults { flushes, lost_clocks, lost_objects, lost_index_keys, restarts, .. } = world.faults;
        if flushes > 0 && world.server.clock.is_some() {
            steps.push(Step::Flush);
        }
        if lost_clocks > 0 && world.server.clock.is_some() {
            steps.push(Step::LoseClock);
        }
        if lost_objects > 0 {
            let held = OBJECTS.into_iter().filter(|object| world.server.objects[object.at()].is_some());
            steps.extend(held.map(Step::LoseObject));
        }
        let index_may_go = self.avoids_index() || !self.keeps(Removable::IndexKeysStay);
        if lost_index_keys > 0 && index_may_go && world.server.index.is_some() {
            steps.push(Step::LoseIndexKey);
        }
        if restarts > 0 {
            if world.saved.is_none() {
                steps.push(Step::Save);
            }
            steps.push(Step::Restart);
        }
    }

    /// Whether no task needs the index key of h to exist.
    fn avoids_index(&self) -> bool {
        self.tasks.iter().all(|(_, task)| match task {
            Task::Load(_) => true,
            Task::Invalidate(_, keys) => !keys.meets(Keys::H),
            _ => false,
        })
    }

    fn can_go(&self, world: &World, at: usize) -> bool {
        let (node, task) = self.tasks[at];
        let node = &world.nodes[node];
        match (task, world.tasks[at]) {
            (_, Progress::Done) => false,
            (Task::Load(_) | Task::LoadLagging(_), Progress::Waiting | Progress::Holding { .. })
            | (Task::FindNothing { .. } | Task::SetBoth(_), Progress::Waiting) => node.may_read(),
            // The assumption holds until the set has its ticket: by asking, or by the answer to its first attempt. With versions, the
            // assumption is not needed.
            (
                Task::Set(..),
                Progress::Holding { overtaken, .. }
                | Progress::Sent { command: Command::Store { mode: Mode::Set, overtaken, .. }, .. },
            ) if !self.scene.versioned => !overtaken || !self.keeps(Removable::SetOfCurrent),
            (_, Progress::Clearing { stage: Stage::Remove { left, .. }, .. }) => {
                left.is_empty() || node.phase == Phase::Unproven
            }
            _ => true,
        }
    }

    /// The keys that a clearing may remove next.
    fn removable(&self, left: Keys) -> impl Iterator<Item = Keys> {
        let objects = left.without(Keys::H);
        let next = if objects.is_empty() || !self.keeps(Removable::ObjectsFirst) { left } else { objects };
        next.each().map(|(_, key)| key)
    }

    fn removals(&self, who: Who, stage: Stage, world: &World, steps: &mut Vec<Step>) {
        match stage {
            Stage::Renew if world.faults.unanswered > 0 => steps.push(Step::GiveUp(who, Keys::NONE)),
            Stage::Renew => {}
            Stage::Remove { left, .. } => {
                for key in self.removable(left) {
                    steps.push(Step::Remove(who, key));
                    if world.faults.unanswered > 0 {
                        steps.push(Step::GiveUp(who, key));
                    }
                }
                if left.is_empty() && world.faults.unanswered > 0 {
                    steps.push(Step::GiveUp(who, Keys::NONE));
                }
            }
        }
    }
}
