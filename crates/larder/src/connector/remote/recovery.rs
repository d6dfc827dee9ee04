//! Recovers a cache on a new connection: compares the history of the server's data with the known one, clears the cache if its data may be
//! stale, and replays the journal. Only then is the cache read.
//!
//! Caches are recovered side by side and independently. Those that are recovered already are in use. Comparing, replaying and clearing have
//! lanes of their own ([`Lanes`]), so that a step that costs the server little never waits for one that costs it much.

use super::cache::RemoteCache;
use super::forgetting::Batch;
use super::journal::Deferred;
use super::link::{Channel, Live, Place};
use super::server_kind::{Clearing, Clocked, ServerKind};
use super::trouble::Trouble;
use super::trust::LOST;
use crate::contract::{KeyBuf, Ticket};
use crate::protection::{Protection, holds};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How many caches may compare, replay or clear at once. The operations of users share the connection and wait behind this work, so all
/// lanes together give the server less than 10 ms of work at a time.
const COMPARING: usize = 64;
const REPLAYING: usize = 4;
const CLEARING: usize = 8;

/// How many batches of a journal go in one round trip.
const BATCHES: usize = 4;

/// The places for each step, shared by the caches that are being recovered on one connection.
pub(super) struct Lanes {
    comparing: Semaphore,
    replaying: Semaphore,
    clearing: Arc<Semaphore>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let (comparing, replaying) = (Semaphore::new(COMPARING), Semaphore::new(REPLAYING));
        Self { comparing, replaying, clearing: Arc::new(Semaphore::new(CLEARING)) }
    }
}

/// What the clock says about the stored data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoredData {
    /// It is the data that this node knows: it may be read.
    Known,
    /// It may be older than invalidations that were applied, and that the server has lost.
    Doubtful,
    /// The list of releases in the clock is full, and this release is not in it. The list is begun anew, and the cache is cleared, because an
    /// invalidation reaches only the objects of listed releases.
    Unlisted,
}

/// Compares the clock on a new connection with what this node knows. `history` is 0 if the server does not tell it.
fn compare_with_known(clock: Clocked, history: u64, newest: Option<Ticket>) -> StoredData {
    let went_back = newest.is_some_and(|newest| newest.epoch == clock.epoch && clock.sequence < newest.sequence);
    // If the server does not tell its history, another epoch may come from a later clearing, or from data before the last one.
    let another_history = match history {
        0 => newest.is_some_and(|newest| newest.epoch != clock.epoch),
        _ => clock.history != history,
    };
    let (went_back, another_history) = match holds(Protection::History) {
        true => (went_back, another_history),
        false => (false, false),
    };
    if clock.epoch == 0 || !clock.settled || went_back || another_history {
        StoredData::Doubtful
    } else if !clock.registered {
        StoredData::Unlisted
    } else {
        StoredData::Known
    }
}

/// The recovery of one cache on one connection.
pub(super) struct Recovery<'a, P: ServerKind> {
    pub(super) cache: &'a RemoteCache<P>,
    pub(super) live: &'a Live<P>,
    /// Beside the breaker, with the time-out of a connection attempt.
    pub(super) channel: Channel<'a, P>,
    /// The place of the channel.
    pub(super) place: &'a Place,
    pub(super) lanes: &'a Lanes,
}

impl<P: ServerKind> Recovery<'_, P> {
    /// Recovers one cache. An error concerns the cache or the connection; the supervisor tells them apart.
    ///
    /// If this is dropped, requests that were sent may still reach the server. That is harmless: a removal or a settling names its epoch, and
    /// entries leave the journal only after their replay was answered.
    pub(super) async fn run(&self) -> Result<(), Trouble> {
        let (cache, live) = (self.cache, self.live);
        let protocol = cache.link.kind();
        let doubts = cache.trust.doubts();
        // Before the clock is read: an answer that arrives later, on the connection before this one, may be newer than the clock.
        let newest = cache.newest();
        let mut clock = self.compare().await?;
        if self.judge(clock, newest) != StoredData::Known {
            clock = self.clear_unless_trusted().await?;
        }
        // Replay the journal once. What is deferred during the replay waits until the cache is proven: from then on new invalidations go to
        // the server directly, so the journal cannot grow without end.
        let waiting = cache.journal.waiting(cache.trust.sent_until(live.generation));
        if let Some(waiting) = &waiting {
            if waiting.truncate {
                let _place = self.place.take(&self.lanes.clearing).await;
                let cleared = protocol.clear(&self.channel, &cache.local, live.history, Clearing::Truncate).await?;
                clock = cleared.unwrap_or(clock);
                if clock.epoch == 0 {
                    return Err(self.lost());
                }
            } else {
                let _lane = self.lanes.replaying.acquire().await;
                self.replay(&waiting.keys).await?;
            }
            cache.trust.has_sent(live.generation, waiting.until);
        }
        cache.saw(clock.ticket());
        cache.trust.registered(if clock.registered && clock.settled { clock.epoch } else { 0 });
        cache.prove(live.generation, live.history, doubts);
        if let Some(waiting) = waiting {
            // Until replicas confirm the entries, they stay in the journal, and this node does not read. New changes are sent all the same.
            protocol.confirm(&live.connection, true).await?;
            if let Some(changed) = cache.newest() {
                protocol.elsewhere(cache, changed).await;
            }
            cache.replayed(waiting.until);
        }
        Ok(())
    }

    /// What the clock says of the stored data, here and now.
    fn judge(&self, clock: Clocked, newest: Option<Ticket>) -> StoredData {
        match compare_with_known(clock, self.live.history, newest) {
            StoredData::Known if !self.cache.link.kind().accepts(&self.cache.local, clock) => StoredData::Doubtful,
            found => found,
        }
    }

    async fn compare(&self) -> Result<Clocked, Trouble> {
        let _lane = self.lanes.comparing.acquire().await;
        self.cache.link.kind().read_clock(&self.channel, &self.cache.local).await
    }

    /// Clears the cache, unless its data is the known data by now. Another node may have cleared the cache while this one waited for its lane,
    /// or while its request to clear was on the way. So nodes that start together clear a cache only once.
    async fn clear_unless_trusted(&self) -> Result<Clocked, Trouble> {
        let (cache, history) = (self.cache, self.live.history);
        loop {
            let _place = self.place.take(&self.lanes.clearing).await;
            let newest = cache.newest();
            let clock = self.compare().await?;
            let anew = match self.judge(clock, newest) {
                StoredData::Known => return Ok(clock),
                StoredData::Doubtful => {
                    if clock.epoch != 0 {
                        tracing::info!(
                            cache = %cache.schema.cache,
                            "the stored data may be stale (server restarted, data restored, or a clearing did not finish): clearing the cache"
                        );
                        cache.schema.stats.resets.increment();
                    }
                    false
                }
                StoredData::Unlisted => {
                    tracing::info!(cache = %cache.schema.cache, "the list of releases is full: clearing the cache to begin a new one");
                    cache.schema.stats.resets.increment();
                    true
                }
            };
            let seen = newest.map_or(0, |newest| newest.epoch);
            let doubted = Clearing::Doubted { epoch: clock.epoch, anew, seen };
            match cache.link.kind().clear(&self.channel, &cache.local, history, doubted).await? {
                // Lost once more, while it was being cleared.
                Some(Clocked { epoch: 0, .. }) => return Err(self.lost()),
                Some(cleared) => return Ok(cleared),
                None => {}
            }
        }
    }

    /// The clock is not there any more. Another recovery begins.
    fn lost(&self) -> Trouble {
        self.cache.lost(LOST);
        Trouble::Unavailable
    }

    /// Sends the entries of a journal in full batches, several batches in one round trip.
    async fn replay(&self, entries: &[(KeyBuf, Deferred)]) -> Result<(), Trouble> {
        let cache = self.cache;
        for batches in Batch::of_journal(entries).chunks(BATCHES) {
            let mut answers = Vec::with_capacity(batches.len());
            cache.link.kind().forget(&self.channel, &cache.local, batches, &mut answers).await?;
            for answer in answers {
                match answer? {
                    Some(at) => cache.saw(at),
                    None => return Err(self.lost()),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Clocked = Clocked { epoch: 7, sequence: 100, settled: true, history: 3, registered: true };

    #[test]
    fn data_of_the_known_history_is_trusted() {
        assert_eq!(compare_with_known(CLOCK, 3, None), StoredData::Known);
        assert_eq!(compare_with_known(CLOCK, 3, Some(Ticket { epoch: 7, sequence: 100 })), StoredData::Known);
        // Somebody has cleared the cache meanwhile: nothing older is left.
        assert_eq!(compare_with_known(CLOCK, 3, Some(Ticket { epoch: 6, sequence: 500 })), StoredData::Known);
    }

    #[test]
    fn a_restart_from_a_snapshot_is_not_trusted() {
        assert_eq!(compare_with_known(CLOCK, 4, None), StoredData::Doubtful);
    }

    #[test]
    fn a_sequence_that_went_back_is_not_trusted() {
        assert_eq!(compare_with_known(CLOCK, 3, Some(Ticket { epoch: 7, sequence: 101 })), StoredData::Doubtful);
        assert_eq!(compare_with_known(CLOCK, 0, Some(Ticket { epoch: 7, sequence: 101 })), StoredData::Doubtful);
    }

    #[test]
    fn another_epoch_is_not_trusted_where_the_server_does_not_tell_its_history() {
        assert_eq!(compare_with_known(CLOCK, 0, None), StoredData::Known);
        assert_eq!(compare_with_known(CLOCK, 0, Some(Ticket { epoch: 7, sequence: 100 })), StoredData::Known);
        assert_eq!(compare_with_known(CLOCK, 0, Some(Ticket { epoch: 6, sequence: 50 })), StoredData::Doubtful);
    }

    #[test]
    fn a_list_of_releases_without_a_place_for_this_one_is_begun_anew() {
        assert_eq!(compare_with_known(Clocked { registered: false, ..CLOCK }, 3, None), StoredData::Unlisted);
        assert_eq!(
            compare_with_known(Clocked { registered: false, ..CLOCK }, 4, None),
            StoredData::Doubtful,
            "which is looked at again"
        );
    }

    #[test]
    fn a_missing_or_unsettled_clock_is_not_trusted() {
        assert_eq!(compare_with_known(Clocked { epoch: 0, ..CLOCK }, 3, None), StoredData::Doubtful);
        assert_eq!(compare_with_known(Clocked { settled: false, ..CLOCK }, 3, None), StoredData::Doubtful);
    }
}
