//! The configurations of the strict tier.

use super::Size;
use crate::source::Keys;
use crate::tiers::{Change, Happens, Role, Terms, TiersScene};

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

pub(super) fn fills(size: Size) -> TiersScene {
    match size {
        Size::Small => with_bells(scene(2, &[FILLS, FILLS, writes(BY_P)], NONE)),
        Size::Large => scene(2, &[FILLS, FILLS, writes(BY_P), writes(BY_P)], NONE),
    }
}

pub(super) fn bells(size: Size) -> TiersScene {
    match size {
        Size::Small => with_bells(scene(1, &[FILLS, writes(BY_P), writes(BY_P)], NONE)),
        Size::Large => with_bells(scene(1, &[FILLS, FILLS, writes(BY_P), writes(BY_P)], NONE)),
    }
}

pub(super) fn writers(size: Size) -> TiersScene {
    match size {
        Size::Small => scene(1, &[and_writes(FILLS, BY_P), and_writes(FOLLOWS, BY_P)], NONE),
        Size::Large => scene(2, &[and_writes(FILLS, BY_P); 2], NONE),
    }
}

pub(super) fn other_object(size: Size) -> TiersScene {
    match size {
        Size::Small => scene(1, &[and_writes(FILLS, OF_Q), writes(BY_P)], NONE),
        Size::Large => scene(1, &[and_writes(FILLS, OF_Q), FILLS, writes(BY_P)], NONE),
    }
}

pub(super) fn keys(size: Size) -> TiersScene {
    let happens = Happens { evictions: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, writes(Change::Delete), writes(BY_H)], happens),
        Size::Large => scene(1, &[FILLS, FOLLOWS, writes(Change::Delete), writes(BY_H)], happens),
    }
}

pub(super) fn hits(size: Size) -> TiersScene {
    let happens = Happens { hits: 1, ..NONE };
    match size {
        Size::Small => scene(2, &[FILLS, writes(BY_P)], happens),
        Size::Large => scene(2, &[FILLS, FOLLOWS, writes(BY_P)], happens),
    }
}

pub(super) fn removals(size: Size) -> TiersScene {
    let happens = Happens { looks: 1, lates: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, writes(BY_P)], happens),
        Size::Large => scene(1, &[FILLS, FOLLOWS, writes(BY_P)], Happens { looks: 2, deaths: 1, ..happens }),
    }
}

pub(super) fn leaves(size: Size) -> TiersScene {
    let happens = Happens { leaves: 1, deaths: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, FOLLOWS, writes(BY_P)], happens),
        Size::Large => scene(1, &[FILLS, FILLS, writes(BY_P)], Happens { looks: 1, ..happens }),
    }
}

pub(super) fn failover(size: Size) -> TiersScene {
    let happens = Happens { promotions: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, FOLLOWS, writes(BY_P)], happens),
        Size::Large => scene(2, &[FILLS, FILLS, writes(BY_P)], happens),
    }
}

pub(super) fn truncate(size: Size) -> TiersScene {
    match size {
        Size::Small => scene(1, &[and_writes(FILLS, Change::Truncate), FOLLOWS, writes(BY_P)], NONE),
        Size::Large => scene(1, &[and_writes(FILLS, Change::Truncate), FILLS, writes(BY_P)], NONE),
    }
}

pub(super) fn truncate_elsewhere(size: Size) -> TiersScene {
    match size {
        Size::Small => scene(1, &[and_writes(FILLS, OF_Q), writes(Change::Truncate)], NONE),
        Size::Large => scene(1, &[and_writes(FILLS, OF_Q), writes(BY_P), writes(Change::Truncate)], NONE),
    }
}

pub(super) fn truncate_failover(size: Size) -> TiersScene {
    let happens = Happens { promotions: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, writes(BY_P), writes(Change::Truncate)], happens),
        Size::Large => scene(2, &[FILLS, writes(BY_P), writes(Change::Truncate)], happens),
    }
}

pub(super) fn loss(size: Size) -> TiersScene {
    let happens = Happens { losses: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[FILLS, writes(BY_P), writes(Change::Truncate)], happens),
        Size::Large => scene(2, &[FILLS, and_writes(FOLLOWS, BY_P), writes(Change::Truncate)], happens),
    }
}

/// The ways in which a cache may be followed before it is followed in another way.
const BEFORE: [Terms; 4] = [strict(1), strict(2), wait_only(1), wait_only(2)];

pub(super) fn terms(size: Size) -> TiersScene {
    let to = |validity| writes(Change::TruncateTo(strict(validity)));
    match size {
        Size::Small => followed(&BEFORE, &[FILLS, writes(BY_P), to(1)], NONE),
        Size::Large => followed(&BEFORE, &[FILLS, FOLLOWS, writes(BY_P), to(2)], NONE),
    }
}

/// Whoever recovers the cache is configured as nodes were at first.
pub(super) fn terms_failover(size: Size) -> TiersScene {
    let happens = Happens { promotions: 1, ..NONE };
    let (longer, shorter) = (Change::TruncateTo(strict(2)), Change::TruncateTo(strict(1)));
    match size {
        Size::Small => followed(&[strict(1)], &[and_writes(FILLS, longer), writes(BY_P)], happens),
        Size::Large => followed(&[strict(2), wait_only(2)], &[FILLS, writes(BY_P), writes(shorter)], happens),
    }
}

pub(super) fn terms_twice(size: Size) -> TiersScene {
    let (one, other) = (writes(Change::TruncateTo(strict(1))), writes(Change::TruncateTo(wait_only(2))));
    match size {
        Size::Small => followed(&BEFORE, &[FILLS, one, other], NONE),
        Size::Large => followed(&BEFORE, &[FILLS, one, other], Happens { joins: 1, ..NONE }),
    }
}

/// Whoever recovers the cache is configured for the first of the terms, the shortest ones.
pub(super) fn joins(size: Size) -> TiersScene {
    let happens = Happens { losses: 1, joins: 1, ..NONE };
    match size {
        Size::Small => followed(&BEFORE, &[FILLS, writes(BY_P)], happens),
        Size::Large => followed(&BEFORE, &[FILLS, FOLLOWS, writes(BY_P)], happens),
    }
}

pub(super) fn deferrals(size: Size) -> TiersScene {
    let happens = Happens { deferrals: 1, ..NONE };
    match size {
        Size::Small => scene(1, &[and_writes(FILLS, BY_P), writes(BY_P)], happens),
        Size::Large => scene(1, &[and_writes(FILLS, BY_P), FOLLOWS, writes(BY_P)], happens),
    }
}

pub(super) fn waiting(size: Size) -> TiersScene {
    let happens = Happens { promotions: 1, ..NONE };
    match size {
        Size::Small => followed(&[wait_only(1)], &[FILLS, writes(BY_P)], happens),
        Size::Large => followed(&[wait_only(2)], &[FILLS, writes(BY_P), writes(BY_P)], happens),
    }
}
