//! Checks a model exhaustively, and shows a counterexample in words.

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A model whose steps can be described in words.
pub(crate) trait Told: Model {
    /// Describes a step.
    fn step_in_words(&self, before: &Self::State, step: &Self::Action, after: &Self::State) -> String;
    /// Describes the last state.
    fn end_in_words(&self, state: &Self::State) -> String;
}

/// The result of a check.
#[derive(Clone, Debug)]
pub struct Report {
    /// The number of different states. States that differ only in names count once.
    pub states: usize,
    /// The most steps that were needed to reach a new state.
    pub depth: usize,
    /// How long the check took.
    pub time: Duration,
    /// A promise that is broken, and how.
    pub violation: Option<Violation>,
    /// The `sometimes` properties of the model that were reached.
    pub reached: BTreeSet<&'static str>,
}

/// A way to a state in which a promise is broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The broken promise.
    pub promise: &'static str,
    /// The steps that lead to the state.
    pub steps: Vec<String>,
    /// The state in which the promise is broken.
    pub end: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken: {}", self.promise)?;
        for (at, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {:2}. {step}", at + 1)?;
        }
        write!(f, "  then: {}", self.end)
    }
}

type Found<M> = HashMap<&'static str, Path<<M as Model>::State, <M as Model>::Action>>;

/// Explores all states, or stops when a promise is broken.
pub(crate) fn check<M>(model: M, threads: usize) -> Report
where
    M: Told + Clone + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Clone + PartialEq,
{
    let begun = Instant::now();
    let checker = explore(model.clone(), threads, None);
    let found = checker.discoveries();
    let violation = broken(&model, &found);
    let reached = found.keys().copied().filter(|name| is(&model, name, &Expectation::Sometimes)).collect();
    Report {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        time: begun.elapsed(),
        violation,
        reached,
    }
}

/// The shortest way to break a promise, if there is one.
pub(crate) fn shortest<M>(model: &M) -> Option<Violation>
where
    M: Told + Clone + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Clone + PartialEq,
{
    let mut best: Option<Violation> = None;
    loop {
        // The checker looks at states in batches, and keeps the last violation of a batch. So look again with a smaller depth.
        let limit = best.as_ref().map(|best| best.steps.len() + 1);
        let checker = explore(model.clone(), 1, limit);
        match broken(model, &checker.discoveries()) {
            Some(shorter) => best = Some(shorter),
            None => return best,
        }
    }
}

fn explore<M>(model: M, threads: usize, depth: Option<usize>) -> impl Checker<M>
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Clone + PartialEq,
{
    let builder = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    let builder = match depth {
        Some(depth) => builder.target_max_depth(depth),
        None => builder,
    };
    builder.spawn_bfs().join()
}

fn is<M: Model>(model: &M, name: &str, expectation: &Expectation) -> bool {
    model.properties().iter().any(|property| property.name == name && property.expectation == *expectation)
}

fn broken<M>(model: &M, found: &Found<M>) -> Option<Violation>
where
    M: Told,
    M::State: Clone + PartialEq,
    M::Action: Clone + PartialEq,
{
    let broken = found.iter().filter(|(name, _)| is(model, name, &Expectation::Always));
    let (promise, path) = broken.min_by_key(|(name, path)| ((*path).clone().into_actions().len(), **name))?;
    let path = path.clone().into_vec();
    let steps = path.windows(2).filter_map(|pair| match pair {
        [(before, Some(step)), (after, _)] => Some(model.step_in_words(before, step, after)),
        _ => None,
    });
    let end = path.last().map(|(state, _)| model.end_in_words(state)).unwrap_or_default();
    Some(Violation { promise, steps: steps.collect(), end })
}
