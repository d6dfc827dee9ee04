//! The configurations on a cluster.

use super::{ACCEPTED, CHANGE_P, Config, H, HIT, Kind, MOVE, P, Q, REFUSED, Size};
use crate::cluster::ClusterScene;
use crate::node::Task::{self, Invalidate, Load, Set, Truncate, Update};
use crate::source::Object;

const DISPLACED: &str = "another claimant is displaced";

pub(super) const CONFIGS: &[Config] = &[
    Config {
        name: "cluster-values",
        about: "readers by h and by P, writers of P that invalidate by h or by P",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: values,
    },
    Config {
        name: "cluster-moves",
        about: "h moves, and is read meanwhile; commands arrive late",
        reaches: &[HIT, ACCEPTED, REFUSED, DISPLACED],
        scene: moves,
    },
    Config {
        name: "cluster-updates",
        about: "an update against another writer's move",
        reaches: &[HIT, ACCEPTED, REFUSED, DISPLACED],
        scene: updates,
    },
    Config {
        name: "cluster-sets",
        about: "a set that takes h over, against another writer",
        reaches: &[HIT, ACCEPTED, REFUSED, DISPLACED],
        scene: sets,
    },
    Config {
        name: "cluster-set-raced",
        about: "a set of an object that another writer changes",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: set_raced,
    },
    Config {
        name: "cluster-truncate",
        about: "a truncate among readers and a writer; a command arrives late",
        reaches: &[HIT, ACCEPTED, REFUSED],
        scene: truncate,
    },
];

fn cluster(tasks: &[Task], unanswered: u8) -> Kind {
    Kind::Cluster(ClusterScene { tasks: tasks.to_vec(), unanswered })
}

fn values(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Load(P), Invalidate(CHANGE_P, H)], 1),
        Size::Large => cluster(&[Load(H), Load(H), Load(P), Invalidate(CHANGE_P, H), Invalidate(CHANGE_P, P)], 1),
    }
}

fn moves(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Load(H), Invalidate(MOVE, H)], 1),
        Size::Large => cluster(&[Load(H), Load(H), Load(P), Invalidate(MOVE, H), Invalidate(MOVE, P.and(Q))], 0),
    }
}

fn updates(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Update(CHANGE_P, Object::P), Invalidate(MOVE, H)], 0),
        Size::Large => cluster(&[Load(H), Load(Q), Update(CHANGE_P, Object::P), Update(MOVE, Object::Q)], 0),
    }
}

fn sets(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Load(P), Set(MOVE, Object::Q), Invalidate(CHANGE_P, H)], 0),
        Size::Large => cluster(&[Load(H), Load(P), Set(MOVE, Object::Q), Invalidate(CHANGE_P, H)], 1),
    }
}

fn set_raced(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Set(CHANGE_P, Object::P), Invalidate(CHANGE_P, P)], 0),
        Size::Large => cluster(&[Load(H), Load(H), Set(CHANGE_P, Object::P), Set(MOVE, Object::Q)], 1),
    }
}

fn truncate(size: Size) -> Kind {
    match size {
        Size::Small => cluster(&[Load(H), Load(H), Invalidate(CHANGE_P, H), Truncate], 1),
        Size::Large => cluster(&[Load(H), Load(H), Invalidate(MOVE, H), Truncate, Truncate], 0),
    }
}
