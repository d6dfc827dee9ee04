//! Sends invalidations and deletes: what `invalidate.lua` and `delete.lua` are told, whoever asks.

use super::clearing::{Caller, numbers, unexpected};
use super::layout::Layout;
use super::scripts;
use super::store::milliseconds;
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
            let floor = floor.map_or(Vec::new(), |floor| floor.to_be_bytes().to_vec());
            let arguments = |call: &mut Cmd| {
                addressed(call);
                call.arg(layout.floor_prefix()).arg(&floor).arg(milliseconds(FLOOR_LIFE));
                for key in keys {
                    call.arg(if key.index == 0 { &key.bytes[..] } else { &[] });
                }
            };
            caller.script(&scripts::INVALIDATE, arguments).await?
        }
        Deferred::Delete => {
            let arguments = |call: &mut Cmd| {
                addressed(call);
                for key in keys {
                    call.arg([&[key.index], &key.bytes[..]].concat());
                }
            };
            caller.script(&scripts::DELETE, arguments).await?
        }
    };
    match numbers(&reply) {
        Some([1, sequence, epoch]) => Ok(Some(Ticket { epoch, sequence })),
        Some([4, ..]) => Ok(None),
        _ => Err(unexpected("invalidate.lua or delete.lua")),
    }
}
