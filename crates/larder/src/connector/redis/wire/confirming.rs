//! Strict mode: a change counts as applied once `wait_replicas` replicas have it.
//!
//! WAIT holds up its connection until it is answered, and all operations share one connection. So WAIT has a second connection of its
//! own. When the server has answered a script on the first connection, the caller joins a *round* on the second. A round is one write
//! and then one WAIT, for all callers that have joined since the last round began. The write comes after all their changes in the
//! replication stream. So gets are never held up, and however many callers wait, they share two round trips and one wait.
//!
//! # What a round proves
//!
//! `wait_replicas` replicas have everything that the server answered on the first connection before the round began. This holds because
//! both connections lead to the same server: larder checks that when it makes them, and gives both up when either ends.
//!
//! # Replicas that lag
//!
//! A round that has waited in vain fails for all its callers, and for the callers that have joined the next round meanwhile. For more
//! than a second after that no caller waits: changes are sent, and deferred at once. The supervisor replays the journal twice a second,
//! and so finds out when the replicas are back. Replicas that are gone so cost a caller one wait, and then nothing.

use super::connection::{Connection, Identity};
use super::replies::bytes;
use crate::clock::Clock;
use crate::connector::redis::options::RedisOptions;
use crate::connector::redis::scripts;
use crate::connector::remote::{Trouble, What};
use crate::telemetry::{Ended, Episode};
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// After a round that failed, callers do not wait for this time, in ms, plus the time that a round may take. The supervisor has asked
/// again by then.
const PAUSE: u64 = 1_000;

/// The second connection, and the task that runs the rounds on it.
pub(crate) struct Confirming {
    joining: mpsc::UnboundedSender<Joined>,
    clock: Clock,
    /// Until this time of the clock, callers do not wait: the replicas lag.
    lagging_until: Arc<AtomicU64>,
    rounds: AbortHandle,
}

/// A caller that has joined the next round, and waits for its result.
type Joined = oneshot::Sender<Result<(), Trouble>>;

impl Drop for Confirming {
    fn drop(&mut self) {
        self.rounds.abort();
    }
}

/// What a round needs to ask the server.
struct Asking {
    server: String,
    connection: MultiplexedConnection,
    key: String,
    replicas: u32,
    patience: Duration,
    /// How long the reply may take in all: `patience`, and the time-out of an operation.
    within: Duration,
}

impl Confirming {
    pub(crate) fn begin(connection: MultiplexedConnection, config: &RedisOptions, spare: &str, clock: Clock) -> Self {
        let (joining, joined) = mpsc::unbounded_channel();
        let lagging_until = Arc::new(AtomicU64::new(0));
        let asking = Asking {
            server: config.address.to_string(),
            connection,
            key: key(spare),
            replicas: config.wait_replicas,
            patience: config.wait_timeout,
            within: config.wait_timeout.saturating_add(config.operation_timeout),
        };
        let rounds = tokio::spawn(rounds(asking, joined, lagging_until.clone(), clock.clone())).abort_handle();
        Self { joining, clock, lagging_until, rounds }
    }

    /// Waits until the replicas have everything that the server has answered on the first connection. While the replicas lag, this
    /// is an error at once, unless the caller is `patient`.
    pub(crate) async fn confirm(&self, patient: bool) -> Result<(), Trouble> {
        if !patient && self.clock.now() < self.lagging_until.load(Ordering::Acquire) {
            return Err(Trouble::Unconfirmed);
        }
        let (joined, round) = oneshot::channel();
        let gone = || Trouble::Error { what: What::Broken, text: "the connection for WAIT has ended".to_owned() };
        self.joining.send(joined).map_err(|_| gone())?;
        round.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Runs one round after the other, until the connection is given up.
async fn rounds(
    asking: Asking,
    mut joined: mpsc::UnboundedReceiver<Joined>,
    lagging_until: Arc<AtomicU64>,
    clock: Clock,
) {
    let pause = PAUSE + asking.within.as_millis() as u64;
    let mut lagging = Episode::default();
    while let Some(first) = joined.recv().await {
        let mut everybody = vec![first];
        while let Ok(next) = joined.try_recv() {
            everybody.push(next);
        }
        let result = asking.round().await;
        let ended = match &result {
            Ok(()) => lagging.end_after(clock.now(), 0),
            Err(trouble) => {
                if lagging.count(clock.now(), everybody.len() as u64) {
                    let server = &*asking.server;
                    tracing::warn!(%server, error = %trouble, "replicas do not confirm: changes are deferred until they do");
                }
                None
            }
        };
        if let Some(Ended { entries: unconfirmed, lasted_ms }) = ended {
            tracing::info!(server = %asking.server, unconfirmed, lasted_ms, "replicas confirm again");
        }
        if result.is_ok() {
            lagging_until.store(0, Ordering::Release);
        } else {
            lagging_until.store(clock.now() + pause, Ordering::Release);
            while let Ok(next) = joined.try_recv() {
                everybody.push(next);
            }
        }
        for joined in everybody {
            // An error means that the caller has gone away. What it waited for is in the journal.
            let _ = joined.send(result.clone());
        }
    }
}

impl Asking {
    async fn round(&self) -> Result<(), Trouble> {
        let mut commands = Pipeline::with_capacity(2);
        let mut write = scripts::CONFIRM.by_code();
        write.arg(1).arg(&self.key).arg("");
        let mut wait = redis::cmd("WAIT");
        // A time-out of 0 would mean: wait for ever.
        wait.arg(self.replicas).arg(self.patience.as_millis().max(1) as u64);
        commands.add_command(write).add_command(wait);
        let mut connection = self.connection.clone();
        let replies = connection.send_packed_commands(&commands, 0, 2);
        let replies = match tokio::time::timeout(self.within, replies).await {
            Ok(replies) => replies?,
            Err(_) => return Err(Trouble::Unconfirmed),
        };
        match replies.as_slice() {
            [Value::ServerError(error), _] | [_, Value::ServerError(error)] => {
                Err(Trouble::from(RedisError::from(error.clone())))
            }
            [_, Value::Int(confirmed)] if *confirmed >= i64::from(self.replicas) => Ok(()),
            _ => Err(Trouble::Unconfirmed),
        }
    }
}

/// The key that a round writes. It holds nothing, and belongs to no cache.
fn key(spare: &str) -> String {
    format!("{spare}::w")
}

/// Makes sure that the second connection leads to the same server as the first. If the server does not tell its identity, this writes
/// a token on the first connection and reads it on the second.
pub(crate) async fn same_server(
    spare: &str,
    (first, one): (&Connection, &Identity),
    (second, other): (&Connection, &Identity),
) -> Result<(), Trouble> {
    let same = if one.history != 0 {
        one.history == other.history
    } else {
        let token = format!("{:016x}", fastrand::u64(..));
        let mut write = scripts::CONFIRM.by_code();
        write.arg(1).arg(key(spare)).arg(&token);
        first.send(&write).await?;
        let mut read = redis::cmd("GET");
        read.arg(key(spare));
        bytes(second.send(&read).await?).is_some_and(|found| found == token.as_bytes())
    };
    let text = || "the connection for WAIT led to another server".to_owned();
    if same { Ok(()) } else { Err(Trouble::Error { what: What::Broken, text: text() }) }
}
