//! Contestants that take turns, and the rows that compare them.

use std::time::Instant;

/// What is measured together, in turns, so that a machine that is busy for a while is busy for all of them.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// What a contestant's figure counts.
    pub(crate) unit: &'static str,
    pub(crate) rows: Vec<Comparison>,
    /// Makes the contestants, and fills what they are to be asked for: only where one of the rows is wanted.
    pub(crate) contestants: fn() -> Result<Vec<Contestant>, String>,
}

/// One thing that is measured. Each call is one round and returns its figure.
pub(crate) struct Contestant {
    name: &'static str,
    round: Box<dyn FnMut() -> Result<f64, String>>,
}

impl Contestant {
    pub(crate) fn new(name: &'static str, round: impl FnMut() -> Result<f64, String> + 'static) -> Self {
        Self { name, round: Box::new(round) }
    }

    /// A contestant whose figure is nanoseconds per operation.
    pub(crate) fn timed<T>(
        name: &'static str,
        operations: u32,
        mut work: impl FnMut(u32) -> Result<T, String> + 'static,
    ) -> Self {
        Self::new(name, move || {
            let begun = Instant::now();
            std::hint::black_box(work(operations)?);
            Ok(begun.elapsed().as_nanos() as f64 / f64::from(operations))
        })
    }
}

/// A row to be: one contestant over another.
pub(crate) struct Comparison {
    pub(crate) name: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) bar: Bar,
}

/// What a ratio must come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// At most this.
    Most(f64),
    /// Less than this.
    Below(f64),
    /// At least this.
    Least(f64),
}

impl Bar {
    pub(crate) fn passed(self, ratio: f64) -> bool {
        match self {
            Self::Most(limit) => ratio <= limit,
            Self::Below(limit) => ratio < limit,
            Self::Least(limit) => ratio >= limit,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Most(limit) => write!(f, "≤ {limit:.2}"),
            Self::Below(limit) => write!(f, "< {limit:.2}"),
            Self::Least(limit) => write!(f, "≥ {limit:.2}"),
        }
    }
}

/// A comparison that was measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) our_figure: Spread,
    pub(crate) peer_figure: Spread,
    /// Of the ratios of the single rounds, not the ratio of the medians: what disturbs a round disturbs both of its figures.
    pub(crate) ratio: Spread,
    pub(crate) bar: Bar,
    pub(crate) rounds: usize,
}

impl Row {
    pub(crate) fn passed(&self) -> bool {
        self.bar.passed(self.ratio.median)
    }
}

/// The middle of some figures, and how far apart they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Spread {
    fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        let (count, middle) = (figures.len(), figures.len() / 2);
        let median =
            if count.is_multiple_of(2) { f64::midpoint(at(middle.wrapping_sub(1)), at(middle)) } else { at(middle) };
        Self { median, lowest: at(0), highest: at(count.wrapping_sub(1)) }
    }
}

impl Group {
    /// Measures everything `rounds` times, after one round that does not count.
    pub(crate) fn measure(&self, rounds: usize) -> Result<Vec<Row>, String> {
        let mut contestants = (self.contestants)()?;
        let mut figures: Vec<Vec<f64>> = vec![Vec::new(); contestants.len()];
        for round in 0..=rounds {
            for turn in 0..contestants.len() {
                // Another one begins each time: what the one before leaves behind is nobody's lot for good.
                let place = (turn + round) % contestants.len();
                let (Some(contestant), Some(list)) = (contestants.get_mut(place), figures.get_mut(place)) else {
                    continue;
                };
                let figure = (contestant.round)().map_err(|error| format!("{}: {error}", contestant.name))?;
                if round > 0 {
                    list.push(figure);
                }
            }
        }
        let of = |name: &str| {
            let place = contestants.iter().position(|contestant| contestant.name == name);
            place.and_then(|place| figures.get(place)).ok_or(format!("{}: nobody is called `{name}`", self.name))
        };
        let mut rows = Vec::new();
        for comparison in &self.rows {
            let Comparison { name, ours, peer, bar } = *comparison;
            let (ours_all, peer_all) = (of(ours)?, of(peer)?);
            rows.push(Row {
                name,
                ours,
                peer,
                unit: self.unit,
                our_figure: Spread::of(ours_all.iter().copied()),
                peer_figure: Spread::of(peer_all.iter().copied()),
                ratio: Spread::of(ours_all.iter().zip(peer_all).map(|(ours, peer)| ours / peer)),
                bar,
                rounds,
            });
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
            Contestant::new(name, move || list.next().ok_or_else(|| "called too often".to_owned()))
        }
        // Both are slow in their third round; the first one would spoil everything.
        let group = Group {
            name: "test",
            unit: "ns",
            contestants: || {
                Ok(vec![figures("ours", [1000.0, 10.0, 80.0, 12.0]), figures("peer", [1.0, 20.0, 100.0, 20.0])])
            },
            rows: vec![Comparison { name: "row", ours: "ours", peer: "peer", bar: Bar::Most(0.6) }],
        };
        let rows = group.measure(3).unwrap();
        assert_eq!(rows[0].ratio, Spread { median: 0.6, lowest: 0.5, highest: 0.8 });
        assert!(rows[0].passed());
    }

    #[test]
    fn bars_have_two_sides() {
        assert!(Bar::Most(1.3).passed(1.3) && !Bar::Most(1.3).passed(1.31));
        assert!(Bar::Below(1.0).passed(0.99) && !Bar::Below(1.0).passed(1.0));
        assert!(Bar::Least(1.8).passed(1.8) && !Bar::Least(1.8).passed(1.79));
        assert!(!Bar::Most(1.3).passed(f64::NAN), "what was not measured passes nothing");
    }
}
