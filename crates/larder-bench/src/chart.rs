//! Plots: a figure, depending on a number.

use crate::measure::{Effort, Make, Spread, take_turns};

/// An axis of a plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    /// Whether the axis is logarithmic.
    pub(crate) log: bool,
}

/// How the points of a line are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drawing {
    Lines,
    /// A histogram: x is the upper end of a bucket, and five buckets make a power of ten.
    Bars,
}

/// A plot that is to be measured.
pub(crate) struct Plot {
    /// The name of the plot and of its file.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What the plot means to a user.
    pub(crate) meaning: &'static str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) drawing: Drawing,
    pub(crate) source: Source,
}

/// Where the points of a plot come from.
pub(crate) enum Source {
    /// Each x has contestants of its own. Each of their figures is a point on the line with its name.
    Points(Box<dyn FnOnce(Effort) -> Result<Vec<Point>, String>>),
    /// One measurement gives all lines, as for a histogram.
    Lines(Box<dyn FnOnce(Effort) -> Result<Vec<Line>, String>>),
}

/// One x of a plot.
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) contestants: Make,
}

/// A plot that was measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chart {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) drawing: Drawing,
    pub(crate) lines: Vec<Line>,
    /// The points that were left out, and why.
    pub(crate) notes: Vec<String>,
}

/// Points with one name, from left to right.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, Spread)>,
}

impl Plot {
    /// Measures one x after the other. If an x cannot be measured, for example for lack of memory, it is left out and noted.
    pub(crate) fn measure(self, effort: Effort) -> Result<Chart, String> {
        let mut chart = Chart {
            name: self.name,
            title: self.title,
            meaning: self.meaning,
            x: self.x,
            y: self.y,
            drawing: self.drawing,
            lines: Vec::new(),
            notes: Vec::new(),
        };
        let points = match self.source {
            Source::Points(points) => points(effort)?,
            Source::Lines(lines) => {
                chart.lines = lines(effort)?;
                return Ok(chart);
            }
        };
        for Point { x, contestants } in points {
            eprintln!("  {} {x}", chart.x.label);
            let contestants = match contestants(effort) {
                Ok(contestants) => contestants,
                Err(why) => {
                    chart.notes.push(format!("Left out at {x}: {why}."));
                    continue;
                }
            };
            for (name, _, figures) in take_turns(&format!("{} at {x}", self.name), contestants, effort, true)? {
                let point = (x, Spread::of(figures));
                match chart.lines.iter_mut().find(|line| line.name == name) {
                    Some(line) => line.points.push(point),
                    None => chart.lines.push(Line { name, points: vec![point] }),
                }
            }
        }
        Ok(chart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Contestant;

    #[test]
    fn figures_of_one_name_are_a_line_and_what_cannot_be_measured_is_noted() {
        let point = |x: f64| Point {
            x,
            contestants: Box::new(move |_| match x {
                3.0 => Err("no memory".to_owned()),
                _ => Ok(vec![Contestant::new("square", "", move || Ok(x * x))]),
            }),
        };
        let axis = Axis { label: "x", log: false };
        let source = Source::Points(Box::new(move |_| Ok(vec![point(2.0), point(3.0), point(4.0)])));
        let plot = Plot { name: "p", title: "P", meaning: "", x: axis, y: axis, drawing: Drawing::Lines, source };
        let chart = plot.measure(Effort { rounds: 5, quick: true }).unwrap();
        let medians: Vec<_> = chart.lines[0].points.iter().map(|(x, spread)| (*x, spread.median)).collect();
        assert_eq!(medians, [(2.0, 4.0), (4.0, 16.0)]);
        assert_eq!(chart.notes, ["Left out at 3: no memory."]);
    }
}
