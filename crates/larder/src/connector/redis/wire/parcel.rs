//! A [`Parcel`]: several commands and scripts that are sent in one round trip. [`Link::converse`]: an operation of several parcels.

use super::connection::Connection;
use super::replies::grave;
use crate::connector::redis::scripts::Script;
use crate::connector::remote::{Link, ServerKind, Trouble, What, WhenCrowded};
use redis::{Arg, Cmd, Pipeline, RedisError, Value};
use std::future::Future;
use std::sync::Arc;

/// Commands that are sent, and answered, in one round trip.
pub(crate) struct Parcel {
    commands: Pipeline,
    /// The commands that call a script: the place of each among the commands, and the script.
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

    /// The calls that failed because the server did not know their script: their places, and the same calls to send once more. The
    /// first call of each script sends the script's code; later calls find it on the server.
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
            // The first two arguments are the command's name and the hash.
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

/// The connection on which an operation sends its parcels.
pub(crate) struct Wire(pub(crate) Arc<Connection>);

impl Wire {
    /// Sends a parcel, and adds its replies to `replies`. Each reply may be an error of its command alone. If an error says something
    /// about the server or this user, this fails with that error; the replies are added all the same.
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
impl<P: ServerKind<Connection = Connection>> Link<P> {
    /// Runs one logical operation of as many round trips as it takes, all within one operation time-out. When the time is over, the
    /// caller keeps what it has noted of the replies by then.
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

    /// Runs an operation of one parcel. The replies that came are in `replies`, even if the operation fails.
    pub(crate) async fn parcel(
        &self,
        when_crowded: WhenCrowded,
        parcel: &Parcel,
        replies: &mut Vec<Value>,
    ) -> Result<(), Trouble> {
        self.converse(when_crowded, |wire| async move { wire.send(parcel, replies).await }).await
    }
}
