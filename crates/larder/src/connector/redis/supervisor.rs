//! Keeps the connection: connects in the background, proves the server's history, replays the journals, and only then lets
//! anybody use it.
//!
//! Order, at every connect: handshake → PING and a canary script → each cache's clock is compared with what is known → each
//! journal is replayed → the connection is published → the breaker closes. So no read can come before what was deferred,
//! and the breaker's half-open state is spent on the supervisor's own commands, never on a user's request.
//!
//! A cache that cannot be recovered, because its clock is damaged or its keys are forbidden, keeps nobody else waiting: the
//! connection is published without it, nothing is read from it or sent to it, and it is tried again. What is deferred while a replay
//! is under way is replayed after the connection was published; until then its cache is not read either.
//!
//! A connection is given up when it ends, when the breaker opens, after a run of time-outs (a half-open socket), on
//! READONLY, and when the server turns out to have become a replica or to have another replication history: its data may have
//! been replaced under an open connection. Once a second it is asked, which also finds a hung server before a user does. What
//! was already sent on a connection may still arrive at the server; fences make that harmless.

use super::handshake::{Driver, field, reach, text};
use super::link::{Link, Live, Private, judge};
use super::recovery::recover;
use super::store::Store;
use super::trouble::{Trouble, What};
use crate::breaker::Permit;
use crate::config::RedisConfig;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The pause after the first failed attempt to connect, in ms; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: u64 = 50;
const MAX_PAUSE: u64 = 2_000;

/// How long the supervisor waits before it looks at a refused replay again, in ms.
const REPLAY_PAUSE: u64 = 500;

/// How often the server is asked whether it is still the one it was.
const HEARTBEAT: Duration = Duration::from_secs(1);

pub(super) struct Supervisor {
    pub(super) link: Arc<Link>,
    pub(super) config: RedisConfig,
    pub(super) stores: Mutex<Vec<Weak<Store>>>,
}

impl Supervisor {
    /// Runs until its task is aborted.
    pub(super) async fn run(self: Arc<Self>) {
        let mut generation = 0;
        let mut failures = 0_u32;
        loop {
            let Some(permit) = self.permit_to_connect().await else { continue };
            generation += 1;
            match self.establish(generation).await {
                Ok((live, driver, recovery)) => {
                    failures = 0;
                    self.link.publish(Some(live.clone()));
                    permit.success();
                    tracing::info!(server = %self.config.address, "connected");
                    let why = self.attend(&live, driver, recovery).await;
                    self.link.publish(None);
                    tracing::warn!(server = %self.config.address, "the connection is given up: {why}");
                }
                Err(trouble) => {
                    tracing::warn!(server = %self.config.address, "cannot connect: {trouble}");
                    match trouble.what() {
                        // Of an operation it would say nothing of the server's health; but here it keeps everybody out.
                        Some(What::Full | What::NoScript | What::WrongType | What::Fault) => {
                            permit.failure(trouble.to_string());
                        }
                        _ => judge(permit, &trouble),
                    }
                    failures = failures.saturating_add(1);
                    let pause = (MIN_PAUSE << failures.min(10)).min(MAX_PAUSE);
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(pause / 2..=pause))).await;
                }
            }
        }
    }

    /// Waits until the breaker lets an attempt through.
    async fn permit_to_connect(&self) -> Option<Permit<'_>> {
        match self.link.breaker.next_probe_in() {
            None => match self.link.breaker.permit() {
                Ok(permit) => return Some(permit),
                Err(_) => tokio::time::sleep(Duration::from_millis(MIN_PAUSE)).await,
            },
            Some(wait) if wait.is_zero() => match self.link.breaker.probe() {
                Some(permit) => return Some(permit),
                None => tokio::time::sleep(Duration::from_millis(MIN_PAUSE)).await,
            },
            Some(wait) => tokio::time::sleep(wait.min(Duration::from_secs(1))).await,
        }
        None
    }

    /// A connection that has passed everything, the task that ends with it, and how far the caches were recovered on it.
    async fn establish(&self, generation: u64) -> Result<(Arc<Live>, Driver, Recovery), Trouble> {
        let (live, driver) = reach(&self.config, &self.link.clock, generation).await?;
        let recovery = self.work(&live).await?;
        Ok((live, driver, recovery))
    }

    /// Serves a published connection until it must go, and says why it must.
    async fn attend(&self, live: &Arc<Live>, mut driver: Driver, mut recovery: Recovery) -> String {
        let mut pause_until = 0;
        let mut beat = tokio::time::Instant::now() + HEARTBEAT;
        loop {
            // Looked at before each wait: what was told before this connection was attended is not lost.
            if live.given_up() {
                return "errors or time-outs".to_owned();
            }
            if !self.link.admits() {
                return "the circuit breaker opened".to_owned();
            }
            if recovery == Recovery::Stalled {
                pause_until = self.link.clock.now() + REPLAY_PAUSE;
                recovery = Recovery::Done;
            }
            let pause = Duration::from_millis(pause_until.saturating_sub(self.link.clock.now()));
            if pause.is_zero() && self.stores().iter().any(|store| store.needs_work(live.generation)) {
                recovery = match self.work(live).await {
                    Ok(recovery) => recovery,
                    Err(trouble) => {
                        if let Ok(permit) = self.link.breaker.permit_past_ramp() {
                            judge(permit, &trouble);
                        }
                        return trouble.to_string();
                    }
                };
                if recovery == Recovery::Stalled {
                    continue;
                }
            }
            tokio::select! {
                () = driver.ended() => return "the server closed it".to_owned(),
                () = self.link.give_up.notified() => {}
                () = self.link.work.notified() => {}
                () = tokio::time::sleep(pause), if !pause.is_zero() => {}
                () = tokio::time::sleep_until(beat) => {
                    beat = tokio::time::Instant::now() + HEARTBEAT;
                    if let Some(why) = self.beat(live).await {
                        return why;
                    }
                }
            }
        }
    }

    /// Asks the server whether it is still the one it was. Why the connection must go, if it is not. An error is an outcome
    /// for the breaker, as any other operation's.
    async fn beat(&self, live: &Live) -> Option<String> {
        self.link.keep_time().await;
        if live.identity.replication.is_none() {
            let _ = self.link.beat(&redis::cmd("PING")).await;
            return None;
        }
        let mut info = redis::cmd("INFO");
        info.arg("replication");
        let replication = text(self.link.beat(&info).await.ok()?)?;
        if field(&replication, "role") == Some("slave") {
            Some("the server has become a replica".to_owned())
        } else if field(&replication, "master_replid") != live.identity.replication.as_deref() {
            Some("the server's replication history has changed".to_owned())
        } else {
            None
        }
    }

    /// Recovers every cache that has not been recovered on this connection, and replays what is in the journals. An error is one
    /// of the connection.
    async fn work(&self, live: &Arc<Live>) -> Result<Recovery, Trouble> {
        let caller = Private { live, timeout: self.config.connect_timeout };
        let mut refused = None;
        let mut recovery = Recovery::Done;
        for store in self.stores().into_iter().filter(|store| store.needs_work(live.generation)) {
            let Err(trouble) = recover(&store, &caller).await else { continue };
            match (&trouble, trouble.what()) {
                // Its clock was lost again meanwhile; or it is recovered but for what replicas have yet to confirm.
                (Trouble::Unavailable | Trouble::Unconfirmed, _) => {}
                (_, Some(What::Full | What::Fault | What::WrongType | What::NoScript)) => {}
                (_, Some(What::Refused)) => refused = Some(trouble.clone()),
                _ => return Err(trouble),
            }
            tracing::warn!(
                server = %self.config.address, cache = %store.schema.cache,
                "the cache cannot be recovered, or what is deferred applied, and is not read until then: {trouble}"
            );
            recovery = Recovery::Stalled;
        }
        match refused {
            // Nobody is let in: that is not one cache's trouble.
            Some(trouble) if !self.stores().iter().any(|store| store.is_proven(live.generation)) => Err(trouble),
            _ => Ok(recovery),
        }
    }

    fn stores(&self) -> Vec<Arc<Store>> {
        let mut stores = self.stores.lock();
        stores.retain(|store| store.strong_count() > 0);
        stores.iter().filter_map(Weak::upgrade).collect()
    }
}

/// How far the caches were recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    Done,
    /// Some could not be, and are to be tried again after a pause.
    Stalled,
}
