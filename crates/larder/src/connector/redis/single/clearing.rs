//! The clock of a cache on the server, and the removal of everything that is older than the clock.
//!
//! A removal takes many commands, and the node that sends them may die half-way. So the clock has a state, and a clearing has three steps:
//!
//! 1. `renew` gives the clock a new epoch and marks it *clearing*. From then on no older fill or put is accepted, and no ticket is given
//!    out.
//! 2. The node removes everything.
//! 3. `settle` marks the clock *settled*, and notes which history of the server the clock belongs to.
//!
//! If a node clears a cache whose clock is unsettled, it removes everything under the same epoch as the node that began. The node that ends
//! first has removed everything older. That holds for one history of the server's data: where a clearing has come back with a snapshot, the next
//! one has an epoch of its own, so that nobody ends it who has removed things before the snapshot came back. A node that doubts the stored data begins with `recover` in place of `renew`: if another node has
//! renewed and settled the clock meanwhile, the clock gets no new epoch.
//!
//! An index key must never go while its object stays, because an invalidation through that key would not find the object. So every object
//! is removed before the first index key. One pass over the server's keys removes the objects and remembers the other names, which are
//! removed after it. If there are too many names to remember, a second pass removes them. `remove.lua` removes nothing once the clock is
//! settled or has another epoch, because objects are stored again then: another node may have ended first, and a removal may have waited in
//! a stopped server's socket.
//!
//! In a cluster, a slot may be on its way to another node. The removal does not see what has left already, and that comes back if the move is given
//! up. So `settle` is an error on such a node, and the cache stays unsettled until the slot has arrived or the move is given up.
//!
//! *Lost* is a third state: *clearing*, and the list of schemas may be incomplete, because the clock or the list was made anew. An
//! invalidation may then miss objects of a release that is not listed, so it is deferred until everything is gone.

use crate::connector::redis::layout::Layout;
use crate::connector::redis::scripts;
use crate::connector::redis::wire::caller::Caller;
use crate::connector::redis::wire::replies::{bytes, numbers, unexpected};
use crate::connector::remote::{Clearing, Clocked, Trouble};
use crate::contract::Following;
use crate::protection::{Protection, holds};
use redis::{Cmd, Value};
use tokio::time::{Instant, sleep_until};

/// How many keys a SCAN looks at in one go: well under a millisecond of the server's time.
const SCAN_COUNT: u32 = 2_000;

/// How many bytes of names a clearing remembers, so that one pass over the server's keys is enough for a small cache.
const REMEMBERED: usize = 8 * 1024 * 1024;

/// How many keys a script removes at once; a SCAN may find more than it was asked for.
const REMOVE_AT_ONCE: usize = 1000;

/// Reads the clock and adds this release's schema to its list.
pub(crate) async fn register(caller: &impl Caller, layout: &Layout) -> Result<Clocked, Trouble> {
    clock(caller, layout, "register", 0, 0, 0).await
}

/// Removes everything in the cache that was stored before now, and returns the clock after that. `None`: another node has done so
/// already. Without a clock (epoch 0), a truncate has done nothing. Calls `removed` now and then with the number of keys that were removed so far.
pub(crate) async fn clear(
    caller: &impl Caller,
    layout: &Layout,
    history: u64,
    clearing: Clearing,
    following: Option<Following>,
    mut removed: impl FnMut(u64),
) -> Result<Option<Clocked>, Trouble> {
    let (action, doubted) = match clearing {
        Clearing::Truncate => ("renew", 0),
        Clearing::Doubted { epoch, anew: false, .. } => ("recover", epoch),
        Clearing::Doubted { epoch, anew: true, .. } => ("renumber", epoch),
    };
    // The new epoch says how nodes follow the cache. A node that does not follow it leaves that as it is.
    let found = match (following, clearing) {
        (None, Clearing::Truncate) => Following::of(register(caller, layout).await?.epoch),
        (_, Clearing::Truncate) => None,
        // What the server has lost, this node may remember.
        (_, Clearing::Doubted { seen, .. }) => Following::of(doubted).or(Following::of(seen)),
    };
    let mut gone = 0;
    loop {
        let epoch = if holds(Protection::Epoch) { Following::new_epoch(following.or(found)) } else { 1 };
        let begun = clock(caller, layout, action, epoch, doubted, history).await?;
        let (renewed, joined) = (Instant::now(), begun.epoch != epoch);
        if begun.epoch == 0 {
            return Ok(Some(begun));
        }
        if begun.settled {
            return Ok(None);
        }
        let epoch = begun.epoch;
        let mut sweep = Sweep { caller, layout, epoch, gone, removed: &mut removed };
        if sweep.everything().await? != Removal::Superseded {
            // A truncate may have joined another node's clearing, which has its own epoch.
            if (action != "renew" || joined) && holds(Protection::SettleWait) {
                // Nodes that followed the server of another history may be missing in the table of followers. Until their memories are no longer
                // valid, no change may count as applied, and none does: the clock is not settled.
                let longest = [following, found].into_iter().flatten().map(Following::until_over).max();
                sleep_until(renewed + longest.unwrap_or_default()).await;
            }
            return clock(caller, layout, "settle", epoch, history, history).await.map(Some);
        }
        gone = sweep.gone;
    }
}

/// Whether a clearing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    Goes,
    /// Another node has ended the clearing.
    Ended,
    /// Another clearing has begun, or the clock was lost.
    Superseded,
}

/// The removal of one clearing.
struct Sweep<'a, C, R> {
    caller: &'a C,
    layout: &'a Layout,
    epoch: u64,
    gone: u64,
    removed: R,
}

impl<C: Caller, R: FnMut(u64)> Sweep<'_, C, R> {
    /// Removes every object, and then everything else.
    async fn everything(&mut self) -> Result<Removal, Trouble> {
        let mut rest = Rest { names: Vec::new(), room: REMEMBERED };
        match self.pass(&self.layout.everything(), Some(&mut rest)).await? {
            Removal::Goes if rest.room > 0 => self.remove(&rest.names).await,
            Removal::Goes => self.pass(&self.layout.around_objects(), None).await,
            done => Ok(done),
        }
    }

    /// Removes all keys that match the pattern. With `rest`, removes only the objects, and adds the other names to `rest`.
    async fn pass(&mut self, pattern: &[u8], mut rest: Option<&mut Rest>) -> Result<Removal, Trouble> {
        let object = self.layout.object_prefix().into_bytes();
        let mut cursor = b"0".to_vec();
        loop {
            let (next, mut names) = scan(self.caller, &cursor, pattern).await?;
            if let Some(rest) = &mut rest {
                let others = names.extract_if(.., |name| !name.starts_with(&object));
                others.for_each(|name| rest.note(name));
            }
            match self.remove(&names).await? {
                Removal::Goes if next != b"0" => cursor = next,
                done => return Ok(done),
            }
        }
    }

    async fn remove(&mut self, names: &[Vec<u8>]) -> Result<Removal, Trouble> {
        let clock = self.layout.clock();
        for batch in names.chunks(REMOVE_AT_ONCE) {
            let epoch = self.epoch;
            let arguments = |call: &mut Cmd| {
                call.arg(1 + batch.len()).arg(&clock).arg(batch).arg(epoch);
            };
            match self.caller.script(&scripts::REMOVE, arguments).await? {
                Value::Int(-1) => return Ok(Removal::Ended),
                Value::Int(-2) => return Ok(Removal::Superseded),
                Value::Int(count) => self.gone += u64::try_from(count).unwrap_or(0),
                _ => return Err(unexpected("remove.lua")),
            }
        }
        (self.removed)(self.gone);
        Ok(Removal::Goes)
    }
}

/// The names, other than those of objects, that a pass has found.
struct Rest {
    names: Vec<Vec<u8>>,
    /// How many bytes of names it can still take. 0: it does not have all names.
    room: usize,
}

impl Rest {
    fn note(&mut self, name: Vec<u8>) {
        self.room = self.room.saturating_sub(name.len() + size_of::<Vec<u8>>());
        if self.room > 0 {
            self.names.push(name);
        } else {
            self.names = Vec::new();
        }
    }
}

/// One step of a SCAN: the next cursor, and the names found.
pub(crate) async fn scan(
    caller: &impl Caller,
    cursor: &[u8],
    pattern: &[u8],
) -> Result<(Vec<u8>, Vec<Vec<u8>>), Trouble> {
    let mut command = redis::cmd("SCAN");
    command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
    let Value::Array(reply) = caller.call(&command).await? else { return Err(unexpected("SCAN")) };
    let mut reply = reply.into_iter();
    let (Some(next), Some(Value::Array(names))) = (reply.next().and_then(bytes), reply.next()) else {
        return Err(unexpected("SCAN"));
    };
    Ok((next, names.into_iter().filter_map(bytes).collect()))
}

/// Runs clock.lua, which says what `beside` is for each action.
pub(crate) async fn clock(
    caller: &impl Caller,
    layout: &Layout,
    action: &str,
    epoch: u64,
    beside: u64,
    history: u64,
) -> Result<Clocked, Trouble> {
    let name = layout.clock();
    let arguments = |call: &mut Cmd| {
        call.arg(1).arg(&name).arg(action).arg(&layout.fingerprint).arg(epoch).arg(beside);
        call.arg(layout.registered_names()).arg(layout.index_names_prefix()).arg(history);
    };
    let reply = caller.script(&scripts::CLOCK, arguments).await?;
    let [epoch, sequence, state, history, registered] = numbers(&reply).ok_or_else(|| unexpected("clock.lua"))?;
    Ok(Clocked { epoch, sequence, settled: state == 1, history, registered: registered == 1 })
}
