//! Describes steps and states in words.

use super::{Standalone, Step, Who, World};
use crate::node::{Phase, Progress, Stage, Task};
use crate::server::{Command, Mode, Ticket};
use crate::source::{Change, Keys, Object, Value};

const NODES: [&str; 2] = ["node A", "node B"];

impl Standalone {
    /// Describes a step.
    #[must_use]
    pub(crate) fn words(&self, before: &World, step: Step, after: &World) -> String {
        match step {
            Step::Go(at) => {
                format!("{} {}", self.who(at), self.went(before, at, after))
            }
            Step::PutUnproven(at) => format!("{} stores, on a connection that is not proven", self.who(at)),
            Step::Recover(node) => format!("{}: {}", NODES[node], recovered(before, node, after)),
            Step::Remove(who, keys) => format!("{} removes {}", self.clearer(who), names(keys)),
            Step::GiveUp(who, keys) => {
                let what = match who {
                    Who::Task(at) => match before.tasks[at] {
                        Progress::Sent { command, .. } => sent(command),
                        Progress::Clearing { stage, .. } => stage_words(stage, keys),
                        _ => "the question for a ticket".to_owned(),
                    },
                    Who::Node(at) => match before.nodes[at].phase {
                        Phase::Clearing(stage) | Phase::Replaying(stage) => stage_words(stage, keys),
                        _ => String::new(),
                    },
                };
                format!("{} gets no answer, and gives up: {what}", self.clearer(who))
            }
            Step::Late(at) => format!("the server executes late what was given up: {}", sent(before.late[at])),
            Step::Doubt(node) => {
                format!("{} finds the clock lost or unsettled, and reads nothing any more", NODES[node])
            }
            Step::Cut(node) => format!("{} is cut off from the server", NODES[node]),
            Step::Crash(node) => format!("{} dies, and starts again", NODES[node]),
            Step::Flush => "the server is emptied".to_owned(),
            Step::LoseClock => "the server loses the clock".to_owned(),
            Step::LoseObject(object) => format!("the server loses the object {object:?}"),
            Step::LoseIndexKey => "the server loses the index key of h".to_owned(),
            Step::Save => "the server writes a snapshot".to_owned(),
            Step::Restart => "the server restarts with what it has on disk".to_owned(),
        }
    }

    /// Describes the last state.
    #[must_use]
    pub(crate) fn outcome(&self, world: &World) -> String {
        let stored: Vec<_> = world
            .server
            .objects
            .iter()
            .flatten()
            .map(|stored| format!("{}{}", stored.value, if stored.h_deleted { ", h deleted" } else { "" }))
            .collect();
        let stored = if stored.is_empty() { "nothing".to_owned() } else { stored.join(" and ") };
        let index = world.server.index.map_or("nothing".to_owned(), |object| format!("{object:?}"));
        let readers: Vec<_> = (0..2).filter(|node| world.nodes[*node].may_read()).map(|node| NODES[node]).collect();
        format!(
            "stored: {stored}; h leads to: {index}; the source has {} and {}; may read: {}",
            world.source.load(Object::P),
            world.source.load(Object::Q),
            if readers.is_empty() { "nobody".to_owned() } else { readers.join(" and ") },
        )
    }

    fn who(&self, at: usize) -> String {
        let (node, task) = self.tasks[at];
        let what = match task {
            Task::Load(key) => format!("get by {key}"),
            Task::LoadLagging(object) => format!("get by {object:?} from a lagging source"),
            Task::Invalidate(_, keys) => format!("invalidate {keys}"),
            Task::InvalidateBelow(_, object) => format!("invalidate_below {object:?}"),
            Task::Set(_, object) => format!("set {object:?}"),
            Task::Update(_, object) => format!("update {object:?}"),
            Task::SetBoth(_) => "set P and Q".to_owned(),
            Task::FindNothing { .. } => "get by h, which the source does not have".to_owned(),
            Task::DeleteH => "delete h".to_owned(),
            Task::Truncate => "truncate".to_owned(),
        };
        // Equal tasks are told apart by their number.
        let alike = self.tasks.iter().filter(|other| **other == (node, task)).count();
        let number = if alike > 1 { format!(" #{at}") } else { String::new() };
        format!("{}, {what}{number}:", NODES[node])
    }

    fn clearer(&self, who: Who) -> String {
        match who {
            Who::Task(at) => self.who(at),
            Who::Node(at) => format!("{}, recovering:", NODES[at]),
        }
    }

    fn went(&self, before: &World, at: usize, after: &World) -> String {
        let (node, task) = self.tasks[at];
        let changed = match task {
            Task::Invalidate(change, _) | Task::InvalidateBelow(change, _) => change_words(change),
            Task::Set(change, _) | Task::Update(change, _) | Task::SetBoth(change) => change_words(change),
            _ => String::new(),
        };
        let deferred = after.nodes[node].journal != before.nodes[node].journal
            || after.nodes[node].owed != before.nodes[node].owed
            || after.nodes[node].journal_all != before.nodes[node].journal_all;
        match (before.tasks[at], after.tasks[at]) {
            (_, Progress::Ticketed { ticket, .. }) => ticket_words(ticket),
            (Progress::Waiting, Progress::Several { ticket, .. }) => format!("{changed}, and {}", ticket_words(ticket)),
            (Progress::Several { .. }, _) if deferred => "is deferred".to_owned(),
            (Progress::Several { left, .. }, _) => match left.into_iter().flatten().next() {
                Some((value, _)) => put_words(value, after),
                None => "goes on".to_owned(),
            },
            (Progress::Waiting, Progress::Holding { value, .. })
                if matches!(task, Task::Load(_) | Task::LoadLagging(_)) =>
            {
                format!("loads {value}, without a ticket yet")
            }
            (
                Progress::Holding { .. },
                Progress::Sent { command: Command::Store { mode: Mode::Set, ticket, .. }, .. },
            ) => {
                format!("sends it with the newest ticket seen (epoch {}, sequence {})", ticket.epoch, ticket.sequence)
            }
            (Progress::Holding { .. }, Progress::Sent { command: Command::Store { ticket, .. }, .. }) => {
                ticket_words(ticket)
            }
            (Progress::Holding { .. }, Progress::Holding { .. }) => "has seen no ticket".to_owned(),
            (Progress::Sent { .. }, Progress::Sent { command: Command::Store { ticket, .. }, .. }) => {
                format!("is told that it was overtaken, and {}", ticket_words(ticket))
            }
            (Progress::Sent { .. }, Progress::Holding { .. }) => {
                "is told that it was overtaken, under another epoch".to_owned()
            }
            (
                Progress::Ticketed { .. },
                Progress::Sent { command: Command::Store { mode: Mode::Fill, value, .. }, .. },
            ) => {
                format!("loads {value}")
            }
            (_, Progress::Sent { command: Command::FindNothing { .. }, .. }) => "finds nothing".to_owned(),
            (Progress::Waiting | Progress::Ticketed { .. }, Progress::Sent { .. } | Progress::Holding { .. }) => {
                changed
            }
            (Progress::Sent { command, .. }, _) if deferred => format!("is deferred: {}", sent(command)),
            (Progress::Sent { command: Command::Store { value, .. }, .. }, _) => put_words(value, after),
            (Progress::Sent { command, .. }, _) => format!("is applied: {}", sent(command)),
            (Progress::Waiting, Progress::Clearing { .. }) => "begins".to_owned(),
            (Progress::Clearing { .. }, Progress::Done) if deferred => "is deferred".to_owned(),
            (Progress::Clearing { stage, .. }, Progress::Done) => {
                format!("{}, and is applied", stage_words(stage, Keys::NONE))
            }
            (Progress::Clearing { stage, .. }, _) => stage_words(stage, Keys::NONE),
            (_, Progress::Done) => "gets no ticket".to_owned(),
            _ => "goes on".to_owned(),
        }
    }
}

fn recovered(before: &World, node: usize, after: &World) -> String {
    match (before.nodes[node].phase, after.nodes[node].phase) {
        (Phase::Unproven, Phase::Live) => "connects, and trusts what the clock says".to_owned(),
        (Phase::Unproven, _) => "connects, does not trust what it finds, and will clear the cache".to_owned(),
        (Phase::Live, Phase::Replaying(_)) => "begins to replay a truncate".to_owned(),
        (Phase::Live, Phase::Live) => "replays its journal".to_owned(),
        (Phase::Clearing(stage) | Phase::Replaying(stage), Phase::Live) => {
            format!("{}; it has recovered", stage_words(stage, Keys::NONE))
        }
        (Phase::Clearing(stage) | Phase::Replaying(stage), _) => stage_words(stage, Keys::NONE),
        (Phase::Live, _) => "finds the clock lost while it replays".to_owned(),
    }
}

fn change_words(change: Change) -> String {
    match change {
        Change::Nothing => "changes nothing in the source".to_owned(),
        Change::Value(object) => format!("changes {object:?} in the source"),
        Change::Move => "moves h to the other object in the source".to_owned(),
    }
}

fn ticket_words(ticket: Ticket) -> String {
    format!("takes its ticket (epoch {}, sequence {})", ticket.epoch, ticket.sequence)
}

fn put_words(value: Value, after: &World) -> String {
    let stored = after.server.objects[value.object.at()].is_some_and(|stored| stored.value == value);
    format!("sends {value}, {}", if stored { "which is stored" } else { "which is refused" })
}

fn names(keys: Keys) -> String {
    let name = |(at, _)| ["object P", "object Q", "the index key of h"][at];
    keys.each().map(name).collect::<Vec<_>>().join(" and ")
}

fn stage_words(stage: Stage, keys: Keys) -> String {
    match stage {
        Stage::Renew => "renews the epoch".to_owned(),
        Stage::Remove { left, .. } if left.is_empty() => "settles the clock".to_owned(),
        Stage::Remove { .. } => format!("removes {}", names(keys)),
    }
}

fn sent(command: Command) -> String {
    match command {
        Command::Store { mode: Mode::Fill, value, .. } => format!("fill {value}"),
        Command::Store { value, .. } => format!("put {value}"),
        Command::Invalidate { keys, .. } => format!("invalidate {keys}"),
        Command::FindNothing { .. } => "that the source has nothing under h".to_owned(),
        Command::DeleteH => "delete h".to_owned(),
        Command::Renew { .. } => "renew the epoch".to_owned(),
        Command::Remove { keys, .. } => format!("remove {}", names(keys)),
        Command::Settle { .. } => "settle the clock".to_owned(),
    }
}
