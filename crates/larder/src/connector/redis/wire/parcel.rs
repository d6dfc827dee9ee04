//! Several commands in one go, scripts among them: a [`Parcel`]; and an operation of several of them: [`Link::converse`].

use super::connection::Connection;
use super::replies::grave;
use crate::connector::redis::scripts::Script;
use crate::connector::remote::{Link, Protocol, Trouble, What, WhenCrowded};
use redis::{Arg, Cmd, Pipeline, RedisError, Value};
use std::future::Future;
use std::sync::Arc;

/// Commands that are sent, and answered, in one round trip.
pub(crate) struct Parcel {
    commands: Pipeline,
    /// Which of them call a script, and which one.
    scripts: Vec<(usize, &'static Script)>,
}

impl Parcel {
    pub(crate) fn new() -> Self {
        Self { commands: Pipeline::new(), scripts: Vec::new() }
    }

    pub(crate) fn command(&mut self, command: Cmd) {
        self.commands.add_command(command);
    }

    pub(crate) fn script(&mut self, script: &'static Script, arguments: impl FnOnce(&mut Cmd)) {
        let mut call = script.by_hash();
        arguments(&mut call);
        self.scripts.push((self.commands.len(), script));
        self.commands.add_command(call);
    }

    /// The calls among these replies that the server did not know the script of, once more. The first call of a script brings its
    /// code along, which the others find there.
    fn repaired(&self, replies: &[Value]) -> (Vec<usize>, Pipeline) {
        let (mut places, mut commands) = (Vec::new(), Pipeline::new());
        let mut sent: Vec<*const Script> = Vec::new();
        for (place, script) in &self.scripts {
            let unknown = matches!(replies.get(*place), Some(Value::ServerError(error))
                if Trouble::from(RedisError::from(error.clone())).what() == Some(What::NoScript));
            let Some(call) = self.commands.cmd_iter().nth(*place).filter(|_| unknown) else { continue };
            let known = sent.contains(&std::ptr::from_ref(*script));
            let mut again = if known { script.by_hash() } else { script.by_code() };
            sent.push(*script);
            // After the command's name and the hash.
            for argument in call.args_iter().skip(2) {
                if let Arg::Simple(argument) = argument {
                    again.arg(argument);
                }
            }
            places.push(*place);
            commands.add_command(again);
        }
        (places, commands)
    }
}

/// What an operation of several parcels sends them on.
pub(crate) struct Wire(pub(crate) Arc<Connection>);

impl Wire {
    /// Sends a parcel, and adds the replies to `replies`, each of which may be an error of that command alone. One that says something
    /// of the server or of us is that of the whole operation; the replies are there all the same.
    pub(crate) async fn send(&self, parcel: &Parcel, replies: &mut Vec<Value>) -> Result<(), Trouble> {
        let before = replies.len();
        replies.extend(self.0.send_all(&parcel.commands).await?);
        let (places, commands) = parcel.repaired(replies.get(before..).unwrap_or_default());
        if !places.is_empty() {
            for (place, reply) in places.into_iter().zip(self.0.send_all(&commands).await?) {
                if let Some(unknown) = replies.get_mut(before + place) {
                    *unknown = reply;
                }
            }
        }
        grave(replies.get(before..).unwrap_or_default()).map_or(Ok(()), Err)
    }
}

#[expect(private_bounds, reason = "only this crate has such connections")]
impl<P: Protocol<Connection = Connection>> Link<P> {
    /// One logical operation of as many round trips as it takes, all of them within one operation time-out: what the caller has noted
    /// of the replies by then stays.
    pub(crate) async fn converse<F>(
        &self,
        when_crowded: WhenCrowded,
        talk: impl FnOnce(Wire) -> F,
    ) -> Result<(), Trouble>
    where
        F: Future<Output = Result<(), Trouble>>,
    {
        self.operation(when_crowded, |connection| talk(Wire(connection))).await
    }

    /// An operation of one parcel. What was answered is in `replies`, whatever became of the operation.
    pub(crate) async fn parcel(
        &self,
        when_crowded: WhenCrowded,
        parcel: &Parcel,
        replies: &mut Vec<Value>,
    ) -> Result<(), Trouble> {
        self.converse(when_crowded, |wire| async move { wire.send(parcel, replies).await }).await
    }
}
