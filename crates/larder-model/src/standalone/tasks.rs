//! The steps of tasks: loads, sets, updates, invalidations and calls for several objects.

use super::{Standalone, Who, World};
use crate::node::{Phase, Progress, Stage, Task};
use crate::protections::Removable;
use crate::server::{Clock, Command, Mode, Reply, Ticket};
use crate::source::{Keys, OBJECTS, Object, Source, States, Value};

impl Standalone {
    pub(super) fn go(&self, world: &mut World, at: usize) {
        let (node, task) = self.tasks[at];
        let next = match (task, world.tasks[at]) {
            (Task::Load(_) | Task::LoadLagging(_), Progress::Waiting) if self.keeps(Removable::Ticket) => {
                self.take_ticket(world, node)
            }
            (Task::Load(_) | Task::LoadLagging(_), Progress::Waiting) => {
                let value = load(&world.source, task);
                Progress::Holding { value, forbids: States::default(), overtaken: false, asks: true }
            }
            (Task::Load(_) | Task::LoadLagging(_), Progress::Ticketed { ticket, .. }) => {
                let value = load(&world.source, task);
                let born = world.truncates;
                let command = Command::Store { mode: Mode::Fill, value, ticket, born, overtaken: false, connection: 0 };
                Progress::Sent { command, forbids: States::default() }
            }
            (Task::Load(_) | Task::LoadLagging(_), Progress::Holding { value, overtaken, .. }) => {
                match self.take_ticket(world, node) {
                    Progress::Ticketed { ticket, born } => {
                        let command =
                            Command::Store { mode: Mode::Fill, value, ticket, born, overtaken, connection: 0 };
                        Progress::Sent { command, forbids: States::default() }
                    }
                    other => other,
                }
            }
            (Task::FindNothing { .. }, Progress::Waiting) => self.take_ticket(world, node),
            (Task::FindNothing { over }, Progress::Ticketed { ticket, .. }) => {
                Progress::Sent { command: Command::FindNothing { ticket, over }, forbids: States::default() }
            }
            (Task::SetBoth(change), Progress::Waiting) => match self.take_ticket(world, node) {
                Progress::Ticketed { ticket, born } => {
                    world.source.apply(change);
                    let left = OBJECTS.map(|object| {
                        let value = world.source.load(object);
                        Some((value, world.source.older(value.keys())))
                    });
                    Progress::Several { ticket, born, others: Keys::NONE, left }
                }
                other => other,
            },
            (_, Progress::Several { ticket, born, others, left }) => {
                self.put_next(world, node, ticket, born, others, left)
            }
            (Task::Update(..), Progress::Waiting) if self.keeps(Removable::Ticket) && world.nodes[node].may_read() => {
                match self.take_ticket(world, node) {
                    Progress::Done => self.update_without_ticket(world, task),
                    ticketed => ticketed,
                }
            }
            (Task::Update(..), Progress::Waiting) if self.keeps(Removable::Ticket) => {
                self.update_without_ticket(world, task)
            }
            (Task::Update(change, object), Progress::Ticketed { ticket, born }) => {
                world.source.apply(change);
                let value = world.source.load(object);
                let command = Command::Store { mode: Mode::Put, value, ticket, born, overtaken: false, connection: 0 };
                Progress::Sent { command, forbids: world.source.older(value.keys()) }
            }
            (Task::Truncate, Progress::Waiting) => {
                world.truncates += 1;
                // With versions, a load may come from a replica that lags, and a truncate promises nothing about old states of it.
                let forbids = match self.scene.versioned {
                    true => States::default(),
                    false => world.source.older(Keys::P.and(Keys::Q)),
                };
                let number = world.truncates;
                Progress::Clearing { stage: Stage::Renew, number, forbids }
            }
            (_, Progress::Waiting) => self.write(world, task),
            (Task::Set(..), Progress::Holding { value, forbids, overtaken, asks: false }) => {
                // The model takes the newest ticket that the node can have seen: that of the clock when the set is sent. With an older ticket
                // the set would only be refused more often, and go to its second attempt.
                match world.server.seen(self.removed).filter(|_| world.nodes[node].may_read()) {
                    Some(ticket) => {
                        let born = world.truncates;
                        let command =
                            Command::Store { mode: Mode::Set, value, ticket, born, overtaken: false, connection: 0 };
                        Progress::Sent { command, forbids }
                    }
                    None => Progress::Holding { value, forbids, overtaken, asks: true },
                }
            }
            (_, Progress::Holding { value, forbids, .. }) => {
                let ticketed =
                    if world.nodes[node].may_read() { self.take_ticket(world, node) } else { Progress::Done };
                let command = match ticketed {
                    Progress::Ticketed { ticket, born } => {
                        Command::Store { mode: Mode::Put, value, ticket, born, overtaken: false, connection: 0 }
                    }
                    // Without a ticket the set cannot store, but it must still invalidate the earlier state.
                    _ => Command::Invalidate { keys: value.keys(), floor: 0 },
                };
                Progress::Sent { command, forbids }
            }
            (_, Progress::Sent { command, forbids }) if is_first_attempt(command) => {
                self.try_set(world, node, command, forbids, world.nodes[node].phase == Phase::Live)
            }
            (_, Progress::Sent { command, forbids }) => {
                self.send(world, at, command, forbids);
                Progress::Done
            }
            (_, Progress::Clearing { stage, number, forbids }) => {
                self.clear(world, Who::Task(at), stage, Keys::NONE, number, forbids)
            }
            (_, other) => other,
        };
        world.tasks[at] = next;
    }

    /// The first attempt of a set. If it is overtaken, nothing was done yet, and the guard still holds the set's keys.
    pub(super) fn try_set(
        &self,
        world: &mut World,
        node: usize,
        command: Command,
        forbids: States,
        sent: bool,
    ) -> Progress {
        let Command::Store { value, ticket, born, .. } = command else { return Progress::Done };
        if !sent {
            self.defer(world, node, command, forbids, 0);
            return Progress::Done;
        }
        let clock = world.server.clock;
        let command = self.signed(world, node, command);
        match self.execute(world, command) {
            Reply::Overtaken => {
                let later = clock.filter(|clock| clock.epoch == ticket.epoch && clock.sequence >= ticket.sequence);
                match later {
                    Some(Clock { epoch, sequence, .. }) => {
                        let ticket = Ticket { epoch, sequence };
                        let command = Command::Store {
                            mode: Mode::SetAgain,
                            value,
                            ticket,
                            born,
                            overtaken: false,
                            connection: 0,
                        };
                        Progress::Sent { command, forbids }
                    }
                    // The clock may be unsettled, or not know this release.
                    None => Progress::Holding { value, forbids, overtaken: false, asks: true },
                }
            }
            Reply::Lost => {
                world.nodes[node].phase = Phase::Unproven;
                self.defer(world, node, command, forbids, 0);
                Progress::Done
            }
            _ => {
                world.forbidden.add(forbids);
                Progress::Done
            }
        }
    }

    /// The first step of a task that begins with a change of the source.
    fn write(&self, world: &mut World, task: Task) -> Progress {
        match task {
            Task::Invalidate(change, keys) => {
                world.source.apply(change);
                Progress::Sent { command: Command::Invalidate { keys, floor: 0 }, forbids: world.source.older(keys) }
            }
            Task::InvalidateBelow(change, object) => {
                world.source.apply(change);
                let floor = world.source.load(object).version;
                let command = Command::Invalidate { keys: object.key(), floor };
                Progress::Sent { command, forbids: world.source.older(object.key()) }
            }
            Task::Set(change, object) | Task::Update(change, object) => {
                world.source.apply(change);
                let value = world.source.load(object);
                let forbids = world.source.older(value.keys());
                Progress::Holding { value, forbids, overtaken: false, asks: matches!(task, Task::Update(..)) }
            }
            Task::DeleteH => Progress::Sent { command: Command::DeleteH, forbids: States::default() },
            Task::Load(_) | Task::LoadLagging(_) | Task::FindNothing { .. } | Task::SetBoth(_) | Task::Truncate => {
                Progress::Done
            }
        }
    }

    /// The next script of a call for several objects. If it cannot be sent, all that is left is deferred.
    fn put_next(
        &self,
        world: &mut World,
        node: usize,
        ticket: Ticket,
        born: u8,
        others: Keys,
        mut left: [Option<(Value, States)>; 2],
    ) -> Progress {
        if world.nodes[node].phase != Phase::Live {
            for (value, forbids) in left.into_iter().flatten() {
                self.defer(world, node, Command::Invalidate { keys: value.keys(), floor: 0 }, forbids, 0);
            }
            return Progress::Done;
        }
        let Some((value, forbids)) = left.iter_mut().find_map(Option::take) else { return Progress::Done };
        let since = |clock: &Clock| {
            let each = [Keys::P, Keys::Q, Keys::H].into_iter().zip(clock.touched);
            let touched = each.filter(|(_, touched)| *touched > ticket.sequence);
            touched.fold(others, |all, (key, _)| all.and(key))
        };
        let of_epoch = |world: &World| world.server.clock.filter(|clock| clock.epoch == ticket.epoch);
        let others = of_epoch(world).as_ref().map_or(others, since);
        // A ticket of no epoch is always overtaken.
        let judged = if value.keys().meets(others) { Ticket { epoch: 0, sequence: 0 } } else { ticket };
        let command = Command::Store { mode: Mode::Put, value, ticket: judged, born, overtaken: false, connection: 0 };
        self.deliver(world, node, command, forbids);
        if left == [None, None] {
            return Progress::Done;
        }
        let sequence = of_epoch(world).map_or(ticket.sequence, |clock| clock.sequence);
        let others = if self.keeps(Removable::Record) { others } else { Keys::NONE };
        Progress::Several { ticket: Ticket { sequence, ..ticket }, born, others, left }
    }

    /// An update without a ticket only invalidates: its node may not read, or the server has no settled clock.
    fn update_without_ticket(&self, world: &mut World, task: Task) -> Progress {
        match self.write(world, task) {
            Progress::Holding { value, forbids, .. } => {
                Progress::Sent { command: Command::Invalidate { keys: value.keys(), floor: 0 }, forbids }
            }
            other => other,
        }
    }

    fn take_ticket(&self, world: &mut World, node: usize) -> Progress {
        match world.server.ticket() {
            Some(ticket) => Progress::Ticketed { ticket, born: world.truncates },
            None => {
                if world.server.clock.is_none() {
                    world.nodes[node].phase = Phase::Unproven;
                }
                Progress::Done
            }
        }
    }

    /// Sends the last command of a task.
    fn send(&self, world: &mut World, at: usize, command: Command, forbids: States) {
        let node = self.tasks[at].0;
        let command = self.signed(world, node, command);
        match command {
            // A fill that could not be delivered is dropped, not put into the journal.
            Command::Store { mode: Mode::Fill, .. } | Command::FindNothing { .. } => {
                if world.nodes[node].may_read() && self.execute(world, command) == Reply::Lost {
                    world.nodes[node].phase = Phase::Unproven;
                }
            }
            _ if world.nodes[node].phase != Phase::Live => self.defer(world, node, command, forbids, 0),
            _ => self.deliver(world, node, command, forbids),
        }
    }

    pub(super) fn deliver(&self, world: &mut World, node: usize, command: Command, forbids: States) {
        if self.execute(world, command) == Reply::Lost {
            world.nodes[node].phase = Phase::Unproven;
            self.defer(world, node, command, forbids, 0);
        } else {
            world.forbidden.add(forbids);
        }
    }
}

pub(super) fn is_first_attempt(command: Command) -> bool {
    matches!(command, Command::Store { mode: Mode::Set, .. })
}

/// The value that a load reads from the source.
fn load(source: &Source, task: Task) -> Value {
    match task {
        Task::LoadLagging(object) => source.load_lagging(object),
        Task::Load(key) if key == Keys::P => source.load(Object::P),
        Task::Load(key) if key == Keys::Q => source.load(Object::Q),
        _ => source.load(source.holder()),
    }
}
