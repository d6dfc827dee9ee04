//! How long `get_or_load` takes while the server is healthy, stopped and killed, compared with a service without a cache.
//!
//! The cache has default settings. The server is stopped or killed right before the first request, so the time-outs that open the breaker
//! count, too.

use crate::chart::{Axis, Drawing, Line, Plot, Source};
use crate::hung::SOURCE;
use crate::measure::Spread;
use crate::sample::{Sample, Shape, host};
use crate::testbed::{Opening, Testbed, shuffled, text};
use larder_testing::server::ServerBinary;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How many requests are under way at once.
const REQUESTS: usize = 16;

const OBJECTS: u32 = 10_000;

/// Bounds of the buckets: five for each power of ten, from 10 µs to 1 s, in ms.
fn bounds() -> impl Iterator<Item = f64> {
    (-10..=15).map(|step| 10_f64.powf(f64::from(step) / 5.0))
}

#[derive(Clone, Copy, PartialEq)]
enum Server {
    Healthy,
    Stopped,
    Killed,
    /// The requests do not use the cache.
    Unused,
}

pub(crate) fn plot(binary: &ServerBinary) -> Plot {
    let binary = binary.clone();
    Plot {
        name: "latency",
        title: "get_or_load, by how the server is",
        meaning: "10,000 requests each, 16 at a time, for objects that the source returns in 2 ms; both axes are logarithmic. Healthy: all are \
                  hits. Stopped (SIGSTOP): a few requests wait for the operation time-out of 100 ms, until the breaker opens. After that \
                  a request waits for the source only. Killed: the same without the time-out, because a refused connection answers at \
                  once. No cache: every request waits for the source.",
        x: Axis { label: "up to this many milliseconds", log: true },
        y: Axis { label: "requests", log: true },
        drawing: Drawing::Bars,
        source: Source::Lines(Box::new(move |effort| {
            let count = effort.of(10_000, 4_000);
            let servers = [
                ("healthy", Server::Healthy),
                ("stopped", Server::Stopped),
                ("killed", Server::Killed),
                ("no cache", Server::Unused),
            ];
            servers.into_iter().map(|(name, server)| Ok(line(name, &latencies(&binary, server, count)?))).collect()
        })),
    }
}

fn line(name: &str, milliseconds: &[f64]) -> Line {
    let mut lower = 0.0;
    let mut points = Vec::new();
    for bound in bounds() {
        let count = milliseconds.iter().filter(|time| **time > lower && **time <= bound).count() as f64;
        if count > 0.0 {
            points.push((bound, Spread::of([count])));
        }
        lower = bound;
    }
    Line { name: name.to_owned(), points }
}

fn latencies(binary: &ServerBinary, server: Server, count: usize) -> Result<Vec<f64>, String> {
    let bed = Testbed::start(binary, 2)?;
    let (cache, _redis) = bed.open_default(Opening::plain())?;
    bed.fill(&cache, Shape::of(300), shuffled(0..OBJECTS))?;
    match server {
        Server::Healthy | Server::Unused => {}
        Server::Stopped => bed.server.stop().map_err(text)?,
        Server::Killed => bed.server.kill(),
    }
    let times = Arc::new(Mutex::new(Vec::with_capacity(count)));
    let each = count / REQUESTS;
    bed.together(REQUESTS, |_| {
        let (cache, times) = (cache.clone(), times.clone());
        async move {
            for _ in 0..each {
                let number = fastrand::u32(0..OBJECTS);
                let load = move || async move {
                    tokio::time::sleep(SOURCE).await;
                    Ok::<_, Infallible>(Some(Shape::of(300).object(number)))
                };
                let begun = Instant::now();
                let found = match server {
                    Server::Unused => load().await.map_err(text)?.is_some(),
                    _ => {
                        cache.get_or_load(Sample::HOST, host(number, 0), move |_| load()).await.map_err(text)?.is_some()
                    }
                };
                let took = begun.elapsed().as_secs_f64() * 1e3;
                if !found {
                    return Err("a request found nothing".to_owned());
                }
                times.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            }
            Ok(each)
        }
    })?;
    Ok(std::mem::take(&mut times.lock().unwrap_or_else(PoisonError::into_inner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_one_bucket_and_empty_ones_are_no_points() {
        let line = line("healthy", &[0.009, 0.010_001, 2.0, 2.1, 700.0]);
        let counts: Vec<f64> = line.points.iter().map(|(_, count)| count.median).collect();
        assert_eq!(counts, [1.0, 1.0, 2.0, 1.0]);
        assert!(line.points[0].0 < 0.011 && line.points[3].0 > 700.0);
    }
}
