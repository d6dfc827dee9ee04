//! The promises on a cluster, as properties of every state. As on one server, a read is one GET of an object key.

use super::{Cluster, Progress, World, objects};
use crate::cluster::slots::{Reply, Slots};
use crate::cluster::{At, Storing};
use crate::protections::Removed;
use stateright::Property;

pub(super) fn all(removed: Removed) -> Vec<Property<Cluster>> {
    let mut all = vec![
        Property::always("C2: no two stored objects list one key", c2),
        Property::always("C3: no read that begins after a change was applied returns an older state", c3),
        Property::always("C5 and C8: nothing from before an applied change of its keys, or truncate, is served", c8),
        Property::sometimes("a read hits", |_, world| objects(world).any(|(_, stored)| stored.is_some())),
        Property::sometimes("a fill is accepted", |model, world| fills(model, world, Reply::Done)),
        Property::sometimes("a fill is refused", |model, world| fills(model, world, Reply::Refused)),
        Property::sometimes("another claimant is displaced", |_, world: &World| {
            world.tasks.iter().any(|task| matches!(task, Progress::Storing(Storing { at: At::Displace, .. })))
        }),
    ];
    if removed == Removed::default() {
        all.push(Property::always("found: every stored object that lists a key claims it", found));
    }
    all
}

fn c2(_: &Cluster, world: &World) -> bool {
    !objects(world).all(|(_, stored)| stored.is_some_and(|stored| stored.value.lists_h))
}

fn c3(_: &Cluster, world: &World) -> bool {
    let is_forbidden =
        |stored: crate::cluster::slots::Stored| world.forbidden.contain(stored.value.object, stored.value.version);
    !objects(world).any(|(_, stored)| stored.is_some_and(is_forbidden))
}

fn c8(_: &Cluster, world: &World) -> bool {
    objects(world).all(|(_, stored)| {
        stored.is_none_or(|stored| stored.value.keys().each().all(|(at, _)| stored.born >= world.applied[at]))
    })
}

fn found(_: &Cluster, world: &World) -> bool {
    objects(world).all(|(object, stored)| {
        let claimed = world.slots.index.claims[object.at()].is_some();
        claimed || !stored.is_some_and(|stored| stored.value.lists_h)
    })
}

fn fills(model: &Cluster, world: &World, reply: Reply) -> bool {
    world.tasks.iter().any(|task| match task {
        Progress::Storing(storing) if storing.change.is_none() && storing.at == At::Store => {
            let mut slots: Slots = world.slots;
            slots.execute(storing.command(), model.removed) == reply
        }
        _ => false,
    })
}
