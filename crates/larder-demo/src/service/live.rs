//! The page, and its figures.

use super::Service;
use super::controls::Link;
use super::events::{Event, Kind};
use super::placement::Placement;
use crate::instance::Instance;
use crate::meter::{Durations, Measured, Quantiles, Totals};
use crate::node::Node;
use crate::own_server::OwnServer;
use axum::extract::State;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use futures_util::stream::{self, Stream};
use larder::contract::Status;
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

const PAGE: &str = include_str!("../page.html");

/// The text in a page that is replaced by the first figures.
const PLACE: &str = "/*figures*/null";

/// The text in a page that is replaced by the style that all pages have.
const STYLE_PLACE: &str = "/*style*/";

const STYLE: &str = include_str!("../page.css");

/// How often figures are taken.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// Rates are averages over this many samples.
const WINDOW: usize = 3;

/// Latencies are from this many samples.
const MEASURED: usize = 5;

/// How far the chart goes back, in samples.
const CHART: usize = 120;

/// After so many samples in which every node reads the cache, no node is cut off from it without knowing.
const CALM: u32 = 5;

/// The number of instances in the page's table.
pub(super) const ROWS: usize = 6;

/// The newest figures, as JSON. They are taken even if no page is open, so that a page that is opened later shows the past.
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
    #[serde(flatten)]
    link: Link,
    instances: usize,
    /// Lookups per second.
    rate: f64,
    /// From 0 to 1. `null`: nothing was looked up.
    hit_ratio: Option<f64>,
    lookups: u64,
    loads: u64,
    /// `null`: the cache cannot be read.
    hit: Option<Quantiles>,
    load: Option<Quantiles>,
    checked: u64,
    stale: u64,
    wrong: u64,
    fault: Option<String>,
    transition: Option<Event>,
    journal: u64,
    nodes: Vec<NodeFigures>,
    /// Whether another server takes over when the primary is away.
    replicated: bool,
    /// What the servers say. `null`: there are none, or none answers.
    placement: Option<Placement>,
    /// The configuration file that leads to the demo's own servers.
    file: Option<&'a str>,
    deferred: u64,
    replayed: u64,
    refused_fills: u64,
    /// `null`: there is no breaker, or each cache has one, as in a cluster.
    breaker_opened: Option<u64>,
    generator: Generator,
    events: Vec<Event>,
    rows: Vec<Instance>,
    /// Rate and hit ratio, oldest first.
    chart: Vec<(f64, Option<f64>)>,
}

#[derive(Serialize)]
struct NodeFigures {
    readable: bool,
    hits: u64,
    journal: u64,
    /// In this node's memory. `null`: it has none.
    objects: Option<u64>,
    /// For how long this node's memory may still be read, in milliseconds, if the server is not heard again. `null`: there is no server in question.
    valid_for_ms: Option<u64>,
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
    let mut latencies = Latencies::default();
    let mut chart: VecDeque<(f64, Option<f64>)> = VecDeque::new();
    let mut calm = 0;
    loop {
        ticks.tick().await;
        service.identity.nodes.iter().for_each(Node::publish);
        if let Some(metrics) = &service.metrics {
            // Without this, every latency would be kept until somebody asks for the metrics.
            metrics.run_upkeep();
        }
        let newest = Sample::of(&service);
        if let Some(before) = samples.back() {
            tell_differences(&service, before, &newest);
        }
        keep(&mut samples, newest, WINDOW + 1);
        calm = if service.identity.nodes.iter().all(Node::is_linked) { calm + 1 } else { 0 };
        if calm >= CALM {
            service.identity.cut(false);
        }
        // Read the link's state once for all figures, so that they agree with each other.
        let Ok(link) = Link::of(&service) else { return };
        latencies.add(service.identity.meter.take(), link.readable);
        let (rate, hit_ratio) = samples.front().map_or((0.0, None), |oldest| newest.rates_since(oldest));
        keep(&mut chart, (rate, hit_ratio), CHART);
        let rows = service.identity.source.first(ROWS);
        let figures = figures(&service, link, (rate, hit_ratio), latencies.lately(), &chart, rows);
        match serde_json::to_string(&figures) {
            Ok(json) => drop(service.live.0.send_replace(json.into())),
            Err(error) => tracing::error!("the page's figures cannot be written: {error}"),
        }
    }
}

fn figures<'a>(
    service: &'a Service,
    link: Link,
    (rate, hit_ratio): (f64, Option<f64>),
    lately: Measured,
    chart: &VecDeque<(f64, Option<f64>)>,
    rows: Vec<Instance>,
) -> Figures<'a> {
    let (identity, totals) = (&service.identity, service.identity.meter.totals());
    let sum = |figure: fn(&Node) -> u64| identity.sum(figure);
    let (events, transition) = service.events.all();
    let generator = {
        let generator = service.generator();
        let (on, rates) = (generator.running.is_some(), generator.rates);
        Generator { on, lookups: rates.lookups, changes: rates.changes }
    };
    Figures {
        connector: service.backend.connector(),
        backend: service.backend.name(),
        link,
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
        transition,
        journal: sum(|node| node.cache.status().journal),
        nodes: identity.nodes.iter().map(NodeFigures::of).collect(),
        replicated: service.backend.server().is_some_and(OwnServer::is_replicated),
        placement: service.placement.borrow().clone(),
        file: service.backend.file(),
        deferred: sum(Node::deferred),
        replayed: sum(|node| node.cache.stats().replayed.get()),
        refused_fills: sum(Node::refused_fills),
        breaker_opened: identity.nodes.iter().map(Node::breaker_opened).sum(),
        generator,
        events,
        rows,
        chart: chart.iter().copied().collect(),
    }
}

/// The durations of the last samples.
#[derive(Default)]
struct Latencies {
    samples: VecDeque<Measured>,
    /// Whether the cache could be read when the newest sample ended.
    readable: bool,
}

impl Latencies {
    /// Adds a sample. While the cache cannot be read, a lookup without a load of its own has waited for the load of another lookup. So its
    /// duration is not that of a hit and is dropped. Durations of hits from before the outage are dropped, too.
    fn add(&mut self, mut newest: Measured, readable: bool) {
        let before = std::mem::replace(&mut self.readable, readable);
        if !(before && readable) {
            newest.hits = Durations::default();
        }
        if !readable {
            self.samples.iter_mut().for_each(|sample| sample.hits = Durations::default());
        }
        keep(&mut self.samples, newest, MEASURED);
    }

    fn lately(&self) -> Measured {
        let mut lately = Measured::default();
        for sample in &self.samples {
            lately.hits.add(&sample.hits);
            lately.loads.add(&sample.loads);
        }
        lately
    }
}

fn tell_differences(service: &Service, before: &Sample, now: &Sample) {
    let events = &service.events;
    let (one, many) = ("invalidation went into the journal", "invalidations went into the journal");
    events.tell_count(Kind::Deferred, now.deferred - before.deferred, one, many);
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
    fn of(service: &Service) -> Self {
        let identity = &service.identity;
        Self {
            at: Instant::now(),
            totals: service.identity.meter.totals(),
            hits: identity.sum(|node| node.cache.stats().hits.get()),
            deferred: identity.sum(Node::deferred),
            replayed: identity.sum(|node| node.cache.stats().replayed.get()),
            failures: service.generator().running.as_ref().map_or(0, |load| load.failures()),
        }
    }

    /// Lookups per second, and the part of them that were hits.
    fn rates_since(&self, before: &Self) -> (f64, Option<f64>) {
        let lookups = self.totals.lookups - before.totals.lookups;
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let ratio = (lookups > 0).then(|| ((self.hits - before.hits) as f64 / lookups as f64).min(1.0));
        (if seconds > 0.0 { lookups as f64 / seconds } else { 0.0 }, ratio)
    }
}

impl NodeFigures {
    fn of(node: &Node) -> Self {
        let Status { readable, journal, objects, valid_for_ms, .. } = node.cache.status();
        Self { readable, hits: node.cache.stats().hits.get(), journal, objects, valid_for_ms }
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
    Html(filled(PAGE, &service.live.0.borrow()))
}

/// The page with its style and with these figures, which are JSON.
pub(crate) fn filled(page: &str, figures: &str) -> String {
    // Text from the database must not be able to end the script element that contains it.
    let figures = figures.replace('<', "\\u003c");
    page.replacen(STYLE_PLACE, STYLE, 1).replacen(PLACE, &figures, 1)
}

/// The figures, once a second.
pub(super) async fn events(
    State(service): State<Arc<Service>>,
) -> Sse<impl Stream<Item = Result<axum::response::sse::Event, Infallible>>> {
    stream_of(service.live.0.subscribe())
}

/// Sends figures whenever they change.
pub(crate) fn stream_of(
    figures: watch::Receiver<Arc<str>>,
) -> Sse<impl Stream<Item = Result<axum::response::sse::Event, Infallible>>> {
    let figures = stream::unfold(figures, |mut figures| async move {
        figures.changed().await.ok()?;
        let event = axum::response::sse::Event::default().data(&**figures.borrow_and_update());
        Some((Ok(event), figures))
    });
    Sse::new(figures).keep_alive(KeepAlive::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(hit: u64, load: u64) -> Measured {
        let mut measured = Measured::default();
        measured.hits.record(Duration::from_micros(hit));
        measured.loads.record(Duration::from_micros(load));
        measured
    }

    fn shown(latencies: &Latencies) -> (bool, bool) {
        let lately = latencies.lately();
        (lately.hits.quantiles().is_some(), lately.loads.quantiles().is_some())
    }

    #[test]
    fn what_the_cache_took_before_an_outage_is_not_shown_in_it() {
        let mut latencies = Latencies::default();
        latencies.add(sample(100, 2_000), true);
        latencies.add(sample(100, 2_000), true);
        assert_eq!(shown(&latencies), (true, true));
        latencies.add(sample(2_000, 2_000), false);
        assert_eq!(shown(&latencies), (false, true));
        latencies.add(sample(2_000, 2_000), true);
        assert_eq!(shown(&latencies), (false, true), "a part of this second was without the cache");
        latencies.add(sample(100, 2_000), true);
        let median = latencies.lately().hits.quantiles().unwrap().p50;
        assert!(median < 0.2, "{median}");
    }
}
