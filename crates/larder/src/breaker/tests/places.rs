//! Callers that wait for a place among the calls under way.

use super::*;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

/// Counts how often a task is woken.
#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A caller that waits, and is asked by hand whether it has its permit.
struct Caller<'a> {
    permit: Pin<Box<PermitWhenFree<'a>>>,
    woken: Arc<Woken>,
}

impl<'a> Caller<'a> {
    /// Asks for a permit, and has to wait.
    fn waiting(breaker: &'a Breaker) -> Self {
        let mut caller = Self { permit: Box::pin(breaker.permit_when_free()), woken: Arc::default() };
        assert!(caller.ask().is_none());
        caller
    }

    fn ask(&mut self) -> Option<Result<Permit<'a>, Refused>> {
        match self.permit.as_mut().poll(&mut Context::from_waker(&Waker::from(self.woken.clone()))) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    fn woken(&self) -> u64 {
        self.woken.0.load(Ordering::Relaxed)
    }
}

fn one_at_a_time() -> (Breaker, ManualClock) {
    breaker(BreakerOptions { max_in_flight: 1, ..plain() })
}

#[test]
fn a_free_place_is_given_at_once() {
    let (capped, _hand) = one_at_a_time();
    let (unlimited, _hand) = breaker(plain());
    for breaker in [capped, unlimited] {
        for _ in 0..3 {
            let mut permit = Box::pin(breaker.permit_when_free());
            match permit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(permit) => permit.unwrap().success(),
                Poll::Pending => panic!("it waits for a free place"),
            }
        }
        assert_eq!((breaker.snapshot().successes, breaker.snapshot().in_flight), (3, 0));
    }
}

#[test]
fn places_are_given_in_the_order_in_which_callers_came() {
    let (breaker, _hand) = one_at_a_time();
    let first = breaker.permit().unwrap();
    let mut callers: Vec<_> = (0..3).map(|_| Caller::waiting(&breaker)).collect();
    assert_eq!((breaker.snapshot().in_flight, breaker.snapshot().waiting), (1, 3));
    let mut under_way = first;
    for place in 0..3 {
        under_way.success();
        assert_eq!(callers.iter().map(Caller::woken).sum::<u64>(), place + 1, "one is woken for one place");
        assert_eq!(breaker.permit().unwrap_err(), Refused::Shed, "the place is another's already");
        under_way = callers[place as usize].ask().expect("those who came first go first").unwrap();
        assert!(callers.iter_mut().skip(place as usize + 1).all(|caller| caller.ask().is_none()));
    }
    drop(under_way);
    assert_eq!((breaker.snapshot().in_flight, breaker.snapshot().waiting), (0, 0));
    assert_eq!(breaker.snapshot().shed, 3, "who waits is not shed");
    succeed(&breaker, 1);
}

#[test]
fn a_caller_that_goes_away_leaks_no_place() {
    let (breaker, _hand) = one_at_a_time();
    let first = breaker.permit().unwrap();
    let [waits, served, mut last] = [0; 3].map(|_| Caller::waiting(&breaker));
    drop(waits);
    first.success();
    assert_eq!(served.woken(), 1);
    drop(served);
    assert_eq!(last.woken(), 1, "the place that nobody came for goes to the next");
    last.ask().unwrap().unwrap().success();
    assert_eq!((breaker.snapshot().in_flight, breaker.snapshot().waiting), (0, 0));
    let first = breaker.permit().unwrap();
    drop(Caller::waiting(&breaker));
    drop(first);
    succeed(&breaker, 2);
}

#[test]
fn all_who_wait_are_turned_away_when_it_opens() {
    let ways: [fn(Breaker, Vec<Permit<'_>>); 3] = [
        |_, permits| permits.into_iter().for_each(|permit| permit.failure("reset")),
        |_, mut permits| permits.pop().unwrap().refusal("NOAUTH"),
        |breaker, _| breaker.force_open(),
    ];
    for open in ways {
        let (breaker, _hand) = breaker(BreakerOptions { max_in_flight: 5, ..plain() });
        let permits = (0..5).map(|_| breaker.permit().unwrap()).collect();
        let mut callers: Vec<_> = (0..100).map(|_| Caller::waiting(&breaker)).collect();
        open(breaker.clone(), permits);
        for caller in &mut callers {
            assert_eq!(caller.woken(), 1);
            assert_eq!(caller.ask().expect("it is told at once").unwrap_err(), Refused::Open);
        }
        assert_eq!((breaker.snapshot().in_flight, breaker.snapshot().waiting), (0, 0));
        breaker.reset();
        succeed(&breaker, 6);
    }
}

#[test]
fn a_place_that_was_handed_over_is_no_permit_once_it_has_opened() {
    let (breaker, _hand) = one_at_a_time();
    let first = breaker.permit().unwrap();
    let mut caller = Caller::waiting(&breaker);
    first.success();
    breaker.force_open();
    assert_eq!(caller.ask().unwrap().unwrap_err(), Refused::Open);
    breaker.reset();
    succeed(&breaker, 2);
}

#[test]
fn a_call_that_waited_belongs_to_the_state_in_which_it_was_let_in() {
    let (breaker, _hand) = one_at_a_time();
    let first = breaker.permit().unwrap();
    let mut caller = Caller::waiting(&breaker);
    breaker.reset();
    first.success();
    caller.ask().unwrap().unwrap().success();
    assert_eq!(breaker.snapshot().successes, 1, "that of the one who waited; the other's was of another state");
}

#[test]
fn threads_that_wait_all_have_their_turn() {
    let (breaker, _hand) = breaker(BreakerOptions { max_in_flight: 2, ..plain() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    runtime.block_on(async {
        let calls: Vec<_> = (0..2_000)
            .map(|call| {
                let breaker = breaker.clone();
                tokio::spawn(async move {
                    // Some go away while they wait.
                    let permit = tokio::select! {
                        biased;
                        permit = breaker.permit_when_free() => permit.unwrap(),
                        () = tokio::task::yield_now(), if call % 3 == 0 => return,
                    };
                    tokio::task::yield_now().await;
                    permit.success();
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    });
    assert_eq!((breaker.snapshot().in_flight, breaker.snapshot().waiting), (0, 0));
}
