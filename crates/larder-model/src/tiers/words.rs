//! Steps and states of the tiers' model in words.

use super::node::{Fill, Follow, Hit, Node, Progress};
use super::server::{Known, Value};
use super::{Change, Step, Terms, Tiers, World};
use crate::check::Told;

const NODES: [&str; 5] = ["A", "B", "C", "D", "E"];

fn shown(value: Value) -> String {
    format!("P v{}{}", value.version, if value.h_deleted { " (without h)" } else { "" })
}

fn at(known: Known) -> String {
    format!("epoch {}, sequence {}", known.epoch, known.sequence)
}

fn followed(terms: Terms) -> String {
    let kind = if terms.acknowledged { "strict" } else { "wait-only" };
    format!("{kind}, v of {} ticks", terms.validity)
}

impl Tiers {
    fn changed(&self, world: &World, node: usize, before: Progress, after: Progress) -> String {
        let what = match self.role(node).and_then(|role| role.change) {
            Some(Change::Invalidate(keys)) => format!("invalidation by {keys}"),
            Some(Change::Delete) => "delete of h".to_owned(),
            _ => "truncate".to_owned(),
        };
        match (before, after) {
            (_, Progress::Sent { .. }) => format!("sends its {what}"),
            (_, Progress::Read { epoch }) => format!("its {what} reads epoch {epoch}"),
            (_, Progress::Ready) => format!("its {what} finds another epoch than it has read, and begins again"),
            (_, Progress::Clearing { epoch, left, .. }) => {
                format!("its {what} clears epoch {epoch} ({}), and waits {left} ticks", followed(world.terms_of(epoch)))
            }
            (_, Progress::Executed { at: executed, version, .. }) => {
                format!("its {what} is executed ({}); the source is at v{version}", at(executed))
            }
            (Progress::Executed { .. }, _) => {
                let l1 =
                    if self.role(node).is_some_and(|role| role.follows) { "; L1 drops what it touched" } else { "" };
                format!("its {what} is answered{l1}")
            }
            (_, Progress::Deferred { version }) => {
                format!("its {what} is deferred; the source is at v{version}")
            }
            (Progress::Waiting { at, age, .. }, _) if age >= self.wait(world, at) => {
                format!("its {what} has waited, and is applied")
            }
            (Progress::Waiting { .. }, _) => format!("its {what} is acknowledged by all, and is applied"),
            _ => format!("its {what} is superseded"),
        }
    }

    fn inserted(before: &Node, after: &Node) -> String {
        match (before.fill, after.fill) {
            (Fill::Answered { value, .. }, Fill::Checked(_)) => format!("finds that {} is current", shown(value)),
            (Fill::Answered { value, .. } | Fill::Checked(value), _) if after.held == Some(value) => {
                format!("inserts {} into L1", shown(value))
            }
            (Fill::Answered { value, .. }, _) => format!("{} is not inserted", shown(value)),
            _ => String::new(),
        }
    }

    fn stepped(&self, world: &World, node: usize, step: Step, before: &Node, after: &Node) -> String {
        match step {
            Step::Follow(_) => match (after.follow, after.entry_in_table) {
                (Follow::Answered { head, .. }, Some(entry)) => {
                    format!("its follow acknowledges {}, and is answered with {}", at(entry.known), at(head))
                }
                (Follow::Answered { head, .. }, None) => format!("its follow is answered with {}", at(head)),
                _ => String::new(),
            },
            Step::GiveUp(_) => "sends a follow and gives it up".to_owned(),
            Step::Late(_) => "the follow that it gave up is executed".to_owned(),
            Step::Apply(_) => {
                format!("applies the answer ({}); L1 is valid for {} ticks", at(after.known_now()), after.valid)
            }
            Step::Bell(..) => format!("hears of the marks up to {}", at(after.known_now())),
            Step::Get(_) | Step::Load(_) => match after.fill {
                Fill::Answered { since, value } => {
                    let what = if matches!(step, Step::Get(_)) { "gets" } else { "loads and stores" };
                    format!("{what} {} (since {})", shown(value), at(since))
                }
                _ => String::new(),
            },
            Step::Insert(_) => Self::inserted(before, after),
            Step::Hit(_) => match after.hit {
                Hit::Read { value, .. } => format!("a hit begins, and reads {}", shown(value)),
                _ => "a hit begins, and finds L1 valid".to_owned(),
            },
            Step::Change(_) | Step::Defer(_) => self.changed(world, node, before.progress, after.progress),
            Step::Look(_) => "somebody looks at its entry of the table".to_owned(),
            Step::Remove(_) if before.entry_in_table == after.entry_in_table => {
                "its entry has changed, and stays".to_owned()
            }
            Step::Remove(_) => "its entry is removed".to_owned(),
            Step::Die(_) => "dies".to_owned(),
            _ => "closes its L1, and removes its entry of the table".to_owned(),
        }
    }
}

impl Told for Tiers {
    fn step_in_words(&self, before: &World, step: &Step, after: &World) -> String {
        match *step {
            Step::Tick => "a tick passes".to_owned(),
            Step::Evict => "the server loses P".to_owned(),
            Step::Save => format!("a replica has {}", at(before.server.known)),
            Step::Lose => "the server loses everything; connections stay open".to_owned(),
            Step::Promote => format!("the replica takes over, with {}", at(after.server.known)),
            Step::Renew => {
                let known = after.server.known;
                format!("a recovery begins: {} ({})", at(known), followed(after.terms_of(known.epoch)))
            }
            Step::Join => "another node joins the clearing".to_owned(),
            Step::SettleJoined => "the node that has joined has removed everything, and settles the clock".to_owned(),
            Step::Settle => "the recovery has removed everything, and settles the clock".to_owned(),
            Step::Follow(node)
            | Step::GiveUp(node)
            | Step::Late(node)
            | Step::Apply(node)
            | Step::Bell(node, _)
            | Step::Get(node)
            | Step::Load(node)
            | Step::Insert(node)
            | Step::Hit(node)
            | Step::Change(node)
            | Step::Defer(node)
            | Step::Look(node)
            | Step::Remove(node)
            | Step::Die(node)
            | Step::Leave(node) => match (before.nodes.get(node), after.nodes.get(node)) {
                (Some(old), Some(new)) => format!("{}: {}", NODES[node], self.stepped(after, node, *step, old, new)),
                _ => String::new(),
            },
        }
    }

    fn end_in_words(&self, world: &World) -> String {
        let mut told = Vec::new();
        for (at, node) in world.nodes.iter().enumerate() {
            if let Some(value) = node.held {
                let valid = if self.serves(world, at) { "may be read" } else { "may not be read" };
                told.push(format!("L1 of {} has {}, and {valid}", NODES[at], shown(value)));
            }
        }
        if let Some(value) = world.server.object.filter(|_| world.server.is_settled()) {
            told.push(format!("the server has {}", shown(value)));
        }
        let [p, h] = world.owed;
        format!("{}; gets owe v{p} by P and v{h} by h", told.join("; "))
    }
}
