//! Outcomes of the last while, forgotten a tenth of it at a time.
//!
//! Successes arrive here late: they are counted without a clock, and only from time to time put into a bucket
//! (see `gate.rs`). When they happened is not known by then, so they are spread evenly over the time since the last
//! arrival. To count them all as old would make the breaker open on two failures in a hundred after a quiet minute; to
//! count them all as new would keep it closed on the strength of successes that are long past.

use super::options::{BUCKETS, milliseconds};
use std::iter::Sum;
use std::ops::Add;
use std::time::Duration;

/// Outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) successes: u64,
    pub(super) slow: u64,
    pub(super) failures: u64,
    pub(super) neutral: u64,
}

impl Counts {
    /// Outcomes that say something about health.
    pub(super) fn calls(&self) -> u64 {
        self.successes + self.slow + self.failures
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            successes: self.successes + other.successes,
            slow: self.slow + other.slow,
            failures: self.failures + other.failures,
            neutral: self.neutral + other.neutral,
        }
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

#[derive(Debug)]
pub(super) struct Window {
    /// What a bucket spans, in milliseconds; 0 where there is but one and it never ends.
    span: u64,
    /// Which bucket is the current one, counted from the clock's start.
    number: u64,
    current: Counts,
    /// Newest first.
    earlier: [Counts; BUCKETS as usize - 1],
}

impl Window {
    pub(super) fn new(length: Duration, now: u64) -> Self {
        let mut window = Self {
            span: milliseconds(length).div_ceil(u64::from(BUCKETS)),
            number: 0,
            current: Counts::default(),
            earlier: Default::default(),
        };
        window.clear(now);
        window
    }

    pub(super) fn clear(&mut self, now: u64) {
        self.number = self.number_at(now);
        self.current = Counts::default();
        self.earlier = Default::default();
    }

    /// Moves on to `now`; forgets what is older than the window; adds successes that happened since it last moved.
    /// What happens now is to be added to what this returns.
    pub(super) fn slide(&mut self, now: u64, successes: u32) -> &mut Counts {
        let passed = self.number_at(now).saturating_sub(self.number);
        self.number += passed;
        // As many buckets as the successes are spread over, and how many of those are not forgotten by now.
        let spread = passed.saturating_add(1);
        let kept = spread.min(u64::from(BUCKETS));
        // A tenth time forgets everything; more changes nothing.
        for _ in 0..passed.min(u64::from(BUCKETS)) {
            self.earlier.rotate_right(1);
            if let Some(newest) = self.earlier.first_mut() {
                *newest = std::mem::take(&mut self.current);
            }
        }
        let remembered = if kept == spread { u64::from(successes) } else { u64::from(successes) * kept / spread };
        let each = remembered / kept;
        for bucket in self.earlier.iter_mut().zip(1..kept).map(|(bucket, _)| bucket) {
            bucket.successes += each;
        }
        self.current.successes += remembered - each * (kept - 1);
        &mut self.current
    }

    pub(super) fn total(&self) -> Counts {
        self.current + self.earlier.iter().copied().sum()
    }

    fn number_at(&self, now: u64) -> u64 {
        now.checked_div(self.span).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn failures_after(milliseconds: u64) -> u64 {
        let mut window = Window::new(WINDOW, 5_000);
        window.slide(5_000, 0).failures += 7;
        window.slide(5_000 + milliseconds, 0);
        window.total().failures
    }

    #[test]
    fn an_outcome_is_remembered_for_the_window_and_not_longer() {
        assert_eq!(failures_after(0), 7);
        assert_eq!(failures_after(9_999), 7);
        assert_eq!(failures_after(10_000), 0);
        assert_eq!(failures_after(u64::MAX - 5_000), 0);
    }

    #[test]
    fn successes_that_arrive_late_are_spread_over_the_time_they_took() {
        let mut window = Window::new(WINDOW, 0);
        window.slide(99_999, 1000);
        assert_eq!(window.total().successes, 100, "a tenth of 100 s is still remembered");
        window.slide(104_999, 0);
        assert_eq!(window.total().successes, 50);
        window.slide(109_999, 0);
        assert_eq!(window.total().successes, 0);
    }

    #[test]
    fn no_success_is_lost_while_the_window_lasts() {
        for step in [1, 7, 999, 1000, 1001, 3333, 9000] {
            let mut window = Window::new(WINDOW, 0);
            window.slide(step, 1023);
            assert_eq!(window.total().successes, 1023, "{step} ms");
        }
    }

    #[test]
    fn a_window_of_zero_never_forgets() {
        let mut window = Window::new(Duration::ZERO, 3);
        window.slide(3, 5).failures += 1;
        window.slide(u64::MAX, 5).slow += 1;
        assert_eq!(window.total(), Counts { successes: 10, slow: 1, failures: 1, neutral: 0 });
    }
}
