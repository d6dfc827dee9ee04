//! Strict mode: what changes counts as applied once replicas have it (`wait_replicas`).
//!
//! WAIT holds up the connection that it comes on, and everybody shares one. So there is a second connection, for nothing else:
//! once the server has answered a script on the first, its caller joins a *round* here. A round is one write, which follows in the
//! replication stream all that was answered before it, and one WAIT, for everybody who has joined since the last round
//! began. Gets are never held up, and however many wait, they share two round trips and one wait.
//!
//! # What a round proves
//!
//! That so many replicas have what was answered on the first connection before the round began, since both connections lead to the
//! same server: that is checked when they are made, and neither outlives the other.
//!
//! # Replicas that lag
//!
//! A round that has waited in vain fails, with everybody who would have been in the next. For more than a second after it nobody waits at all: what
//! changes is sent, and deferred at once. The supervisor, which replays the journal twice a second, finds out when the replicas are
//! back. So replicas that are gone cost a caller one wait, and then nothing.

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

/// After a round that failed, nobody waits for so long, in ms, and as long as a round may take: until then the supervisor has asked
/// again.
const PAUSE: u64 = 1_000;

/// The second connection, and the task that asks on it.
pub(crate) struct Confirming {
    joining: mpsc::UnboundedSender<Joined>,
    clock: Clock,
    /// Nobody waits before this.
    lagging_until: Arc<AtomicU64>,
    rounds: AbortHandle,
}

/// Somebody in the next round.
type Joined = oneshot::Sender<Result<(), Trouble>>;

impl Drop for Confirming {
    fn drop(&mut self) {
        self.rounds.abort();
    }
}

/// What a round asks.
struct Asking {
    server: String,
    connection: MultiplexedConnection,
    key: String,
    replicas: u32,
    patience: Duration,
    /// How long the server may take beyond that.
    within: Duration,
}

impl Confirming {
    pub(crate) fn begin(connection: MultiplexedConnection, config: &RedisOptions, clock: Clock) -> Self {
        let (joining, joined) = mpsc::unbounded_channel();
        let lagging_until = Arc::new(AtomicU64::new(0));
        let asking = Asking {
            server: config.address.to_string(),
            connection,
            key: key(config),
            replicas: config.wait_replicas,
            patience: config.wait_timeout,
            within: config.wait_timeout.saturating_add(config.operation_timeout),
        };
        let rounds = tokio::spawn(rounds(asking, joined, lagging_until.clone(), clock.clone())).abort_handle();
        Self { joining, clock, lagging_until, rounds }
    }

    /// Waits until the replicas have all that the server has answered on the first connection. At once an error while they lag,
    /// unless the caller is patient.
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

/// Until the connection is given up.
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
            // Who has gone away has left what he waited for in the journal.
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
        // 0 would be for ever.
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

/// Every cache of a prefix uses the same one: it holds nothing. No cache has an empty name, so it is none of theirs.
fn key(config: &RedisOptions) -> String {
    format!("{}::w", config.prefix)
}

/// Makes sure that a second connection leads to the same server as the first: to be told by what it says of itself or, where it does
/// not, by whether one of them reads what the other has written.
pub(crate) async fn same_server(
    config: &RedisOptions,
    (first, one): (&Connection, &Identity),
    (second, other): (&Connection, &Identity),
) -> Result<(), Trouble> {
    let same = if one.history != 0 {
        one.history == other.history
    } else {
        let token = format!("{:016x}", fastrand::u64(..));
        let mut write = scripts::CONFIRM.by_code();
        write.arg(1).arg(key(config)).arg(&token);
        first.send(&write).await?;
        let mut read = redis::cmd("GET");
        read.arg(key(config));
        bytes(second.send(&read).await?).is_some_and(|found| found == token.as_bytes())
    };
    let text = || "the connection for WAIT led to another server".to_owned();
    if same { Ok(()) } else { Err(Trouble::Error { what: What::Broken, text: text() }) }
}
