//! The one connection to a server, and who may use it.
//!
//! An operation passes three gates: the breaker, the limit on operations in flight (the breaker's permits count them), and the check that
//! there is a connection. An open breaker and a missing connection are answered at once. An operation never connects: the supervisor does
//! that in the background (`supervisor.rs`). An operation that was sent waits at most the operation time-out for its reply. One logical
//! operation, its retries included, is one outcome for the breaker.
//!
//! # A burst is not an outage
//!
//! When the limit on operations in flight is reached, a get, a lookup or a fill is shed: a miss costs a load, and no more. If a change (set,
//! invalidate, delete, truncate) was shed, it would be deferred, and this node would read nothing until it was replayed. So a change waits
//! for a place ([`WhenCrowded`]), for at most the operation time-out. The time-out for its reply begins only after that, so a change that
//! had to wait is as likely to be answered in time as any other. Changes get places in the order in which they wait, and while a change
//! waits, nothing else gets a place. When the breaker opens, waiting changes are told at once, so that a server that hangs costs them no more
//! than it costs the operations in flight. For the same reason, the breaker's ramp holds back only gets and lookups (`trust.rs`).

use super::server_kind::ServerKind;
use super::trouble::{Awaited, Trouble, What};
use crate::breaker::{Breaker, Permit, Refused};
use crate::clock::Clock;
use crate::telemetry::Latencies;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::runtime::{EnterGuard, Handle};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, Timeout, sleep_until};

/// After this many time-outs in a row a connection is given up, whatever the options of the breaker.
const TIMEOUTS_TO_RECONNECT: u32 = 5;

/// A connection in use.
pub(crate) struct Live<P: ServerKind> {
    pub(crate) connection: Arc<P::Connection>,
    /// Distinguishes this connection from all others of this process.
    pub(crate) generation: u64,
    /// The history of the server's data; 0: the server does not tell it.
    pub(crate) history: u64,
    timeouts: AtomicU32,
    given_up: AtomicBool,
}

impl<P: ServerKind> Live<P> {
    pub(crate) fn new(connection: P::Connection, generation: u64, history: u64) -> Self {
        let (timeouts, given_up) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { connection: Arc::new(connection), generation, history, timeouts, given_up }
    }

    /// Whether an operation has found that the connection must be given up.
    pub(crate) fn given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }
}

/// What becomes of an operation when the limit on operations in flight is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenCrowded {
    /// It is not sent: for gets, lookups and fills.
    Shed,
    /// It waits for a place: for changes.
    Wait,
}

/// The connection to a server, the breaker in front of it, and the time-out around each operation.
pub struct Link<P: ServerKind> {
    kind: P,
    live: ArcSwapOption<Live<P>>,
    breaker: Breaker,
    clock: Clock,
    timeout: Duration,
    /// The runtime in which the connection lives. It runs the timers of callers that are in no runtime.
    home: Handle,
    latencies: Latencies,
    /// Tells the supervisor that the connection was given up, or that the breaker has changed its state.
    pub(crate) give_up: Notify,
    /// Tells the supervisor that a cache has something to recover or replay.
    pub(crate) work: Notify,
}

impl<P: ServerKind> Link<P> {
    pub(crate) fn new(kind: P, breaker: Breaker, clock: Clock, timeout: Duration, home: Handle) -> Self {
        let (give_up, work) = (Notify::new(), Notify::new());
        let (live, latencies) = (ArcSwapOption::empty(), Latencies::default());
        Self { kind, live, breaker, clock, timeout, home, latencies, give_up, work }
    }

    /// The kind of server, as the connector made it.
    pub fn kind(&self) -> &P {
        &self.kind
    }

    /// The breaker that each operation passes.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The clock of this node.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The runtime in which the connection lives.
    #[cfg(any(feature = "redis", feature = "postgres"))]
    pub(crate) fn home(&self) -> &Handle {
        &self.home
    }

    /// Callers may be in no runtime. Then timers are those of the connection's own, as long as what this returns lives.
    fn enter_home(&self) -> Option<EnterGuard<'_>> {
        Handle::try_current().is_err().then(|| self.home.enter())
    }

    /// Waits until that time. A caller need be in no runtime.
    pub(crate) fn wait_until(&self, time: Instant) -> Sleep {
        let _home = self.enter_home();
        sleep_until(time)
    }

    /// How long operations took.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    pub(crate) fn publish(&self, live: Option<Arc<Live<P>>>) {
        self.live.store(live);
    }

    /// The connection in use.
    #[must_use]
    pub fn connection(&self) -> Option<Arc<P::Connection>> {
        self.live.load().as_ref().map(|live| live.connection.clone())
    }

    /// The generation of the connection in use; 0: there is none.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.live.load().as_ref().map_or(0, |live| live.generation)
    }

    /// Whether the breaker lets operations through.
    pub(crate) fn admits(&self) -> bool {
        self.breaker.state().admits()
    }

    /// If changes must be confirmed, waits until the replicas have everything that was answered on the connection of this generation. If
    /// that connection is no longer in use, this fails. It is no outcome for the breaker: lagging replicas say nothing about the server.
    pub(crate) async fn confirm(&self, generation: u64) -> Result<(), Trouble> {
        if !self.kind.confirms() {
            return Ok(());
        }
        let Some(live) = self.live.load_full().filter(|live| live.generation == generation) else {
            return Err(Trouble::Unavailable);
        };
        let confirmed = self.kind.confirm(&live.connection, false).await;
        if let Some(What::Broken | What::ReadOnly) = confirmed.as_ref().err().and_then(Trouble::what) {
            self.give_up_on(&live);
        }
        confirmed
    }

    /// Sends a request of the heartbeat. It takes no place from a user, and is sent even when all places are taken: just then the state of the
    /// server matters.
    ///
    /// # Errors
    ///
    /// As [`operation`](Self::operation).
    pub async fn beat<T, F>(&self, send: impl FnOnce(Arc<P::Connection>) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        self.permitted(self.breaker.permit_beside(), None, send).await
    }

    /// One logical operation: permit, connection, time-out, outcome. `send` may make as many round trips as it takes; all of them happen
    /// within one operation time-out, and they are one outcome for the breaker.
    ///
    /// # Errors
    ///
    /// The error of `send`; [`Trouble::Unavailable`] or [`Trouble::Shed`] if nothing was sent; [`Trouble::TimedOut`] if a place or the reply
    /// did not come in time.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, it gives its place back and counts as no outcome. What was sent may still reach the server.
    pub async fn operation<T, F>(
        &self,
        when_crowded: WhenCrowded,
        send: impl FnOnce(Arc<P::Connection>) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        self.operation_on(None, when_crowded, send).await
    }

    /// As [`operation`](Self::operation). With a generation it is sent on that connection only.
    async fn operation_on<T, F>(
        &self,
        generation: Option<u64>,
        when_crowded: WhenCrowded,
        send: impl FnOnce(Arc<P::Connection>) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let permit = match when_crowded {
            WhenCrowded::Shed => self.breaker.permit_past_ramp(),
            WhenCrowded::Wait => match self.in_time(self.breaker.permit_when_free()).await {
                Ok(permit) => permit,
                Err(_) => return Err(Trouble::TimedOut(Awaited::Place)),
            },
        };
        self.permitted(permit, generation, send).await
    }

    /// The future, with the operation time-out around it.
    fn in_time<F: Future>(&self, future: F) -> Timeout<F> {
        let _home = self.enter_home();
        tokio::time::timeout(self.timeout, future)
    }

    async fn permitted<T, F>(
        &self,
        permit: Result<Permit<'_>, Refused>,
        generation: Option<u64>,
        send: impl FnOnce(Arc<P::Connection>) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let permit = match permit {
            Ok(permit) => permit,
            Err(Refused::Shed) => return Err(Trouble::Shed),
            Err(_) => return Err(Trouble::Unavailable),
        };
        let live = self.live.load_full().filter(|live| generation.is_none_or(|wanted| live.generation == wanted));
        let Some(live) = live else { return Err(Trouble::Unavailable) };
        let sent = self.clock.micros();
        let result = match self.in_time(send(live.connection.clone())).await {
            Ok(result) => result,
            Err(_) => Err(Trouble::TimedOut(Awaited::Reply)),
        };
        let took = self.clock.micros().saturating_sub(sent);
        self.latencies.record(took);
        self.settle(permit, &live, result.as_ref().err(), Duration::from_micros(took));
        result
    }

    fn settle(&self, permit: Permit<'_>, live: &Live<P>, trouble: Option<&Trouble>, took: Duration) {
        match trouble {
            Some(Trouble::TimedOut(awaited)) => {
                permit.failure(awaited.text());
                if live.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_TO_RECONNECT {
                    self.give_up_on(live);
                }
                return;
            }
            // The server answered, and a missing right says nothing about its health.
            Some(trouble) if trouble.what() == Some(What::Forbidden) => permit.success_after(took),
            Some(trouble) => report(permit, trouble),
            None => permit.success_after(took),
        }
        // Any reply shows that the socket is not half-open.
        if live.timeouts.load(Ordering::Relaxed) > 0 {
            live.timeouts.store(0, Ordering::Relaxed);
        }
        if let Some(What::Broken | What::ReadOnly | What::Refused | What::NotServing | What::Moved) =
            trouble.and_then(Trouble::what)
        {
            self.give_up_on(live);
        }
    }

    fn give_up_on(&self, live: &Live<P>) {
        live.given_up.store(true, Ordering::Release);
        self.give_up.notify_one();
    }
}

/// Reports to the breaker how an operation or an attempt to connect has failed.
pub(crate) fn report(permit: Permit<'_>, trouble: &Trouble) {
    match trouble {
        Trouble::Unavailable | Trouble::Shed | Trouble::Unconfirmed => permit.neutral(),
        Trouble::TimedOut(awaited) => permit.failure(awaited.text()),
        Trouble::Error { what, text } => match what {
            What::Broken | What::NotServing | What::Busy | What::ReadOnly => permit.failure(text.clone()),
            What::Moved | What::Moving => permit.neutral(),
            // A right that is missing while connecting, or in every cache, keeps everybody out.
            What::Refused | What::Forbidden => permit.refusal(text.clone()),
            // The server answered, so it is healthy.
            What::Full | What::NoScript | What::WrongType | What::Fault => permit.success(),
        },
    }
}

/// How a request is sent: like the operations of users, or beside the breaker.
pub enum Channel<'a, P: ServerKind> {
    /// With the breaker's permission. It waits for a place.
    Shared(&'a Link<P>),
    /// As `Shared`, but only on the connection of this generation: for requests that must all reach one and the same server. After a
    /// reconnect the server may have other data.
    Pinned {
        /// The connection to the server.
        link: &'a Link<P>,
        /// The generation of the connection in use: [`Link::generation`].
        generation: u64,
    },
    /// Beside the breaker: during a recovery.
    Private {
        /// The connection on which it is sent.
        connection: &'a Arc<P::Connection>,
        /// How long a reply may take.
        within: Duration,
        /// Its place among those that give the server work at the same time.
        place: &'a Place,
    },
}

/// The place of a recovery among those that give the server work at the same time. Who [only waits](Channel::wait_until) gives it up.
#[derive(Debug, Default)]
pub struct Place(Mutex<Option<OwnedSemaphorePermit>>);

impl Place {
    /// Waits until there is room. The place is given up when what this returns is dropped, or earlier.
    pub(super) async fn take(&self, room: &Arc<Semaphore>) -> impl Drop + Send + '_ {
        *self.0.lock() = room.clone().acquire_owned().await.ok();
        Taken(self)
    }

    fn give_up(&self) {
        drop(self.0.lock().take());
    }
}

struct Taken<'a>(&'a Place);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl<P: ServerKind> Channel<'_, P> {
    /// Sends one operation.
    ///
    /// # Errors
    ///
    /// As [`Link::operation`]. On a private channel, the error of `send`, or [`Trouble::TimedOut`].
    pub async fn run<T, F>(&self, send: impl FnOnce(Arc<P::Connection>) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        match self {
            Self::Shared(link) => link.operation(WhenCrowded::Wait, send).await,
            Self::Pinned { link, generation } => link.operation_on(Some(*generation), WhenCrowded::Wait, send).await,
            Self::Private { connection, within, .. } => tokio::time::timeout(*within, send((*connection).clone()))
                .await
                .unwrap_or(Err(Trouble::TimedOut(Awaited::Connection))),
        }
    }

    /// Waits until that time, and asks the server nothing meanwhile. A caller need be in no runtime.
    pub async fn wait_until(&self, time: Instant) {
        match self {
            Self::Shared(link) | Self::Pinned { link, .. } => link.wait_until(time).await,
            Self::Private { place, .. } => {
                place.give_up();
                sleep_until(time).await;
            }
        }
    }
}
