//! The rows as a table in Markdown for people, and as JSON for programs.

use super::Plan;
use super::rows::{Figure, Row, TASKS};
use larder::connector::redis::RedisOptions;
use serde::Serialize;

/// What the server used during the idle interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Idle {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
}

/// The whole result. Its serialised form is the output of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    server: String,
    address: String,
    objects: usize,
    payload_bytes: usize,
    tasks: usize,
    rounds: u32,
    /// The server's work for other clients before the benchmark began. The figures of the rows include such work.
    idle: Idle,
    rows: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    row: &'static str,
    /// The server's processor time per operation, in microseconds: the median of the rounds.
    cpu_micros: f64,
    /// Divided by that of a plain GET in the same round.
    ratio: Spread,
    /// The idle work per operation, in microseconds, if it goes on as in the idle interval.
    noise_micros: f64,
    operations_per_second: f64,
}

/// The median of some figures, and their range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        Self { median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), lowest: at(0), highest: at(last) }
    }
}

impl Report {
    pub(super) fn of(
        server: String,
        config: &RedisOptions,
        plan: &Plan,
        idle: Idle,
        rows: &[(Row, Vec<Figure>)],
    ) -> Self {
        let objects = plan.objects as f64;
        let plain = rows.iter().find(|(row, _)| *row == Row::Plain).map_or(&[][..], |(_, figures)| figures);
        let line = |(row, figures): &(Row, Vec<Figure>)| {
            let seconds = Spread::of(figures.iter().map(|figure| figure.elapsed.as_secs_f64())).median;
            let ratios =
                figures.iter().zip(plain).map(|(ours, plain)| ours.cpu.as_secs_f64() / plain.cpu.as_secs_f64());
            Line {
                row: row.name(),
                cpu_micros: Spread::of(figures.iter().map(|figure| figure.cpu.as_secs_f64() * 1e6 / objects)).median,
                ratio: Spread::of(ratios),
                noise_micros: idle.cpu_seconds / idle.seconds * seconds * 1e6 / objects,
                operations_per_second: objects / seconds,
            }
        };
        Self {
            server,
            address: config.address.to_string(),
            objects: plan.objects,
            payload_bytes: plan.size,
            tasks: TASKS,
            rounds: plan.rounds,
            idle,
            rows: rows.iter().map(line).collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![["row", "server CPU", "× GET", "spread", "noise", "per second"].map(str::to_owned)];
        lines.extend(self.rows.iter().map(|line| {
            let Spread { median, lowest, highest } = line.ratio;
            [
                line.row.to_owned(),
                format!("{:.2} µs", line.cpu_micros),
                format!("{median:.2}"),
                format!("{lowest:.2} – {highest:.2}"),
                format!("{:.2} µs", line.noise_micros),
                format!("{:.0}", line.operations_per_second),
            ]
        }));
        let mut widths = [0; 6];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            let cells = widths.iter().zip(line).map(|(width, cell)| format!("{cell:width$}"));
            text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
            if number == 0 {
                text += &format!("|{}|\n", widths.map(|width| "-".repeat(width + 2)).join("|"));
            }
        }
        let Self { server, objects, payload_bytes, tasks, rounds, idle, .. } = self;
        let busy = 100.0 * idle.cpu_seconds / idle.seconds;
        text += &format!(
            "\n{server}; {objects} objects of {payload_bytes} bytes, {tasks} tasks, medians of {rounds} rounds in turns.\n\
             The server's processor time includes its work for other clients. Idle, it took {busy:.2} % of a core: the noise is \
             that work per operation. If that work changed meanwhile, the spread shows it.\n\
             A server spends more on a request that arrives alone than on one of many. Everything was removed again.\n"
        );
        if cfg!(debug_assertions) {
            text += "This larder was built without optimisation, so more of its requests arrive alone; build it with --release.\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_even_and_odd() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 9.0]), Spread { median: 3.0, lowest: 1.0, highest: 9.0 });
        assert_eq!(spread(&[3.0, 1.0]), Spread { median: 2.0, lowest: 1.0, highest: 3.0 });
        assert!(spread(&[]).median.is_nan());
    }
}
