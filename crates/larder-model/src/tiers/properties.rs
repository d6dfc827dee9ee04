//! The promises of the strict tier, as properties of every state.

use super::node::{Fill, Follow, Hit, Node, Progress};
use super::server::{Server, Value};
use super::{Tiers, World};
use stateright::Property;

pub(super) fn all() -> Vec<Property<Tiers>> {
    vec![
        Property::always(
            "C3, C4, C5: no hit in L1 that begins after a change was applied returns what is older",
            fresh,
        ),
        Property::always(
            "C3: no hit in L1 that began after a change was applied and ends now returns what is older",
            ended,
        ),
        Property::always(
            "C3, C4, C5: no get by the server returns what is older than a change that was applied",
            by_server,
        ),
        Property::always("C10: what was deferred is applied before its node reads again", deferred),
        Property::sometimes("a read hits", |model, world| served(model, world).next().is_some()),
        Property::sometimes("a fill is refused", |model, world: &World| {
            world.nodes.iter().enumerate().any(|(at, node)| match node.fill {
                Fill::Answered { since, value } => !model.is_current(world, at, since, value),
                _ => false,
            })
        }),
        Property::sometimes("a change is applied by acknowledgements", |model, world| {
            waiting(world, |own, progress| {
                let valid = world.nodes.iter().enumerate().any(|(at, node)| at != own && node.valid > 0);
                matches!(progress, Progress::Waiting { at, age: 0, .. } if valid && model.is_acknowledged(world, own, at))
            })
        }),
        Property::sometimes("a change is applied by waiting", |model, world| {
            waiting(world, |own, progress| match progress {
                Progress::Waiting { at, age, .. } => {
                    age >= world.terms_of(at.epoch).validity && !model.is_acknowledged(world, own, at)
                }
                _ => false,
            })
        }),
        Property::sometimes("another epoch is followed", |_, world: &World| {
            world.nodes.iter().any(|node| match node.follow {
                Follow::Answered { head, .. } => head.epoch != node.epoch && node.held.is_some(),
                _ => false,
            })
        }),
        Property::sometimes(
            "an L1 is read as before while the cache is about to be followed in another way",
            |model, world| {
                let changes = waiting(world, |_, progress| matches!(progress, Progress::Clearing { left: 1.., .. }));
                changes && served(model, world).next().is_some()
            },
        ),
        Property::sometimes("a truncate finds another epoch than it has read", |_, world: &World| {
            let Server { known, clearing, .. } = world.server;
            waiting(world, |_, progress| match progress {
                Progress::Read { epoch } => !clearing && epoch != known.epoch,
                _ => false,
            })
        }),
        Property::sometimes("a node has joined a clearing while an L1 is read", |model, world: &World| {
            world.joined.is_some() && served(model, world).next().is_some()
        }),
        Property::sometimes("a follower is removed", |_, world: &World| {
            world
                .nodes
                .iter()
                .any(|node| node.seen.is_some_and(|(seen, left)| left == 0 && node.entry_in_table == Some(seen)))
        }),
    ]
}

fn waiting(world: &World, is: impl Fn(usize, Progress) -> bool) -> bool {
    world.nodes.iter().enumerate().any(|(at, node)| is(at, node.progress))
}

/// The nodes on which a hit may begin now, and what it returns.
fn served<'a>(model: &'a Tiers, world: &'a World) -> impl Iterator<Item = (&'a Node, Value)> + 'a {
    let serving = world.nodes.iter().enumerate().filter(|(at, _)| model.serves(world, *at));
    serving.filter_map(|(_, node)| node.held.map(|value| (node, value)))
}

fn fresh(model: &Tiers, world: &World) -> bool {
    served(model, world).all(|(_, value)| value.pays(world.owed))
}

fn ended(model: &Tiers, world: &World) -> bool {
    world.nodes.iter().enumerate().all(|(at, node)| match node.hit {
        Hit::None => true,
        Hit::Checked { owed } => node.held.is_none_or(|value| value.pays(owed)),
        Hit::Read { value, owed } => value.pays(owed) || !model.serves(world, at),
    })
}

fn by_server(_: &Tiers, world: &World) -> bool {
    !world.server.is_settled() || world.server.object.is_none_or(|value| value.pays(world.owed))
}

fn deferred(model: &Tiers, world: &World) -> bool {
    let in_l1 = served(model, world).all(|(node, value)| value.pays(node.owed));
    let on_server = world.server.object.filter(|_| world.server.is_settled());
    let mut reading = world.nodes.iter().filter(|node| !node.gone && !node.blocked);
    in_l1 && reading.all(|node| on_server.is_none_or(|value| value.pays(node.owed)))
}
