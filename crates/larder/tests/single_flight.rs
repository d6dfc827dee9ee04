//! Single flight in every order of its steps: callers, loads, a writer, callers that go away.
//!
//! Whoever takes part stops at a gate where somebody else may come in between: before he begins, when his lookup, his load or his fill
//! has been answered, before he invalidates what he has written. When all have stopped, one is let through, and a run is the list of
//! who that was. All lists are tried where that takes seconds, and many at random where it would not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use larder::connector::memory::{Memory, MemoryOptions};
use larder::contract::{Answer, Connector, Fill, KeyBuf, KeyRef, Lookup, Object, Pruned, Status, Value};
use larder::{Cache, Delivery, Entry, Error, Miss, Schema, Stored, Ticket};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "row")]
struct Row {
    #[key(primary)]
    id: u32,
    version: u64,
}

/// Where all stop, in the order in which they came.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<Vec<Stopped>>>);

/// Why somebody has stopped, and how he is let through.
type Stopped = (String, oneshot::Sender<()>);

impl Gate {
    async fn stop(&self, what: impl Into<String>) {
        let (open, opened) = oneshot::channel();
        self.0.lock().unwrap().push((what.into(), open));
        // Whoever goes away with the run waits no longer.
        let _ = opened.await;
    }
}

/// Memory whose answers stop at the gate.
struct Gated {
    memory: Memory,
    gate: Gate,
}

impl Connector for Gated {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        self.memory.get(key)
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        Answer::later(async move {
            let look = self.memory.lookup(key).await;
            self.gate
                .stop(format!("has looked: {}", if matches!(look, Lookup::Hit { .. }) { "hit" } else { "miss" }))
                .await;
            look
        })
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.memory.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        Answer::later(async move {
            let fill = self.memory.fill(object, ticket).await;
            self.gate.stop(format!("has filled: {}", fill.stored.name())).await;
            fill
        })
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        self.memory.put(object, ticket)
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        self.memory.invalidate(keys, floor)
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.memory.delete(keys)
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.memory.truncate()
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        self.memory.prune()
    }

    fn status(&self) -> Status {
        self.memory.status()
    }
}

/// Who takes part.
#[derive(Clone, Copy)]
struct Cast {
    callers: usize,
    changes: usize,
    /// Whether the first caller goes away.
    deserter: bool,
}

/// The source and what is known of it.
#[derive(Default)]
struct Source {
    version: AtomicU64,
    /// The newest version whose invalidation has returned.
    completed: AtomicU64,
    loads: AtomicU64,
    /// Loads that have begun and not ended.
    running: AtomicU64,
}

/// Plays once. `choose` is asked who of so many goes on; what each did is told in the end.
async fn play(cast: Cast, mut choose: impl FnMut(usize) -> usize) -> Vec<String> {
    let schema = Schema::of::<Row>();
    let gate = Gate::default();
    let memory = Memory::open(schema.clone(), MemoryOptions::default()).unwrap();
    let cache: Cache<Row> = Cache::new(Arc::new(Gated { memory, gate: gate.clone() }), schema).unwrap();
    let source = Arc::new(Source::default());
    let callers: Vec<JoinHandle<(u64, u64)>> = (0..cast.callers)
        .map(|_| {
            let (cache, gate, source) = (cache.clone(), gate.clone(), source.clone());
            tokio::spawn(async move {
                gate.stop("begins").await;
                let least = source.completed.load(Ordering::SeqCst);
                let loader = move |id| async move {
                    let version = source.version.load(Ordering::SeqCst);
                    source.loads.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(source.running.fetch_add(1, Ordering::SeqCst), 0, "two loads at a time");
                    gate.stop(format!("has loaded {version}")).await;
                    source.running.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, ()>(Some(Row { id, version }))
                };
                (least, cache.get_or_load(Row::ID, 1_u32, loader).await.unwrap().unwrap().version)
            })
        })
        .collect();
    let writer = tokio::spawn({
        let (cache, gate, source) = (cache.clone(), gate.clone(), source.clone());
        async move {
            for version in 1..=cast.changes as u64 {
                gate.stop(format!("changes to {version}")).await;
                source.version.store(version, Ordering::SeqCst);
                gate.stop(format!("invalidates {version}")).await;
                assert_eq!(cache.invalidate(Row::ID, [1_u32]).await.unwrap(), Delivery::Applied);
                source.completed.store(version, Ordering::SeqCst);
            }
        }
    });
    let deserter = cast.deserter.then(|| {
        let (gate, caller) = (gate.clone(), callers[0].abort_handle());
        tokio::spawn(async move {
            gate.stop("goes away").await;
            caller.abort();
        })
    });

    let mut told = Vec::new();
    loop {
        // One thread, first come, first served: after so many turns everybody has stopped or ended.
        for _ in 0..24 {
            yield_now().await;
        }
        let waiting = gate.0.lock().unwrap().len();
        if waiting == 0 {
            break;
        }
        let (what, open) = gate.0.lock().unwrap().remove(choose(waiting));
        told.push(what);
        let _ = open.send(());
    }

    assert!(writer.is_finished() && deserter.is_none_or(|deserter| deserter.is_finished()));
    for (number, caller) in callers.into_iter().enumerate() {
        assert!(caller.is_finished(), "caller {number} waits for ever: {told:#?}");
        match caller.await {
            Ok((least, version)) => {
                assert!(version >= least, "{version} answers caller {number}, who came after {least}: {told:#?}");
            }
            Err(gone) => assert!(gone.is_cancelled() && number == 0 && cast.deserter, "{gone}: {told:#?}"),
        }
    }
    let loads = source.loads.load(Ordering::SeqCst);
    // What was loaded and not changed since is not loaded again.
    let most = if cast.changes == 0 { 1 } else { cast.callers as u64 };
    assert!(loads <= most, "{loads} loads: {told:#?}");
    let left = cache.get(Row::ID, 1_u32).await.map(|row| row.version);
    assert!(left.is_none_or(|version| version == cast.changes as u64), "{left:?} is left: {told:#?}");
    told
}

fn run(cast: Cast, choose: impl FnMut(usize) -> usize) -> Vec<String> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(play(cast, choose))
}

/// Plays in every order. How many there are.
fn all_orders(cast: Cast) -> usize {
    let mut next: Vec<usize> = Vec::new();
    for orders in 1.. {
        let mut taken: Vec<(usize, usize)> = Vec::new();
        run(cast, |of| {
            let choice = next.get(taken.len()).copied().unwrap_or(0);
            taken.push((choice, of));
            choice
        });
        while taken.last().is_some_and(|(choice, of)| choice + 1 == *of) {
            taken.pop();
        }
        let Some((choice, _)) = taken.pop() else { return orders };
        next = taken.iter().map(|(choice, _)| *choice).chain([choice + 1]).collect();
    }
    unreachable!()
}

#[test]
fn two_callers_and_a_change_in_every_order() {
    let orders = all_orders(Cast { callers: 2, changes: 1, deserter: false });
    assert!(orders > 500, "only {orders} orders: somebody does not stop where he should");
}

#[test]
fn three_callers_without_a_change_in_every_order() {
    let orders = all_orders(Cast { callers: 3, changes: 0, deserter: false });
    assert!(orders > 50, "only {orders} orders: somebody does not stop where he should");
}

#[test]
fn a_caller_that_goes_away_in_every_order() {
    let orders = all_orders(Cast { callers: 2, changes: 0, deserter: true });
    assert!(orders > 50, "only {orders} orders: somebody does not stop where he should");
}

#[test]
fn many_callers_and_changes_in_many_orders() {
    let orders: u64 = std::env::var("LARDER_FLIGHT_ORDERS").map_or(1_500, |orders| orders.parse().unwrap());
    for seed in 0..orders {
        let mut dice = fastrand::Rng::with_seed(seed);
        let cast = Cast { callers: dice.usize(3..=6), changes: dice.usize(1..=3), deserter: dice.bool() };
        run(cast, |of| dice.usize(..of));
    }
}
