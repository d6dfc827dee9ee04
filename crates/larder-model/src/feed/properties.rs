//! The promises of the feed, as properties of every state.

use super::node::{AtPlace, Poll};
use super::store::{Load, Value};
use super::{Feed, World};
use crate::source::OBJECTS;
use stateright::Property;

pub(super) fn all() -> Vec<Property<Feed>> {
    vec![
        Property::always("a get that begins the deadline after a commit returns nothing older", fresh),
        Property::always("a get that began the deadline after a commit and ends now returns nothing older", owed),
        Property::always("a get that begins the deadline after a crash returns nothing that it lost", real),
        Property::always("no hit lacks a change that its node has answered, or has deferred", own),
        Property::sometimes("a read hits", |model, world| served(model, world).next().is_some()),
        Property::sometimes("a fill is refused", |_, world: &World| {
            world.loads.iter().any(|(_, load)| matches!(load, Load::Loaded { overtaken: true, .. }))
        }),
        Property::sometimes("a change is shown that binds", |model, world: &World| {
            let binding = world.database.binding(model.scene.deadline);
            served(model, world).any(|(_, value)| value.0.meets(binding))
        }),
        Property::sometimes("an own change is shown", |model, world: &World| {
            let answered = model.answered(world);
            served(model, world).any(|(_, value)| value.0.meets(answered))
        }),
        Property::sometimes("a cache joins from a place", |_, world: &World| {
            world.nodes.iter().any(|node| matches!(node.poll, Poll::Applying(poll) if poll.joins && !poll.clear))
        }),
        Property::sometimes("a change is skipped", |model, world: &World| {
            world.nodes.iter().any(|node| match (node.poll, node.connected.map(usize::from)) {
                (Poll::Applying(poll), Some(store)) if poll.place == AtPlace::Unread => {
                    let place = world.stores.get(store).and_then(|store| store.place);
                    place.is_some_and(|place| !world.database.seen(poll.changes, place, model.removed).is_empty())
                }
                _ => false,
            })
        }),
        Property::sometimes("a node loses its connection", |_, world: &World| {
            world.nodes.iter().any(|node| node.connected.is_none())
        }),
    ]
}

/// What gets that begin now return.
fn served<'a>(model: &'a Feed, world: &'a World) -> impl Iterator<Item = (usize, Value)> + 'a {
    (0..world.nodes.len()).filter(|at| world.nodes[*at].may_read()).flat_map(move |at| held(model, world, at))
}

fn held<'a>(model: &'a Feed, world: &'a World, node: usize) -> impl Iterator<Item = (usize, Value)> + 'a {
    let store = model.store_of(node, world).and_then(|store| world.stores.get(usize::from(store)));
    let object = move |at: usize| store.and_then(|store| store.objects[at]).map(|value| (at, value));
    OBJECTS.into_iter().filter_map(move |it| object(it.at()))
}

fn fresh(model: &Feed, world: &World) -> bool {
    let binding = world.database.binding(model.scene.deadline);
    served(model, world).all(|(object, value)| !binding.without(value.0).meets(model.changing[object]))
}

fn owed(model: &Feed, world: &World) -> bool {
    world.nodes.iter().enumerate().all(|(at, node)| {
        node.owed.is_empty()
            || held(model, world, at).all(|(object, value)| !node.owed.without(value.0).meets(model.changing[object]))
    })
}

fn own(model: &Feed, world: &World) -> bool {
    let answered = model.answered(world);
    let reads = world.nodes.first().is_some_and(super::node::Node::may_read);
    !reads || held(model, world, 0).all(|(object, value)| !answered.without(value.0).meets(model.changing[object]))
}

fn real(model: &Feed, world: &World) -> bool {
    let gone = world.database.gone(model.scene.deadline);
    served(model, world).all(|(_, value)| !value.0.meets(gone))
}
