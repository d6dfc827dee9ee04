//! Sends invalidations and deletes, with the arguments of `invalidate.lua` and `delete.lua`.

use crate::connector::redis::layout::Layout;
use crate::connector::redis::scripts::{self, Script};
use crate::connector::redis::single::{milliseconds, outcome_of};
use crate::connector::redis::wire::caller::Caller;
use crate::connector::redis::wire::replies::unexpected;
use crate::connector::remote::journal::Deferred;
use crate::connector::remote::{Batch, Forgetting, Trouble};
use crate::contract::{KeyBuf, Ticket};
use redis::{Cmd, Value as Reply};
use std::time::Duration;

/// How long the lowest version that an invalidation demands is remembered.
const FLOOR_LIFE: Duration = Duration::from_secs(60);

/// Sends one batch. Returns the clock after it. `None`: the clock is lost, and nothing was done.
pub(crate) async fn forget(
    caller: &impl Caller,
    layout: &Layout,
    keys: &[KeyBuf],
    what: Deferred,
) -> Result<Option<Ticket>, Trouble> {
    let batch = Batch::alike(keys, what);
    answer(caller.script(script(&batch), |call| tell(&batch, layout, call)).await?)
}

/// The script for this batch.
pub(crate) fn script(batch: &Batch<'_>) -> &'static Script {
    match batch.what() {
        Forgetting::Delete => &scripts::DELETE,
        Forgetting::Invalidate { .. } => &scripts::INVALIDATE,
    }
}

/// Adds the keys and arguments of the script to its call.
pub(crate) fn tell(batch: &Batch<'_>, layout: &Layout, call: &mut Cmd) {
    let clock = layout.clock();
    call.arg(1 + batch.keys().len()).arg(&clock);
    for key in batch.keys() {
        match key.index {
            0 => call.arg(&clock),
            _ => call.arg(layout.index(key.as_ref())),
        };
    }
    let marks: Vec<u8> = batch.keys().iter().flat_map(|key| layout.mark(key.as_ref())).collect();
    call.arg(layout.object_prefix()).arg(&marks);
    match batch.what() {
        Forgetting::Invalidate { floors } => {
            for key in batch.keys().iter().filter(|key| key.index == 0) {
                call.arg(&*key.bytes);
            }
            if !floors.is_empty() {
                let floors: Vec<u8> = floors.iter().flat_map(|floor| floor.to_be_bytes()).collect();
                call.arg(&floors).arg(layout.floor_prefix()).arg(milliseconds(FLOOR_LIFE));
            }
        }
        Forgetting::Delete => {
            for key in batch.keys() {
                call.arg(layout.listed(key.as_ref()));
            }
        }
    }
}

/// Reads the reply of the script, with the meaning that [`forget`] gives it.
pub(crate) fn answer(reply: Reply) -> Result<Option<Ticket>, Trouble> {
    match outcome_of(reply) {
        Some((1, at)) => Ok(Some(at)),
        Some((4, _)) => Ok(None),
        _ => Err(unexpected("invalidate.lua or delete.lua")),
    }
}
