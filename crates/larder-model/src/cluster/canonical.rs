//! Makes states that differ only in names equal. Names are: the size of a sequence, as long as its order relative to the sequences in use
//! stays; the order of commands that were given up; the order of equal tasks.

use super::slots::{Command, Ticket};
use super::{Cluster, Progress, Truncating, World};

impl Cluster {
    pub(super) fn canonical(&self, mut world: World) -> World {
        if !self.folded {
            return world;
        }
        world.late.sort_unstable();
        let tasks = &self.scene.tasks;
        let mut from = 0;
        for to in 1..=tasks.len() {
            if to == tasks.len() || tasks[to] != tasks[from] {
                world.tasks[from..to].sort_unstable();
                from = to;
            }
        }
        rename_sequences(&mut world);
        world
    }
}

/// Visits each sequence in use: those of tasks and commands. The slots compare their sequences with these and with later ones.
fn each_sequence(world: &mut World, mut visit: impl FnMut(&mut u8)) {
    let World { tasks, late, .. } = world;
    let of_ticket = |ticket: &mut Ticket, visit: &mut dyn FnMut(&mut u8)| visit(&mut ticket.sequence);
    for task in tasks {
        match task {
            Progress::Ticketed { ticket }
            | Progress::Loaded { ticket: Some(ticket), .. }
            | Progress::Changed { ticket: Some(ticket), .. } => of_ticket(ticket, &mut visit),
            Progress::Storing(storing) => {
                of_ticket(&mut storing.ticket, &mut visit);
                storing.fence.iter_mut().for_each(&mut visit);
                visit(&mut storing.sequence);
            }
            Progress::Forgetting { sequence, .. }
            | Progress::Truncating {
                at: Truncating::Remove { sequence, .. } | Truncating::Again { sequence, .. },
                ..
            } => visit(sequence),
            _ => {}
        }
    }
    for command in late {
        match command {
            Command::Claim { ticket, fence, .. } | Command::Store { ticket, fence, .. } => {
                of_ticket(ticket, &mut visit);
                fence.iter_mut().for_each(&mut visit);
            }
            Command::Unclaim { sequence, .. }
            | Command::Fence { sequence }
            | Command::DropClaims { sequence }
            | Command::Forget { sequence, .. } => visit(sequence),
            Command::Look | Command::Next | Command::Renew | Command::Remove { .. } => {}
        }
    }
}

fn rename_sequences(world: &mut World) {
    let mut in_use = 0_u64;
    each_sequence(world, |sequence| in_use |= 1 << *sequence);
    let rank = |sequence: u8| {
        let below = (in_use & ((1 << sequence) - 1)).count_ones() * 2;
        u8::try_from(below + u32::from(in_use & 1 << sequence != 0)).unwrap_or(u8::MAX)
    };
    each_sequence(world, |sequence| *sequence = rank(*sequence));
    let slots = &mut world.slots;
    slots.clock.sequence = rank(slots.clock.sequence);
    slots.index.fence = rank(slots.index.fence);
    slots.index.claims = slots.index.claims.map(|claim| claim.map(rank));
    slots.objects.iter_mut().for_each(|slot| slot.fence = rank(slot.fence));
}
