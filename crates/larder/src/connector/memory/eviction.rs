//! Which object leaves when there is no more room: S3-FIFO (Yang et al., SOSP 2023).
//!
//! A new object enters the *small* queue, a tenth of all. When it comes to its end there, it moves to the *main* queue if it
//! was used more than once meanwhile, else it leaves and its name is kept for a while as a *ghost*; what comes back while
//! it is a ghost enters main at once. In main, what was used goes round again. So a scan of objects that are
//! used once passes through the small queue and pushes out nothing that is in use, and a hit moves nothing: it counts up to
//! three in the object's pulse.
//!
//! Queues hold names: what was invalidated or replaced leaves an empty one, which is dropped when it comes to the front, or
//! when empty names are the most.

use super::records::{Name, Records};
use std::collections::{HashSet, VecDeque};

#[derive(Debug, Default)]
pub(super) struct Queues {
    small: VecDeque<Name>,
    main: VecDeque<Name>,
    ghosts: Ghosts,
}

/// The small queue's part of all objects is one in so many.
const SMALL: usize = 10;

impl Queues {
    /// Lets a new object in, whose primary key has this hash; `objects` is how many there are with it.
    pub(super) fn admit(&mut self, name: Name, primary: u64, objects: u64, records: &Records) {
        if self.ghosts.remove(primary) {
            self.main.push_back(name);
        } else {
            self.small.push_back(name);
        }
        let objects = usize::try_from(objects).unwrap_or(usize::MAX);
        if self.len() > objects.saturating_mul(2).saturating_add(64) {
            for queue in [&mut self.small, &mut self.main] {
                queue.retain(|name| records.named(*name).is_some());
            }
        }
    }

    /// The object that is to leave next.
    pub(super) fn victim(&mut self, records: &Records) -> Option<Name> {
        loop {
            let all = self.len();
            let from_small = self.small.len() * SMALL >= all;
            // The small queue is empty only where main is empty too.
            let name = if from_small { self.small.pop_front()? } else { self.main.pop_front()? };
            let (Some(record), Some(pulse)) = (records.named(name), records.pulse(name.id)) else { continue };
            match (from_small, pulse.uses()) {
                (true, 2..) => {
                    pulse.set_uses(0);
                    self.main.push_back(name);
                }
                (true, _) => {
                    self.ghosts.add(record.primary(), all);
                    return Some(name);
                }
                (false, 0) => return Some(name),
                (false, uses) => {
                    pulse.set_uses(uses - 1);
                    self.main.push_back(name);
                }
            }
        }
    }

    /// The names in both queues, empty ones included.
    pub(super) fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }
}

/// Hashes of the primary keys of objects that have left lately.
#[derive(Debug, Default)]
struct Ghosts {
    names: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Ghosts {
    fn add(&mut self, name: u64, most: usize) {
        if self.names.insert(name) {
            self.order.push_back(name);
        }
        while self.order.len() > most {
            let Some(oldest) = self.order.pop_front() else { return };
            self.names.remove(&oldest);
        }
    }

    /// A name that came back; its place in the order is given up when it comes to the front.
    fn remove(&mut self, name: u64) -> bool {
        self.names.remove(&name)
    }
}
