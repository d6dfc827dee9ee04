//! What larder never does: to follow ASK, as most clients of a cluster do.
//!
//! A node that a slot leaves answers ASK for what it no longer has, and the node that the slot goes to answers whoever sends ASKING first. A script
//! that runs there may find the clock, and not the object, which is still to come. It would answer *done*, and the object would come after that.
//!
//! This is here only so that the torture can show it: with the cargo feature `torture`, and the protection `never-ask` off.

use crate::protection::{Protection, holds};
use redis::{Cmd, Pipeline, Value};

/// The reply to a command, or, if it is ASK, that of the node which it names.
pub(super) async fn followed(command: &Cmd, reply: Value) -> Value {
    if holds(Protection::NeverAsk) {
        return reply;
    }
    match asked(&reply) {
        Some(address) => ask(&address, command).await.unwrap_or(reply),
        None => reply,
    }
}

/// The same for each of several commands.
pub(super) async fn all_followed(commands: &Pipeline, replies: Vec<Value>) -> Vec<Value> {
    let mut all = Vec::with_capacity(replies.len());
    for (command, reply) in commands.cmd_iter().zip(replies) {
        all.push(followed(command, reply).await);
    }
    all
}

/// The address in an ASK.
fn asked(reply: &Value) -> Option<String> {
    let Value::ServerError(error) = reply else { return None };
    let details = error.details().filter(|_| error.code() == "ASK")?;
    details.split_whitespace().next_back().map(str::to_owned)
}

/// `None`: that node cannot be reached, and the ASK stays the answer.
async fn ask(address: &str, command: &Cmd) -> Option<Value> {
    let client = redis::Client::open(format!("redis://{address}")).ok()?;
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    let mut commands = Pipeline::with_capacity(2);
    commands.cmd("ASKING").add_command(command.clone());
    connection.send_packed_commands(&commands, 0, 2).await.ok()?.pop()
}
