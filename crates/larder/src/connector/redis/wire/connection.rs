//! [`Connection`]: one multiplexed connection, and what larder knows of the server at its other end.

use super::confirming::Confirming;
use super::login::Renewed;
use super::replies::grave;
use super::rights::Missing;
use crate::connector::redis::options::Address;
use crate::connector::redis::scripts::Script;
use crate::connector::remote::{Trouble, What};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tokio::time::Instant;

/// Which server it is, as far as the server tells.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// The history of the server's data: see `history` in `connect.rs`. 0: the server does not tell it.
    pub(crate) history: u64,
    /// The server's replication history alone. The heartbeat compares it, to notice a promotion while the connection is open.
    pub(crate) replication: Option<String>,
    /// Which rights the user lacks on the server. `None`: the server cannot tell.
    pub(crate) missing: Option<Missing>,
}

/// Which server the Sentinels named as the master when a connection was made.
#[derive(Clone, Debug)]
pub(crate) struct Master {
    pub(crate) address: Address,
    /// Grows with each failover.
    pub(crate) epoch: u64,
    /// When every node that reaches a Sentinel has left the master before this one.
    pub(crate) alone_from: Instant,
}

/// A connection that operations are sent on.
pub(crate) struct Connection {
    stream: MultiplexedConnection,
    /// `None`: the options name the server, and no Sentinels.
    pub(crate) master: Option<Master>,
    /// Distinguishes this connection from all others that the server may have heard of (`write_marks.lua`).
    pub(crate) name: u64,
    pub(crate) identity: Identity,
    /// In strict mode: what asks whether the replicas have the changes.
    pub(crate) confirming: Option<Confirming>,
    /// What keeps the credentials valid, if they end.
    login: Option<Renewed>,
    /// By how many ms at most the server's clock is ahead of this node's. [`UNKNOWN`] until the server was asked.
    ahead: AtomicI64,
    /// Whether an operation needs to know the server's time, so that the heartbeat asks for it.
    pub(crate) needs_time: AtomicBool,
}

const UNKNOWN: i64 = i64::MIN;

impl Connection {
    pub(crate) fn new(stream: MultiplexedConnection, identity: Identity, confirming: Option<Confirming>) -> Self {
        let (ahead, needs_time) = (AtomicI64::new(UNKNOWN), AtomicBool::new(false));
        let (name, master, login) = (fastrand::u64(1..), None, None);
        Self { stream, master, name, identity, confirming, login, ahead, needs_time }
    }

    /// The same connection, to the master that the Sentinels have named.
    pub(crate) fn with_master(self, master: Master) -> Self {
        Self { master: Some(master), ..self }
    }

    /// Waits until no node reads the master before this one any more. Until then nothing may count as applied here.
    pub(crate) async fn is_alone(&self) {
        if let Some(master) = &self.master {
            tokio::time::sleep_until(master.alone_from).await;
        }
    }

    /// The same connection, whose credentials are kept valid.
    pub(crate) fn with_login(self, login: Option<Renewed>) -> Self {
        Self { login, ..self }
    }

    /// Whether the credentials have ended without new ones.
    pub(crate) fn login_has_ended(&self) -> bool {
        self.login.as_ref().is_some_and(Renewed::has_ended)
    }

    /// Sends one command.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value, Trouble> {
        let reply = self.stream.clone().send_packed_command(command).await?;
        #[cfg(feature = "torture")]
        let reply = super::asking::followed(command, reply).await;
        Ok(reply.extract_error()?)
    }

    /// Sends several commands in one round trip. Each command has its own reply, which may be an error of that command alone.
    pub(crate) async fn send_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        let replies = self.stream.clone().send_packed_commands(commands, 0, commands.len()).await?;
        if replies.len() != commands.len() {
            return Err(Trouble::broken(format!("{} commands had {} replies", commands.len(), replies.len())));
        }
        #[cfg(feature = "torture")]
        let replies = super::asking::all_followed(commands, replies).await;
        Ok(replies)
    }

    /// As [`send_all`](Self::send_all), but an error that says something about the server or this user fails the whole.
    pub(crate) async fn send_unless_grave(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        let replies = self.send_all(commands).await?;
        grave(&replies).map_or(Ok(replies), Err)
    }

    /// Runs a script by its hash. If the server does not know the script, this sends the script's code.
    pub(crate) async fn run(&self, script: &Script, arguments: &impl Fn(&mut Cmd)) -> Result<Value, Trouble> {
        let mut call = script.by_hash();
        arguments(&mut call);
        match self.send(&call).await {
            Err(trouble) if trouble.what() == Some(What::NoScript) => self.run_code(script, arguments).await,
            other => other,
        }
    }

    /// Runs a script, and sends its code.
    pub(crate) async fn run_code(&self, script: &Script, arguments: &impl Fn(&mut Cmd)) -> Result<Value, Trouble> {
        let mut call = script.by_code();
        arguments(&mut call);
        self.send(&call).await
    }

    /// An upper bound of the time on the server's clock, in ms, when this node's clock is at `now`. `None` until the server was asked.
    pub(crate) fn time_at(&self, now: u64) -> Option<u64> {
        match self.ahead.load(Ordering::Relaxed) {
            UNKNOWN => None,
            ahead => now.checked_add_signed(ahead),
        }
    }

    /// Notes what the server has answered to TIME. The command was sent when this node's clock was at `sent`.
    pub(crate) fn learn_time(&self, reply: &Value, sent: u64) {
        let Value::Array(time) = reply else { return };
        let number = |place: usize| match time.get(place) {
            Some(Value::BulkString(digits)) => std::str::from_utf8(digits).ok()?.parse::<i64>().ok(),
            _ => None,
        };
        let (Some(seconds), Some(micros), Ok(sent)) = (number(0), number(1), i64::try_from(sent)) else { return };
        // The server read its clock after `sent`, so the difference is never too low. The 1 rounds up.
        self.ahead.store(seconds.saturating_mul(1000) + micros / 1000 + 1 - sent, Ordering::Relaxed);
    }
}
