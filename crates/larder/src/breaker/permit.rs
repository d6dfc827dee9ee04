//! The right to make one call, and the duty to say how it went.

use super::Refused;
use super::gate::Counted;
use super::machine::Machine;
use super::places::Turn;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The right to make one call. Exactly one of its methods says how the call went.
///
/// One logical operation is one permit, however many commands and retries it takes, so each method takes the permit away:
///
/// ```compile_fail,E0382
/// # use larder::{breaker::{Breaker, BreakerOptions}, clock::Clock};
/// # let breaker = Breaker::new("doc", BreakerOptions::default(), Clock::system()).unwrap();
/// let permit = breaker.permit().unwrap();
/// permit.failure("NOSCRIPT");
/// permit.success(); // after the retry: does not compile
/// ```
///
/// Dropping it, on cancellation or in a panic, says nothing: nothing is counted, and what it held (a place among the
/// calls under way, a place in the half-open state) is free again. It borrows the [`Breaker`](super::Breaker), because
/// counting references would cost as much again as all the rest.
///
/// It belongs to the generation in which it was given. Once the breaker has changed its state, what is said of it is
/// ignored: a call that began before the outage says nothing about the recovery.
#[must_use = "a permit that is dropped counts for nothing; say how the call went"]
pub struct Permit<'a> {
    breaker: &'a Machine,
    generation: u64,
    /// Holds one of the places of the half-open state.
    trial: bool,
    /// Holds one of the places of calls under way.
    in_flight: bool,
}

impl<'a> Permit<'a> {
    pub(super) fn new(breaker: &'a Machine, generation: u64) -> Self {
        Self { breaker, generation, trial: false, in_flight: false }
    }

    /// For a place of the half-open state that was taken for it.
    pub(super) fn for_trial(breaker: &'a Machine, generation: u64) -> Self {
        Self { breaker, generation, trial: true, in_flight: false }
    }

    /// Takes a place among the calls under way. Without one, the permit is gone.
    #[inline]
    pub(super) fn in_flight(mut self) -> Result<Self, Refused> {
        let places = &self.breaker.places;
        if places.are_limited() {
            if !places.take() {
                return Err(Refused::Shed);
            }
            self.in_flight = true;
        }
        Ok(self)
    }

    /// For a place among the calls under way that was taken for it.
    pub(super) fn in_place(breaker: &'a Machine, generation: u64) -> Self {
        Self { breaker, generation, trial: false, in_flight: true }
    }

    /// There was a well-formed answer.
    #[inline]
    pub fn success(self) {
        if self.trial {
            self.breaker.trial_succeeded(self.generation);
        } else if self.breaker.gate.success(self.generation) == Counted::Full {
            self.breaker.collect();
        }
    }

    /// There was a well-formed answer, after so long. It is a slow call from
    /// [`slow_call`](super::BreakerOptions::slow_call) on: still a success that ends a run of failures, but one that can open the
    /// breaker where slow calls do, and then no proof of health while it is half-open.
    #[inline]
    pub fn success_after(self, elapsed: Duration) {
        let slow = self.breaker.options.slow_call;
        if slow.is_zero() || elapsed < slow {
            self.success();
        } else {
            self.breaker.slow(self.generation, elapsed);
        }
    }

    /// There was no answer, or one that shows the other side unfit to serve. `reason` becomes part of the
    /// [`Cause`](super::Cause) if this opens the breaker.
    pub fn failure(self, reason: impl Into<Cow<'static, str>>) {
        self.breaker.failure(self.generation, reason.into());
    }

    /// How it went says nothing about the other side: the caller went away, or its own deadline was too short.
    pub fn neutral(self) {
        self.breaker.neutral(self.generation);
    }

    /// The other side does not let us in (wrong password, no permission): opens at once, and for the longest time, because
    /// only a person can mend it.
    pub fn refusal(self, reason: impl Into<Cow<'static, str>>) {
        self.breaker.refusal(self.generation, reason.into());
    }

    /// The generation it belongs to.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the call decides if the breaker closes.
    #[must_use]
    pub fn is_trial(&self) -> bool {
        self.trial
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.trial {
            self.breaker.gate.give_slot(self.generation);
        }
        if self.in_flight {
            self.breaker.places.give_back();
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("generation", &self.generation)
            .field("trial", &self.trial)
            .finish_non_exhaustive()
    }
}

/// A permit, as soon as a place among the calls under way is free: what
/// [`Breaker::permit_when_free`](super::Breaker::permit_when_free) returns.
///
/// Dropping it leaves the queue, and takes nobody's place along.
#[must_use = "a future does nothing unless it is awaited"]
pub struct PermitWhenFree<'a> {
    breaker: &'a Machine,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Begins,
    /// In the queue, under this number.
    Waits(u64),
    Over,
}

impl<'a> PermitWhenFree<'a> {
    pub(super) fn new(breaker: &'a Machine) -> Self {
        Self { breaker, stage: Stage::Begins }
    }
}

impl<'a> Future for PermitWhenFree<'a> {
    type Output = Result<Permit<'a>, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let breaker = self.breaker;
        let turn = match self.stage {
            Stage::Begins => match breaker.permit_if_free() {
                Err(Refused::Shed) => breaker.places.join(&breaker.gate, context.waker()),
                at_once => {
                    self.stage = Stage::Over;
                    return Poll::Ready(at_once);
                }
            },
            Stage::Waits(number) => breaker.places.look(number, context.waker()),
            // A future is not polled again after it was ready.
            Stage::Over => return Poll::Pending,
        };
        if let Turn::Waits(number) = turn {
            self.stage = Stage::Waits(number);
            return Poll::Pending;
        }
        self.stage = Stage::Over;
        Poll::Ready(if turn == Turn::Served { breaker.permit_in_place() } else { Err(breaker.refuse()) })
    }
}

impl Drop for PermitWhenFree<'_> {
    fn drop(&mut self) {
        if let Stage::Waits(number) = self.stage {
            self.breaker.places.leave(number);
        }
    }
}

impl fmt::Debug for PermitWhenFree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitWhenFree").finish_non_exhaustive()
    }
}
