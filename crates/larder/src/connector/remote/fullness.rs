//! A server that takes no more data: fills pause. This is logged once when it begins, and once when it is over.

use super::trouble::Trouble;
use crate::clock::Clock;
use crate::telemetry::{Ended, Episode};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// After the server said that it is full, no fill is sent for this long, in ms.
const PAUSE: u64 = 1_000;

/// A server that has refused nothing for this long, in ms, and then stores an object, is no longer full. A full server may have room for a
/// single object now and then.
const OVER_AFTER: u64 = 10_000;

#[derive(Default)]
pub(crate) struct Fullness {
    /// Until when fills pause, in ms; 0: the server is not full.
    until: AtomicU64,
    episode: Mutex<Episode>,
}

impl Fullness {
    pub(super) fn pauses(&self, clock: &Clock) -> bool {
        clock.coarse() < self.until.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self, clock: &Clock, cache: &str, trouble: &Trouble) {
        let now = clock.now();
        if self.episode.lock().count(now, 1) {
            tracing::warn!(%cache, error = %trouble, "the server takes no more data, and nothing is stored until it does");
        }
        self.until.store(now + PAUSE, Ordering::Relaxed);
    }

    pub(super) fn has_room(&self, clock: &Clock, cache: &str) {
        if self.until.load(Ordering::Relaxed) == 0 {
            return;
        }
        let ended = self.episode.lock().end_after(clock.now(), OVER_AFTER);
        if let Some(Ended { entries: refused, lasted_ms }) = ended {
            self.until.store(0, Ordering::Relaxed);
            tracing::info!(%cache, refused, lasted_ms, "the server takes data again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trouble::What;
    use super::*;
    use std::time::Duration;

    /// A server whose memory is full gave a warning for each set.
    #[test]
    fn a_full_server_is_one_episode_however_often_it_has_room_for_one_more() {
        let (clock, hand) = Clock::manual();
        let fullness = Fullness::default();
        let full = Trouble::Error { what: What::Full, text: "OOM".to_owned() };
        for refused in 1..=40 {
            fullness.refused(&clock, "color", &full);
            assert!(fullness.pauses(&clock));
            hand.advance(Duration::from_millis(300));
            fullness.has_room(&clock, "color");
            assert_eq!(fullness.episode.lock().counted(), Some(refused), "it goes on");
        }
        hand.advance(Duration::from_millis(OVER_AFTER));
        fullness.has_room(&clock, "color");
        assert_eq!(fullness.episode.lock().counted(), None);
        assert_eq!(fullness.until.load(Ordering::Relaxed), 0);
    }
}
