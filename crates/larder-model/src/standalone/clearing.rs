//! The steps of a clearing, by a truncate or by a supervisor: the clock gets a new epoch, the keys are removed, the clock is settled.

use super::{Standalone, Who, World, canonical};
use crate::node::{Phase, Progress, Stage, Task};
use crate::protections::Removable;
use crate::server::{Command, Mode, Reply};
use crate::source::{Keys, States};

impl Standalone {
    /// The next command of a clearing. Returns the new progress if a task clears. If a node clears, its phase is updated here.
    pub(super) fn clear(
        &self,
        world: &mut World,
        who: Who,
        stage: Stage,
        keys: Keys,
        number: u8,
        forbids: States,
    ) -> Progress {
        let node = match who {
            Who::Task(at) => self.tasks[at].0,
            Who::Node(at) => at,
        };
        if matches!(who, Who::Task(_)) && world.nodes[node].phase == Phase::Unproven {
            self.defer(world, node, Command::Renew { epoch: 0 }, forbids, number);
            return Progress::Done;
        }
        let command = self.clearing_command(world, stage, keys);
        let replays = matches!(who, Who::Node(at) if matches!(world.nodes[at].phase, Phase::Replaying(_)));
        let next = match (self.execute(world, command), stage) {
            (Reply::Epoch(epoch), _) => {
                if replays || matches!(who, Who::Task(_)) {
                    self.forget_sets(world);
                }
                Some(Stage::Remove { epoch, left: Keys::P.and(Keys::Q).and(Keys::H), known: true })
            }
            (Reply::Superseded, _) => Some(Stage::Renew),
            (Reply::Settled, _) => None,
            (_, Stage::Remove { epoch, left, known }) if !left.is_empty() => {
                Some(Stage::Remove { epoch, left: left.without(keys), known })
            }
            _ => None,
        };
        match (who, next) {
            (Who::Task(_), Some(stage)) => return Progress::Clearing { stage, number, forbids },
            (Who::Task(_), None) => {
                world.forbidden.add(forbids);
                world.truncated = world.truncated.max(number);
            }
            (Who::Node(at), Some(stage)) => {
                let phase = &mut world.nodes[at].phase;
                *phase = match phase {
                    Phase::Replaying(_) => Phase::Replaying(stage),
                    _ => Phase::Clearing(stage),
                };
            }
            (Who::Node(at), None) => {
                let replayed = matches!(world.nodes[at].phase, Phase::Replaying(_));
                world.nodes[at].phase = Phase::Live;
                if replayed && world.nodes[at].journal.is_empty() {
                    self.replayed(world, at);
                } else if replayed {
                    // Something was deferred during the replay, so the truncate is replayed once more.
                    world.nodes[at].journal = Keys::NONE;
                }
            }
        }
        Progress::Done
    }

    /// A truncate invalidates all states that are older than the source. So it overtakes a set of such a state that has no ticket yet.
    fn forget_sets(&self, world: &mut World) {
        let source = world.source;
        for (task, (_, kind)) in world.tasks.iter_mut().zip(&self.tasks) {
            if let (
                Progress::Holding { value, overtaken, .. }
                | Progress::Sent { command: Command::Store { mode: Mode::Set, value, overtaken, .. }, .. },
                Task::Set(..),
            ) = (task, kind)
            {
                *overtaken |= source.load(value.object).version > value.version;
            }
        }
    }

    pub(super) fn clearing_command(&self, world: &World, stage: Stage, keys: Keys) -> Command {
        match stage {
            Stage::Renew if self.keeps(Removable::Epoch) => Command::Renew { epoch: canonical::fresh_epoch(world) },
            Stage::Renew => Command::Renew { epoch: 1 },
            Stage::Remove { epoch, left, .. } if !left.is_empty() => Command::Remove { keys, epoch },
            Stage::Remove { epoch, known, .. } => Command::Settle { epoch, known },
        }
    }
}
