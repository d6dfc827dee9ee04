//! Keeps the connection to a server: connects in the background, recovers every cache on the connection, and gives up a connection that is
//! of no more use.
//!
//! # The steps
//!
//! 1. The supervisor connects, and finds out whether the server serves ([`ServerKind::connect`]). By default a half-open breaker lets only
//!    this attempt through, and no user's request.
//! 2. The connection is published, and the breaker closes. The server serves now, but no cache may be read yet.
//! 3. Each cache is recovered (`recovery.rs`), side by side with the others, and is read from then on. A cache that takes long, or that
//!    cannot be recovered, holds up no other. Until a cache is recovered, nothing is read from it, and its invalidations go into the journal.
//!    So no read comes before a deferred invalidation is applied.
//!
//! # When a connection is given up
//!
//! A connection is given up when it ends, when the breaker opens, after a run of time-outs (a half-open socket), and on READONLY. It is also
//! given up when the server has become a replica or has another replication history, because its data may have been replaced under the
//! open connection. A heartbeat checks this once a second, whatever else goes on, so it finds a hung server even if no user does. Requests
//! that were sent on the old connection may still arrive at the server. Fences make that harmless.

use super::cache::RemoteCache;
use super::link::{Channel, Link, Live, Place, report};
use super::recovery::{Lanes, Recovery};
use super::server_kind::{Connected, ServerKind};
use super::trouble::{Awaited, Trouble, What};
use crate::breaker::Permit;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::future::Future;
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

pub(super) struct Supervisor<P: ServerKind> {
    pub(super) link: Arc<Link<P>>,
    /// How long connecting may take, and how long each reply during a recovery.
    pub(super) connect_timeout: Duration,
    pub(super) caches: Mutex<Vec<Weak<RemoteCache<P>>>>,
}

impl<P: ServerKind> Supervisor<P> {
    /// Runs until its task is aborted.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut generation = 0;
        // How often the connection was lost, or could not be made, since a cache could last be read.
        let mut failures = 0_u32;
        loop {
            let Some(permit) = self.permit_to_connect().await else { continue };
            generation += 1;
            let served = match self.connect().await {
                Ok(Connected { connection, history, ended }) => {
                    let live = Arc::new(Live::new(connection, generation, history));
                    self.link.publish(Some(live.clone()));
                    permit.success();
                    if failures == 0 {
                        tracing::info!(server = %self.server(), "connected");
                    }
                    let served = AtomicBool::new(false);
                    let why = self.attend(&live, ended, failures, &served).await;
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
                        // From an operation, such an error says nothing about the server's health. Here it keeps everybody out.
                        Some(What::Full | What::NoScript | What::WrongType | What::Fault) => {
                            permit.failure(trouble.to_string());
                        }
                        _ => report(permit, &trouble),
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

    fn server(&self) -> &str {
        self.link.kind().name()
    }

    async fn connect(&self) -> Result<Connected<P::Connection>, Trouble> {
        let connected = self.link.kind().connect(self.link.clock());
        tokio::time::timeout(self.connect_timeout, connected)
            .await
            .unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)))
    }

    /// Logs a warning when an outage begins. Further failures during the outage are logged at debug level.
    fn tell(&self, begins: bool, what: &str) {
        if begins {
            tracing::warn!(server = %self.server(), "{what}");
        } else {
            tracing::debug!(server = %self.server(), "{what}");
        }
    }

    /// Waits until the breaker lets an attempt through.
    async fn permit_to_connect(&self) -> Option<Permit<'_>> {
        match self.link.breaker().next_probe_in() {
            None => match self.link.breaker().permit() {
                Ok(permit) => return Some(permit),
                Err(_) => tokio::time::sleep(Duration::from_millis(MIN_PAUSE)).await,
            },
            Some(wait) if wait.is_zero() => match self.link.breaker().probe() {
                Some(permit) => return Some(permit),
                None => tokio::time::sleep(Duration::from_millis(MIN_PAUSE)).await,
            },
            Some(wait) => tokio::time::sleep(wait.min(Duration::from_secs(1))).await,
        }
        None
    }

    /// Looks after a published connection until it must be given up, and returns the reason. `served` becomes true once a cache can be read on
    /// the connection, or if there is no cache.
    async fn attend(
        &self,
        live: &Arc<Live<P>>,
        ended: impl Future<Output = &'static str>,
        failures: u32,
        served: &AtomicBool,
    ) -> String {
        tokio::select! {
            why = ended => why.to_owned(),
            why = self.watch(live) => why.to_owned(),
            why = self.keep_beating(live) => why.to_owned(),
            trouble = self.keep_recovered(live, failures, served) => trouble.to_string(),
        }
    }

    /// Waits until an operation finds that the connection must be given up, or the breaker opens.
    async fn watch(&self, live: &Live<P>) -> &'static str {
        loop {
            // Checked before each wait, so that a notice from before the first wait is not lost.
            if live.given_up() {
                return "errors or time-outs";
            }
            if !self.link.admits() {
                return "the circuit breaker opened";
            }
            self.link.give_up.notified().await;
        }
    }

    /// Asks the server once a second whether it is still the same server, until it is not.
    async fn keep_beating(&self, live: &Live<P>) -> &'static str {
        let mut next = Instant::now() + HEARTBEAT;
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + HEARTBEAT;
            if let Some(why) = self.link.kind().heartbeat(&self.link, &live.connection, &self.caches()).await {
                return why;
            }
        }
    }

    /// Recovers every cache as soon as it needs to be recovered, until a recovery finds that the connection is of no use.
    async fn keep_recovered(&self, live: &Arc<Live<P>>, failures: u32, served: &AtomicBool) -> Trouble {
        let trouble = match self.recover_all(live, failures, served).await {
            Err(trouble) => trouble,
            Ok(never) => match never {},
        };
        if let Ok(permit) = self.link.breaker().permit_beside() {
            report(permit, &trouble);
        }
        trouble
    }

    async fn recover_all(
        &self,
        live: &Arc<Live<P>>,
        failures: u32,
        served: &AtomicBool,
    ) -> Result<Infallible, Trouble> {
        let lanes = Arc::new(Lanes::new());
        // The recoveries are aborted when this future is dropped.
        let mut recoveries: JoinSet<Recovered<P>> = JoinSet::new();
        let mut states: HashMap<Address, State<P>> = HashMap::new();
        let mut refused = None;
        loop {
            states.retain(|_, state| !state.is_over());
            let (mut proven, mut none) = (false, true);
            for cache in self.caches() {
                (proven, none) = (proven || cache.trust.is_proven(live.generation), false);
                if cache.needs_work(live.generation)
                    && let Entry::Vacant(place) = states.entry(address(&cache))
                {
                    place.insert(State::UnderWay);
                    recoveries.spawn(self.recovery(cache, live.clone(), lanes.clone()));
                }
            }
            if (proven || none) && !served.swap(true, Ordering::Relaxed) && failures > 0 {
                tracing::info!(server = %self.server(), failures, "connected again");
            }
            if proven {
                refused = None;
            } else if recoveries.is_empty()
                && let Some(refused) = refused.take()
            {
                // No cache is recovered, and one was refused: the trouble is the connection's, not that cache's.
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
        cache: Arc<RemoteCache<P>>,
        live: Arc<Live<P>>,
        lanes: Arc<Lanes>,
    ) -> impl Future<Output = (Arc<RemoteCache<P>>, Result<(), Trouble>)> + Send + 'static {
        let within = self.connect_timeout;
        async move {
            let place = Place::default();
            let channel = Channel::Private { connection: &live.connection, within, place: &place };
            let result = Recovery { cache: &*cache, live: &*live, channel, place: &place, lanes: &lanes }.run().await;
            (cache, result)
        }
    }

    /// Notes how a recovery has ended. Returns an error only if it concerns the whole connection.
    fn ended(
        &self,
        ended: Result<Recovered<P>, JoinError>,
        states: &mut HashMap<Address, State<P>>,
        refused: &mut Option<Trouble>,
    ) -> Result<(), Trouble> {
        let (cache, result) = ended.map_err(|error| Trouble::fault(format!("a recovery has not ended: {error}")))?;
        let Err(trouble) = result else {
            states.remove(&address(&cache));
            let attempts = cache.trust.failed_recoveries.swap(0, Ordering::Relaxed);
            if attempts > 0 {
                tracing::info!(
                    server = %self.server(), cache = %cache.schema.cache, attempts,
                    "the cache is recovered, after attempts that failed"
                );
            }
            return Ok(());
        };
        match (&trouble, trouble.what()) {
            // The clock was lost again meanwhile; or the cache is recovered, and replicas have yet to confirm its journal.
            (Trouble::Unavailable | Trouble::Unconfirmed, _) => {}
            (_, Some(What::Full | What::Fault | What::WrongType | What::NoScript | What::Moving)) => {}
            (_, Some(What::Refused | What::Forbidden)) => *refused = Some(trouble.clone()),
            _ => return Err(trouble),
        }
        if cache.trust.failed_recoveries.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                server = %self.server(), cache = %cache.schema.cache,
                "the cache cannot be recovered, or what is deferred applied, and is not read until then: {trouble}"
            );
        }
        let paused = State::Paused { until: Instant::now() + RECOVERY_PAUSE, _cache: Arc::downgrade(&cache) };
        states.insert(address(&cache), paused);
        Ok(())
    }

    fn caches(&self) -> Vec<Arc<RemoteCache<P>>> {
        let mut caches = self.caches.lock();
        caches.retain(|cache| cache.strong_count() > 0);
        caches.iter().filter_map(Weak::upgrade).collect()
    }
}

/// A cache, and how its recovery has ended.
type Recovered<P> = (Arc<RemoteCache<P>>, Result<(), Trouble>);

/// Identifies a cache among all that are alive.
type Address = usize;

fn address<P: ServerKind>(cache: &Arc<RemoteCache<P>>) -> Address {
    Arc::as_ptr(cache).addr()
}

/// Why no recovery of a cache may begin now.
enum State<P: ServerKind> {
    UnderWay,
    /// The last recovery has failed. The reference keeps the cache's address from becoming another cache's.
    Paused {
        until: Instant,
        _cache: Weak<RemoteCache<P>>,
    },
}

impl<P: ServerKind> State<P> {
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
