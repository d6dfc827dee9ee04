//! Keeps the connection to a server: connects in the background, sees to it that every cache is recovered on it, and gives it up when it is
//! of no more use.
//!
//! # In this order
//!
//! 1. Handshake, PING, a canary script (`handshake.rs`). Half-open, the breaker lets only the supervisor do this, never a user's request.
//! 2. The connection is published, and the breaker closes. The server serves; which caches may be read is another question.
//! 3. Each cache is recovered (`recovery.rs`), side by side with the others, and is read from then on. A cache that takes long, or that
//!    cannot be recovered at all, holds up no other. Until a cache is recovered nothing is read from it, and what is to be forgotten goes
//!    into its journal. So no read can come before what was deferred.
//!
//! # When a connection is given up
//!
//! When it ends, when the breaker opens, after a run of time-outs (a half-open socket), on READONLY, and when the server turns out to have
//! become a replica or to have another replication history: its data may have been replaced under an open connection. A heartbeat
//! asks for that once a second, whatever else goes on, and so finds a hung server before a user does. What was already sent on a connection
//! may still arrive at the server; fences make that harmless.

use crate::breaker::Permit;
use crate::connector::redis::options::RedisOptions;
use crate::connector::redis::single::Store;
use crate::connector::redis::wire::connect::{Driver, field, reach, text};
use crate::connector::redis::wire::link::{Link, Live, Private, judge};
use crate::connector::redis::wire::trouble::{Trouble, What};
use crate::connector::remote::recovery::{Lanes, recover};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// The pause after the first failed attempt to connect, in ms; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: u64 = 50;
const MAX_PAUSE: u64 = 1_000;

/// How long a cache that could not be recovered is left alone before it is tried again.
const RECOVERY_PAUSE: Duration = Duration::from_millis(500);

/// How often the server is asked whether it is still the one it was.
const HEARTBEAT: Duration = Duration::from_secs(1);

pub(crate) struct Supervisor {
    pub(crate) link: Arc<Link>,
    pub(crate) config: RedisOptions,
    pub(crate) stores: Mutex<Vec<Weak<Store>>>,
}

impl Supervisor {
    /// Runs until its task is aborted.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut generation = 0;
        // How often the connection was lost, or could not be made, since a cache could last be read.
        let mut failures = 0_u32;
        loop {
            let Some(permit) = self.permit_to_connect().await else { continue };
            generation += 1;
            let served = match reach(&self.config, &self.link.clock, generation).await {
                Ok((live, driver)) => {
                    self.link.publish(Some(live.clone()));
                    permit.success();
                    if failures == 0 {
                        tracing::info!(server = %self.config.address, "connected");
                    }
                    let served = AtomicBool::new(false);
                    let why = self.attend(&live, driver, failures, &served).await;
                    self.link.publish(None);
                    let served = served.into_inner();
                    if served {
                        failures = 0;
                    }
                    self.tell(failures == 0, &format!("the connection is given up: {why}"));
                    served
                }
                Err(trouble) => {
                    self.tell(failures == 0, &format!("cannot connect: {trouble}"));
                    match trouble.what() {
                        // Of an operation it would say nothing of the server's health; but here it keeps everybody out.
                        Some(What::Full | What::NoScript | What::WrongType | What::Fault) => {
                            permit.failure(trouble.to_string());
                        }
                        _ => judge(permit, &trouble),
                    }
                    false
                }
            };
            failures = failures.saturating_add(1);
            if !served {
                let pause = (MIN_PAUSE << failures.min(10)).min(MAX_PAUSE);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(pause / 2..=pause))).await;
            }
        }
    }

    /// Tells an operator that an outage has begun; what happens again during the outage is told to nobody but a debugger.
    fn tell(&self, begins: bool, what: &str) {
        if begins {
            tracing::warn!(server = %self.config.address, "{what}");
        } else {
            tracing::debug!(server = %self.config.address, "{what}");
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

    /// Looks after a published connection until it must go, and says why it must. `served` becomes true once a cache can be read on it.
    async fn attend(&self, live: &Arc<Live>, mut driver: Driver, failures: u32, served: &AtomicBool) -> String {
        tokio::select! {
            () = driver.ended() => "the server closed it".to_owned(),
            why = self.watch(live) => why.to_owned(),
            why = self.keep_beating(live) => why.to_owned(),
            trouble = self.keep_recovered(live, failures, served) => trouble.to_string(),
        }
    }

    /// Waits until an operation has found that the connection must go, or the breaker has opened.
    async fn watch(&self, live: &Live) -> &'static str {
        loop {
            // Looked at before each wait: what was told before this connection was attended is not lost.
            if live.given_up() {
                return "errors or time-outs";
            }
            if !self.link.admits() {
                return "the circuit breaker opened";
            }
            self.link.give_up.notified().await;
        }
    }

    /// Asks the server once a second whether it is still the one it was, until it is not.
    async fn keep_beating(&self, live: &Live) -> &'static str {
        let mut next = Instant::now() + HEARTBEAT;
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + HEARTBEAT;
            if let Some(why) = self.beat(live).await {
                return why;
            }
        }
    }

    /// Why the connection must go, if the server is another one now. An error is an outcome for the breaker, as any other operation's.
    async fn beat(&self, live: &Live) -> Option<&'static str> {
        self.link.keep_time().await;
        self.link.keep_rights().await;
        if live.identity.replication.is_none() {
            let _ = self.link.beat(&redis::cmd("PING")).await;
            return None;
        }
        let mut info = redis::cmd("INFO");
        info.arg("replication");
        let replication = text(self.link.beat(&info).await.ok()?)?;
        if field(&replication, "role") == Some("slave") {
            Some("the server has become a replica")
        } else if field(&replication, "master_replid") != live.identity.replication.as_deref() {
            Some("the server's replication history has changed")
        } else {
            None
        }
    }

    /// Recovers every cache that needs it, as soon as it does, until one finds that the connection is of no use.
    async fn keep_recovered(&self, live: &Arc<Live>, failures: u32, served: &AtomicBool) -> Trouble {
        let trouble = match self.recover_all(live, failures, served).await {
            Err(trouble) => trouble,
            Ok(never) => match never {},
        };
        if let Ok(permit) = self.link.breaker.permit_beside() {
            judge(permit, &trouble);
        }
        trouble
    }

    async fn recover_all(&self, live: &Arc<Live>, failures: u32, served: &AtomicBool) -> Result<Infallible, Trouble> {
        let lanes = Arc::new(Lanes::new());
        // Ended with this future, wherever they are.
        let mut recoveries: JoinSet<(Arc<Store>, Result<(), Trouble>)> = JoinSet::new();
        let mut states: HashMap<Address, State> = HashMap::new();
        let mut refused = None;
        loop {
            states.retain(|_, state| !state.is_over());
            let (mut proven, mut none) = (false, true);
            for store in self.stores() {
                (proven, none) = (proven || store.is_proven(live.generation), false);
                if store.needs_work(live.generation)
                    && let Entry::Vacant(place) = states.entry(address(&store))
                {
                    place.insert(State::UnderWay);
                    recoveries.spawn(self.recovery(store, live.clone(), lanes.clone()));
                }
            }
            if (proven || none) && !served.swap(true, Ordering::Relaxed) && failures > 0 {
                tracing::info!(server = %self.config.address, failures, "connected again");
            }
            if proven {
                refused = None;
            } else if recoveries.is_empty()
                && let Some(refused) = refused.take()
            {
                // Nobody is let in: that is not one cache's trouble.
                return Err(refused);
            }
            let paused = states.values().filter_map(State::until).min();
            tokio::select! {
                Some(ended) = recoveries.join_next(), if !recoveries.is_empty() => {
                    let mut next = Some(ended);
                    while let Some(ended) = next {
                        self.ended(ended, &mut states, &mut refused)?;
                        next = recoveries.try_join_next();
                    }
                }
                () = self.link.work.notified() => {}
                () = tokio::time::sleep_until(paused.unwrap_or_else(Instant::now)), if paused.is_some() => {}
            }
        }
    }

    /// The recovery of one cache, as a task of its own.
    fn recovery(
        &self,
        store: Arc<Store>,
        live: Arc<Live>,
        lanes: Arc<Lanes>,
    ) -> impl Future<Output = (Arc<Store>, Result<(), Trouble>)> + Send + 'static {
        let timeout = self.config.connect_timeout;
        async move {
            let result = recover(&store, &Private { live: &live, timeout }, &lanes).await;
            (store, result)
        }
    }

    /// Notes how a recovery has ended. An error is one of the connection.
    fn ended(
        &self,
        ended: Result<(Arc<Store>, Result<(), Trouble>), JoinError>,
        states: &mut HashMap<Address, State>,
        refused: &mut Option<Trouble>,
    ) -> Result<(), Trouble> {
        let (store, result) = ended.map_err(|error| Trouble::fault(format!("a recovery has not ended: {error}")))?;
        let Err(trouble) = result else {
            states.remove(&address(&store));
            let attempts = store.failed_recoveries.swap(0, Ordering::Relaxed);
            if attempts > 0 {
                tracing::info!(
                    server = %self.config.address, cache = %store.schema.cache, attempts,
                    "the cache could not be recovered, and is now"
                );
            }
            return Ok(());
        };
        match (&trouble, trouble.what()) {
            // Its clock was lost again meanwhile; or it is recovered but for what replicas have yet to confirm.
            (Trouble::Unavailable | Trouble::Unconfirmed, _) => {}
            (_, Some(What::Full | What::Fault | What::WrongType | What::NoScript)) => {}
            (_, Some(What::Refused | What::Forbidden)) => *refused = Some(trouble.clone()),
            _ => return Err(trouble),
        }
        if store.failed_recoveries.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                server = %self.config.address, cache = %store.schema.cache,
                "the cache cannot be recovered, or what is deferred applied, and is not read until then: {trouble}"
            );
        }
        let paused = State::Paused { until: Instant::now() + RECOVERY_PAUSE, _store: Arc::downgrade(&store) };
        states.insert(address(&store), paused);
        Ok(())
    }

    fn stores(&self) -> Vec<Arc<Store>> {
        let mut stores = self.stores.lock();
        stores.retain(|store| store.strong_count() > 0);
        stores.iter().filter_map(Weak::upgrade).collect()
    }
}

/// Tells a cache from all others that are alive.
type Address = usize;

fn address(store: &Arc<Store>) -> Address {
    Arc::as_ptr(store).addr()
}

/// Why a cache that needs to be recovered is not to be taken up now.
enum State {
    UnderWay,
    /// It could not be recovered. The reference keeps its address from becoming another cache's.
    Paused {
        until: Instant,
        _store: Weak<Store>,
    },
}

impl State {
    fn until(&self) -> Option<Instant> {
        match self {
            Self::UnderWay => None,
            Self::Paused { until, .. } => Some(*until),
        }
    }

    fn is_over(&self) -> bool {
        self.until().is_some_and(|until| until <= Instant::now())
    }
}
