//! The breaker, compared with the breakers of recloser and failsafe.
//!
//! The call does nothing, so that only what the breaker adds is measured. recloser takes the call as a closure. larder has separate calls for
//! the permit and the outcome; so does failsafe, whose `call` only combines them.

use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::testbed::text;
use failsafe::CircuitBreaker;
use larder::breaker::{Breaker, BreakerOptions, State};
use larder::clock::Clock;
use recloser::Recloser;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const CALLS: u32 = 2_000_000;

/// Longer than the measurement, so that an open breaker stays open.
const LONG: Duration = Duration::from_secs(3600);

const PEERS: [&str; 2] = ["recloser", "failsafe"];

/// The redis connector's default limit on calls under way. The peers have no such limit, and get a plain counter for it.
const CAP: usize = 256;

fn capped(under_way: &AtomicUsize, call: impl FnOnce() -> Result<(), &'static str>) -> Result<(), String> {
    let one_more = |count| (count < CAP).then(|| count + 1);
    under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_err(|_| "over the cap")?;
    call()?;
    under_way.fetch_sub(1, Ordering::Relaxed);
    Ok(())
}

fn breaker(max_in_flight: usize) -> Result<Breaker, String> {
    let config = BreakerOptions::new().max_in_flight(max_in_flight).open(LONG).open_max(LONG);
    Breaker::new("bench", config, Clock::system()).map_err(text)
}

fn recloser() -> Recloser {
    Recloser::custom().open_wait(LONG).build()
}

fn failsafe() -> impl CircuitBreaker {
    let policy = failsafe::failure_policy::consecutive_failures(5, failsafe::backoff::constant(LONG));
    failsafe::Config::new().failure_policy(policy).build()
}

/// Permit and success while the breaker is closed.
pub(crate) fn closed() -> Group {
    let mut rows = Vec::new();
    for (name, ours, suffix) in
        [("breaker-closed", "larder", ""), ("breaker-closed-capped", "larder, capped", ", capped")]
    {
        rows.extend(
            PEERS.map(|peer| {
                Comparison::new(format!("{name}/{peer}"), ours, format!("{peer}{suffix}"), Bar::Below(1.0))
            }),
        );
    }
    let name = "breaker, permit and success".into();
    Group { name, rows, contestants: Box::new(|_| calling()), varies: true }
}

fn calling() -> Result<Vec<Contestant>, String> {
    let ours = |name, breaker: Breaker| {
        Contestant::timed(name, CALLS, move |calls| {
            for _ in 0..calls {
                black_box(&breaker).permit().map_err(|refused| refused.to_string())?.success();
            }
            Ok(())
        })
    };
    let (recloser, recloser_capped) = (recloser(), (recloser(), AtomicUsize::new(0)));
    let (failsafe, failsafe_capped) = (failsafe(), (failsafe(), AtomicUsize::new(0)));
    Ok(vec![
        ours("larder", breaker(0)?),
        ours("larder, capped", breaker(CAP)?),
        Contestant::timed("recloser", CALLS, move |calls| {
            for _ in 0..calls {
                black_box(&recloser).call(|| Ok::<(), ()>(())).map_err(|_| "a call was rejected")?;
            }
            Ok(())
        }),
        Contestant::timed("failsafe", CALLS, move |calls| {
            for _ in 0..calls {
                black_box(&failsafe).call(|| Ok::<(), ()>(())).map_err(|_| "a call was rejected")?;
            }
            Ok(())
        }),
        Contestant::timed("recloser, capped", CALLS, move |calls| {
            let (recloser, under_way) = &recloser_capped;
            for _ in 0..calls {
                let call = || black_box(recloser).call(|| Ok::<(), ()>(())).map_err(|_| "a call was rejected");
                capped(black_box(under_way), call)?;
            }
            Ok(())
        }),
        Contestant::timed("failsafe, capped", CALLS, move |calls| {
            let (failsafe, under_way) = &failsafe_capped;
            for _ in 0..calls {
                let call = || black_box(failsafe).call(|| Ok::<(), ()>(())).map_err(|_| "a call was rejected");
                capped(black_box(under_way), call)?;
            }
            Ok(())
        }),
    ])
}

/// Refusal while the breaker is open.
pub(crate) fn open() -> Group {
    let rows = PEERS.map(|peer| Comparison::new(format!("breaker-open/{peer}"), "larder", peer, Bar::Below(1.0)));
    let name = "breaker, refusal".into();
    Group { name, rows: rows.into(), contestants: Box::new(|_| refused()), varies: true }
}

fn refused() -> Result<Vec<Contestant>, String> {
    let breaker = breaker(CAP)?;
    let (recloser, failsafe) = (recloser(), failsafe());
    for _ in 0..1000 {
        if let Ok(permit) = breaker.permit() {
            permit.failure("reset");
        }
        // Whether these breakers have opened shows in the measurement.
        let _ = recloser.call(|| Err::<(), ()>(()));
        let _ = failsafe.call(|| Err::<(), ()>(()));
    }
    if breaker.state() != State::Open {
        return Err("larder's breaker did not open".to_owned());
    }
    Ok(vec![
        Contestant::timed("larder", CALLS, move |calls| {
            for _ in 0..calls {
                if black_box(&breaker).permit().is_ok() {
                    return Err("a call was let through".to_owned());
                }
            }
            Ok(())
        }),
        Contestant::timed("recloser", CALLS, move |calls| {
            for _ in 0..calls {
                if black_box(&recloser).call(|| Ok::<(), ()>(())).is_ok() {
                    return Err("a call was let through".to_owned());
                }
            }
            Ok(())
        }),
        Contestant::timed("failsafe", CALLS, move |calls| {
            for _ in 0..calls {
                if black_box(&failsafe).call(|| Ok::<(), ()>(())).is_ok() {
                    return Err("a call was let through".to_owned());
                }
            }
            Ok(())
        }),
    ])
}
