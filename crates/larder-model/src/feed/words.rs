//! Steps and states of the feed's model in words.

use super::database::{Transaction, Writers};
use super::node::{Applying, Membership, Poll};
use super::own::Own;
use super::store::{Load, Value};
use super::{Commit, Feed, Outcome, Step, World};
use crate::check::Told;
use crate::source::OBJECTS;

const NODES: [&str; 3] = ["A", "B", "C"];

fn number(transaction: Option<&Transaction>) -> u8 {
    match transaction {
        Some(
            Transaction::Running { number } | Transaction::Prepared { number } | Transaction::Committed { number, .. },
        ) => *number,
        _ => 0,
    }
}

fn names(writers: Writers) -> String {
    let names: Vec<_> = writers.each().map(|writer| format!("W{}", writer + 1)).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(" and ") }
}

fn shows(value: Value) -> String {
    if value.0.is_empty() { "as it was at first".to_owned() } else { format!("with {}", names(value.0)) }
}

impl Feed {
    fn wrote(&self, step: Step, after: &World) -> String {
        let (Step::Begin(at) | Step::Prepare(at) | Step::Commit(at) | Step::RollBack(at)) = step else {
            return String::new();
        };
        let (keys, how) = self.scene.writers.get(at).map_or((String::new(), ""), |writer| {
            let how = if writer.commit == Commit::Asynchronous { ", asynchronously" } else { "" };
            (writer.keys.to_string(), how)
        });
        let what = match step {
            Step::Begin(_) if !self.scene.short => {
                format!("begins, as number {}", number(after.database.transactions.get(at)))
            }
            Step::Prepare(_) => "prepares".to_owned(),
            Step::Begin(_) | Step::Commit(_) => format!("commits{how}"),
            _ => "is rolled back".to_owned(),
        };
        format!("W{} (changes {keys}) {what}", at + 1)
    }

    fn loaded(&self, at: usize, before: &World, after: &World) -> String {
        let Some((object, load)) = after.loads.get(at) else { return String::new() };
        let what = match load {
            Load::Noted { .. } => "notes its ticket".to_owned(),
            Load::Looked => "finds the journal empty".to_owned(),
            Load::Ticketed { .. } if matches!(before.loads.get(at), Some((_, Load::Noted { .. }))) => {
                "finds the journal empty".to_owned()
            }
            Load::Ticketed { .. } => "takes its ticket".to_owned(),
            Load::Read(value) => format!("reads it {}", shows(*value)),
            Load::Loaded { value, .. } if matches!(before.loads.get(at), Some((_, Load::Read(_)))) => {
                format!("takes its ticket for the value {}", shows(*value))
            }
            Load::Loaded { value, .. } => format!("reads it {}", shows(*value)),
            _ => match before.loads.get(at) {
                Some((_, Load::Loaded { overtaken: true, .. })) => "is refused".to_owned(),
                _ => "stores it".to_owned(),
            },
        };
        format!("a load of {object:?} {what}")
    }

    fn polled(&self, at: usize, step: Step, before: &World, after: &World) -> String {
        let (Some(old), Some(new)) = (before.nodes.get(at), after.nodes.get(at)) else { return String::new() };
        match (step, old.poll, new.poll) {
            (Step::Poll(_), _, Poll::Asking { asked: false, .. }) => {
                "begins a poll, which does not ask for this cache".to_owned()
            }
            (Step::Poll(_), ..) if old.membership == Membership::Outside => {
                "lets the cache join, and begins a poll".to_owned()
            }
            (Step::Poll(_), ..) => "begins a poll".to_owned(),
            (Step::Answer(_), _, Poll::Applying(Applying { clear: true, .. })) => {
                "its poll is answered: a new position; everything is to be forgotten".to_owned()
            }
            (Step::Answer(_), Poll::Joining { .. }, Poll::Applying(poll)) => {
                format!("its poll from the place brings {}", names(poll.changes))
            }
            (Step::Answer(_), _, Poll::Applying(poll)) if old.position.is_some() => {
                format!("its poll brings {}", names(poll.changes))
            }
            (Step::Answer(_), _, Poll::Applying(_)) => "its poll is answered: a new position".to_owned(),
            (Step::Answer(_), _, Poll::Reading { changes, .. }) => {
                format!("its poll reads the rows: {}", names(changes))
            }
            (Step::Answer(_), _, Poll::Idle) if new.position.is_some() => "polls, and finds nothing new".to_owned(),
            (Step::Answer(_), ..) => "its poll finds that its position is not kept any more".to_owned(),
            (Step::ReadPlace(_), Poll::Applying(old), Poll::Applying(new)) => {
                format!("reads the place, and skips {}", names(old.changes.without(new.changes)))
            }
            (Step::SetPlace(_), _, Poll::Idle) => "sets the place, and its poll counts".to_owned(),
            (Step::SetPlace(_), ..) => "sets the place".to_owned(),
            (Step::Apply(_, outcome), Poll::Applying(poll), _) => {
                let change = poll.changes.each().next().map_or(String::new(), |writer| format!("W{}", writer + 1));
                let (done, what) = if poll.clear { ("forgets", "everything".to_owned()) } else { ("applies", change) };
                match outcome {
                    Outcome::Applied => format!("{done} {what}"),
                    Outcome::Deferred => {
                        format!("cannot apply {}, and defers it", if poll.clear { "the clearing" } else { &what })
                    }
                    Outcome::Failed => format!("cannot apply {}", if poll.clear { "the clearing" } else { &what }),
                }
            }
            _ => "its poll counts".to_owned(),
        }
    }
}

impl Told for Feed {
    fn step_in_words(&self, before: &World, step: &Step, after: &World) -> String {
        match *step {
            Step::Tick => "a tick passes".to_owned(),
            Step::Begin(_) | Step::Prepare(_) | Step::Commit(_) | Step::RollBack(_) => self.wrote(*step, after),
            Step::Crash { lossy: true } => "the database crashes, and loses asynchronous commits".to_owned(),
            Step::Crash { .. } => "the database crashes".to_owned(),
            Step::Register => "another node makes a clock".to_owned(),
            Step::Moment => "a snapshot is kept, for trimming".to_owned(),
            Step::Trim(at) => format!("changes that kept snapshot {} sees are removed", at + 1),
            Step::SayTrimmed => "the clock says what was removed".to_owned(),
            Step::Load(at) => self.loaded(at, before, after),
            Step::Open(at) => format!("{}: the cache is opened", NODES[at]),
            Step::Poll(at)
            | Step::Answer(at)
            | Step::Apply(at, _)
            | Step::Count(at)
            | Step::ReadPlace(at)
            | Step::SetPlace(at) => format!("{}: {}", NODES[at], self.polled(at, *step, before, after)),
            Step::FailPoll(at) => format!("{}: its poll fails", NODES[at]),
            Step::Get(at) => format!("{}: a get begins", NODES[at]),
            Step::Own => match after.own {
                Own::Answered => "A: its change is answered".to_owned(),
                Own::Waits { begun: false } => "A: its change waits for the next poll".to_owned(),
                Own::Waits { begun: true } => "A: its change waits for the poll that is under way".to_owned(),
                _ => "A: the deferred change was sent again".to_owned(),
            },
            Step::GiveUp => "A: forgets everything, since no poll counts, and its change is answered".to_owned(),
            Step::Defer => "A: its change is deferred, and it forgets everything".to_owned(),
            Step::Pass(at) => format!("{}: polls for its other caches", NODES[at]),
            Step::Join(at) => {
                let place = matches!(after.nodes.get(at).map(|node| node.poll), Some(Poll::Joining { place: Some(_) }));
                let found = if place { "a place" } else { "no place" };
                format!("{}: the cache joins, and finds {found}", NODES[at])
            }
            Step::Replay(at) => format!("{}: replays its journal", NODES[at]),
            Step::Die(at) => format!("{}: is started anew; its journal is lost", NODES[at]),
            Step::Save => "the shared server's data is copied, for later".to_owned(),
            Step::Lose { empty: true } => "the shared server restarts, empty".to_owned(),
            Step::Lose { .. } => "the shared server restarts with the copy".to_owned(),
            Step::Promote => "the copy becomes a second shared server, where new connections go".to_owned(),
            Step::Cut(at) => format!("{}: loses its connection to the first server", NODES[at]),
            Step::Connect(at) => format!("{}: connects to the shared server", NODES[at]),
        }
    }

    fn end_in_words(&self, world: &World) -> String {
        let mut told = Vec::new();
        for (at, store) in world.stores.iter().enumerate() {
            let name =
                if self.scene.shared { format!("server {}", at + 1) } else { format!("memory of {}", NODES[at]) };
            for object in OBJECTS {
                if let Some(value) = store.objects[object.at()] {
                    told.push(format!("{name} has {object:?} {}", shows(value)));
                }
            }
        }
        let reads = world.nodes.iter().enumerate().filter(|(_, node)| node.may_read()).map(|(at, _)| NODES[at]);
        let reads: Vec<_> = reads.collect();
        let binding = names(world.database.binding(self.scene.deadline));
        format!("{}; read by {}; committed the deadline ago: {binding}", told.join(", "), reads.join(" and "))
    }
}
