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
//! | file | what |
//! |---|---|
//! | `state.rs` | what is in the database, and where each task is |
//! | `tasks.rs` | the steps of tasks |
//! | `housekeeping.rs` | turns, sweeps, prunes, rollbacks, a crash |
//! | `properties.rs`, `words.rs` | the promises; how a step is told |
//!
//! A store that is refused after its change still fences its keys. So does one that was aborted: its node replays the keys from its journal.

use crate::protections::{Removable, Removed};
use crate::source::{Change, Keys, OBJECTS, Object, Source, States};
pub(crate) use state::World;
use state::{Fence, Progress, Row, Rows, Transactions, each_fence, forgets};
use stateright::{Model, Property};

mod housekeeping;
mod properties;
mod state;
mod tasks;
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
