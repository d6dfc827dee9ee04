//! Recovers a cache on a new connection: the history of the server's data is compared with the one known, what may be stale is cleared,
//! and the journal is replayed. Only then is the cache read.
//!
//! Caches are recovered side by side, each for itself, while those that are recovered already are in use. What costs the server little
//! never waits for what costs it much: comparing, replaying and clearing have lanes of their own ([`Lanes`]).

use super::clearing::{self, Head};
use super::forgetting::{self, Batch};
use super::link::{Parcel, Private};
use super::store::Store;
use super::trouble::Trouble;
use crate::connector::{KeyBuf, Ticket};
use crate::journal::Deferred;
use crate::protection::{Protection, holds};
use tokio::sync::Semaphore;

/// How many caches do the same thing at once. The users' own operations share the connection, so the server must never be busy for long
/// with what stands in front of them: all lanes together send it less than 10 ms of work at a time.
const COMPARING: usize = 64;
const REPLAYING: usize = 4;
const CLEARING: usize = 8;

/// Batches of a journal that go in one round trip.
const BATCHES: usize = 4;

/// Who may do what now, among the caches that are being recovered on one connection.
pub(super) struct Lanes {
    comparing: Semaphore,
    replaying: Semaphore,
    clearing: Semaphore,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let (comparing, replaying) = (Semaphore::new(COMPARING), Semaphore::new(REPLAYING));
        Self { comparing, replaying, clearing: Semaphore::new(CLEARING) }
    }
}

/// Whether what the server holds may be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Trust,
    /// It may be from before invalidations that the server has lost.
    Clear,
    /// So many releases have left their schema in the clock that this one finds no place: the list is begun anew, and with
    /// it the cache, since an invalidation reaches only the objects of releases that are listed.
    Renumber,
}

/// Judges the clock on a new connection. `history` is 0 where the server does not say.
fn verdict(head: Head, history: u64, newest: Option<Ticket>) -> Verdict {
    let went_back = newest.is_some_and(|newest| newest.epoch == head.epoch && head.sequence < newest.sequence);
    // Where the server does not say, another epoch may be that of a clearing since, or one from before the last.
    let another_history = match history {
        0 => newest.is_some_and(|newest| newest.epoch != head.epoch),
        _ => head.history != history,
    };
    let (went_back, another_history) = match holds(Protection::History) {
        true => (went_back, another_history),
        false => (false, false),
    };
    if head.epoch == 0 || !head.settled || went_back || another_history {
        Verdict::Clear
    } else if !head.registered {
        Verdict::Renumber
    } else {
        Verdict::Trust
    }
}

/// Recovers one cache. An error that is not the cache's own is one of the connection.
///
/// What is on its way when this is dropped may still reach the server. That is harmless: a removal or a settling names its epoch, and
/// a replay is crossed out only once it was answered.
pub(super) async fn recover(store: &Store, caller: &Private<'_>, lanes: &Lanes) -> Result<(), Trouble> {
    let live = caller.live;
    let doubts = store.doubts();
    let mut head = compare(store, caller, lanes).await?;
    if verdict(head, live.identity.history, store.newest()) != Verdict::Trust {
        let _lane = lanes.clearing.acquire().await;
        // Another node may have cleared it while this one waited for its turn.
        head = compare(store, caller, lanes).await?;
        head = clear_unless_trusted(store, caller, head).await?;
    }
    // Replay the journal once. What is deferred during the replay waits until the cache is proven: from then on new invalidations go to
    // the server directly, so the journal cannot grow without end.
    let waiting = store.journal.waiting(store.sent_until(live.generation));
    if let Some(waiting) = &waiting {
        if waiting.truncate {
            let _lane = lanes.clearing.acquire().await;
            head = clearing::clear(caller, &store.layout, live.identity.history).await?;
        } else {
            let _lane = lanes.replaying.acquire().await;
            replay(store, caller, &waiting.keys).await?;
        }
        store.has_sent(live.generation, waiting.until);
    }
    store.saw(Ticket { epoch: head.epoch, sequence: head.sequence });
    store.registered(if head.registered && head.settled { head.epoch } else { 0 });
    store.prove(live.generation, live.identity.history, doubts);
    if let Some(waiting) = waiting {
        // What replicas have yet to confirm stays in the journal, which keeps this node from reading; what comes is sent all the same.
        live.confirm(true).await?;
        store.replayed(waiting.until);
    }
    Ok(())
}

async fn compare(store: &Store, caller: &Private<'_>, lanes: &Lanes) -> Result<Head, Trouble> {
    let _lane = lanes.comparing.acquire().await;
    clearing::register(caller, &store.layout).await
}

async fn clear_unless_trusted(store: &Store, caller: &Private<'_>, head: Head) -> Result<Head, Trouble> {
    let history = caller.live.identity.history;
    match verdict(head, history, store.newest()) {
        Verdict::Trust => Ok(head),
        Verdict::Clear => {
            if head.epoch != 0 {
                tracing::info!(
                    cache = %store.schema.cache,
                    "the server's history is not the one known (restart, restored data, or a clearing that did not end): clearing the cache"
                );
                store.schema.stats.resets.increment();
            }
            clearing::clear(caller, &store.layout, history).await
        }
        Verdict::Renumber => {
            tracing::info!(cache = %store.schema.cache, "the list of releases is full: clearing the cache to begin a new one");
            store.schema.stats.resets.increment();
            clearing::clear_and_forget_schemas(caller, &store.layout, history).await
        }
    }
}

/// Sends what waits in a journal, in full batches, several of them in a round trip.
async fn replay(store: &Store, caller: &Private<'_>, entries: &[(KeyBuf, Deferred)]) -> Result<(), Trouble> {
    for batches in Batch::of_journal(entries).chunks(BATCHES) {
        let mut parcel = Parcel::new();
        for batch in batches {
            parcel.script(batch.script(), |call| batch.tell(&store.layout, call));
        }
        for reply in caller.parcel(&parcel).await? {
            match forgetting::answer(reply.extract_error()?)? {
                Some(at) => store.saw(at),
                None => {
                    store.lost("the server has lost the clock");
                    return Err(Trouble::Unavailable);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { epoch: 7, sequence: 100, settled: true, history: 3, registered: true };

    #[test]
    fn data_of_the_known_history_is_trusted() {
        assert_eq!(verdict(HEAD, 3, None), Verdict::Trust);
        assert_eq!(verdict(HEAD, 3, Some(Ticket { epoch: 7, sequence: 100 })), Verdict::Trust);
        // Somebody has cleared the cache meanwhile: nothing older is left.
        assert_eq!(verdict(HEAD, 3, Some(Ticket { epoch: 6, sequence: 500 })), Verdict::Trust);
    }

    #[test]
    fn a_restart_from_a_snapshot_is_not_trusted() {
        assert_eq!(verdict(HEAD, 4, None), Verdict::Clear);
    }

    #[test]
    fn a_sequence_that_went_back_is_not_trusted() {
        assert_eq!(verdict(HEAD, 3, Some(Ticket { epoch: 7, sequence: 101 })), Verdict::Clear);
        assert_eq!(verdict(HEAD, 0, Some(Ticket { epoch: 7, sequence: 101 })), Verdict::Clear);
    }

    #[test]
    fn another_epoch_is_not_trusted_where_the_server_does_not_tell_its_history() {
        assert_eq!(verdict(HEAD, 0, None), Verdict::Trust);
        assert_eq!(verdict(HEAD, 0, Some(Ticket { epoch: 7, sequence: 100 })), Verdict::Trust);
        assert_eq!(verdict(HEAD, 0, Some(Ticket { epoch: 6, sequence: 50 })), Verdict::Clear);
    }

    #[test]
    fn a_list_of_releases_without_a_place_for_this_one_is_begun_anew() {
        assert_eq!(verdict(Head { registered: false, ..HEAD }, 3, None), Verdict::Renumber);
        assert_eq!(verdict(Head { registered: false, ..HEAD }, 4, None), Verdict::Clear, "which is looked at again");
    }

    #[test]
    fn a_missing_or_unsettled_clock_is_not_trusted() {
        assert_eq!(verdict(Head { epoch: 0, ..HEAD }, 3, None), Verdict::Clear);
        assert_eq!(verdict(Head { settled: false, ..HEAD }, 3, None), Verdict::Clear);
    }
}
