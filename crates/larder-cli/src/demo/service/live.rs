//! The page, and the figures that feed it.

use super::controls::ServerState;
use super::events::{Event, Kind};
use super::{NODE, Service};
use crate::demo::instance::Instance;
use crate::demo::meter::{Measured, Quantiles, Totals};
use crate::demo::node::Node;
use axum::extract::State;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

const PAGE: &str = include_str!("../page.html");

/// What stands in the page where the first figures go.
const PLACE: &str = "/*figures*/null";

/// How often figures are taken.
const EVERY: Duration = Duration::from_secs(1);

/// Rates are over this many samples.
const WINDOW: usize = 3;

/// Latencies are over this many.
const MEASURED: usize = 5;

/// How far the chart goes back, in samples.
const CHART: usize = 120;

/// Instances in the page's table.
pub(super) const ROWS: u32 = 6;

/// The newest figures, as JSON. Taken whether anybody looks or not, so that a page that is opened has a past to show.
pub(super) struct Live(watch::Sender<Arc<str>>);

impl Default for Live {
    fn default() -> Self {
        Self(watch::Sender::new("null".into()))
    }
}

#[derive(Serialize)]
struct Figures<'a> {
    connector: &'static str,
    backend: &'a str,
    server: ServerState,
    instances: usize,
    /// Lookups a second.
    rate: f64,
    /// Parts of a whole; `null` where nothing was looked up.
    hit_ratio: Option<f64>,
    lookups: u64,
    loads: u64,
    hit: Option<Quantiles>,
    load: Option<Quantiles>,
    checked: u64,
    stale: u64,
    wrong: u64,
    fault: Option<String>,
    readable: bool,
    breaker: Option<&'static str>,
    transition: Option<Event>,
    journal: u64,
    deferred: u64,
    replayed: u64,
    refused_fills: u64,
    breaker_opened: u64,
    generator: Generator,
    events: Vec<Event>,
    rows: Vec<Instance>,
    /// Rate and hit ratio, oldest first.
    chart: Vec<(f64, Option<f64>)>,
}

#[derive(Serialize)]
struct Generator {
    on: bool,
    lookups: u32,
    changes: u32,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    totals: Totals,
    hits: u64,
    deferred: u64,
    replayed: u64,
    failures: u64,
}

/// Takes figures until its task is aborted.
pub(super) async fn sample(service: Arc<Service>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut samples = VecDeque::new();
    let mut measured: VecDeque<Measured> = VecDeque::new();
    let mut chart: VecDeque<(f64, Option<f64>)> = VecDeque::new();
    loop {
        ticks.tick().await;
        let Ok(node) = service.identity.node(NODE) else { return };
        if let Some(redis) = node.redis() {
            redis.publish();
        }
        if let Some(metrics) = &service.metrics {
            // Else each latency would be kept until somebody asks for the metrics.
            metrics.run_upkeep();
        }
        let newest = Sample::of(&service, node);
        if let Some(before) = samples.back() {
            tell_differences(&service, before, &newest);
        }
        keep(&mut samples, newest, WINDOW + 1);
        keep(&mut measured, service.identity.meter.take(), MEASURED);
        let (rate, hit_ratio) = samples.front().map_or((0.0, None), |oldest| newest.rates_since(oldest));
        keep(&mut chart, (rate, hit_ratio), CHART);
        let rows = service.identity.source.first(ROWS).await.unwrap_or_default();
        let figures = figures(&service, node, (rate, hit_ratio), &measured, &chart, rows);
        match serde_json::to_string(&figures) {
            Ok(json) => drop(service.live.0.send_replace(json.into())),
            Err(error) => tracing::error!("the page's figures cannot be written: {error}"),
        }
    }
}

fn figures<'a>(
    service: &'a Service,
    node: &Node,
    (rate, hit_ratio): (f64, Option<f64>),
    measured: &VecDeque<Measured>,
    chart: &VecDeque<(f64, Option<f64>)>,
    rows: Vec<Instance>,
) -> Figures<'a> {
    let mut lately = Measured::default();
    for sample in measured {
        lately.hits.add(&sample.hits);
        lately.loads.add(&sample.loads);
    }
    let (identity, status, totals) = (&service.identity, node.cache.status(), service.identity.meter.totals());
    let (events, transition) = service.events.all();
    let generator = {
        let generator = service.generator();
        let (on, rates) = (generator.running.is_some(), generator.rates);
        Generator { on, lookups: rates.lookups, changes: rates.changes }
    };
    Figures {
        connector: service.backend.connector(),
        backend: service.backend.name(),
        server: *service.server_state(),
        instances: service.keys.iter().filter(|key| key.is_id()).count(),
        rate,
        hit_ratio,
        lookups: totals.lookups,
        loads: totals.loads,
        hit: lately.hits.quantiles(),
        load: lately.loads.quantiles(),
        checked: identity.checker.reads(),
        stale: identity.checker.stale(),
        wrong: identity.checker.wrong(),
        fault: identity.checker.first_fault(),
        readable: status.readable,
        breaker: node.breaker().map(|breaker| breaker.state().name()),
        transition,
        journal: status.journal,
        deferred: node.deferred(),
        replayed: node.cache.stats().replayed.get(),
        refused_fills: node.refused_fills(),
        breaker_opened: node.breaker_opened(),
        generator,
        events,
        rows,
        chart: chart.iter().copied().collect(),
    }
}

fn tell_differences(service: &Service, before: &Sample, now: &Sample) {
    let events = &service.events;
    let waits = "in the journal until the cache can be told";
    let (one, many) = (format!("invalidation deferred: {waits}"), format!("invalidations deferred: {waits}"));
    events.tell_count(Kind::Deferred, now.deferred - before.deferred, &one, &many);
    let (one, many) = ("key invalidated from the journal", "keys invalidated from the journal");
    events.tell_count(Kind::Replayed, now.replayed - before.replayed, one, many);
    let failures = now.failures.saturating_sub(before.failures);
    events.tell_count(
        Kind::Trouble,
        failures,
        "call of the load generator failed",
        "calls of the load generator failed",
    );
}

impl Sample {
    fn of(service: &Service, node: &Node) -> Self {
        Self {
            at: Instant::now(),
            totals: service.identity.meter.totals(),
            hits: node.cache.stats().hits.get(),
            deferred: node.deferred(),
            replayed: node.cache.stats().replayed.get(),
            failures: service.generator().running.as_ref().map_or(0, |load| load.failures()),
        }
    }

    /// Lookups a second, and the part of them that were hits.
    fn rates_since(&self, before: &Self) -> (f64, Option<f64>) {
        let lookups = self.totals.lookups - before.totals.lookups;
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let ratio = (lookups > 0).then(|| ((self.hits - before.hits) as f64 / lookups as f64).min(1.0));
        (if seconds > 0.0 { lookups as f64 / seconds } else { 0.0 }, ratio)
    }
}

fn keep<T>(kept: &mut VecDeque<T>, newest: T, most: usize) {
    if kept.len() == most {
        kept.pop_front();
    }
    kept.push_back(newest);
}

/// The page, with the newest figures in it.
pub(super) async fn page(State(service): State<Arc<Service>>) -> impl IntoResponse {
    // Text from the database must not end the script that it stands in.
    let figures = service.live.0.borrow().replace('<', "\\u003c");
    Html(PAGE.replacen(PLACE, &figures, 1))
}

/// The figures, once a second.
pub(super) async fn events(
    State(service): State<Arc<Service>>,
) -> Sse<impl Stream<Item = Result<axum::response::sse::Event, Infallible>>> {
    let figures = stream::unfold(service.live.0.subscribe(), |mut figures| async move {
        figures.changed().await.ok()?;
        let event = axum::response::sse::Event::default().data(&**figures.borrow_and_update());
        Some((Ok(event), figures))
    });
    Sse::new(figures).keep_alive(KeepAlive::default())
}
