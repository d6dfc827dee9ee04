//! A server that hangs (SIGSTOP): how long requests wait once the breaker has opened, compared with requests without a cache.
//!
//! The source takes two milliseconds, and records how long it really took. So one request gives both figures: its wait with the cache, and
//! its wait without. The times of separate requests would differ by more than the cache adds, because a machine's timers are coarse.

use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::sample::{Sample, Shape, host};
use crate::testbed::{Opening, Testbed, text};
use larder::Cache;
use larder::breaker::State;
use larder::connector::redis::Redis;
use larder_testing::server::ServerBinary;
use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The time of a load, as for a query of a database.
pub(crate) const SOURCE: Duration = Duration::from_millis(2);

/// How many requests are under way at once.
const REQUESTS: usize = 8;

const ANSWERS: u32 = 1_000_000;

pub(crate) fn rows(binary: &ServerBinary, suffix: &str) -> Group {
    let rows = vec![
        Comparison::new(format!("hung-median/{suffix}"), "get_or_load, median", "no cache, median", Bar::Most(1.01)),
        Comparison::new(format!("hung-p99/{suffix}"), "get_or_load, p99", "no cache, p99", Bar::Most(1.01)),
        Comparison::new(format!("hung-answer/{suffix}"), "get", "1 µs", Bar::Below(1.0)),
    ];
    let binary = binary.clone();
    let contestants = Box::new(move |effort: crate::measure::Effort| {
        let bed = Testbed::start(&binary, 2)?;
        let (cache, redis) = hang(&bed)?;
        let (each, same) = (effort.of(1_000, 300), cache.clone());
        let names = ["get_or_load, median", "no cache, median", "get_or_load, p99", "no cache, p99"];
        let waiting = Contestant::of_several(names.map(|name| (name.to_owned(), "ms")), move || {
            if redis.breaker().state() == State::Closed {
                return Err("the breaker has closed although the server hangs".to_owned());
            }
            let (mut with, mut without) = waits(&bed, &cache, each)?;
            Ok(vec![
                quantile(&mut with, 0.5),
                quantile(&mut without, 0.5),
                quantile(&mut with, 0.99),
                quantile(&mut without, 0.99),
            ])
        });
        let key = host(1, 0);
        let answer = Contestant::timed("get", ANSWERS, move |count| {
            for _ in 0..count {
                if black_box(now(same.get(Sample::HOST, key.as_str()))).is_none_or(|found| found.is_some()) {
                    return Err("a get waited, or found something".to_owned());
                }
            }
            Ok(())
        });
        Ok(vec![waiting, answer, Contestant::new("1 µs", "ns", || Ok(1000.0))])
    });
    Group { name: format!("waiting while the server hangs, {suffix}"), rows, contestants, varies: true }
}

/// A cache with default settings. Its server is stopped, and its breaker has opened.
fn hang(bed: &Testbed) -> Result<(Cache<Sample>, Redis), String> {
    let (cache, redis) = bed.open_default(Opening::plain())?;
    bed.fill(&cache, Shape::of(300), (0..1_000).collect())?;
    bed.server.stop().map_err(text)?;
    for number in 0..1_000 {
        bed.run(cache.get(Sample::HOST, host(number, 0)));
        if redis.breaker().state() == State::Open && !cache.status().readable {
            return Ok((cache, redis));
        }
    }
    Err("the breaker has not opened".to_owned())
}

/// How long requests waited, and how long their sources took, both in milliseconds.
fn waits(bed: &Testbed, cache: &Cache<Sample>, each: u32) -> Result<(Vec<f64>, Vec<f64>), String> {
    let (with, without) = (Arc::new(Times::default()), Arc::new(Times::default()));
    let work = |task: usize| {
        let (cache, with, without) = (cache.clone(), with.clone(), without.clone());
        async move {
            let first = u32::try_from(task).map_err(text)? * each;
            for number in first..first + each {
                let took = Arc::new(AtomicU64::new(0));
                let told = took.clone();
                let begun = Instant::now();
                let load = move |_| async move {
                    let begun = Instant::now();
                    tokio::time::sleep(SOURCE).await;
                    let object = Shape::of(300).object(number);
                    told.store(nanos(begun), Ordering::Relaxed);
                    Ok::<_, Infallible>(Some(object))
                };
                let found = cache.get_or_load(Sample::HOST, host(number, 0), load).await;
                let waited = nanos(begun);
                found.map_err(text)?.ok_or("a load found nothing")?;
                record(&with, waited);
                record(&without, took.load(Ordering::Relaxed));
            }
            Ok(usize::try_from(each).unwrap_or(0))
        }
    };
    bed.together(REQUESTS, work)?;
    Ok((taken(&with), taken(&without)))
}

type Times = std::sync::Mutex<Vec<f64>>;

fn record(times: &Times, nanos: u64) {
    times.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(nanos as f64 / 1e6);
}

fn taken(times: &Times) -> Vec<f64> {
    std::mem::take(&mut times.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The smallest figure that this part of the figures does not exceed.
pub(crate) fn quantile(figures: &mut [f64], part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let place = (figures.len() as f64 * part).ceil() as usize;
    figures.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The output of a future that is ready at once.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_figures_that_were_measured() {
        let mut figures: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(quantile(&mut figures, 0.5), 100.0);
        assert_eq!(quantile(&mut figures, 0.99), 198.0);
        assert_eq!(quantile(&mut figures, 1.0), 200.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
