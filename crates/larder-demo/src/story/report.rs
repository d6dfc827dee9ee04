//! The results of the story, per phase and in total, for people and for programs.

use super::super::backend::Backend;
use super::super::identity::Identity;
use super::super::instance::InstanceKey;
use super::super::meter::Quantiles;
use super::Told;
use larder::{Delivery, Miss, Stored};
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};

/// The results of the whole story. Its serialised form is the output of `--json`: durations in milliseconds unless the name says otherwise,
/// ratios from 0 to 1, and `null` for a figure that does not apply.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) connector: &'static str,
    pub(crate) server: String,
    pub(crate) nodes: usize,
    pub(crate) instances: u32,
    /// Whether all phases went right and nothing stale or wrong was served.
    pub(crate) ok: bool,
    pub(crate) problems: Vec<String>,
    pub(crate) seconds: f64,
    pub(crate) lookups: u64,
    pub(crate) hit_ratio: f64,
    pub(crate) stale_reads: u64,
    pub(crate) wrong_reads: u64,
    pub(crate) loads: u64,
    /// How much longer a lookup took than the loader alone, while the server hung and after the breaker had opened: the median.
    pub(crate) added_latency_p50_during_outage: Option<f64>,
    /// The same for the 99th percentile.
    pub(crate) added_latency_p99_during_outage: Option<f64>,
    /// The time from the server's stop to the opening of the last node's breaker.
    pub(crate) trip_ms: Option<f64>,
    /// How many invalidations, and puts that became invalidations, went into a journal.
    pub(crate) deferred: u64,
    /// How many journal entries were applied. A journal keeps one entry per key.
    pub(crate) replayed: u64,
    pub(crate) refused_fills: u64,
    pub(crate) breaker_opened: u64,
    /// Phases that were left out, because the server is not the demo's own.
    pub(crate) left_out: Vec<&'static str>,
    pub(crate) phases: Vec<Phase>,
}

/// The results of one phase.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    /// What happened, in a sentence.
    pub(crate) told: &'static str,
    pub(crate) ok: bool,
    pub(crate) problems: Vec<String>,
    pub(crate) seconds: f64,
    pub(crate) lookups: u64,
    pub(crate) hit_ratio: f64,
    pub(crate) stale_reads: u64,
    pub(crate) wrong_reads: u64,
    pub(crate) loads: u64,
    /// Changes that the phase made and checked. Changes by a load in the background do not count.
    pub(crate) changes: u64,
    pub(crate) deferred: u64,
    pub(crate) replayed: u64,
    pub(crate) refused_fills: u64,
    pub(crate) breaker_opened: u64,
    pub(crate) outage: Option<Outage>,
}

/// The figures of an outage.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Outage {
    /// The time from the beginning to the opening of the last node's breaker, if the server hung.
    pub(crate) trip_ms: Option<f64>,
    /// Lookups that waited for the server until their time-out, before all breakers had opened.
    pub(crate) timed_out: u64,
    /// The same after all nodes had noticed the outage, while lookups were measured.
    pub(crate) timed_out_later: u64,
    /// The time from the end of the outage until every node had replayed its journal and read the server again.
    pub(crate) recovered_ms: Option<f64>,
    /// A read of the database without a cache.
    pub(crate) loader: Option<Quantiles>,
    /// A read of the database through the cache, whose server is away.
    pub(crate) lookup: Option<Quantiles>,
    pub(crate) added_p50: Option<f64>,
    pub(crate) added_p99: Option<f64>,
}

/// What a phase collects while it runs.
#[derive(Debug, Default)]
pub(super) struct Facts {
    told: &'static str,
    problems: Vec<String>,
    changes: u64,
    applied: u64,
    pub(super) outage: Option<Outage>,
    /// The keys of all instances that the phase has changed.
    pub(super) keys: Vec<InstanceKey>,
}

/// All counters of the service at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    at: Instant,
    pub(super) lookups: u64,
    hits: u64,
    loads: u64,
    stale: u64,
    wrong: u64,
    /// Puts whose objects were stored.
    pub(super) stored: u64,
    pub(super) applied: u64,
    deferred: u64,
    replayed: u64,
    refused_fills: u64,
    pub(super) breaker_opened: u64,
    /// Lookups that waited for the server until their time-out.
    pub(super) timed_out: u64,
}

impl Report {
    pub(super) fn new(backend: &Backend, identity: &Identity, instances: u32) -> Self {
        Self {
            connector: backend.connector(),
            server: backend.name().to_owned(),
            nodes: identity.nodes.len(),
            instances,
            ok: false,
            problems: Vec::new(),
            seconds: 0.0,
            lookups: 0,
            hit_ratio: 0.0,
            stale_reads: 0,
            wrong_reads: 0,
            loads: 0,
            added_latency_p50_during_outage: None,
            added_latency_p99_during_outage: None,
            trip_ms: None,
            deferred: 0,
            replayed: 0,
            refused_fills: 0,
            breaker_opened: 0,
            left_out: Vec::new(),
            phases: Vec::new(),
        }
    }

    /// Fills in the totals.
    pub(super) fn close(&mut self, identity: &Identity, took: Duration) {
        let figures = Figures::of(identity);
        self.seconds = rounded(took.as_secs_f64());
        self.lookups = figures.lookups;
        self.hit_ratio = rounded(figures.hit_ratio());
        self.stale_reads = figures.stale;
        self.wrong_reads = figures.wrong;
        self.loads = figures.loads;
        self.deferred = figures.deferred;
        self.replayed = figures.replayed;
        self.refused_fills = figures.refused_fills;
        self.breaker_opened = figures.breaker_opened;
        let hung = self.phases.iter().filter_map(|phase| phase.outage.as_ref()).find(|outage| outage.trip_ms.is_some());
        self.trip_ms = hung.and_then(|outage| outage.trip_ms);
        self.added_latency_p50_during_outage = hung.and_then(|outage| outage.added_p50);
        self.added_latency_p99_during_outage = hung.and_then(|outage| outage.added_p99);
        for phase in &self.phases {
            self.problems.extend(phase.problems.iter().map(|problem| format!("{}: {problem}", phase.name)));
        }
        if let Some(fault) = identity.checker.first_fault() {
            self.problems
                .push(format!("{} stale and {} wrong answers, the first: {fault}", figures.stale, figures.wrong));
        }
        self.ok = self.problems.is_empty();
    }
}

impl Phase {
    pub(super) fn new(name: &'static str, facts: Facts, told: Told, before: Figures, after: Figures) -> Self {
        let mut problems = facts.problems;
        problems.extend(told.err().map(|error| error.to_string()));
        let figures = after.since(&before);
        if figures.lookups == 0 {
            problems.push("nothing was read, so nothing was shown".to_owned());
        }
        Self {
            name,
            told: facts.told,
            ok: problems.is_empty() && figures.stale == 0 && figures.wrong == 0,
            problems,
            seconds: rounded(after.at.duration_since(before.at).as_secs_f64()),
            lookups: figures.lookups,
            hit_ratio: rounded(figures.hit_ratio()),
            stale_reads: figures.stale,
            wrong_reads: figures.wrong,
            loads: figures.loads,
            changes: facts.changes,
            deferred: figures.deferred,
            replayed: figures.replayed,
            refused_fills: figures.refused_fills,
            breaker_opened: figures.breaker_opened,
            outage: facts.outage,
        }
    }
}

impl Facts {
    pub(super) fn tell(&mut self, told: &'static str) {
        self.told = told;
    }

    pub(super) fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    pub(super) fn require(&mut self, kept: bool, problem: impl FnOnce() -> String) {
        if !kept {
            self.problem(problem());
        }
    }

    /// Counts a change of the phase.
    pub(super) fn changed(&mut self, delivery: Delivery) {
        self.changes += 1;
        self.applied += u64::from(delivery == Delivery::Applied);
    }

    /// Requires that changes were applied at once. One in ten may have been deferred, because a busy machine did not answer in time.
    pub(super) fn require_applied(&mut self) {
        let (applied, changes) = (self.applied, self.changes);
        self.require(changes > 0, || "nothing was changed, so nothing was shown".to_owned());
        self.require(applied * 10 >= changes * 9, || {
            format!("of {changes} changes only {applied} were applied at once")
        });
    }
}

impl Outage {
    pub(super) fn measured(&mut self, loader: Option<Quantiles>, lookup: Option<Quantiles>) {
        if let (Some(loader), Some(lookup)) = (loader, lookup) {
            self.added_p50 = Some(rounded(lookup.p50 - loader.p50));
            self.added_p99 = Some(rounded(lookup.p99 - loader.p99));
        }
        let round = |quantiles: Quantiles| Quantiles { p50: rounded(quantiles.p50), p99: rounded(quantiles.p99) };
        self.loader = loader.map(round);
        self.lookup = lookup.map(round);
    }
}

impl Figures {
    pub(super) fn of(identity: &Identity) -> Self {
        let sum = |count: &dyn Fn(&super::super::node::Node) -> u64| identity.nodes.iter().map(count).sum();
        let totals = identity.meter.totals();
        Self {
            at: Instant::now(),
            lookups: totals.lookups,
            hits: sum(&|node| node.cache.stats().hits.get()),
            loads: totals.loads,
            stale: identity.checker.stale(),
            wrong: identity.checker.wrong(),
            stored: sum(&|node| node.cache.stats().put(Stored::Accepted).get()),
            applied: sum(&|node| node.cache.stats().applied.get()),
            deferred: sum(&|node| node.deferred()),
            replayed: sum(&|node| node.cache.stats().replayed.get()),
            refused_fills: sum(&|node| node.refused_fills()),
            // In a cluster each cache has a breaker, and none is counted.
            breaker_opened: sum(&|node| node.breaker_opened().unwrap_or(0)),
            timed_out: sum(&|node| node.cache.stats().miss(Miss::TimedOut).get()),
        }
    }

    pub(super) fn since(self, before: &Self) -> Self {
        Self {
            at: self.at,
            lookups: self.lookups - before.lookups,
            hits: self.hits - before.hits,
            loads: self.loads - before.loads,
            stale: self.stale - before.stale,
            wrong: self.wrong - before.wrong,
            stored: self.stored - before.stored,
            applied: self.applied - before.applied,
            deferred: self.deferred - before.deferred,
            replayed: self.replayed - before.replayed,
            refused_fills: self.refused_fills - before.refused_fills,
            breaker_opened: self.breaker_opened - before.breaker_opened,
            timed_out: self.timed_out - before.timed_out,
        }
    }

    /// The part of lookups that were hits.
    pub(super) fn hit_ratio(&self) -> f64 {
        if self.lookups == 0 { 0.0 } else { (self.hits as f64 / self.lookups as f64).min(1.0) }
    }
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

/// Rounded to four decimal places: for milliseconds, to a tenth of a microsecond.
fn rounded(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.ok { "ok" } else { "FAILED" };
        writeln!(f, "{:<22} {verdict:<7} {:>5.1} s", self.name.replace('_', " "), self.seconds)?;
        if !self.told.is_empty() {
            writeln!(f, "    {}", self.told)?;
        }
        write!(f, "    {} lookups, {:.1} % hits, {} loads", self.lookups, self.hit_ratio * 100.0, self.loads)?;
        writeln!(f, "; {} stale, {} wrong", self.stale_reads, self.wrong_reads)?;
        if self.changes > 0 {
            write!(f, "    {} changes; {} invalidations deferred", self.changes, self.deferred)?;
            writeln!(f, ", {} replayed; {} fills refused", self.replayed, self.refused_fills)?;
        }
        if let Some(outage) = &self.outage {
            writeln!(f, "    {outage}")?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "    problem: {problem}"))
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(
            self.trip_ms
                .map(|trip| format!("breakers open after {trip:.0} ms, when {} lookups had waited", self.timed_out)),
        );
        if let (Some(loader), Some(lookup), Some(p50), Some(p99)) =
            (self.loader, self.lookup, self.added_p50, self.added_p99)
        {
            parts.push(format!(
                "a lookup took {:.3} ms (p99 {:.3}) against {:.3} (p99 {:.3}) for the loader alone: added {p50:.3} (p99 {p99:.3})",
                lookup.p50, lookup.p99, loader.p50, loader.p99
            ));
        }
        parts.extend(self.recovered_ms.map(|recovered| format!("read again after {recovered:.0} ms")));
        f.write_str(&parts.join("; "))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Altogether, in {:.1} s:", self.seconds)?;
        writeln!(f, "    lookups        {}", self.lookups)?;
        writeln!(f, "    hit ratio      {:.1} %", self.hit_ratio * 100.0)?;
        writeln!(f, "    loads          {}", self.loads)?;
        writeln!(f, "    stale reads    {}", self.stale_reads)?;
        writeln!(f, "    wrong reads    {}", self.wrong_reads)?;
        writeln!(f, "    deferred       {}", self.deferred)?;
        writeln!(f, "    replayed       {}", self.replayed)?;
        writeln!(f, "    refused fills  {}", self.refused_fills)?;
        writeln!(f, "    breaker opened {} times", self.breaker_opened)?;
        if let (Some(trip), Some(p50), Some(p99)) =
            (self.trip_ms, self.added_latency_p50_during_outage, self.added_latency_p99_during_outage)
        {
            writeln!(
                f,
                "    hung server    breakers open after {trip:.0} ms, then {p50:.3} ms added per lookup (p99 {p99:.3})"
            )?;
        }
        if !self.left_out.is_empty() {
            writeln!(f, "    left out, because the server is not the demo's own: {}", self.left_out.join(", "))?;
        }
        writeln!(f, "{}", if self.ok { "Every phase did what it should." } else { "Not everything went as it should." })
    }
}
