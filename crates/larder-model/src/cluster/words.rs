//! Describes steps and states in words.

use super::slots::{Command, Reply};
use super::{At, Cluster, Progress, Step, Truncating, World, objects};
use crate::node::Task;
use crate::source::{Change, Keys, Object};

impl Cluster {
    pub(super) fn words(&self, before: &World, step: Step, after: &World) -> String {
        match step {
            Step::Go(at, key) => format!("{} {}", self.who(at), self.went(before, at, key, after)),
            Step::GiveUp(at, key) => {
                let command = self.command(self.scene.tasks[at], before.tasks[at], key);
                let what = command.map(sent).unwrap_or_default();
                format!("{} gives up, without an answer to: {what}", self.who(at))
            }
            Step::Late(at) => format!("executed late, after it was given up: {}", sent(before.late[at])),
            Step::Waited(at) if after.tasks[at] == Progress::Done => {
                format!("{} has waited, and is applied", self.who(at))
            }
            Step::Waited(at) => format!("{} has waited for the longest fill", self.who(at)),
        }
    }

    fn who(&self, at: usize) -> String {
        let task = self.scene.tasks[at];
        let what = match task {
            Task::Load(key) => format!("get by {key}"),
            Task::Invalidate(_, keys) => format!("invalidate {keys}"),
            Task::Set(_, object) => format!("set {object:?}"),
            Task::Update(_, object) => format!("update {object:?}"),
            _ => "truncate".to_owned(),
        };
        let alike = self.scene.tasks.iter().filter(|other| **other == task).count();
        if alike > 1 { format!("{what} #{at}:") } else { format!("{what}:") }
    }

    fn went(&self, before: &World, at: usize, key: Keys, after: &World) -> String {
        let (old, new) = (before.tasks[at], after.tasks[at]);
        let task = self.scene.tasks[at];
        let what = match (old, new) {
            (_, Progress::Ticketed { ticket }) => {
                format!("takes its ticket (epoch {}, sequence {})", ticket.epoch, ticket.sequence)
            }
            (Progress::Waiting | Progress::Ticketed { .. }, Progress::Loaded { value, .. }) => format!("loads {value}"),
            (Progress::Waiting | Progress::Ticketed { .. }, Progress::Changed { .. }) => match task {
                Task::Invalidate(change, _) | Task::Set(change, _) | Task::Update(change, _) => change_words(change),
                _ => String::new(),
            },
            (Progress::Waiting, Progress::Truncating { .. }) => "begins".to_owned(),
            (Progress::Loaded { .. }, Progress::Done) => "finds another epoch, and fills nothing".to_owned(),
            (Progress::Loaded { .. }, _) => "finds the epoch unchanged".to_owned(),
            (Progress::Changed { .. }, Progress::Storing(storing)) => {
                format!("takes sequence {}", storing.fence.unwrap_or_default())
            }
            (Progress::Changed { .. }, Progress::Forgetting { sequence, .. }) => format!("takes sequence {sequence}"),
            (Progress::Storing(storing), _) => {
                let mut slots = before.slots;
                let reply = slots.execute(storing.command(), self.removed);
                let refused = if reply == Reply::Refused { ", which is refused" } else { "" };
                let displaces = matches!((storing.at, reply), (At::Claim, Reply::Claimants(k)) if !k.is_empty());
                let learns = if displaces { ", and learns of the other claimant" } else { "" };
                format!("{}{refused}{learns}", sent(storing.command()))
            }
            (Progress::Truncating { at: Truncating::Again { left, .. }, .. }, _) if left.is_empty() => {
                "drops the claims that are older".to_owned()
            }
            (progress, _) => self.command(task, progress, key).map(sent).unwrap_or_default(),
        };
        if new == Progress::Done && before.applied != after.applied { format!("{what}; it is applied") } else { what }
    }
}

fn change_words(change: Change) -> String {
    match change {
        Change::Nothing => "changes nothing in the source".to_owned(),
        Change::Value(object) => format!("changes {object:?} in the source"),
        Change::Move => "moves h to the other object in the source".to_owned(),
    }
}

fn sent(command: Command) -> String {
    match command {
        Command::Look => "reads the clock".to_owned(),
        Command::Next => "takes the next sequence".to_owned(),
        Command::Renew => "renews the epoch".to_owned(),
        Command::Claim { object, .. } => format!("claims h for {object:?}"),
        Command::Unclaim { object, .. } => format!("drops {object:?}'s claim of h, if it is older"),
        Command::Fence { .. } => "fences h, and reads its claims".to_owned(),
        Command::DropClaims { .. } => "drops the claims of h that are older".to_owned(),
        Command::Forget { object, .. } => format!("fences and removes {object:?}"),
        Command::Remove { object } => format!("removes {object:?}"),
        Command::Store { value, .. } => format!("stores {value}"),
    }
}

pub(super) fn outcome(world: &World) -> String {
    let stored: Vec<_> = objects(world).filter_map(|(_, stored)| Some(stored?.value.to_string())).collect();
    let claims = [Object::P, Object::Q].into_iter().filter(|object| world.slots.index.claims[object.at()].is_some());
    let claims: Vec<_> = claims.map(|object| format!("{object:?}")).collect();
    let or_nothing = |list: Vec<String>, none: &str| if list.is_empty() { none.to_owned() } else { list.join(" and ") };
    format!(
        "stored: {}; h is claimed by: {}; the source has {} and {}",
        or_nothing(stored, "nothing"),
        or_nothing(claims, "nobody"),
        world.source.load(Object::P),
        world.source.load(Object::Q),
    )
}
