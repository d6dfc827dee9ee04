//! The promises, as properties of every state.
//!
//! A read is one GET of an object key. So it is enough to check what a read returns that begins and ends in the state: see `standalone.rs`.
//! The read is by the primary key, or by h through a hint, which may be wrong.

use super::{Standalone, World};
use crate::node::{Phase, Progress, Task};
use crate::protections::Removed;
use crate::server::{Command, Mode, Reply, Stored};
use crate::source::{OBJECTS, Object};
use stateright::Property;

pub(super) fn all(removed: Removed) -> Vec<Property<Standalone>> {
    let mut all = vec![
        Property::always("C1: an object is served only under a key that it lists", c1),
        Property::always("C2: no two stored objects list one key", c2),
        Property::always("C3: no read that begins after a change was applied returns an older state", c3),
        Property::always("C5: nothing from before a truncate that was applied is served", c5),
        Property::always("C8: nothing is served that was overtaken between its load and its fill", c8),
        Property::always("C9: no lower version replaces a higher one", c9),
        Property::always("C10: what was deferred is applied before its node reads again", c10),
        Property::sometimes("a read hits", a_read_hits),
        Property::sometimes("a fill is accepted", |model, world| fills(model, world, Reply::Done)),
        Property::sometimes("a fill is refused", |model, world| fills(model, world, Reply::Overtaken)),
        Property::sometimes("a set goes again", a_set_goes_again),
        Property::sometimes("a journal is replayed", a_journal_is_replayed),
        Property::sometimes("a clearing is under way", a_clearing_is_under_way),
    ];
    // Not a promise. With a protection removed, the check must find a broken promise instead.
    if removed == Removed::default() {
        all.push(Property::always("found: every stored object that lists a key is found through it", found));
    }
    all
}

fn served(world: &World) -> impl Iterator<Item = Stored> {
    world.server.objects.iter().copied().flatten()
}

fn anybody_reads(world: &World) -> bool {
    world.nodes.iter().any(|node| node.may_read())
}

fn lists_h(stored: Option<Stored>) -> bool {
    stored.is_some_and(|stored| stored.value.lists_h && !stored.h_deleted)
}

fn c1(model: &Standalone, world: &World) -> bool {
    model.validates()
        || !anybody_reads(world)
        || OBJECTS.into_iter().all(|object| {
            let stored = world.server.objects[object.at()];
            let remembered = world.remembered & 1 << object.at() != 0;
            !remembered || stored.is_none() || lists_h(stored)
        })
}

fn c2(_: &Standalone, world: &World) -> bool {
    world.index_lost || !world.server.objects.iter().all(|stored| lists_h(*stored))
}

fn c3(_: &Standalone, world: &World) -> bool {
    !anybody_reads(world) || served(world).all(|s| !world.forbidden.contain(s.value.object, s.value.version))
}

fn c5(_: &Standalone, world: &World) -> bool {
    !anybody_reads(world) || served(world).all(|stored| stored.born >= world.truncated)
}

fn c8(_: &Standalone, world: &World) -> bool {
    !anybody_reads(world) || served(world).all(|stored| !stored.overtaken)
}

fn c9(_: &Standalone, world: &World) -> bool {
    !world.version_went_back
}

fn c10(_: &Standalone, world: &World) -> bool {
    world.nodes.iter().filter(|node| node.may_read()).all(|node| {
        served(world).all(|stored| {
            let owed = node.owed.contain(stored.value.object, stored.value.version);
            !owed && stored.born >= node.owed_truncate
        })
    })
}

/// The proof of C3 needs this: an invalidation through a key reaches every object that lists the key. It need not hold while no node may
/// read.
fn found(_: &Standalone, world: &World) -> bool {
    let leads_to = |object: Object| world.server.index == Some(object);
    world.index_lost
        || !anybody_reads(world)
        || OBJECTS.into_iter().all(|object| {
            !world.server.objects[object.at()].is_some_and(|stored| stored.value.lists_h) || leads_to(object)
        })
}

fn a_read_hits(_: &Standalone, world: &World) -> bool {
    anybody_reads(world) && served(world).next().is_some()
}

fn fills(model: &Standalone, world: &World, verdict: Reply) -> bool {
    world.tasks.iter().zip(model.tasks()).any(|(progress, (node, task))| match (progress, task) {
        (
            Progress::Sent { command: Command::Store { mode, value, ticket, connection, .. }, .. },
            Task::Load(_) | Task::LoadLagging(_),
        ) => {
            world.nodes[*node].may_read()
                && world.server.judge(*mode, *value, *ticket, *connection, model.removed) == verdict
        }
        _ => false,
    })
}

fn a_set_goes_again(_: &Standalone, world: &World) -> bool {
    let again =
        |task: &Progress| matches!(task, Progress::Sent { command: Command::Store { mode: Mode::SetAgain, .. }, .. });
    world.tasks.iter().any(again)
}

fn a_journal_is_replayed(_: &Standalone, world: &World) -> bool {
    let settled = world.server.ticket().is_some();
    world.nodes.iter().any(|node| settled && node.phase == Phase::Live && node.has_journal())
}

fn a_clearing_is_under_way(_: &Standalone, world: &World) -> bool {
    let by_node = world.nodes.iter().any(|node| matches!(node.phase, Phase::Clearing(_) | Phase::Replaying(_)));
    by_node || world.tasks.iter().any(|task| matches!(task, Progress::Clearing { .. }))
}
