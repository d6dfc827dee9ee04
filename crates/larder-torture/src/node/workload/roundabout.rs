//! Invalidations through a key that the cached object lists, but that the loaded state does not list.
//!
//! An invalidation forgets the object that its key leads to, and refuses loads of *that object* that began earlier. So it must fence the
//! object's primary key, too, not only the given key. If the loaded state lists the given key, the fence of that key is enough. It is not
//! enough only in this case:
//!
//! 1. A state with a host is committed, then a state without it. The first state fills the cache, as by a slow loader.
//! 2. A load takes a ticket and reads the second state.
//! 3. A get by the host shows that the host still leads to the object.
//! 4. The host is invalidated. From now on no answer may come from a load that began earlier.
//! 5. The load tries to fill the cache.
//!
//! No other task changes these instances, deletes their keys, or loads them by their hosts. So from 1 to 4 the host leads to the object,
//! with three exceptions. The cache was emptied: that refuses the load, too. The server has lost data, or evicts: the checker knows when.
//! The object has expired: after more time than [`THERE`], nothing is claimed.
//!
//! Not in PostgreSQL. There an invalidation refuses the loads of all states that list the key, and no others, which is enough for the contract:
//! the state that the load has read was the current one.

use super::super::callers::Patience;
use super::Desk;
use super::forgetting::Wish;
use super::objects::{NOBODY, host_of_its_own};
use super::reading::{Pace, load};
use crate::objects::{By, Instance, Key, Kind, State, Subject};
use crate::protocol::{Call, Led, Outcome, now};
use larder::{Delivery, Lookup};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// An object stays in the cache for at least this long after it was stored, in ns. The ages of instances are longer, even with jitter, and no
/// instance is refreshed so early.
const THERE: u64 = 1_000_000_000;

impl Desk {
    /// Runs one round after the other, with an instance that no other task changes, until the node ends.
    pub(super) async fn go_round(self: Arc<Self>, task: u32, number: u32) {
        let mut rng = self.rng(task);
        while !self.is_ending() {
            self.begins(task, "a round of invalidating through a key that was lost");
            if !self.by_primary.load(Ordering::Relaxed) {
                self.round(number, &mut rng).await;
            }
            tokio::time::sleep(Duration::from_millis(rng.u64(10..60))).await;
        }
        self.ends(task);
    }

    async fn round(&self, number: u32, rng: &mut fastrand::Rng) {
        let cache = &self.caches.instances;
        let host = host_of_its_own(number, false);
        let (id, host_key) = (Key::id(Kind::Instance, number), Key::host(host));
        let nobody = Key::id(Kind::Instance, NOBODY);
        let begins_to_load = || async {
            match cache.lookup(Instance::index(By::Id), nobody).await {
                Lookup::Miss { ticket, .. } => ticket,
                Lookup::Hit { .. } => None,
            }
        };
        // Filled by a ticket from before, and not set: a set could come after a truncate that had a later change as its reason, and could not know that.
        let Some(slow) = begins_to_load().await else { return };
        // After the ticket, as in every load: whatever has touched the object before this time must keep the fill out.
        let since = now();
        let Some(first) = self.write(number, vec![host]).await else { return };
        let Some(last) = self.write(number, Vec::new()).await else { return };
        cache.fill(Instance::new(&first, since, self.setup.node), slow).await;

        let Some(ticket) = begins_to_load().await else { return };
        let pace = Pace::instant(rng);
        let Ok(Some(loaded)) = load::<Instance>(self.source.clone(), self.setup.node, id, pace).await else { return };

        // It must be the object that was stored, and no other state of it.
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
        let (call, kind, keys) = (Call::Invalidate, Kind::Instance, vec![host_key]);
        self.forgot(Wish { call, kind, keys, sequence: last.sequence }, begun, outcome, led);
        self.get(cache, id, Patience::Endless).await;
        cache.fill(loaded, ticket).await;
        self.get(cache, id, Patience::Endless).await;
    }

    pub(super) async fn write(&self, number: u32, hosts: Vec<u32>) -> Option<State> {
        let change = self.source.change(move |writing| writing.write(Kind::Instance, number, hosts)).await.ok()?;
        change.touched.into_iter().find_map(|(_, after)| after)
    }
}
