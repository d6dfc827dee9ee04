//! The promises of the postgres connector, as properties of every state. A read is one statement: it sees what is committed, and nothing else.

use super::{Postgres, Progress, Row, Shape, Task, World};
use stateright::Property;

pub(super) fn all() -> Vec<Property<Postgres>> {
    vec![
        Property::always("C2: no two objects that are served list one key", c2),
        Property::always("C3: no read that begins after a change was committed returns an older state", c3),
        Property::sometimes("a read hits", |model, world| served(model, world).next().is_some()),
        Property::sometimes("a fill is accepted", |_, world: &World| {
            world.tasks.iter().any(|task| matches!(task, Progress::Storing(storing) if storing.put.is_none()))
        }),
        Property::sometimes("a fill is refused", refused),
        Property::sometimes("a fence is swept", |_, world: &World| {
            world.tasks.iter().zip(&world.fences).enumerate().any(|(at, (task, fence))| {
                *task == Progress::Done && world.committed.has(at) && fence.keys.is_empty() && world.clock.is_some()
            })
        }),
        Property::sometimes("a holder is displaced", |_, world: &World| {
            world.tasks.iter().any(|task| matches!(task, Progress::Storing(storing) if !storing.displaced.is_empty()))
        }),
        Property::sometimes("a set is outdated", |_, world: &World| {
            world.tasks.iter().any(|task| matches!(task, Progress::Fencing { fence, .. } if fence.outdated.is_some()))
        }),
        Property::sometimes("a key's row is pruned", |model, world: &World| {
            world.left.prunes < model.scene.happens.prunes && world.h.is_none() && world.pruning.is_none()
        }),
        Property::sometimes("a prepared transaction is committed after a crash", |model, world: &World| {
            world.left.crashes < model.scene.happens.crashes
                && model
                    .scene
                    .tasks
                    .iter()
                    .enumerate()
                    .any(|(at, task)| matches!(task, Task::WritePrepared(..)) && world.committed.has(at))
        }),
    ]
}

fn served<'a>(model: &'a Postgres, world: &'a World) -> impl Iterator<Item = Row> + 'a {
    world.rows.iter().flatten().flatten().copied().filter(|row| model.lives(world, row))
}

fn c2(model: &Postgres, world: &World) -> bool {
    served(model, world).filter(|row| row.value.lists_h).count() <= 1
}

fn c3(model: &Postgres, world: &World) -> bool {
    let served = [Shape::Full, Shape::Bare].into_iter().flat_map(|shape| {
        let rows = world.rows.iter().filter_map(move |shapes| shapes[shape as usize]);
        rows.filter(|row| model.lives(world, row)).map(move |row| (shape, row.value))
    });
    served
        .map(|(shape, value)| (if shape == Shape::Full { world.forbidden } else { world.forbidden_bare }, value))
        .all(|(forbidden, value)| !forbidden.contain(value.object, value.version))
}

/// A load is over without a commit, and it was not rolled back.
fn refused(model: &Postgres, world: &World) -> bool {
    world.left.aborts == model.scene.happens.aborts
        && world.tasks.iter().zip(&model.scene.tasks).enumerate().any(|(at, (progress, task))| {
            matches!(task, Task::Load(..)) && *progress == Progress::Done && !world.committed.has(at)
        })
}
