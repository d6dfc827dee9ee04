//! Loading where the connector is slow to say what became of a fill, or is not there at all.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use larder::connector::memory::{Memory, MemoryOptions};
use larder::connector::noop::Noop;
use larder::contract::{Answer, Connector, Fill, KeyBuf, KeyRef, Lookup, Object, Pruned, Status, Value};
use larder::{Cache, Delivery, Entry, Error, LoadError, Miss, Schema, Stored, Ticket};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "row")]
struct Row {
    #[key(primary)]
    id: u32,
    version: u64,
}

/// A source whose loads tell that they have begun, and then wait at a gate.
#[derive(Clone)]
struct Source {
    version: Arc<AtomicU64>,
    begun: Arc<AtomicU64>,
    gate: Arc<Semaphore>,
}

impl Source {
    fn new() -> Self {
        Self { version: Arc::new(AtomicU64::new(1)), begun: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    fn caller(&self, cache: &Cache<Row>) -> JoinHandle<u64> {
        let (cache, source) = (cache.clone(), self.clone());
        let load = move |id| async move {
            let version = source.version.load(Ordering::SeqCst);
            source.begun.fetch_add(1, Ordering::SeqCst);
            let _ = source.gate.acquire().await;
            Ok::<_, ()>(Some(Row { id, version }))
        };
        tokio::spawn(async move { cache.get_or_load(Row::ID, 1_u32, load).await.unwrap().unwrap().version })
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        yield_now().await;
    }
}

/// Memory as a server would be: it may be slow to say what became of a fill, and shed some of its lookups.
struct Remote {
    memory: Memory,
    /// Fills that were done, and what their answers wait for.
    filled: AtomicU64,
    gate: Semaphore,
    lookups: AtomicU64,
    /// Which lookups are shed.
    shed: Range<u64>,
}

impl Remote {
    fn open(shed: Range<u64>) -> (Arc<Self>, Cache<Row>) {
        let schema = Schema::of::<Row>();
        let memory = Memory::open(schema.clone(), MemoryOptions::default()).unwrap();
        let (filled, gate, lookups) = (AtomicU64::new(0), Semaphore::new(0), AtomicU64::new(0));
        let remote = Arc::new(Self { memory, filled, gate, lookups, shed });
        (remote.clone(), Cache::new(remote, schema).unwrap())
    }
}

impl Connector for Remote {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        self.memory.get(key)
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        if self.shed.contains(&self.lookups.fetch_add(1, Ordering::SeqCst)) {
            return Answer::now(Lookup::miss(Miss::Shed, None));
        }
        self.memory.lookup(key)
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.memory.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        Answer::later(async move {
            let fill = self.memory.fill(object, ticket).await;
            self.filled.fetch_add(1, Ordering::SeqCst);
            let _ = self.gate.acquire().await;
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

/// The fill was accepted, then the object was invalidated, and the answer to the fill is still on its way: whoever asks now comes
/// after the invalidation.
#[tokio::test]
async fn an_accepted_fill_answers_nobody_who_came_after_a_change_that_followed_it() {
    let (slow, cache) = Remote::open(0..0);
    let source = Source::new();
    source.gate.close();

    let early = source.caller(&cache);
    until(|| slow.filled.load(Ordering::SeqCst) == 1).await;
    source.version.store(2, Ordering::SeqCst);
    assert_eq!(cache.invalidate(Row::ID, [1_u32]).await.unwrap(), Delivery::Applied);
    let late = source.caller(&cache);
    until(|| cache.stats().joined.get() == 1).await;
    slow.gate.close();
    assert_eq!(early.await.unwrap(), 1);
    assert_eq!(late.await.unwrap(), 2);
}

/// Without a server nobody can prove anything to those who come late, and all of them loading for themselves would be the next
/// outage.
#[tokio::test]
async fn a_hundred_callers_without_a_server_share_two_loads() {
    let cache: Cache<Row> = Cache::new(Arc::new(Noop), Schema::of::<Row>()).unwrap();
    let source = Source::new();
    let first = source.caller(&cache);
    until(|| source.begun() == 1).await;
    source.version.store(2, Ordering::SeqCst);
    let late: Vec<_> = (0..100).map(|_| source.caller(&cache)).collect();
    until(|| cache.stats().joined.get() == 100).await;
    source.gate.close();
    assert_eq!(first.await.unwrap(), 1);
    for caller in late {
        assert_eq!(caller.await.unwrap(), 2, "it asked after the first load had begun");
    }
    assert_eq!(source.begun(), 2);
}

/// Those who wait for the next load are not lost with the one who was to undertake it.
#[tokio::test]
async fn who_waits_for_the_next_load_is_served_though_others_go_away() {
    let cache: Cache<Row> = Cache::new(Arc::new(Noop), Schema::of::<Row>()).unwrap();
    let source = Source::new();
    let first = source.caller(&cache);
    until(|| source.begun() == 1).await;
    let late: Vec<_> = (0..10).map(|_| source.caller(&cache)).collect();
    until(|| cache.stats().joined.get() == 10).await;
    source.gate.add_permits(1);
    assert_eq!(first.await.unwrap(), 1);
    until(|| source.begun() == 2).await;
    late.iter().take(9).for_each(JoinHandle::abort);
    source.gate.close();
    assert_eq!(late.into_iter().next_back().unwrap().await.unwrap(), 1);
}

fn memory() -> Cache<Row> {
    let schema = Schema::of::<Row>();
    Cache::new(Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap()
}

type Rows = Result<Option<Arc<Row>>, LoadError<String>>;

/// Loads the row `ids[0]` by a loader that loads the row `ids[1]`, and so on.
fn chain(cache: Cache<Row>, ids: Vec<u32>) -> Pin<Box<dyn Future<Output = Rows> + Send>> {
    Box::pin(async move {
        let (id, rest, inner) = (ids[0], ids[1..].to_vec(), cache.clone());
        let load = move |id| async move {
            if !rest.is_empty() {
                chain(inner, rest).await.map_err(|error| error.to_string())?;
            }
            Ok(Some(Row { id, version: 1 }))
        };
        cache.get_or_load(Row::ID, id, load).await
    })
}

#[tokio::test]
async fn a_loader_that_would_wait_for_itself_gets_an_error() {
    let cache = memory();
    assert!(chain(cache.clone(), vec![1, 2, 3]).await.is_ok(), "a loader may load");
    cache.truncate().await.unwrap();
    for circle in [vec![1, 1], vec![1, 2, 1], vec![1, 2, 3, 2]] {
        let error = chain(cache.clone(), circle.clone()).await.unwrap_err();
        assert!(error.to_string().ends_with(&LoadError::<String>::Circular.to_string()), "{circle:?}: {error}");
    }
    assert!(chain(cache.clone(), vec![1]).await.is_ok(), "the next one works");
}

/// Each of the two waits for a load that the other's caller had begun.
#[tokio::test]
async fn two_loads_that_would_wait_for_each_other_get_an_error() {
    let cache = memory();
    for _ in 0..3 {
        let both = [vec![1, 2], vec![2, 1]].map(|ids| tokio::spawn(chain(cache.clone(), ids)));
        let mut failed = 0;
        for load in both {
            failed += usize::from(load.await.unwrap().is_err());
        }
        assert!(failed > 0);
        cache.truncate().await.unwrap();
    }
}

/// A loader that does not wait any more is waited for by nobody.
#[tokio::test]
async fn a_wait_that_was_given_up_is_no_part_of_a_circle() {
    let (cache, source) = (memory(), Source::new());
    let slow = source.caller(&cache);
    until(|| source.begun() == 1).await;
    let inner = cache.clone();
    let impatient = move |id| async move {
        let never = |_| async { Ok::<_, ()>(None) };
        let given_up = tokio::time::timeout(Duration::from_millis(1), inner.get_or_load(Row::ID, 1_u32, never));
        assert!(given_up.await.is_err());
        Ok::<_, ()>(Some(Row { id, version: 1 }))
    };
    assert!(cache.get_or_load(Row::ID, 2_u32, impatient).await.is_ok());
    source.gate.add_permits(1);
    assert_eq!(slow.await.unwrap(), 1);
}

/// Most of a thousand readers are shed before they can ask; what the first has loaded serves them all the same.
#[tokio::test]
async fn who_was_shed_is_served_by_one_look_and_not_by_another_load() {
    let (shedding, cache) = Remote::open(250..1000);
    shedding.gate.close();
    let source = Source::new();
    let callers: Vec<_> = (0..1000).map(|_| source.caller(&cache)).collect();
    until(|| cache.stats().joined.get() == 999).await;
    source.gate.close();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 1);
    }
    assert_eq!(source.begun(), 1);
    assert!(shedding.lookups.load(Ordering::SeqCst) <= 1001, "one more look for all");
    assert_eq!(cache.stats().hits.get() + cache.stats().misses(), 1000, "each call is counted once");
}

/// The first to ask is shed, and so is the look of his load. Without a ticket that would fill nothing, and all who join would need another
/// load.
#[tokio::test]
async fn a_load_that_was_shed_looks_again_and_fills() {
    let (shedding, cache) = Remote::open(0..3);
    shedding.gate.close();
    let source = Source::new();
    let first = source.caller(&cache);
    until(|| source.begun() == 1).await;
    let late = source.caller(&cache);
    until(|| cache.stats().joined.get() == 1).await;
    source.gate.close();
    assert_eq!((first.await.unwrap(), late.await.unwrap()), (1, 1));
    assert_eq!((source.begun(), cache.stats().fill(Stored::Accepted).get()), (1, 1));
    assert_eq!((cache.stats().hits.get(), cache.stats().misses()), (0, 2), "each call is counted once");
}
