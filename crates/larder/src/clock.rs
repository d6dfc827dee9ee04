//! Time as larder reads it: milliseconds of a monotonic clock that a test can replace.
//!
//! Ages, and the windows and pauses of the breaker, are computed from a [`Clock`], so that a test advances time instead of sleeping. What
//! only waits in a task takes its time from `tokio::time`, which a test can pause: the supervisor, the waits and limits of loads, the
//! auditor.
//!
//! A precise reading costs about 22 ns, a coarse one about 5 ns. A cache hit takes the coarse reading, which may lag by up to
//! [`Clock::COARSE_LAG`], and asks for the precise one only near a deadline.

use crate::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// A monotonic clock in milliseconds; cloning it is cheap, and clones show the same time.
///
/// ```
/// use larder::clock::Clock;
/// use std::time::Duration;
///
/// let (clock, hand) = Clock::manual();
/// let before = clock.now();
/// hand.advance(Duration::from_millis(250));
/// assert_eq!(clock.now() - before, 250);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// How far, in milliseconds, [`coarse`](Self::coarse) may lag behind [`now`](Self::now): one kernel tick at the
    /// slowest usual rate (100 Hz).
    pub const COARSE_LAG: u64 = 10;

    /// The machine's monotonic clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that moves only when its [`ManualClock`] is advanced. It starts at one hour, not zero, so that "before
    /// the start" can be expressed.
    #[must_use]
    pub fn manual() -> (Self, ManualClock) {
        let time = Arc::new(AtomicU64::new(3_600_000));
        (Self(Source::Manual(time.clone())), ManualClock(time))
    }

    /// Milliseconds since an arbitrary start; never goes back.
    #[must_use]
    pub fn now(&self) -> u64 {
        match &self.0 {
            Source::System => milliseconds(rustix::time::ClockId::Monotonic),
            Source::Manual(time) => time.load(Ordering::Acquire),
        }
    }

    /// The same clock in microseconds, to tell how long something took.
    #[must_use]
    pub fn micros(&self) -> u64 {
        match &self.0 {
            Source::System => microseconds(rustix::time::ClockId::Monotonic),
            Source::Manual(time) => time.load(Ordering::Acquire).saturating_mul(1000),
        }
    }

    /// Like [`now`](Self::now), cheaper, and up to [`COARSE_LAG`](Self::COARSE_LAG) milliseconds behind it.
    #[must_use]
    pub fn coarse(&self) -> u64 {
        match &self.0 {
            Source::System => coarse_milliseconds(),
            Source::Manual(time) => time.load(Ordering::Acquire),
        }
    }
}

/// Moves the [`Clock`] it was made with.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the clock forward, to the end of time at most; parts of a millisecond are dropped.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_add(by)));
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn coarse_milliseconds() -> u64 {
    milliseconds(rustix::time::ClockId::MonotonicCoarse)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn coarse_milliseconds() -> u64 {
    milliseconds(rustix::time::ClockId::Monotonic)
}

fn microseconds(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000
}

fn milliseconds(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}
