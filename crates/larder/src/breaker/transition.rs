//! Changes of state, and how subscribers are told of them.

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
    /// Why the state changed.
    pub cause: Cause,
    /// When the state changed, in milliseconds of the breaker's clock.
    pub at_ms: u64,
    /// The generation after the change. Every change begins a new generation, except the one from ramping to closed: calls that
    /// are under way then still count.
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
        /// The reason given for the last failure.
        last: Cow<'static, str>,
    },
    /// Too large a part of the calls in the window failed.
    FailureRatio {
        /// How many calls failed.
        failures: u64,
        /// Of how many calls.
        calls: u64,
        /// The reason given for the last failure.
        last: Cow<'static, str>,
    },
    /// Too large a part of the calls in the window was slow.
    SlowRatio {
        /// How many calls were slow.
        slow: u64,
        /// Of how many calls.
        calls: u64,
    },
    /// The other side does not let us in.
    Refusal {
        /// The reason given for the refusal.
        reason: Cow<'static, str>,
    },
    /// A trial failed, was slow, or hung.
    TrialFailed {
        /// What happened to the trial.
        reason: Cow<'static, str>,
    },
    /// The open time was over, and a caller asked for a trial.
    Due,
    /// Enough trials succeeded.
    Recovered {
        /// How many trials.
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

/// The subscribers, and the transitions that they have not been told yet.
///
/// Transitions are queued under the breaker's lock, hence in order. They are told after the lock was released, by one thread at a
/// time: a thread that finds another thread telling leaves its transitions to that thread. So a subscriber may use the breaker and
/// even change its state, and a slow subscriber holds up only the thread that tells.
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

    /// Queues a transition, to be told later. The caller holds the breaker's lock.
    pub(super) fn queue(&self, transition: Transition) {
        self.with(|pending| pending.queue.push_back(transition));
    }

    /// Tells the subscribers all queued transitions, if no other thread does. The caller does not hold the breaker's lock.
    pub(super) fn tell(&self) {
        if self.with(|pending| std::mem::replace(&mut pending.telling, true)) {
            return;
        }
        while let Some((transition, subscribers)) = self.next() {
            for subscriber in subscribers {
                // The panic hook has reported the subscriber's panic already. The panic must reach neither the caller whose
                // outcome caused the transition, nor keep the next subscriber from being told.
                let _ = catch_unwind(AssertUnwindSafe(|| subscriber(&transition)));
            }
        }
    }

    /// The next transition to tell. If there is none, this also ends the telling, under the same lock: a thread that queues a
    /// transition right after finds that nobody tells, and tells it itself.
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
