//! Sends invalidations and deletes: what `invalidate.lua` and `delete.lua` are told, whoever asks.

use super::clearing::{Caller, unexpected};
use super::layout::Layout;
use super::scripts;
use super::store::{milliseconds, verdict};
use super::trouble::Trouble;
use crate::connector::{KeyBuf, Ticket};
use crate::journal::Deferred;
use redis::Cmd;
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
    let clock = layout.clock();
    let name = |key: &KeyBuf| match key.index {
        0 => clock.clone().into_bytes(),
        _ => layout.index(key.as_ref()),
    };
    let marks: Vec<u8> = keys.iter().flat_map(|key| layout.mark(key.as_ref())).collect();
    let addressed = |call: &mut Cmd| {
        call.arg(1 + keys.len()).arg(&clock);
        keys.iter().for_each(|key| {
            call.arg(name(key));
        });
        call.arg(layout.object_prefix()).arg(&marks);
    };
    let reply = match what {
        Deferred::Invalidate { floor } => {
            let arguments = |call: &mut Cmd| {
                addressed(call);
                for key in keys.iter().filter(|key| key.index == 0) {
                    call.arg(&*key.bytes);
                }
                if let Some(floor) = floor {
                    call.arg(&floor.to_be_bytes()[..]).arg(layout.floor_prefix()).arg(milliseconds(FLOOR_LIFE));
                }
            };
            caller.script(&scripts::INVALIDATE, arguments).await?
        }
        Deferred::Delete => {
            let arguments = |call: &mut Cmd| {
                addressed(call);
                for key in keys {
                    call.arg(layout.listed(key.as_ref()));
                }
            };
            caller.script(&scripts::DELETE, arguments).await?
        }
    };
    match verdict(reply) {
        Some((1, at)) => Ok(Some(at)),
        Some((4, _)) => Ok(None),
        _ => Err(unexpected("invalidate.lua or delete.lua")),
    }
}
