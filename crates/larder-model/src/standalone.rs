//! The protocol against one server: two nodes, their tasks, the source, and the faults.
//!
//! A step is one atomic script or command, or one change of the source. Steps interleave in every order. What is left out, and why that
//! misses no fault:
//!
//! - **A read is not a step.** A read is one GET of one object key, and counts only if the node may read then. So each state is checked for
//!   every object and node as if a read began and ended there (`standalone/properties.rs`). A read that began earlier promises less.
//!   A lookup of the index key only gives the node a hint, and the model assumes that nodes remember every hint.
//! - **A command is sent, executed and answered in one step**, or it is given up. A command that was given up may be executed at any later
//!   time, in any order, or never. If an answer came later, the promises that hold already would only begin later.
//! - **A lookup need not miss** before its load: another node could fill between the miss and the ticket anyway.

use crate::check::Told;
use crate::node::{Node, Phase, Progress, Stage, Task};
use crate::protections::{Removable, Removed};
use crate::server::{Clock, Command, Mode, Reply, Server, State, Ticket};
use crate::source::{Keys, OBJECTS, Object, Source, States, Value};
use stateright::{Model, Property};

mod canonical;
mod properties;
mod words;

/// How often each fault may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Faults {
    /// A command is not answered. It is executed later, or never.
    pub(crate) unanswered: u8,
    /// A node is cut off from the server.
    pub(crate) cuts: u8,
    /// A node dies and starts again.
    pub(crate) crashes: u8,
    /// The server is emptied while connections stay open.
    pub(crate) flushes: u8,
    /// The server loses only the clock.
    pub(crate) lost_clocks: u8,
    /// The server loses an object.
    pub(crate) lost_objects: u8,
    /// The server loses the index key of h.
    pub(crate) lost_index_keys: u8,
    /// The server restarts with the data of an earlier time, or empty.
    pub(crate) restarts: u8,
}

/// A configuration: the tasks and the faults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    /// The tasks of the first and of the second node.
    pub(crate) nodes: [Vec<Task>; 2],
    /// The faults that may happen.
    pub(crate) faults: Faults,
    /// Whether the entry has a version.
    pub(crate) versioned: bool,
}

/// The model of one scene.
#[derive(Clone, Debug)]
pub(crate) struct Standalone {
    scene: Scene,
    pub(crate) removed: Removed,
    tasks: Vec<(usize, Task)>,
    /// Whether states that differ only in names count as one state. Without this, traces are easier to read.
    folded: bool,
    /// Whether both nodes have the same tasks, so that swapping the nodes gives an equal state.
    mirrored: bool,
}

/// The state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct World {
    pub(crate) source: Source,
    pub(crate) server: Server,
    saved: Option<Server>,
    pub(crate) nodes: [Node; 2],
    pub(crate) tasks: Vec<Progress>,
    /// Commands that were given up, and that the server may still execute.
    late: Vec<Command>,
    faults: Faults,
    /// States that no read that begins now may return, on any node.
    pub(crate) forbidden: States,
    /// How many truncates have begun. A truncate's number is its place in this count.
    truncates: u8,
    /// The number of the newest truncate that was answered *applied*.
    pub(crate) truncated: u8,
    /// The objects that some node's hint for h may name: bit 0 for P, bit 1 for Q.
    pub(crate) remembered: u8,
    pub(crate) index_lost: bool,
    pub(crate) version_went_back: bool,
}

/// Who clears the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A truncate.
    Task(usize),
    /// The supervisor of a node.
    Node(usize),
}

/// A step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A task takes its next step, and the server answers.
    Go(usize),
    /// A put is sent on a connection on which the server's history has not been proven.
    PutUnproven(usize),
    /// The supervisor of a node takes its next step.
    Recover(usize),
    /// A task or supervisor that clears the cache removes these keys.
    Remove(Who, Keys),
    /// The next command of this task or supervisor is not answered. If it is a removal, it removes these keys.
    GiveUp(Who, Keys),
    /// A command that was given up is executed.
    Late(usize),
    /// A node finds the clock missing or unsettled.
    Doubt(usize),
    /// A node is cut off.
    Cut(usize),
    /// A node dies and starts again.
    Crash(usize),
    /// The server loses everything.
    Flush,
    /// The server loses the clock.
    LoseClock,
    /// The server loses an object.
    LoseObject(Object),
    /// The server loses the index key of h.
    LoseIndexKey,
    /// The server writes a snapshot.
    Save,
    /// The server restarts from its snapshot, or empty.
    Restart,
}

impl Standalone {
    /// The model of this scene, without the removed protections and assumptions.
    #[must_use]
    pub(crate) fn new(scene: Scene, removed: Removed, folded: bool) -> Self {
        let tasks =
            scene.nodes.iter().enumerate().flat_map(|(node, tasks)| tasks.iter().map(move |task| (node, *task)));
        let mirrored = scene.nodes[0] == scene.nodes[1];
        Self { tasks: tasks.collect(), scene, removed, folded, mirrored }
    }

    pub(crate) fn tasks(&self) -> &[(usize, Task)] {
        &self.tasks
    }

    pub(crate) fn validates(&self) -> bool {
        self.keeps(Removable::Validate)
    }

    fn keeps(&self, removable: Removable) -> bool {
        self.removed.keeps(removable)
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

    fn steps_of_tasks(&self, world: &World, steps: &mut Vec<Step>) {
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

    fn steps_of_nodes(&self, world: &World, steps: &mut Vec<Step>) {
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

    fn steps_of_server(&self, world: &World, steps: &mut Vec<Step>) {
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

    /// The command, with the name of the connection on which the node sends it now.
    fn signed(&self, world: &World, node: usize, mut command: Command) -> Command {
        if let Command::Store { connection, .. } = &mut command {
            *connection = name_of(node, world.nodes[node].connection);
        }
        command
    }

    /// Runs a command on the server, and marks the loads and sets that it overtakes.
    fn execute(&self, world: &mut World, command: Command) -> Reply {
        let before = world.server;
        let (reply, touched) = world.server.execute(command, self.removed);
        if let Command::Store { value, .. } = command
            && reply == Reply::Done
        {
            let replaced = before.objects[value.object.at()];
            world.version_went_back |=
                before.versioned && replaced.is_some_and(|replaced| replaced.value.version > value.version);
        }
        if !self.keeps(Removable::Validate) {
            world.remembered |= world.server.index.map_or(0, |leads_to| 1 << leads_to.at());
        }
        let source = world.source;
        let overtake = |command: &mut Command| {
            if let Command::Store { mode, value, overtaken, .. } = command {
                // Any invalidation overtakes a load. Only an invalidation of a newer state overtakes the first attempt of a set.
                let newer = *mode != Mode::Set || source.load(value.object).version > value.version;
                *overtaken |= newer && value.keys().meets(touched);
            }
        };
        world.late.iter_mut().for_each(overtake);
        for (task, (_, kind)) in world.tasks.iter_mut().zip(&self.tasks) {
            match task {
                Progress::Sent { command, .. } => overtake(command),
                Progress::Holding { value, overtaken, .. } if value.keys().meets(touched) => {
                    // As above: a load by any invalidation, a set only by an invalidation of a newer state.
                    let newer = source.load(value.object).version > value.version;
                    *overtaken |= newer || matches!(kind, Task::Load(_) | Task::LoadLagging(_));
                }
                _ => {}
            }
        }
        reply
    }

    fn go(&self, world: &mut World, at: usize) {
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
    fn try_set(&self, world: &mut World, node: usize, command: Command, forbids: States, sent: bool) -> Progress {
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

    fn deliver(&self, world: &mut World, node: usize, command: Command, forbids: States) {
        if self.execute(world, command) == Reply::Lost {
            world.nodes[node].phase = Phase::Unproven;
            self.defer(world, node, command, forbids, 0);
        } else {
            world.forbidden.add(forbids);
        }
    }

    /// Puts a change into the journal, because it was not answered or cannot be sent.
    fn defer(&self, world: &mut World, at: usize, command: Command, forbids: States, truncate: u8) {
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

    fn recover(&self, world: &mut World, at: usize) {
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
    fn replayed(&self, world: &mut World, at: usize) {
        let node = &mut world.nodes[at];
        world.forbidden.add(node.owed);
        world.truncated = world.truncated.max(node.owed_truncate);
        *node = Node { phase: Phase::Live, connection: node.connection, ..Node::default() };
    }

    /// The next command of a clearing. Returns the new progress if a task clears. If a node clears, its phase is updated here.
    fn clear(&self, world: &mut World, who: Who, stage: Stage, keys: Keys, number: u8, forbids: States) -> Progress {
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

    fn clearing_command(&self, world: &World, stage: Stage, keys: Keys) -> Command {
        match stage {
            Stage::Renew if self.keeps(Removable::Epoch) => Command::Renew { epoch: canonical::fresh_epoch(world) },
            Stage::Renew => Command::Renew { epoch: 1 },
            Stage::Remove { epoch, left, .. } if !left.is_empty() => Command::Remove { keys, epoch },
            Stage::Remove { epoch, known, .. } => Command::Settle { epoch, known },
        }
    }

    /// The next command is not answered. It may be executed later.
    fn give_up(&self, world: &mut World, who: Who, keys: Keys) {
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

    fn crash(&self, world: &mut World, node: usize) {
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

    fn restart(&self, world: &mut World) {
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

    fn step(&self, world: &mut World, step: Step) {
        match step {
            Step::Go(at) => self.go(world, at),
            Step::PutUnproven(at) => {
                if let Progress::Sent { command, forbids } = world.tasks[at] {
                    let node = self.tasks[at].0;
                    let command = self.signed(world, node, command);
                    world.tasks[at] = Progress::Done;
                    if is_first_attempt(command) {
                        world.tasks[at] = self.try_set(world, node, command, forbids, true);
                    } else {
                        self.deliver(world, node, command, forbids);
                    }
                }
            }
            Step::Recover(at) => self.recover(world, at),
            Step::Remove(Who::Task(at), keys) => {
                if let Progress::Clearing { stage, number, forbids } = world.tasks[at] {
                    world.tasks[at] = self.clear(world, Who::Task(at), stage, keys, number, forbids);
                }
            }
            Step::Remove(Who::Node(at), keys) => {
                if let Phase::Clearing(stage) | Phase::Replaying(stage) = world.nodes[at].phase {
                    self.clear(world, Who::Node(at), stage, keys, 0, States::default());
                }
            }
            Step::GiveUp(who, keys) => self.give_up(world, who, keys),
            Step::Late(at) => {
                let command = world.late.remove(at);
                self.execute(world, command);
            }
            Step::Doubt(at) => world.nodes[at].phase = Phase::Unproven,
            Step::Cut(at) => {
                world.faults.cuts -= 1;
                world.nodes[at].phase = Phase::Unproven;
            }
            Step::Crash(at) => self.crash(world, at),
            Step::Flush => {
                world.faults.flushes -= 1;
                world.server.empty();
            }
            Step::LoseClock => {
                world.faults.lost_clocks -= 1;
                world.server.clock = None;
            }
            Step::LoseObject(object) => {
                world.faults.lost_objects -= 1;
                world.server.objects[object.at()] = None;
            }
            Step::LoseIndexKey => {
                world.faults.lost_index_keys -= 1;
                world.server.index = None;
                world.index_lost = true;
            }
            Step::Save => {
                let mut saved = world.server;
                if let Some(clock) = &mut saved.clock {
                    clock.known = false;
                }
                world.saved = Some(saved);
            }
            Step::Restart => self.restart(world),
        }
    }
}

/// The server's name of a node's connection.
fn name_of(node: usize, connection: u8) -> u8 {
    1 + 2 * connection + u8::from(node == 1)
}

fn is_first_attempt(command: Command) -> bool {
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

impl Model for Standalone {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            source: Source::default(),
            server: Server::new(self.scene.versioned),
            saved: None,
            nodes: [Node::default(); 2],
            tasks: vec![Progress::Waiting; self.tasks.len()],
            late: Vec::new(),
            faults: self.scene.faults,
            forbidden: States::default(),
            truncates: 0,
            truncated: 0,
            remembered: 0,
            index_lost: false,
            version_went_back: false,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.steps_of_tasks(world, steps);
        self.steps_of_nodes(world, steps);
        self.steps_of_server(world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        self.step(&mut next, step);
        Some(self.canonical(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self.removed)
    }
}

impl Told for Standalone {
    fn step_in_words(&self, before: &World, step: &Step, after: &World) -> String {
        self.words(before, *step, after)
    }

    fn end_in_words(&self, world: &World) -> String {
        self.outcome(world)
    }
}
