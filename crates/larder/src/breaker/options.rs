//! When a breaker opens, for how long, and how it comes back.

use super::gate::MOST;
use crate::options::{OptionError, Refuse, setters};
use std::time::Duration;

/// Buckets of the window: it forgets a tenth at a time.
pub(super) const BUCKETS: u8 = 10;

/// When a [`Breaker`](super::Breaker) opens, for how long, and how it comes back. The defaults suit a cache server that answers within
/// milliseconds; [`for_server`](Self::for_server) adds what such a server calls slow.
///
/// Durations count in whole milliseconds; a part of one is rounded up, so that nothing short becomes "never".
///
/// ```
/// use larder::breaker::BreakerOptions;
/// use std::time::Duration;
///
/// let patient = BreakerOptions::new().consecutive_failures(20).open(Duration::from_secs(5));
/// assert!(patient.validate().is_ok());
///
/// let nonsense = BreakerOptions::new().failure_ratio(50.0);
/// assert_eq!(nonsense.validate().unwrap_err().to_string(), "failure_ratio is `50`: give 0 (never) to 1");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BreakerOptions {
    /// How far back outcomes count; they are forgotten a tenth of it at a time. Zero: they count until the state changes,
    /// so that after a million successes half a million failures are needed to reach one in three. Default 10 s.
    pub window: Duration,
    /// Ratios are judged from this many calls in the window on. Below about ten, a single failure after a quiet time can be all
    /// there is to judge by. Default 20.
    pub min_calls: u64,
    /// Opens on so many failures in a row, however old the first of them is. Zero: never. Default 5.
    pub consecutive_failures: u32,
    /// Opens when this part of the calls in the window has failed, or more. Zero: never. Default 0.5.
    pub failure_ratio: f64,
    /// A success that took this long is slow. What is slow depends on what is called, so there is none by default: zero, no
    /// call is slow.
    pub slow_call: Duration,
    /// Opens when this part of the calls in the window was slow, or more. Zero: never. Default 0.5.
    pub slow_ratio: f64,
    /// How long it stays open the first time. Default 500 ms.
    pub open: Duration,
    /// Each further opening lasts between `open` and twice as long as the one before could, drawn at random so that nodes do
    /// not probe in step, and never longer than this. `open` or less: always exactly `open`. Default 1 s: one trial a second costs
    /// a server nothing, and whoever waits longer comes back later than the server does.
    pub open_max: Duration,
    /// How long a refusal keeps it open: nothing but a person ends one, and a server may count the attempts. Default 30 s.
    pub open_refused: Duration,
    /// After so long without opening, the next opening lasts `open` again. Default 60 s.
    pub healthy_after: Duration,
    /// Who finds out whether it can close. Default [`HalfOpen::Probes`].
    pub half_open: HalfOpen,
    /// Successes while half-open that close it; one failure opens it again. Default 1.
    pub half_open_successes: u32,
    /// A call of the half-open state of which nothing was said for so long counts as failed, once somebody else wants its
    /// place: it hangs, or its permit was forgotten, and must not keep the breaker half-open. Longer than any call may
    /// take. Zero: never. Default 60 s.
    pub trial_timeout: Duration,
    /// After closing, the part of calls let through grows from a tenth to all of them over this time, so that what has just
    /// come back is not knocked over. Zero: all at once. Default 5 s.
    pub ramp: Duration,
    /// Calls under way at once. More are shed, or wait for a place where the caller asks for that
    /// ([`permit_when_free`](super::Breaker::permit_when_free)). Zero: no limit, and they are not counted. Default 0.
    pub max_in_flight: usize,
}

/// Whose calls are let through while the breaker is half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfOpen {
    /// One at a time, and only through [`probe`](super::Breaker::probe): users are refused until the breaker has closed.
    Probes,
    /// Users' own, at most so many at once. The first call after the open time makes the breaker half-open.
    Requests(u32),
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            min_calls: 20,
            consecutive_failures: 5,
            failure_ratio: 0.5,
            slow_call: Duration::ZERO,
            slow_ratio: 0.5,
            open: Duration::from_millis(500),
            open_max: Duration::from_secs(1),
            open_refused: Duration::from_secs(30),
            healthy_after: Duration::from_secs(60),
            half_open: HalfOpen::Probes,
            half_open_successes: 1,
            trial_timeout: Duration::from_secs(60),
            ramp: Duration::from_secs(5),
            max_in_flight: 0,
        }
    }
}

impl BreakerOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The defaults for a server that is called over a network: as [`new`](Self::new), and a call that takes 50 ms is slow. A cache
    /// server that takes so long for one of every two calls is no use to anybody.
    #[must_use]
    pub fn for_server() -> Self {
        Self::new().slow_call(Duration::from_millis(50))
    }

    setters! {
        window: Duration,
        min_calls: u64,
        consecutive_failures: u32,
        failure_ratio: f64,
        slow_call: Duration,
        slow_ratio: f64,
        open: Duration,
        open_max: Duration,
        open_refused: Duration,
        healthy_after: Duration,
        half_open: HalfOpen,
        half_open_successes: u32,
        trial_timeout: Duration,
        ramp: Duration,
        max_in_flight: usize,
    }

    /// Checks that every setting can be meant.
    ///
    /// # Errors
    ///
    /// The first setting that cannot, with its value and what is accepted. [`Breaker::new`](super::Breaker::new) refuses it as well.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| self.examine(refuse))
    }

    /// Tells of every setting that cannot be meant.
    pub(crate) fn examine(&self, refuse: Refuse<'_>) {
        const RATIO: &str = "0 (never) to 1";
        const NUMBER: &str = "a number, 1 or more";
        let shortest = Duration::from_millis(u64::from(BUCKETS));
        if !self.window.is_zero() && self.window < shortest {
            refuse(OptionError::duration("window", self.window, "0 (never forgets) or at least 10 ms"));
        }
        if self.min_calls == 0 {
            refuse(OptionError::new("min_calls", self.min_calls, NUMBER));
        }
        for (name, ratio) in [("failure_ratio", self.failure_ratio), ("slow_ratio", self.slow_ratio)] {
            // A NaN is in no range.
            if !(0.0..=1.0).contains(&ratio) {
                refuse(OptionError::new(name, ratio, RATIO));
            }
        }
        if self.open.is_zero() {
            refuse(OptionError::duration("open", self.open, "a duration above 0, such as 1s"));
        }
        if self.open_refused.is_zero() {
            refuse(OptionError::duration("open_refused", self.open_refused, "a duration above 0, such as 30s"));
        }
        match self.half_open {
            HalfOpen::Requests(most) if most == 0 || most > MOST => {
                refuse(OptionError::new("half_open", most, "probes, or a number of requests, 1 to 16777215"));
            }
            HalfOpen::Probes | HalfOpen::Requests(_) => {}
        }
        if self.half_open_successes == 0 {
            refuse(OptionError::new("half_open_successes", self.half_open_successes, NUMBER));
        }
    }
}

/// Milliseconds, rounded up.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
