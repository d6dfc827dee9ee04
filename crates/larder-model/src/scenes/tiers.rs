//! The configurations of the strict tier. Those in front of PostgreSQL are in `feed.rs`.

use super::{Config, HIT, Kind, REFUSED, Size};
use crate::source::Keys;
use crate::tiers::{Change, Happens, Role, Terms, TiersScene};

const ACKNOWLEDGED: &str = "a change is applied by acknowledgements";
const WAITED: &str = "a change is applied by waiting";
const EPOCH: &str = "another epoch is followed";
const READ_AS_BEFORE: &str = "an L1 is read as before while the cache is about to be followed in another way";
const BEGINS_AGAIN: &str = "a truncate finds another epoch than it has read";
const JOINED: &str = "a node has joined a clearing while an L1 is read";
const REMOVED: &str = "a follower is removed";

pub(super) const CONFIGS: &[Config] = &[
    Config {
        name: "tiers-fills",
        about: "two L1s, and a writer elsewhere",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(fills(size)),
    },
    Config {
        name: "tiers-bells",
        about: "an L1 that hears of marks before it follows, and two writers",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(bells(size)),
    },
    Config {
        name: "tiers-writers",
        about: "two nodes with an L1 that both make a change",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(writers(size)),
    },
    Config {
        name: "tiers-other-object",
        about: "a node with an L1 changes another object than the writer elsewhere",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(other_object(size)),
    },
    Config {
        name: "tiers-keys",
        about: "a delete of h and an invalidation by h, while the server may lose P",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(keys(size)),
    },
    Config {
        name: "tiers-hits",
        about: "a hit that ends later than it began; a validity of two ticks",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(hits(size)),
    },
    Config {
        name: "tiers-removals",
        about: "a follower's entry of the table is removed; a follow that was given up is executed late",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, REMOVED],
        scene: |size| Kind::Tiers(removals(size)),
    },
    Config {
        name: "tiers-leaves",
        about: "nodes that close their L1, die, and join",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED],
        scene: |size| Kind::Tiers(leaves(size)),
    },
    Config {
        name: "tiers-failover",
        about: "an older replica takes over, and is cleared",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(failover(size)),
    },
    Config {
        name: "tiers-truncate",
        about: "a truncate by a node with an L1, and a writer elsewhere",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(truncate(size)),
    },
    Config {
        name: "tiers-truncate-elsewhere",
        about: "a node with an L1 changes another object, while somebody else truncates",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(truncate_elsewhere(size)),
    },
    Config {
        name: "tiers-truncate-failover",
        about: "a truncate while an older replica takes over",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(truncate_failover(size)),
    },
    Config {
        name: "tiers-loss",
        about: "a server that loses everything under its open connections, a writer and a truncate",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(loss(size)),
    },
    Config {
        name: "tiers-terms",
        about: "a truncate that changes how the cache is followed, and a writer",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH, READ_AS_BEFORE],
        scene: |size| Kind::Tiers(terms(size)),
    },
    Config {
        name: "tiers-terms-twice",
        about: "two truncates that change how the cache is followed, each in another way",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH, READ_AS_BEFORE, BEGINS_AGAIN],
        scene: |size| Kind::Tiers(terms_twice(size)),
    },
    Config {
        name: "tiers-terms-failover",
        about: "a truncate that changes how the cache is followed, and an older replica that takes over",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH, READ_AS_BEFORE],
        scene: |size| Kind::Tiers(terms_failover(size)),
    },
    Config {
        name: "tiers-joins",
        about: "a server that loses everything; a node recovers the cache and follows it in another way, and a second one joins",
        reaches: &[HIT, REFUSED, ACKNOWLEDGED, WAITED, EPOCH, JOINED],
        scene: |size| Kind::Tiers(joins(size)),
    },
    Config {
        name: "tiers-deferrals",
        about: "a change that a node with an L1 cannot deliver",
        reaches: &[HIT, REFUSED, WAITED],
        scene: |size| Kind::Tiers(deferrals(size)),
    },
    Config {
        name: "tiers-wait-only",
        about: "no acknowledgements: every change waits; an older replica takes over",
        reaches: &[HIT, REFUSED, WAITED, EPOCH],
        scene: |size| Kind::Tiers(waiting(size)),
    },
];

const BY_P: Change = Change::Invalidate(Keys::P);
const BY_H: Change = Change::Invalidate(Keys::H);
/// A change of another object.
const OF_Q: Change = Change::Invalidate(Keys::Q);

/// A node with an L1.
const FILLS: Role = Role { follows: true, fills: true, change: None };
/// A node whose L1 stays empty: it registers and acknowledges.
const FOLLOWS: Role = Role { follows: true, fills: false, change: None };

const NONE: Happens = Happens {
    hits: 0,
    lates: 0,
    evictions: 0,
    looks: 0,
    deaths: 0,
    leaves: 0,
    promotions: 0,
    losses: 0,
    deferrals: 0,
    joins: 0,
};

/// A node without an L1.
fn writes(change: Change) -> Role {
    Role { follows: false, fills: false, change: Some(change) }
}

/// The same node, which also makes a change.
fn and_writes(role: Role, change: Change) -> Role {
    Role { change: Some(change), ..role }
}

fn scene(validity: u8, nodes: &[Role], happens: Happens) -> TiersScene {
    followed(&[strict(validity)], nodes, happens)
}

/// The cache may be followed in each of these ways at first. Whoever recovers it is configured for the first one.
fn followed(terms: &[Terms], nodes: &[Role], happens: Happens) -> TiersScene {
    TiersScene { nodes: nodes.to_vec(), terms: terms.to_vec(), recovers: terms[0], bells: false, happens }
}

const fn strict(validity: u8) -> Terms {
    Terms { acknowledged: true, validity }
}

const fn wait_only(validity: u8) -> Terms {
    Terms { acknowledged: false, validity }
}

fn with_bells(scene: TiersScene) -> TiersScene {
    TiersScene { bells: true, ..scene }
}

fn fills(size: Size) -> TiersScene {
    match size {
        Size::Small => with_bells(scene(2, &[FILLS, FILLS, writes(BY_P)], NONE)),
        Size::Large => scene(2, &[FILLS, FILLS, writes(BY_P), writes(BY_P)], NONE),
    }
}

fn bells(size: Size) -> TiersScene {
    match size {
        Size::Small => with_bells(scene(1, &[FILLS, writes(BY_P), writes(BY_P)], NONE)),
        Size::Large => with_bells(scene(1, &[FILLS, FILLS, writes(BY_P), writes(BY_P)], NONE)),
    }
}

fn writers(size: Size) -> TiersScene {
    match size {
        Size::Small => scene(1, &[and_writes(FILLS, BY_P), and_writes(FOLLOWS, BY_P)], NONE),
        Size::Large => scene(2, &[and_writes(FILLS, BY_P); 2], NONE),
    }
}

fn other_object(size: Size) -> TiersScene {
    match size {
        Size::Small => scene(1, &[and_writes(FILLS, OF_Q), writes(BY_P)], NONE),
        Size::Large => scene(1, &[and_writes(FILLS, OF_Q), FILLS, writes(BY_P)], NONE),
    }
}

fn keys(size: Size) -> TiersScene {
    let happens = Happens { evictions: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, writes(Change::Delete), writes(BY_H)], happens),
        Size::Large => scene(1, &[FILLS, FOLLOWS, writes(Change::Delete), writes(BY_H)], happens),
    }
}

fn hits(size: Size) -> TiersScene {
    let happens = Happens { hits: 1, ..NONE };
    match size {
        Size::Small => scene(2, &[FILLS, writes(BY_P)], happens),
        Size::Large => scene(2, &[FILLS, FOLLOWS, writes(BY_P)], happens),
    }
}

fn removals(size: Size) -> TiersScene {
    let happens = Happens { looks: 1, lates: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, writes(BY_P)], happens),
        Size::Large => scene(1, &[FILLS, FOLLOWS, writes(BY_P)], Happens { looks: 2, deaths: 1, ..happens }),
    }
}

fn leaves(size: Size) -> TiersScene {
    let happens = Happens { leaves: 1, deaths: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, FOLLOWS, writes(BY_P)], happens),
        Size::Large => scene(1, &[FILLS, FILLS, writes(BY_P)], Happens { looks: 1, ..happens }),
    }
}

fn failover(size: Size) -> TiersScene {
    let happens = Happens { promotions: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, FOLLOWS, writes(BY_P)], happens),
        Size::Large => scene(2, &[FILLS, FILLS, writes(BY_P)], happens),
    }
}

fn truncate(size: Size) -> TiersScene {
    match size {
        Size::Small => scene(1, &[and_writes(FILLS, Change::Truncate), FOLLOWS, writes(BY_P)], NONE),
        Size::Large => scene(1, &[and_writes(FILLS, Change::Truncate), FILLS, writes(BY_P)], NONE),
    }
}

fn truncate_elsewhere(size: Size) -> TiersScene {
    match size {
        Size::Small => scene(1, &[and_writes(FILLS, OF_Q), writes(Change::Truncate)], NONE),
        Size::Large => scene(1, &[and_writes(FILLS, OF_Q), writes(BY_P), writes(Change::Truncate)], NONE),
    }
}

fn truncate_failover(size: Size) -> TiersScene {
    let happens = Happens { promotions: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, writes(BY_P), writes(Change::Truncate)], happens),
        Size::Large => scene(2, &[FILLS, writes(BY_P), writes(Change::Truncate)], happens),
    }
}

fn loss(size: Size) -> TiersScene {
    let happens = Happens { losses: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, writes(BY_P), writes(Change::Truncate)], happens),
        Size::Large => scene(2, &[FILLS, and_writes(FOLLOWS, BY_P), writes(Change::Truncate)], happens),
    }
}

/// The ways in which a cache may be followed before it is followed in another way.
const BEFORE: [Terms; 4] = [strict(1), strict(2), wait_only(1), wait_only(2)];

fn terms(size: Size) -> TiersScene {
    let to = |validity| writes(Change::TruncateTo(strict(validity)));
    match size {
        Size::Small => followed(&BEFORE, &[FILLS, writes(BY_P), to(1)], NONE),
        Size::Large => followed(&BEFORE, &[FILLS, FOLLOWS, writes(BY_P), to(2)], NONE),
    }
}

/// Whoever recovers the cache is configured as nodes were at first.
fn terms_failover(size: Size) -> TiersScene {
    let happens = Happens { promotions: 1, ..NONE };
    let (longer, shorter) = (Change::TruncateTo(strict(2)), Change::TruncateTo(strict(1)));
    match size {
        Size::Small => followed(&[strict(1)], &[and_writes(FILLS, longer), writes(BY_P)], happens),
        Size::Large => followed(&[strict(2), wait_only(2)], &[FILLS, writes(BY_P), writes(shorter)], happens),
    }
}

fn terms_twice(size: Size) -> TiersScene {
    let (one, other) = (writes(Change::TruncateTo(strict(1))), writes(Change::TruncateTo(wait_only(2))));
    match size {
        Size::Small => followed(&BEFORE, &[FILLS, one, other], NONE),
        Size::Large => followed(&BEFORE, &[FILLS, one, other], Happens { joins: 1, ..NONE }),
    }
}

/// Whoever recovers the cache is configured for the first of the terms, the shortest ones.
fn joins(size: Size) -> TiersScene {
    let happens = Happens { losses: 1, joins: 1, ..NONE };
    match size {
        Size::Small => followed(&BEFORE, &[FILLS, writes(BY_P)], happens),
        Size::Large => followed(&BEFORE, &[FILLS, FOLLOWS, writes(BY_P)], happens),
    }
}

fn deferrals(size: Size) -> TiersScene {
    let happens = Happens { deferrals: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[and_writes(FILLS, BY_P), writes(BY_P)], happens),
        Size::Large => scene(1, &[and_writes(FILLS, BY_P), FOLLOWS, writes(BY_P)], happens),
    }
}

fn waiting(size: Size) -> TiersScene {
    let happens = Happens { promotions: 1, ..NONE };
    match size {
        Size::Small => followed(&[wait_only(1)], &[FILLS, writes(BY_P)], happens),
        Size::Large => followed(&[wait_only(2)], &[FILLS, writes(BY_P), writes(BY_P)], happens),
    }
}
