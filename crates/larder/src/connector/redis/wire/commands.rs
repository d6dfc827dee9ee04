//! Operations on a [`Link`] to a Redis server: one command, a script, several commands.

use super::connection::Connection;
use crate::connector::redis::scripts::Script;
use crate::connector::remote::{Link, ServerKind, Trouble, What, WhenCrowded};
use redis::{Cmd, Pipeline, Value};
use std::sync::atomic::Ordering;

#[expect(private_bounds, reason = "only this crate has such connections")]
impl<P: ServerKind<Connection = Connection>> Link<P> {
    /// Sends one command.
    pub(crate) async fn call(&self, when_crowded: WhenCrowded, command: &Cmd) -> Result<Value, Trouble> {
        self.operation(when_crowded, |connection| async move { connection.send(command).await }).await
    }

    /// Runs a script by its hash. If the server does not know the script, this sends the script's code.
    pub(crate) async fn script(
        &self,
        when_crowded: WhenCrowded,
        script: &Script,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, Trouble> {
        self.operation(when_crowded, |connection| async move { connection.run(script, &arguments).await }).await
    }

    /// The same; the arguments are told the name of the connection that the script is sent on.
    pub(crate) async fn script_on(
        &self,
        when_crowded: WhenCrowded,
        script: &Script,
        arguments: impl Fn(&mut Cmd, u64),
    ) -> Result<Value, Trouble> {
        self.operation(when_crowded, |connection| async move {
            connection.run(script, &|call: &mut Cmd| arguments(call, connection.name)).await
        })
        .await
    }

    /// Sends several commands in one go; each has its own reply, which may be an error of that command alone. One that says
    /// something of the server or of us is that of the whole operation.
    pub(crate) async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        self.operation(WhenCrowded::Shed, |connection| async move { connection.send_unless_grave(commands).await })
            .await
    }

    /// Sends one command, and then a script, in one round trip. If the server refuses the script because it takes no writes, or no
    /// writes from this user, the reply to the command is returned all the same.
    pub(crate) async fn command_and_script(
        &self,
        when_crowded: WhenCrowded,
        command: Cmd,
        script: &Script,
        arguments: impl Fn(&mut Cmd, u64),
    ) -> Result<(Value, Result<Value, Trouble>), Trouble> {
        self.operation(when_crowded, |connection| async move {
            let mut commands = Pipeline::with_capacity(2);
            let mut call = script.by_hash();
            let arguments = |call: &mut Cmd| arguments(call, connection.name);
            arguments(&mut call);
            commands.add_command(command).add_command(call);
            let mut replies = connection.send_all(&commands).await?.into_iter();
            let (Some(first), Some(second)) = (replies.next(), replies.next()) else {
                return Err(Trouble::broken("two commands had fewer replies"));
            };
            let first = first.extract_error()?;
            let second = match second.extract_error().map_err(Trouble::from) {
                Err(trouble) if trouble.what() == Some(What::NoScript) => connection.run_code(script, &arguments).await,
                other => other,
            };
            match second {
                Err(trouble) if !matches!(trouble.what(), Some(What::Full | What::Forbidden)) => Err(trouble),
                second => Ok((first, second)),
            }
        })
        .await
    }

    /// Sends one command of the heartbeat.
    pub(crate) async fn beat_command(&self, command: &Cmd) -> Result<Value, Trouble> {
        self.beat(|connection| async move { connection.send(command).await }).await
    }

    /// The same for several commands, each of which has its own reply, which may be an error of that command alone.
    pub(crate) async fn beat_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        self.beat(|connection| async move { connection.send_unless_grave(commands).await }).await
    }

    /// The server's clock, in ms: it is not later than this. Asked for at first, and by the heartbeat from then on, so that it is no
    /// more behind than a reply takes.
    pub(crate) async fn server_time(&self) -> Option<u64> {
        let connection = self.connection()?;
        if let Some(time) = connection.time_at(self.clock().now()) {
            return Some(time);
        }
        connection.needs_time.store(true, Ordering::Relaxed);
        self.ask_time(&connection).await;
        connection.time_at(self.clock().now())
    }

    /// Called by each heartbeat: asks for the server's time, if anybody has called [`server_time`](Self::server_time).
    pub(crate) async fn keep_time(&self, connection: &Connection) {
        if connection.needs_time.load(Ordering::Relaxed) {
            self.ask_time(connection).await;
        }
    }

    async fn ask_time(&self, connection: &Connection) {
        let sent = self.clock().now();
        if let Ok(reply) = self.beat_command(&redis::cmd("TIME")).await {
            connection.learn_time(&reply, sent);
        }
    }
}
