//! A state that begins, lasts and ends. An operator is told twice, however many cases are counted in between.

/// A state that lasts for a while, and how many cases were counted in it. The user of an episode holds the lock under which the state
/// itself changes.
#[derive(Debug, Default)]
pub(crate) struct Episode {
    /// When the episode began, in ms of the user's clock. `None`: no episode is under way.
    since: Option<u64>,
    /// When a case was last counted.
    last: u64,
    entries: u64,
}

/// An episode that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How many cases were counted.
    pub(crate) entries: u64,
    /// How long the episode lasted, in ms.
    pub(crate) lasted_ms: u64,
}

impl Episode {
    /// Counts so many cases. Returns whether an episode begins with them.
    pub(crate) fn count(&mut self, now: u64, entries: u64) -> bool {
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        self.last = now;
        self.entries = self.entries.saturating_add(entries);
        begins
    }

    /// Ends the episode, if no case was counted for `calm` ms. `None`: a case was counted, or no episode is under way.
    pub(crate) fn end_after(&mut self, now: u64, calm: u64) -> Option<Ended> {
        let over = now >= self.last.saturating_add(calm);
        let since = self.since.take_if(|_| over)?;
        Some(Ended { entries: std::mem::take(&mut self.entries), lasted_ms: now.saturating_sub(since) })
    }

    /// How many cases were counted so far. `None`: no episode is under way.
    #[cfg(test)]
    pub(crate) fn counted(&self) -> Option<u64> {
        self.since.map(|_| self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::time::Duration;

    #[test]
    fn an_episode_begins_once_and_ends_once_with_what_was_counted() {
        let (clock, hand) = Clock::manual();
        let mut episode = Episode::default();
        assert_eq!(episode.end_after(clock.now(), 500), None, "none is under way");
        for _ in 0..2 {
            assert!(episode.count(clock.now(), 3));
            hand.advance(Duration::from_secs(2));
            assert!(!episode.count(clock.now(), 4), "it has begun already");
            hand.advance(Duration::from_millis(499));
            assert_eq!(episode.end_after(clock.now(), 500), None, "something has just happened");
            hand.advance(Duration::from_millis(1));
            assert_eq!(episode.end_after(clock.now(), 500), Some(Ended { entries: 7, lasted_ms: 2_500 }));
            assert_eq!(episode.end_after(clock.now(), 500), None);
        }
    }
}
