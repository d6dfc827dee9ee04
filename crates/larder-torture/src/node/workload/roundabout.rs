//! Invalidations through a key that the object in the cache lists, and the state that a load has read meanwhile does not list.
//!
//! An invalidation forgets the object that its key leads to, and refuses loads of *that object* which have begun before: so it fences the
//! object's primary key as well as the key it was given. Where the loaded state lists the given key, the fence of that key alone would
//! do. Only here does it not:
//!
//! 1. a state with a host is committed, and set;
//! 2. a state without it is committed; a load takes a ticket and reads that state; another change is committed;
//! 3. a get by the host shows that it leads to the object still;
//! 4. the host is invalidated: from now on no answer may come from a load that began before;
//! 5. the load fills the cache, if it is let in.
//!
//! Nobody else changes these instances, deletes their keys, or loads them by their hosts. So from 1 to 4 the host leads to the object
//! unless the whole cache was emptied, which refuses the load as well, or the server has evicted, or the object has expired. The
//! checker knows of the former, and of the latter the time that has passed.

use super::super::callers::Patience;
use super::Desk;
use super::forgetting::Wish;
use super::objects::{NOBODY, host_of_its_own, roundabout};
use super::reading::{Pace, load};
use crate::objects::{By, Instance, Key, Kind, State, Subject};
use crate::protocol::{Call, Led, Outcome, now};
use larder::{Delivery, Lookup, Stored};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// An object that was set is there for at least so long, in ns. The ages of instances are longer than that, even with jitter, and none is
/// loaded ahead of its time so early.
const THERE: u64 = 1_000_000_000;

impl Desk {
    /// One round after the other, until the node ends.
    pub(super) async fn go_round(self: Arc<Self>, task: u32) {
        let mut rng = self.rng(task);
        while !self.is_ending() {
            for number in roundabout(&self.setup) {
                self.begins(task, "a round of invalidating through a key that was lost");
                if !self.by_primary.load(Ordering::Relaxed) {
                    self.round(number, &mut rng).await;
                }
                tokio::time::sleep(Duration::from_millis(rng.u64(2..20))).await;
            }
        }
        self.ends(task);
    }

    async fn round(&self, number: u32, rng: &mut fastrand::Rng) {
        let cache = &self.caches.instances;
        let host = host_of_its_own(number, false);
        let (id, host_key) = (Key::id(Kind::Instance, number), Key::host(host));
        let Some(first) = self.write(number, vec![host]).await else { return };
        let since = now();
        let stored = cache.set(Instance::new(&first, since, self.setup.node)).await;
        let outcome = if stored == Stored::Unavailable { Outcome::Deferred } else { Outcome::Applied };
        let wish = |call, keys, sequence| Wish { call, kind: Kind::Instance, keys, sequence };
        self.forgot(wish(Call::Set, first.keys().collect(), first.sequence), since, outcome, None);

        if self.write(number, Vec::new()).await.is_none() {
            return;
        }
        let nobody = Key::id(Kind::Instance, NOBODY);
        let Lookup::Miss { ticket: Some(ticket), .. } = cache.lookup(Instance::index(By::Id), nobody).await else {
            return;
        };
        let pace = Pace::instant(rng);
        let Ok(Some(loaded)) = load::<Instance>(self.source.clone(), self.setup.node, id, pace).await else { return };
        let Some(last) = self.write(number, Vec::new()).await else { return };

        // The object that was set, and no other.
        let there = cache.get(Instance::index(By::Host), host_key).await;
        let leads = there.is_some_and(|object| object.body().born == since && object.body().by == self.setup.node);
        let begun = now();
        let invalidated = cache.invalidate(Instance::index(By::Host), [host_key]).await;
        let outcome = match invalidated {
            Ok(Delivery::Applied) => Outcome::Applied,
            Ok(Delivery::Deferred) => Outcome::Deferred,
            Err(_) => return,
        };
        let certain = leads && outcome == Outcome::Applied && now().saturating_sub(since) < THERE;
        let led = certain.then_some(Led { to: id, since });
        self.forgot(wish(Call::Invalidate, vec![host_key], last.sequence), begun, outcome, led);
        self.get(cache, id, Patience::Endless).await;
        cache.fill(loaded, ticket).await;
        self.get(cache, id, Patience::Endless).await;
    }

    async fn write(&self, number: u32, hosts: Vec<u32>) -> Option<State> {
        let change = self.source.change(move |writing| writing.write(Kind::Instance, number, hosts)).await.ok()?;
        change.touched.into_iter().find_map(|(_, after)| after)
    }
}
