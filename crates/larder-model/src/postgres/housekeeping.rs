//! The steps of nobody's task: turns, sweeps, prunes, rollbacks, and a crash.

use super::state::{Chosen, Clock, Fence, Progress, Rows, Sweep, Transactions, World, each_fence, forgets};
use super::tasks::aborted;
use super::{Postgres, Task};
use crate::protections::Removable;
use crate::source::{Keys, OBJECTS};

impl Postgres {
    pub(super) fn turn(&self, world: &World) -> Option<World> {
        let clock = world.clock.filter(|clock| clock.swept + 1 == clock.oldest)?;
        let mut next = world.clone();
        next.left.turns = next.left.turns.checked_sub(1)?;
        next.clock = Some(Clock {
            oldest: clock.generation,
            generation: clock.generation + 1,
            previous: clock.began,
            began: world.committed,
            ..clock
        });
        Some(next)
    }

    pub(super) fn sweep(&self, world: &World) -> Option<World> {
        let mut next = world.clone();
        let Some(sweep) = world.sweep else {
            let clock = world.clock.filter(|clock| clock.swept + 1 != clock.oldest)?;
            let generation = clock.oldest - 1;
            let holds =
                |task: &Progress| matches!(task, Progress::Storing(other) if other.ticket.generation == generation);
            if self.keeps(Removable::Drain) && world.tasks.iter().any(holds) {
                return None;
            }
            let visible = if self.keeps(Removable::Generations) { clock.previous } else { world.committed };
            let mut fences = Transactions::default();
            each_fence(world)
                .map(|(transaction, _)| transaction)
                .filter(|transaction| visible.has(*transaction))
                .for_each(|transaction| fences.add(transaction));
            next.sweep = Some(Sweep { generation, fences, chosen: None });
            return Some(next);
        };
        let Some(Chosen { h, present }) = sweep.chosen else {
            let chosen = Chosen {
                h: world.h.map(|row| row.leads_to),
                present: world.rows.map(|shapes| shapes.map(|row| row.is_some())),
            };
            next.sweep = Some(Sweep { chosen: Some(chosen), ..sweep });
            return Some(next);
        };
        for (transaction, fence) in each_fence(world).filter(|(transaction, _)| sweep.fences.has(*transaction)) {
            for object in OBJECTS {
                let is_led_to = fence.keys.meets(object.key()) || fence.keys.meets(Keys::H) && h == Some(object);
                for (row, present) in next.rows[object.at()].iter_mut().zip(present[object.at()]) {
                    if is_led_to
                        && present
                        && row.is_some_and(|row| {
                            transaction != row.writer && !row.seen.has(transaction) && forgets(fence, &row)
                        })
                    {
                        *row = None;
                    }
                }
            }
            if let Some(swept) = next.fences.get_mut(transaction) {
                *swept = Fence::default();
            }
        }
        next.sweep = None;
        if let Some(clock) = &mut next.clock {
            clock.swept = sweep.generation;
        }
        Some(next)
    }

    pub(super) fn abort(&self, world: &World, at: usize) -> Option<World> {
        let mut next = world.clone();
        next.left.aborts = next.left.aborts.checked_sub(1)?;
        let progress = match (*world.tasks.get(at)?, self.scene.tasks.get(at)?) {
            (Progress::Storing(storing), _) => aborted(storing),
            (Progress::Waiting, Task::Write(..)) | (Progress::Prepared, _) => Progress::Done,
            _ => return None,
        };
        next.lost.remove(at);
        *next.tasks.get_mut(at)? = progress;
        Some(next)
    }

    pub(super) fn prune(&self, world: &World) -> Option<World> {
        let mut next = world.clone();
        if let Some(found) = world.pruning {
            let is_held = world.tasks.iter().any(|task| matches!(task, Progress::Storing(other) if other.holds));
            if !is_held && world.h == Some(found) {
                next.h = None;
            }
            next.pruning = None;
            return Some(next);
        }
        let (clock, row) = (world.clock?, world.h?);
        let is_needed = world.rows[row.leads_to.at()].iter().flatten().any(|row| row.marks.meets(Keys::H));
        let is_old = if self.keeps(Removable::KeysDrained) {
            row.generation <= clock.swept
        } else {
            row.generation < clock.oldest
        };
        if is_needed || !is_old {
            return None;
        }
        next.left.prunes = next.left.prunes.checked_sub(1)?;
        next.pruning = Some(row);
        Some(next)
    }

    pub(super) fn crash(&self, world: &World) -> Option<World> {
        let mut next = world.clone();
        next.left.crashes = next.left.crashes.checked_sub(1)?;
        next.clock = None;
        next.fences.fill(Fence::default());
        next.rows = Rows::default();
        next.h = None;
        next.sweep = None;
        next.pruning = None;
        for (at, task) in next.tasks.iter_mut().enumerate() {
            match *task {
                Progress::Prepared => next.lost.add(at),
                Progress::Storing(storing) => *task = aborted(storing),
                _ => {}
            }
        }
        Some(next)
    }

    pub(super) fn register(&self, world: &World) -> Option<World> {
        if world.clock.is_some() || self.keeps(Removable::LostFences) && world.lost != Transactions::default() {
            return None;
        }
        let mut next = world.clone();
        next.clock = Some(self.first_clock(1 + self.scene.happens.crashes - world.left.crashes, world.committed));
        Some(next)
    }

    pub(super) fn first_clock(&self, epoch: u8, now: Transactions) -> Clock {
        Clock { epoch, generation: 1, oldest: 1, swept: 0, began: now, previous: now }
    }
}
