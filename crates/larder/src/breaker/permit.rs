//! The right to make one call, and the duty to say how the call went.

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

/// The right to make one call. The caller says how the call went by exactly one of the permit's methods.
///
/// One logical operation is one permit, however many commands and retries it takes. So each of these methods consumes the permit:
///
/// ```compile_fail,E0382
/// # use larder::{breaker::{Breaker, BreakerOptions}, clock::Clock};
/// # let breaker = Breaker::new("doc", BreakerOptions::default(), Clock::system()).unwrap();
/// let permit = breaker.permit().unwrap();
/// permit.failure("NOSCRIPT");
/// permit.success(); // after the retry: does not compile
/// ```
///
/// A permit that is dropped, by cancellation or in a panic, says nothing. No outcome is counted, and the permit's place (among the
/// calls under way, or among the trials) is free again.
///
/// A permit belongs to the generation in which it was given. When the breaker has begun a new generation since, the outcome is
/// ignored: a call that began before the outage says nothing about the recovery.
///
/// A permit borrows its [`Breaker`](super::Breaker): counting references would double the cost of a permit.
#[must_use = "a permit that is dropped counts for nothing; say how the call went"]
pub struct Permit<'a> {
    breaker: &'a Machine,
    generation: u64,
    /// Whether this permit holds one of the places for trials.
    trial: bool,
    /// Whether this permit holds one of the places for calls under way.
    in_flight: bool,
}

impl<'a> Permit<'a> {
    pub(super) fn new(breaker: &'a Machine, generation: u64) -> Self {
        Self { breaker, generation, trial: false, in_flight: false }
    }

    /// A permit for a trial. The caller of this function has taken the place for it.
    pub(super) fn for_trial(breaker: &'a Machine, generation: u64) -> Self {
        Self { breaker, generation, trial: true, in_flight: false }
    }

    /// Takes a place among the calls under way. If none is free, the permit is dropped.
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

    /// A permit for a call under way. The caller of this function has taken the place for it.
    pub(super) fn in_place(breaker: &'a Machine, generation: u64) -> Self {
        Self { breaker, generation, trial: false, in_flight: true }
    }

    /// The call got a well-formed answer.
    #[inline]
    pub fn success(self) {
        if self.trial {
            self.breaker.trial_succeeded(self.generation);
        } else if self.breaker.gate.success(self.generation) == Counted::Full {
            self.breaker.collect();
        }
    }

    /// The call got a well-formed answer after `elapsed`. From [`slow_call`](super::BreakerOptions::slow_call) on, the call is slow.
    ///
    /// A slow call is still a success, and ends a run of failures. But slow calls can open the breaker
    /// ([`slow_ratio`](super::BreakerOptions::slow_ratio)), and then a slow trial does not close the breaker but opens it again.
    #[inline]
    pub fn success_after(self, elapsed: Duration) {
        let slow = self.breaker.options.slow_call;
        if slow.is_zero() || elapsed < slow {
            self.success();
        } else {
            self.breaker.slow(self.generation, elapsed);
        }
    }

    /// The call got no answer, or an answer that shows the other side unfit to serve. If this failure opens the breaker, `reason`
    /// becomes part of the [`Cause`](super::Cause).
    pub fn failure(self, reason: impl Into<Cow<'static, str>>) {
        self.breaker.failure(self.generation, reason.into());
    }

    /// How the call went says nothing about the other side: the caller went away, or the caller's own deadline was too short.
    pub fn neutral(self) {
        self.breaker.neutral(self.generation);
    }

    /// The other side does not let us in: wrong password, no permission. The breaker opens at once, for
    /// [`open_refused`](super::BreakerOptions::open_refused), because only a person can mend the reason.
    pub fn refusal(self, reason: impl Into<Cow<'static, str>>) {
        self.breaker.refusal(self.generation, reason.into());
    }

    /// The generation that the permit belongs to.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the call is a trial: its outcome decides whether the breaker closes.
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

/// The future that [`Breaker::permit_when_free`](super::Breaker::permit_when_free) returns. It is ready with a permit as soon as the
/// caller has a place among the calls under way.
///
/// A future that is dropped leaves the queue. If it was handed a place already, the place goes to the next caller.
#[must_use = "a future does nothing unless it is awaited"]
pub struct PermitWhenFree<'a> {
    breaker: &'a Machine,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Begins,
    /// The caller is in the queue, under this number.
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
            // The future was ready before. Nobody may poll it again.
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
