//! The configurations of the postgres connector.

use super::{ACCEPTED, CHANGE_P, Config, H, HIT, Kind, MOVE, P, Q, REFUSED, Size};
use crate::postgres::Shape::{Bare, Full};
use crate::postgres::{self, Happens, PostgresScene};
use crate::source::Object;

const SWEPT: &str = "a fence is swept";
const LOST_A_KEY: &str = "a holder is displaced";
const OUTDATED: &str = "a set is outdated";
const PRUNED: &str = "a key's row is pruned";
const PREPARED: &str = "a prepared transaction is committed after a crash";

pub(super) const CONFIGS: &[Config] = &[
    Config {
        name: "postgres-writes",
        about: "loads by h and by P against writers' transactions and sweeps",
        reaches: &[HIT, ACCEPTED, REFUSED, SWEPT],
        scene: writes,
    },
    Config {
        name: "postgres-moves",
        about: "h moves from P to Q, and both are loaded meanwhile",
        reaches: &[HIT, ACCEPTED, REFUSED, SWEPT, LOST_A_KEY],
        scene: moves,
    },
    Config {
        name: "postgres-sets",
        about: "a set, an update and an invalidation after the change, against loads and sweeps",
        reaches: &[HIT, ACCEPTED, REFUSED, SWEPT],
        scene: sets,
    },
    Config {
        name: "postgres-versions",
        about: "sets of versions that others have overtaken",
        reaches: &[HIT, ACCEPTED, SWEPT, OUTDATED],
        scene: versions,
    },
    Config {
        name: "postgres-prune",
        about: "objects expire and the row of h is pruned while loads are under way",
        reaches: &[HIT, ACCEPTED, SWEPT, PRUNED],
        scene: prune,
    },
    Config {
        name: "postgres-shapes",
        about: "two releases, one of which does not know h",
        reaches: &[HIT, ACCEPTED, SWEPT],
        scene: shapes,
    },
    Config {
        name: "postgres-crash",
        about: "a crash empties the tables while a fill and a prepared transaction are on their way",
        reaches: &[HIT, ACCEPTED, REFUSED, PREPARED],
        scene: crash,
    },
];

fn postgres(tasks: &[postgres::Task], happens: Happens) -> Kind {
    Kind::Postgres(PostgresScene { tasks: tasks.to_vec(), happens, versioned: false })
}

fn writes(size: Size) -> Kind {
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

fn moves(size: Size) -> Kind {
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

fn sets(size: Size) -> Kind {
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

fn versions(size: Size) -> Kind {
    use postgres::Task::{Load, Set};
    let happens = Happens { turns: 2, ..Happens::default() };
    let small = [Load(P, Full), Set(CHANGE_P, Object::P), Set(CHANGE_P, Object::P)];
    let tasks: &[_] = match size {
        Size::Small => &small,
        Size::Large => &[small.as_slice(), &[Load(H, Full)]].concat(),
    };
    Kind::Postgres(PostgresScene { tasks: tasks.to_vec(), happens, versioned: true })
}

fn prune(size: Size) -> Kind {
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

fn shapes(size: Size) -> Kind {
    use postgres::Task::{Load, Write};
    let happens = Happens { turns: 2, ..Happens::default() };
    match size {
        Size::Small => postgres(&[Load(P, Full), Load(P, Bare), Write(CHANGE_P, H)], happens),
        Size::Large => {
            postgres(&[Load(H, Full), Load(P, Bare), Load(P, Full), Write(CHANGE_P, H), Write(CHANGE_P, P)], happens)
        }
    }
}

fn crash(size: Size) -> Kind {
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
