//! The tables, and the page that explains them, in Markdown.

use super::Report;
use crate::chart::Chart;
use crate::machine::gigabytes;
use crate::measure::{Row, Spread};

/// A table, with padded cells, so that it can be read as plain text.
fn grid(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells: Vec<String> = widths.iter().zip(line).map(|(width, cell)| format!("{cell:width$}")).collect();
        text += &format!("| {} |\n", cells.join(" | "));
        if number == 0 {
            let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text += &format!("|{}|\n", dashes.join("|"));
        }
    }
    text
}

fn headings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A figure with about three significant digits.
pub(super) fn short(figure: f64) -> String {
    let digits = match figure.abs() {
        0.0 => 0,
        below if below < 0.1 => 3,
        below if below < 10.0 => 2,
        below if below < 100.0 => 1,
        _ => 0,
    };
    format!("{figure:.digits$}")
}

fn verdict(row: &Row) -> &'static str {
    match row.passed() {
        Some(true) => "pass",
        Some(false) => "MISS",
        None if row.measured.is_err() => "not yet",
        None => "",
    }
}

/// The number of a ratio's decimal places. Two are too few for a bar of one per cent.
fn digits(row: &Row) -> usize {
    if row.bar.limit().is_some_and(|limit| limit > 1.0 && limit < 1.05) { 4 } else { 2 }
}

/// All rows, with both figures, the ratio and the bar. Where `counted` has the instructions of the same operations, their ratio stands beside.
pub(crate) fn table(rows: &[Row], counted: &[&Row]) -> String {
    let instructions: Vec<Option<f64>> = rows.iter().map(|row| instructions(row, counted)).collect();
    let beside = instructions.iter().any(Option::is_some);
    let mut lines = vec![headings(&["row", "larder", "limit or peer", "ratio", "spread", "bar", ""])];
    if beside && let Some(heading) = lines.first_mut() {
        heading.insert(5, "in instructions".to_owned());
    }
    for (row, instructions) in rows.iter().zip(instructions) {
        let figure = |name: &str, figure: Spread, unit: &str| format!("{name}: {} {unit}", short(figure.median));
        let measured = row.measured.as_ref();
        let ours = measured.map_or_else(|why| (*why).to_owned(), |m| figure(&m.ours, m.our_figure, m.unit));
        let against = measured.ok().and_then(|m| Some((m.against.as_ref()?, m.unit)));
        let peer = against.map_or(String::new(), |(against, unit)| figure(&against.peer, against.figure, unit));
        let digits = digits(row);
        let ratio = row.ratio().map_or(String::new(), |ratio| format!("{:.digits$}", ratio.median));
        let spread = |ratio: Spread| format!("{:.digits$} – {:.digits$}", ratio.lowest, ratio.highest);
        let spread = row.ratio().map_or(String::new(), spread);
        let mut cells = vec![row.name.clone(), ours, peer, ratio, spread, row.bar.to_string(), verdict(row).to_owned()];
        if beside {
            cells.insert(5, instructions.map_or(String::new(), |ratio| format!("{ratio:.2}")));
        }
        lines.push(cells);
    }
    grid(&lines)
}

/// The ratio of a row in instructions of the server: of the operation over what it is compared with.
fn instructions(row: &Row, counted: &[&Row]) -> Option<f64> {
    let (kind, suffix) = row.name.split_once('/')?;
    let (ours, peer) = match kind.strip_prefix("redis-")? {
        "get-primary" => ("get", None),
        "set-over-fill-new" => ("set-new", Some("fill-new")),
        "set-over-fill-again" => ("set-again", Some("fill-again")),
        same @ ("get-secondary" | "fill-new" | "fill-again" | "set-new" | "set-again" | "invalidate") => (same, None),
        _ => return None,
    };
    let measured = |operation: &str| {
        let name = format!("redis-instructions-{operation}/{suffix}");
        counted.iter().find(|row| row.name == name)?.measured.as_ref().ok()
    };
    let peer = match peer {
        Some(operation) => measured(operation)?.our_figure,
        None => measured("get")?.against.as_ref()?.figure,
    };
    Some(measured(ours)?.our_figure.median / peer.median)
}

/// One line for each kind of row: rows with the same name before the slash, and the same bar.
pub(crate) fn summary<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let mut kinds: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in rows {
        if row.bar.limit().is_none() {
            continue;
        }
        let kind = row.name.split('/').next().unwrap_or_default();
        match kinds.iter_mut().find(|(name, rows)| *name == kind && rows.iter().all(|other| other.bar == row.bar)) {
            Some((_, rows)) => rows.push(row),
            None => kinds.push((kind, vec![row])),
        }
    }
    let mut lines = vec![headings(&["row", "of", "ratio", "bar", "rows that pass"])];
    for (kind, rows) in kinds {
        let Some(first) = rows.first() else { continue };
        let mut parts: Vec<&str> = rows.iter().filter_map(|row| row.name.split('/').nth(1)).collect();
        parts.dedup();
        let ratios: Vec<f64> = rows.iter().filter_map(|row| row.ratio()).map(|ratio| ratio.median).collect();
        let Spread { lowest, highest, .. } = Spread::of(ratios.iter().copied());
        let digits = digits(first);
        let ratio = if ratios.is_empty() { String::new() } else { format!("{lowest:.digits$} – {highest:.digits$}") };
        let passed = rows.iter().filter(|row| row.passed() == Some(true)).count();
        let passed = if first.measured.is_err() { "not yet".to_owned() } else { format!("{passed} of {}", rows.len()) };
        lines.push(vec![kind.to_owned(), parts.join(", "), ratio, first.bar.to_string(), passed]);
    }
    grid(&lines)
}

/// The points of a plot, one line for each x.
pub(crate) fn chart_table(chart: &Chart) -> String {
    let mut xs: Vec<f64> = chart.lines.iter().flat_map(|line| line.points.iter().map(|(x, _)| *x)).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let mut lines = vec![vec![chart.x.label.to_owned()]];
    if let Some(heading) = lines.first_mut() {
        heading.extend(chart.lines.iter().map(|line| line.name.clone()));
    }
    for x in xs {
        let mut cells = vec![number(x)];
        for line in &chart.lines {
            let point = line.points.iter().find(|(other, _)| *other == x);
            cells.push(point.map_or(String::new(), |(_, spread)| short(spread.median)));
        }
        lines.push(cells);
    }
    grid(&lines)
}

/// A number with commas between thousands.
pub(super) fn number(value: f64) -> String {
    if value < 1000.0 {
        let text = format!("{value:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const INTRODUCTION: &str = "\
Each row compares larder with a limit or a peer that was measured in the same run, in turns, on the same machine. The speed of one machine \
says little about yours, but a ratio says much. The **ratio** is the median of the ratios of single rounds, the **spread** is the lowest and \
the highest of them, and the **bar** is the limit of the ratio. Rows without a bar are for information.

A ratio with *server CPU* is what an operation costs the server, by the server's own count (`INFO cpu`), divided by the cost of a plain GET \
of the same bytes. 64 tasks share one multiplexed connection, on one client thread. So about sixty commands reach the server at once, for \
larder and for the plain GET alike, and the server works on nothing but the commands. Keys are random, and the plain GET's keys lie in the \
server's memory next to larder's. On a busy server, a ratio of 2 means that it can serve half as many of these operations as of plain GETs.

*In instructions* is the same ratio in instructions of the server, counted under callgrind. It is the same on every processor. It is larger than \
the ratio of server CPU, because the kernel's part, most of what a GET costs, is not counted.

For these rows larder has default settings, except for what would end a run on a busy machine or hold tasks back: the operation time-out is \
20 s, nothing is shed, slow calls do not open the breaker, and there is room for the hints of all keys (2,000,000; the default is 100,000, \
and a key whose hint is forgotten costs as much as a cold key). *When Redis hangs* and *A key that everybody wants* have the defaults.
";

pub(super) fn page(report: &Report) -> String {
    let mut text = String::from("# Performance\n\n");
    text += INTRODUCTION;
    let machine = &report.machine;
    let memory = machine.memory.map_or(String::new(), |bytes| format!(", {} of memory", gigabytes(bytes)));
    text += &format!(
        "\nWritten by `{}`, in {} minutes; {} rounds after a first one that does not count.\n",
        report.command,
        report.took.as_secs().div_ceil(60),
        report.effort.rounds
    );
    if report.effort.quick {
        text += "\n**This was a quick run**: fewer operations and smaller sizes, so more noise. `cargo xtask bench` does a full run.\n";
    }
    text += &format!(
        "\n| measured on | |\n|---|---|\n| machine | {}, {} cores{memory}, {} |\n| servers | {} |\n| larder | {}, {} |\n",
        machine.processor,
        machine.cores,
        machine.system,
        report.servers.join(", "),
        env!("CARGO_PKG_VERSION"),
        machine.compiler
    );
    text += "\n## At a glance\n\nThe bars, for all servers and payloads that a row was measured with.\n\n";
    text += &summary(report.rows());
    let counted: Vec<&Row> = report.rows().collect();
    for section in &report.sections {
        text += &format!("\n## {}\n\n{}\n", section.title, section.meaning);
        if !section.rows.is_empty() {
            text += &format!("\n{}", table(&section.rows, &counted));
        }
        for chart in &section.charts {
            text += &format!("\n### {}\n\n{}\n", chart.title, chart.meaning);
            text += &format!("\n![{}](performance/{}.svg)\n\n", chart.title, chart.name);
            text += &chart_table(chart);
            chart.notes.iter().for_each(|note| text += &format!("\n{note}\n"));
        }
        section.failures.iter().for_each(|failure| text += &format!("\nNot measured: {failure}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::{Axis, Drawing, Line};
    use crate::measure::{Against, Bar, Measured};

    fn row(name: &str, ratio: f64) -> Row {
        let spread = |median| Spread { median, lowest: median - 0.25, highest: median + 0.25 };
        let against = Against { peer: "quick_cache".into(), figure: spread(10.0), ratio: spread(ratio) };
        let ours = "Cache::get".into();
        let measured =
            Measured { ours, unit: "ns", our_figure: spread(10.0 * ratio), against: Some(against), rounds: 5 };
        Row { name: name.into(), bar: Bar::Most(1.3), measured: Ok(measured) }
    }

    #[test]
    fn a_missed_bar_stands_out_and_what_is_not_there_yet_says_why() {
        let late = Row { name: "lease".into(), bar: Bar::Most(1.0), measured: Err("no lease yet") };
        let expected = "\
| row          | larder              | limit or peer        | ratio | spread      | bar    |         |
|--------------|---------------------|----------------------|-------|-------------|--------|---------|
| memory-get/a | Cache::get: 15.0 ns | quick_cache: 10.0 ns | 1.50  | 1.25 – 1.75 | ≤ 1.30 | MISS    |
| lease        | no lease yet        |                      |       |             | ≤ 1.00 | not yet |
";
        assert_eq!(table(&[row("memory-get/a", 1.5), late], &[]), expected);
    }

    #[test]
    fn instructions_stand_beside_what_they_are_the_instructions_of() {
        let counted = [row("redis-instructions-get/300B", 1.1), row("redis-instructions-set-new/300B", 1.3)];
        let counted: Vec<&Row> = counted.iter().collect();
        let expected = "\
| row                | larder              | limit or peer        | ratio | spread      | in instructions | bar    |      |
|--------------------|---------------------|----------------------|-------|-------------|-----------------|--------|------|
| redis-set-new/300B | Cache::get: 12.0 ns | quick_cache: 10.0 ns | 1.20  | 0.95 – 1.45 | 1.30            | ≤ 1.30 | pass |
| redis-set-new/2kB  | Cache::get: 12.0 ns | quick_cache: 10.0 ns | 1.20  | 0.95 – 1.45 |                 | ≤ 1.30 | pass |
";
        assert_eq!(table(&[row("redis-set-new/300B", 1.2), row("redis-set-new/2kB", 1.2)], &counted), expected);
    }

    #[test]
    fn rows_of_a_kind_are_summed_up() {
        let mut open = row("memory-get/c", 9.0);
        open.bar = Bar::Open;
        let expected = "\
| row        | of   | ratio       | bar    | rows that pass |
|------------|------|-------------|--------|----------------|
| memory-get | a, b | 1.00 – 1.50 | ≤ 1.30 | 1 of 2         |
";
        assert_eq!(summary(&[row("memory-get/a", 1.5), row("memory-get/b", 1.0), open]), expected);
    }

    #[test]
    fn points_of_a_plot_are_lines_of_a_table() {
        let axis = Axis { label: "objects", log: true };
        let point = |x, y| (x, Spread::of([y]));
        let lines = vec![
            Line { name: "a".into(), points: vec![point(1000.0, 3.0), point(1_000_000.0, 4.5)] },
            Line { name: "b".into(), points: vec![point(1000.0, 70.0)] },
        ];
        let chart = Chart {
            name: "c",
            title: "C",
            meaning: "",
            x: axis,
            y: axis,
            drawing: Drawing::Lines,
            lines,
            notes: Vec::new(),
        };
        let expected = "\
| objects   | a    | b    |
|-----------|------|------|
| 1,000     | 3.00 | 70.0 |
| 1,000,000 | 4.50 |      |
";
        assert_eq!(chart_table(&chart), expected);
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        let shown: Vec<String> = [0.01, 0.063, 0.5, 1.0, 10.0, 64.0, 100.0, 1234.0, 10_000_000.0].map(number).into();
        assert_eq!(shown, ["0.01", "0.063", "0.5", "1", "10", "64", "100", "1,234", "10,000,000"]);
        assert_eq!([0.0, 0.062, 3.456, 34.56, 345.6].map(short), ["0", "0.062", "3.46", "34.6", "346"]);
    }
}
