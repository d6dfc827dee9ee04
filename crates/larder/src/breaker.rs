//! A circuit breaker: it stops calls to a server that does not answer, and finds out by itself when the server answers again.
//!
//! The breaker knows nothing of caches or servers. A caller asks for a [`Permit`], makes its call, and then tells the permit how
//! the call went. One logical operation, its retries included, is one permit and one outcome.
//!
//! ```
//! use larder::breaker::{Breaker, BreakerOptions, Refused, State};
//! use larder::clock::Clock;
//! use std::time::Duration;
//!
//! let (clock, hand) = Clock::manual();
//! let breaker = Breaker::new("billing", BreakerOptions::new().ramp(Duration::ZERO), clock)?;
//! breaker.subscribe(|transition| println!("{transition}"));
//! for _ in 0..5 {
//!     breaker.permit().unwrap().failure("connection reset");
//! }
//! assert_eq!(breaker.permit().unwrap_err(), Refused::Open);
//!
//! hand.advance(Duration::from_secs(1));
//! breaker.probe().expect("it is time").success();
//! assert_eq!(breaker.state(), State::Closed);
//! # Ok::<(), larder::OptionError>(())
//! ```
//!
//! # Concurrency
//!
//! While the breaker is closed, a permit and a success cost one atomic load and one compare-and-exchange: no lock, no clock, no
//! allocation. A failure takes a lock. Every change of state begins a new *generation* (only the step from ramping to closed does
//! not), and every count belongs to one generation. So the outcome of a call that began before the outage is not counted after the
//! outage. `gate.rs` has the invariants.
//!
//! # Cancellation
//!
//! A permit that is dropped is not counted, and gives its place back. A caller that is dropped while it waits for a place
//! ([`permit_when_free`](Breaker::permit_when_free)) leaves the queue. So a cancelled probe neither closes the breaker nor keeps
//! the breaker half-open for ever. A probe that hangs counts as failed after [`trial_timeout`](BreakerOptions::trial_timeout).

use crate::clock::Clock;
use crate::option_error::OptionError;
use crate::sync::atomic::Ordering;
use machine::Machine;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

mod gate;
mod judgement;
mod machine;
mod options;
mod permit;
mod places;
#[cfg(test)]
mod tests;
mod transition;
mod window;

pub use options::{BreakerOptions, HalfOpen};
pub use permit::{Permit, PermitWhenFree};
pub use transition::{Cause, Transition};

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Every call is let through.
    Closed,
    /// The breaker has just closed. A part of the calls is let through, and the part grows until it is all of them.
    Ramping,
    /// No call is let through.
    Open,
    /// A few calls, the trials, are let through. Their outcomes decide whether the breaker closes.
    HalfOpen,
    /// Open until somebody forces another state or resets the breaker.
    ForcedOpen,
    /// Closed, whatever fails, until somebody forces another state or resets the breaker.
    ForcedClosed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Closed, Self::Ramping, Self::Open, Self::HalfOpen, Self::ForcedOpen, Self::ForcedClosed];

    /// The name of the state in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Ramping => "ramping",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }

    fn from_bits(bits: u64) -> Self {
        match bits {
            0 => Self::Closed,
            1 => Self::Ramping,
            2 => Self::Open,
            3 => Self::HalfOpen,
            4 => Self::ForcedOpen,
            _ => Self::ForcedClosed,
        }
    }

    /// Whether ordinary calls are let through, not only trials.
    pub(crate) fn admits(self) -> bool {
        matches!(self, Self::Closed | Self::Ramping | Self::ForcedClosed)
    }

    /// Whether outcomes are counted one by one.
    fn counts(self) -> bool {
        self.admits()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Ramping => "ramping",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced open",
            Self::ForcedClosed => "forced closed",
        })
    }
}

/// Why the caller may not make its call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The breaker is open; or the breaker is half-open, and there is no place for this call among the trials.
    #[error("the circuit breaker is open")]
    Open,
    /// Too many calls are under way; or the breaker has just closed and lets only a part of the calls through.
    #[error("too many calls are under way")]
    Shed,
}

/// A circuit breaker. A clone is cheap, and is the same breaker.
#[derive(Clone)]
pub struct Breaker {
    machine: Arc<Machine>,
}

/// State and counts of a breaker at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// When the state began, in milliseconds of the breaker's clock.
    pub since_ms: u64,
    /// Successes in the window, without the slow ones.
    pub successes: u64,
    /// Slow successes in the window.
    pub slow: u64,
    /// Failures in the window.
    pub failures: u64,
    /// Outcomes in the window that say nothing about the other side: see [`Permit::neutral`].
    pub neutral: u64,
    /// Failures in a row.
    pub run: u32,
    /// How often the breaker has opened.
    pub opened: u64,
    /// Calls refused because the breaker was open, since the breaker was made.
    pub refused: u64,
    /// Calls shed since the breaker was made.
    pub shed: u64,
    /// Calls under way; 0 where [`max_in_flight`](BreakerOptions::max_in_flight) sets no limit.
    pub in_flight: usize,
    /// Callers that wait for a place among the calls under way.
    pub waiting: usize,
    /// How long until the next probe is allowed: see [`Breaker::next_probe_in`].
    pub next_probe_in: Option<Duration>,
}

impl Breaker {
    /// A closed breaker.
    ///
    /// # Errors
    ///
    /// A setting that cannot be meant; see [`BreakerOptions::validate`].
    pub fn new(name: impl Into<Arc<str>>, options: BreakerOptions, clock: Clock) -> Result<Self, OptionError> {
        options.validate()?;
        Ok(Self { machine: Arc::new(Machine::new(name.into(), options, clock)) })
    }

    /// Asks for the right to make one call. The answer is immediate.
    ///
    /// # Errors
    ///
    /// The call may not be made: see [`Refused`].
    #[inline]
    pub fn permit(&self) -> Result<Permit<'_>, Refused> {
        self.machine.permit()
    }

    /// Like [`permit`](Self::permit), but the ramp does not hold the call back. For calls that must not wait, and for the later
    /// calls of an operation that [`ramp_admits`](Self::ramp_admits) has let in.
    ///
    /// # Errors
    ///
    /// As [`permit`](Self::permit).
    #[inline]
    pub fn permit_past_ramp(&self) -> Result<Permit<'_>, Refused> {
        self.machine.permit_past_ramp()
    }

    /// Like [`permit_past_ramp`](Self::permit_past_ramp), but waits for a place while
    /// [`max_in_flight`](BreakerOptions::max_in_flight) calls are under way. For calls that must not be shed because many come at once.
    ///
    /// Waiting callers get places in the order in which they came. While a caller waits, no other caller is given a place:
    /// [`permit`](Self::permit) and [`permit_past_ramp`](Self::permit_past_ramp) answer [`Refused::Shed`]. The caller decides how long
    /// to wait: a future that is dropped leaves the queue, and if it was handed a place already, the place goes to the next caller.
    /// The queue has no limit but the number of callers.
    ///
    /// ```
    /// use larder::breaker::{Breaker, BreakerOptions, Refused};
    /// use larder::clock::Clock;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let one_at_a_time = BreakerOptions::new().max_in_flight(1);
    /// let breaker = Breaker::new("billing", one_at_a_time, Clock::system()).unwrap();
    /// let first = breaker.permit_when_free().await.unwrap();
    /// let (second, ()) = tokio::join!(breaker.permit_when_free(), async {
    ///     assert_eq!(breaker.permit().unwrap_err(), Refused::Shed);
    ///     first.success();
    /// });
    /// second.unwrap().success();
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused::Open`]: the breaker is open, or has opened while the caller waited. Never [`Refused::Shed`].
    pub fn permit_when_free(&self) -> PermitWhenFree<'_> {
        PermitWhenFree::new(&self.machine)
    }

    /// A permit that takes no place among the calls under way, and so takes no place from a user. For calls that look after the
    /// connection, one at a time. The outcome of such a call is counted like that of any other call.
    ///
    /// # Errors
    ///
    /// [`Refused::Open`]: the breaker is open, half-open or forced open.
    pub fn permit_beside(&self) -> Result<Permit<'_>, Refused> {
        self.machine.permit_beside()
    }

    /// Whether the ramp lets an operation in now. It lets every operation in, except for a while after the breaker has closed.
    #[inline]
    #[must_use]
    pub fn ramp_admits(&self) -> bool {
        self.machine.ramp_admits()
    }

    /// Asks for the right to make a trial, whose outcome decides whether the breaker closes. Trials are allowed once the open time is
    /// over: one at a time, or with [`HalfOpen::Requests`] as many as that says. In every other case the answer is `None`. A probe
    /// takes no place among the calls that [`max_in_flight`](BreakerOptions::max_in_flight) limits.
    pub fn probe(&self) -> Option<Permit<'_>> {
        let most = match self.machine.options.half_open {
            HalfOpen::Probes => 1,
            HalfOpen::Requests(most) => most,
        };
        self.machine.trial(most)
    }

    /// How long until [`probe`](Self::probe) may answer with a permit. `None` while the breaker needs no probe: closed, ramping or
    /// forced.
    #[must_use]
    pub fn next_probe_in(&self) -> Option<Duration> {
        self.machine.next_probe_in()
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        self.machine.state()
    }

    /// The state now, and what the breaker has counted.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let seen = self.machine.seen();
        Snapshot {
            state,
            since_ms: seen.since,
            successes: seen.counts.successes,
            slow: seen.counts.slow,
            failures: seen.counts.failures,
            neutral: seen.counts.neutral,
            run: seen.run,
            opened: seen.opened,
            refused: self.machine.refused.load(Ordering::Relaxed),
            shed: self.machine.shed.load(Ordering::Relaxed),
            in_flight: self.machine.places.taken(),
            waiting: self.machine.places.waiting(),
            next_probe_in: self.next_probe_in(),
        }
    }

    /// Calls `subscriber` at every change of state, in the order of the changes, on a thread that uses the breaker. The subscriber
    /// may use the breaker, too.
    ///
    /// The breaker keeps the subscriber as long as the breaker lives. A subscriber that owns a clone of the breaker, directly or
    /// through something else, therefore keeps both in memory for ever: let it hold a [`Weak`](std::sync::Weak) instead.
    pub fn subscribe(&self, subscriber: impl Fn(&Transition) + Send + Sync + 'static) {
        self.machine.events.subscribe(Arc::new(subscriber));
    }

    /// Refuses every call until somebody forces another state or resets the breaker.
    pub fn force_open(&self) {
        self.machine.force(State::ForcedOpen, Cause::Forced);
    }

    /// Lets every call through until somebody forces another state or resets the breaker. Outcomes are counted, but change nothing.
    pub fn force_closed(&self) {
        self.machine.force(State::ForcedClosed, Cause::Forced);
    }

    /// Closes the breaker and empties its window. The next opening lasts [`open`](BreakerOptions::open), as the first one did.
    pub fn reset(&self) {
        self.machine.force(State::Closed, Cause::Reset);
    }

    /// The name that the breaker was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.machine.name
    }

    /// The settings in force.
    #[must_use]
    pub fn options(&self) -> &BreakerOptions {
        &self.machine.options
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("name", &self.machine.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
