//! Every metric that larder hands to the `metrics` recorder: its name, kind, unit and labels, and what it means.
//!
//! larder hands metrics over through this file and nowhere else. So every metric is described to the recorder (Prometheus shows the
//! description as HELP) and stands in `docs/metrics.md`. A test compares that page with this catalogue.

use metrics::{Label, Unit};
use std::cell::Cell;

/// One metric with `LABELS` labels.
#[derive(Debug)]
pub(crate) struct Metric<const LABELS: usize> {
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: [&'static str; LABELS],
    help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric with any number of labels.
struct Described {
    name: &'static str,
    kind: Kind,
    unit: Unit,
    #[cfg_attr(not(test), allow(dead_code, reason = "only the page shows them"))]
    labels: &'static [&'static str],
    help: &'static str,
}

macro_rules! catalogue {
    ($($id:ident $name:literal $kind:ident $unit:ident [$($label:literal)*] $help:literal;)+) => {
        $(
            #[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "those of servers"))]
            pub(crate) const $id: Metric<{ [$($label),*].len() }> = Metric {
                name: $name, kind: Kind::$kind, unit: Unit::$unit, labels: [$($label),*], help: $help,
            };
        )+
        static ALL: &[Described] = &[$(Described {
            name: $id.name, kind: $id.kind, unit: $id.unit, labels: &$id.labels, help: $id.help,
        }),+];
    };
}

catalogue! {
    HITS "larder_hits_total" Counter Count ["cache"]
        "Calls that looked an object up and found it.";
    MISSES "larder_misses_total" Counter Count ["cache" "cause"]
        "Calls that looked an object up and did not find it, by cause.";

    LOADS "larder_loads_total" Counter Count ["cache"]
        "Loads begun: calls of a loader.";
    LOAD_FAILURES "larder_load_failures_total" Counter Count ["cache"]
        "Loads whose loader returned an error.";
    LOAD_TIMEOUTS "larder_load_timeouts_total" Counter Count ["cache"]
        "Callers that waited for a load as long as hard_timeout lets them. The load went on.";
    LOADS_JOINED "larder_loads_joined_total" Counter Count ["cache"]
        "Callers that waited for a load that another caller had begun.";
    LOADS_HELD_BACK "larder_loads_held_back_total" Counter Count ["cache"]
        "Loads that waited for a place, because the cache was emptied lately.";
    LOADS_UNLISTED "larder_loads_unlisted_total" Counter Count ["cache"]
        "Loads whose object does not list the key it was loaded by, so that the cache never has it under that key.";
    LEASE_WAITS "larder_lease_waits_total" Counter Count ["cache"]
        "Loads that waited for the load of another node.";
    REFRESHES "larder_refreshes_total" Counter Count ["cache"]
        "Loads begun ahead of the end of an object's max age.";
    SERVED_EXPIRED "larder_served_expired_total" Counter Count ["cache"]
        "Callers that were given an object whose max age was over, since its load took too long or failed.";

    FILLS "larder_fills_total" Counter Count ["cache" "outcome"]
        "Loaded objects handed to the cache, by what became of them.";
    PUTS "larder_puts_total" Counter Count ["cache" "outcome"]
        "Objects that were set or updated, by what became of them.";
    DISPLACED "larder_displaced_total" Counter Count ["cache"]
        "Other objects that were invalidated because an object that was stored has one of their keys.";
    STORED_BYTES "larder_stored_bytes_total" Counter Bytes ["cache"]
        "Bytes of the objects that were stored, as the connector keeps them.";
    EVICTED "larder_evicted_total" Counter Count ["cache"]
        "Objects that left because there was no more room.";
    OBJECTS "larder_objects" Gauge Count ["cache"]
        "Objects held, where the connector knows: in memory.";
    BYTES "larder_bytes" Gauge Bytes ["cache"]
        "What the objects held weigh, where the connector knows: in memory.";

    INVALIDATIONS "larder_invalidations_total" Counter Count ["cache" "delivery"]
        "Invalidations, deletes and truncates, by whether they were applied at once or deferred.";
    REPLAYED "larder_replayed_total" Counter Count ["cache"]
        "Entries of the journal that were applied later.";
    JOURNAL_LENGTH "larder_journal_length" Gauge Count ["cache"]
        "Entries that wait in the journal. While there are any, this node reads nothing from the server.";
    JOURNAL_OVERFLOWS "larder_journal_overflows_total" Counter Count ["cache"]
        "Times the journal was full and became one truncate.";
    READABLE "larder_readable" Gauge Count ["cache"]
        "1 while what is stored may be read, else 0.";
    RESETS "larder_resets_total" Counter Count ["cache"]
        "Times everything was removed because the server's history or clock was not the one known.";
    FAULTS "larder_faults_total" Counter Count ["cache"]
        "Answers of the server that point to a fault in larder, or to somebody else who writes to its keys.";

    BREAKER_STATE "larder_breaker_state" Gauge Count ["server" "state"]
        "1 for the state that the circuit breaker of the server is in, 0 for the others.";
    BREAKER_OPENED "larder_breaker_opened_total" Counter Count ["server"]
        "Times the circuit breaker has opened.";
    BREAKER_REFUSED "larder_breaker_refused_total" Counter Count ["server"]
        "Operations that were not sent because the circuit breaker was open.";
    BREAKER_SHED "larder_breaker_shed_total" Counter Count ["server"]
        "Operations that were not sent because too many were in flight.";
    SERVER_OPERATION "larder_server_operation_seconds" Histogram Seconds ["server"]
        "How long operations on the server took, from being sent to being answered or given up.";

    AUDITED "larder_audited_total" Counter Count ["cache" "outcome"]
        "Hits that the auditor compared with the source, by what it found.";
    AUDIT_STALE_AGE "larder_audit_stale_age_seconds" Histogram Seconds ["cache"]
        "How long an object had been stale when the auditor found it.";
    AUDIT_WORST_AGE "larder_audit_worst_age_seconds" Gauge Seconds ["cache"]
        "The longest time that an object had been stale when the auditor found it.";
    AUDIT_BYPASS "larder_audit_bypass" Gauge Count ["cache"]
        "1 while the cache is not read because of what the auditor has found, else 0.";
}

impl<const LABELS: usize> Metric<LABELS> {
    /// Hands over the total of a counter.
    pub(crate) fn total(&self, values: [&str; LABELS], total: u64) {
        metrics::counter!(self.name, self.labelled(values)).absolute(total);
    }

    /// Hands over the value of a gauge.
    pub(crate) fn value(&self, values: [&str; LABELS], value: f64) {
        metrics::gauge!(self.name, self.labelled(values)).set(value);
    }

    /// The handle that records the values of a histogram.
    pub(crate) fn histogram(&self, values: [&str; LABELS]) -> metrics::Histogram {
        metrics::histogram!(self.name, self.labelled(values))
    }

    fn labelled(&self, values: [&str; LABELS]) -> Vec<Label> {
        self.labels.into_iter().zip(values).map(|(name, value)| Label::new(name, value.to_owned())).collect()
    }
}

/// Describes all metrics to the installed recorder, once for each recorder on each thread: a thread may have a recorder of its own.
///
/// Call this before handing over any metric. A recorder may be installed at any time, and larder is not told of that.
pub(crate) fn describe() {
    thread_local!(static TOLD: Cell<usize> = const { Cell::new(0) });
    let recorder = metrics::with_recorder(|recorder| std::ptr::from_ref(recorder).cast::<()>().addr());
    if TOLD.replace(recorder) == recorder {
        return;
    }
    for Described { name, kind, unit, help, .. } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *unit, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *unit, *help),
            Kind::Histogram => metrics::describe_histogram!(*name, *unit, *help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::path::Path;

    /// The beginning of the metric's row in the page.
    fn row(metric: &Described) -> String {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = if metric.unit == Unit::Count { "" } else { metric.unit.as_str() };
        format!("| `{}` | {kind} | {unit} | {} | {} |", metric.name, labels.join(", "), metric.help)
            .replace("|  |", "| |")
    }

    #[test]
    fn the_page_shows_each_metric_as_it_is_and_no_other() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let page = std::fs::read_to_string(page).unwrap();
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `larder_")).collect();
        for metric in ALL {
            let row = row(metric);
            assert!(rows.iter().any(|line| line.starts_with(&row)), "docs/metrics.md lacks the row\n{row}");
        }
        let names: HashSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name twice");
        // Rows about alerts begin with an expression, not with a name.
        let is_name = |text: &&str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        // The page shows the metrics of servers as well, which exist only with the redis feature.
        let rows = rows.iter().filter(|_| cfg!(feature = "redis"));
        for name in rows.filter_map(|row| row.split('`').nth(1)).filter(is_name) {
            assert!(names.contains(name), "docs/metrics.md shows `{name}`, which there is not");
        }
    }

    /// Prometheus wants names to be so.
    #[test]
    fn a_name_says_what_the_unit_is_and_whether_it_is_a_total() {
        for metric in ALL {
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            let unit = match metric.unit {
                Unit::Seconds => "_seconds",
                Unit::Bytes => "_bytes",
                _ => "",
            };
            assert!(metric.name.trim_end_matches("_total").ends_with(unit), "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{}", metric.name);
        }
    }

    /// A metric that is handed over elsewhere would have no description, and nobody would miss its row in the page.
    #[test]
    fn metrics_are_handed_over_here_only() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs")
                    && !path.ends_with("telemetry/catalogue.rs")
                {
                    let code = std::fs::read_to_string(&path).unwrap();
                    for macro_name in ["counter!", "gauge!", "histogram!"] {
                        assert!(!code.contains(macro_name), "{} has a {macro_name}", path.display());
                    }
                }
            }
        }
    }
}
