//! The decisions, as pure functions of plain numbers.

use super::options::{BreakerOptions, milliseconds};
use super::transition::Cause;
use super::window::Counts;
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// Whether to open, after an outcome that was not a plain success. `run` is the number of failures in a row.
pub(super) fn verdict(config: &BreakerOptions, counts: &Counts, run: u32, last: Cow<'static, str>) -> Option<Cause> {
    if config.consecutive_failures > 0 && run >= config.consecutive_failures {
        return Some(Cause::FailuresInARow { failures: run, last });
    }
    let (calls, failures, slow) = (counts.calls(), counts.failures, counts.slow);
    if calls < config.min_calls {
        None
    } else if reaches(failures, calls, config.failure_ratio) {
        Some(Cause::FailureRatio { failures, calls, last })
    } else if reaches(slow, calls, config.slow_ratio) {
        Some(Cause::SlowRatio { slow, calls })
    } else {
        None
    }
}

/// Nobody counts to 2⁵³, up to where `f64` is exact.
fn reaches(some: u64, all: u64, ratio: f64) -> bool {
    ratio > 0.0 && some > 0 && some as f64 >= ratio * all as f64
}

/// How long to stay open, in milliseconds, after `earlier` openings without a healthy time in between. `draw` picks from a
/// range.
pub(super) fn open_time(config: &BreakerOptions, earlier: u32, draw: impl FnOnce(RangeInclusive<u64>) -> u64) -> u64 {
    let (shortest, longest) = (milliseconds(config.open), milliseconds(config.open_max));
    let doubled = 1_u64.checked_shl(earlier).and_then(|factor| shortest.checked_mul(factor));
    let highest = doubled.map_or(longest, |doubled| doubled.min(longest));
    // Not from zero up, as full jitter often is: an open time of zero is no open time.
    if highest > shortest { draw(shortest..=highest) } else { shortest }
}

/// The part of calls that is let through as a ramp begins.
const FIRST_SHARE: f64 = 0.1;

/// Whether a ramp lets the call through that is number `asked`, counted from 0, `elapsed` of `ramp` milliseconds after it began.
///
/// A Weyl sequence instead of dice: any stretch of calls has its share let through, evenly spread, and a test can tell.
pub(super) fn ramp_admits(asked: u64, elapsed: u64, ramp: u64) -> bool {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let grown = elapsed as f64 / ramp.max(1) as f64;
    let share = FIRST_SHARE + (1.0 - FIRST_SHARE) * grown;
    let point = asked.wrapping_mul(GOLDEN) as f64 / u64::MAX as f64;
    point < share
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn config() -> BreakerOptions {
        let (open, open_max) = (Duration::from_secs(1), Duration::from_secs(30));
        BreakerOptions { slow_call: Duration::from_millis(50), open, open_max, ..BreakerOptions::default() }
    }

    fn judged(successes: u64, failures: u64, slow: u64, run: u32) -> Option<Cause> {
        verdict(&config(), &Counts { successes, slow, failures, neutral: 1000 }, run, "reset".into())
    }

    #[test]
    fn a_run_of_failures_opens_however_many_successes_came_before() {
        assert_eq!(judged(1_000_000, 4, 0, 4), None);
        assert_eq!(judged(1_000_000, 5, 0, 5), Some(Cause::FailuresInARow { failures: 5, last: "reset".into() }));
    }

    #[test]
    fn one_failure_of_one_call_is_a_hundred_per_cent_and_no_reason_to_open() {
        assert_eq!(judged(0, 1, 0, 1), None);
        assert_eq!(judged(0, 19, 0, 0), None);
        assert_eq!(judged(0, 20, 0, 0), Some(Cause::FailureRatio { failures: 20, calls: 20, last: "reset".into() }));
    }

    #[test]
    fn half_of_the_calls_is_the_border() {
        assert_eq!(judged(51, 49, 0, 0), None);
        assert_eq!(judged(50, 50, 0, 0), Some(Cause::FailureRatio { failures: 50, calls: 100, last: "reset".into() }));
        assert_eq!(judged(51, 0, 49, 0), None);
        assert_eq!(judged(50, 0, 50, 0), Some(Cause::SlowRatio { slow: 50, calls: 100 }));
    }

    #[test]
    fn zero_disables_a_trigger() {
        let off = BreakerOptions { consecutive_failures: 0, failure_ratio: 0.0, slow_ratio: 0.0, ..config() };
        let all_bad = Counts { successes: 0, slow: 500, failures: 500, neutral: 0 };
        assert_eq!(verdict(&off, &all_bad, 500, "reset".into()), None);
    }

    #[test]
    fn the_open_time_doubles_up_to_its_limit_and_never_falls_below_the_first() {
        let highest = |earlier| open_time(&config(), earlier, |range| *range.end());
        let times = [0, 1, 2, 3, 4, 5, 6, 63, 64, u32::MAX].map(highest);
        assert_eq!(times, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 30_000, 30_000]);
        let lowest = |earlier| open_time(&config(), earlier, |range| *range.start());
        assert_eq!([0, 1, 5, u32::MAX].map(lowest), [1_000; 4]);
    }

    #[test]
    fn an_open_time_that_is_its_own_limit_is_exact() {
        let fixed = BreakerOptions { open_max: Duration::from_secs(1), ..config() };
        for earlier in [0, 1, 30, u32::MAX] {
            assert_eq!(open_time(&fixed, earlier, |_| panic!("nothing to draw")), 1_000);
        }
    }

    #[test]
    fn a_ramp_lets_its_share_through_in_any_stretch_of_calls() {
        for (elapsed, share) in [(0, 100), (250, 325), (500, 550), (999, 999)] {
            for start in [0, 12_345, u64::MAX - 500] {
                let admitted = (0..1000).filter(|n| ramp_admits(start.wrapping_add(*n), elapsed, 1000)).count();
                assert!(admitted.abs_diff(share) <= 5, "{admitted} of 1000 after {elapsed} of 1000 ms");
            }
        }
        assert!(ramp_admits(0, 0, 1000), "the first call finds out soonest");
    }
}
