//! The rows and the points of plots, as JSON for programs.

use super::Report;
use super::markdown::number;
use crate::measure::{Row, Spread};

/// An array of objects: `name`, `ratio`, `bar` and `pass` of each row, and the figures behind them. A missing value is `null`. The ratio of
/// a plot's point is relative to the first point of its line.
pub(crate) fn json(report: &Report) -> String {
    let mut objects: Vec<String> = report.rows().map(of_row).collect();
    for chart in report.charts() {
        for line in &chart.lines {
            let Some((_, first)) = line.points.first() else { continue };
            for (x, y) in &line.points {
                let name = text(&format!("{}/{}/{}", chart.name, line.name, number(*x).replace(',', "")));
                let ratio = figure(y.median / first.median);
                objects.push(format!(
                    r#"{{"name": {name}, "ratio": {ratio}, "bar": null, "pass": null, "unit": {}, "ours": {}}}"#,
                    text(chart.y.label),
                    spread(*y)
                ));
            }
        }
    }
    format!("[\n  {}\n]\n", objects.join(",\n  "))
}

fn of_row(row: &Row) -> String {
    let null = || "null".to_owned();
    let ratio = row.ratio().map_or_else(null, |ratio| figure(ratio.median));
    let pass = row.passed().map_or_else(null, |passed| passed.to_string());
    let limit = row.bar.limit().map_or_else(null, figure);
    let name = text(&row.name);
    let mut object = format!(r#"{{"name": {name}, "ratio": {ratio}, "bar": {limit}, "pass": {pass}"#);
    match &row.measured {
        Ok(measured) => {
            object += &format!(r#", "bar_is": {}, "unit": {}"#, text(&row.bar.to_string()), text(measured.unit));
            object += &format!(r#", "rounds": {}, "larder": {}"#, measured.rounds, text(&measured.ours));
            object += &format!(r#", "ours": {}"#, spread(measured.our_figure));
            if let Some(against) = &measured.against {
                object += &format!(r#", "peer": {}, "theirs": {}"#, text(&against.peer), spread(against.figure));
                object += &format!(r#", "ratios": {}"#, spread(against.ratio));
            }
        }
        Err(why) => object += &format!(r#", "not_yet": {}"#, text(why)),
    }
    object + "}"
}

fn spread(Spread { median, lowest, highest }: Spread) -> String {
    let [median, lowest, highest] = [median, lowest, highest].map(figure);
    format!(r#"{{"median": {median}, "lowest": {lowest}, "highest": {highest}}}"#)
}

/// JSON has no infinity and no NaN: they become `null`.
fn figure(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { "null".to_owned() }
}

fn text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted += &format!("\\u{:04x}", u32::from(control)),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Against, Bar, Measured};

    #[test]
    fn a_row_has_its_name_ratio_bar_and_whether_it_passed() {
        let spread = |median| Spread { median, lowest: median - 0.25, highest: median + 0.25 };
        let against = Against { peer: "GET".into(), figure: spread(10.0), ratio: spread(1.5) };
        let ours = "get".into();
        let measured = Measured { ours, unit: "ns", our_figure: spread(15.0), against: Some(against), rounds: 5 };
        let row = Row { name: "get/a".into(), bar: Bar::Most(1.3), measured: Ok(measured) };
        let expected = r#"{"name": "get/a", "ratio": 1.5, "bar": 1.3, "pass": false, "bar_is": "≤ 1.30", "unit": "ns", "rounds": 5, "larder": "get", "ours": {"median": 15, "lowest": 14.75, "highest": 15.25}, "peer": "GET", "theirs": {"median": 10, "lowest": 9.75, "highest": 10.25}, "ratios": {"median": 1.5, "lowest": 1.25, "highest": 1.75}}"#;
        assert_eq!(of_row(&row), expected);
    }

    #[test]
    fn what_is_not_there_is_null() {
        let row = Row { name: "lease".into(), bar: Bar::Most(1.0), measured: Err("none \"yet\"") };
        let expected = r#"{"name": "lease", "ratio": null, "bar": 1, "pass": null, "not_yet": "none \"yet\""}"#;
        assert_eq!(of_row(&row), expected);
        assert_eq!(figure(f64::NAN), "null");
    }
}
