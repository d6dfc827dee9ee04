//! The steps of tasks: tickets, loads, stores, and the transactions of writers.

use super::state::{Fence, KeyRow, Progress, Row, Storing, Ticket, World, commit, each_fence};
use super::{Postgres, Shape, Task};
use crate::protections::Removable;
use crate::source::{Keys, Object, States, Value};

impl Postgres {
    pub(super) fn ticket(&self, world: &World) -> Option<Ticket> {
        let clock = world.clock?;
        Some(Ticket { epoch: clock.epoch, generation: clock.generation, snapshot: world.committed })
    }

    pub(super) fn is_drained_by(&self, world: &World, generation: u8) -> bool {
        self.keeps(Removable::Drain) && world.sweep.is_some_and(|sweep| sweep.generation == generation)
    }

    /// The next state after a step of a task. `None`: the task waits.
    pub(super) fn go(&self, world: &World, at: usize) -> Option<World> {
        let task = *self.scene.tasks.get(at)?;
        let mut next = world.clone();
        let progress = match (*world.tasks.get(at)?, task) {
            (Progress::Waiting, Task::Load(..) | Task::Update(..)) => Progress::Ticketed(self.ticket(world)?),
            (Progress::Waiting, Task::Set(change, object)) if self.scene.versioned => {
                next.source.apply(change);
                let value = next.source.load(object);
                Progress::Changed { value, forbids: next.source.older(value.keys()) }
            }
            (Progress::Changed { value, forbids }, _) => {
                // The assumption `set-of-current`: nobody has invalidated the value, or a higher version is stored.
                let is_higher = |row: &Row| row.value.version > value.version && self.lives(world, row);
                let is_safe = world.rows[value.object.at()].iter().flatten().any(is_higher);
                if !is_safe && world.forbidden.contain(value.object, value.version) {
                    return None;
                }
                Progress::Loaded { value, ticket: self.ticket(world)?, put: Some(forbids) }
            }
            (Progress::Waiting, Task::Set(change, object)) => {
                let ticket = self.ticket(world)?;
                next.source.apply(change);
                let value = next.source.load(object);
                Progress::Loaded { value, ticket, put: Some(next.source.older(value.keys())) }
            }
            (Progress::Waiting, Task::Invalidate(change, keys)) => {
                next.source.apply(change);
                let fence = Fence { keys, outdated: None };
                Progress::Fencing { fence, forbids: next.source.older(keys) }
            }
            (Progress::Waiting, Task::WritePrepared(..)) => Progress::Prepared,
            (Progress::Waiting | Progress::Prepared, Task::Write(change, keys) | Task::WritePrepared(change, keys)) => {
                next.source.apply(change);
                let forbids = next.source.older(keys);
                let keys = if world.lost.has(at) { Keys::NONE } else { keys };
                next.lost.remove(at);
                commit(&mut next, at, Fence { keys, outdated: None }, forbids);
                Progress::Done
            }
            (Progress::Ticketed(ticket), Task::Update(change, object)) => {
                next.source.apply(change);
                let value = next.source.load(object);
                Progress::Loaded { value, ticket, put: Some(next.source.older(value.keys())) }
            }
            (Progress::Ticketed(ticket), Task::Load(key, shape)) => {
                let object = if key == Keys::H {
                    world.source.holder()
                } else if key == Keys::P {
                    Object::P
                } else {
                    Object::Q
                };
                Progress::Loaded { value: value_in(world.source.load(object), shape), ticket, put: None }
            }
            (Progress::Loaded { value, ticket, put }, _) => self.check(world, shape_of(task), value, ticket, put)?,
            (Progress::Storing(storing), _) if !storing.keyed => Progress::Storing(self.key(world, storing)?),
            (Progress::Storing(storing), _) => {
                self.store(&mut next, at, storing);
                Progress::Done
            }
            (Progress::Fencing { fence, forbids }, _) => {
                commit(&mut next, at, fence, forbids);
                Progress::Done
            }
            _ => return None,
        };
        *next.tasks.get_mut(at)? = progress;
        Some(next)
    }

    /// The check of `larder.store`. `None`: it waits for another store of the object.
    pub(super) fn check(
        &self,
        world: &World,
        shape: Shape,
        value: Value,
        ticket: Ticket,
        put: Option<States>,
    ) -> Option<Progress> {
        let is_of_object =
            |task: &Progress| matches!(task, Progress::Storing(other) if other.value.object == value.object);
        if world.tasks.iter().any(is_of_object) {
            return None;
        }
        let fencing = |outdated| match put {
            Some(forbids) => Progress::Fencing { fence: Fence { keys: value.keys(), outdated }, forbids },
            None => Progress::Done,
        };
        let Some(clock) = world.clock else { return Some(fencing(None)) };
        let overtaken = each_fence(world)
            .any(|(transaction, fence)| !ticket.snapshot.has(transaction) && fence.keys.meets(value.keys()));
        let accepted = !self.is_drained_by(world, ticket.generation)
            && (ticket.epoch == clock.epoch || !self.keeps(Removable::EpochOfTables))
            && (ticket.generation >= clock.oldest || !self.keeps(Removable::OldestGeneration))
            && !overtaken;
        if !accepted {
            return Some(fencing(None));
        }
        let shapes = &world.rows[value.object.at()];
        let is_higher = |row: &Row| {
            let forgotten = each_fence(world).any(|(transaction, fence)| {
                fence.outdated.is_none()
                    && transaction != row.writer
                    && !row.seen.has(transaction)
                    && fence.keys.meets(row.marks)
            });
            row.value.version > value.version && !forgotten
        };
        if self.scene.versioned && shapes.iter().flatten().any(is_higher) {
            return Some(fencing(Some((value.object, value.version))));
        }
        let mut marks = value.keys();
        if self.keeps(Removable::MarksOfShapes) {
            shapes
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != shape as usize)
                .filter_map(|(_, row)| *row)
                .for_each(|row| marks = marks.and(row.marks));
        }
        let storing =
            Storing { value, shape, ticket, marks, put, keyed: !value.lists_h, holds: false, displaced: Keys::NONE };
        Some(Progress::Storing(storing))
    }

    /// The rows of `larder.keys`, and the fences of whoever lost a key. `None`: it waits for another store that holds the row.
    pub(super) fn key(&self, world: &World, storing: Storing) -> Option<Storing> {
        let object = storing.value.object;
        let confirmed = |row: KeyRow| row.leads_to == object && row.generation >= storing.ticket.generation;
        if world.h.is_some_and(confirmed) && !self.keeps(Removable::KeyLock) {
            return Some(Storing { keyed: true, ..storing });
        }
        let is_held = world.tasks.iter().any(|task| matches!(task, Progress::Storing(other) if other.holds));
        if is_held && self.keeps(Removable::KeyOrder) {
            return None;
        }
        let mut displaced = Keys::NONE;
        if let Some(row) = world.h
            && row.leads_to != object
            && self.keeps(Removable::DisplacementFence)
            && world.rows[row.leads_to.at()].iter().flatten().any(|other| other.marks.meets(Keys::H))
        {
            displaced = row.leads_to.key();
        }
        Some(Storing { keyed: true, holds: true, displaced, ..storing })
    }

    /// The commit of a store.
    pub(super) fn store(&self, world: &mut World, at: usize, storing: Storing) {
        let Storing { value, shape, ticket, marks, .. } = storing;
        let shapes = &mut world.rows[value.object.at()];
        if self.keeps(Removable::MarksOfShapes) {
            shapes.iter_mut().flatten().for_each(|row| row.marks = row.marks.and(value.keys()));
        }
        shapes[shape as usize] = Some(Row { value, marks, seen: ticket.snapshot, writer: at });
        if storing.holds {
            let generation = world.h.map_or(0, |row| row.generation).max(ticket.generation);
            world.h = Some(KeyRow { leads_to: value.object, generation });
        }
        let own = if storing.put.is_some() { value.keys() } else { Keys::NONE };
        let fence = Fence { keys: own.and(storing.displaced), outdated: None };
        commit(world, at, fence, storing.put.unwrap_or_default());
    }
}

/// A store that was rolled back: if its source is changed, the keys are in the journal of its node.
pub(super) fn aborted(storing: Storing) -> Progress {
    match storing.put {
        Some(forbids) => Progress::Fencing { fence: Fence { keys: storing.value.keys(), outdated: None }, forbids },
        None => Progress::Done,
    }
}

fn shape_of(task: Task) -> Shape {
    if let Task::Load(_, shape) = task { shape } else { Shape::Full }
}

fn value_in(value: Value, shape: Shape) -> Value {
    if shape == Shape::Bare { Value { lists_h: false, ..value } } else { value }
}
