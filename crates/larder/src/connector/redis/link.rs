//! The one multiplexed connection to a server, and who may use it.
//!
//! An operation passes three gates: the breaker, the cap on operations in flight (the breaker's permits count it), and whether there is a
//! connection at all. The breaker and the missing connection answer at once. Connecting is never an operation's business: the
//! supervisor does it in the background (`supervisor.rs`). An operation that was sent waits at most the operation time-out for its reply,
//! and one logical operation, its retry after NOSCRIPT included, is one outcome for the breaker.
//!
//! # A burst is not an outage
//!
//! Where as many operations are in flight as may be, a get, a lookup or a fill is shed: a miss costs a load, and no more. A change (set,
//! invalidate, delete, truncate) that was shed would be a deferred one, and this node would read nothing until it was replayed. So a change waits
//! for a place ([`WhenCrowded`]), for at most the operation time-out, *before* the time-out for its reply begins: a change that had to wait
//! is as likely to be answered in time as any other. Those who wait are served in their order, and while somebody waits nobody else
//! is let in. They are told at once when the breaker opens, so that a server which hangs costs them no more than it costs the operations
//! in flight. The breaker's ramp holds back gets and lookups only (`store.rs`), for the same reason.

use super::confirming::Confirming;
use super::rights::{Missing, Rights};
use super::scripts::Script;
use super::trouble::{Awaited, Trouble, What};
use crate::breaker::{Breaker, Permit, Refused};
use crate::clock::Clock;
use crate::telemetry::Latencies;
use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Timeout;

mod parcel;

pub(super) use parcel::{Parcel, Wire};

/// A connection that is given up after so many time-outs in a row, whatever the breaker is set to.
const TIMEOUTS_TO_RECONNECT: u32 = 5;

/// Which server it is, as far as it says so.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// The history of its data; 0 where it does not say.
    pub(super) history: u64,
    /// Its replication history alone, by which a change is noticed while the connection is open.
    pub(super) replication: Option<String>,
    /// Which rights the user lacks there, where that can be told.
    pub(super) missing: Option<Missing>,
}

/// A connection whose handshake is done.
pub(super) struct Live {
    connection: MultiplexedConnection,
    /// Distinguishes this connection from all others of this process.
    pub(super) generation: u64,
    /// Distinguishes this connection from all others that the server may have heard of (`log.lua`).
    pub(super) name: u64,
    pub(super) identity: Identity,
    /// In strict mode: who asks the replicas.
    confirming: Option<Confirming>,
    timeouts: AtomicU32,
    given_up: AtomicBool,
    /// How far the server's clock is ahead of this node's at most, in ms; [`UNKNOWN`] where nobody has asked.
    ahead: AtomicI64,
}

const UNKNOWN: i64 = i64::MIN;

impl Live {
    pub(super) fn new(
        connection: MultiplexedConnection,
        generation: u64,
        identity: Identity,
        confirming: Option<Confirming>,
    ) -> Self {
        let (timeouts, given_up, ahead) = (AtomicU32::new(0), AtomicBool::new(false), AtomicI64::new(UNKNOWN));
        let name = fastrand::u64(1..);
        Self { connection, generation, name, identity, confirming, timeouts, given_up, ahead }
    }

    /// Whether an operation has found that the connection must go.
    pub(super) fn given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// In strict mode, waits until the replicas have all that was answered on this connection.
    pub(super) async fn confirm(&self, patient: bool) -> Result<(), Trouble> {
        match &self.confirming {
            Some(confirming) => confirming.confirm(patient).await,
            None => Ok(()),
        }
    }

    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Trouble> {
        Ok(self.connection.clone().send_packed_command(command).await?.extract_error()?)
    }
}

/// What becomes of an operation where as many are in flight as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenCrowded {
    /// It is not sent.
    Shed,
    /// It waits for a place.
    Wait,
}

pub(super) struct Link {
    live: ArcSwapOption<Live>,
    pub(super) breaker: Breaker,
    pub(super) clock: Clock,
    timeout: Duration,
    /// Whether what changes is confirmed by replicas before it counts as applied.
    pub(super) strict: bool,
    /// Where the connection lives: it keeps the time for callers that are in no runtime.
    home: Handle,
    pub(super) latencies: Latencies,
    /// Tells the supervisor to look whether the connection must go: it was given up, or the breaker has opened.
    pub(super) give_up: Notify,
    /// Tells the supervisor that a cache has something to recover or replay.
    pub(super) work: Notify,
    /// Whether anybody needs to know the time of the server.
    needs_time: AtomicBool,
    pub(super) rights: Rights,
}

impl Link {
    pub(super) fn new(
        breaker: Breaker,
        clock: Clock,
        timeout: Duration,
        strict: bool,
        home: Handle,
        rights: Rights,
    ) -> Self {
        let (give_up, work) = (Notify::new(), Notify::new());
        let (live, latencies) = (ArcSwapOption::empty(), Latencies::default());
        let needs_time = AtomicBool::new(false);
        Self { live, breaker, clock, timeout, strict, home, latencies, give_up, work, needs_time, rights }
    }

    pub(super) fn publish(&self, live: Option<Arc<Live>>) {
        if let Some(missing) = live.as_ref().and_then(|live| live.identity.missing) {
            self.rights.learn(missing);
        }
        self.live.store(live);
    }

    /// The generation of the connection in use; 0 where there is none.
    pub(super) fn generation(&self) -> u64 {
        self.live.load().as_ref().map_or(0, |live| live.generation)
    }

    /// Whether the breaker lets operations through.
    pub(super) fn admits(&self) -> bool {
        self.breaker.state().admits()
    }

    /// In strict mode, waits until the replicas have what was answered on the connection of this generation, if it is still in use.
    /// No outcome for the breaker: that replicas lag says nothing of the server.
    pub(super) async fn confirm(&self, generation: u64) -> Result<(), Trouble> {
        if !self.strict {
            return Ok(());
        }
        let Some(live) = self.live.load_full().filter(|live| live.generation == generation) else {
            return Err(Trouble::Unavailable);
        };
        let confirmed = live.confirm(false).await;
        if let Some(What::Broken | What::ReadOnly) = confirmed.as_ref().err().and_then(Trouble::what) {
            self.give_up_on(&live);
        }
        confirmed
    }

    /// The server's clock, in ms: it is not later than this. Asked for at first, and by the heartbeat from then on, so that it is no
    /// more behind than a reply takes.
    pub(super) async fn server_time(&self) -> Option<u64> {
        let known = |live: &Live| match live.ahead.load(Ordering::Relaxed) {
            UNKNOWN => None,
            ahead => self.clock.now().checked_add_signed(ahead),
        };
        let live = self.live.load_full()?;
        if let Some(time) = known(&live) {
            return Some(time);
        }
        self.needs_time.store(true, Ordering::Relaxed);
        self.ask_time().await;
        known(&live)
    }

    /// What the heartbeat does for [`server_time`](Self::server_time).
    pub(super) async fn keep_time(&self) {
        if self.needs_time.load(Ordering::Relaxed) {
            self.ask_time().await;
        }
    }

    /// What the heartbeat does for [`rights`](Self::rights).
    pub(super) async fn keep_rights(&self) {
        if !self.rights.are_due(self.clock.now()) {
            return;
        }
        let reply = self.beat(&self.rights.question()).await;
        self.rights.answered(reply.ok().as_ref().and_then(Missing::told_by), &self.clock);
    }

    async fn ask_time(&self) {
        let Some(live) = self.live.load_full() else { return };
        let sent = self.clock.now();
        let Ok(Value::Array(time)) = self.beat(&redis::cmd("TIME")).await else { return };
        let number = |place: usize| match time.get(place) {
            Some(Value::BulkString(digits)) => std::str::from_utf8(digits).ok()?.parse::<i64>().ok(),
            _ => None,
        };
        let (Some(seconds), Some(micros), Ok(sent)) = (number(0), number(1), i64::try_from(sent)) else { return };
        // Read by the server after it was asked; rounded up.
        live.ahead.store(seconds.saturating_mul(1000) + micros / 1000 + 1 - sent, Ordering::Relaxed);
    }

    /// Sends one command.
    pub(super) async fn call(&self, when_crowded: WhenCrowded, command: &Cmd) -> Result<Value, Trouble> {
        self.operation(when_crowded, |live| async move { live.send(command).await }).await
    }

    /// Runs a script; its code is sent where the server does not know it yet.
    pub(super) async fn script(
        &self,
        when_crowded: WhenCrowded,
        script: &Script,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, Trouble> {
        self.operation(when_crowded, |live| run(live, script, arguments)).await
    }

    /// The same; the arguments are told the name of the connection that the script is sent on.
    pub(super) async fn script_on(
        &self,
        when_crowded: WhenCrowded,
        script: &Script,
        arguments: impl Fn(&mut Cmd, u64),
    ) -> Result<Value, Trouble> {
        self.operation(when_crowded, |live| {
            let name = live.name;
            run(live, script, move |call| arguments(call, name))
        })
        .await
    }

    /// Sends several commands in one go; each has its own reply, which may be an error of that command alone. One that says
    /// something of the server or of us is that of the whole operation.
    pub(super) async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        self.operation(WhenCrowded::Shed, |live| send_all(live, commands)).await
    }

    /// One command, and then a script, in one go. A server that takes no writes, or not from us, may have answered the command all the
    /// same. The arguments are told the name of the connection.
    pub(super) async fn command_and_script(
        &self,
        when_crowded: WhenCrowded,
        command: Cmd,
        script: &Script,
        arguments: impl Fn(&mut Cmd, u64),
    ) -> Result<(Value, Result<Value, Trouble>), Trouble> {
        self.operation(when_crowded, |live| async move {
            let mut commands = Pipeline::with_capacity(2);
            let mut call = script.by_hash();
            let name = live.name;
            let arguments = |call: &mut Cmd| arguments(call, name);
            arguments(&mut call);
            commands.add_command(command).add_command(call);
            let mut replies = live.connection.clone().send_packed_commands(&commands, 0, 2).await?.into_iter();
            let (Some(first), Some(second)) = (replies.next(), replies.next()) else {
                return Err(Trouble::Error { what: What::Broken, text: "two commands had fewer replies".to_owned() });
            };
            let first = first.extract_error()?;
            let second = match second.extract_error().map_err(Trouble::from) {
                Err(trouble) if trouble.what() == Some(What::NoScript) => run_code(live, script, &arguments).await,
                other => other,
            };
            match second {
                Err(trouble) if !matches!(trouble.what(), Some(What::Full | What::Forbidden)) => Err(trouble),
                second => Ok((first, second)),
            }
        })
        .await
    }

    /// Sends one command of the heartbeat, which takes no place from a user, and is sent also when all places are taken: that is when
    /// one wants to know.
    pub(super) async fn beat(&self, command: &Cmd) -> Result<Value, Trouble> {
        self.permitted(self.breaker.permit_beside(), |live| async move { live.send(command).await }).await
    }

    /// The same for several commands, each of which has its own reply, which may be an error of that command alone.
    pub(super) async fn beat_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        self.permitted(self.breaker.permit_beside(), |live| send_all(live, commands)).await
    }

    /// One logical operation: permit, connection, time-out, outcome.
    async fn operation<T, F>(&self, when_crowded: WhenCrowded, send: impl FnOnce(Arc<Live>) -> F) -> Result<T, Trouble>
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
        self.permitted(permit, send).await
    }

    /// A future that is waited for no longer than the operation time-out.
    fn in_time<F: Future>(&self, future: F) -> Timeout<F> {
        let _home = Handle::try_current().is_err().then(|| self.home.enter());
        tokio::time::timeout(self.timeout, future)
    }

    async fn permitted<T, F>(
        &self,
        permit: Result<Permit<'_>, Refused>,
        send: impl FnOnce(Arc<Live>) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let permit = match permit {
            Ok(permit) => permit,
            Err(Refused::Shed) => return Err(Trouble::Shed),
            Err(_) => return Err(Trouble::Unavailable),
        };
        let Some(live) = self.live.load_full() else { return Err(Trouble::Unavailable) };
        let sent = self.clock.micros();
        let result = match self.in_time(send(live.clone())).await {
            Ok(result) => result,
            Err(_) => Err(Trouble::TimedOut(Awaited::Reply)),
        };
        let took = self.clock.micros().saturating_sub(sent);
        self.latencies.record(took);
        self.settle(permit, &live, result.as_ref().err(), Duration::from_micros(took));
        result
    }

    fn settle(&self, permit: Permit<'_>, live: &Live, trouble: Option<&Trouble>, took: Duration) {
        match trouble {
            Some(Trouble::TimedOut(awaited)) => {
                permit.failure(awaited.text());
                if live.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_TO_RECONNECT {
                    self.give_up_on(live);
                }
                return;
            }
            // The server answered, and a right that is missing is no sign of its health.
            Some(trouble) if trouble.what() == Some(What::Forbidden) => permit.success_after(took),
            Some(trouble) => judge(permit, trouble),
            None => permit.success_after(took),
        }
        // Any reply shows that the socket is not half-open.
        if live.timeouts.load(Ordering::Relaxed) > 0 {
            live.timeouts.store(0, Ordering::Relaxed);
        }
        if let Some(What::Broken | What::ReadOnly | What::Refused | What::NotServing) = trouble.and_then(Trouble::what)
        {
            self.give_up_on(live);
        }
    }

    fn give_up_on(&self, live: &Live) {
        live.given_up.store(true, Ordering::Release);
        self.give_up.notify_one();
    }
}

/// The first error among the replies to several commands that says something of the server or of us, not of its command alone.
fn grave(replies: &[Value]) -> Option<Trouble> {
    let errors = replies.iter().filter_map(|reply| match reply {
        Value::ServerError(error) => Some(Trouble::from(RedisError::from(error.clone()))),
        _ => None,
    });
    errors.into_iter().find(|trouble| !trouble.is_of_its_command())
}

async fn send_all(live: Arc<Live>, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
    let replies = live.connection.clone().send_packed_commands(commands, 0, commands.len()).await?;
    grave(&replies).map_or(Ok(replies), Err)
}

async fn run(live: Arc<Live>, script: &Script, arguments: impl Fn(&mut Cmd)) -> Result<Value, Trouble> {
    let mut call = script.by_hash();
    arguments(&mut call);
    match live.send(&call).await {
        Err(trouble) if trouble.what() == Some(What::NoScript) => run_code(live, script, &arguments).await,
        other => other,
    }
}

async fn run_code(live: Arc<Live>, script: &Script, arguments: &impl Fn(&mut Cmd)) -> Result<Value, Trouble> {
    let mut call = script.by_code();
    arguments(&mut call);
    live.send(&call).await
}

/// Tells the breaker how an operation or an attempt to connect went wrong.
pub(super) fn judge(permit: Permit<'_>, trouble: &Trouble) {
    match trouble {
        Trouble::Unavailable | Trouble::Shed | Trouble::Unconfirmed => permit.neutral(),
        Trouble::TimedOut(awaited) => permit.failure(awaited.text()),
        Trouble::Error { what, text } => match what {
            What::Broken | What::NotServing | What::Busy | What::ReadOnly => permit.failure(text.clone()),
            // A right that is missing while connecting, or in every cache, keeps everybody out.
            What::Refused | What::Forbidden => permit.refusal(text.clone()),
            // The server answered; what is wrong is not its health.
            What::Full | What::NoScript | What::WrongType | What::Fault => permit.success(),
        },
    }
}

/// What the supervisor sends while the connection is not yet anybody else's: the same, without the breaker.
pub(super) struct Private<'a> {
    pub(super) live: &'a Arc<Live>,
    pub(super) timeout: Duration,
}

impl Private<'_> {
    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, Trouble> {
        self.within(self.live.send(command)).await
    }

    pub(super) async fn script(&self, script: &Script, arguments: impl Fn(&mut Cmd)) -> Result<Value, Trouble> {
        self.within(run(self.live.clone(), script, arguments)).await
    }

    /// Sends several commands in one go; each has its own reply, which may be an error.
    pub(super) async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        self.within(async { Ok(self.live.connection.clone().send_packed_commands(commands, 0, commands.len()).await?) })
            .await
    }

    async fn within<T>(&self, send: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        tokio::time::timeout(self.timeout, send).await.unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)))
    }
}
