//! Draws plots as SVG: lines with points, or bars, with a legend below. Readable on light and on dark pages.

use super::markdown::{number, short};
use crate::chart::{Axis, Chart, Drawing, Line};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 52.0;
/// The height of a line of the legend.
const ENTRY: f64 = 20.0;

/// Colours that colour-blind people can tell apart, too, on white and on black.
const COLOURS: [&str; 7] = ["#0b84d8", "#d9610b", "#0fa37f", "#b95bb0", "#8a8d00", "#d33f49", "#7a7f87"];

/// The ratio of the ends of two neighbouring buckets: the fifth root of ten.
const BUCKET: f64 = 1.584_893;

const STYLE: &str = "\
.page{fill:#ffffff}.text{fill:#30363d}.line{stroke:#d0d7de}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117}.text{fill:#c9d1d9}.line{stroke:#30363d}}\
text{font:12px system-ui,sans-serif}";

/// Maps figures to positions on an axis.
struct Scale {
    log: bool,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Scale {
    /// A scale that holds all figures: from one whole power to another, or in round steps from zero.
    fn holding(axis: Axis, figures: impl Iterator<Item = f64> + Clone) -> Self {
        let least = figures.clone().fold(f64::INFINITY, f64::min);
        let most = figures.fold(f64::NEG_INFINITY, f64::max);
        if axis.log {
            let (least, most) = (least.max(1e-9), most.max(1e-9));
            // Powers of two, if powers of ten would give too few ticks.
            let base: f64 = if most / least <= 100.0 { 2.0 } else { 10.0 };
            let (first, last) = (least.log(base).floor(), most.log(base).ceil().max(least.log(base).floor() + 1.0));
            let count = (last - first) as i32;
            let ticks = (0..=count).map(|step| base.powi(first as i32 + step)).collect();
            return Self { log: true, from: base.powf(first), to: base.powf(last), ticks };
        }
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * power).find(|step| *step >= rough).unwrap_or(rough);
        let count = (most / step).ceil() as i32;
        Self {
            log: false,
            from: 0.0,
            to: step * f64::from(count),
            ticks: (0..=count).map(|n| step * f64::from(n)).collect(),
        }
    }

    /// The position of a figure on the axis, from 0 to 1.
    fn place(&self, figure: f64) -> f64 {
        if self.log {
            (figure.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (figure - self.from) / (self.to - self.from)
        }
    }
}

pub(super) fn draw(chart: &Chart) -> String {
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let x = Scale::holding(chart.x, points().map(|(x, _)| *x));
    let y = Scale::holding(chart.y, points().map(|(_, y)| y.median));
    let height = HEIGHT + ENTRY * chart.lines.len().div_ceil(2) as f64;
    let across = |figure: f64| LEFT + x.place(figure) * (WIDTH - LEFT - RIGHT);
    let up = |figure: f64| HEIGHT - BOTTOM - y.place(figure).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n",
        escaped(chart.title)
    );
    // Writing to a string cannot fail.
    for tick in &y.ticks {
        let place = up(*tick);
        let _ = writeln!(
            svg,
            "<line class=\"line\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>\
             <text class=\"text\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            place + 4.0,
            number(*tick)
        );
    }
    for tick in &x.ticks {
        let place = across(*tick);
        let _ = writeln!(
            svg,
            "<line class=\"line\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
             <text class=\"text\" x=\"{place:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0,
            number(*tick)
        );
    }
    let middle = f64::midpoint(TOP, HEIGHT - BOTTOM);
    let _ = writeln!(
        svg,
        "<text class=\"text\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
         <text class=\"text\" transform=\"translate(16 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 14.0,
        escaped(chart.x.label),
        escaped(chart.y.label)
    );
    for (number, (line, colour)) in chart.lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        match chart.drawing {
            Drawing::Lines => polyline(&mut svg, line, colour, across, up),
            Drawing::Bars => {
                let width = across(BUCKET * x.from) - across(x.from);
                let each = width * 0.9 / chart.lines.len() as f64;
                for (at, figure) in &line.points {
                    let (left, top) =
                        (across(*at) - width + each * number as f64, up(figure.median).min(up(y.from) - 1.5));
                    let _ = writeln!(
                        svg,
                        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{each:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
                         <title>{} up to {}: {}</title></rect>",
                        up(y.from) - top,
                        escaped(&line.name),
                        self::number(*at),
                        short(figure.median)
                    );
                }
            }
        }
        let (left, top) = (LEFT + 340.0 * (number % 2) as f64, HEIGHT + ENTRY * (number / 2) as f64);
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
             <text class=\"text\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            top - 2.0,
            left + 22.0,
            top + 4.0,
            escaped(&line.name)
        );
    }
    svg + "</svg>\n"
}

/// Draws the points of a line, the line between them, and the spread of their figures.
fn polyline(svg: &mut String, line: &Line, colour: &str, across: impl Fn(f64) -> f64, up: impl Fn(f64) -> f64) {
    let places: Vec<String> =
        line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", across(*x), up(y.median))).collect();
    let _ = writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
        places.join(" ")
    );
    for (at, figure) in &line.points {
        let place = across(*at);
        let _ = writeln!(
            svg,
            "<line stroke=\"{colour}\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <circle cx=\"{place:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{} at {}: {}</title></circle>",
            up(figure.lowest),
            up(figure.highest),
            up(figure.median),
            escaped(&line.name),
            number(*at),
            short(figure.median)
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Spread;

    fn axis(log: bool) -> Axis {
        Axis { label: "x < y", log }
    }

    #[test]
    fn scales_begin_and_end_at_round_numbers() {
        assert_eq!(Scale::holding(axis(false), [3.0, 47.0].into_iter()).ticks, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(Scale::holding(axis(true), [120.0, 90_000.0].into_iter()).ticks, [100.0, 1e3, 1e4, 1e5]);
        assert_eq!(Scale::holding(axis(true), [1.0, 8.0].into_iter()).ticks, [1.0, 2.0, 4.0, 8.0]);
        assert_eq!(Scale::holding(axis(true), [5.0].into_iter()).ticks, [4.0, 8.0]);
    }

    #[test]
    fn all_figures_lie_inside() {
        for log in [false, true] {
            let scale = Scale::holding(axis(log), [3.0, 47.0, 800.0].into_iter());
            assert!([3.0, 47.0, 800.0].iter().all(|figure| (0.0..=1.0).contains(&scale.place(*figure))));
        }
    }

    #[test]
    fn a_plot_has_a_line_for_each_name_and_escapes_what_it_shows() {
        let line =
            |name: &str| Line { name: name.into(), points: vec![(1.0, Spread::of([2.0])), (10.0, Spread::of([4.0]))] };
        let lines = vec![line("a & b"), line("c")];
        let mut chart = Chart {
            name: "n",
            title: "T",
            meaning: "",
            x: axis(true),
            y: axis(false),
            drawing: Drawing::Lines,
            lines,
            notes: Vec::new(),
        };
        let svg = draw(&chart);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (2, 4));
        assert!(svg.contains("a &amp; b") && svg.contains("x &lt; y") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        chart.drawing = Drawing::Bars;
        // Four bars, two squares of the legend, and the page.
        assert_eq!(draw(&chart).matches("<rect").count(), 4 + 2 + 1);
    }
}
