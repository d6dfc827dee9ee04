//! Fills that arrive late, in PostgreSQL: over a crash, over the end of generations, and held in the database between their check and their commit.
//!
//! A late fill, for an instance that no other task changes:
//!
//! 1. A load takes a ticket, and reads the state.
//! 2. The state changes, and the instance is invalidated.
//! 3. Time passes: some generations, or until the server has crashed and is there again.
//! 4. The load tries to fill the cache. Whatever has become of the fence, the state must not be served.
//!
//! A held fill: another session locks the row of the instance's secondary key. The fill passes its check, and waits for that row. Meanwhile the instance
//! changes and is invalidated, and generations may end. Then the lock is given back, and the fill commits.

use super::super::callers::Patience;
use super::forgetting::Wish;
use super::objects::{NOBODY, host_of_its_own};
use super::reading::{Pace, load};
use super::{Desk, lock};
use crate::objects::{By, Instance, Key, Kind, Subject};
use crate::postgres::{Sql, SqlError};
use crate::protocol::{Call, Outcome, Store, now};
use larder::protection::Protection;
use larder::{Delivery, Entry as _, Lookup};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a crash is waited for.
const CRASH: Duration = Duration::from_secs(4);

/// How long a fill may take to wait for the lock, and generations to end meanwhile.
const HELD: Duration = Duration::from_millis(800);

impl Desk {
    /// Runs one round after the other, with an instance that no other task changes, until the node ends. Only one task of a node holds fills: what is sent
    /// behind them has to wait.
    pub(super) async fn go_across(self: Arc<Self>, task: u32, number: u32, holds: bool) {
        let mut rng = self.rng(task);
        let pause = if self.setup.without.is_some() { 10..100 } else { 100..1_000 };
        while !self.is_ending() {
            self.begins(task, "a fill that arrives late");
            let held = holds && (self.is_without(Protection::Drain) || rng.u32(..4) == 0);
            if held {
                // An error is an outage.
                let _ = self.hold_a_fill(task, number, &mut rng).await;
            } else {
                self.fill_late(task, number, &mut rng).await;
            }
            self.recorder.rests(task);
            sleep(Duration::from_millis(rng.u64(pause.clone()))).await;
        }
        self.ends(task);
    }

    async fn fill_late(&self, task: u32, number: u32, rng: &mut fastrand::Rng) {
        let cache = &self.caches.instances;
        let Some((loaded, ticket)) = self.load_own(number, rng).await else { return };
        self.change_own(number).await;
        if rng.bool() && !self.is_without(Protection::Epoch) {
            sleep(Duration::from_millis(rng.u64(20..700))).await;
        } else {
            self.wait_while(CRASH, || self.caches.readable()).await;
            self.wait_while(CRASH, || !self.caches.readable()).await;
        }
        cache.fill(loaded, ticket).await;
        self.begins(task, "a get after a fill that arrived late");
        self.get(cache, Key::id(Kind::Instance, number), Patience::Endless).await;
    }

    async fn hold_a_fill(&self, task: u32, number: u32, rng: &mut fastrand::Rng) -> Result<(), SqlError> {
        let Store::Postgres { direct, .. } = &self.setup.store else { return Ok(()) };
        let cache = &self.caches.instances;
        // There must be a row to lock.
        let Some((loaded, ticket)) = self.load_own(number, rng).await else { return Ok(()) };
        cache.fill(loaded, ticket).await;
        self.change_own(number).await;
        // Not through the node's proxies: a network that swallows the end of the session would let it hold its lock for ever.
        let (hostile, watch) = (Sql::connect(direct).await?, Sql::connect(direct).await?);
        let host = Key::host(host_of_its_own(number, false));
        hostile
            .run(&format!(
                "BEGIN; SELECT FROM larder.keys WHERE mark = larder.mark('{}', '{}', convert_to('{}', 'UTF8')) FOR UPDATE",
                Instance::CACHE,
                host.by.name(),
                host.text()
            ))
            .await?;
        let Some((loaded, ticket)) = self.load_own(number, rng).await else { return Ok(()) };
        let filling = {
            let cache = cache.clone();
            tokio::spawn(async move { cache.fill(loaded, ticket).await })
        };
        let end = Instant::now() + HELD;
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%larder.store(%'";
        while watch.number::<u32>(waits).await? == 0 && Instant::now() < end {
            sleep(Duration::from_millis(2)).await;
        }
        self.change_own(number).await;
        let turned = "SELECT generation FROM larder.clock";
        let before: u32 = watch.number(turned).await?;
        let end = Instant::now() + HELD;
        while watch.number::<u32>(turned).await? < before + 3 && Instant::now() < end {
            sleep(Duration::from_millis(5)).await;
        }
        hostile.run("ROLLBACK").await?;
        let _ = filling.await;
        // The caller of the fill may have given up long ago: wait until the fill itself has ended.
        let end = Instant::now() + HELD;
        while watch.number::<u32>(waits).await? > 0 && Instant::now() < end {
            sleep(Duration::from_millis(2)).await;
        }
        self.wait_while(HELD, || !self.caches.readable()).await;
        for _ in 0..4 {
            self.begins(task, "a get after a fill that was held");
            self.get(cache, Key::id(Kind::Instance, number), Patience::Endless).await;
            sleep(Duration::from_millis(30)).await;
        }
        Ok(())
    }

    /// Writes the instance, and loads it with a ticket from before that.
    async fn load_own(&self, number: u32, rng: &mut fastrand::Rng) -> Option<(Instance, larder::Ticket)> {
        if lock(&self.own_hosts).insert(number) {
            self.write(number, vec![host_of_its_own(number, false)]).await?;
        }
        let nobody = Key::id(Kind::Instance, NOBODY);
        let looked_up = self.caches.instances.lookup(Instance::index(By::Id), nobody).await;
        let Lookup::Miss { ticket: Some(ticket), .. } = looked_up else { return None };
        let pace = Pace::instant(rng);
        let loaded = load::<Instance>(self.source.clone(), self.setup.node, Key::id(Kind::Instance, number), pace);
        Some((loaded.await.ok()??, ticket))
    }

    /// Writes a new state of the instance, and invalidates the instance.
    async fn change_own(&self, number: u32) {
        let host = host_of_its_own(number, false);
        let Some(state) = self.write(number, vec![host]).await else { return };
        let key = Key::id(Kind::Instance, number);
        let begun = now();
        let outcome = match self.caches.instances.invalidate(Instance::index(By::Id), [key]).await {
            Ok(Delivery::Applied) => Outcome::Applied,
            Ok(Delivery::Deferred) => Outcome::Deferred,
            Err(_) => return,
        };
        let wish = Wish { call: Call::Invalidate, kind: Kind::Instance, keys: vec![key], sequence: state.sequence };
        self.forgot(wish, begun, outcome, None);
    }

    fn is_without(&self, protection: Protection) -> bool {
        self.setup.without.as_deref() == Some(protection.name())
    }

    async fn wait_while(&self, most: Duration, is_so: impl Fn() -> bool) {
        let end = Instant::now() + most;
        while is_so() && Instant::now() < end && !self.is_ending() {
            sleep(Duration::from_millis(5)).await;
        }
    }
}
