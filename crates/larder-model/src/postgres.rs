//! The protocol of the postgres connector: the statements of `connector/postgres/queries.rs` and `sql/schema.sql`, cut into the steps between
//! which other transactions can commit.
//!
//! - A **snapshot** is the set of the transactions that had committed when it was taken. Each task has at most one transaction with a fence, so
//!   the task's place is the transaction's number.
//! - A **fence** belongs to its transaction: it is visible once that has committed. So only the commit of a writer is a step; where it begins makes no
//!   difference. A writer can also roll back, or prepare its transaction and end it later, even after a crash.
//! - A **store** (fill, set, update) holds the lock of its ticket's generation from its check to its end. Nothing that it writes is visible
//!   before its commit, except that others wait for the row of h in `larder.keys`.
//! - A **sweep** selects fences, chooses objects, and commits. A **crash** empties the tables and ends all transactions but the prepared ones.
//!
//! | operation | steps |
//! |---|---|
//! | load | ticket; load; check; keys and displacement; commit |
//! | set | change and ticket; check; keys and displacement; commit |
//! | update | ticket; change; check; keys and displacement; commit |
//! | write | perhaps prepare; commit of the change and its fences, or rollback |
//! | invalidate | change; commit of the fences |
//!
//! A store that is refused after its change still fences its keys. So does one that was aborted: its node replays the keys from its journal.

use crate::protections::{Removable, Removed};
use crate::source::{Change, Keys, OBJECTS, Object, Source, States, Value};
use stateright::{Model, Property};

mod properties;
mod words;

/// What a task does. Each task runs once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// A lookup by this key that misses, by a release whose objects have this shape.
    Load(Keys, Shape),
    /// One transaction that changes the source and invalidates these keys.
    Write(Change, Keys),
    /// The same, prepared first.
    WritePrepared(Change, Keys),
    /// Changes the source and commits, then invalidates these keys.
    Invalidate(Change, Keys),
    /// Changes the source and commits, then sets the object. Without versions, no step comes between the change and the ticket: that is the
    /// assumption `set-of-current`.
    Set(Change, Object),
    /// Takes its ticket, changes the source and commits, then puts the object.
    Update(Change, Object),
}

/// The shape of a release's objects. Objects of the shape `Bare` do not list h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Shape {
    Full,
    Bare,
}

/// How often things may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Happens {
    /// A generation begins, where the last one was swept.
    pub(crate) turns: u8,
    /// An object expires and is removed.
    pub(crate) expiries: u8,
    /// The row of h is removed, where nobody needs it.
    pub(crate) prunes: u8,
    /// A store or a writer is rolled back.
    pub(crate) aborts: u8,
    /// The tables are emptied.
    pub(crate) crashes: u8,
}

/// A configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct PostgresScene {
    pub(crate) tasks: Vec<Task>,
    pub(crate) happens: Happens,
    /// Whether objects have versions.
    pub(crate) versioned: bool,
}

/// The model of one scene.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    scene: PostgresScene,
    removed: Removed,
}

/// A set of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Transactions(u8);

impl Transactions {
    fn has(self, transaction: usize) -> bool {
        self.0 & 1 << transaction != 0
    }

    fn add(&mut self, transaction: usize) {
        self.0 |= 1 << transaction;
    }

    fn remove(&mut self, transaction: usize) {
        self.0 &= !(1 << transaction);
    }
}

/// The row of `larder.clock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Clock {
    epoch: u8,
    generation: u8,
    oldest: u8,
    swept: u8,
    began: Transactions,
    previous: Transactions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Ticket {
    epoch: u8,
    generation: u8,
    snapshot: Transactions,
}

/// The committed fences of one transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Fence {
    keys: Keys,
    /// Of a set that was outdated: its version. Then only lower versions of the object are forgotten.
    outdated: Option<(Object, u8)>,
}

/// A committed row of `larder.objects`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Row {
    value: Value,
    marks: Keys,
    seen: Transactions,
    writer: usize,
}

/// The committed row of h in `larder.keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct KeyRow {
    leads_to: Object,
    generation: u8,
}

/// The rows of both objects, in both shapes.
type Rows = [[Option<Row>; 2]; 2];

/// A store whose check has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Storing {
    value: Value,
    shape: Shape,
    ticket: Ticket,
    marks: Keys,
    put: Option<States>,
    /// Whether the keys are done.
    keyed: bool,
    /// Whether it holds the row of h.
    holds: bool,
    displaced: Keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Progress {
    Waiting,
    Ticketed(Ticket),
    /// A set of a versioned object: the source is changed, and the ticket is next.
    Changed {
        value: Value,
        forbids: States,
    },
    Loaded {
        value: Value,
        ticket: Ticket,
        put: Option<States>,
    },
    Storing(Storing),
    Prepared,
    /// Its fences are to be committed. Then these states may not be read.
    Fencing {
        fence: Fence,
        forbids: States,
    },
    Done,
}

/// A sweep under way: it holds the lock of this generation alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sweep {
    generation: u8,
    fences: Transactions,
    chosen: Option<Chosen>,
}

/// What a sweep has seen when it chose the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Chosen {
    h: Option<Object>,
    present: [[bool; 2]; 2],
}

/// The state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct World {
    source: Source,
    committed: Transactions,
    clock: Option<Clock>,
    fences: Vec<Fence>,
    rows: Rows,
    h: Option<KeyRow>,
    /// Prepared transactions whose fences a crash has lost.
    lost: Transactions,
    sweep: Option<Sweep>,
    /// The row of h that a prune has found, and will remove unless it was changed or is held.
    pruning: Option<KeyRow>,
    tasks: Vec<Progress>,
    left: Happens,
    /// States that no read that begins now may return.
    forbidden: States,
    /// The same for reads of the shape `Bare`: a key that it does not list forgets it only through a stored object that lists the key.
    forbidden_bare: States,
}

/// A step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A task takes its next step.
    Go(usize),
    /// A task's transaction is rolled back.
    Abort(usize),
    /// A node finds no clock and makes one.
    Register,
    Turn,
    /// The next step of the sweep.
    Sweep,
    Expire(Object, Shape),
    Prune,
    Crash,
}

fn value_in(value: Value, shape: Shape) -> Value {
    if shape == Shape::Bare { Value { lists_h: false, ..value } } else { value }
}

impl Postgres {
    #[must_use]
    pub(crate) fn new(scene: PostgresScene, removed: Removed) -> Self {
        Self { scene, removed }
    }

    fn keeps(&self, removable: Removable) -> bool {
        self.removed.keeps(removable)
    }

    /// Whether a read finds this row: no visible fence forgets it that its ticket does not see.
    fn lives(&self, world: &World, row: &Row) -> bool {
        !self.keeps(Removable::ReadCheck)
            || !each_fence(world).any(|(transaction, fence)| {
                transaction != row.writer && !row.seen.has(transaction) && forgets(fence, row)
            })
    }

    fn ticket(&self, world: &World) -> Option<Ticket> {
        let clock = world.clock?;
        Some(Ticket { epoch: clock.epoch, generation: clock.generation, snapshot: world.committed })
    }

    fn is_drained_by(&self, world: &World, generation: u8) -> bool {
        self.keeps(Removable::Drain) && world.sweep.is_some_and(|sweep| sweep.generation == generation)
    }

    /// The next state after a step of a task. `None`: the task waits.
    fn go(&self, world: &World, at: usize) -> Option<World> {
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
    fn check(
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
    fn key(&self, world: &World, storing: Storing) -> Option<Storing> {
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
    fn store(&self, world: &mut World, at: usize, storing: Storing) {
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

    fn turn(&self, world: &World) -> Option<World> {
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

    fn sweep(&self, world: &World) -> Option<World> {
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

    fn abort(&self, world: &World, at: usize) -> Option<World> {
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

    fn prune(&self, world: &World) -> Option<World> {
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

    fn crash(&self, world: &World) -> Option<World> {
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

    fn register(&self, world: &World) -> Option<World> {
        if world.clock.is_some() || self.keeps(Removable::LostFences) && world.lost != Transactions::default() {
            return None;
        }
        let mut next = world.clone();
        next.clock = Some(self.first_clock(1 + self.scene.happens.crashes - world.left.crashes, world.committed));
        Some(next)
    }

    fn first_clock(&self, epoch: u8, now: Transactions) -> Clock {
        Clock { epoch, generation: 1, oldest: 1, swept: 0, began: now, previous: now }
    }
}

/// A store that was rolled back: if its source is changed, the keys are in the journal of its node.
fn aborted(storing: Storing) -> Progress {
    match storing.put {
        Some(forbids) => Progress::Fencing { fence: Fence { keys: storing.value.keys(), outdated: None }, forbids },
        None => Progress::Done,
    }
}

fn shape_of(task: Task) -> Shape {
    if let Task::Load(_, shape) = task { shape } else { Shape::Full }
}

fn commit(world: &mut World, at: usize, fence: Fence, forbids: States) {
    let lists_h = |row: &Row| {
        row.value.lists_h
            && !each_fence(world).any(|(by, fence)| by != row.writer && !row.seen.has(by) && forgets(fence, row))
    };
    if !fence.keys.meets(Keys::H) || world.rows.iter().flatten().flatten().any(lists_h) {
        world.forbidden_bare.add(forbids);
    }
    world.committed.add(at);
    if let Some(place) = world.fences.get_mut(at) {
        *place = fence;
    }
    world.forbidden.add(forbids);
}

/// The visible fences, with their transactions.
fn each_fence(world: &World) -> impl Iterator<Item = (usize, Fence)> {
    world.fences.iter().copied().enumerate().filter(|(_, fence)| !fence.keys.is_empty())
}

fn forgets(fence: Fence, row: &Row) -> bool {
    match fence.outdated {
        Some((object, version)) => row.value.object == object && row.value.version < version,
        None => fence.keys.meets(row.marks),
    }
}

impl Model for Postgres {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let tasks = self.scene.tasks.len();
        vec![World {
            source: Source::default(),
            committed: Transactions::default(),
            clock: Some(self.first_clock(1, Transactions::default())),
            fences: vec![Fence::default(); tasks],
            rows: Rows::default(),
            h: None,
            lost: Transactions::default(),
            sweep: None,
            pruning: None,
            tasks: vec![Progress::Waiting; tasks],
            left: self.scene.happens,
            forbidden: States::default(),
            forbidden_bare: States::default(),
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let tasks = 0..world.tasks.len();
        steps.extend(tasks.clone().map(Step::Go).chain(tasks.map(Step::Abort)));
        steps.extend([Step::Register, Step::Turn, Step::Sweep, Step::Prune, Step::Crash]);
        let each = OBJECTS.into_iter().flat_map(|object| [Shape::Full, Shape::Bare].map(|shape| (object, shape)));
        steps.extend(each.map(|(object, shape)| Step::Expire(object, shape)));
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        match step {
            Step::Go(at) => self.go(world, at),
            Step::Abort(at) => self.abort(world, at),
            Step::Register => self.register(world),
            Step::Turn => self.turn(world),
            Step::Sweep => self.sweep(world),
            Step::Prune => self.prune(world),
            Step::Crash => self.crash(world),
            Step::Expire(object, shape) => {
                let mut next = world.clone();
                next.left.expiries = next.left.expiries.checked_sub(1)?;
                next.rows[object.at()][shape as usize].take()?;
                Some(next)
            }
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
