//! Limits how often a warning is told, when its cause may come with every request.

use crate::clock::Clock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The pause between two warnings of the same kind, in ms.
const PAUSE: u64 = 60_000;

/// Lets the first warning pass, and then one a minute at most. Each warning that passes says how many cases it stands for, so that no
/// case is forgotten.
#[derive(Debug, Default)]
pub(crate) struct WarningLimit {
    /// No warning passes before this time of the clock. 0: there was no case yet.
    next: AtomicU64,
    /// Cases since the last warning.
    untold: AtomicU64,
}

impl WarningLimit {
    /// Notes some more cases. If it is time to warn, returns how many cases there were since the last warning, these included.
    pub(crate) fn admit(&self, clock: &Clock, cases: u64) -> Option<u64> {
        self.untold.fetch_add(cases, Ordering::Relaxed);
        let (now, next) = (clock.now(), self.next.load(Ordering::Relaxed));
        let due = next == 0 || now >= next;
        // Of several threads that find it to be time, one warns.
        let warns = due
            && self
                .next
                .compare_exchange(next, now.saturating_add(PAUSE), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        warns.then(|| self.untold.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_first_warning_passes_and_then_one_a_minute_which_stands_for_all() {
        let (clock, hand) = Clock::manual();
        let limit = WarningLimit::default();
        assert_eq!(limit.admit(&clock, 1), Some(1));
        assert_eq!((limit.admit(&clock, 1), limit.admit(&clock, 3)), (None, None));
        hand.advance(Duration::from_millis(PAUSE - 1));
        assert_eq!(limit.admit(&clock, 1), None);
        hand.advance(Duration::from_millis(1));
        assert_eq!(limit.admit(&clock, 1), Some(6));
        assert_eq!(limit.admit(&clock, 1), None);
    }
}
