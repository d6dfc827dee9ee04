//! The states and what moves between them.
//!
//! ```text
//!              failures, slow calls, a refusal
//!    closed ───────────────────────────────────▶ open ◀─┐
//!      ▲  ▲                                       │     │ a trial failed
//!      │  └───────────── ramping ◀── half-open ◀──┘     │
//!      │    ramp over        trials succeeded  │  due   │
//!    reset                                     └────────┘
//! ```
//!
//! Whatever changes the state holds the lock; a permit and a success in the closed state never take it. What is read without
//! the lock ([`Machine::due`], [`Machine::ramp_from`]) is stored before the state begins that it belongs to, and
//! [`Machine::tried`] before a place is taken.

use super::gate::Gate;
use super::judgement::{open_time, ramp_admits, verdict};
use super::options::{BreakerOptions, HalfOpen, milliseconds};
use super::permit::Permit;
use super::places::Places;
use super::transition::{Cause, Events, Transition};
use super::window::{Counts, Window};
use super::{Refused, State};
use crate::clock::Clock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Machine {
    pub(super) name: Arc<str>,
    pub(super) options: BreakerOptions,
    pub(super) gate: Gate,
    pub(super) events: Events,
    pub(super) places: Places,
    pub(super) shed: AtomicU64,
    pub(super) refused: AtomicU64,
    clock: Clock,
    /// When an open breaker may be tried, by the clock.
    due: AtomicU64,
    /// When a trial was last let through.
    tried: AtomicU64,
    /// When the ramp began.
    ramp_from: AtomicU64,
    /// Calls that have asked since the ramp began.
    asked: AtomicU64,
    health: Mutex<Health>,
}

struct Health {
    window: Window,
    /// Failures in a row.
    run: u32,
    /// Trials that have succeeded in this half-open state.
    trials: u32,
    /// Openings without a healthy time in between.
    openings: u32,
    opened: u64,
    closed_since: u64,
    since: u64,
}

/// What only the lock can tell about a breaker.
pub(super) struct Seen {
    pub(super) counts: Counts,
    pub(super) run: u32,
    pub(super) opened: u64,
    pub(super) since: u64,
}

impl Machine {
    pub(super) fn new(name: Arc<str>, options: BreakerOptions, clock: Clock) -> Self {
        let now = clock.now();
        let window = Window::new(options.window, now);
        let health = Health { window, run: 0, trials: 0, openings: 0, opened: 0, closed_since: now, since: now };
        let places = Places::new(options.max_in_flight);
        Self {
            name,
            options,
            gate: Gate::new(),
            events: Events::default(),
            places,
            shed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            clock,
            due: AtomicU64::new(0),
            tried: AtomicU64::new(0),
            ramp_from: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            health: Mutex::new(health),
        }
    }

    #[inline]
    pub(super) fn permit(&self) -> Result<Permit<'_>, Refused> {
        if self.ramp_admits() { self.permit_past_ramp() } else { Err(Refused::Shed) }
    }

    #[inline]
    pub(super) fn permit_past_ramp(&self) -> Result<Permit<'_>, Refused> {
        let permit = self.permit_if_free();
        if matches!(permit, Err(Refused::Shed)) {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        permit
    }

    /// The same; that no place is free is not counted, since the caller may wait for one.
    #[inline]
    pub(super) fn permit_if_free(&self) -> Result<Permit<'_>, Refused> {
        let word = self.gate.read();
        match word.state() {
            State::Closed | State::ForcedClosed | State::Ramping => Permit::new(self, word.generation()).in_flight(),
            State::Open | State::HalfOpen | State::ForcedOpen => self.permit_on_trial(),
        }
    }

    pub(super) fn permit_beside(&self) -> Result<Permit<'_>, Refused> {
        let word = self.gate.read();
        match word.state() {
            State::Closed | State::ForcedClosed | State::Ramping => Ok(Permit::new(self, word.generation())),
            State::Open | State::HalfOpen | State::ForcedOpen => Err(Refused::Open),
        }
    }

    /// The user's own call as a trial, where the settings say so.
    #[cold]
    fn permit_on_trial(&self) -> Result<Permit<'_>, Refused> {
        let trial = match self.options.half_open {
            HalfOpen::Requests(most) => self.trial(most),
            HalfOpen::Probes => None,
        };
        match trial {
            Some(permit) => permit.in_flight(),
            None => Err(self.refuse()),
        }
    }

    /// For a caller who was handed a place. The breaker may have been shut since.
    pub(super) fn permit_in_place(&self) -> Result<Permit<'_>, Refused> {
        let word = self.gate.read();
        // Where it is not good for a call, its drop gives the place to the next.
        let permit = Permit::in_place(self, word.generation());
        if word.state().admits() { Ok(permit) } else { Err(self.refuse()) }
    }

    pub(super) fn refuse(&self) -> Refused {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Refused::Open
    }

    #[inline]
    pub(super) fn ramp_admits(&self) -> bool {
        self.gate.read().state() != State::Ramping || self.admitted_on_the_ramp()
    }

    #[cold]
    fn admitted_on_the_ramp(&self) -> bool {
        let (ramp, elapsed) = (milliseconds(self.options.ramp), self.ramped());
        if elapsed >= ramp {
            self.end_ramp();
            return true;
        }
        let admitted = ramp_admits(self.asked.fetch_add(1, Ordering::Relaxed), elapsed, ramp);
        if !admitted {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn ramped(&self) -> u64 {
        self.clock.now().saturating_sub(self.ramp_from.load(Ordering::Relaxed))
    }

    fn end_ramp(&self) {
        let health = self.health.lock();
        let now = self.clock.now();
        if self.gate.read().state() == State::Ramping && self.ramped() >= milliseconds(self.options.ramp) {
            let generation = self.gate.end_ramp();
            let (from, to) = (State::Ramping, State::Closed);
            self.events.queue(Transition { from, to, cause: Cause::RampEnded, at_ms: now, generation });
        }
        self.done(health);
    }

    /// One of `most` places of the half-open state, which begins here if it is time.
    pub(super) fn trial(&self, most: u32) -> Option<Permit<'_>> {
        if self.gate.read().state() == State::Open {
            if self.clock.now() < self.due.load(Ordering::Relaxed) {
                return None;
            }
            let mut health = self.health.lock();
            let now = self.clock.now();
            if self.gate.read().state() == State::Open && now >= self.due.load(Ordering::Relaxed) {
                self.begin(&mut health, State::HalfOpen, Cause::Due, now);
            }
            self.done(health);
        }
        if !self.gate.read().has_slot(most) {
            self.end_overdue_trial(most);
            // Even if one is free by now: whoever takes a place must have noted when.
            return None;
        }
        // Only where a place is free: those who find none must not put off the end of the one they wait for. Nor may one who slept
        // in between make a trial look older than it is.
        self.tried.fetch_max(self.clock.now(), Ordering::Relaxed);
        self.gate.take_slot(most).map(|generation| Permit::for_trial(self, generation))
    }

    /// Opens it again where all places are taken and nothing is heard of those who hold them.
    fn end_overdue_trial(&self, most: u32) {
        let timeout = milliseconds(self.options.trial_timeout);
        let overdue = |now: u64| {
            let word = self.gate.read();
            let taken = word.state() == State::HalfOpen && !word.has_slot(most);
            taken && timeout > 0 && now.saturating_sub(self.tried.load(Ordering::Relaxed)) >= timeout
        };
        if !overdue(self.clock.now()) {
            return;
        }
        let mut health = self.health.lock();
        let now = self.clock.now();
        if overdue(now) {
            let reason = format!("nothing was said of it for {timeout} ms").into();
            self.open(&mut health, State::HalfOpen, Cause::TrialFailed { reason }, now);
        }
        self.done(health);
    }

    pub(super) fn next_probe_in(&self) -> Option<Duration> {
        match self.gate.read().state() {
            State::Open => {
                Some(Duration::from_millis(self.due.load(Ordering::Relaxed).saturating_sub(self.clock.now())))
            }
            State::HalfOpen => Some(Duration::ZERO),
            State::Closed | State::Ramping | State::ForcedOpen | State::ForcedClosed => None,
        }
    }

    pub(super) fn state(&self) -> State {
        let state = self.gate.read().state();
        if state == State::Ramping && self.ramped() >= milliseconds(self.options.ramp) {
            self.end_ramp();
            return self.gate.read().state();
        }
        state
    }

    pub(super) fn seen(&self) -> Seen {
        let mut health = self.health.lock();
        health.window.slide(self.clock.now(), self.gate.take_successes());
        Seen { counts: health.window.total(), run: health.run, opened: health.opened, since: health.since }
    }

    /// Puts what was counted without the lock into the current bucket.
    #[cold]
    pub(super) fn collect(&self) {
        let mut health = self.health.lock();
        health.window.slide(self.clock.now(), self.gate.take_successes());
    }

    pub(super) fn trial_succeeded(&self, generation: u64) {
        self.outcome(generation, |health, state, now| {
            if state == State::HalfOpen {
                self.count_trial(health, now);
            }
        });
    }

    fn count_trial(&self, health: &mut Health, now: u64) {
        health.trials += 1;
        if health.trials >= self.options.half_open_successes {
            let cause = Cause::Recovered { successes: health.trials };
            health.closed_since = now;
            self.ramp_from.store(now, Ordering::Relaxed);
            self.asked.store(0, Ordering::Relaxed);
            let to = if self.options.ramp.is_zero() { State::Closed } else { State::Ramping };
            self.begin(health, to, cause, now);
        }
    }

    #[cold]
    pub(super) fn slow(&self, generation: u64, elapsed: Duration) {
        self.outcome(generation, |health, state, now| {
            if state.counts() {
                self.gate.break_run();
                health.run = 0;
                health.window.slide(now, self.gate.take_successes()).slow += 1;
                self.judge(health, state, now, "a slow call".into());
            } else if state == State::HalfOpen && self.options.slow_ratio == 0.0 {
                // Where slow calls never open it, they must not keep it open either.
                self.count_trial(health, now);
            } else if state == State::HalfOpen {
                let reason = format!("it took {} ms", elapsed.as_millis()).into();
                self.open(health, state, Cause::TrialFailed { reason }, now);
            }
        });
    }

    #[cold]
    pub(super) fn failure(&self, generation: u64, reason: Cow<'static, str>) {
        self.outcome(generation, |health, state, now| {
            if state.counts() {
                health.run = if self.gate.failure() { health.run.saturating_add(1) } else { 1 };
                health.window.slide(now, self.gate.take_successes()).failures += 1;
                self.judge(health, state, now, reason);
            } else if state == State::HalfOpen {
                self.open(health, state, Cause::TrialFailed { reason }, now);
            }
        });
    }

    pub(super) fn neutral(&self, generation: u64) {
        self.outcome(generation, |health, state, now| {
            if state.counts() {
                health.window.slide(now, self.gate.take_successes()).neutral += 1;
            }
        });
    }

    #[cold]
    pub(super) fn refusal(&self, generation: u64, reason: Cow<'static, str>) {
        self.outcome(generation, |health, state, now| {
            if state.counts() {
                health.window.slide(now, self.gate.take_successes()).failures += 1;
            }
            if matches!(state, State::Closed | State::Ramping | State::HalfOpen) {
                self.open(health, state, Cause::Refusal { reason }, now);
            }
        });
    }

    pub(super) fn force(&self, to: State, cause: Cause) {
        let mut health = self.health.lock();
        let now = self.clock.now();
        health.openings = 0;
        health.closed_since = now;
        self.begin(&mut health, to, cause, now);
        self.done(health);
    }

    /// An outcome of a permit that had been given in this generation; an older one says nothing about now.
    fn outcome(&self, generation: u64, act: impl FnOnce(&mut Health, State, u64)) {
        let mut health = self.health.lock();
        let word = self.gate.read();
        if word.generation() == generation {
            act(&mut health, word.state(), self.clock.now());
        }
        self.done(health);
    }

    fn judge(&self, health: &mut Health, state: State, now: u64, last: Cow<'static, str>) {
        if state == State::ForcedClosed {
            return;
        }
        if let Some(cause) = verdict(&self.options, &health.window.total(), health.run, last) {
            self.open(health, state, cause, now);
        }
    }

    fn open(&self, health: &mut Health, from: State, cause: Cause, now: u64) {
        let healthy = now.saturating_sub(health.closed_since) >= milliseconds(self.options.healthy_after);
        if from.counts() && healthy {
            health.openings = 0;
        }
        let time = match cause {
            Cause::Refusal { .. } => milliseconds(self.options.open_refused),
            _ => open_time(&self.options, health.openings, fastrand::u64),
        };
        health.openings = health.openings.saturating_add(1);
        health.opened += 1;
        self.due.store(now.saturating_add(time), Ordering::Relaxed);
        self.begin(health, State::Open, cause, now);
    }

    fn begin(&self, health: &mut Health, to: State, cause: Cause, now: u64) {
        let from = self.gate.read().state();
        health.window.clear(now);
        health.run = 0;
        health.trials = 0;
        health.since = now;
        let generation = self.gate.begin(to);
        self.events.queue(Transition { from, to, cause, at_ms: now, generation });
    }

    /// Ends work under the lock, and then tells what has changed: first to those who wait for a place, then to the subscribers.
    fn done(&self, health: MutexGuard<'_, Health>) {
        drop(health);
        if !self.gate.read().state().admits() {
            self.places.turn_away(&self.gate);
        }
        self.events.tell();
    }
}
