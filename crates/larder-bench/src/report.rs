//! The rows as a table for people, which is markdown as well, and as JSON for programs.

use crate::measure::{Row, Spread};

pub(crate) fn table(rows: &[Row]) -> String {
    let header = ["row", "larder", "limit or peer", "ratio", "spread", "bar", ""].map(str::to_owned);
    let mut lines = vec![header];
    for row in rows {
        let [ours, peer, ratio, spread] = match &row.measured {
            Ok(measured) => {
                let figure = |name: &str, figure: Spread| format!("{name}: {:.2} {}", figure.median, measured.unit);
                [
                    figure(&measured.ours, measured.our_figure),
                    figure(&measured.peer, measured.peer_figure),
                    format!("{:.2}", measured.ratio.median),
                    format!("{:.2} – {:.2}", measured.ratio.lowest, measured.ratio.highest),
                ]
            }
            Err(why) => [(*why).to_owned(), String::new(), String::new(), String::new()],
        };
        let verdict = match row.passed() {
            Some(true) => "pass",
            Some(false) => "MISS",
            None if row.measured.is_err() => "not yet",
            None => "",
        };
        lines.push([row.name.clone(), ours, peer, ratio, spread, row.bar.to_string(), verdict.to_owned()]);
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
    text
}

