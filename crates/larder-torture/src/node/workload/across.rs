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
use tokio::time::{Instant, sleep, timeout};

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
        // The row of the object goes, and that of its key stays. A sweep that found the former would wait for the fill that writes it.
        self.end_generations(&watch).await?;
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
        // The transaction of that fill, by what it waits for: other nodes hold fills, too.
        let holder: u32 = hostile.number("SELECT pg_backend_pid()").await?;
        let waiting = format!(
            "SELECT format('pid = %s AND xact_start = %L', pid, xact_start) FROM pg_stat_activity WHERE {holder} = ANY (pg_blocking_pids(pid))"
        );
        let end = Instant::now() + HELD;
        let fill = loop {
            if let Some(fill) = watch.column(&waiting).await?.pop() {
                break fill;
            }
            if filling.is_finished() || Instant::now() > end {
                // It was refused, or it did not come this far.
                return Ok(());
            }
            sleep(Duration::from_millis(2)).await;
        };
        // It may wait behind the fill: then the lock has to be given back first.
        let changing = self.change_own(number);
        tokio::pin!(changing);
        let changed = timeout(HELD, &mut changing).await.is_ok();
        if changed {
            self.end_generations(&watch).await?;
        }
        hostile.run("ROLLBACK").await?;
        if !changed {
            changing.await;
        }
        let _ = filling.await;
        // The caller of the fill may have given up long ago: wait until the fill itself has ended.
        let is_under_way = format!("SELECT count(*) FROM pg_stat_activity WHERE {fill}");
        let end = Instant::now() + HELD;
        while watch.number::<u32>(&is_under_way).await? > 0 && Instant::now() < end {
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

    /// Ends the generations of all tickets that are accepted now, and sweeps their fences, unless a fill keeps them.
    async fn end_generations(&self, session: &Sql) -> Result<(), SqlError> {
        let generation = "SELECT generation FROM larder.clock";
        let before: u32 = session.number(generation).await?;
        let end = Instant::now() + HELD;
        while session.number::<u32>(generation).await? < before + 3 && Instant::now() < end && !self.is_ending() {
            session.run("SELECT larder.turn()").await?;
            session.run("SELECT larder.sweep(1000)").await?;
            sleep(Duration::from_millis(5)).await;
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
