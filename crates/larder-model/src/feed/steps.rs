//! Every step but those of polls. Each changes the world; `None`: it is not possible now.

use super::database::{Commit, Transaction, Writers};
use super::node::{Membership, Node, Poll};
use super::store::{ALL, Load, Store, Value};
use super::{Feed, Step, World};
use crate::protections::Removable;
use crate::source::Keys;

/// Takes one from how often something may happen.
fn spend(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

impl Feed {
    pub(super) fn take(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Tick => self.tick(world),
            Step::Begin(_) | Step::Prepare(_) | Step::Commit(_) | Step::RollBack(_) => return self.write(world, step),
            Step::Crash { lossy } => {
                spend(&mut world.left.crashes)?;
                world.database.crash(lossy);
                let lost = world.database.lost();
                world.nodes.iter_mut().for_each(|node| node.owed = node.owed.without(lost));
            }
            Step::Register => return world.database.register(self.removed),
            Step::Moment => {
                spend(&mut world.left.trims)?;
                let now = world.database.head(self.removed)?;
                world.database.moments.push(now.snapshot);
            }
            Step::Trim(moment) => return world.database.trim(moment, self.removed),
            Step::SayTrimmed => return world.database.say(),
            Step::Load(load) => return self.load(world, load),
            Step::Open(at) => {
                let node = world.nodes.get_mut(at)?;
                if node.membership != Membership::Absent {
                    return None;
                }
                node.membership = Membership::Outside;
            }
            Step::Poll(at) => return self.poll(world, at),
            Step::Answer(at) => return self.answer(world, at),
            Step::FailPoll(at) => {
                let node = world.nodes.get_mut(at)?;
                if !matches!(node.poll, Poll::Asking { .. } | Poll::Reading { .. } | Poll::Joining { .. }) {
                    return None;
                }
                node.poll = Poll::Idle;
            }
            Step::Apply(at, outcome) => return self.apply(world, at, outcome),
            Step::Count(at) => return self.count(world, at),
            Step::Get(at) => {
                let binding = world.database.binding(self.scene.deadline);
                let node = world.nodes.get_mut(at)?;
                if !node.may_read() || binding == node.owed {
                    return None;
                }
                node.owed = binding;
                spend(&mut world.left.gets)?;
            }
            Step::Own => return self.own(world),
            Step::GiveUp => return self.give_up(world),
            Step::Defer => return self.defer(world),
            Step::Pass(at) => return self.pass(world, at),
            Step::Join(at) => return self.join(world, at),
            Step::ReadPlace(at) => return self.read_place(world, at),
            Step::SetPlace(at) => return self.set_place(world, at),
            Step::Replay(at) => {
                let node = world.nodes.get_mut(at)?;
                let (store, keys) = (node.connected?, std::mem::take(&mut node.journal));
                if keys.is_empty() {
                    return None;
                }
                self.forget(world, store, keys)?;
            }
            Step::Die(at) => {
                spend(&mut world.left.deaths)?;
                let node = world.nodes.get_mut(at)?;
                let connected = node.connected;
                *node = Node { connected, before: node.before, ..Node::new(Membership::Outside, None) };
            }
            Step::Save => {
                if world.saved.is_some() || world.left.losses + world.left.promotions == 0 {
                    return None;
                }
                world.saved = Some(*world.stores.first()?);
            }
            Step::Lose { .. } | Step::Promote | Step::Cut(_) | Step::Connect(_) => return self.reconnect(world, step),
        }
        Some(())
    }

    fn tick(&self, world: &mut World) {
        world.database.tick(self.scene.deadline);
        for node in &mut world.nodes {
            if self.keeps(Removable::Deadline) {
                node.valid = node.valid.saturating_sub(1);
            }
            node.tick(self.scene.deadline);
        }
    }

    fn write(&self, world: &mut World, step: Step) -> Option<()> {
        let (Step::Begin(at) | Step::Prepare(at) | Step::Commit(at) | Step::RollBack(at)) = step else { return None };
        let commit = self.scene.writers.get(at)?.commit;
        match (step, *world.database.transactions.get(at)?) {
            (Step::Begin(_), Transaction::Waiting) => {
                world.database.begin(at);
                if self.scene.short {
                    return self.write(world, Step::Commit(at));
                }
            }
            (Step::Prepare(_), Transaction::Running { number }) if commit == Commit::Prepared => {
                *world.database.transactions.get_mut(at)? = Transaction::Prepared { number };
            }
            (Step::Commit(_), Transaction::Running { number }) if commit != Commit::Prepared => {
                world.database.commit(at, number, commit);
            }
            (Step::Commit(_), Transaction::Prepared { number }) => world.database.commit(at, number, commit),
            (Step::RollBack(_), Transaction::Running { .. } | Transaction::Prepared { .. }) => {
                spend(&mut world.left.rollbacks)?;
                *world.database.transactions.get_mut(at)? = Transaction::RolledBack;
            }
            _ => return None,
        }
        Some(())
    }

    fn load(&self, world: &mut World, at: usize) -> Option<()> {
        let (object, load) = *world.loads.get(at)?;
        let first = || match world.nodes.first() {
            Some(node) if node.membership != Membership::Absent => Some(0),
            _ => None,
        };
        let ticket = || if self.scene.shared { world.nodes.iter().find_map(|node| node.connected) } else { first() };
        let value = Value(self.shown(world, object.at()));
        let ticket_first = self.keeps(Removable::Ticket);
        let in_tier = if self.scene.tier { self.get(world, load) } else { None };
        let next = match load {
            _ if in_tier.is_some() => in_tier?,
            Load::Waiting if ticket_first => Load::Ticketed { store: ticket()?, overtaken: false },
            Load::Waiting => Load::Read(value),
            Load::Read(value) => Load::Loaded { store: ticket()?, overtaken: false, value },
            Load::Ticketed { store, overtaken } => Load::Loaded { store, overtaken, value },
            Load::Loaded { store, overtaken, value } => {
                if !overtaken {
                    world.stores.get_mut(usize::from(store))?.objects[object.at()] = Some(value);
                }
                Load::Done
            }
            Load::Noted { .. } | Load::Looked | Load::Done => return None,
        };
        world.loads.get_mut(at)?.1 = next;
        Some(())
    }

    /// The changes of an object that a load shows which reads the database now.
    fn shown(&self, world: &World, object: usize) -> Writers {
        let committed = world.database.committed();
        committed.without(committed.without(self.changing[object]))
    }

    /// Forgets on a store.
    pub(super) fn forget(&self, world: &mut World, store: u8, keys: Keys) -> Option<()> {
        let fences = self.keeps(Removable::Fence);
        world.stores.get_mut(usize::from(store))?.forget(store, keys, &mut world.loads, fences);
        Some(())
    }

    fn reconnect(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Lose { empty } => {
                spend(&mut world.left.losses)?;
                let saved = if empty { Store::default() } else { world.saved? };
                *world.stores.first_mut()? = Store { unknown: true, ..saved };
                (0..world.nodes.len()).try_for_each(|at| cut(world, at))
            }
            Step::Promote => {
                spend(&mut world.left.promotions)?;
                *world.stores.get_mut(1)? = Store { unknown: true, ..world.saved? };
                world.master = 1;
                Some(())
            }
            Step::Cut(at) => {
                // A server that is not the master any more sooner or later cuts all its connections.
                let on = world.nodes.get(at)?.connected?;
                if on == world.master { None } else { cut(world, at) }
            }
            Step::Connect(at) => {
                let store = world.master;
                let node = world.nodes.get_mut(at)?;
                if node.connected.is_some() {
                    return None;
                }
                node.connected = Some(store);
                if node.before != store && self.keeps(Removable::RejoinElsewhere) {
                    (node.membership, node.valid, node.poll) = (Membership::Outside, 0, Poll::Idle);
                }
                let unknown = &mut world.stores.get_mut(usize::from(store))?.unknown;
                if std::mem::take(unknown) && self.keeps(Removable::History) {
                    self.forget(world, store, ALL)?;
                }
                Some(())
            }
            _ => None,
        }
    }
}

fn cut(world: &mut World, at: usize) -> Option<()> {
    let node = world.nodes.get_mut(at)?;
    if let Some(store) = node.connected.take() {
        node.before = store;
    }
    node.owed = Writers::NONE;
    Some(())
}
