//! A circuit breaker: stops calling what does not answer, and finds out by itself when it does again.
//!
//! It knows nothing of caches or servers. A call asks for a [`Permit`], makes the call and says how it went. One logical
//! operation, its retries included, is one permit and one outcome.
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
//! Closed, a permit and a success are one atomic load and one compare-and-exchange: no lock, no clock, no allocation. A
//! failure takes a lock. Everything that is counted belongs to a *generation*, which ends with its state: what a call that
//! began before the outage says arrives in nobody else's count (`gate.rs` has the invariants).
//!
//! # Cancellation
//!
//! A permit that is dropped is not counted, and gives back whatever place it held. A caller that is dropped while it waits for a place
//! ([`permit_when_free`](Breaker::permit_when_free)) leaves the queue. So a cancelled probe neither closes the
//! breaker nor keeps it half-open for ever; nor does one that hangs ([`trial_timeout`](BreakerOptions::trial_timeout)).

use crate::clock::Clock;
use crate::options::OptionError;
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

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Every call is let through.
    Closed,
    /// It has just closed: a part of the calls is let through, growing to all of them.
    Ramping,
    /// No call is let through.
    Open,
    /// A few calls are let through, to find out whether it can close.
    HalfOpen,
    /// Open until it is told otherwise.
    ForcedOpen,
    /// Closed until it is told otherwise, whatever fails.
    ForcedClosed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Closed, Self::Ramping, Self::Open, Self::HalfOpen, Self::ForcedOpen, Self::ForcedClosed];

    /// The state as it stands in metrics.
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

    /// Whether calls are let through that do not try out whether it can close.
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

/// Why a call may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The breaker is open, or half-open and no place is free.
    #[error("the circuit breaker is open")]
    Open,
    /// Too many calls are under way, or the breaker has only just closed and lets a part through.
    #[error("too many calls are under way")]
    Shed,
}

/// A circuit breaker. Cloning it is cheap; clones are the same breaker.
#[derive(Clone)]
pub struct Breaker {
    machine: Arc<Machine>,
}

/// What a breaker shows of itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its state.
    pub state: State,
    /// Since when, in milliseconds of its clock.
    pub since_ms: u64,
    /// Successes in the window; not counting the slow ones.
    pub successes: u64,
    /// Slow successes in the window.
    pub slow: u64,
    /// Failures in the window.
    pub failures: u64,
    /// Outcomes in the window that said nothing.
    pub neutral: u64,
    /// Failures in a row.
    pub run: u32,
    /// How often it has opened.
    pub opened: u64,
    /// Calls refused since it was made, because it was open.
    pub refused: u64,
    /// Calls shed since it was made.
    pub shed: u64,
    /// Calls under way; 0 where there is no limit to them.
    pub in_flight: usize,
    /// Callers that wait for a place among them.
    pub waiting: usize,
    /// When it can be tried again, where it is open.
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

    /// Asks for the right to make one call.
    ///
    /// # Errors
    ///
    /// Why it may not be made; the answer is immediate.
    #[inline]
    pub fn permit(&self) -> Result<Permit<'_>, Refused> {
        self.machine.permit()
    }

    /// Like [`permit`](Self::permit), and not held back by the ramp: for calls that must not wait, and for the later calls of
    /// an operation that [`ramp_admits`](Self::ramp_admits) has let in.
    ///
    /// # Errors
    ///
    /// As [`permit`](Self::permit).
    #[inline]
    pub fn permit_past_ramp(&self) -> Result<Permit<'_>, Refused> {
        self.machine.permit_past_ramp()
    }

    /// Like [`permit_past_ramp`](Self::permit_past_ramp), and where [`max_in_flight`](BreakerOptions::max_in_flight) calls are under way
    /// waits for a place: for calls that must not be shed because many come at once.
    ///
    /// Places go to those who wait in the order in which they came. While somebody waits, nobody else is given a place:
    /// [`permit`](Self::permit) and [`permit_past_ramp`](Self::permit_past_ramp) answer [`Refused::Shed`]. How long to wait is the
    /// caller's to say, by dropping the future; a dropped future leaves the queue, and a place that it was handed already goes to
    /// the next one. The queue has no limit but the number of callers.
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
    /// [`Refused::Open`], at once, where the breaker is open or opens while the caller waits. Never [`Refused::Shed`].
    pub fn permit_when_free(&self) -> PermitWhenFree<'_> {
        PermitWhenFree::new(&self.machine)
    }

    /// A permit that takes no place among the calls under way, and so none from a user: for a call that looks after the connection, of
    /// which there is one at a time. Its outcome counts as any other's.
    ///
    /// # Errors
    ///
    /// The breaker is not closed.
    pub fn permit_beside(&self) -> Result<Permit<'_>, Refused> {
        self.machine.permit_beside()
    }

    /// Whether the ramp lets an operation in now; always, but for the time after closing.
    #[inline]
    #[must_use]
    pub fn ramp_admits(&self) -> bool {
        self.machine.ramp_admits()
    }

    /// Asks for the right to find out whether the breaker can close: once the open time is over, for one caller at a time (with
    /// [`HalfOpen::Requests`], for as many as those). `None` in every other case; it does not count against
    /// [`max_in_flight`](BreakerOptions::max_in_flight).
    pub fn probe(&self) -> Option<Permit<'_>> {
        let most = match self.machine.options.half_open {
            HalfOpen::Probes => 1,
            HalfOpen::Requests(most) => most,
        };
        self.machine.trial(most)
    }

    /// How long until [`probe`](Self::probe) can succeed; `None` where no probe is wanted: closed, ramping or forced.
    #[must_use]
    pub fn next_probe_in(&self) -> Option<Duration> {
        self.machine.next_probe_in()
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.machine.state()
    }

    /// Where it stands, and what it has counted.
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

    /// Calls `subscriber` at every change of state, in their order, on the thread that caused it. It may use the breaker, and
    /// stays as long as the breaker does: one that owns a clone of the breaker, or something that does, keeps both in
    /// memory for ever, so hold that by a [`Weak`](std::sync::Weak).
    pub fn subscribe(&self, subscriber: impl Fn(&Transition) + Send + Sync + 'static) {
        self.machine.events.subscribe(Arc::new(subscriber));
    }

    /// Refuses every call until told otherwise.
    pub fn force_open(&self) {
        self.machine.force(State::ForcedOpen, Cause::Forced);
    }

    /// Lets every call through until told otherwise; outcomes are counted, and change nothing.
    pub fn force_closed(&self) {
        self.machine.force(State::ForcedClosed, Cause::Forced);
    }

    /// Closes it and forgets everything counted: as it was when it was made.
    pub fn reset(&self) {
        self.machine.force(State::Closed, Cause::Reset);
    }

    /// What it was named.
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
