//! `load_many`: one call of the loader for what is missing, and the rules of single flight for each key.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::connector::memory::{Memory, MemoryOptions};
use larder::{Cache, Entry, LoadError, LoadOptions, Schema};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "row")]
struct Row {
    #[key(primary)]
    id: u32,
    #[key(index = "name")]
    names: Vec<String>,
    state: u64,
}

type Loaded = Result<Vec<Option<u64>>, LoadError<&'static str>>;

fn cache(options: LoadOptions) -> Cache<Row> {
    let schema = Schema::of::<Row>().loading(options);
    Cache::new(Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap()
}

/// Rows by id; every load is noted, and may be made to wait after it has read, or to fail.
#[derive(Clone, Default)]
struct Source {
    rows: Arc<Mutex<HashMap<u32, u64>>>,
    asked: Arc<Mutex<Vec<Vec<u32>>>>,
    gate: Option<Arc<Semaphore>>,
    fails: bool,
}

impl Source {
    fn of(ids: impl IntoIterator<Item = u32>) -> Self {
        let source = Self::default();
        source.rows.lock().extend(ids.into_iter().map(|id| (id, 1)));
        source
    }

    fn closed(&self) -> Self {
        Self { gate: Some(Arc::new(Semaphore::new(0))), ..self.clone() }
    }

    fn opens(&self) {
        self.gate.as_ref().unwrap().close();
    }

    fn writes(&self, id: u32, state: u64) {
        self.rows.lock().insert(id, state);
    }

    fn asked(&self) -> Vec<Vec<u32>> {
        self.asked.lock().clone()
    }

    async fn read(self, ids: Vec<u32>) -> Result<Vec<Row>, &'static str> {
        let row = |id: &u32| Some(Row { id: *id, names: vec![format!("n{id}")], state: *self.rows.lock().get(id)? });
        // In another order.
        let rows = ids.iter().rev().filter_map(row).collect();
        self.asked.lock().push(ids);
        if let Some(gate) = &self.gate {
            let _ = gate.acquire().await;
        }
        if self.fails { Err("the source is down") } else { Ok(rows) }
    }

    async fn load(&self, cache: &Cache<Row>, ids: &[u32]) -> Loaded {
        let source = self.clone();
        let loaded = cache.load_many(Row::ID, ids.iter().copied(), move |ids| source.clone().read(ids)).await;
        Ok(loaded?.into_iter().map(|row| row.map(|row| row.state)).collect())
    }

    fn caller(&self, cache: &Cache<Row>, ids: &[u32]) -> JoinHandle<Loaded> {
        let (source, cache, ids) = (self.clone(), cache.clone(), ids.to_vec());
        tokio::spawn(async move { source.load(&cache, &ids).await })
    }

    /// The same for one key.
    fn single(&self, cache: &Cache<Row>, id: u32) -> JoinHandle<Loaded> {
        let (source, cache) = (self.clone(), cache.clone());
        tokio::spawn(async move {
            let load = |id| async move { Ok(source.read(vec![id]).await?.pop()) };
            Ok(vec![cache.get_or_load(Row::ID, id, load).await?.map(|row| row.state)])
        })
    }

    async fn asked_for(&self, loads: usize) {
        while self.asked.lock().len() < loads {
            yield_now().await;
        }
    }
}

async fn joined(cache: &Cache<Row>, callers: u64) {
    while cache.stats().joined.get() < callers {
        yield_now().await;
    }
}

#[tokio::test]
async fn what_is_missing_is_loaded_by_one_call_and_matched_by_its_keys() {
    let cache = cache(LoadOptions::default());
    let source = Source::of([1, 2, 3, 5]);
    cache.set(Row { id: 2, names: vec![], state: 7 }).await;
    let loaded = source.load(&cache, &[1, 2, 4, 3, 1, 4]).await.unwrap();
    assert_eq!(loaded, [Some(1), Some(7), None, Some(1), Some(1), None]);
    assert_eq!(source.asked(), [[1, 4, 3]]);
    assert_eq!(cache.stats().loads.get(), 1);
    assert_eq!(source.load(&cache, &[3, 1, 2]).await.unwrap(), [Some(1), Some(1), Some(7)]);
    assert!(cache.get(Row::NAME, "n3").await.is_some(), "filled under all of its keys");
    assert_eq!(source.asked().len(), 1, "nothing was missing");
    assert_eq!(source.load(&cache, &[]).await.unwrap(), []);
    assert_eq!(source.load(&cache, &[4]).await.unwrap(), [None]);
    assert_eq!(source.asked()[1..], [[4]], "that there is none is not remembered");
}

#[tokio::test]
async fn a_loader_may_return_more_and_by_other_keys() {
    let cache = cache(LoadOptions::default());
    let loader = |names: Vec<String>| async move {
        assert_eq!(names, ["b", "a", "none"]);
        let row = |id, names: &[&str]| Row { id, names: names.iter().map(|name| (*name).into()).collect(), state: 1 };
        Ok::<_, ()>(vec![row(1, &["a", "b"]), row(2, &["unasked"])])
    };
    let loaded = cache.load_many(Row::NAME, ["b", "a", "none", "a"], loader).await.unwrap();
    let ids: Vec<_> = loaded.iter().map(|row| row.as_ref().map(|row| row.id)).collect();
    assert_eq!(ids, [Some(1), Some(1), None, Some(1)]);
    assert!(cache.get(Row::ID, 2).await.is_some());
}

#[tokio::test]
async fn keys_that_somebody_loads_are_joined() {
    let cache = cache(LoadOptions::default());
    let slow = Source::of([1, 2, 3]).closed();
    let (one, two) = (slow.single(&cache, 1), slow.caller(&cache, &[2]));
    slow.asked_for(2).await;
    let source = Source::of([1, 2, 3]);
    let many = source.caller(&cache, &[3, 2, 1]);
    joined(&cache, 2).await;
    source.asked_for(1).await;
    assert!(!many.is_finished());
    slow.opens();
    assert_eq!(many.await.unwrap().unwrap(), [Some(1); 3]);
    assert_eq!((one.await.unwrap().unwrap(), two.await.unwrap().unwrap()), (vec![Some(1)], vec![Some(1)]));
    assert_eq!(source.asked(), [[3]], "the others were loaded by those who had begun");
}

#[tokio::test]
async fn each_key_of_a_load_can_be_joined() {
    let cache = cache(LoadOptions::default());
    let slow = Source::of([1, 2]).closed();
    let many = slow.caller(&cache, &[1, 2, 4]);
    slow.asked_for(1).await;
    let source = Source::of([]);
    let singles = [1, 2].map(|id| source.single(&cache, id));
    let other = source.caller(&cache, &[2, 1]);
    joined(&cache, 4).await;
    slow.opens();
    assert_eq!(many.await.unwrap().unwrap(), [Some(1), Some(1), None]);
    for single in singles {
        assert_eq!(single.await.unwrap().unwrap(), [Some(1)]);
    }
    assert_eq!(other.await.unwrap().unwrap(), [Some(1), Some(1)]);
    assert!(source.asked().is_empty());
}

/// What was over before a caller asked he has to see, key by key.
#[tokio::test]
async fn a_load_that_missed_a_change_answers_nobody_who_came_after_it() {
    let cache = cache(LoadOptions::default());
    let slow = Source::of([1, 2, 3]).closed();
    let early = slow.caller(&cache, &[1, 2, 3]);
    slow.asked_for(1).await;
    slow.writes(2, 2);
    cache.invalidate(Row::ID, [2]).await.unwrap();
    let source = Source { gate: None, ..slow.clone() };
    let late = [source.caller(&cache, &[1, 2, 3]), source.caller(&cache, &[3, 2])];
    joined(&cache, 5).await;
    slow.opens();
    assert_eq!(early.await.unwrap().unwrap(), [Some(1), Some(1), Some(1)], "he was there before");
    let [first, second] = late;
    assert_eq!(first.await.unwrap().unwrap(), [Some(1), Some(2), Some(1)]);
    assert_eq!(second.await.unwrap().unwrap(), [Some(1), Some(2)]);
    let asked = source.asked();
    // The memory connector may keep one fence for two keys.
    assert!(asked.len() == 2 && asked[1].contains(&2), "one more load, for both: {asked:?}");
    assert_eq!(cache.get(Row::ID, 2).await.unwrap().state, 2);
}

#[tokio::test]
async fn an_error_is_shared_by_all_who_wait() {
    let cache = cache(LoadOptions::default());
    let failing = Source { fails: true, ..Source::of([1, 2]).closed() };
    let callers = [failing.caller(&cache, &[1, 2]), failing.caller(&cache, &[2, 3]), failing.single(&cache, 1)];
    joined(&cache, 2).await;
    failing.opens();
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(LoadError::Failed(error)) if *error == "the source is down"));
    }
    assert!(cache.stats().load_failures.get() <= 2, "of [1, 2], and of [3]");
    assert_eq!(Source::of([1, 2]).load(&cache, &[1, 2]).await.unwrap(), [Some(1), Some(1)], "nothing was kept of it");
}

#[tokio::test]
async fn a_caller_who_goes_away_cancels_nobody() {
    let cache = cache(LoadOptions::default());
    let slow = Source::of([1, 2]).closed();
    let gone = slow.caller(&cache, &[1, 2]);
    slow.asked_for(1).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let stays = slow.caller(&cache, &[1]);
    joined(&cache, 1).await;
    slow.opens();
    assert_eq!(stays.await.unwrap().unwrap(), [Some(1)]);
    assert_eq!(slow.asked().len(), 1);
    while cache.get(Row::ID, 2).await.is_none() {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_loader_that_waits_for_itself_is_told() {
    let cache = cache(LoadOptions::default());
    let own = cache.clone();
    let loader = move |ids: Vec<u32>| {
        let own = own.clone();
        async move {
            let inner = own.load_many(Row::ID, [ids[1]], |_| async { Ok::<_, String>(vec![]) }).await;
            inner.map(|_| vec![]).map_err(|error| format!("{error:?}"))
        }
    };
    let outer = cache.load_many(Row::ID, [1_u32, 2], loader).await;
    assert!(matches!(&outer, Err(LoadError::Failed(error)) if **error == "Circular"), "{outer:?}");
}

#[tokio::test]
async fn a_loader_that_panics_answers_everybody() {
    let cache = cache(LoadOptions::default());
    let panics = |_: Vec<u32>| async { if true { panic!("as it may") } else { Ok::<_, ()>(vec![]) } };
    assert!(matches!(cache.load_many(Row::ID, [1_u32, 2], panics).await, Err(LoadError::Aborted)));
    assert_eq!(Source::of([1]).load(&cache, &[1, 2]).await.unwrap(), [Some(1), None], "and is in nobody's way");
}

#[tokio::test]
async fn nothing_under_a_key_is_remembered_where_it_may_be() {
    let cache = cache(LoadOptions::new().negative_age(Duration::from_secs(600)));
    let source = Source::of([1]);
    let ids: Vec<u32> = (1..=200).collect();
    for _ in 0..2 {
        assert_eq!(source.load(&cache, &ids).await.unwrap().iter().flatten().count(), 1);
        assert_eq!(source.asked().len(), 1);
    }
    source.writes(2, 1);
    cache.invalidate(Row::ID, [2]).await.unwrap();
    assert_eq!(source.load(&cache, &[2, 3]).await.unwrap(), [Some(1), None]);
    assert_eq!(source.asked()[1..], [[2]]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_waits_no_longer_than_the_hard_time_out() {
    let limit = Duration::from_secs(2);
    let cache = cache(LoadOptions::new().hard_timeout(limit));
    let slow = Source::of([1]).closed();
    assert!(matches!(slow.load(&cache, &[1, 2]).await, Err(LoadError::TimedOut(time)) if time == limit));
    slow.opens();
    while cache.get(Row::ID, 1).await.is_none() {
        yield_now().await;
    }
}

#[test]
fn outside_a_runtime_nothing_is_loaded() {
    let cache = cache(LoadOptions::default());
    let mut load = std::pin::pin!(cache.load_many(Row::ID, [1], |_| async { Ok::<_, ()>(vec![]) }));
    let polled = load.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(matches!(polled, std::task::Poll::Ready(Err(LoadError::NoRuntime))), "{polled:?}");
}
