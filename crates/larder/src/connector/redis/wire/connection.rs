//! [`Connection`]: one multiplexed connection, and what is known of the server at its other end.

use super::confirming::Confirming;
use super::replies::grave;
use super::rights::Missing;
use crate::connector::redis::scripts::Script;
use crate::connector::remote::{Trouble, What};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Which server it is, as far as it says so.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// The history of its data; 0 where it does not say.
    pub(crate) history: u64,
    /// Its replication history alone, by which a change is noticed while the connection is open.
    pub(crate) replication: Option<String>,
    /// Which rights the user lacks there, where that can be told.
    pub(crate) missing: Option<Missing>,
}

/// A connection that operations are sent on.
pub(crate) struct Connection {
    stream: MultiplexedConnection,
    /// Distinguishes this connection from all others that the server may have heard of (`log.lua`).
    pub(crate) name: u64,
    pub(crate) identity: Identity,
    /// In strict mode: who asks the replicas.
    pub(crate) confirming: Option<Confirming>,
    /// How far the server's clock is ahead of this node's at most, in ms; [`UNKNOWN`] where nobody has asked.
    ahead: AtomicI64,
    /// Whether anybody needs to know the time of the server.
    pub(crate) needs_time: AtomicBool,
}

const UNKNOWN: i64 = i64::MIN;

impl Connection {
    pub(crate) fn new(stream: MultiplexedConnection, identity: Identity, confirming: Option<Confirming>) -> Self {
        let (ahead, needs_time) = (AtomicI64::new(UNKNOWN), AtomicBool::new(false));
        Self { stream, name: fastrand::u64(1..), identity, confirming, ahead, needs_time }
    }

    /// Sends one command.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value, Trouble> {
        Ok(self.stream.clone().send_packed_command(command).await?.extract_error()?)
    }

    /// Sends several commands in one go; each has its own reply, which may be an error of that command alone.
    pub(crate) async fn send_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        let replies = self.stream.clone().send_packed_commands(commands, 0, commands.len()).await?;
        if replies.len() == commands.len() {
            Ok(replies)
        } else {
            Err(Trouble::broken(format!("{} commands had {} replies", commands.len(), replies.len())))
        }
    }

    /// The same. An error that says something of the server or of us is that of the whole.
    pub(crate) async fn send_unless_grave(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        let replies = self.send_all(commands).await?;
        grave(&replies).map_or(Ok(replies), Err)
    }

    /// Runs a script; its code is sent where the server does not know it yet.
    pub(crate) async fn run(&self, script: &Script, arguments: &impl Fn(&mut Cmd)) -> Result<Value, Trouble> {
        let mut call = script.by_hash();
        arguments(&mut call);
        match self.send(&call).await {
            Err(trouble) if trouble.what() == Some(What::NoScript) => self.run_code(script, arguments).await,
            other => other,
        }
    }

    /// Runs a script by its code.
    pub(crate) async fn run_code(&self, script: &Script, arguments: &impl Fn(&mut Cmd)) -> Result<Value, Trouble> {
        let mut call = script.by_code();
        arguments(&mut call);
        self.send(&call).await
    }

    /// The server's clock, in ms, when this node's is at `now`: it is not later than this. `None` where nobody has asked the server.
    pub(crate) fn time_at(&self, now: u64) -> Option<u64> {
        match self.ahead.load(Ordering::Relaxed) {
            UNKNOWN => None,
            ahead => now.checked_add_signed(ahead),
        }
    }

    /// Notes what the server has answered to TIME, which was asked for when this node's clock was at `sent`.
    pub(crate) fn learn_time(&self, reply: &Value, sent: u64) {
        let Value::Array(time) = reply else { return };
        let number = |place: usize| match time.get(place) {
            Some(Value::BulkString(digits)) => std::str::from_utf8(digits).ok()?.parse::<i64>().ok(),
            _ => None,
        };
        let (Some(seconds), Some(micros), Ok(sent)) = (number(0), number(1), i64::try_from(sent)) else { return };
        // Read by the server after it was asked; rounded up.
        self.ahead.store(seconds.saturating_mul(1000) + micros / 1000 + 1 - sent, Ordering::Relaxed);
    }
}
