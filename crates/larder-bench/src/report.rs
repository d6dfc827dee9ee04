//! The rows as a table for people, which is markdown as well, and as JSON for programs.

use crate::measure::{Bar, Row, Spread};
use std::fmt::Write;

pub(crate) fn table(rows: &[Row]) -> String {
    let header = ["row", "larder", "limit or peer", "ratio", "spread", "bar", ""].map(str::to_owned);
    let mut lines = vec![header];
    for row in rows {
        let figure = |name: &str, figure: Spread| format!("{name}: {:.1} {}", figure.median, row.unit);
        lines.push([
            row.name.to_owned(),
            figure(row.ours, row.our_figure),
            figure(row.peer, row.peer_figure),
            format!("{:.2}", row.ratio.median),
            format!("{:.2} – {:.2}", row.ratio.lowest, row.ratio.highest),
            row.bar.to_string(),
            if row.passed() { "pass" } else { "MISS" }.to_owned(),
        ]);
    }
    let mut widths = [0; 7];
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
    let missed = rows.iter().filter(|row| !row.passed()).count();
    let rounds = rows.iter().map(|row| row.rounds).min().unwrap_or(0);
    text += &format!(
        "\n{} of {} rows pass. Medians of {rounds} rounds in turns; the spread is the lowest and the highest ratio of a round.\n",
        rows.len() - missed,
        rows.len()
    );
    text
}

/// An array of objects. All text is ours and holds nothing that JSON would have to escape.
pub(crate) fn json(rows: &[Row]) -> String {
    let mut objects = Vec::new();
    for row in rows {
        let mut object = String::new();
        let (bar, limit) = match row.bar {
            Bar::Most(limit) => ("at most", limit),
            Bar::Below(limit) => ("below", limit),
            Bar::Least(limit) => ("at least", limit),
        };
        // Writing to a string cannot fail.
        let _ = write!(
            object,
            "  {{\"row\": \"{}\", \"larder\": \"{}\", \"peer\": \"{}\", \"unit\": \"{}\", \"rounds\": {}, ",
            row.name, row.ours, row.peer, row.unit, row.rounds
        );
        for (name, figure) in [("ours", row.our_figure), ("theirs", row.peer_figure), ("ratio", row.ratio)] {
            let Spread { median, lowest, highest } = figure;
            let _ =
                write!(object, "\"{name}\": {{\"median\": {median}, \"lowest\": {lowest}, \"highest\": {highest}}}, ");
        }
        let _ = write!(object, "\"bar\": {{\"{bar}\": {limit}}}, \"pass\": {}}}", row.passed());
        objects.push(object);
    }
    format!("[\n{}\n]\n", objects.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let spread = |median| Spread { median, lowest: median - 0.25, highest: median + 0.25 };
        let (our_figure, peer_figure, ratio) = (spread(15.0), spread(10.0), spread(1.5));
        let (name, ours, peer, bar) = ("memory-get", "Cache::get", "quick_cache", Bar::Most(1.3));
        Row { name, ours, peer, unit: "ns", our_figure, peer_figure, ratio, bar, rounds: 5 }
    }

    #[test]
    fn a_missed_bar_stands_out() {
        let expected = "\
| row        | larder              | limit or peer        | ratio | spread      | bar    |      |
|------------|---------------------|----------------------|-------|-------------|--------|------|
| memory-get | Cache::get: 15.0 ns | quick_cache: 10.0 ns | 1.50  | 1.25 – 1.75 | ≤ 1.30 | MISS |

0 of 1 rows pass. Medians of 5 rounds in turns; the spread is the lowest and the highest ratio of a round.
";
        assert_eq!(table(&[row()]), expected);
    }

    #[test]
    fn programs_get_the_same_figures() {
        let expected = r#"[
  {"row": "memory-get", "larder": "Cache::get", "peer": "quick_cache", "unit": "ns", "rounds": 5, "ours": {"median": 15, "lowest": 14.75, "highest": 15.25}, "theirs": {"median": 10, "lowest": 9.75, "highest": 10.25}, "ratio": {"median": 1.5, "lowest": 1.25, "highest": 1.75}, "bar": {"at most": 1.3}, "pass": false}
]
"#;
        assert_eq!(json(&[row()]), expected);
    }
}
