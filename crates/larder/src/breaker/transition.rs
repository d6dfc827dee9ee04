//! Changes of state, told to whoever subscribed.

use super::State;
use crate::sync::Mutex;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A change of a breaker's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state that ended.
    pub from: State,
    /// The state that began.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// When, in milliseconds of the breaker's clock.
    pub at_ms: u64,
    /// The generation from now on. It grows with every change except from ramping to closed, which goes on counting what
    /// is under way.
    pub generation: u64,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}: {}", self.from, self.to, self.cause)
    }
}

/// Why a breaker changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Too many failures one after the other.
    FailuresInARow {
        /// How many.
        failures: u32,
        /// What was said of the last one.
        last: Cow<'static, str>,
    },
    /// Too large a part of the calls in the window failed.
    FailureRatio {
        /// How many failed.
        failures: u64,
        /// Of how many.
        calls: u64,
        /// What was said of the last one.
        last: Cow<'static, str>,
    },
    /// Too large a part of the calls in the window was slow.
    SlowRatio {
        /// How many were slow.
        slow: u64,
        /// Of how many.
        calls: u64,
    },
    /// We are not let in.
    Refusal {
        /// What was said of it.
        reason: Cow<'static, str>,
    },
    /// A call of the half-open state failed.
    TrialFailed {
        /// What was said of it.
        reason: Cow<'static, str>,
    },
    /// The open time was over, and somebody asked to try.
    Due,
    /// Enough calls of the half-open state succeeded.
    Recovered {
        /// How many.
        successes: u32,
    },
    /// The ramp was over.
    RampEnded,
    /// [`force_open`](super::Breaker::force_open) or [`force_closed`](super::Breaker::force_closed).
    Forced,
    /// [`reset`](super::Breaker::reset).
    Reset,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailuresInARow { failures: 1, last } => write!(f, "1 failure: {last}"),
            Self::FailuresInARow { failures, last } => write!(f, "{failures} failures in a row, last: {last}"),
            Self::FailureRatio { failures, calls, last } => {
                write!(f, "{failures} of {calls} calls failed, last: {last}")
            }
            Self::SlowRatio { slow, calls } => write!(f, "{slow} of {calls} calls were slow"),
            Self::Refusal { reason } => write!(f, "refused: {reason}"),
            Self::TrialFailed { reason } => write!(f, "the trial failed: {reason}"),
            Self::Due => f.write_str("it is time to try again"),
            Self::Recovered { successes: 1 } => f.write_str("the trial succeeded"),
            Self::Recovered { successes } => write!(f, "{successes} trials succeeded"),
            Self::RampEnded => f.write_str("the ramp is over"),
            Self::Forced => f.write_str("forced"),
            Self::Reset => f.write_str("reset"),
        }
    }
}

type Subscriber = Arc<dyn Fn(&Transition) + Send + Sync>;

/// Transitions that wait to be told, and whom to tell.
///
/// They are queued under the breaker's lock, hence in order, and told after it was released, by one thread at a time: who
/// finds another one telling leaves its own to that one. So a subscriber may use the breaker, also change its state, and
/// holds up nobody but the thread that tells.
#[derive(Default)]
pub(super) struct Events(Mutex<Pending>);

#[derive(Default)]
struct Pending {
    queue: VecDeque<Transition>,
    subscribers: Vec<Subscriber>,
    telling: bool,
}

impl Events {
    pub(super) fn subscribe(&self, subscriber: Subscriber) {
        self.with(|pending| pending.subscribers.push(subscriber));
    }

    /// Under the breaker's lock.
    pub(super) fn queue(&self, transition: Transition) {
        self.with(|pending| pending.queue.push_back(transition));
    }

    /// Without the breaker's lock.
    pub(super) fn tell(&self) {
        if self.with(|pending| std::mem::replace(&mut pending.telling, true)) {
            return;
        }
        while let Some((transition, subscribers)) = self.next() {
            for subscriber in subscribers {
                // A subscriber's panic was already reported by the panic hook. It is neither the caller's fault, whose
                // outcome this happens to be, nor the next subscriber's.
                let _ = catch_unwind(AssertUnwindSafe(|| subscriber(&transition)));
            }
        }
    }

    /// Ends the telling where nothing is left to tell; deciding both under one lock leaves nothing untold.
    fn next(&self) -> Option<(Transition, Vec<Subscriber>)> {
        self.with(|pending| {
            let next = pending.queue.pop_front();
            pending.telling = next.is_some();
            next.map(|transition| (transition, pending.subscribers.clone()))
        })
    }

    fn with<R>(&self, work: impl FnOnce(&mut Pending) -> R) -> R {
        work(&mut self.0.lock())
    }
}
