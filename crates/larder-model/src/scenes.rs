//! The configurations that are checked. Each has a few tasks on two nodes, and some faults. One configuration with everything would have
//! too many states, so it could have only fewer tasks and faults of each kind.
//!
//! Each configuration has a small size, which the tests check, and a large size for the command. [`proofs`] says which configuration finds
//! the fault when a protection is removed.

use crate::check::{Report, Violation, check, shortest};
use crate::cluster::{Cluster, ClusterScene};
use crate::feed::{Feed, FeedScene};
use crate::node::Task::{
    self, DeleteH, FindNothing, Invalidate, InvalidateBelow, Load, LoadLagging, Set, SetBoth, Truncate, Update,
};
use crate::postgres::Shape::{Bare, Full};
use crate::postgres::{self, Happens, Postgres, PostgresScene};
use crate::protections::Removed;
use crate::source::{Change, Keys, Object};
use crate::standalone::{Faults, Scene, Standalone};
use crate::tiers::{Tiers, TiersScene};

mod feed;
pub mod proofs;
mod tiers;

/// How much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Seconds for all configurations together.
    Small,
    /// Minutes.
    Large,
}

/// A configuration.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The name on the command line.
    pub name: &'static str,
    /// What the configuration checks, in one line.
    pub about: &'static str,
    /// The properties that must be reached: if nothing can happen, the check shows nothing.
    pub reaches: &'static [&'static str],
    scene: fn(Size) -> Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Standalone(Scene),
    Cluster(ClusterScene),
    Postgres(PostgresScene),
    Feed(FeedScene),
    Tiers(TiersScene),
}

impl Config {
    /// The configuration with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CONFIGS.iter().find(|config| config.name == name)
    }

    /// Explores all states of the configuration, or stops when a promise is broken.
    #[must_use]
    pub fn check(&self, size: Size, removed: Removed, threads: usize) -> Report {
        match (self.scene)(size) {
            Kind::Standalone(scene) => check(Standalone::new(scene, removed, true), threads),
            Kind::Cluster(scene) => check(Cluster::new(scene, removed, true), threads),
            Kind::Postgres(scene) => check(Postgres::new(scene, removed), threads),
            Kind::Feed(scene) => check(Feed::new(scene, removed, true), threads),
            Kind::Tiers(scene) => check(Tiers::new(scene, removed, true), threads),
        }
    }

    /// The shortest way to break a promise, if there is one.
    #[must_use]
    pub fn shortest(&self, size: Size, removed: Removed) -> Option<Violation> {
        match (self.scene)(size) {
            Kind::Standalone(scene) => shortest(&Standalone::new(scene, removed, false)),
            Kind::Cluster(scene) => shortest(&Cluster::new(scene, removed, false)),
            Kind::Postgres(scene) => shortest(&Postgres::new(scene, removed)),
            Kind::Feed(scene) => shortest(&Feed::new(scene, removed, false)),
            Kind::Tiers(scene) => shortest(&Tiers::new(scene, removed, false)),
        }
    }
}

const HIT: &str = "a read hits";
const ACCEPTED: &str = "a fill is accepted";
const REFUSED: &str = "a fill is refused";
const AGAIN: &str = "a set goes again";
const REPLAYED: &str = "a journal is replayed";
const CLEARING: &str = "a clearing is under way";
const DISPLACED: &str = "another claimant is displaced";
const SWEPT: &str = "a fence is swept";
const LOST_A_KEY: &str = "a holder is displaced";
const OUTDATED: &str = "a set is outdated";
const PRUNED: &str = "a key's row is pruned";
const SHOWN: &str = "a change is shown that binds";
const JOINS: &str = "a cache joins from a place";
const SKIPPED: &str = "a change is skipped";
const CUT: &str = "a node loses its connection";
const ACKNOWLEDGED: &str = "a change is applied by acknowledgements";
const WAITED: &str = "a change is applied by waiting";
const EPOCH: &str = "another epoch is followed";
const OWN: &str = "an own change is shown";
const BEFORE: &str = "an L1 is read as before while the cache is about to be followed in another way";
const BEGINS_AGAIN: &str = "a truncate finds another epoch than it has read";
const JOINED: &str = "a node has joined a clearing while an L1 is read";
const REMOVED: &str = "a follower is removed";
const PREPARED: &str = "a prepared transaction is committed after a crash";

/// All configurations.
pub const CONFIGS: &[Config] = &[
    Config {
        name: "truncate-restart",
        about: "a truncate, while the server restarts with a snapshot from the middle of the truncate",
        reaches: &[HIT, CLEARING],
        scene: |_| scene(&[Truncate], &[Load(P)], Faults { restarts: 1, ..NOTHING }),
    },
    Config {
        name: "values",
        about: "readers by h and by P, writers of P that invalidate by h or by P, a command without an answer",
        reaches: &[HIT, ACCEPTED, REFUSED, REPLAYED],
        scene: values,
    },
    Config {
        name: "moves",
        about: "h moves from P to Q and back, and is read meanwhile",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: moves,
    },
    Config {
        name: "write-through",
        about: "set, update and invalidate of the same objects",
        reaches: &[HIT, ACCEPTED, REFUSED, AGAIN],
        scene: write_through,
    },
    Config {
        name: "set-truncate",
        about: "sets against a truncate by another node",
        reaches: &[HIT, CLEARING],
        scene: set_truncate,
    },
    Config {
        name: "two-sets",
        about: "two sets of one object from one node, one of which is not answered",
        reaches: &[HIT, REPLAYED],
        scene: two_sets,
    },
    Config {
        name: "outage",
        about: "nodes are cut off and die, commands arrive late, journals are replayed",
        reaches: &[HIT, ACCEPTED, REFUSED, REPLAYED],
        scene: outage,
    },
    Config {
        name: "flush",
        about: "the server is emptied, or loses the clock alone, under open connections",
        reaches: &[HIT, ACCEPTED, REFUSED, REPLAYED, CLEARING],
        scene: flush,
    },
    Config {
        name: "restart",
        about: "the server restarts with an older snapshot, or with nothing",
        reaches: &[HIT, ACCEPTED, REFUSED, REPLAYED, CLEARING],
        scene: restart,
    },
    Config {
        name: "truncate",
        about: "a truncate among readers and writers; its node dies half-way, and its commands arrive late",
        reaches: &[HIT, ACCEPTED, REFUSED, REPLAYED, CLEARING],
        scene: truncate,
    },
    Config {
        name: "truncates",
        about: "two truncates at once; at the large size also a reader and a writer",
        reaches: &[CLEARING],
        scene: truncates,
    },
    Config {
        name: "many",
        about: "a call that sets both objects by two scripts, against other writers",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: many,
    },
    Config {
        name: "absent",
        about: "loads by h that find nothing, in time or late, while the object with h is due to go or not",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: absent,
    },
    Config { name: "delete", about: "delete of h", reaches: &[HIT, ACCEPTED, REFUSED], scene: delete },
    Config {
        name: "eviction",
        about: "the server evicts objects and index keys; everybody invalidates by primary key",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: eviction,
    },
    Config {
        name: "versions",
        about: "plain sets of values that others have overtaken, with versions",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: versions,
    },
    Config {
        name: "lagging",
        about: "loads from a replica that lags, lowest versions, and a truncate",
        reaches: &[HIT, ACCEPTED, CLEARING],
        scene: lagging,
    },
    Config {
        name: "cluster-values",
        about: "readers by h and by P, writers of P that invalidate by h or by P",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: cluster_values,
    },
    Config {
        name: "cluster-moves",
        about: "h moves, and is read meanwhile; commands arrive late",
        reaches: &[HIT, ACCEPTED, REFUSED, DISPLACED],
        scene: cluster_moves,
    },
    Config {
        name: "cluster-updates",
        about: "an update against another writer's move",
        reaches: &[HIT, ACCEPTED, REFUSED, DISPLACED],
        scene: cluster_updates,
    },
    Config {
        name: "cluster-sets",
        about: "a set that takes h over, against another writer",
        reaches: &[HIT, ACCEPTED, REFUSED, DISPLACED],
        scene: cluster_sets,
    },
    Config {
        name: "cluster-set-raced",
        about: "a set of an object that another writer changes",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: cluster_set_raced,
    },
    Config {
        name: "cluster-truncate",
        about: "a truncate among readers and a writer; a command arrives late",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: cluster_truncate,
    },
    Config {
        name: "postgres-writes",
        about: "loads by h and by P against writers' transactions and sweeps",
        reaches: &[HIT, ACCEPTED, REFUSED, SWEPT],
        scene: postgres_writes,
    },
    Config {
        name: "postgres-moves",
        about: "h moves from P to Q, and both are loaded meanwhile",
        reaches: &[HIT, ACCEPTED, REFUSED, SWEPT, LOST_A_KEY],
        scene: postgres_moves,
    },
    Config {
        name: "postgres-sets",
        about: "a set, an update and an invalidation after the change, against loads and sweeps",
        reaches: &[HIT, ACCEPTED, REFUSED, SWEPT],
        scene: postgres_sets,
    },
    Config {
        name: "postgres-versions",
        about: "sets of versions that others have overtaken",
        reaches: &[HIT, ACCEPTED, SWEPT, OUTDATED],
        scene: postgres_versions,
    },
    Config {
        name: "postgres-prune",
        about: "objects expire and the row of h is pruned while loads are under way",
        reaches: &[HIT, ACCEPTED, SWEPT, PRUNED],
        scene: postgres_prune,
    },
    Config {
        name: "postgres-shapes",
        about: "two releases, one of which does not know h",
        reaches: &[HIT, ACCEPTED, SWEPT],
        scene: postgres_shapes,
    },
    Config {
        name: "feed-order",
        about: "a cache in memory; transactions commit in another order than they began in, or not at all",
        reaches: &[HIT, REFUSED, SHOWN],
        scene: |size| Kind::Feed(feed::order(size)),
    },
    Config {
        name: "feed-late",
        about: "a cache in memory that is opened while the feed is read for another cache",
        reaches: &[HIT, REFUSED, SHOWN],
        scene: |size| Kind::Feed(feed::late(size)),
    },
    Config {
        name: "feed-trim",
        about: "a cache in memory, whose node may be away while changes are trimmed",
        reaches: &[HIT, REFUSED, SHOWN],
        scene: |size| Kind::Feed(feed::trim(size)),
    },
    Config {
        name: "feed-crash",
        about: "a cache in memory; the database crashes, loses commits, and gives their numbers out again",
        reaches: &[HIT, REFUSED, SHOWN],
        scene: |size| Kind::Feed(feed::crash(size)),
    },
    Config {
        name: "feed-shared-errors",
        about: "a cache on a server that two nodes share; a node cannot apply a change, or dies",
        reaches: &[HIT, REFUSED, SHOWN, JOINS, SKIPPED],
        scene: |size| Kind::Feed(feed::shared_errors(size)),
    },
    Config {
        name: "feed-shared-deferrals",
        about: "the same; a node defers a change",
        reaches: &[HIT, REFUSED, SHOWN, SKIPPED],
        scene: |size| Kind::Feed(feed::shared_deferrals(size)),
    },
    Config {
        name: "feed-shared-crash",
        about: "the same; the database crashes, loses commits, and gives their numbers out again",
        reaches: &[HIT, REFUSED, SHOWN, JOINS, SKIPPED],
        scene: |size| Kind::Feed(feed::shared_crash(size)),
    },
    Config {
        name: "feed-shared-trim",
        about: "the same; changes are trimmed that a node or the place does not know of",
        reaches: &[HIT, REFUSED, SHOWN, JOINS, SKIPPED],
        scene: |size| Kind::Feed(feed::shared_trim(size)),
    },
    Config {
        name: "feed-shared-loss",
        about: "the same; the shared server restarts, empty or with older data",
        reaches: &[HIT, REFUSED, SHOWN, SKIPPED, CUT],
        scene: |size| Kind::Feed(feed::shared_loss(size)),
    },
    Config {
        name: "feed-shared-failover",
        about: "the same; an older copy of the shared server becomes a second one, and nodes move there one by one",
        reaches: &[HIT, REFUSED, SHOWN, JOINS, SKIPPED, CUT],
        scene: |size| Kind::Feed(feed::shared_failover(size)),
    },
    Config {
        name: "postgres-crash",
        about: "a crash empties the tables while a fill and a prepared transaction are on their way",
        reaches: &[HIT, ACCEPTED, REFUSED, PREPARED],
        scene: postgres_crash,
    },
    Config {
        name: "tiers-fills",
        about: "two L1s, and a writer elsewhere",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(tiers::fills(size)),
    },
    Config {
        name: "tiers-bells",
        about: "an L1 that hears of marks before it follows, and two writers",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(tiers::bells(size)),
    },
    Config {
        name: "tiers-writers",
        about: "two nodes with an L1 that both make a change",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(tiers::writers(size)),
    },
    Config {
        name: "tiers-other-object",
        about: "a node with an L1 changes another object than the writer elsewhere",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(tiers::other_object(size)),
    },
    Config {
        name: "tiers-keys",
        about: "a delete of h and an invalidation by h, while the server may lose P",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(tiers::keys(size)),
    },
    Config {
        name: "tiers-hits",
        about: "a hit that ends later than it began; a validity of two ticks",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(tiers::hits(size)),
    },
    Config {
        name: "tiers-removals",
        about: "a follower's entry of the table is removed; a follow that was given up is executed late",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, REMOVED],
        scene: |size| Kind::Tiers(tiers::removals(size)),
    },
    Config {
        name: "tiers-leaves",
        about: "nodes that close their L1, die, and join",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(tiers::leaves(size)),
    },
    Config {
        name: "tiers-failover",
        about: "an older replica takes over, and is cleared",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(tiers::failover(size)),
    },
    Config {
        name: "tiers-truncate",
        about: "a truncate by a node with an L1, and a writer elsewhere",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(tiers::truncate(size)),
    },
    Config {
        name: "tiers-truncate-elsewhere",
        about: "a node with an L1 changes another object, while somebody else truncates",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(tiers::truncate_elsewhere(size)),
    },
    Config {
        name: "tiers-truncate-failover",
        about: "a truncate while an older replica takes over",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(tiers::truncate_failover(size)),
    },
    Config {
        name: "tiers-loss",
        about: "a server that loses everything under its open connections, a writer and a truncate",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(tiers::loss(size)),
    },
    Config {
        name: "tiers-terms",
        about: "a truncate that changes how the cache is followed, and a writer",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH, BEFORE],
        scene: |size| Kind::Tiers(tiers::terms(size)),
    },
    Config {
        name: "tiers-terms-twice",
        about: "two truncates that change how the cache is followed, each in another way",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH, BEFORE, BEGINS_AGAIN],
        scene: |size| Kind::Tiers(tiers::terms_twice(size)),
    },
    Config {
        name: "tiers-terms-failover",
        about: "a truncate that changes how the cache is followed, and an older replica that takes over",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH, BEFORE],
        scene: |size| Kind::Tiers(tiers::terms_failover(size)),
    },
    Config {
        name: "tiers-joins",
        about: "a server that loses everything; a node recovers the cache and follows it in another way, and a second one joins",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH, JOINED],
        scene: |size| Kind::Tiers(tiers::joins(size)),
    },
    Config {
        name: "tiers-deferrals",
        about: "a change that a node with an L1 cannot deliver",
        reaches: &[HIT, REFUSED, WAITED],
        scene: |size| Kind::Tiers(tiers::deferrals(size)),
    },
    Config {
        name: "tiers-postgres",
        about: "a memory in front of PostgreSQL, a change through its cache, and one by SQL",
        reaches: &[HIT, REFUSED, SHOWN, OWN],
        scene: |size| Kind::Feed(feed::tiers(size)),
    },
    Config {
        name: "tiers-postgres-deferrals",
        about: "a memory in front of PostgreSQL, whose node defers a change",
        reaches: &[HIT, REFUSED, OWN],
        scene: |size| Kind::Feed(feed::tiers_deferrals(size)),
    },
    Config {
        name: "tiers-postgres-trim",
        about: "a memory in front of PostgreSQL, while fences are swept",
        reaches: &[HIT, REFUSED, OWN],
        scene: |size| Kind::Feed(feed::tiers_trim(size)),
    },
    Config {
        name: "tiers-wait-only",
        about: "no acknowledgements: every change waits; an older replica takes over",
        reaches: &[HIT, REFUSED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(tiers::waiting(size)),
    },
];

const P: Keys = Keys::P;
const Q: Keys = Keys::Q;
const H: Keys = Keys::H;
const CHANGE_P: Change = Change::Value(Object::P);
const CHANGE_Q: Change = Change::Value(Object::Q);
const MOVE: Change = Change::Move;

const NOTHING: Faults = Faults {
    unanswered: 0,
    cuts: 0,
    crashes: 0,
    flushes: 0,
    lost_clocks: 0,
    lost_objects: 0,
    lost_index_keys: 0,
    restarts: 0,
};

fn scene(a: &[Task], b: &[Task], faults: Faults) -> Kind {
    Kind::Standalone(Scene { nodes: [a.to_vec(), b.to_vec()], faults, versioned: false })
}

fn versioned(a: &[Task], b: &[Task], faults: Faults) -> Kind {
    Kind::Standalone(Scene { nodes: [a.to_vec(), b.to_vec()], faults, versioned: true })
}

fn cluster(tasks: &[Task], unanswered: u8) -> Kind {
    Kind::Cluster(ClusterScene { tasks: tasks.to_vec(), unanswered })
}

fn values(size: Size) -> Kind {
    let (a, b) = ([Load(H), Load(P), Invalidate(CHANGE_P, H)], [Load(H), Invalidate(CHANGE_P, P)]);
    let faults = Faults { unanswered: 1, lost_index_keys: 1, ..NOTHING };
    match size {
        Size::Small => scene(&a, &b, faults),
        Size::Large => scene(
            &[Load(H), Load(P), Invalidate(CHANGE_P, H)],
            &[Load(H), Load(P), Invalidate(CHANGE_P, P)],
            Faults { unanswered: 2, ..faults },
        ),
    }
}

fn moves(size: Size) -> Kind {
    match size {
        Size::Small => scene(&[Load(H), Invalidate(MOVE, H)], &[Load(H), Load(Q), Invalidate(MOVE, P.and(Q))], NOTHING),
        Size::Large => scene(
            &[Load(H), Load(P), Invalidate(MOVE, H)],
            &[Load(H), Load(Q), Invalidate(MOVE, P.and(Q))],
            Faults { unanswered: 1, ..NOTHING },
        ),
    }
}

fn write_through(size: Size) -> Kind {
    let (a, b) = ([Load(H), Set(CHANGE_P, Object::P)], [Load(P), Update(MOVE, Object::Q), Invalidate(CHANGE_P, P)]);
    match size {
        Size::Small => scene(&a, &b, NOTHING),
        Size::Large => scene(&a, &b, Faults { unanswered: 2, ..NOTHING }),
    }
}

fn set_truncate(size: Size) -> Kind {
    let a = [Set(CHANGE_P, Object::P)];
    match size {
        Size::Small => scene(&a, &[Truncate, Invalidate(CHANGE_P, H)], NOTHING),
        Size::Large => scene(&a, &[Truncate, Invalidate(CHANGE_P, H)], Faults { unanswered: 1, ..NOTHING }),
    }
}

fn two_sets(size: Size) -> Kind {
    let a = [Set(CHANGE_P, Object::P), Set(CHANGE_P, Object::P)];
    let faults = Faults { unanswered: 1, ..NOTHING };
    match size {
        Size::Small => scene(&a, &[], faults),
        Size::Large => scene(&a, &[Invalidate(CHANGE_P, H), Load(P)], faults),
    }
}

fn outage(size: Size) -> Kind {
    let (a, b) = ([Load(H), Invalidate(CHANGE_P, H)], [Load(H), Set(CHANGE_P, Object::P)]);
    match size {
        Size::Small => scene(&a, &b, Faults { unanswered: 1, cuts: 1, crashes: 1, ..NOTHING }),
        Size::Large => scene(
            &[Load(H), Load(P), Invalidate(CHANGE_P, H)],
            &[Load(H), Set(MOVE, Object::Q)],
            Faults { unanswered: 1, cuts: 2, crashes: 1, ..NOTHING },
        ),
    }
}

fn flush(size: Size) -> Kind {
    let faults = Faults { flushes: 1, lost_clocks: 1, ..NOTHING };
    match size {
        Size::Small => scene(&[Load(H), Invalidate(CHANGE_P, H)], &[Load(P)], faults),
        Size::Large => scene(
            &[Load(H), Invalidate(CHANGE_P, H)],
            &[Load(P), Update(MOVE, Object::Q)],
            Faults { unanswered: 1, flushes: 1, ..NOTHING },
        ),
    }
}

fn restart(size: Size) -> Kind {
    match size {
        Size::Small => scene(&[Load(H), Invalidate(CHANGE_P, H)], &[Load(P)], Faults { restarts: 1, ..NOTHING }),
        Size::Large => scene(
            &[Load(H), Invalidate(CHANGE_P, H)],
            &[Load(P), Set(CHANGE_P, Object::P)],
            Faults { restarts: 1, unanswered: 1, ..NOTHING },
        ),
    }
}

fn truncate(size: Size) -> Kind {
    let (a, b) = ([Load(H), Truncate], [Invalidate(CHANGE_P, H)]);
    match size {
        Size::Small => scene(&a, &b, Faults { crashes: 1, ..NOTHING }),
        Size::Large => scene(&a, &b, Faults { unanswered: 1, crashes: 1, ..NOTHING }),
    }
}

fn truncates(size: Size) -> Kind {
    match size {
        Size::Small => scene(&[Truncate], &[Truncate], NOTHING),
        Size::Large => scene(&[Load(H), Truncate], &[Invalidate(CHANGE_P, H), Truncate], NOTHING),
    }
}

fn many(size: Size) -> Kind {
    let a = [Load(H), SetBoth(MOVE)];
    match size {
        Size::Small => scene(&a, &[Load(P), Invalidate(CHANGE_Q, H)], NOTHING),
        Size::Large => scene(
            &[Load(H), SetBoth(MOVE), Invalidate(CHANGE_Q, Q)],
            &[Load(P), Load(H), Update(MOVE, Object::P)],
            NOTHING,
        ),
    }
}

fn absent(size: Size) -> Kind {
    let (over, stays) = (FindNothing { over: true }, FindNothing { over: false });
    let faults = Faults { unanswered: 1, ..NOTHING };
    match size {
        Size::Small => scene(&[Load(H), over], &[stays, Invalidate(CHANGE_P, H)], faults),
        Size::Large => scene(&[Load(H), over, DeleteH], &[Load(H), stays, Invalidate(MOVE, H)], faults),
    }
}

fn delete(size: Size) -> Kind {
    match size {
        Size::Small => scene(&[Load(H), DeleteH], &[Load(H), Invalidate(Change::Nothing, P)], NOTHING),
        Size::Large => scene(
            &[Load(H), DeleteH, Invalidate(MOVE, H)],
            &[Load(H), Load(P), Update(CHANGE_P, Object::P)],
            Faults { unanswered: 1, cuts: 1, ..NOTHING },
        ),
    }
}

fn eviction(size: Size) -> Kind {
    let faults = Faults { lost_index_keys: 1, lost_objects: 1, ..NOTHING };
    let (a, b) = ([Load(H), Invalidate(CHANGE_P, P)], [Load(H), Invalidate(MOVE, P.and(Q))]);
    match size {
        Size::Small => scene(&a, &b, faults),
        Size::Large => scene(
            &[Load(H), Load(P), Invalidate(CHANGE_P, P)],
            &[Load(H), Load(Q), Invalidate(MOVE, P.and(Q))],
            Faults { lost_index_keys: 2, lost_objects: 2, lost_clocks: 0, unanswered: 1, ..NOTHING },
        ),
    }
}

fn versions(size: Size) -> Kind {
    let (a, b) = ([Load(H), Set(CHANGE_P, Object::P)], [Load(H), InvalidateBelow(CHANGE_P, Object::P)]);
    match size {
        Size::Small => versioned(&a, &b, NOTHING),
        Size::Large => versioned(
            // Only one plain set: a second one that is not answered would leave an invalidation without a lowest version.
            &[Load(H), Set(CHANGE_P, Object::P), InvalidateBelow(CHANGE_P, Object::P)],
            &[Load(H), InvalidateBelow(CHANGE_P, Object::P)],
            Faults { unanswered: 1, ..NOTHING },
        ),
    }
}

fn lagging(size: Size) -> Kind {
    let a = [LoadLagging(Object::P), InvalidateBelow(CHANGE_P, Object::P)];
    match size {
        Size::Small => versioned(&a, &[Truncate], NOTHING),
        Size::Large => versioned(&a, &[Load(H), Truncate], NOTHING),
    }
}

fn cluster_values(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Load(P), Invalidate(CHANGE_P, H)], 1),
        Size::Large => cluster(&[Load(H), Load(H), Load(P), Invalidate(CHANGE_P, H), Invalidate(CHANGE_P, P)], 1),
    }
}

fn cluster_moves(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Load(H), Invalidate(MOVE, H)], 1),
        Size::Large => cluster(&[Load(H), Load(H), Load(P), Invalidate(MOVE, H), Invalidate(MOVE, P.and(Q))], 0),
    }
}

fn cluster_updates(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Update(CHANGE_P, Object::P), Invalidate(MOVE, H)], 0),
        Size::Large => cluster(&[Load(H), Load(Q), Update(CHANGE_P, Object::P), Update(MOVE, Object::Q)], 0),
    }
}

fn cluster_sets(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Load(P), Set(MOVE, Object::Q), Invalidate(CHANGE_P, H)], 0),
        Size::Large => cluster(&[Load(H), Load(P), Set(MOVE, Object::Q), Invalidate(CHANGE_P, H)], 1),
    }
}

fn cluster_set_raced(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Set(CHANGE_P, Object::P), Invalidate(CHANGE_P, P)], 0),
        Size::Large => cluster(&[Load(H), Load(H), Set(CHANGE_P, Object::P), Set(MOVE, Object::Q)], 1),
    }
}

fn cluster_truncate(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Load(H), Invalidate(CHANGE_P, H), Truncate], 1),
        Size::Large => cluster(&[Load(H), Load(H), Invalidate(MOVE, H), Truncate, Truncate], 0),
    }
}

fn postgres(tasks: &[postgres::Task], happens: Happens) -> Kind {
    Kind::Postgres(PostgresScene { tasks: tasks.to_vec(), happens, versioned: false })
}

fn postgres_writes(size: Size) -> Kind {
    use postgres::Task::{Load, Write};
    let happens = Happens { turns: 2, ..Happens::default() };
    match size {
        Size::Small => postgres(&[Load(H, Full), Load(P, Full), Write(CHANGE_P, H)], happens),
        Size::Large => postgres(
            &[Load(H, Full), Load(H, Full), Load(P, Full), Write(CHANGE_P, H), Write(CHANGE_P, P)],
            Happens { turns: 3, aborts: 1, ..happens },
        ),
    }
}

fn postgres_moves(size: Size) -> Kind {
    use postgres::Task::{Load, Write};
    let happens = Happens { turns: 2, expiries: 1, ..Happens::default() };
    match size {
        Size::Small => postgres(&[Load(H, Full), Load(H, Full), Load(P, Full), Write(MOVE, H)], happens),
        Size::Large => postgres(
            &[Load(H, Full), Load(H, Full), Load(H, Full), Write(MOVE, H), Write(MOVE, P.and(Q))],
            Happens { aborts: 1, ..happens },
        ),
    }
}

fn postgres_sets(size: Size) -> Kind {
    use postgres::Task::{Invalidate, Load, Set, Update};
    let happens = Happens { turns: 2, ..Happens::default() };
    match size {
        Size::Small => postgres(&[Load(H, Full), Set(MOVE, Object::Q), Invalidate(CHANGE_P, P)], happens),
        Size::Large => postgres(
            &[Load(H, Full), Set(MOVE, Object::Q), Update(CHANGE_P, Object::P), Invalidate(CHANGE_P, H)],
            Happens { aborts: 1, ..happens },
        ),
    }
}

fn postgres_versions(size: Size) -> Kind {
    use postgres::Task::{Load, Set};
    let happens = Happens { turns: 2, ..Happens::default() };
    let small = [Load(P, Full), Set(CHANGE_P, Object::P), Set(CHANGE_P, Object::P)];
    let tasks: &[_] = match size {
        Size::Small => &small,
        Size::Large => &[small.as_slice(), &[Load(H, Full)]].concat(),
    };
    Kind::Postgres(PostgresScene { tasks: tasks.to_vec(), happens, versioned: true })
}

fn postgres_prune(size: Size) -> Kind {
    use postgres::Task::{Load, Write};
    let happens = Happens { turns: 3, expiries: 1, prunes: 1, ..Happens::default() };
    match size {
        Size::Small => postgres(&[Load(H, Full), Load(P, Full), Write(CHANGE_P, H)], happens),
        Size::Large => postgres(
            &[Load(H, Full), Load(P, Full), Load(H, Full), Write(MOVE, H)],
            Happens { prunes: 2, expiries: 2, ..happens },
        ),
    }
}

fn postgres_shapes(size: Size) -> Kind {
    use postgres::Task::{Load, Write};
    let happens = Happens { turns: 2, ..Happens::default() };
    match size {
        Size::Small => postgres(&[Load(P, Full), Load(P, Bare), Write(CHANGE_P, H)], happens),
        Size::Large => {
            postgres(&[Load(H, Full), Load(P, Bare), Load(P, Full), Write(CHANGE_P, H), Write(CHANGE_P, P)], happens)
        }
    }
}

fn postgres_crash(size: Size) -> Kind {
    use postgres::Task::{Load, Write, WritePrepared};
    let happens = Happens { turns: 1, crashes: 1, ..Happens::default() };
    match size {
        Size::Small => postgres(&[Load(P, Full), Write(CHANGE_P, H), WritePrepared(CHANGE_P, P)], happens),
        Size::Large => postgres(
            &[Load(H, Full), Load(P, Full), Load(P, Full), Write(CHANGE_P, H), WritePrepared(CHANGE_P, P)],
            Happens { crashes: 2, aborts: 1, ..happens },
        ),
    }
}
