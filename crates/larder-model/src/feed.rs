//! The feed: changes that travel with the transaction that makes them, into the memory of every node or onto a server that all nodes share.
//!
//! - A **writer** is one transaction. It gets its number when it begins, and its change becomes visible when it commits, in any order.
//! - A **poll** is begun by a node, is executed by the database as one statement, and is then applied, change by change. Only then it counts. Anything may
//!   come between these steps: a node is stopped and goes on, however long it takes.
//! - A **load** takes its ticket, reads the database, and fills. A ticket is modelled by what it is for: an invalidation refuses the loads of its
//!   objects that are under way. `standalone.rs` and `postgres.rs` show that connectors do so.
//! - **Time** is ages. A tick of the one clock makes everything a tick older, and no age counts further than the deadline. So there is no bound on time.
//! - A **get** looks into the cache if the node's last poll that counted began less than the deadline ago. It may end much later than it began.
//!
//! | file | what |
//! |---|---|
//! | `database.rs` | transactions, snapshots, trimming, crashes |
//! | `store.rs` | cached objects, the place on a shared server, loads |
//! | `node.rs` | a node and its poll |
//! | `polls.rs`, `places.rs`, `steps.rs` | the steps of a poll; what is added on a shared server; all other steps |
//! | `own.rs` | what is added by a tier over PostgreSQL: the node's own changes |
//! | `properties.rs`, `words.rs` | the promise; how a step is told |

use crate::protections::{Removable, Removed};
use crate::source::Object;
pub(crate) use database::{Commit, Writer};
use database::{Database, Writers};
use node::{Membership, Node};
use own::Own;
use stateright::{Model, Property};
use store::{Load, Store};

mod database;
mod node;
mod own;
mod places;
mod polls;
mod properties;
mod steps;
mod store;
mod words;

/// How often things may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Happens {
    pub(crate) rollbacks: u8,
    /// The database crashes.
    pub(crate) crashes: u8,
    /// Changes are trimmed.
    pub(crate) trims: u8,
    /// A get begins, and may end at any time.
    pub(crate) gets: u8,
    /// A node is stopped for good and started anew.
    pub(crate) deaths: u8,
    /// An invalidation on the shared server goes into the node's journal.
    pub(crate) deferrals: u8,
    /// An invalidation on the shared server fails, and nobody keeps it.
    pub(crate) errors: u8,
    /// The shared server restarts with older data.
    pub(crate) losses: u8,
    /// A replica of the shared server with older data becomes another server, which nodes move to one by one.
    pub(crate) promotions: u8,
}

/// A configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct FeedScene {
    pub(crate) writers: Vec<Writer>,
    /// Lookups that miss: in memory on the first node, and on a shared server on any node that is connected.
    pub(crate) loads: Vec<Object>,
    pub(crate) nodes: u8,
    /// Whether the cache is on a server that the nodes share, and not in the memory of each.
    pub(crate) shared: bool,
    /// Whether the cache is opened while the feed is read already for another one.
    pub(crate) late: bool,
    /// Whether the nodes that share a server have joined already.
    pub(crate) joined: bool,
    /// Whether the memory of a node stands in front of the database, and a writer changes through its cache.
    pub(crate) tier: bool,
    /// Whether a transaction begins and commits in one step.
    pub(crate) short: bool,
    /// In ticks.
    pub(crate) deadline: u8,
    pub(crate) happens: Happens,
}

/// The model of one scene.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    scene: FeedScene,
    removed: Removed,
    /// Whether states that differ only in the names of nodes count as one.
    canonical: bool,
    /// For each object, the writers that change it.
    changing: [Writers; 2],
}

/// The state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct World {
    database: Database,
    nodes: Vec<Node>,
    /// The memory of each node; or the shared server, and the replica that takes its place.
    stores: Vec<Store>,
    /// The shared server as a dump or a replica has it.
    saved: Option<Store>,
    /// The shared server that a node connects to.
    master: u8,
    loads: Vec<(Object, Load)>,
    /// The change that the first node makes through its cache.
    own: Own,
    left: Happens,
}

/// What becomes of an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Applied,
    Deferred,
    Failed,
}

/// A step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Tick,
    Begin(usize),
    Prepare(usize),
    Commit(usize),
    RollBack(usize),
    Crash {
        lossy: bool,
    },
    /// Somebody who finds no clock makes one.
    Register,
    Moment,
    Trim(usize),
    SayTrimmed,
    Load(usize),
    Open(usize),
    /// A poll begins.
    Poll(usize),
    /// Its statement is executed, or one of its two without `one-statement`.
    Answer(usize),
    FailPoll(usize),
    Apply(usize, Outcome),
    /// The poll counts.
    Count(usize),
    Get(usize),
    /// The next step of the first node's own change, after the database has answered it.
    Own,
    /// It waits in vain for a poll.
    GiveUp,
    /// It cannot be delivered.
    Defer,
    /// A poll for other caches, while this one has not joined.
    Pass(usize),
    /// A cache on a shared server begins to join: its node reads the place.
    Join(usize),
    ReadPlace(usize),
    SetPlace(usize),
    Replay(usize),
    Die(usize),
    /// A dump is written, or a replica is as far.
    Save,
    Lose {
        empty: bool,
    },
    Promote,
    Cut(usize),
    Connect(usize),
}

impl Feed {
    #[must_use]
    pub(crate) fn new(scene: FeedScene, removed: Removed, canonical: bool) -> Self {
        let changing = crate::source::OBJECTS.map(|object| {
            let mut changing = Writers::NONE;
            let writers = scene.writers.iter().enumerate();
            writers.filter(|(_, writer)| writer.keys.meets(object.key())).for_each(|(at, _)| changing.add(at));
            changing
        });
        Self { scene, removed, canonical, changing }
    }

    fn keeps(&self, removable: Removable) -> bool {
        self.removed.keeps(removable)
    }

    /// The store that a node uses now.
    fn store_of(&self, node: usize, world: &World) -> Option<u8> {
        if self.scene.shared { world.nodes.get(node)?.connected } else { u8::try_from(node).ok() }
    }
}

impl Model for Feed {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let database = Database::new(self.scene.writers.len());
        let nodes = usize::from(self.scene.nodes);
        let (late, joined) = (self.scene.late, self.scene.joined);
        let position = if late || joined { database.head(self.removed) } else { None };
        let membership = match (late, joined) {
            (true, _) => Membership::Absent,
            (_, true) => Membership::Joined,
            _ => Membership::Outside,
        };
        let stores = if self.scene.shared { 1 + usize::from(self.scene.happens.promotions) } else { nodes };
        let store = Store { place: position.filter(|_| joined), ..Store::default() };
        vec![World {
            nodes: vec![Node::new(membership, position); nodes],
            stores: vec![store; stores],
            saved: None,
            master: 0,
            loads: self.scene.loads.iter().map(|object| (*object, Load::Waiting)).collect(),
            own: Own::default(),
            left: self.scene.happens,
            database,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        use Step::{
            Answer, Apply, Begin, Commit, Connect, Count, Crash, Cut, Die, FailPoll, Get, Join, Lose, Moment, Open,
            Pass, Poll, Prepare, Promote, ReadPlace, Register, Replay, RollBack, Save, SayTrimmed, SetPlace, Tick,
            Trim,
        };
        steps.extend([Tick, Crash { lossy: false }, Crash { lossy: true }, Register, Moment, SayTrimmed]);
        let writers = 0..self.scene.writers.len();
        steps.extend(writers.flat_map(|writer| [Begin(writer), Prepare(writer), Commit(writer), RollBack(writer)]));
        steps.extend((0..world.database.moments.len()).map(Trim));
        steps.extend((0..world.loads.len()).map(Step::Load));
        for node in 0..world.nodes.len() {
            steps.extend([Answer(node), Apply(node, Outcome::Applied), Count(node), Get(node)]);
            if !self.scene.shared {
                steps.extend([Open(node), Poll(node), FailPoll(node)]);
            } else {
                steps.extend([Apply(node, Outcome::Deferred), Apply(node, Outcome::Failed), Pass(node), Join(node)]);
                steps.extend([ReadPlace(node), SetPlace(node), Replay(node), Die(node), Cut(node), Connect(node)]);
            }
        }
        if self.scene.tier {
            steps.extend([Step::Own, Step::GiveUp, Step::Defer]);
        }
        if self.scene.shared {
            steps.extend([Save, Lose { empty: false }, Lose { empty: true }, Promote]);
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        self.take(&mut next, step)?;
        if self.canonical && self.scene.shared {
            next.nodes.sort_unstable();
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
