use super::*;
use crate::clock::ManualClock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};

mod pitfalls;
mod places;

fn breaker(config: BreakerOptions) -> (Breaker, ManualClock) {
    let (clock, hand) = Clock::manual();
    (Breaker::new("test", config, clock).unwrap(), hand)
}

/// Open times that are exact, and no ramp.
fn plain() -> BreakerOptions {
    BreakerOptions {
        open: Duration::from_secs(1),
        open_max: Duration::from_secs(1),
        ramp: Duration::ZERO,
        ..BreakerOptions::default()
    }
}

fn fail(breaker: &Breaker, times: usize) {
    for _ in 0..times {
        breaker.permit().unwrap().failure("reset");
    }
}

fn succeed(breaker: &Breaker, times: usize) {
    for _ in 0..times {
        breaker.permit().unwrap().success();
    }
}

fn opened(config: BreakerOptions) -> (Breaker, ManualClock) {
    let (breaker, hand) = breaker(config);
    fail(&breaker, 5);
    assert_eq!(breaker.state(), State::Open);
    (breaker, hand)
}

#[test]
fn a_success_ends_a_run_of_failures() {
    let (breaker, _hand) = breaker(BreakerOptions { failure_ratio: 0.0, ..plain() });
    for _ in 0..10 {
        fail(&breaker, 4);
        succeed(&breaker, 1);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn half_of_the_calls_of_the_window_open_it_and_older_ones_do_not_count() {
    let config = BreakerOptions { consecutive_failures: 0, ..plain() };
    let (breaker, hand) = breaker(config);
    fail(&breaker, 10);
    hand.advance(Duration::from_secs(10));
    fail(&breaker, 1);
    succeed(&breaker, 10);
    fail(&breaker, 8);
    assert_eq!(breaker.state(), State::Closed, "9 of 19");
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open, "10 of 20");
}

#[test]
fn slow_calls_open_it_where_one_says_what_slow_is() {
    let slow_call = Duration::from_millis(50);
    let (breaker, _hand) = breaker(BreakerOptions { slow_call, ..plain() });
    for _ in 0..10 {
        breaker.permit().unwrap().success_after(Duration::from_millis(49));
    }
    for _ in 0..9 {
        breaker.permit().unwrap().success_after(slow_call);
    }
    assert_eq!(breaker.state(), State::Closed);
    breaker.permit().unwrap().success_after(slow_call);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn an_outcome_that_comes_after_its_state_says_nothing() {
    let (breaker, hand) = breaker(plain());
    let late: Vec<_> = (0..20).map(|_| breaker.permit().unwrap()).collect();
    fail(&breaker, 5);
    hand.advance(Duration::from_secs(1));
    breaker.probe().unwrap().success();
    late.into_iter().for_each(|permit| permit.failure("from before the outage"));
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().failures, 0);
}

#[test]
fn slow_trials_close_it_where_slow_calls_never_open_it() {
    let slow_call = Duration::from_millis(50);
    for (slow_ratio, expected) in [(0.0, State::Closed), (0.5, State::Open)] {
        let (breaker, hand) = opened(BreakerOptions { slow_call, slow_ratio, ..plain() });
        hand.advance(Duration::from_secs(1));
        breaker.probe().unwrap().success_after(slow_call);
        assert_eq!(breaker.state(), expected, "slow_ratio {slow_ratio}");
    }
}

#[test]
fn half_open_with_requests_lets_so_many_through_at_once() {
    let config = BreakerOptions { half_open: HalfOpen::Requests(3), half_open_successes: 2, ..plain() };
    let (breaker, hand) = opened(config);
    assert_eq!(breaker.permit().unwrap_err(), Refused::Open);
    hand.advance(Duration::from_secs(1));
    let mut trials: Vec<_> = (0..3).map(|_| breaker.permit().unwrap()).collect();
    assert_eq!(breaker.permit().unwrap_err(), Refused::Open);
    trials.pop().unwrap().success();
    assert_eq!(breaker.state(), State::HalfOpen);
    trials.pop().unwrap().success();
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn the_five_settings_of_zitadel_can_be_expressed() {
    // Interval 0, MaxConsecutiveFailures 5, MaxFailureRatio 0.1, Timeout 60s, MaxRetryRequests 1
    let minute = Duration::from_secs(60);
    let config = BreakerOptions {
        window: Duration::ZERO,
        consecutive_failures: 5,
        failure_ratio: 0.1,
        open: minute,
        open_max: minute,
        half_open: HalfOpen::Requests(1),
        ..BreakerOptions::default()
    };
    assert!(config.validate().is_ok());
    let (breaker, hand) = opened(config);
    hand.advance(minute);
    let trial = breaker.permit().unwrap();
    assert!(breaker.permit().is_err());
    trial.success();
    assert_eq!(breaker.state(), State::Ramping);
}

/// Stays open for longer and longer.
fn growing() -> BreakerOptions {
    BreakerOptions { open_max: Duration::from_secs(30), ..plain() }
}

/// A server that is back is tried within a second, however long it was away: the pause of a long outage must not outlast it.
#[test]
fn however_long_an_outage_lasts_the_next_trial_is_a_second_away_at_most() {
    let (breaker, hand) = opened(BreakerOptions::default());
    for _ in 0..1000 {
        let wait = breaker.next_probe_in().unwrap();
        assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_secs(1), "{wait:?}");
        hand.advance(wait);
        breaker.probe().unwrap().failure("still down");
    }
}

#[test]
fn the_open_time_grows_and_a_healthy_minute_resets_it() {
    let (breaker, hand) = breaker(growing());
    let mut longest = Duration::ZERO;
    for _ in 0..30 {
        fail(&breaker, 5);
        longest = longest.max(breaker.next_probe_in().unwrap());
        hand.advance(breaker.next_probe_in().unwrap());
        breaker.probe().unwrap().success();
    }
    assert!(longest > Duration::from_secs(2) && longest <= Duration::from_secs(30), "{longest:?}");
    hand.advance(Duration::from_secs(60));
    fail(&breaker, 5);
    assert_eq!(breaker.next_probe_in(), Some(Duration::from_secs(1)));
}

#[test]
fn a_failed_probe_opens_it_again_for_up_to_twice_as_long() {
    let (breaker, hand) = opened(growing());
    for doubled in [2, 4, 8, 16, 30, 30] {
        hand.advance(breaker.next_probe_in().unwrap());
        breaker.probe().unwrap().failure("still down");
        let wait = breaker.next_probe_in().unwrap();
        assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(doubled), "{wait:?} of {doubled} s");
    }
}

#[test]
fn a_refusal_opens_it_at_once_and_for_longer_than_a_failure() {
    let (breaker, _hand) = breaker(BreakerOptions::default());
    breaker.permit().unwrap().refusal("WRONGPASS");
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.next_probe_in(), Some(Duration::from_secs(30)));
}

#[test]
fn neutral_and_dropped_outcomes_never_open_it() {
    let (breaker, _hand) = breaker(plain());
    fail(&breaker, 4);
    for _ in 0..100 {
        breaker.permit().unwrap().neutral();
        drop(breaker.permit().unwrap());
    }
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().neutral, 100);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open, "they do not end a run either");
}

#[test]
fn calls_above_the_cap_are_shed_and_places_come_back() {
    let (breaker, _hand) = breaker(BreakerOptions { max_in_flight: 2, ..plain() });
    let first = breaker.permit().unwrap();
    let second = breaker.permit().unwrap();
    assert_eq!(breaker.permit().unwrap_err(), Refused::Shed);
    let beside = breaker.permit_beside().unwrap();
    assert_eq!(breaker.snapshot().in_flight, 2, "who looks after the connection takes no place");
    beside.failure("no reply");
    assert_eq!(breaker.snapshot().failures, 1, "and counts");
    drop(first);
    second.failure("reset");
    assert_eq!(breaker.snapshot().in_flight, 0);
    succeed(&breaker, 3);
    assert_eq!(breaker.snapshot().shed, 1);
    breaker.force_open();
    assert_eq!(breaker.permit_beside().unwrap_err(), Refused::Open);
}

#[test]
fn after_closing_traffic_ramps_up() {
    let config = BreakerOptions { ramp: Duration::from_secs(10), ..plain() };
    let (breaker, hand) = opened(config);
    hand.advance(Duration::from_secs(1));
    breaker.probe().unwrap().success();
    let admitted = || (0..1000).filter(|_| breaker.permit().map(Permit::success).is_ok()).count();
    assert!(admitted().abs_diff(100) < 10);
    hand.advance(Duration::from_secs(5));
    assert!(admitted().abs_diff(550) < 10);
    hand.advance(Duration::from_secs(5));
    assert_eq!(admitted(), 1000);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn transitions_are_told_in_their_order_with_their_cause() {
    let (breaker, hand) = breaker(plain());
    let told = Arc::new(Mutex::new(Vec::new()));
    let list = told.clone();
    breaker.subscribe(move |transition| list.lock().unwrap().push(transition.to_string()));
    fail(&breaker, 5);
    hand.advance(Duration::from_secs(1));
    breaker.probe().unwrap().failure("LOADING");
    hand.advance(Duration::from_secs(1));
    breaker.probe().unwrap().success();
    breaker.force_open();
    breaker.reset();
    let expected = [
        "closed → open: 5 failures in a row, last: reset",
        "open → half-open: it is time to try again",
        "half-open → open: the trial failed: LOADING",
        "open → half-open: it is time to try again",
        "half-open → closed: the trial succeeded",
        "closed → forced open: forced",
        "forced open → closed: reset",
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[test]
fn a_subscriber_may_use_the_breaker_and_may_panic() {
    let (breaker, _hand) = breaker(plain());
    let heard = Arc::new(AtomicBool::new(false));
    breaker.subscribe(|_| panic!("a subscriber's own trouble"));
    let (other, flag) = (breaker.clone(), heard.clone());
    breaker.subscribe(move |transition| {
        if transition.to == State::Open {
            other.force_closed();
        } else {
            flag.store(true, Ordering::Relaxed);
        }
    });
    fail(&breaker, 5);
    assert_eq!(breaker.state(), State::ForcedClosed);
    assert!(heard.load(Ordering::Relaxed));
}

#[test]
fn forced_states_stay_whatever_happens() {
    let (breaker, hand) = breaker(plain());
    breaker.force_closed();
    fail(&breaker, 1000);
    breaker.permit().unwrap().refusal("WRONGPASS");
    assert_eq!(breaker.state(), State::ForcedClosed);
    breaker.force_open();
    hand.advance(Duration::from_secs(1000));
    assert!(breaker.probe().is_none() && breaker.permit().is_err() && breaker.next_probe_in().is_none());
    breaker.reset();
    succeed(&breaker, 1);
}

#[test]
fn threads_lose_no_outcome_and_no_place() {
    let (breaker, _hand) =
        breaker(BreakerOptions { consecutive_failures: 0, failure_ratio: 0.0, max_in_flight: 64, ..plain() });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let breaker = &breaker;
            scope.spawn(move || {
                for call in 0..5_000 {
                    let permit = breaker.permit().unwrap();
                    if (call + thread) % 5 == 0 { permit.failure("reset") } else { permit.success() }
                }
            });
        }
    });
    let seen = breaker.snapshot();
    assert_eq!((seen.successes, seen.failures, seen.in_flight), (16_000, 4_000, 0));
}
