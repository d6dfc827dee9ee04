//! Loading on a miss. Every caller gets an answer. No caller gets the result of a load that missed a change from before the call. The
//! result of a load that missed a change is never stored.
//!
//! The cases force the order of events: a loader reports that it has begun and waits at a gate, and the counters show when a caller has
//! joined a load.

use super::trial::{Node, Nodes, Trial};
use super::{Subject, table};
use crate::entries::Site;
use larder::{Cache, Index, LoadError, MAX_KEY_LEN};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle, yield_now};

table! {
    Loading {
        what_is_cached_is_not_loaded,
        what_was_loaded_is_cached,
        a_hundred_callers_share_one_load,
        keys_are_loaded_side_by_side,
        a_load_is_not_lost_with_its_caller,
        the_callers_of_a_lost_caller_are_answered,
        an_error_is_shared_and_not_remembered,
        errors_of_different_types_do_not_mix,
        a_panic_is_told_and_not_remembered,
        nothing_found_is_not_remembered,
        a_load_that_was_overtaken_is_not_cached,
        a_load_that_was_overtaken_through_another_key_is_not_cached,
        who_comes_after_a_change_is_not_answered_by_a_load_from_before,
        a_fill_proves_nothing_of_a_key_that_its_object_does_not_list,
        who_comes_late_without_a_change_is_answered,
        constant_change_starves_nobody,
        a_key_that_cannot_exist_is_loaded_all_the_same,
        what_does_not_fit_is_loaded_all_the_same,
    }
}

type Loaded<Err> = Result<Option<Arc<Site>>, LoadError<Err>>;

fn acme() -> Site {
    Site::new("1", &["a.example", "b.example"], "Acme")
}

fn renamed(name: impl ToString) -> Site {
    Site { name: name.to_string(), ..acme() }
}

/// The source of the loads: one row, and a gate. A load reads the row first, and then waits until the gate is open.
#[derive(Clone)]
struct Source(Arc<Inner>);

struct Inner {
    row: Mutex<Option<Site>>,
    gate: Semaphore,
    begun: AtomicU64,
}

impl Source {
    /// A source whose loads wait.
    fn closed(row: Site) -> Self {
        Self(Arc::new(Inner { row: Mutex::new(Some(row)), gate: Semaphore::new(0), begun: AtomicU64::new(0) }))
    }

    /// A source whose loads do not wait.
    fn open(row: Site) -> Self {
        let source = Self::closed(row);
        source.opens();
        source
    }

    fn opens(&self) {
        self.0.gate.close();
    }

    /// Lets this many loads through the gate.
    fn lets(&self, loads: usize) {
        self.0.gate.add_permits(loads);
    }

    fn writes(&self, row: impl Into<Option<Site>>) {
        *self.0.row.lock().unwrap_or_else(PoisonError::into_inner) = row.into();
    }

    fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::SeqCst)
    }

    /// Reads the row, counts the load as begun, and waits at the gate.
    async fn read(self) -> Option<Site> {
        let row = self.0.row.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        if let Ok(permit) = self.0.gate.acquire().await {
            permit.forget();
        }
        row
    }

    async fn has_begun(&self, loads: u64) {
        until(|| self.begun() >= loads).await;
    }

    /// A caller in a task of its own.
    fn caller(&self, node: &Node<Site>, index: Index<Site, String>, key: &'static str) -> JoinHandle<Loaded<String>> {
        let (cache, source) = (node.cache.clone(), self.clone());
        node.history.step(format!("{}: get_or_load {index:?} {key:?} begins", node.name));
        tokio::spawn(async move { cache.get_or_load(index, key, |_| async { Ok(source.read().await) }).await })
    }

    /// Runs a caller until it has its answer.
    async fn loads(&self, node: &Node<Site>, index: Index<Site, String>, key: &'static str) -> Loaded<String> {
        let answer = self.caller(node, index, key).await;
        answers(node, answer)
    }
}

/// Yields until the condition holds. If it never holds, the time limit of the case ends the wait.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        yield_now().await;
    }
}

/// Waits until this many callers have joined a load that another caller began.
async fn joined(cache: &Cache<Site>, callers: u64) {
    until(|| cache.stats().joined.get() >= callers).await;
}

fn answers<T: std::fmt::Debug>(node: &Node<Site>, answer: Result<T, JoinError>) -> T {
    node.history.step(format!("{}: get_or_load ends -> {answer:?}", node.name));
    answer.unwrap_or_else(|error| node.history.fail(format!("a caller must not panic: {error}")))
}

/// Checks the answer that a caller got.
fn is<Err: std::fmt::Debug>(node: &Node<Site>, answer: &Loaded<Err>, expected: Option<&Site>) {
    let right = matches!(answer, Ok(found) if found.as_deref() == expected);
    node.history.require(right, format!("expected {expected:?}, not {answer:?}"));
}

async fn what_is_cached_is_not_loaded<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let source = Source::open(renamed("what the source has"));
    nodes.far.stores(&acme()).await;
    for (index, key) in [(Site::ID, "1"), (Site::HOST, "a.example"), (Site::HOST, "b.example")] {
        is(&nodes.near, &source.loads(&nodes.near, index, key).await, Some(&acme()));
    }
    trial.history.require(source.begun() == 0, "nothing had to be loaded");
}

async fn what_was_loaded_is_cached<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (round, (index, key)) in
        [(Site::ID, "1"), (Site::HOST, "a.example"), (Site::HOST, "b.example")].into_iter().enumerate()
    {
        let site = renamed(round);
        let source = Source::open(site.clone());
        is(&nodes.near, &source.loads(&nodes.near, index, key).await, Some(&site));
        nodes.serve(&site).await;
        is(&nodes.far, &source.loads(&nodes.far, index, key).await, Some(&site));
        trial.history.require(source.begun() == 1, "the second get must find what the first has loaded");
        nodes.far.invalidates(Site::HOST, ["a.example"]).await;
    }
}

async fn a_hundred_callers_share_one_load<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let source = Source::closed(acme());
    let callers: Vec<_> = (0..100).map(|_| source.caller(&nodes.near, Site::HOST, "a.example")).collect();
    joined(&nodes.near.cache, 99).await;
    trial.history.step("100 callers wait");
    source.opens();
    for caller in callers {
        is(&nodes.near, &answers(&nodes.near, caller.await), Some(&acme()));
    }
    trial.history.require(source.begun() == 1, format!("one load for all, not {}", source.begun()));
    nodes.serve(&acme()).await;
}

/// The load of one key does not wait for the load of another, even if both keys belong to one object.
async fn keys_are_loaded_side_by_side<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let slow = Source::closed(acme());
    let keys = [(Site::HOST, "a.example"), (Site::HOST, "b.example"), (Site::ID, "1"), (Site::ID, "a.example")];
    let callers = keys.map(|(index, key)| slow.caller(&nodes.near, index, key));
    slow.has_begun(4).await;
    let bolt = Site::new("2", &["c.example"], "Bolt");
    is(&nodes.near, &Source::open(bolt.clone()).loads(&nodes.near, Site::ID, "2").await, Some(&bolt));
    slow.opens();
    for caller in callers {
        is(&nodes.near, &answers(&nodes.near, caller.await), Some(&acme()));
    }
    nodes.serve(&acme()).await;
    nodes.serve(&bolt).await;
}

async fn a_load_is_not_lost_with_its_caller<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let source = Source::closed(acme());
    let caller = source.caller(&nodes.near, Site::HOST, "a.example");
    source.has_begun(1).await;
    caller.abort();
    trial.history.step("near: the caller goes away");
    let gone = caller.await;
    trial.history.require(gone.is_err_and(|error| error.is_cancelled()), "the caller had to wait for the load");
    source.opens();
    while nodes.near.cache.get(Site::HOST, "b.example").await.is_none() {
        yield_now().await;
    }
    nodes.serve(&acme()).await;
    trial.history.require(source.begun() == 1, "the load that had begun is enough");
}

async fn the_callers_of_a_lost_caller_are_answered<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let source = Source::closed(acme());
    let first = source.caller(&nodes.near, Site::HOST, "a.example");
    source.has_begun(1).await;
    let others: Vec<_> = (0..9).map(|_| source.caller(&nodes.near, Site::HOST, "a.example")).collect();
    joined(&nodes.near.cache, 9).await;
    first.abort();
    for (place, other) in others.iter().enumerate() {
        if place % 3 == 0 {
            other.abort();
        }
    }
    trial.history.step("near: four of ten callers go away");
    source.opens();
    for (place, other) in others.into_iter().enumerate() {
        let answer = other.await;
        if place % 3 != 0 {
            is(&nodes.near, &answers(&nodes.near, answer), Some(&acme()));
        }
    }
    trial.history.require(source.begun() == 1, "the load that had begun is enough");
    nodes.serve(&acme()).await;
}

async fn an_error_is_shared_and_not_remembered<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let source = Source::closed(acme());
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let (cache, source) = (nodes.near.cache.clone(), source.clone());
            let loader = |_| async {
                source.read().await;
                Err("the source is down".to_owned())
            };
            tokio::spawn(async move { cache.get_or_load(Site::ID, "1", loader).await })
        })
        .collect();
    joined(&nodes.near.cache, 9).await;
    source.opens();
    let mut shared = None;
    for caller in callers {
        let answer = answers(&nodes.near, caller.await);
        let Err(LoadError::Failed(error)) = answer else { trial.history.fail("expected the loader's error") };
        let same = shared.get_or_insert_with(|| error.clone());
        trial.history.require(std::ptr::eq(&**same, &*error), "all who waited share one error");
    }
    trial.history.require(source.begun() == 1, "one load for all");
    nodes.lack(&acme()).await;
    is(&nodes.near, &source.loads(&nodes.near, Site::ID, "1").await, Some(&acme()));
    nodes.serve(&acme()).await;
}

async fn errors_of_different_types_do_not_mix<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let source = Source::closed(acme());
    let fails = |source: Source| async move {
        source.read().await;
        Err::<Option<Site>, _>(std::fmt::Error)
    };
    let texts = source.caller(&nodes.near, Site::ID, "1");
    let (cache, loader) = (nodes.near.cache.clone(), fails(source.clone()));
    let others = tokio::spawn(async move { cache.get_or_load(Site::ID, "1", |_| loader).await });
    source.has_begun(2).await;
    source.opens();
    let answer = answers(&nodes.near, others.await);
    let own = matches!(&answer, Err(LoadError::Failed(error)) if **error == std::fmt::Error);
    trial.history.require(own || matches!(answer, Ok(Some(_))), "the error of its own loader");
    is(&nodes.near, &answers(&nodes.near, texts.await), Some(&acme()));
}

async fn a_panic_is_told_and_not_remembered<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let source = Source::closed(acme());
    let callers: Vec<_> = (0..5)
        .map(|_| {
            let (cache, source) = (nodes.near.cache.clone(), source.clone());
            let loader = |_| async {
                source.read().await;
                // `resume_unwind` does not call the panic hook, so that the output of the test shows no panic.
                std::panic::resume_unwind(Box::new("this loader panics"))
            };
            tokio::spawn(async move { cache.get_or_load::<_, _, _, _, String, _>(Site::ID, "1", loader).await })
        })
        .collect();
    joined(&nodes.near.cache, 4).await;
    // A caller that joined late may run the loader itself, which panics, too.
    source.opens();
    for caller in callers {
        let answer = answers(&nodes.near, caller.await);
        trial.history.require(matches!(answer, Err(LoadError::Aborted)), "expected to be told that the load has ended");
    }
    is(&nodes.near, &source.loads(&nodes.near, Site::ID, "1").await, Some(&acme()));
    nodes.serve(&acme()).await;
}

async fn nothing_found_is_not_remembered<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let source = Source::open(acme());
    source.writes(None);
    for round in 1..4 {
        is(&nodes.near, &source.loads(&nodes.near, Site::HOST, "a.example").await, None);
        trial.history.require(source.begun() == round, "that there was nothing must not be remembered");
    }
    source.writes(acme());
    is(&nodes.near, &source.loads(&nodes.near, Site::HOST, "a.example").await, Some(&acme()));
    nodes.serve(&acme()).await;
}

/// Makes a change while a load waits at the gate, and lets the load return the state from before the change.
async fn overtaken<S: Subject>(
    trial: &Trial<'_, S>,
    nodes: &Nodes<Site>,
    index: Index<Site, String>,
    key: &'static str,
    change: impl Future<Output = ()>,
) {
    let old = renamed("old");
    let source = Source::closed(old.clone());
    let caller = source.caller(&nodes.near, index, key);
    source.has_begun(1).await;
    source.writes(renamed("new"));
    change.await;
    source.opens();
    is(&nodes.near, &answers(&nodes.near, caller.await), Some(&old));
    trial.history.require(source.begun() == 1, "who was there when the load began is answered by it");
    nodes.never_serve(&old).await;
    for node in [&nodes.near, &nodes.far] {
        is(node, &source.loads(node, index, key).await, Some(&renamed("new")));
    }
    nodes.serve(&renamed("new")).await;
    nodes.near.invalidates(Site::ID, ["1", "2"]).await;
}

async fn a_load_that_was_overtaken_is_not_cached<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for node in [&nodes.near, &nodes.far] {
        overtaken(&trial, &nodes, Site::HOST, "a.example", node.invalidates(Site::HOST, ["a.example"])).await;
        overtaken(&trial, &nodes, Site::HOST, "a.example", node.truncates()).await;
        overtaken(&trial, &nodes, Site::HOST, "a.example", node.stores(&renamed("new"))).await;
    }
}

/// The load is for one key. The change is by another key of the same object, and nothing is stored that links the two.
async fn a_load_that_was_overtaken_through_another_key_is_not_cached<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for node in [&nodes.near, &nodes.far] {
        overtaken(&trial, &nodes, Site::HOST, "a.example", node.invalidates(Site::HOST, ["b.example"])).await;
        overtaken(&trial, &nodes, Site::HOST, "a.example", node.invalidates(Site::ID, ["1"])).await;
        overtaken(&trial, &nodes, Site::ID, "1", node.invalidates(Site::HOST, ["b.example"])).await;
    }
}

async fn who_comes_after_a_change_is_not_answered_by_a_load_from_before<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for change in 0..8 {
        let node = if change % 2 == 0 { &nodes.near } else { &nodes.far };
        let (old, new) = (renamed(format!("{change}, old")), renamed(format!("{change}, new")));
        let source = Source::closed(old.clone());
        let callers_before = nodes.near.cache.stats().joined.get();
        let first = source.caller(&nodes.near, Site::HOST, "a.example");
        source.has_begun(1).await;
        source.writes(new.clone());
        match change / 2 {
            0 => node.invalidates(Site::HOST, ["a.example"]).await,
            1 => node.invalidates(Site::ID, ["1"]).await,
            2 => node.truncates().await,
            _ => node.deletes(Site::HOST, ["a.example"]).await,
        }
        // The second caller asks after the change was applied.
        let second = source.caller(&nodes.near, Site::HOST, "a.example");
        until(|| nodes.near.cache.stats().joined.get() > callers_before || source.begun() > 1).await;
        source.opens();
        is(&nodes.near, &answers(&nodes.near, first.await), Some(&old));
        is(&nodes.near, &answers(&nodes.near, second.await), Some(&new));
        nodes.never_serve(&old).await;
        nodes.near.invalidates(Site::ID, ["1"]).await;
    }
}

/// The source finds the object by an alias that the object does not list. So the fence of the alias does not refuse the fill.
async fn a_fill_proves_nothing_of_a_key_that_its_object_does_not_list<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for node in [&nodes.near, &nodes.far] {
        let source = Source::closed(renamed("old"));
        let callers_before = nodes.near.cache.stats().joined.get();
        let first = source.caller(&nodes.near, Site::HOST, "alias.example");
        source.has_begun(1).await;
        source.writes(renamed("new"));
        node.invalidates(Site::HOST, ["alias.example"]).await;
        let second = source.caller(&nodes.near, Site::HOST, "alias.example");
        until(|| nodes.near.cache.stats().joined.get() > callers_before || source.begun() > 1).await;
        source.opens();
        is(&nodes.near, &answers(&nodes.near, first.await), Some(&renamed("old")));
        is(&nodes.near, &answers(&nodes.near, second.await), Some(&renamed("new")));
        nodes.near.invalidates(Site::ID, ["1"]).await;
    }
}

async fn who_comes_late_without_a_change_is_answered<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    // A connector may share one fence among several keys, so an unrelated change may look like a change of this object. That must not
    // happen with three other objects in a row.
    for (attempt, other) in ["2", "3", "4"].into_iter().enumerate() {
        let source = Source::closed(acme());
        let joined_before = nodes.near.cache.stats().joined.get();
        let first = source.caller(&nodes.near, Site::HOST, "a.example");
        source.has_begun(1).await;
        nodes.far.stores(&Site::new(other, &[&format!("{other}.example")], "something else")).await;
        let second = source.caller(&nodes.near, Site::HOST, "a.example");
        joined(&nodes.near.cache, joined_before + 1).await;
        source.opens();
        is(&nodes.near, &answers(&nodes.near, first.await), Some(&acme()));
        is(&nodes.near, &answers(&nodes.near, second.await), Some(&acme()));
        if source.begun() == 1 {
            return;
        }
        trial.history.require(attempt < 2, "nothing had changed, so one load is enough");
        nodes.near.invalidates(Site::ID, ["1"]).await;
    }
}

/// Even if every load is overtaken, each caller is answered after a few loads at most.
async fn constant_change_starves_nobody<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let source = Source::closed(renamed(0));
    let first = source.caller(&nodes.near, Site::HOST, "a.example");
    source.has_begun(1).await;
    let second = source.caller(&nodes.near, Site::HOST, "a.example");
    joined(&nodes.near.cache, 1).await;
    let mut round = 0;
    while !(first.is_finished() && second.is_finished()) {
        round += 1;
        source.writes(renamed(round));
        nodes.far.invalidates(Site::HOST, ["a.example"]).await;
        source.lets(1);
        yield_now().await;
        trial.history.require(source.begun() <= 8, "each of two callers needs three loads at most");
    }
    for caller in [first, second] {
        let answer = answers(&nodes.near, caller.await);
        trial.history.require(matches!(answer, Ok(Some(_))), "expected the object");
    }
}

async fn a_key_that_cannot_exist_is_loaded_all_the_same<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    for key in [String::new(), "k".repeat(MAX_KEY_LEN + 1)] {
        let source = Source::open(acme());
        for round in 1..3 {
            let (key, source) = (key.as_str(), source.clone());
            let begun = source.clone();
            let loader =
                |asked: String| async move { Ok::<_, String>(source.read().await.filter(|_| asked.len() != 1)) };
            let found = nodes.near.cache.get_or_load(Site::HOST, key, loader).await;
            trial.history.step(format!("near: get_or_load of a key of {} bytes -> {found:?}", key.len()));
            is(&nodes.near, &found, Some(&acme()));
            trial.history.require(begun.begun() == round, "it cannot come from the cache");
        }
    }
}

async fn what_does_not_fit_is_loaded_all_the_same<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let misfit = Site::new("1", &["a.example", ""], "has an empty host");
    let source = Source::open(misfit.clone());
    for _ in 0..2 {
        is(&nodes.near, &source.loads(&nodes.near, Site::HOST, "a.example").await, Some(&misfit));
        nodes.lack_key(Site::ID, "1").await;
        nodes.lack_key(Site::HOST, "a.example").await;
    }
}
