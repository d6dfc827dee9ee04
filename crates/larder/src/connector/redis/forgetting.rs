//! Sends invalidations and deletes: what `invalidate.lua` and `delete.lua` are told, whoever asks.

use super::clearing::{Caller, unexpected};
use super::layout::Layout;
use super::scripts::{self, Script};
use super::store::{milliseconds, verdict};
use super::trouble::Trouble;
use crate::connector::{KeyBuf, Ticket};
use crate::journal::Deferred;
use redis::{Cmd, Value as Reply};
use std::time::Duration;

/// How many keys one script call handles.
pub(super) const BATCH: usize = 128;

/// How long a floor under the version is remembered after an invalidation asked for one.
const FLOOR_LIFE: Duration = Duration::from_secs(60);

/// Sends one batch. Answers where the clock stands after it; `None` where the clock is lost, and nothing was done.
pub(super) async fn forget(
    caller: &impl Caller,
    layout: &Layout,
    keys: &[KeyBuf],
    what: Deferred,
) -> Result<Option<Ticket>, Trouble> {
    answer(caller.script(script(what), arguments(layout, keys, what)).await?)
}

/// The script that does it.
pub(super) fn script(what: Deferred) -> &'static Script {
    match what {
        Deferred::Invalidate { .. } => &scripts::INVALIDATE,
        Deferred::Delete => &scripts::DELETE,
    }
}

/// What the script is told of one batch.
pub(super) fn arguments(layout: &Layout, keys: &[KeyBuf], what: Deferred) -> impl Fn(&mut Cmd) + Send + Sync {
    move |call| {
        let clock = layout.clock();
        call.arg(1 + keys.len()).arg(&clock);
        for key in keys {
            match key.index {
                0 => call.arg(&clock),
                _ => call.arg(layout.index(key.as_ref())),
            };
        }
        let marks: Vec<u8> = keys.iter().flat_map(|key| layout.mark(key.as_ref())).collect();
        call.arg(layout.object_prefix()).arg(&marks);
        match what {
            Deferred::Invalidate { floor } => {
                for key in keys.iter().filter(|key| key.index == 0) {
                    call.arg(&*key.bytes);
                }
                if let Some(floor) = floor {
                    call.arg(&floor.to_be_bytes()[..]).arg(layout.floor_prefix()).arg(milliseconds(FLOOR_LIFE));
                }
            }
            Deferred::Delete => {
                for key in keys {
                    call.arg(layout.listed(key.as_ref()));
                }
            }
        }
    }
}

/// What the script has answered, as [`forget`] tells it.
pub(super) fn answer(reply: Reply) -> Result<Option<Ticket>, Trouble> {
    match verdict(reply) {
        Some((1, at)) => Ok(Some(at)),
        Some((4, _)) => Ok(None),
        _ => Err(unexpected("invalidate.lua or delete.lua")),
    }
}
