//! Which object leaves when there is no more room: S3-FIFO (Yang et al., SOSP 2023).
//!
//! A new object enters the *small* queue, which holds a tenth of all objects. An object that comes to the front of the small queue
//! moves to the *main* queue if it was used more than once meanwhile. Otherwise the object leaves, and the hash of its primary key is
//! kept for a while as a *ghost*. An object that comes back while its ghost is there enters the main queue at once. An object at the
//! front of the main queue goes to the back again if it was used, and leaves otherwise.
//!
//! So a scan, which uses each object once, passes through the small queue and pushes out no object that is in use. A hit moves no
//! object between queues: it only counts, up to three, in the object's pulse.
//!
//! Queues hold names. The name of an object that was invalidated or replaced stays behind as an empty name. Empty names are dropped
//! when they come to the front, or all at once when they outnumber the objects.

use super::records::{Name, Records};
use std::collections::{HashSet, VecDeque};

#[derive(Debug, Default)]
pub(super) struct Queues {
    small: VecDeque<Name>,
    main: VecDeque<Name>,
    ghosts: Ghosts,
}

/// The small queue holds one in ten objects.
const SMALL: usize = 10;

impl Queues {
    /// Lets a new object in. `primary` is the hash of its primary key; `objects` is the number of objects, the new one included.
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

    /// The object that is to leave next. It is taken out of its queue.
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

/// Hashes of the primary keys of objects that have left the small queue lately.
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

    /// Removes the ghost of an object that came back. Its hash stays in `order` until it comes to the front. Returns whether there was
    /// a ghost.
    fn remove(&mut self, name: u64) -> bool {
        self.names.remove(&name)
    }
}
