//! Settings: when a breaker opens, for how long, and how it closes again.

use super::gate::MOST;
use crate::option_error::{OptionError, Refuse, setters};
use std::time::Duration;

/// The window is divided into ten buckets, and forgets one bucket at a time.
pub(super) const BUCKETS: u8 = 10;

/// When a [`Breaker`](super::Breaker) opens, for how long, and how it comes back. The defaults suit a cache server that answers within
/// milliseconds; [`for_server`](Self::for_server) adds what such a server calls slow.
///
/// Durations count in whole milliseconds and are rounded up. Rounded down, a very short duration would become zero, which means
/// "never".
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
    /// `failure_ratio` and `slow_ratio` count only when the window holds at least this many calls. With fewer than about ten calls, a
    /// single failure after a quiet time can be half of all calls. Default 20.
    pub min_calls: u64,
    /// The breaker opens after this many failures in a row, however old the first of them is. Zero: never. Default 5.
    pub consecutive_failures: u32,
    /// The breaker opens when this part of the calls in the window has failed, or more. Zero: never. Default 0.5.
    pub failure_ratio: f64,
    /// A success that took this long, or longer, is slow. Zero: no call is slow. Default zero, because what is slow depends on what
    /// is called.
    pub slow_call: Duration,
    /// The breaker opens when this part of the calls in the window was slow, or more. Zero: never. Default 0.5.
    pub slow_ratio: f64,
    /// How long the breaker stays open the first time. Default 500 ms.
    pub open: Duration,
    /// The longest time the breaker stays open. Each further opening may last up to twice as long as the one before could; the time is
    /// drawn at random between `open` and that limit, so that nodes do not probe in step. `open` or less: always exactly `open`.
    /// Default 1 s: one trial a second costs a server nothing, and a node that waits longer comes back later than the server does.
    pub open_max: Duration,
    /// How long the breaker stays open after a refusal. Only a person can end the reason for a refusal, and a server may count the
    /// attempts. Default 30 s.
    pub open_refused: Duration,
    /// When the breaker has not opened for this time, its next opening lasts `open` again. Default 60 s.
    pub healthy_after: Duration,
    /// Whose calls find out whether the breaker can close. Default [`HalfOpen::Probes`].
    pub half_open: HalfOpen,
    /// This many successes while half-open close the breaker. One failure opens it again. Default 1.
    pub half_open_successes: u32,
    /// When a trial has no outcome after this time, its call hangs, or its permit was forgotten. The trial counts as failed as soon as
    /// another caller wants its place. So it cannot keep the breaker half-open. Set this to longer than any call may take. Zero: a
    /// trial never counts as failed by time. Default 60 s.
    pub trial_timeout: Duration,
    /// After the breaker has closed, the part of calls that it lets through grows from a tenth to all of them over this time. A
    /// server that has just come back is so not knocked over. Zero: all calls at once. Default 5 s.
    pub ramp: Duration,
    /// How many calls may be under way at once. Further calls are shed, or wait for a place if the caller asks for that
    /// ([`permit_when_free`](super::Breaker::permit_when_free)). Zero: no limit, and calls under way are not counted. Default 0.
    pub max_in_flight: usize,
}

/// Whose calls are let through while the breaker is half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfOpen {
    /// One call at a time, and only through [`probe`](super::Breaker::probe). Users are refused until the breaker has closed.
    Probes,
    /// Calls of users, at most this many at once. The first call after the open time makes the breaker half-open.
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
    /// The first setting whose value is not accepted, with what is. [`Breaker::new`](super::Breaker::new) makes the same check.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| self.examine(refuse))
    }

    /// Reports every setting whose value is not accepted.
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
            // NaN is in no range, so it is refused as well.
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

/// The duration in milliseconds, rounded up.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
