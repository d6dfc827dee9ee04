//! Steps and states of the postgres model in words.

use super::{Postgres, Progress, Step, Task, World};
use crate::check::Told;
use crate::source::Keys;

fn name(at: usize) -> char {
    ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H'].get(at).copied().unwrap_or('?')
}

fn task_in_words(task: Task) -> String {
    match task {
        Task::Load(key, shape) => format!("load by {key}, shape {shape:?}"),
        Task::Write(change, keys) => format!("transaction: {change:?}, invalidates {keys}"),
        Task::WritePrepared(change, keys) => format!("prepared transaction: {change:?}, invalidates {keys}"),
        Task::Invalidate(change, keys) => format!("{change:?}, then invalidates {keys}"),
        Task::Set(change, object) => format!("{change:?}, then sets {object:?}"),
        Task::Update(change, object) => format!("update of {object:?}: {change:?}"),
    }
}

impl Told for Postgres {
    fn step_in_words(&self, before: &World, step: &Step, after: &World) -> String {
        match *step {
            Step::Go(at) => {
                let task = self.scene.tasks.get(at).map(|task| task_in_words(*task)).unwrap_or_default();
                let what = match (before.tasks.get(at), after.tasks.get(at)) {
                    (_, Some(Progress::Ticketed(ticket))) => {
                        format!("takes its ticket (epoch {}, generation {})", ticket.epoch, ticket.generation)
                    }
                    (_, Some(Progress::Loaded { value, put: None, .. })) => format!("loads {value}"),
                    (_, Some(Progress::Loaded { value, .. })) => format!("has changed the source and will put {value}"),
                    (_, Some(Progress::Changed { .. })) => "changes the source".to_owned(),
                    (_, Some(Progress::Prepared)) => "prepares its transaction".to_owned(),
                    (Some(Progress::Loaded { .. }), Some(Progress::Storing(_))) => "passes its check".to_owned(),
                    (Some(Progress::Loaded { .. }), _) => "is refused".to_owned(),
                    (_, Some(Progress::Storing(storing))) if !storing.holds => {
                        "finds that h leads to its object already".to_owned()
                    }
                    (_, Some(Progress::Storing(storing))) if storing.displaced.is_empty() => "claims h".to_owned(),
                    (_, Some(Progress::Storing(storing))) => format!("claims h and fences {}", storing.displaced),
                    (Some(Progress::Storing(storing)), _) => format!("commits {}", storing.value),
                    (_, Some(Progress::Fencing { .. })) => "changes the source".to_owned(),
                    _ => "commits".to_owned(),
                };
                format!("{} ({task}) {what}", name(at))
            }
            Step::Abort(at) => format!("{} is rolled back", name(at)),
            Step::Register => "a node makes a clock".to_owned(),
            Step::Turn => "a generation begins".to_owned(),
            Step::Sweep => match (before.sweep, after.sweep) {
                (None, _) => "a sweep selects fences".to_owned(),
                (Some(sweep), Some(_)) => format!("the sweep of generation {} chooses objects", sweep.generation),
                _ => "the sweep commits".to_owned(),
            },
            Step::Expire(object, shape) => format!("{object:?} of shape {shape:?} expires"),
            Step::Prune => match (before.pruning, after.h) {
                (None, _) => "a prune finds that nobody needs the row of h".to_owned(),
                (_, None) => "the prune removes the row of h".to_owned(),
                _ => "the prune leaves the row of h".to_owned(),
            },
            Step::Crash => "the server crashes; its tables are empty".to_owned(),
        }
    }

    fn end_in_words(&self, world: &World) -> String {
        let rows = world.rows.iter().flatten().flatten();
        let told: Vec<_> = rows
            .map(|row| {
                let served = if self.lives(world, row) { "served" } else { "forgotten" };
                let marks = if row.marks.meets(Keys::H) { ", found by h" } else { "" };
                format!("{} {served}{marks}", row.value)
            })
            .collect();
        let h = world.h.map_or("nowhere".to_owned(), |row| format!("to {:?}", row.leads_to));
        format!("stored: {}; h leads {h}", told.join(", "))
    }
}
