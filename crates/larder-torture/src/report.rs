//! The result of a run.

use super::node::operation_timeout;
use super::plan::Plan;
use super::run::Ending;
use super::witness::Progress;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The most operations of one call, one after the other: a get whose hint is wrong, or a set that cannot be stored. An operation that is not
/// answered is the last.
const OPERATIONS: u32 = 3;

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Whether no impossible answer and no leftover was found.
    pub(crate) clean: bool,
    connector: &'static str,
    seed: u64,
    seconds: f64,
    nodes: u32,
    tasks: u32,
    without: Option<&'static str>,
    /// The answers that were judged.
    reads: u64,
    /// The answers that certainly came from the cache.
    hits: u64,
    reads_per_second: u64,
    /// The number of answers of each kind of reading call, and of calls of each other kind.
    calls: BTreeMap<&'static str, u64>,
    stale: u64,
    wrong: u64,
    /// The changes of the source.
    changes: u64,
    faults: BTreeMap<&'static str, u64>,
    /// How many processes of nodes there were.
    processes: usize,
    loads: u64,
    joined: u64,
    /// Fills that were not stored, by cause.
    refused_fills: BTreeMap<String, u64>,
    applied: u64,
    deferred: u64,
    replayed: u64,
    callers_gone: u64,
    /// Caches cleared because the server's history or clock was not the one known.
    resets: u64,
    breaker_opened: u64,
    slowest_ms: f64,
    slowest: String,
    /// What the slowest call may take, if the machine is not late.
    bound_ms: f64,
    /// How late the machine was at worst.
    late_ms: f64,
    /// Keys that should not be left, and calls that did not end.
    leaks: Vec<String>,
    /// The history of the first impossible answer.
    history: Vec<String>,
    /// The command to run this again.
    again: String,
}

impl Summary {
    pub(crate) fn of(plan: &Plan, progress: &Progress, ending: Ending, seconds: f64) -> Self {
        let counts = || progress.counts.values();
        let mut refused_fills = BTreeMap::new();
        for (cause, count) in counts().flat_map(|counts| &counts.refused) {
            *refused_fills.entry(cause.clone()).or_default() += count;
        }
        let slowest = counts().max_by_key(|counts| counts.slowest_us);
        let (clean, stale, wrong, history, leaks) = match ending {
            Ending::Clean => (true, 0, 0, Vec::new(), Vec::new()),
            Ending::Found { stale, history } => (false, u64::from(stale), u64::from(!stale), history, Vec::new()),
            Ending::Leaks(leaks) => (false, 0, 0, Vec::new(), leaks),
        };
        Self {
            clean,
            connector: plan.connector.name(),
            seed: plan.seed,
            seconds: (seconds * 10.0).round() / 10.0,
            nodes: plan.nodes,
            tasks: plan.tasks,
            without: plan.without.map(larder::protection::Protection::name),
            reads: progress.reads,
            hits: progress.hits,
            calls: progress.calls.clone(),
            reads_per_second: (progress.reads as f64 / seconds.max(0.1)) as u64,
            stale,
            wrong,
            changes: progress.changes,
            faults: progress.faults.clone(),
            processes: progress.counts.len(),
            loads: counts().map(|counts| counts.loads).sum(),
            joined: counts().map(|counts| counts.joined).sum(),
            refused_fills,
            applied: counts().map(|counts| counts.applied).sum(),
            deferred: counts().map(|counts| counts.deferred).sum(),
            replayed: counts().map(|counts| counts.replayed).sum(),
            callers_gone: counts().map(|counts| counts.dropped).sum(),
            resets: counts().map(|counts| counts.resets).sum(),
            breaker_opened: counts().map(|counts| counts.breaker_opened).sum(),
            slowest_ms: slowest.map_or(0.0, |counts| counts.slowest_us as f64 / 1_000.0),
            slowest: slowest.map_or_else(String::new, |counts| counts.slowest.clone()),
            bound_ms: (operation_timeout(plan.connector, plan.patient) * OPERATIONS).as_secs_f64() * 1_000.0,
            late_ms: counts().map(|counts| counts.late_us).max().unwrap_or(0) as f64 / 1_000.0,
            leaks,
            history,
            again: plan.again.clone(),
        }
    }
}

/// The figures of a run so far, in one line.
pub(crate) fn line(progress: &Progress) -> String {
    let faults: u64 = progress.faults.values().sum();
    format!("{} reads, {} hits, {} changes, {faults} faults", progress.reads, progress.hits, progress.changes)
}

fn list<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let list: Vec<String> =
        counts.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, text: String| writeln!(f, "{name:<15}{text}");
        row(
            "reads",
            format!("{}, {} a second, of which {} were hits for certain", self.reads, self.reads_per_second, self.hits),
        )?;
        row("by call", list(self.calls.iter().map(|(name, count)| (*name, *count))))?;
        row("stale reads", self.stale.to_string())?;
        row("wrong reads", self.wrong.to_string())?;
        row("changes", self.changes.to_string())?;
        row("faults", list(self.faults.iter().map(|(name, count)| (*name, *count))))?;
        row("nodes", format!("{}, in {} processes one after the other", self.nodes, self.processes))?;
        row("loads", format!("{}, shared by {}", self.loads, self.joined))?;
        row("refused fills", list(self.refused_fills.iter().map(|(name, count)| (name.as_str(), *count))))?;
        let gone = self.callers_gone;
        row(
            "invalidations",
            format!(
                "{} applied, {} deferred, {} replayed; {gone} callers went away",
                self.applied, self.deferred, self.replayed
            ),
        )?;
        row("cleared caches", format!("{}; breakers opened {} times", self.resets, self.breaker_opened))?;
        row(
            "slowest call",
            format!(
                "{:.0} ms ({}); three operations may take {:.0} ms, and the machine was late by up to {:.0} ms",
                self.slowest_ms, self.slowest, self.bound_ms, self.late_ms
            ),
        )?;
        row("seed", self.seed.to_string())?;
        writeln!(f)?;
        for leak in &self.leaks {
            writeln!(f, "left behind: {leak}")?;
        }
        for line in &self.history {
            writeln!(f, "{line}")?;
        }
        if !self.history.is_empty() {
            writeln!(f)?;
        }
        match (self.clean, self.without) {
            (true, None) => write!(f, "Clean: after {:.0} s nothing was found.", self.seconds),
            (true, Some(without)) => {
                write!(f, "NOT found within {:.0} s, although the protection `{without}` is off.", self.seconds)
            }
            (false, Some(without)) => write!(
                f,
                "Found after {:.1} s, as it should be: the protection `{without}` is off.\nAgain: {}",
                self.seconds, self.again
            ),
            (false, None) => write!(f, "A promise was broken after {:.1} s. Again: {}", self.seconds, self.again),
        }
    }
}
