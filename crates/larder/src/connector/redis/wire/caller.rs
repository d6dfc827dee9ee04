//! [`Caller`]: something that sends commands and scripts, with a permit of the breaker or without.

use super::connection::Connection;
use crate::connector::redis::scripts::Script;
use crate::connector::remote::{Awaited, Channel, ServerKind, Trouble};
use redis::{Cmd, Pipeline, Value};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Sends commands and scripts to the server: with a permit of the breaker, or on a new connection that the breaker knows nothing of.
pub(crate) trait Caller: Sync {
    fn call(&self, command: &Cmd) -> impl Future<Output = Result<Value, Trouble>> + Send;
    fn script(
        &self,
        script: &Script,
        arguments: impl Fn(&mut Cmd) + Send + Sync,
    ) -> impl Future<Output = Result<Value, Trouble>> + Send;

    /// Waits, and asks the server nothing meanwhile.
    fn wait_until(&self, time: Instant) -> impl Future<Output = ()> + Send;
}

impl<P: ServerKind<Connection = Connection>> Caller for Channel<'_, P> {
    async fn call(&self, command: &Cmd) -> Result<Value, Trouble> {
        self.run(|connection| async move { connection.send(command).await }).await
    }

    async fn script(&self, script: &Script, arguments: impl Fn(&mut Cmd) + Send + Sync) -> Result<Value, Trouble> {
        self.run(|connection| async move { connection.run(script, &arguments).await }).await
    }

    async fn wait_until(&self, time: Instant) {
        Channel::wait_until(self, time).await;
    }
}

/// Sends on a connection that is not shared: nobody else uses it yet, or nobody else ever will.
#[derive(Clone, Copy)]
pub(crate) struct Direct<'a> {
    pub(crate) connection: &'a Arc<Connection>,
    /// How long a reply may take.
    pub(crate) within: Duration,
}

impl Direct<'_> {
    async fn in_time<T>(&self, send: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        tokio::time::timeout(self.within, send).await.unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)))
    }

    /// Sends several commands in one round trip. Each command has its own reply, which may be an error.
    pub(crate) async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        self.in_time(self.connection.send_all(commands)).await
    }
}

impl Caller for Direct<'_> {
    async fn call(&self, command: &Cmd) -> Result<Value, Trouble> {
        self.in_time(self.connection.send(command)).await
    }

    async fn script(&self, script: &Script, arguments: impl Fn(&mut Cmd) + Send + Sync) -> Result<Value, Trouble> {
        self.in_time(self.connection.run(script, &arguments)).await
    }

    async fn wait_until(&self, time: Instant) {
        sleep_until(time).await;
    }
}
