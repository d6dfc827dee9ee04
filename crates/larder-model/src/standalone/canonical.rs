//! Makes states that differ only in names equal. Names are: the number of an epoch; the size of a sequence, as long as its order relative
//! to the tickets stays; the order of commands that were given up; the order of equal tasks and nodes.

use super::{Standalone, World};
use crate::node::{Phase, Progress, Stage};
use crate::protections::Removable;
use crate::server::{Clock, Command, Mode, State, Ticket};

impl Standalone {
    pub(super) fn canonical(&self, mut world: World) -> World {
        if self.removed.keeps(Removable::Epoch) && self.removed.keeps(Removable::RestartClosesConnections) {
            self.drop_what_does_nothing(&mut world);
        }
        if !self.folded {
            return world;
        }
        if self.mirrored {
            let mut mirror = world.clone();
            mirror.nodes.swap(0, 1);
            mirror_connections(&mut mirror);
            let half = mirror.tasks.len() / 2;
            mirror.tasks.rotate_left(half);
            self.rename(&mut mirror);
            self.rename(&mut world);
            return world.min(mirror);
        }
        self.rename(&mut world);
        world
    }

    /// Drops commands that were given up and that can no longer change anything, whenever they are executed.
    fn drop_what_does_nothing(&self, world: &mut World) {
        let clock = world.server.clock;
        let guarded = self.removed.keeps(Removable::GuardedRemoval);
        let fenced = self.removed.keeps(Removable::Fence);
        world.late.retain(|command| match *command {
            Command::Store { mode: Mode::Fill, value, ticket, .. } => clock.is_some_and(|clock| {
                let touched = value.keys().each().any(|(at, _)| clock.touched[at] > ticket.sequence);
                clock.epoch == ticket.epoch && !(touched && fenced)
            }),
            Command::Remove { epoch, .. } => {
                !guarded || clock.is_some_and(|clock| clock.epoch == epoch && clock.state != State::Settled)
            }
            Command::Settle { epoch, .. } => {
                clock.is_some_and(|clock| clock.epoch == epoch && clock.state != State::Settled)
            }
            _ => true,
        });
    }

    fn rename(&self, world: &mut World) {
        world.late.sort_unstable();
        // Equal tasks of a node are next to each other.
        let mut from = 0;
        for to in 1..=self.tasks.len() {
            if to == self.tasks.len() || self.tasks[to] != self.tasks[from] {
                world.tasks[from..to].sort_unstable();
                from = to;
            }
        }
        rename_connections(world);
        rename_epochs(world);
        rename_sequences(world);
    }
}

/// An epoch that is not in use anywhere.
pub(super) fn fresh_epoch(world: &World) -> u8 {
    let mut known = 0_u64;
    each_epoch(&mut world.clone(), |epoch| known |= 1 << *epoch);
    (1..).find(|epoch| known & 1 << epoch == 0).unwrap_or(0)
}

/// Swaps the names of the two nodes' connections.
fn mirror_connections(world: &mut World) {
    each_connection(world, |name| {
        if *name != 0 {
            *name = ((*name - 1) ^ 1) + 1;
        }
    });
}

/// Visits each name of a connection, in clocks and in commands.
fn each_connection(world: &mut World, mut visit: impl FnMut(&mut u8)) {
    let World { server, saved, tasks, late, .. } = world;
    for clock in server.clock.iter_mut().chain(saved.iter_mut().filter_map(|saved| saved.clock.as_mut())) {
        visit(&mut clock.writer);
    }
    let sent = tasks.iter_mut().filter_map(|task| match task {
        Progress::Sent { command, .. } => Some(command),
        _ => None,
    });
    for command in sent.chain(late) {
        if let Command::Store { connection, .. } = command {
            visit(connection);
        }
    }
}

/// Replaces the name of a connection on which nothing more will be sent by 0, and renumbers the others.
fn rename_connections(world: &mut World) {
    for node in 0..2_u8 {
        let current = 1 + 2 * world.nodes[usize::from(node)].connection + node;
        let mut in_use: Vec<u8> = world
            .late
            .iter()
            .filter_map(|command| match command {
                Command::Store { mode: Mode::Set, connection, .. } if connection % 2 == (1 + node) % 2 => {
                    Some(*connection)
                }
                _ => None,
            })
            .chain([current])
            .collect();
        in_use.sort_unstable();
        in_use.dedup();
        each_connection(world, |name| {
            if *name != 0 && *name % 2 == (1 + node) % 2 {
                let place = in_use.iter().position(|used| used == name);
                *name = place.map_or(0, |place| 101 + 2 * u8::try_from(place).unwrap_or(0) + node);
            }
        });
        each_connection(world, |name| {
            if *name > 100 {
                *name -= 100;
            }
        });
        world.nodes[usize::from(node)].connection = u8::try_from(in_use.len() - 1).unwrap_or(0);
    }
    let clocks = [&mut world.server].into_iter().chain(world.saved.iter_mut());
    for clock in clocks.filter_map(|server| server.clock.as_mut()) {
        if clock.writer == 0 {
            clock.alone_since = 0;
        }
    }
}

fn rename_epochs(world: &mut World) {
    let mut names = [0_u8; 64];
    let mut next = 1;
    each_epoch(world, |epoch| {
        let name = &mut names[usize::from(*epoch)];
        if *name == 0 && *epoch != 0 {
            *name = next;
            next += 1;
        }
        *epoch = *name;
    });
}

fn each_epoch(world: &mut World, mut visit: impl FnMut(&mut u8)) {
    let World { server, saved, nodes, tasks, late, .. } = world;
    for clock in server.clock.iter_mut().chain(saved.iter_mut().filter_map(|saved| saved.clock.as_mut())) {
        visit(&mut clock.epoch);
    }
    for node in nodes {
        if let Phase::Clearing(Stage::Remove { epoch, .. }) | Phase::Replaying(Stage::Remove { epoch, .. }) =
            &mut node.phase
        {
            visit(epoch);
        }
    }
    for task in tasks {
        match task {
            Progress::Ticketed { ticket, .. } | Progress::Several { ticket, .. } => visit(&mut ticket.epoch),
            Progress::Sent { command, .. } => of_command(command, &mut visit),
            Progress::Clearing { stage: Stage::Remove { epoch, .. }, .. } => visit(epoch),
            _ => {}
        }
    }
    late.iter_mut().for_each(|command| of_command(command, &mut visit));
}

fn of_command(command: &mut Command, visit: &mut impl FnMut(&mut u8)) {
    match command {
        Command::Store { ticket, .. } | Command::FindNothing { ticket, .. } => visit(&mut ticket.epoch),
        Command::Renew { epoch } | Command::Remove { epoch, .. } | Command::Settle { epoch, .. } => visit(epoch),
        Command::Invalidate { .. } | Command::DeleteH => {}
    }
}

fn each_ticket(world: &mut World, mut visit: impl FnMut(&mut Ticket)) {
    for task in &mut world.tasks {
        match task {
            Progress::Ticketed { ticket, .. } | Progress::Several { ticket, .. } => visit(ticket),
            Progress::Sent { command: Command::Store { ticket, .. } | Command::FindNothing { ticket, .. }, .. } => {
                visit(ticket);
            }
            _ => {}
        }
    }
    for command in &mut world.late {
        if let Command::Store { ticket, .. } | Command::FindNothing { ticket, .. } = command {
            visit(ticket);
        }
    }
}

/// Replaces sequences by their rank among the tickets. Only their order relative to the tickets matters.
fn rename_sequences(world: &mut World) {
    let clocks = [world.server.clock, world.saved.and_then(|saved| saved.clock)];
    let epochs = clocks.map(|clock| clock.map(|clock| clock.epoch));
    let mut tickets = 0_u64;
    each_ticket(world, |ticket| {
        if epochs.contains(&Some(ticket.epoch)) {
            tickets |= 1 << ticket.sequence;
        } else {
            ticket.sequence = 0;
        }
    });
    let rank = |sequence: u8| {
        let below = (tickets & ((1 << sequence) - 1)).count_ones() * 2;
        let is_one = u32::from(tickets & 1 << sequence != 0);
        u8::try_from(below + is_one).unwrap_or(u8::MAX)
    };
    each_ticket(world, |ticket| {
        if epochs.contains(&Some(ticket.epoch)) {
            ticket.sequence = rank(ticket.sequence);
        }
    });
    let rank_clock = |clock: &mut Clock| {
        clock.sequence = rank(clock.sequence);
        clock.touched = clock.touched.map(rank);
        clock.alone_since = rank(clock.alone_since);
    };
    world.server.clock.iter_mut().for_each(rank_clock);
    world.saved.iter_mut().filter_map(|saved| saved.clock.as_mut()).for_each(rank_clock);
}
