//! The protocol on a cluster. There no command spans hash slots, and the order of steps replaces atomicity. The library does not implement
//! it yet: this model shows that it would be right.
//!
//! - **Clock**, in a slot of its own: epoch and sequence.
//! - **Index key**, in its slot: a fence, and *claims*. A claim is the primary key of an object that was stored under the index key, with a
//!   stamp: the newest ticket's sequence with which the object claimed the key.
//! - **Object**, in its slot: a fence, and the stored object.
//!
//! | operation | steps |
//! |---|---|
//! | fill | ticket; load; the epoch is still the ticket's; claim; displace every other claimant; store |
//! | set | change; sequence, which is its ticket; claim and fence; displace every other claimant; store and fence |
//! | update | ticket; change; sequence, if the epoch is still the ticket's; then as set |
//! | displace | a new sequence; fence and remove the object; drop its claim, if older |
//! | invalidate | change; sequence; fence each key, and learn of its claimants; fence and remove each of them |
//! | truncate | new epoch and sequence; remove all objects; wait out the longest fill; remove them again; drop claims older than the sequence |
//!
//! A set or update that is refused becomes an invalidation of its keys. An invalidation fences and removes in any order.
//!
//! Every command may be given up. It is then executed later, or never, and its task ends. What a node does about that (journal, recovery) is
//! the same as on one server, and is modelled there.

use crate::check::Told;
use crate::node::Task;
use crate::protections::{Removable, Removed};
use crate::source::{Keys, OBJECTS, Object, Source, States, Value};
use slots::{Command, Reply, Slots, Ticket};
use stateright::{Model, Property};

mod canonical;
mod properties;
mod slots;
mod words;

/// A configuration: the tasks, and how many commands may be given up.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterScene {
    /// The tasks.
    pub(crate) tasks: Vec<Task>,
    /// How many commands may be given up. They are executed later, or never.
    pub(crate) unanswered: u8,
}

/// The model of one scene.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    scene: ClusterScene,
    removed: Removed,
    folded: bool,
}

/// The state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct World {
    source: Source,
    slots: Slots,
    tasks: Vec<Progress>,
    /// Commands that were given up, and that may still be executed.
    late: Vec<Command>,
    unanswered: u8,
    /// States that no read that begins now may return.
    forbidden: States,
    /// States that a change with a sequence forbids. Kept only if the scene has a plain set, to check its assumption.
    overtaken: States,
    /// How many changes (invalidations, sets, updates, truncates) have begun. A change's number is its place in this count.
    begun: u8,
    /// For P, Q and h: the number of the newest change that was applied to the key.
    applied: [u8; 3],
}

/// A change: its number, its keys, and the states that it will forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Change {
    number: u8,
    keys: Keys,
    forbids: States,
}

/// A fill, set or update whose epoch was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Storing {
    at: At,
    value: Value,
    ticket: Ticket,
    born: u8,
    /// The change, for a set or update.
    change: Option<Change>,
    /// The sequence with which a set or update fences its own keys.
    fence: Option<u8>,
    /// The sequence of the displacement.
    sequence: u8,
    /// The objects that are to be displaced.
    others: Keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum At {
    Claim,
    Sequence,
    Displace,
    Unclaim,
    Store,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Truncating {
    Renew,
    Remove { epoch: u8, sequence: u8, left: Keys },
    Again { epoch: u8, sequence: u8, left: Keys },
}

/// The progress of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Progress {
    Waiting,
    Ticketed {
        ticket: Ticket,
    },
    Loaded {
        value: Value,
        ticket: Option<Ticket>,
        born: u8,
    },
    /// The source is changed. A set or update has a value to put. An update has a ticket from before the change.
    Changed {
        put: Option<Value>,
        ticket: Option<Ticket>,
        change: Change,
    },
    Storing(Storing),
    /// An invalidation, with the keys that are still to be fenced and the objects that are still to be removed.
    Forgetting {
        sequence: u8,
        keys: Keys,
        objects: Keys,
        change: Change,
    },
    Truncating {
        at: Truncating,
        change: Change,
    },
    Done,
}

/// A step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A task takes its next step, and is answered. An invalidation or truncate takes it for this key.
    Go(usize, Keys),
    /// The same, but the command is not answered.
    GiveUp(usize, Keys),
    /// A command that was given up is executed.
    Late(usize),
    /// A truncate has waited for the longest fill.
    Waited(usize),
}

impl Cluster {
    /// The model of this scene, without the removed protections and assumptions.
    #[must_use]
    pub(crate) fn new(scene: ClusterScene, removed: Removed, folded: bool) -> Self {
        Self { scene, removed, folded }
    }

    fn keeps(&self, removable: Removable) -> bool {
        self.removed.keeps(removable)
    }

    /// The command that a task sends next. `None` if its next step is on the source only.
    fn command(&self, task: Task, progress: Progress, key: Keys) -> Option<Command> {
        Some(match progress {
            Progress::Waiting => match task {
                Task::Load(_) | Task::Update(..) if self.keeps(Removable::Ticket) => Command::Look,
                _ => return None,
            },
            Progress::Ticketed { .. } | Progress::Done => return None,
            Progress::Loaded { .. } => Command::Look,
            Progress::Changed { .. } => Command::Next,
            Progress::Storing(storing) => storing.command(),
            Progress::Forgetting { sequence, .. } if key == Keys::H => Command::Fence { sequence },
            Progress::Forgetting { sequence, .. } => Command::Forget { object: object_of(key), sequence },
            Progress::Truncating { at: Truncating::Renew, .. } => Command::Renew,
            Progress::Truncating { at: Truncating::Remove { .. }, .. } => Command::Remove { object: object_of(key) },
            Progress::Truncating { at: Truncating::Again { left, sequence, .. }, .. } => {
                if left.is_empty() {
                    Command::DropClaims { sequence }
                } else {
                    Command::Remove { object: object_of(key) }
                }
            }
        })
    }

    /// The keys for which a task can take its next step.
    fn choices(progress: Progress) -> Keys {
        match progress {
            Progress::Forgetting { keys, objects, .. } => keys.and(objects),
            Progress::Truncating { at: Truncating::Remove { left, .. } | Truncating::Again { left, .. }, .. } => left,
            _ => Keys::NONE,
        }
    }

    /// The epoch of a truncate that has removed once, and now waits for older fills.
    fn waits(&self, progress: Progress) -> Option<u8> {
        match progress {
            Progress::Truncating { at: Truncating::Remove { left, epoch, .. }, .. } if left.is_empty() => Some(epoch),
            _ => None,
        }
    }

    /// Whether a fill, set or update with a ticket of an older epoch is still storing.
    fn is_under_way(&self, world: &World, epoch: u8) -> bool {
        world.tasks.iter().any(|task| matches!(task, Progress::Storing(storing) if storing.ticket.epoch < epoch))
    }

    /// Whether the assumption `set-of-current` lets this task go on.
    fn may_set(&self, world: &World, task: Task, progress: Progress) -> bool {
        match (task, progress) {
            (Task::Set(..), Progress::Changed { put: Some(value), .. }) if self.keeps(Removable::SetOfCurrent) => {
                !world.overtaken.contain(value.object, value.version)
            }
            _ => true,
        }
    }

    fn start(&self, world: &mut World, task: Task) -> Progress {
        match task {
            Task::Load(key) => Progress::Loaded { value: load(&world.source, key), ticket: None, born: world.begun },
            Task::Truncate => {
                let keys = Keys::P.and(Keys::Q).and(Keys::H);
                let change = announce(world, keys);
                Progress::Truncating { at: Truncating::Renew, change }
            }
            Task::Invalidate(change, keys) => {
                world.source.apply(change);
                Progress::Changed { put: None, ticket: None, change: announce(world, keys) }
            }
            Task::Set(change, object) | Task::Update(change, object) => {
                world.source.apply(change);
                let value = world.source.load(object);
                Progress::Changed { put: Some(value), ticket: None, change: announce(world, value.keys()) }
            }
            Task::LoadLagging(_)
            | Task::InvalidateBelow(..)
            | Task::SetBoth(_)
            | Task::FindNothing { .. }
            | Task::DeleteH => Progress::Done,
        }
    }

    fn go(&self, world: &mut World, at: usize, key: Keys) {
        let task = self.scene.tasks[at];
        let progress = world.tasks[at];
        let reply = self.command(task, progress, key).map(|command| world.slots.execute(command, self.removed));
        world.tasks[at] = match (progress, reply) {
            (Progress::Waiting, Some(Reply::Clock(ticket))) => Progress::Ticketed { ticket },
            (Progress::Waiting, _) => self.start(world, task),
            (Progress::Ticketed { ticket }, _) => match self.start(world, task) {
                Progress::Loaded { value, born, .. } => Progress::Loaded { value, ticket: Some(ticket), born },
                Progress::Changed { put, change, .. } => Progress::Changed { put, ticket: Some(ticket), change },
                other => other,
            },
            (Progress::Loaded { value, ticket, born }, Some(Reply::Clock(now))) => {
                let ticket = ticket.unwrap_or(now);
                if ticket.epoch == now.epoch || !self.keeps(Removable::Epoch) {
                    self.store(value, ticket, born, None)
                } else {
                    Progress::Done
                }
            }
            (Progress::Changed { put, ticket, change }, Some(Reply::Clock(now))) => {
                let ticket = ticket.unwrap_or(now);
                if self.scene.tasks.iter().any(|task| matches!(task, Task::Set(..))) {
                    world.overtaken.add(change.forbids);
                }
                match put {
                    Some(value) if ticket.epoch == now.epoch || !self.keeps(Removable::Epoch) => {
                        // The value of a set is current when the set gets its sequence.
                        let born = if matches!(task, Task::Set(..)) { world.begun } else { change.number };
                        self.store(value, ticket, born, Some((change, now.sequence)))
                    }
                    _ => forget(change, now.sequence),
                }
            }
            (Progress::Storing(storing), Some(reply)) => self.stored(world, storing, reply),
            (Progress::Forgetting { sequence, keys, objects, change }, Some(reply)) => {
                let mut objects = objects.without(key);
                if let Reply::Claimants(claimants) = reply {
                    objects = objects.and(claimants);
                }
                let keys = keys.without(key);
                if keys.and(objects).is_empty() {
                    apply(world, change);
                    Progress::Done
                } else {
                    Progress::Forgetting { sequence, keys, objects, change }
                }
            }
            (Progress::Truncating { at, change }, reply) => self.truncated(world, at, change, key, reply),
            (other, _) => other,
        };
    }

    fn store(&self, value: Value, ticket: Ticket, born: u8, put: Option<(Change, u8)>) -> Progress {
        let at = if value.lists_h && self.keeps(Removable::Order) { At::Claim } else { At::Store };
        let (change, fence) = put.unzip();
        Progress::Storing(Storing { at, value, ticket, born, change, fence, sequence: 0, others: Keys::NONE })
    }

    fn stored(&self, world: &mut World, mut storing: Storing, reply: Reply) -> Progress {
        let order = self.keeps(Removable::Order);
        storing.at = match (storing.at, reply) {
            (_, Reply::Refused) => {
                // A set or update that was refused must still invalidate the earlier state.
                return match storing.change {
                    Some(change) => Progress::Changed { put: None, ticket: None, change },
                    None => Progress::Done,
                };
            }
            (At::Claim, Reply::Claimants(others)) if !others.is_empty() && self.keeps(Removable::Displace) => {
                storing.others = others;
                match storing.fence {
                    Some(sequence) if !self.keeps(Removable::NewSequence) => {
                        storing.sequence = sequence;
                        At::Displace
                    }
                    _ => At::Sequence,
                }
            }
            (At::Sequence, Reply::Clock(now)) => {
                storing.sequence = now.sequence;
                At::Displace
            }
            (At::Displace, _) => At::Unclaim,
            (At::Claim | At::Unclaim, _) if order => At::Store,
            (At::Store, _) if !order && storing.value.lists_h => At::Claim,
            _ => {
                if let Some(change) = storing.change {
                    apply(world, change);
                }
                return Progress::Done;
            }
        };
        Progress::Storing(storing)
    }

    fn truncated(
        &self,
        world: &mut World,
        at: Truncating,
        change: Change,
        key: Keys,
        reply: Option<Reply>,
    ) -> Progress {
        let both = Keys::P.and(Keys::Q);
        let next = match (at, reply) {
            (Truncating::Renew, Some(Reply::Clock(now))) => {
                Truncating::Remove { epoch: now.epoch, sequence: now.sequence, left: both }
            }
            (Truncating::Remove { epoch, sequence, left }, _) if !left.is_empty() => {
                let left = left.without(key);
                if left.is_empty() && !self.keeps(Removable::KeepClaims) {
                    world.slots.execute(Command::DropClaims { sequence }, self.removed);
                }
                Truncating::Remove { epoch, sequence, left }
            }
            (Truncating::Again { epoch, sequence, left }, _) if !left.is_empty() => {
                Truncating::Again { epoch, sequence, left: left.without(key) }
            }
            _ => {
                apply(world, change);
                return Progress::Done;
            }
        };
        Progress::Truncating { at: next, change }
    }

    /// The time of the longest fill is over: commands for an older epoch have been executed, or never will be.
    fn waited(&self, world: &mut World, at: usize) {
        let Progress::Truncating { at: Truncating::Remove { epoch, sequence, .. }, change } = world.tasks[at] else {
            return;
        };
        if self.keeps(Removable::LongestFill) {
            world.late.retain(|command| match command {
                Command::Claim { ticket, .. } | Command::Store { ticket, .. } => ticket.epoch >= epoch,
                _ => true,
            });
        }
        world.tasks[at] = if self.keeps(Removable::SecondRemoval) {
            let left = Keys::P.and(Keys::Q);
            Progress::Truncating { at: Truncating::Again { epoch, sequence, left }, change }
        } else {
            apply(world, change);
            Progress::Done
        };
    }
}

impl Storing {
    fn command(&self) -> Command {
        let (object, ticket, fence, sequence) = (self.value.object, self.ticket, self.fence, self.sequence);
        match self.at {
            At::Claim => Command::Claim { object, ticket, fence },
            At::Sequence => Command::Next,
            At::Displace => Command::Forget { object: object_of(self.others), sequence },
            At::Unclaim => Command::Unclaim { object: object_of(self.others), sequence },
            At::Store => Command::Store { value: self.value, ticket, fence, born: self.born },
        }
    }
}

fn object_of(key: Keys) -> Object {
    if key == Keys::Q { Object::Q } else { Object::P }
}

fn load(source: &Source, key: Keys) -> Value {
    source.load(if key == Keys::H { source.holder() } else { object_of(key) })
}

fn announce(world: &mut World, keys: Keys) -> Change {
    world.begun += 1;
    Change { number: world.begun, keys, forbids: world.source.older(keys) }
}

fn forget(change: Change, sequence: u8) -> Progress {
    let objects = change.keys.without(Keys::H);
    let keys = change.keys.without(objects);
    Progress::Forgetting { sequence, keys, objects, change }
}

fn apply(world: &mut World, change: Change) {
    world.forbidden.add(change.forbids);
    for (at, _) in change.keys.each() {
        world.applied[at] = world.applied[at].max(change.number);
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            source: Source::default(),
            slots: Slots::new(),
            tasks: vec![Progress::Waiting; self.scene.tasks.len()],
            late: Vec::new(),
            unanswered: self.scene.unanswered,
            forbidden: States::default(),
            overtaken: States::default(),
            begun: 0,
            applied: [0; 3],
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for (at, progress) in world.tasks.iter().enumerate() {
            if *progress == Progress::Done {
                continue;
            }
            if let Some(epoch) = self.waits(*progress) {
                if !self.is_under_way(world, epoch) {
                    steps.push(Step::Waited(at));
                }
                continue;
            }
            if !self.may_set(world, self.scene.tasks[at], *progress) {
                continue;
            }
            let choices = Self::choices(*progress);
            let each = choices.each().map(|(_, key)| key).chain(choices.is_empty().then_some(Keys::NONE));
            for key in each {
                steps.push(Step::Go(at, key));
                let command = self.command(self.scene.tasks[at], *progress, key);
                // A task that gets no ticket or sequence does nothing, so giving that command up is no step.
                if world.unanswered > 0 && command.is_some_and(|c| !matches!(c, Command::Look | Command::Next)) {
                    steps.push(Step::GiveUp(at, key));
                }
            }
        }
        steps.extend((0..world.late.len()).map(Step::Late));
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        match step {
            Step::Go(at, key) => self.go(&mut next, at, key),
            Step::GiveUp(at, key) => {
                next.unanswered -= 1;
                next.late.extend(self.command(self.scene.tasks[at], world.tasks[at], key));
                next.tasks[at] = Progress::Done;
            }
            Step::Late(at) => {
                let command = next.late.remove(at);
                next.slots.execute(command, self.removed);
            }
            Step::Waited(at) => self.waited(&mut next, at),
        }
        Some(self.canonical(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self.removed)
    }
}

impl Told for Cluster {
    fn step_in_words(&self, before: &World, step: &Step, after: &World) -> String {
        self.words(before, *step, after)
    }

    fn end_in_words(&self, world: &World) -> String {
        words::outcome(world)
    }
}

/// Both objects, each with what is stored of it.
fn objects(world: &World) -> impl Iterator<Item = (Object, Option<slots::Stored>)> {
    OBJECTS.into_iter().map(|object| (object, world.slots.objects[object.at()].stored))
}
