//! The configurations of the feed, and of memory in front of PostgreSQL, which hears of changes by the feed.

use super::{Config, HIT, Kind, REFUSED, Size};
use crate::feed::{Commit, FeedScene, Happens, Writer};
use crate::source::{Keys, Object};

const SHOWN: &str = "a change is shown that binds";
const JOINS: &str = "a cache joins from a place";
const SKIPPED: &str = "a change is skipped";
const CUT: &str = "a node loses its connection";
const OWN: &str = "an own change is shown";

pub(super) const CONFIGS: &[Config] = &[
    Config {
        name: "feed-order",
        about: "a cache in memory; transactions commit in another order than they began in, or not at all",
        reaches: &[HIT, REFUSED, SHOWN],
        scene: |size| Kind::Feed(order(size)),
    },
    Config {
        name: "feed-late",
        about: "a cache in memory that is opened while the feed is read for another cache",
        reaches: &[HIT, REFUSED, SHOWN],
        scene: |size| Kind::Feed(late(size)),
    },
    Config {
        name: "feed-trim",
        about: "a cache in memory, whose node may be away while changes are trimmed",
        reaches: &[HIT, REFUSED, SHOWN],
        scene: |size| Kind::Feed(trim(size)),
    },
    Config {
        name: "feed-crash",
        about: "a cache in memory; the database crashes, loses commits, and gives their numbers out again",
        reaches: &[HIT, REFUSED, SHOWN],
        scene: |size| Kind::Feed(crash(size)),
    },
    Config {
        name: "feed-shared-errors",
        about: "a cache on a server that two nodes share; a node cannot apply a change, or dies",
        reaches: &[HIT, REFUSED, SHOWN, JOINS, SKIPPED],
        scene: |size| Kind::Feed(shared_errors(size)),
    },
    Config {
        name: "feed-shared-deferrals",
        about: "the same; a node defers a change",
        reaches: &[HIT, REFUSED, SHOWN, SKIPPED],
        scene: |size| Kind::Feed(shared_deferrals(size)),
    },
    Config {
        name: "feed-shared-crash",
        about: "the same; the database crashes, loses commits, and gives their numbers out again",
        reaches: &[HIT, REFUSED, SHOWN, JOINS, SKIPPED],
        scene: |size| Kind::Feed(shared_crash(size)),
    },
    Config {
        name: "feed-shared-trim",
        about: "the same; changes are trimmed that a node or the place does not know of",
        reaches: &[HIT, REFUSED, SHOWN, JOINS, SKIPPED],
        scene: |size| Kind::Feed(shared_trim(size)),
    },
    Config {
        name: "feed-shared-loss",
        about: "the same; the shared server restarts, empty or with older data",
        reaches: &[HIT, REFUSED, SHOWN, SKIPPED, CUT],
        scene: |size| Kind::Feed(shared_loss(size)),
    },
    Config {
        name: "feed-shared-failover",
        about: "the same; an older copy of the shared server becomes a second one, and nodes move there one by one",
        reaches: &[HIT, REFUSED, SHOWN, JOINS, SKIPPED, CUT],
        scene: |size| Kind::Feed(shared_failover(size)),
    },
    Config {
        name: "tiers-postgres",
        about: "a memory in front of PostgreSQL, a change through its cache, and one by SQL",
        reaches: &[HIT, REFUSED, SHOWN, OWN],
        scene: |size| Kind::Feed(tiers(size)),
    },
    Config {
        name: "tiers-postgres-deferrals",
        about: "a memory in front of PostgreSQL, whose node defers a change",
        reaches: &[HIT, REFUSED, OWN],
        scene: |size| Kind::Feed(tiers_deferrals(size)),
    },
    Config {
        name: "tiers-postgres-trim",
        about: "a memory in front of PostgreSQL, while fences are swept",
        reaches: &[HIT, REFUSED, OWN],
        scene: |size| Kind::Feed(tiers_trim(size)),
    },
];

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

fn order(size: Size) -> FeedScene {
    let happens = Happens { rollbacks: 1, gets: 1, ..NONE };
    match size {
        Size::Small => memory(1, &[P, P], &[Object::P], happens),
        Size::Large => memory(2, &[P, PREPARED, P], &[Object::P], happens),
    }
}

fn late(size: Size) -> FeedScene {
    let scene = match size {
        Size::Small => memory(1, &[P], &[Object::P], NONE),
        Size::Large => memory(2, &[P, BOTH], &[Object::P, Object::Q], Happens { gets: 1, ..NONE }),
    };
    FeedScene { late: true, ..scene }
}

fn trim(size: Size) -> FeedScene {
    let happens = Happens { trims: 2, ..NONE };
    match size {
        Size::Small => memory(1, &[P], &[Object::P], happens),
        Size::Large => memory(1, &[P, P, P], &[Object::P], happens),
    }
}

fn crash(size: Size) -> FeedScene {
    let happens = Happens { crashes: 1, ..NONE };
    match size {
        Size::Small => memory(1, &[ASYNCHRONOUS, P], &[Object::P], happens),
        Size::Large => memory(1, &[ASYNCHRONOUS, PREPARED, P], &[Object::P], happens),
    }
}

fn shared_errors(size: Size) -> FeedScene {
    let happens = Happens { errors: 1, deaths: 1, ..NONE };
    match size {
        Size::Small => shared(1, &[P], &[Object::P], happens),
        Size::Large => shared(1, &[P, Q], &[Object::P], happens),
    }
}

fn shared_deferrals(size: Size) -> FeedScene {
    let happens = Happens { deferrals: 1, ..NONE };
    match size {
        Size::Small => joined(shared(1, &[P, Q], &[Object::P], happens)),
        Size::Large => joined(shared(1, &[P, Q, P], &[Object::P, Object::Q], happens)),
    }
}

fn shared_crash(size: Size) -> FeedScene {
    let happens = Happens { crashes: 1, ..NONE };
    match size {
        Size::Small => joined(shared(1, &[ASYNCHRONOUS, P], &[Object::P], happens)),
        Size::Large => shared(1, &[ASYNCHRONOUS, P], &[Object::P], happens),
    }
}

fn shared_trim(size: Size) -> FeedScene {
    let happens = Happens { trims: 1, deaths: 1, ..NONE };
    match size {
        Size::Small => joined(shared(1, &[P], &[Object::P], happens)),
        Size::Large => FeedScene { short: false, ..joined(shared(1, &[P, P], &[Object::P], happens)) },
    }
}

fn shared_loss(size: Size) -> FeedScene {
    let happens = Happens { losses: 1, ..NONE };
    match size {
        Size::Small => joined(shared(1, &[P], &[Object::P], happens)),
        Size::Large => shared(1, &[P, P], &[Object::P], happens),
    }
}

fn shared_failover(size: Size) -> FeedScene {
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

fn tiers(size: Size) -> FeedScene {
    match size {
        Size::Small => tier(1, &[THROUGH, P], &[Object::P], NONE),
        Size::Large => tier(2, &[THROUGH, P], &[Object::P, Object::P], NONE),
    }
}

fn tiers_deferrals(size: Size) -> FeedScene {
    let happens = Happens { deferrals: 1, ..NONE };
    match size {
        Size::Small => tier(1, &[THROUGH], &[Object::P], happens),
        Size::Large => tier(2, &[THROUGH, P], &[Object::P], happens),
    }
}

fn tiers_trim(size: Size) -> FeedScene {
    let happens = Happens { trims: 1, ..NONE };
    match size {
        Size::Small => tier(1, &[THROUGH], &[Object::P], happens),
        Size::Large => tier(1, &[THROUGH, P], &[Object::P], Happens { trims: 2, ..happens }),
    }
}
