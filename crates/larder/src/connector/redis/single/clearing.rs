//! The clock of a cache on the server, and the removal of everything that is older than the clock.
//!
//! A removal takes many commands, and the node that sends them may die half-way. So the clock has a state, and a clearing has three steps:
//!
//! 1. `renew` gives the clock a new epoch and marks it *clearing*. From then on no older fill or put is accepted, and no ticket is given
//!    out.
//! 2. The node removes everything.
//! 3. `settle` marks the clock *settled*, and notes which history of the server the clock belongs to.
//!
//! An epoch says how nodes follow the cache. During a clearing it still says how they followed it *before*. A change that is made meanwhile reads this, and waits
//! for those nodes; so does a node that joins the clearing, or finds the epoch on a promoted replica. If nodes are to follow in another way, `settle` gives the
//! clock a second epoch.
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
use std::time::Duration;
use tokio::time::Instant;

/// How many keys a SCAN looks at in one go: well under a millisecond of the server's time.
const SCAN_COUNT: u32 = 2_000;

/// How many bytes of names a clearing remembers, so that one pass over the server's keys is enough for a small cache.
const REMEMBERED: usize = 8 * 1024 * 1024;

/// How many keys a script removes at once; a SCAN may find more than it was asked for.
const REMOVE_AT_ONCE: usize = 1000;

/// How often a node that waits before it settles the clock looks whether another one has done so.
const LOOK: Duration = Duration::from_millis(100);

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
    let (mut gone, mut overtaken) = (0, false);
    loop {
        let (action, present, seen) = match clearing {
            Clearing::Truncate => ("renew", register(caller, layout).await?.epoch, 0),
            Clearing::Doubted { epoch, anew: false, seen } => ("recover", epoch, seen),
            // Whoever has overtaken this one may have begun the list anew as well. If both began it again and again, neither would come to an end.
            Clearing::Doubted { epoch, anew: true, seen } => {
                (if overtaken { "recover" } else { "renumber" }, epoch, seen)
            }
        };
        // How nodes followed before: what the epoch that was found says, or the newest one that this node has seen. If neither says anything, other nodes may be
        // configured like this one.
        let known = [Following::of(present), Following::of(seen)].into_iter().flatten();
        let before = known.clone().max_by_key(|following| following.waited_for()).or(following);
        let new_epoch = |following| if holds(Protection::Epoch) { Following::new_epoch(following) } else { 1 };
        let epoch = new_epoch(before);
        let begun = clock(caller, layout, action, epoch, present, history).await?;
        let renewed = Instant::now();
        if begun.epoch == 0 {
            return Ok(Some(begun));
        }
        if begun.settled {
            match clearing {
                // Another node has cleared the cache meanwhile, and perhaps changed how it is followed.
                Clearing::Truncate => continue,
                Clearing::Doubted { .. } => return Ok(None),
            }
        }
        let mut sweep = Sweep { caller, layout, epoch: begun.epoch, gone, removed: &mut removed };
        match sweep.everything().await? {
            Removal::Superseded => (gone, overtaken) = (sweep.gone, true),
            removal => {
                let followed = Following::of(begun.epoch);
                // A node that does not follow the cache leaves that as it is.
                let wanted = following.or(followed);
                // The table has everybody who follows.
                let as_found = wanted == followed && followed == Following::of(present);
                let knows_all = action == "renew" && begun.epoch == epoch && as_found;
                if removal == Removal::Goes && !knows_all && holds(Protection::SettleWait) {
                    let over = known.chain(before).chain(followed).map(Following::until_over).max();
                    wait_unless_settled(caller, layout, begun.epoch, renewed + over.unwrap_or_default()).await?;
                }
                let next = if wanted == followed { begun.epoch } else { new_epoch(wanted) };
                let now = clock(caller, layout, "settle", begun.epoch, history, next).await?;
                if now.settled && now.epoch == next {
                    return Ok(Some(now));
                }
                // Another node has begun a clearing, or has settled this one with another epoch.
                (gone, overtaken) = (sweep.gone, true);
            }
        }
    }
}

/// The table may lack nodes that followed another history, or in another way. Waits until their memories are no longer valid, or until another node has settled the
/// clock. Until then the clock is not settled, so each change waits for a whole validity.
async fn wait_unless_settled(caller: &impl Caller, layout: &Layout, epoch: u64, until: Instant) -> Result<(), Trouble> {
    while Instant::now() < until {
        caller.wait_until(until.min(Instant::now() + LOOK)).await;
        let clock = register(caller, layout).await?;
        if clock.epoch != epoch || clock.settled {
            break;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::redis::scripts::Script;
    use crate::contract::{Consistency, Schema};
    use parking_lot::Mutex;
    use redis::Arg;

    const SETTLED: u64 = 1;
    const CLEARING: u64 = 2;
    const LOST: u64 = 3;

    /// A server that has the clock of a cache, and no key of it.
    struct Server {
        /// The epoch and the state.
        clock: Mutex<(u64, u64)>,
        /// What another node makes of it after so many more scripts.
        then: Mutex<Option<(usize, (u64, u64))>>,
        /// How the cache was said to be followed, while it was being cleared.
        said: Mutex<Vec<Option<Following>>>,
    }

    impl Caller for Server {
        async fn call(&self, _: &Cmd) -> Result<Value, Trouble> {
            Ok(Value::Array(vec![Value::BulkString(b"0".to_vec()), Value::Array(Vec::new())]))
        }

        /// As clock.lua, as far as a clearing can see.
        async fn script(&self, _: &Script, arguments: impl Fn(&mut Cmd) + Send + Sync) -> Result<Value, Trouble> {
            let mut call = Cmd::new();
            arguments(&mut call);
            let words: Vec<String> = call
                .args_iter()
                .map(|word| match word {
                    Arg::Simple(word) => String::from_utf8_lossy(word).into_owned(),
                    _ => String::new(),
                })
                .collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            let mut clock = self.clock.lock();
            match (words[2].as_str(), *clock) {
                ("settle", (epoch, CLEARING | LOST)) if epoch == number(4) => *clock = (number(8), SETTLED),
                ("renumber", (epoch, state)) if state != SETTLED || epoch == number(5) => *clock = (number(4), LOST),
                ("renew" | "recover", (epoch, SETTLED)) if epoch == number(5) => *clock = (number(4), CLEARING),
                _ => {}
            }
            let (epoch, state) = *clock;
            if state == CLEARING {
                self.said.lock().push(Following::of(epoch));
            }
            if let Some((_, other)) =
                self.then.lock().take_if(|(left, _)| std::mem::replace(left, left.saturating_sub(1)) == 1)
            {
                *clock = other;
            }
            Ok(Value::Array([epoch, 0, state, 3, 1].map(|number| Value::Int(number as i64)).to_vec()))
        }

        async fn wait_until(&self, time: Instant) {
            tokio::time::sleep_until(time).await;
        }
    }

    /// How long a clearing waits that finds this clock, which then becomes another one.
    async fn waits(
        clearing: Clearing,
        following: Option<Following>,
        clock: (u64, u64),
        then: Option<(u64, u64)>,
    ) -> Duration {
        let begun = Instant::now();
        cleared(clearing, following, clock, then.map(|then| (1, then))).await;
        begun.elapsed()
    }

    async fn cleared(
        clearing: Clearing,
        following: Option<Following>,
        clock: (u64, u64),
        then: Option<(usize, (u64, u64))>,
    ) -> Server {
        let server = Server { clock: Mutex::new(clock), then: Mutex::new(then), said: Mutex::default() };
        let layout = Layout::new("larder:site".to_owned(), &Schema::of::<crate::entry::color::Color>());
        clear(&server, &layout, 3, clearing, following, |_| ()).await.unwrap();
        assert_eq!(server.clock.lock().1, SETTLED);
        server
    }

    fn strict(milliseconds: u64) -> Following {
        Following::new(Consistency::Strict, Duration::from_millis(milliseconds)).unwrap()
    }

    fn bounded(milliseconds: u64) -> Following {
        Following::new(Consistency::Bounded, Duration::from_millis(milliseconds)).unwrap()
    }

    fn epoch(following: Following) -> u64 {
        Following::new_epoch(Some(following))
    }

    #[tokio::test(start_paused = true)]
    async fn a_truncate_waits_only_where_it_changes_how_the_cache_is_followed() {
        let truncate = async |following, found| waits(Clearing::Truncate, following, (found, SETTLED), None).await;
        assert_eq!(truncate(None, 7).await, Duration::ZERO);
        assert_eq!(truncate(None, epoch(strict(1_000))).await, Duration::ZERO, "it stays as it is");
        assert_eq!(truncate(Some(strict(1_000)), epoch(strict(1_000))).await, Duration::ZERO);
        assert!(truncate(Some(strict(1_000)), epoch(bounded(2_000))).await >= Duration::from_secs(2));
        assert!(truncate(Some(strict(1_000)), epoch(strict(2_000))).await >= Duration::from_secs(2));
        let longer = truncate(Some(strict(2_000)), epoch(strict(1_000))).await;
        assert!(longer >= Duration::from_secs(1) && longer < Duration::from_secs(2), "{longer:?}");
        // Another node changes it, after the clock was read and before it gets its new epoch.
        let (found, then) = ((epoch(strict(1_000)), SETTLED), Some((epoch(bounded(2_000)), SETTLED)));
        assert!(waits(Clearing::Truncate, Some(strict(1_000)), found, then).await >= Duration::from_secs(2));
    }

    /// The server has lost everything, and a node that knows of no memory has made the clock anew. This node has a memory, so others may have one.
    #[tokio::test(start_paused = true)]
    async fn a_truncate_of_a_cache_that_nobody_is_said_to_follow_waits_for_what_is_configured_here() {
        let waited = waits(Clearing::Truncate, Some(strict(1_000)), (7, SETTLED), None).await;
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
    }

    /// Changes wait for as long as the epoch says, and those who followed before may still read their memories.
    #[tokio::test(start_paused = true)]
    async fn until_a_clearing_has_ended_the_cache_is_followed_as_before() {
        let (before, wanted) = (strict(2_000), strict(1_000));
        let doubted = |epoch, seen| Clearing::Doubted { epoch, anew: false, seen };
        let found = epoch(before);
        for clearing in [Clearing::Truncate, doubted(found, 0), doubted(found, epoch(wanted))] {
            let server = cleared(clearing, Some(wanted), (found, SETTLED), None).await;
            assert!(server.said.lock().iter().all(|said| *said == Some(before)));
            assert_eq!(Following::of(server.clock.lock().0), Some(wanted));
        }
        // A replica that has taken over may be older than the last change of that.
        let server = cleared(doubted(epoch(wanted), found), None, (epoch(wanted), SETTLED), None).await;
        assert!(server.said.lock().iter().all(|said| *said == Some(before)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_truncate_that_another_clearing_has_overtaken_begins_again() {
        // While it waits, another node clears the cache, and knows nothing of those who follow it.
        let (found, other) = ((epoch(strict(2_000)), SETTLED), epoch(strict(25)));
        let server = cleared(Clearing::Truncate, Some(strict(1_000)), found, Some((3, (other, SETTLED)))).await;
        assert_eq!(Following::of(server.clock.lock().0), Some(strict(1_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_joins_a_clearing_waits_for_those_who_followed_before() {
        let doubted = Clearing::Doubted { epoch: 0, anew: false, seen: 0 };
        let begun = (epoch(strict(1_000)), CLEARING);
        for clearing in [doubted, Clearing::Truncate] {
            let alone = waits(clearing, None, begun, None).await;
            assert!(alone >= Duration::from_secs(1), "the other node has died: {alone:?}");
            assert_eq!(waits(clearing, None, (7, CLEARING), None).await, Duration::ZERO, "nobody follows");
        }
    }

    /// Another node has reached the server under another history, and has begun anew.
    #[tokio::test(start_paused = true)]
    async fn a_clearing_is_not_over_while_one_that_began_after_it_goes_on() {
        let (found, anew) = (epoch(strict(1_000)), epoch(strict(1_000)));
        let doubted = Clearing::Doubted { epoch: found, anew: false, seen: 0 };
        let waited = waits(doubted, Some(strict(1_000)), (found, SETTLED), Some((anew, CLEARING))).await;
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
    }

    /// Each began the list anew as soon as it found that the other one had, so neither ever waited for long enough to settle the clock.
    #[tokio::test(start_paused = true)]
    async fn two_that_find_the_list_of_releases_full_at_once_come_to_an_end() {
        let (following, found) = (strict(1_000), epoch(strict(1_000)));
        let server = Server { clock: Mutex::new((found, SETTLED)), then: Mutex::new(None), said: Mutex::default() };
        let layout = Layout::new("larder:site".to_owned(), &Schema::of::<crate::entry::color::Color>());
        let anew = Clearing::Doubted { epoch: found, anew: true, seen: 0 };
        let cleared = || clear(&server, &layout, 3, anew, Some(following), |_| ());
        let both = async { tokio::join!(cleared(), cleared()) };
        let ended = tokio::time::timeout(Duration::from_secs(3_600), both).await;
        assert!(ended.is_ok(), "after an hour the cache is still not settled");
        assert_eq!(server.clock.lock().1, SETTLED);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_joined_a_clearing_goes_on_when_it_is_settled() {
        let doubted = Clearing::Doubted { epoch: 0, anew: false, seen: 0 };
        let epoch = epoch(strict(1_000));
        let joined = waits(doubted, None, (epoch, CLEARING), Some((epoch, SETTLED))).await;
        assert_eq!(joined, LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn who_doubts_the_data_waits_for_those_who_followed_before() {
        let doubted = |epoch, seen| Clearing::Doubted { epoch, anew: false, seen };
        let found = epoch(strict(2_000));
        assert!(waits(doubted(found, 0), None, (found, SETTLED), None).await >= Duration::from_secs(2));
        assert!(waits(doubted(found, 0), Some(strict(1_000)), (found, SETTLED), None).await >= Duration::from_secs(2));
        assert!(waits(doubted(7, found), None, (7, SETTLED), None).await >= Duration::from_secs(2), "it remembers");
        assert_eq!(waits(doubted(7, 0), None, (7, SETTLED), None).await, Duration::ZERO);
    }
}
