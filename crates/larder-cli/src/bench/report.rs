//! The rows as a table in Markdown for people, and as JSON for programs.

use super::Plan;
use super::rows::{Figure, Row, TASKS};
use super::subject::Subject;
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
    /// The command that every row is compared with: `GET` or `SELECT`.
    compared_with: &'static str,
    /// What the ratios are of: `cpu`, or `time` if the server does not tell its processor time.
    ratio_of: &'static str,
    /// The server's work for other clients before the benchmark began. The figures of the rows include such work.
    idle: Idle,
    rows: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    row: &'static str,
    /// The server's processor time per operation, in microseconds: the median of the rounds. Missing if the server does not tell.
    cpu_micros: Option<f64>,
    /// Divided by that of a plain GET or SELECT in the same round. If the processor time is missing: the elapsed time, divided by that.
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
    pub(super) fn of(subject: &Subject, plan: &Plan, idle: Idle, rows: &[(Row, Vec<Figure>)]) -> Self {
        let objects = plan.objects as f64;
        let plain = rows.iter().find(|(row, _)| *row == Row::Plain).map_or(&[][..], |(_, figures)| figures);
        let of_cpu = rows.iter().flat_map(|(_, figures)| figures).all(|figure| figure.cpu.is_some());
        let cost = |figure: &Figure| figure.cpu.filter(|_| of_cpu).unwrap_or(figure.elapsed).as_secs_f64();
        let line = |(row, figures): &(Row, Vec<Figure>)| {
            let seconds = Spread::of(figures.iter().map(|figure| figure.elapsed.as_secs_f64())).median;
            Line {
                row: row.name(subject.plain_name()),
                cpu_micros: of_cpu
                    .then(|| Spread::of(figures.iter().map(|figure| cost(figure) * 1e6 / objects)).median),
                ratio: Spread::of(figures.iter().zip(plain).map(|(ours, plain)| cost(ours) / cost(plain))),
                noise_micros: idle.cpu_seconds / idle.seconds * seconds * 1e6 / objects,
                operations_per_second: objects / seconds,
            }
        };
        Self {
            server: subject.name().to_owned(),
            address: subject.address(),
            objects: plan.objects,
            payload_bytes: plan.size,
            tasks: TASKS,
            rounds: plan.rounds,
            compared_with: subject.plain_name(),
            ratio_of: if of_cpu { "cpu" } else { "time" },
            idle,
            rows: rows.iter().map(line).collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let ratio = format!("× {}", self.compared_with);
        let mut lines = vec![["row", "server CPU", &ratio, "spread", "noise", "per second"].map(str::to_owned)];
        lines.extend(self.rows.iter().map(|line| {
            let Spread { median, lowest, highest } = line.ratio;
            [
                line.row.to_owned(),
                line.cpu_micros.map_or_else(|| "unknown".to_owned(), |micros| format!("{micros:.2} µs")),
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
        text += &format!(
            "\n{server}; {objects} objects of {payload_bytes} bytes, {tasks} tasks, medians of {rounds} rounds in turns.\n"
        );
        text += &match (self.compared_with, self.ratio_of) {
            ("GET", _) => format!(
                "The server's processor time includes its work for other clients. Idle, it took {:.2} % of a core: the noise is \
                 that work per operation. If that work changed meanwhile, the spread shows it.\n",
                100.0 * idle.cpu_seconds / idle.seconds
            ),
            (_, "cpu") => {
                "The processor time is that of this command's sessions: the work of others is not in it, nor is vacuum.\n".to_owned()
            }
            _ => "The server tells its processor time to superusers only, so the time of the operations is compared. If the server did \
                  other work meanwhile, the spread shows it.\n"
                .to_owned(),
        };
        text +=
            "A server spends more on a request that arrives alone than on one of many. Everything was removed again.\n";
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
