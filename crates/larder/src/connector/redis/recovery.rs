//! Recovers a cache on a new connection: the server's history is proven, what may be stale is cleared, and the journal is replayed. Only
//! then is the cache read.

use super::clearing::{self, Head};
use super::link::Private;
use super::store::Store;
use super::trouble::Trouble;
use crate::connector::Ticket;
use crate::protection::{Protection, holds};

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

pub(super) async fn recover(store: &Store, caller: &Private<'_>) -> Result<(), Trouble> {
    let live = caller.live;
    let doubts = store.doubts();
    let mut head = clearing::register(caller, &store.layout).await?;
    match verdict(head, live.identity.history, store.newest()) {
        Verdict::Trust => {}
        Verdict::Clear => {
            if head.epoch != 0 {
                tracing::warn!(
                    cache = %store.schema.cache,
                    "the server's history is not the one known (restart, restored data, or a clearing that did not end): clearing the cache"
                );
                store.schema.stats.resets.increment();
            }
            head = clearing::clear(caller, &store.layout, live.identity.history).await?;
        }
        Verdict::Renumber => {
            tracing::warn!(cache = %store.schema.cache, "the list of releases is full: clearing the cache to begin a new one");
            store.schema.stats.resets.increment();
            head = clearing::clear_and_forget_schemas(caller, &store.layout, live.identity.history).await?;
        }
    }
    // Once: what is deferred meanwhile, perhaps without end, waits until others may use the connection, and are deferred no more.
    let waiting = store.journal.waiting(store.sent_until(live.generation));
    if let Some(waiting) = &waiting {
        if waiting.truncate {
            head = clearing::clear(caller, &store.layout, live.identity.history).await?;
        } else {
            for run in waiting.keys.chunk_by(|(_, a), (_, b)| a == b) {
                for batch in run.chunks(128) {
                    let Some((_, what)) = batch.first() else { continue };
                    let keys: Vec<_> = batch.iter().map(|(key, _)| key.clone()).collect();
                    store.forget(caller, &keys, *what).await?;
                }
            }
        }
        store.has_sent(live.generation, waiting.until);
    }
    store.saw(Ticket { epoch: head.epoch, sequence: head.sequence });
    store.registered(if head.registered { head.epoch } else { 0 });
    store.prove(live.generation, live.identity.history, doubts);
    if let Some(waiting) = waiting {
        // What replicas have yet to confirm stays in the journal, which keeps this node from reading; what comes is sent all the same.
        live.confirm(true).await?;
        let entries = store.journal.replayed(waiting.until);
        store.schema.stats.replayed.add(entries);
        tracing::info!(cache = %store.schema.cache, entries, "journal replayed");
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
