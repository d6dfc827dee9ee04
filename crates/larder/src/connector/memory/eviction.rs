//! Which object leaves when there is no more room: S3-FIFO (Yang et al., SOSP 2023).
//!
//! A new object enters the *small* queue, a tenth of all. When it comes to its end there, it moves to the *main* queue if it
//! was used more than once meanwhile, else it leaves and its name is kept for a while as a *ghost*; what comes back while
//! it is a ghost enters main at once. In main, what was used goes round again. So a scan of objects that are
//! used once passes through the small queue and pushes out nothing that is in use, and a hit moves nothing: it counts up to
//! three in the object itself.
//!
//! Queues hold weak references: what was invalidated or replaced gives its memory back at once and leaves an empty name,
//! which is dropped when it comes to the front, or when empty names are the most.

use super::held::Held;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Weak};

#[derive(Debug, Default)]
pub(super) struct Queues {
    small: VecDeque<Weak<Held>>,
    main: VecDeque<Weak<Held>>,
    ghosts: Ghosts,
}

/// The small queue's part of all objects is one in so many.
const SMALL: usize = 10;

impl Queues {
    /// Lets a new object in; `objects` is how many there are with it.
    pub(super) fn admit(&mut self, held: &Arc<Held>, name: u64, objects: u64) {
        let entry = Arc::downgrade(held);
        if self.ghosts.remove(name) {
            self.main.push_back(entry);
        } else {
            self.small.push_back(entry);
        }
        let objects = usize::try_from(objects).unwrap_or(usize::MAX);
        if self.small.len() + self.main.len() > objects.saturating_mul(2).saturating_add(64) {
            for queue in [&mut self.small, &mut self.main] {
                queue.retain(|entry| entry.strong_count() > 0);
            }
        }
    }

    /// The object that is to leave next.
    pub(super) fn victim(&mut self) -> Option<Arc<Held>> {
        loop {
            let all = self.small.len() + self.main.len();
            if self.small.len() * SMALL >= all {
                // Empty only where main is empty too.
                let Some(held) = self.small.pop_front()?.upgrade() else { continue };
                if held.uses() > 1 {
                    held.set_uses(0);
                    self.main.push_back(Arc::downgrade(&held));
                } else {
                    self.ghosts.add(held.primary(), all);
                    return Some(held);
                }
            } else {
                let Some(held) = self.main.pop_front()?.upgrade() else { continue };
                match held.uses() {
                    0 => return Some(held),
                    uses => {
                        held.set_uses(uses - 1);
                        self.main.push_back(Arc::downgrade(&held));
                    }
                }
            }
        }
    }
}

/// Names of objects that have left lately.
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
