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
use crate::node::{Node, Phase, Progress, Task};
use crate::protections::{Removable, Removed};
use crate::server::{Command, Mode, Reply, Server};
use crate::source::{Keys, Object, Source, States};
use stateright::{Model, Property};
use tasks::is_first_attempt;

mod canonical;
mod clearing;
mod faults;
mod possible_steps;
mod properties;
mod recovery;
mod tasks;
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
