//! The configurations against one server.

use super::{ACCEPTED, CHANGE_P, CHANGE_Q, Config, H, HIT, Kind, MOVE, P, Q, REFUSED, Size};
use crate::node::Task::{
    self, DeleteH, FindNothing, Invalidate, InvalidateBelow, Load, LoadLagging, Set, SetBoth, Truncate, Update,
};
use crate::source::{Change, Object};
use crate::standalone::{Faults, Scene};

const AGAIN: &str = "a set goes again";
const REPLAYED: &str = "a journal is replayed";
const CLEARING: &str = "a clearing is under way";

pub(super) const CONFIGS: &[Config] = &[
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
];

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
