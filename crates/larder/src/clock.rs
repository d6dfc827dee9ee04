//! Time as larder reads it: milliseconds of a monotonic clock that a test can replace.
//!
//! # Which code reads which clock
//!
//! Code that decides how old something is reads a [`Clock`] that was given to it: the ages of objects, floors and notes, the window and
//! the open time of the breaker, the pause between two warnings. A test advances that clock instead of sleeping.
//!
//! Code that waits reads tokio's `Instant`, because it must agree with tokio's timers: the time-outs of loads and leases, the limit of
//! loads after a cache was emptied, the heartbeat and the pauses of recovery, the auditor's grace and how long it bypasses the cache. A
//! test pauses tokio's clock (`tokio::time::pause`), which then jumps from timer to timer.
//!
//! # Cost
//!
//! A precise reading costs about 22 ns, a coarse reading about 5 ns. A cache hit takes a coarse reading, which lags. Only when the end of an
//! object is nearer than [`Clock::COARSE_LAG`], it takes a precise reading.

use crate::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// A monotonic clock in milliseconds. A clone is cheap, and shows the same time.
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
    Manual(Arc<Manual>),
}

/// In milliseconds.
#[derive(Debug)]
struct Manual {
    now: AtomicU64,
    /// How far the coarse clock lags behind. Of the standard library, so that a model checker does not look at each reading of it.
    lag: std::sync::atomic::AtomicU64,
}

impl Clock {
    /// How far, in milliseconds, [`coarse`](Self::coarse) is taken to lag behind [`now`](Self::now) at most.
    ///
    /// Linux gives no bound. It sets this clock with each tick, every 10 ms at the slowest rate (100 Hz), and one processor does that for all of them. If
    /// that processor is kept from it, by the host of a virtual machine for example, the others go on and read an old time: a lag of 10.2 ms was
    /// seen, where the constant was 10. So this is a hundred ticks. A large value costs nothing: only objects that end within it are looked
    /// at by the precise clock, and ages of up to a second, which need it most, always are.
    pub const COARSE_LAG: u64 = 1_000;

    /// The machine's monotonic clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that moves only when its [`ManualClock`] is advanced. It starts at one hour, not at zero, so that times before the start
    /// can be expressed.
    #[must_use]
    pub fn manual() -> (Self, ManualClock) {
        let time = Arc::new(Manual { now: AtomicU64::new(3_600_000), lag: std::sync::atomic::AtomicU64::new(0) });
        (Self(Source::Manual(time.clone())), ManualClock(time))
    }

    /// Milliseconds since an arbitrary start; never goes back.
    #[must_use]
    pub fn now(&self) -> u64 {
        match &self.0 {
            Source::System => machine::milliseconds(),
            Source::Manual(time) => time.now.load(Ordering::Acquire),
        }
    }

    /// The same clock in microseconds, to measure how long something takes.
    #[must_use]
    pub fn micros(&self) -> u64 {
        match &self.0 {
            Source::System => machine::microseconds(),
            Source::Manual(time) => time.now.load(Ordering::Acquire).saturating_mul(1000),
        }
    }

    /// Like [`now`](Self::now), cheaper, and behind it: see [`COARSE_LAG`](Self::COARSE_LAG).
    #[must_use]
    pub fn coarse(&self) -> u64 {
        match &self.0 {
            Source::System => machine::coarse_milliseconds(),
            Source::Manual(time) => time.now.load(Ordering::Acquire).saturating_sub(time.lag.load(Ordering::Acquire)),
        }
    }
}

/// Moves the [`Clock`] it was made with.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Manual>);

impl ManualClock {
    /// Moves the clock forward. Parts of a millisecond are dropped. The clock stops at the highest time that it can show.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let _ = self.0.now.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_add(by)));
    }

    /// From here on [`Clock::coarse`] lags by this behind [`Clock::now`]. At the beginning it does not lag.
    pub fn lag(&self, by: Duration) {
        self.0.lag.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// The machine's monotonic clock.
#[cfg(unix)]
mod machine {
    use rustix::time::{ClockId, clock_gettime};

    /// A clock that costs a quarter of the precise clock, if the system has one.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const COARSE: ClockId = ClockId::MonotonicCoarse;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const COARSE: ClockId = ClockId::Monotonic;

    pub(super) fn milliseconds() -> u64 {
        milliseconds_of(ClockId::Monotonic)
    }

    pub(super) fn coarse_milliseconds() -> u64 {
        milliseconds_of(COARSE)
    }

    pub(super) fn microseconds() -> u64 {
        let time = clock_gettime(ClockId::Monotonic);
        time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000
    }

    fn milliseconds_of(clock: ClockId) -> u64 {
        let time = clock_gettime(clock);
        time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
    }
}

/// The machine's monotonic clock, as the standard library reads it.
#[cfg(not(unix))]
mod machine {
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    /// The first reading; an hour is added to it, so that "before the start" can be expressed.
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    fn since_start() -> Duration {
        START.elapsed() + Duration::from_secs(3600)
    }

    pub(super) fn milliseconds() -> u64 {
        u64::try_from(since_start().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn coarse_milliseconds() -> u64 {
        milliseconds()
    }

    pub(super) fn microseconds() -> u64 {
        u64::try_from(since_start().as_micros()).unwrap_or(u64::MAX)
    }
}
