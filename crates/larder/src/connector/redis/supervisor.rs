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

use super::clearing::{self, Head, bytes};
use super::confirming::{self, Confirming};
use super::link::{Identity, Link, Live, Private, judge};
use super::store::Store;
use super::trouble::{Trouble, What};
use crate::breaker::Permit;
use crate::clock::Clock;
use crate::config::{Address, RedisConfig};
use crate::connector::Ticket;
use crate::protection::{Protection, holds};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, Value};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use xxhash_rust::xxh3::xxh3_64;

/// The pause after the first failed attempt to connect, in ms; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: u64 = 50;
const MAX_PAUSE: u64 = 2_000;

/// How long the supervisor waits before it looks at a refused replay again, in ms.
const REPLAY_PAUSE: u64 = 500;

/// How often the server is asked whether it is still the one it was.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Commands that may wait to be written, and bytes of them: room for a burst, not for an outage.
const WRITE_QUEUE: usize = 1024;

/// The oldest server whose scripts can free and fence while it is out of memory.
const OLDEST: (u32, u32) = (7, 0);

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

/// Whether what the server holds may be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Trust,
    /// It may be from before invalidations that the server has lost.
    Clear,
    /// So many releases have left their schema in the clock that this one finds no place: the list is begun anew, and with
    /// it the cache, since an invalidation reaches only the objects of releases that are listed.
    Renumber,
}

/// Judges the clock on a new connection. `history` is 0 where the server does not say.
fn verdict(head: Head, history: u64, newest: Option<Ticket>) -> Verdict {
    let went_back = newest.is_some_and(|newest| newest.epoch == head.epoch && head.sequence < newest.sequence);
    // Where the server does not say, another epoch may be that of a clearing since, or one from before the last.
    let another_history = match history {
        0 => newest.is_some_and(|newest| newest.epoch != head.epoch),
        _ => head.history != history,
    };
    let (went_back, another_history) = match holds(Protection::History) {
        true => (went_back, another_history),
        false => (false, false),
    };
    if head.epoch == 0 || !head.settled || went_back || another_history {
        Verdict::Clear
    } else if !head.registered {
        Verdict::Renumber
    } else {
        Verdict::Trust
    }
}

async fn recover(store: &Store, caller: &Private<'_>) -> Result<(), Trouble> {
    let live = caller.live;
    let doubts = store.doubts();
    let mut head = clearing::register(caller, &store.layout).await?;
    match verdict(head, live.identity.history, store.newest()) {
        Verdict::Trust => {}
        Verdict::Clear => {
            if head.epoch != 0 {
                tracing::warn!(
                    cache = %store.schema.cache,
                    "the server's history is not the one known (restart, restored data, or a clearing that did not end): clearing the cache"
                );
                store.schema.stats.resets.increment();
            }
            head = clearing::clear(caller, &store.layout, live.identity.history).await?;
        }
        Verdict::Renumber => {
            tracing::warn!(cache = %store.schema.cache, "the list of releases is full: clearing the cache to begin a new one");
            store.schema.stats.resets.increment();
            head = clearing::clear_and_forget_schemas(caller, &store.layout, live.identity.history).await?;
        }
    }
    // Once: what is deferred meanwhile, perhaps without end, waits until others may use the connection, and are deferred no more.
    let waiting = store.journal.waiting(store.sent_until(live.generation));
    if let Some(waiting) = &waiting {
        if waiting.truncate {
            head = clearing::clear(caller, &store.layout, live.identity.history).await?;
        } else {
            for run in waiting.keys.chunk_by(|(_, a), (_, b)| a == b) {
                for batch in run.chunks(128) {
                    let Some((_, what)) = batch.first() else { continue };
                    let keys: Vec<_> = batch.iter().map(|(key, _)| key.clone()).collect();
                    store.forget(caller, &keys, *what).await?;
                }
            }
        }
        store.has_sent(live.generation, waiting.until);
    }
    store.saw(Ticket { epoch: head.epoch, sequence: head.sequence });
    store.registered(if head.registered { head.epoch } else { 0 });
    store.prove(live.generation, live.identity.history, doubts);
    if let Some(waiting) = waiting {
        // What replicas have yet to confirm stays in the journal, which keeps this node from reading; what comes is sent all the same.
        live.confirm(true).await?;
        let entries = store.journal.replayed(waiting.until);
        store.schema.stats.replayed.add(entries);
        tracing::info!(cache = %store.schema.cache, entries, "journal replayed");
    }
    Ok(())
}

/// A connection to a server that serves, and the task that ends with it.
pub(super) async fn reach(
    config: &RedisConfig,
    clock: &Clock,
    generation: u64,
) -> Result<(Arc<Live>, Driver), Trouble> {
    let within = config.connect_timeout;
    let (connection, mut driver) =
        tokio::time::timeout(within, connect(config)).await.map_err(|_| Trouble::TimedOut).flatten()?;
    let greeting = Arc::new(Live::new(connection.clone(), generation, Identity::default(), None));
    let identity = greet(&Private { live: &greeting, timeout: within }, config).await?;
    if config.wait_replicas == 0 {
        return Ok((Arc::new(Live::new(connection, generation, identity, None)), driver));
    }
    let (second, second_driver) =
        tokio::time::timeout(within, connect(config)).await.map_err(|_| Trouble::TimedOut).flatten()?;
    let other = Arc::new(Live::new(second.clone(), generation, Identity::default(), None));
    let other_identity = greet(&Private { live: &other, timeout: within }, config).await?;
    let prepare = async {
        confirming::same_server(config, (&greeting, &identity), (&other, &other_identity)).await?;
        // What may not be asked is found out here, not with the first invalidation.
        let mut wait = redis::cmd("WAIT");
        wait.arg(0).arg(1);
        other.send(&wait).await
    };
    tokio::time::timeout(within, prepare).await.map_err(|_| Trouble::TimedOut).flatten()?;
    let confirming = Confirming::begin(second, config, clock.clone());
    driver.second = Some(Box::new(second_driver));
    Ok((Arc::new(Live::new(connection, generation, identity, Some(confirming))), driver))
}

/// The task that reads and writes the socket; it ends with the connection, and the connection with it.
pub(super) struct Driver {
    task: tokio::task::JoinHandle<()>,
    /// In strict mode, that of the connection for WAIT.
    second: Option<Box<Driver>>,
}

impl Driver {
    /// Until either connection has ended.
    async fn ended(&mut self) {
        match &mut self.second {
            None => drop((&mut self.task).await),
            Some(second) => tokio::select! {
                _ = &mut self.task => {}
                _ = &mut second.task => {}
            },
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(config: &RedisConfig) -> Result<(MultiplexedConnection, Driver), Trouble> {
    match handshake(config, ProtocolVersion::RESP3).await {
        // A server, or a proxy, that does not know HELLO is not ill: it speaks RESP2.
        Err(trouble) if trouble.what() == Some(What::Fault) => handshake(config, ProtocolVersion::RESP2).await,
        other => other,
    }
}

async fn handshake(
    config: &RedisConfig,
    protocol: ProtocolVersion,
) -> Result<(MultiplexedConnection, Driver), Trouble> {
    let broken = |error: std::io::Error| Trouble::Error { what: What::Broken, text: error.to_string() };
    match &config.address {
        Address::Tcp { host, port } => {
            let stream = tokio::net::TcpStream::connect((host.as_str(), *port)).await.map_err(broken)?;
            tune(&stream, config.connect_timeout).map_err(broken)?;
            multiplex(config, protocol, stream).await
        }
        #[cfg(unix)]
        Address::Unix(path) => {
            let stream = tokio::net::UnixStream::connect(path).await.map_err(broken)?;
            multiplex(config, protocol, stream).await
        }
        #[cfg(not(unix))]
        Address::Unix(_) => Err(Trouble::fault("Unix sockets are not available on this system")),
    }
}

/// No Nagle delay, and the kernel notices a dead peer on an idle or stuck connection.
fn tune(stream: &tokio::net::TcpStream, patience: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(3));
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(patience.max(Duration::from_secs(1)) * 5))?;
    let _ = patience;
    Ok(())
}

async fn multiplex(
    config: &RedisConfig,
    protocol: ProtocolVersion,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(MultiplexedConnection, Driver), Trouble> {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(protocol)
        .set_db(i64::from(config.database))
        .set_lib_name("larder", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &config.username {
        info = info.set_username(username);
    }
    if let Some(password) = &config.password {
        info = info.set_password(password.expose());
    }
    let options = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(WRITE_QUEUE);
    let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, options).await?;
    Ok((connection, Driver { task: tokio::spawn(driver), second: None }))
}

/// Makes sure that the server serves, runs scripts and is not too old; answers which one it is.
async fn greet(caller: &Private<'_>, config: &RedisConfig) -> Result<Identity, Trouble> {
    if let Some(name) = &config.client_name {
        let mut set = redis::cmd("CLIENT");
        set.arg("SETNAME").arg(name);
        // A name is a courtesy; a server that does not know the command, or does not allow it, serves all the same.
        tolerated(caller.call(&set).await)?;
    }
    caller.call(&redis::cmd("PING")).await?;
    let mut canary = redis::cmd("EVAL");
    canary.arg("return 1").arg(0);
    match caller.call(&canary).await? {
        Value::Int(1) => {}
        other => return Err(Trouble::fault(format!("a script that returns 1 returned {other:?}"))),
    }
    let Some(server) = info(caller, "server").await? else {
        tracing::warn!(server = %config.address, "the server does not answer INFO: a restart is recognised by its clock only");
        return Ok(Identity::default());
    };
    if let Some(version) = field(&server, "redis_version").and_then(version)
        && version < OLDEST
    {
        let (major, minor) = version;
        return Err(unusable(format!(
            "the server is Redis {major}.{minor}; larder needs {}.{} or later, or any Valkey",
            OLDEST.0, OLDEST.1
        )));
    }
    match field(&server, "redis_mode").or(field(&server, "server_mode")) {
        None | Some("standalone") => {}
        Some("sentinel") => return Err(unusable("this is a Sentinel, not the server it watches".to_owned())),
        Some(mode) => {
            return Err(unusable(format!(
                "the server runs in {mode} mode; this version of larder needs a standalone one"
            )));
        }
    }
    let replication = info(caller, "replication").await?.unwrap_or_default();
    let replication = field(&replication, "master_replid");
    Ok(Identity {
        history: history(field(&server, "run_id"), replication),
        replication: replication.map(str::to_owned),
    })
}

/// The history of the server's data: it ends with the process, since what comes back from a snapshot is older, and with the
/// replication history, since a replica that was promoted, or filled anew by another master, may lack the last writes. 52 bits:
/// the scripts keep it as a double. 0 where it is not known.
fn history(run: Option<&str>, replication: Option<&str>) -> u64 {
    let Some(run) = run else { return 0 };
    (xxh3_64(format!("{run} {}", replication.unwrap_or_default()).as_bytes()) >> 12).max(1)
}

async fn info(caller: &Private<'_>, section: &str) -> Result<Option<String>, Trouble> {
    let mut info = redis::cmd("INFO");
    info.arg(section);
    Ok(tolerated(caller.call(&info).await)?.and_then(text))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A server that no waiting makes fit: a person has to change something.
fn unusable(text: String) -> Trouble {
    Trouble::Error { what: What::Refused, text }
}

/// `None` where the server answered that it does not know, or does not allow, a command we can do without.
pub(super) fn tolerated(reply: Result<Value, Trouble>) -> Result<Option<Value>, Trouble> {
    match reply {
        Ok(value) => Ok(Some(value)),
        Err(trouble) => match trouble.what() {
            Some(What::Fault | What::Refused) => Ok(None),
            _ => Err(trouble),
        },
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::VerbatimString { text, .. } => Some(text),
        other => bytes(other).and_then(|bytes| String::from_utf8(bytes).ok()),
    }
}

pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { epoch: 7, sequence: 100, settled: true, history: 3, registered: true };

    #[test]
    fn data_of_the_known_history_is_trusted() {
        assert_eq!(verdict(HEAD, 3, None), Verdict::Trust);
        assert_eq!(verdict(HEAD, 3, Some(Ticket { epoch: 7, sequence: 100 })), Verdict::Trust);
        // Somebody has cleared the cache meanwhile: nothing older is left.
        assert_eq!(verdict(HEAD, 3, Some(Ticket { epoch: 6, sequence: 500 })), Verdict::Trust);
    }

    #[test]
    fn a_restart_from_a_snapshot_is_not_trusted() {
        assert_eq!(verdict(HEAD, 4, None), Verdict::Clear);
    }

    #[test]
    fn a_sequence_that_went_back_is_not_trusted() {
        assert_eq!(verdict(HEAD, 3, Some(Ticket { epoch: 7, sequence: 101 })), Verdict::Clear);
        assert_eq!(verdict(HEAD, 0, Some(Ticket { epoch: 7, sequence: 101 })), Verdict::Clear);
    }

    #[test]
    fn another_epoch_is_not_trusted_where_the_server_does_not_tell_its_history() {
        assert_eq!(verdict(HEAD, 0, None), Verdict::Trust);
        assert_eq!(verdict(HEAD, 0, Some(Ticket { epoch: 7, sequence: 100 })), Verdict::Trust);
        assert_eq!(verdict(HEAD, 0, Some(Ticket { epoch: 6, sequence: 50 })), Verdict::Clear);
    }

    #[test]
    fn a_list_of_releases_without_a_place_for_this_one_is_begun_anew() {
        assert_eq!(verdict(Head { registered: false, ..HEAD }, 3, None), Verdict::Renumber);
        assert_eq!(verdict(Head { registered: false, ..HEAD }, 4, None), Verdict::Clear, "which is looked at again");
    }

    #[test]
    fn a_restart_a_promotion_and_a_full_resynchronisation_are_other_histories() {
        let known = history(Some("run"), Some("replication"));
        assert_ne!(known, history(Some("another run"), Some("replication")));
        assert_ne!(known, history(Some("run"), Some("another replication")));
        assert_ne!(known, 0);
        assert_eq!(history(None, Some("replication")), 0);
    }

    #[test]
    fn a_missing_or_unsettled_clock_is_not_trusted() {
        assert_eq!(verdict(Head { epoch: 0, ..HEAD }, 3, None), Verdict::Clear);
        assert_eq!(verdict(Head { settled: false, ..HEAD }, 3, None), Verdict::Clear);
    }
}
