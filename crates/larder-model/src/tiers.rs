//! The strict tier: an L1 in the memory of each node, in front of one server, and changes that wait until no L1 can be stale any more.
//! `docs/protocol-tiers.md` tells the protocol in steps.
//!
//! - There is one object, P, with a secondary key, h. A **change** invalidates through P or through h, deletes h, or truncates; or it invalidates another object, Q. Its version counts changes, and
//!   a load shows the newest one that was executed.
//! - A **follow** is executed by the server, answered, and applied. Only then the node's L1 may be read, for a while that counts from the sending.
//! - A **fill** of L1 comes from a get that the server answered, or from a load that the server has stored. Its answer arrives at any later time.
//! - **Time** is ages. A tick of the one clock makes everything a tick older, and no age counts further than the validity. So there is no bound on time.
//! - A node is stopped by taking no step. So every node may be stopped between any two of its steps, for any time.
//!
//! What is left out, and why that misses no fault:
//!
//! - **A follow, a get and a load are sent when they are executed.** If one was sent earlier, the node's validity ends earlier, it acknowledges less, and it
//!   refuses more fills. Only a follow that nobody waits for is executed later than it was sent.
//! - **A change of the source is executed on the server in the same step.** Between the two, loads could only show something newer.
//! - **A load is one step**: ticket, source and store. `standalone.rs` shows that a store is refused if one of the object's keys was touched since the ticket. So
//!   what is stored could have been loaded at the moment of the store.
//! - **Clocks run at different rates.** An age is what the clock that matters counts at worst: a validity ends as late, and a wait as early, as the rates
//!   permit.
//! - **An L1 hit is not a step.** Each state is checked as if a hit began and ended there. Some scenes have hits that end later than they began.
//!
//! | file | what |
//! |---|---|
//! | `server.rs` | the server: clock, log, object, and what it knows of followers |
//! | `node.rs` | a node: what its L1 holds and knows, what is on its way, its change |
//! | `following.rs`, `changing.rs`, `clearing.rs`, `faults.rs` | the steps of L1; of changes; of clearings; everything else |
//! | `canonical.rs`, `properties.rs`, `words.rs` | names of states; the promises; how a step is told |

use crate::protections::{Removable, Removed};
use crate::source::Keys;
use node::{Follow, Node};
use server::{Mark, Server};
use stateright::{Model, Property};

mod canonical;
mod changing;
mod clearing;
mod faults;
mod following;
mod node;
mod properties;
mod server;
mod words;

/// A change that a node makes, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// An invalidation through P, h or Q.
    Invalidate(Keys),
    /// A delete of h.
    Delete,
    /// A truncate. The cache is followed as before.
    Truncate,
    /// A truncate by a node that is configured so: from then on the cache is followed so.
    TruncateTo(Terms),
}

/// How a cache is followed: its epoch says it. *Bounded* is wait-only here: what it promises to other nodes is what a change promises that has waited for the
/// validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Terms {
    /// Strict: followers acknowledge. Otherwise every change waits for the validity.
    pub(crate) acknowledged: bool,
    /// In ticks.
    pub(crate) validity: u8,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    /// Whether it has an L1.
    pub(crate) follows: bool,
    /// Whether it fills its L1.
    pub(crate) fills: bool,
    pub(crate) change: Option<Change>,
}

/// How often things may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Happens {
    /// A hit begins, and ends at any later time.
    pub(crate) hits: u8,
    /// A follow is given up, and executed at any later time.
    pub(crate) lates: u8,
    /// The server loses the object.
    pub(crate) evictions: u8,
    /// Somebody looks at the entry of a follower in the table, to remove it later.
    pub(crate) looks: u8,
    /// A node dies.
    pub(crate) deaths: u8,
    /// A node closes its L1, and may open it again.
    pub(crate) leaves: u8,
    /// An older replica takes the server's place.
    pub(crate) promotions: u8,
    /// The server loses everything under its open connections.
    pub(crate) losses: u8,
    /// A change cannot be delivered, and goes into the journal.
    pub(crate) deferrals: u8,
    /// A node joins a clearing that another one has begun.
    pub(crate) joins: u8,
}

/// A configuration.
#[derive(Clone, Debug)]
pub(crate) struct TiersScene {
    /// Equal roles are next to each other.
    pub(crate) nodes: Vec<Role>,
    /// How the cache may be followed at first.
    pub(crate) terms: Vec<Terms>,
    /// How whoever recovers the cache is configured to follow it.
    pub(crate) recovers: Terms,
    /// Whether the server tells followers of marks.
    pub(crate) bells: bool,
    pub(crate) happens: Happens,
}

/// The model of one scene.
#[derive(Clone, Debug)]
pub(crate) struct Tiers {
    scene: TiersScene,
    removed: Removed,
    /// Whether states that differ only in the names of nodes count as one.
    canonical: bool,
}

/// The state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct World {
    /// How many changes were made.
    source: u8,
    server: Server,
    /// A replica.
    saved: Option<Server>,
    /// A recovery clears the server's data, and waits for so many ticks more before it settles the clock.
    recovery: Option<u8>,
    /// The same of a node that has joined the clearing.
    joined: Option<u8>,
    /// What each epoch says, the first one first.
    terms: Vec<Terms>,
    /// All marks ever written: what nodes are told is a part of this.
    log: Vec<Mark>,
    /// For P and for h, the oldest version that a get which begins now may return.
    owed: [u8; 2],
    nodes: Vec<Node>,
    left: Happens,
}

/// A step of the model. The number is that of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Tick,
    /// A follow is executed.
    Follow(usize),
    /// A follow is sent and given up.
    GiveUp(usize),
    /// A follow that was given up is executed.
    Late(usize),
    /// The answer of a follow is applied.
    Apply(usize),
    /// The node hears of marks up to this sequence.
    Bell(usize, u8),
    /// A get that L1 does not answer is executed by the server.
    Get(usize),
    /// A load is stored by the server.
    Load(usize),
    /// The answer of a get or a store reaches L1.
    Insert(usize),
    /// A hit begins.
    Hit(usize),
    /// The next step of the node's change.
    Change(usize),
    /// The node's change cannot be delivered.
    Defer(usize),
    Look(usize),
    Remove(usize),
    Die(usize),
    Leave(usize),
    Evict,
    Save,
    Promote,
    /// The server loses everything, and nobody's connection ends.
    Lose,
    /// A node finds data of another history, and gives the clock a new epoch.
    Renew,
    /// The recovery has removed everything, and settles the clock.
    Settle,
    /// A node that finds the clock unsettled joins the clearing.
    Join,
    /// The node that has joined has removed everything, and settles the clock.
    SettleJoined,
}

impl Tiers {
    #[must_use]
    pub(crate) fn new(scene: TiersScene, removed: Removed, canonical: bool) -> Self {
        Self { scene, removed, canonical }
    }

    fn keeps(&self, removable: Removable) -> bool {
        self.removed.keeps(removable)
    }

    fn role(&self, node: usize) -> Option<Role> {
        self.scene.nodes.get(node).copied()
    }
}

impl Model for Tiers {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let begins = |terms: &Terms| World {
            source: 0,
            server: Server::new(),
            saved: None,
            recovery: None,
            joined: None,
            terms: vec![*terms],
            log: Vec::new(),
            owed: [0; 2],
            nodes: vec![Node::default(); self.scene.nodes.len()],
            left: self.scene.happens,
        };
        self.scene.terms.iter().map(begins).collect()
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        use Step::{
            Apply, Bell, Change, Defer, Die, Evict, Follow as DoFollow, Get, GiveUp, Hit, Insert, Join, Late, Leave,
            Load, Look, Lose, Promote, Remove, Renew, Save, Settle, SettleJoined, Tick,
        };
        steps.extend([Tick, Evict, Save, Promote, Lose, Renew, Settle, Join, SettleJoined]);
        for (at, role) in self.scene.nodes.iter().enumerate() {
            if role.follows {
                steps.extend([DoFollow(at), GiveUp(at), Late(at), Apply(at), Hit(at), Look(at), Remove(at)]);
                steps.extend([Die(at), Leave(at)]);
                if self.scene.bells {
                    steps.extend((1..=world.newest(world.nodes[at].epoch)).map(|to| Bell(at, to)));
                }
            }
            if role.fills {
                steps.extend([Get(at), Load(at), Insert(at)]);
            }
            if role.change.is_some() {
                steps.extend([Change(at), Defer(at)]);
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        self.take(&mut next, step)?;
        self.rename(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl Tiers {
    /// Takes a step. `None`: it is not possible now.
    fn take(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Tick => self.tick(world),
            Step::Follow(at) => self.follow(world, at),
            Step::GiveUp(at) => {
                let node = world.nodes.get_mut(at)?;
                if node.gone || node.late.is_some() {
                    return None;
                }
                node.late = Some(node.known_now());
                spend(&mut world.left.lates)
            }
            Step::Late(at) => {
                let known = world.nodes.get_mut(at)?.late.take()?;
                if world.server.is_settled() { self.register(world, at, known) } else { Some(()) }
            }
            Step::Apply(at) => self.apply(world, at),
            Step::Bell(at, to) => self.hear(world, at, to),
            Step::Get(at) | Step::Load(at) => self.get(world, at, matches!(step, Step::Load(_))),
            Step::Insert(at) => self.insert(world, at),
            Step::Hit(at) => self.hit(world, at),
            Step::Change(at) => self.change(world, at),
            Step::Defer(at) => self.defer(world, at),
            Step::Look(at) | Step::Remove(at) => self.remove(world, at, matches!(step, Step::Look(_))),
            Step::Die(at) => {
                spend(&mut world.left.deaths)?;
                let node = world.nodes.get_mut(at)?;
                if node.gone {
                    return None;
                }
                node.die();
                Some(())
            }
            Step::Leave(at) => {
                spend(&mut world.left.leaves)?;
                let node = world.nodes.get_mut(at)?;
                node.entry_in_table.take()?;
                if self.keeps(Removable::LeaveOrder) {
                    (node.valid, node.follow) = (0, Follow::Idle);
                }
                Some(())
            }
            Step::Evict => {
                spend(&mut world.left.evictions)?;
                world.server.object.take().map(|_| ())
            }
            Step::Save | Step::Promote | Step::Lose => self.replace(world, step),
            Step::Renew | Step::Settle | Step::Join | Step::SettleJoined => self.recover(world, step),
        }
    }
}

/// Takes one from how often something may happen.
fn spend(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}
