//! The configurations of the feed.

use super::Size;
use crate::feed::{Commit, FeedScene, Happens, Writer};
use crate::source::{Keys, Object};

const P: Writer = Writer { keys: Keys::P, commit: Commit::Durable, through: false };
const Q: Writer = Writer { keys: Keys::Q, commit: Commit::Durable, through: false };
const BOTH: Writer = Writer { keys: Keys::P.and(Keys::Q), commit: Commit::Durable, through: false };
const PREPARED: Writer = Writer { keys: Keys::P, commit: Commit::Prepared, through: false };
const ASYNCHRONOUS: Writer = Writer { keys: Keys::P, commit: Commit::Asynchronous, through: false };
/// A change through the cache of the first node.
const THROUGH: Writer = Writer { through: true, ..P };
const NONE: Happens = Happens {
    rollbacks: 0,
    crashes: 0,
    trims: 0,
    gets: 0,
    deaths: 0,
    deferrals: 0,
    errors: 0,
    losses: 0,
    promotions: 0,
};

/// One node, with its cache in memory.
fn memory(deadline: u8, writers: &[Writer], loads: &[Object], happens: Happens) -> FeedScene {
    FeedScene { writers: writers.to_vec(), loads: loads.to_vec(), nodes: 1, deadline, happens, ..FeedScene::default() }
}

/// Two nodes, with the cache on a server that both share.
fn shared(deadline: u8, writers: &[Writer], loads: &[Object], happens: Happens) -> FeedScene {
    FeedScene { nodes: 2, shared: true, short: true, ..memory(deadline, writers, loads, happens) }
}

/// The same, with both nodes joined at the beginning.
fn joined(scene: FeedScene) -> FeedScene {
    FeedScene { joined: true, ..scene }
}

pub(super) fn order(size: Size) -> FeedScene {
    let happens = Happens { rollbacks: 1, gets: 1, ..NONE };
    match size {
        Size::Small => memory(1, &[P, P], &[Object::P], happens),
        Size::Large => memory(2, &[P, PREPARED, P], &[Object::P], happens),
    }
}

pub(super) fn late(size: Size) -> FeedScene {
    let scene = match size {
        Size::Small => memory(1, &[P], &[Object::P], NONE),
        Size::Large => memory(2, &[P, BOTH], &[Object::P, Object::Q], Happens { gets: 1, ..NONE }),
    };
    FeedScene { late: true, ..scene }
}

pub(super) fn trim(size: Size) -> FeedScene {
    let happens = Happens { trims: 2, ..NONE };
    match size {
        Size::Small => memory(1, &[P], &[Object::P], happens),
        Size::Large => memory(1, &[P, P, P], &[Object::P], happens),
    }
}

pub(super) fn crash(size: Size) -> FeedScene {
    let happens = Happens { crashes: 1, ..NONE };
    match size {
        Size::Small => memory(1, &[ASYNCHRONOUS, P], &[Object::P], happens),
        Size::Large => memory(1, &[ASYNCHRONOUS, PREPARED, P], &[Object::P], happens),
    }
}

pub(super) fn shared_errors(size: Size) -> FeedScene {
    let happens = Happens { errors: 1, deaths: 1, ..NONE };
    match size {
        Size::Small => shared(1, &[P], &[Object::P], happens),
        Size::Large => shared(1, &[P, Q], &[Object::P], happens),
    }
}

pub(super) fn shared_deferrals(size: Size) -> FeedScene {
    let happens = Happens { deferrals: 1, ..NONE };
    match size {
        Size::Small => joined(shared(1, &[P, Q], &[Object::P], happens)),
        Size::Large => joined(shared(1, &[P, Q, P], &[Object::P, Object::Q], happens)),
    }
}

pub(super) fn shared_crash(size: Size) -> FeedScene {
    let happens = Happens { crashes: 1, ..NONE };
    match size {
        Size::Small => joined(shared(1, &[ASYNCHRONOUS, P], &[Object::P], happens)),
        Size::Large => shared(1, &[ASYNCHRONOUS, P], &[Object::P], happens),
    }
}

pub(super) fn shared_trim(size: Size) -> FeedScene {
    let happens = Happens { trims: 1, deaths: 1, ..NONE };
    match size {
        Size::Small => joined(shared(1, &[P], &[Object::P], happens)),
        Size::Large => FeedScene { short: false, ..joined(shared(1, &[P, P], &[Object::P], happens)) },
    }
}

pub(super) fn shared_loss(size: Size) -> FeedScene {
    let happens = Happens { losses: 1, ..NONE };
    match size {
        Size::Small => joined(shared(1, &[P], &[Object::P], happens)),
        Size::Large => shared(1, &[P, P], &[Object::P], happens),
    }
}

pub(super) fn shared_failover(size: Size) -> FeedScene {
    let happens = Happens { promotions: 1, ..NONE };
    match size {
        Size::Small => joined(shared(1, &[P], &[Object::P], happens)),
        Size::Large => joined(shared(1, &[P, P], &[Object::P], Happens { deaths: 1, gets: 1, ..happens })),
    }
}

/// One node, with its memory in front of the database.
fn tier(deadline: u8, writers: &[Writer], loads: &[Object], happens: Happens) -> FeedScene {
    FeedScene { tier: true, ..memory(deadline, writers, loads, happens) }
}

pub(super) fn tiers(size: Size) -> FeedScene {
    match size {
        Size::Small => tier(1, &[THROUGH, P], &[Object::P], NONE),
        Size::Large => tier(2, &[THROUGH, P], &[Object::P, Object::P], NONE),
    }
}

pub(super) fn tiers_deferrals(size: Size) -> FeedScene {
    let happens = Happens { deferrals: 1, ..NONE };
    match size {
        Size::Small => tier(1, &[THROUGH], &[Object::P], happens),
        Size::Large => tier(2, &[THROUGH, P], &[Object::P], happens),
    }
}

pub(super) fn tiers_trim(size: Size) -> FeedScene {
    let happens = Happens { trims: 1, ..NONE };
    match size {
        Size::Small => tier(1, &[THROUGH], &[Object::P], happens),
        Size::Large => tier(1, &[THROUGH, P], &[Object::P], Happens { trims: 2, ..happens }),
    }
}
