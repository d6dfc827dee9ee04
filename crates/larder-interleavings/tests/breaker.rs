//! The breaker: permits, outcomes and changes of state, in every order.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use larder_interleavings::breaker::{Breaker, BreakerOptions, Cause, HalfOpen, Refused, State, Transition};
use larder_interleavings::clock::{Clock, ManualClock};
use larder_interleavings::{explore, explore_up_to};
use loom::sync::Notify;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const OPEN: Duration = Duration::from_secs(1);
const TRIAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Open after one failure, for exactly a second, without a ramp: nothing is left to chance.
fn config() -> BreakerOptions {
    BreakerOptions::new()
        .consecutive_failures(1)
        .failure_ratio(0.0)
        .open(OPEN)
        .open_max(OPEN)
        .ramp(Duration::ZERO)
        .trial_timeout(TRIAL_TIMEOUT)
}

fn closed(config: BreakerOptions) -> (Breaker, ManualClock) {
    let (clock, hand) = Clock::manual();
    (Breaker::new("explored", config, clock).unwrap(), hand)
}

/// Open, and it is time to try.
fn due(config: BreakerOptions) -> (Breaker, ManualClock) {
    let (breaker, hand) = closed(config);
    breaker.permit().unwrap().failure("reset");
    hand.advance(OPEN);
    (breaker, hand)
}

/// Does this in another thread.
fn meanwhile(breaker: &Breaker, act: impl FnOnce(Breaker) + 'static) -> thread::JoinHandle<()> {
    let breaker = breaker.clone();
    thread::spawn(move || act(breaker))
}

#[test]
fn each_success_is_counted_once_whoever_collects_them() {
    explore(|| {
        let (breaker, _hand) = closed(config());
        let [first, second] = [0; 2].map(|_| meanwhile(&breaker, |breaker| breaker.permit().unwrap().success()));
        drop(breaker.snapshot());
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(breaker.snapshot().successes, 2);
    });
}

#[test]
fn an_outcome_reaches_no_later_generation() {
    let outcomes: [fn(larder_interleavings::breaker::Permit<'_>); 4] = [
        |permit| permit.success(),
        |permit| permit.failure("reset"),
        |permit| permit.refusal("NOAUTH"),
        |permit| permit.neutral(),
    ];
    for outcome in outcomes {
        explore(move || {
            let (breaker, _hand) = closed(config().consecutive_failures(3));
            let saying = meanwhile(&breaker, move |breaker| {
                let permit = breaker.permit();
                // Given before the reset or after it; what was given after it counts.
                if let Some(permit) = permit.ok().filter(|permit| permit.generation() == 1) {
                    outcome(permit);
                }
            });
            breaker.reset();
            saying.join().unwrap();
            let seen = breaker.snapshot();
            assert_eq!(breaker.state(), State::Closed);
            assert_eq!((seen.successes, seen.failures, seen.neutral, seen.run), (0, 0, 0, 0));
        });
    }
}

#[test]
fn a_run_of_failures_is_ended_by_a_success_and_by_nothing_else() {
    explore(|| {
        let (breaker, _hand) = closed(config().consecutive_failures(3));
        let failing = meanwhile(&breaker, |breaker| {
            breaker.permit().unwrap().failure("reset");
            breaker.permit().unwrap().failure("reset");
        });
        // A reader who collects what was counted has no part in it.
        drop(breaker.snapshot());
        failing.join().unwrap();
        assert_eq!(breaker.snapshot().run, 2);
        breaker.permit().unwrap().success();
        breaker.permit().unwrap().failure("reset");
        assert_eq!(breaker.snapshot().run, 1);
        assert_eq!(breaker.state(), State::Closed);
    });
}

#[test]
fn half_open_lets_no_more_through_at_once_than_it_has_places() {
    let call = |breaker: &Breaker, under_way: &AtomicUsize, most: usize| {
        if let Ok(permit) = breaker.permit() {
            assert!(under_way.fetch_add(1, Ordering::SeqCst) < most, "one too many");
            under_way.fetch_sub(1, Ordering::SeqCst);
            drop(permit);
        }
    };
    for (most, preemptions) in [(1, 2), (2, 1)] {
        explore_up_to(preemptions, move || {
            let half_open = HalfOpen::Requests(most as u32);
            let (breaker, _hand) = due(config().half_open(half_open));
            if most == 2 {
                // With three threads there are too many orders for the beginning of the state as well.
                drop(breaker.permit());
            }
            let under_way = Arc::new(AtomicUsize::new(0));
            let calling: Vec<_> = (0..most)
                .map(|_| {
                    let under_way = under_way.clone();
                    meanwhile(&breaker, move |breaker| call(&breaker, &under_way, most))
                })
                .collect();
            call(&breaker, &under_way, most);
            calling.into_iter().for_each(|calling| calling.join().unwrap());
            let places: Vec<_> = (0..most).map(|_| breaker.permit().unwrap()).collect();
            assert!(breaker.permit().is_err(), "a place too many was given back");
            drop(places);
        });
    }
}

#[test]
fn a_place_is_given_back_to_the_generation_that_it_was_taken_from() {
    explore(|| {
        let (breaker, hand) = due(config());
        let leaving = breaker.probe().unwrap();
        let other = meanwhile(&breaker, move |breaker| {
            breaker.reset();
            breaker.permit().unwrap().failure("reset");
            hand.advance(OPEN);
            let trial = breaker.probe().unwrap();
            // Who leaves holds no place of this half-open state, however late he does.
            assert!(breaker.probe().is_none(), "a place was given back that was another's");
            trial.success();
            assert_eq!(breaker.state(), State::Closed);
        });
        drop(leaving);
        other.join().unwrap();
    });
}

/// Takes note of every change of state, in the order they are told.
fn told(breaker: &Breaker) -> Arc<Mutex<Vec<Transition>>> {
    let told = Arc::<Mutex<Vec<Transition>>>::default();
    let telling = told.clone();
    let step = AtomicUsize::new(0);
    breaker.subscribe(move |transition| {
        // Something that another thread can come before.
        step.fetch_add(1, Ordering::SeqCst);
        telling.lock().unwrap().push(transition.clone());
    });
    told
}

/// Two find the trial overdue. One of them ends it and takes the place of the next; the other, who has been on his way to the lock
/// since, must not take that one for the first.
#[test]
fn a_trial_is_not_ended_for_being_as_old_as_the_one_before_it() {
    explore(|| {
        let (breaker, hand) = due(config());
        let told = told(&breaker);
        std::mem::forget(breaker.probe());
        hand.advance(TRIAL_TIMEOUT);
        let other = meanwhile(&breaker, |breaker| drop(breaker.probe()));
        // Ends the overdue trial, if the other has not.
        assert!(breaker.probe().is_none());
        hand.advance(OPEN);
        if let Some(trial) = breaker.probe() {
            thread::yield_now();
            trial.success();
            assert_eq!(breaker.state(), State::Closed);
        }
        other.join().unwrap();
        let told = told.lock().unwrap();
        let overdue = |transition: &&Transition| matches!(transition.cause, Cause::TrialFailed { .. });
        assert_eq!(told.iter().filter(overdue).count(), 1, "{told:?}");
    });
}

/// When a place was taken is noted before it is taken: who finds none free must not find an older note.
#[test]
fn a_trial_that_has_just_begun_is_not_overdue() {
    explore(|| {
        let (breaker, hand) = due(config());
        hand.advance(TRIAL_TIMEOUT);
        let other = meanwhile(&breaker, |breaker| drop(breaker.probe()));
        if let Some(trial) = breaker.probe() {
            thread::yield_now();
            trial.success();
            assert_eq!(breaker.state(), State::Closed);
        }
        other.join().unwrap();
        assert_ne!(breaker.state(), State::Open, "ended as soon as it had begun");
    });
}

#[test]
fn who_sees_it_open_sees_for_how_long() {
    explore(|| {
        let (breaker, _hand) = closed(config());
        let failing = meanwhile(&breaker, |breaker| breaker.permit().unwrap().failure("reset"));
        assert!(matches!(breaker.next_probe_in(), None | Some(OPEN)));
        failing.join().unwrap();
    });
}

#[test]
fn the_ramp_is_over_when_it_is_and_not_before() {
    explore(|| {
        let ramp = Duration::from_secs(5);
        let (breaker, hand) = due(config().ramp(ramp));
        hand.advance(ramp * 2);
        let closing = meanwhile(&breaker, |breaker| breaker.probe().unwrap().success());
        assert_ne!(breaker.state(), State::Closed);
        // Of the first two calls a tenth is let through: the first.
        if breaker.state() == State::Ramping {
            assert!(breaker.ramp_admits());
            assert!(!breaker.ramp_admits());
        }
        closing.join().unwrap();
        assert_eq!(breaker.state(), State::Ramping);
    });
}

#[test]
fn who_ends_the_ramp_does_not_close_what_was_opened_meanwhile() {
    explore(|| {
        let ramp = Duration::from_secs(5);
        let (breaker, hand) = due(config().ramp(ramp));
        breaker.probe().unwrap().success();
        let told = told(&breaker);
        hand.advance(ramp);
        let calling = meanwhile(&breaker, |breaker| assert!(breaker.ramp_admits() || breaker.state() == State::Open));
        breaker.permit_past_ramp().unwrap().failure("reset");
        assert_eq!(breaker.state(), State::Open);
        calling.join().unwrap();
        assert_eq!(breaker.state(), State::Open);
        let told = told.lock().unwrap();
        assert!(told.iter().filter(|told| told.cause == Cause::RampEnded).count() <= 1, "{told:?}");
    });
}

#[test]
fn every_change_is_told_once_and_in_order() {
    explore(|| {
        let (breaker, _hand) = closed(config());
        let told = told(&breaker);
        let forcing = meanwhile(&breaker, |breaker| {
            breaker.force_open();
            breaker.force_closed();
        });
        breaker.reset();
        forcing.join().unwrap();
        let told = told.lock().unwrap();
        assert_eq!(told.iter().map(|told| told.generation).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(told.windows(2).all(|pair| pair[0].to == pair[1].from), "{told:?}");
    });
}

#[test]
fn no_more_calls_are_under_way_than_may_be() {
    explore(|| {
        let (breaker, _hand) = closed(config().max_in_flight(1));
        let under_way = Arc::new(AtomicUsize::new(0));
        let call = |breaker: &Breaker, under_way: &AtomicUsize| {
            if let Ok(permit) = breaker.permit() {
                assert_eq!(under_way.fetch_add(1, Ordering::SeqCst), 0, "one too many");
                under_way.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
            }
        };
        let calling = [0; 2].map(|_| {
            let under_way = under_way.clone();
            meanwhile(&breaker, move |breaker| call(&breaker, &under_way))
        });
        call(&breaker, &under_way);
        calling.into_iter().for_each(|calling| calling.join().unwrap());
        let seen = breaker.snapshot();
        assert_eq!((seen.in_flight, breaker.permit().is_ok()), (0, true));
    });
}

/// Wakes the thread that waits for a future.
#[derive(Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// Waits for a future. If nobody wakes its thread, loom finds a thread that can never go on, and the test fails.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let bell = Arc::<Bell>::default();
    let waker = Waker::from(bell.clone());
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => bell.0.wait(),
        }
    }
}

fn one_at_a_time() -> Breaker {
    closed(config().max_in_flight(1)).0
}

/// All places are free, nobody waits, and the queue is in nobody's way.
fn no_place_is_lost(breaker: &Breaker) {
    let seen = breaker.snapshot();
    assert_eq!((seen.in_flight, seen.waiting), (0, 0));
    breaker.permit().unwrap().success();
}

#[test]
fn who_waits_for_a_place_is_given_the_one_that_is_given_back() {
    explore(|| {
        let breaker = one_at_a_time();
        let under_way = breaker.permit().unwrap();
        let waiting = meanwhile(&breaker, |breaker| wait_for(breaker.permit_when_free()).unwrap().success());
        under_way.success();
        waiting.join().unwrap();
        no_place_is_lost(&breaker);
    });
}

#[test]
fn two_who_wait_both_have_their_turn_and_never_at_once() {
    explore_up_to(1, || {
        let breaker = one_at_a_time();
        let busy = Arc::new(AtomicUsize::new(0));
        let under_way = breaker.permit().unwrap();
        let waiting = [0; 2].map(|_| {
            let busy = busy.clone();
            meanwhile(&breaker, move |breaker| {
                let permit = wait_for(breaker.permit_when_free()).unwrap();
                assert_eq!(busy.fetch_add(1, Ordering::SeqCst), 0, "one too many");
                busy.fetch_sub(1, Ordering::SeqCst);
                permit.success();
            })
        });
        under_way.success();
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        no_place_is_lost(&breaker);
    });
}

#[test]
fn who_does_not_wait_takes_no_place_from_who_does() {
    explore_up_to(1, || {
        let breaker = one_at_a_time();
        let under_way = breaker.permit().unwrap();
        let waiting = meanwhile(&breaker, |breaker| wait_for(breaker.permit_when_free()).unwrap().success());
        let hurrying = meanwhile(&breaker, |breaker| match breaker.permit() {
            Ok(permit) => permit.success(),
            Err(refused) => assert_eq!(refused, Refused::Shed),
        });
        under_way.success();
        waiting.join().unwrap();
        hurrying.join().unwrap();
        no_place_is_lost(&breaker);
    });
}

/// It opens while one is on the way into the queue, or in it, or has just been handed a place.
#[test]
fn who_waits_is_turned_away_when_it_opens() {
    explore(|| {
        let breaker = one_at_a_time();
        let under_way = breaker.permit().unwrap();
        let waiting = meanwhile(&breaker, |breaker| match wait_for(breaker.permit_when_free()) {
            // Its place was handed over, and taken, before it opened.
            Ok(permit) => drop(permit),
            Err(refused) => assert_eq!(refused, Refused::Open),
        });
        under_way.failure("reset");
        waiting.join().unwrap();
        assert_eq!(breaker.state(), State::Open);
        breaker.reset();
        no_place_is_lost(&breaker);
    });
}

#[test]
fn who_goes_away_while_a_place_is_handed_over_passes_it_on() {
    explore_up_to(1, || {
        let breaker = one_at_a_time();
        let under_way = breaker.permit().unwrap();
        let leaving = meanwhile(&breaker, |breaker| {
            let mut permit = Box::pin(breaker.permit_when_free());
            drop(permit.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        });
        let waiting = meanwhile(&breaker, |breaker| wait_for(breaker.permit_when_free()).unwrap().success());
        under_way.success();
        leaving.join().unwrap();
        waiting.join().unwrap();
        no_place_is_lost(&breaker);
    });
}
