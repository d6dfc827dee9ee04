//! Contestants that take turns, and the rows that compare them.

use std::time::Instant;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effort {
    /// The number of rounds. In each, every contestant has one turn.
    pub(crate) rounds: usize,
    /// Whether turns are shorter and sizes smaller: the same rows, with more noise.
    pub(crate) quick: bool,
}

impl Effort {
    /// Chooses between the value for a whole run and the value for a quick run.
    pub(crate) fn of<T>(self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}

/// Makes contestants, and fills their caches.
pub(crate) type Make = Box<dyn FnOnce(Effort) -> Result<Vec<Contestant>, String>>;

/// Contestants that are measured together. They take turns, so that a disturbance of the machine affects all of them.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) rows: Vec<Comparison>,
    /// Called only if one of the rows is wanted.
    pub(crate) contestants: Make,
    /// Whether figures differ from round to round. Counts, such as bytes, need only one round.
    pub(crate) varies: bool,
}

/// An operation that is measured. Each call of `round` measures it once, and returns its figures in the order of their names.
pub(crate) struct Contestant {
    figures: Vec<(String, &'static str)>,
    round: Box<dyn FnMut() -> Result<Vec<f64>, String>>,
}

impl Contestant {
    /// A contestant with one figure, which has the contestant's name.
    pub(crate) fn new(
        name: impl Into<String>,
        unit: &'static str,
        mut round: impl FnMut() -> Result<f64, String> + 'static,
    ) -> Self {
        Self { figures: vec![(name.into(), unit)], round: Box::new(move || Ok(vec![round()?])) }
    }

    /// A contestant whose rounds give several figures, each with a name and a unit.
    pub(crate) fn of_several(
        figures: impl IntoIterator<Item = (String, &'static str)>,
        round: impl FnMut() -> Result<Vec<f64>, String> + 'static,
    ) -> Self {
        Self { figures: figures.into_iter().collect(), round: Box::new(round) }
    }

    /// A contestant whose figure is nanoseconds per operation.
    pub(crate) fn timed<T>(
        name: impl Into<String>,
        operations: u32,
        mut work: impl FnMut(u32) -> Result<T, String> + 'static,
    ) -> Self {
        Self::new(name, "ns", move || {
            let begun = Instant::now();
            std::hint::black_box(work(operations)?);
            Ok(begun.elapsed().as_nanos() as f64 / f64::from(operations))
        })
    }
}

/// A row that is to be measured: one figure divided by another.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) name: String,
    ours: String,
    /// `None` if the figure is compared with nothing.
    peer: Option<String>,
    pub(crate) bar: Bar,
}

impl Comparison {
    pub(crate) fn new(name: impl Into<String>, ours: impl Into<String>, peer: impl Into<String>, bar: Bar) -> Self {
        Self { name: name.into(), ours: ours.into(), peer: Some(peer.into()), bar }
    }

    /// A figure that is compared with nothing.
    pub(crate) fn alone(name: impl Into<String>, figure: impl Into<String>) -> Self {
        Self { name: name.into(), ours: figure.into(), peer: None, bar: Bar::Open }
    }
}

/// The limit of a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// At most this.
    Most(f64),
    /// Less than this.
    Below(f64),
    /// At least this.
    Least(f64),
    /// No limit: the ratio is shown, but not judged.
    Open,
}

impl Bar {
    pub(crate) fn passed(self, ratio: f64) -> Option<bool> {
        match self {
            Self::Most(limit) => Some(ratio <= limit),
            Self::Below(limit) => Some(ratio < limit),
            Self::Least(limit) => Some(ratio >= limit),
            Self::Open => None,
        }
    }

    pub(crate) fn limit(self) -> Option<f64> {
        match self {
            Self::Most(limit) | Self::Below(limit) | Self::Least(limit) => Some(limit),
            Self::Open => None,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Most(limit) => write!(f, "≤ {limit:.2}"),
            Self::Below(limit) => write!(f, "< {limit:.2}"),
            Self::Least(limit) => write!(f, "≥ {limit:.2}"),
            Self::Open => f.write_str("–"),
        }
    }
}

/// A comparison that was measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) bar: Bar,
    /// The figures, or why there are none yet.
    pub(crate) measured: Result<Measured, &'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) ours: String,
    pub(crate) unit: &'static str,
    pub(crate) our_figure: Spread,
    /// `None` if the figure is compared with nothing.
    pub(crate) against: Option<Against>,
    pub(crate) rounds: usize,
}

/// The limit or peer of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Against {
    pub(crate) peer: String,
    pub(crate) figure: Spread,
    /// The spread of the rounds' ratios, not the ratio of the medians: a disturbance of a round affects both of its figures.
    pub(crate) ratio: Spread,
}

impl Row {
    /// Whether the row passes its bar. `None` if there is no bar, or nothing was measured.
    pub(crate) fn passed(&self) -> Option<bool> {
        self.bar.passed(self.ratio().map_or(f64::NAN, |ratio| ratio.median)).filter(|_| self.measured.is_ok())
    }

    pub(crate) fn ratio(&self) -> Option<Spread> {
        Some(self.measured.as_ref().ok()?.against.as_ref()?.ratio)
    }
}

/// The median of some figures, and their range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Spread {
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        let (count, middle) = (figures.len(), figures.len() / 2);
        let median =
            if count.is_multiple_of(2) { f64::midpoint(at(middle.wrapping_sub(1)), at(middle)) } else { at(middle) };
        Self { median, lowest: at(0), highest: at(count.wrapping_sub(1)) }
    }
}

/// Each figure: its name, its unit, and its values in the rounds.
pub(crate) type Figures = Vec<(String, &'static str, Vec<f64>)>;

/// Measures all contestants in rounds. If figures vary, a first round does not count.
pub(crate) fn take_turns(
    name: &str,
    mut contestants: Vec<Contestant>,
    effort: Effort,
    varies: bool,
) -> Result<Figures, String> {
    let (warm, rounds) = if varies { (1, effort.rounds) } else { (0, 1) };
    let mut figures: Vec<Vec<Vec<f64>>> =
        contestants.iter().map(|contestant| vec![Vec::new(); contestant.figures.len()]).collect();
    for round in 0..warm + rounds {
        for turn in 0..contestants.len() {
            // Each round begins with another contestant, so that none always runs after the same one.
            let place = (turn + round) % contestants.len();
            let (Some(contestant), Some(lists)) = (contestants.get_mut(place), figures.get_mut(place)) else {
                continue;
            };
            let figure = contestant.figures.first().map_or("", |(name, _)| name);
            let values = (contestant.round)().map_err(|error| format!("{name}, {figure}: {error}"))?;
            if round >= warm {
                lists.iter_mut().zip(values).for_each(|(list, value)| list.push(value));
            }
        }
    }
    let named = contestants.into_iter().zip(figures).flat_map(|(contestant, lists)| {
        contestant.figures.into_iter().zip(lists).map(|((name, unit), list)| (name, unit, list))
    });
    Ok(named.collect())
}

impl Group {
    pub(crate) fn measure(self, effort: Effort) -> Result<Vec<Row>, String> {
        let figures = take_turns(&self.name, (self.contestants)(effort)?, effort, self.varies)?;
        let of = |wanted: &str| {
            let found = figures.iter().find(|(name, ..)| name == wanted);
            found.ok_or_else(|| format!("{}: nothing is called `{wanted}`", self.name))
        };
        let mut rows = Vec::new();
        for Comparison { name, ours, peer, bar } in self.rows {
            let (_, unit, our_list) = of(&ours)?;
            let against = match peer {
                None => None,
                Some(peer) => {
                    let (.., list) = of(&peer)?;
                    let ratio = Spread::of(our_list.iter().zip(list).map(|(ours, peer)| ours / peer));
                    Some(Against { peer, figure: Spread::of(list.iter().copied()), ratio })
                }
            };
            let our_figure = Spread::of(our_list.iter().copied());
            let measured = Measured { ours, unit, our_figure, against, rounds: our_list.len() };
            rows.push(Row { name, bar, measured: Ok(measured) });
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_spread_the_whole() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0, 9.0, 2.5]), Spread { median: 2.5, lowest: 1.0, highest: 9.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn contestants_are_compared_round_by_round_and_the_first_does_not_count() {
        fn figures(name: &'static str, figures: [f64; 4]) -> Contestant {
            let mut list = figures.into_iter();
            Contestant::new(name, "ns", move || list.next().ok_or_else(|| "called too often".to_owned()))
        }
        // Both are slow in their third round. The first round, if it counted, would change the result.
        let group = Group {
            name: "test".into(),
            contestants: Box::new(|_| {
                Ok(vec![figures("ours", [1000.0, 10.0, 80.0, 12.0]), figures("peer", [1.0, 20.0, 100.0, 20.0])])
            }),
            rows: vec![Comparison::new("row", "ours", "peer", Bar::Most(0.6))],
            varies: true,
        };
        let rows = group.measure(Effort { rounds: 3, quick: false }).unwrap();
        assert_eq!(rows[0].ratio().unwrap(), Spread { median: 0.6, lowest: 0.5, highest: 0.8 });
        assert_eq!(rows[0].passed(), Some(true));
    }

    #[test]
    fn a_round_has_several_figures_and_what_is_counted_is_counted_once() {
        let mut rounds = 0.0;
        let contestant = Contestant::of_several([("a".to_owned(), "bytes"), ("b".to_owned(), "bytes")], move || {
            rounds += 1.0;
            Ok(vec![rounds, 4.0])
        });
        let group = Group {
            name: "test".into(),
            contestants: Box::new(|_| Ok(vec![contestant])),
            rows: vec![Comparison::new("row", "a", "b", Bar::Open)],
            varies: false,
        };
        let rows = group.measure(Effort { rounds: 5, quick: false }).unwrap();
        assert_eq!(rows[0].ratio().map(|ratio| ratio.median), Some(0.25));
        assert_eq!(rows[0].measured.as_ref().map(|measured| measured.rounds), Ok(1));
        assert_eq!(rows[0].passed(), None);
    }

    #[test]
    fn bars_have_two_sides() {
        let passed = |bar: Bar, ratio| bar.passed(ratio).unwrap();
        assert!(passed(Bar::Most(1.3), 1.3) && !passed(Bar::Most(1.3), 1.31));
        assert!(passed(Bar::Below(1.0), 0.99) && !passed(Bar::Below(1.0), 1.0));
        assert!(passed(Bar::Least(1.8), 1.8) && !passed(Bar::Least(1.8), 1.79));
        assert!(!passed(Bar::Most(1.3), f64::NAN), "what was not measured passes nothing");
        assert_eq!(Bar::Open.passed(1.0), None);
    }
}
