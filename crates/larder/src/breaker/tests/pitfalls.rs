//! What other breakers got wrong, one test for each.

use super::*;
use std::sync::Barrier;

#[test]
fn callbacks_queued_first_in_first_out_so_that_outcomes_reach_another_calls_permit() {
    let config = BreakerOptions { half_open: HalfOpen::Requests(2), half_open_successes: 2, ..plain() };
    let (breaker, hand) = breaker(config);
    let before = [breaker.permit().unwrap(), breaker.permit().unwrap()];
    fail(&breaker, 5);
    hand.advance(Duration::from_secs(1));
    let [first, second] = [breaker.permit().unwrap(), breaker.permit().unwrap()];
    // The calls from before the outage are the oldest, and end in the middle of the trials: were outcomes queued, or did
    // they go to whoever is under way, these two would close it.
    before.into_iter().for_each(Permit::success);
    assert_eq!(breaker.state(), State::HalfOpen);
    second.success();
    assert_eq!(breaker.state(), State::HalfOpen, "one of two trials");
    first.failure("still down");
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn outcomes_of_one_outage_reach_the_next_one() {
    let (breaker, hand) = opened(plain());
    hand.advance(Duration::from_secs(1));
    let forgotten = breaker.probe().unwrap();
    breaker.reset();
    fail(&breaker, 5);
    hand.advance(Duration::from_secs(1));
    let probe = breaker.probe().unwrap();
    drop(forgotten);
    assert!(breaker.probe().is_none(), "it gave back a place that was another's");
    drop(probe);
    let late = breaker.probe().unwrap();
    breaker.reset();
    late.failure("from before the reset");
    assert_eq!((breaker.state(), breaker.snapshot().failures), (State::Closed, 0));
}

#[test]
fn successes_from_before_an_outage_are_counted_after_it() {
    let (breaker, hand) = breaker(plain());
    let mut late: Vec<_> = (0..3).map(|_| breaker.permit().unwrap()).collect();
    fail(&breaker, 5);
    late.pop().unwrap().success();
    hand.advance(Duration::from_secs(1));
    let probe = breaker.probe().unwrap();
    late.pop().unwrap().success();
    drop(probe);
    breaker.probe().expect("the late success holds no place").success();
    late.pop().unwrap().success();
    assert_eq!((breaker.state(), breaker.snapshot().successes), (State::Closed, 0));
}

#[test]
fn a_fixed_count_that_never_resets() {
    // Nearly dead after a million successes …
    let ratio_only = BreakerOptions { consecutive_failures: 0, ..plain() };
    let (breaker, hand) = breaker(ratio_only.clone());
    succeed(&breaker, 1_000_000);
    // Looked at, so that it is known when they happened: else those of the last batch are taken to be spread until now.
    assert_eq!(breaker.snapshot().successes, 1_000_000);
    hand.advance(Duration::from_secs(20));
    fail(&breaker, 20);
    assert_eq!(breaker.state(), State::Open, "20 of 20 in the window, whatever came before");
    // … and in a row, where the successes are but a moment old.
    let (breaker, _hand) = super::breaker(plain());
    succeed(&breaker, 1_000_000);
    fail(&breaker, 4);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    // … and a hair trigger after as many failures that nobody remembers.
    let (breaker, hand) = super::breaker(ratio_only);
    for _ in 0..100 {
        fail(&breaker, 1);
        hand.advance(Duration::from_secs(1));
    }
    assert_eq!(breaker.state(), State::Closed, "never more than 10 calls in the window");
}

#[test]
fn one_failed_call_of_one_is_a_hundred_per_cent() {
    // The handshake that a server did not know, against a limit of 10 %.
    let (breaker, _hand) = breaker(BreakerOptions { failure_ratio: 0.1, ..plain() });
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed);
    succeed(&breaker, 17);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed, "2 of 19");
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open, "3 of 20");
}

#[test]
fn half_open_never_ends_because_a_probe_was_cancelled() {
    let (breaker, hand) = opened(plain());
    hand.advance(Duration::from_secs(1));
    for _ in 0..3 {
        let probe = breaker.probe().unwrap();
        assert!(breaker.probe().is_none(), "one at a time");
        drop(probe);
        breaker.probe().unwrap().neutral();
    }
    assert_eq!(breaker.next_probe_in(), Some(Duration::ZERO));
    breaker.probe().unwrap().success();
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn half_open_never_ends_because_a_probe_panicked() {
    let (breaker, hand) = opened(plain());
    hand.advance(Duration::from_secs(1));
    let other = breaker.clone();
    let panicked = std::thread::spawn(move || {
        let _probe = other.probe().unwrap();
        panic!("in the middle of a call");
    });
    assert!(panicked.join().is_err());
    breaker.probe().unwrap().success();
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn half_open_never_ends_because_a_probe_hangs() {
    for half_open in [HalfOpen::Probes, HalfOpen::Requests(2)] {
        let (breaker, hand) = opened(BreakerOptions { half_open, ..plain() });
        hand.advance(Duration::from_secs(1));
        let hung: Vec<_> = std::iter::from_fn(|| breaker.probe()).collect();
        hand.advance(Duration::from_millis(59_999));
        assert!(breaker.probe().is_none());
        assert_eq!(breaker.state(), State::HalfOpen, "it may yet answer");
        hand.advance(Duration::from_millis(1));
        assert!(breaker.probe().is_none());
        assert_eq!(breaker.state(), State::Open, "who says nothing for a minute has failed");
        hand.advance(Duration::from_secs(1));
        let probe = breaker.probe().unwrap();
        hung.into_iter().for_each(Permit::success);
        assert_eq!(breaker.state(), State::HalfOpen, "what it says now is of another time");
        probe.success();
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[test]
fn a_trial_that_has_just_begun_is_not_overdue_however_long_half_open_has_lasted() {
    let (breaker, hand) = opened(BreakerOptions { half_open: HalfOpen::Requests(1), ..plain() });
    hand.advance(Duration::from_secs(1));
    drop(breaker.permit().unwrap());
    hand.advance(Duration::from_secs(600));
    let trial = breaker.permit().unwrap();
    assert_eq!(breaker.permit().unwrap_err(), Refused::Open);
    assert_eq!(breaker.state(), State::HalfOpen);
    trial.success();
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn half_open_lets_everybody_through() {
    let (breaker, hand) = opened(plain());
    assert!(breaker.probe().is_none(), "not yet");
    hand.advance(Duration::from_millis(999));
    assert_eq!(breaker.next_probe_in(), Some(Duration::from_millis(1)));
    hand.advance(Duration::from_millis(1));
    // Users not at all, and of those who may probe one, however many ask at once.
    let (start, all_asked) = (Barrier::new(8), Barrier::new(8));
    let through = std::thread::scope(|scope| {
        let ask = || {
            start.wait();
            let (user, probe) = (breaker.permit(), breaker.probe());
            all_asked.wait();
            assert_eq!(user.unwrap_err(), Refused::Open);
            usize::from(probe.is_some())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(through, 1);
    assert_eq!((breaker.state(), breaker.snapshot().refused), (State::HalfOpen, 8));
}

#[test]
fn a_cancelled_probe_counts_as_success() {
    for half_open in [HalfOpen::Probes, HalfOpen::Requests(1)] {
        let (breaker, hand) = opened(BreakerOptions { half_open, ..plain() });
        hand.advance(Duration::from_secs(1));
        for _ in 0..10 {
            drop(breaker.probe().unwrap());
            breaker.probe().unwrap().neutral();
            assert_eq!(breaker.state(), State::HalfOpen);
        }
    }
}

#[test]
fn each_retry_of_one_operation_is_an_outcome() {
    // NOSCRIPT from a new server, and then EVAL: five operations, ten commands, five errors in a row but for this.
    let (breaker, _hand) = breaker(plain());
    for _ in 0..5 {
        let permit = breaker.permit().unwrap();
        let answer = ["NOSCRIPT", "OK"].into_iter().find(|answer| *answer == "OK");
        if answer.is_some() { permit.success() } else { permit.failure("NOSCRIPT") }
    }
    let seen = breaker.snapshot();
    assert_eq!((seen.state, seen.successes, seen.failures), (State::Closed, 5, 0));
}
