//! What [`LoadOptions`] promise, in memory and on real servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use larder::clock::{Clock, ManualClock};
use larder::connector::memory::{Memory, MemoryOptions};
use larder::{Cache, Delivery, Entry, LoadError, LoadOptions, Lookup, Miss, Schema, Stored};
use larder_testing::server::{Server, ServerOptions, required};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "row")]
struct Row {
    #[key(primary)]
    id: u32,
    #[key(index = "name")]
    names: Vec<String>,
    state: u64,
}

fn row(state: u64) -> Row {
    Row { id: 1, names: vec!["one".to_owned()], state }
}

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(60);

/// A place for caches, and how time passes there.
enum Place {
    Memory(Clock, ManualClock),
    Redis(Box<Server>),
}

impl Place {
    fn memory() -> Self {
        let (clock, hand) = Clock::manual();
        Self::Memory(clock, hand)
    }

    async fn all() -> Vec<Self> {
        let mut places = vec![Self::memory()];
        let servers = if cfg!(feature = "redis") { required().unwrap() } else { Vec::new() };
        for binary in servers {
            places.push(Self::Redis(Box::new(Server::start(&binary, ServerOptions::default()).await.unwrap())));
        }
        places
    }

    /// A cache of a node of its own.
    async fn cache(&self, max_age: Duration, options: LoadOptions) -> Cache<Row> {
        let schema = Schema::of::<Row>().ages(max_age, Duration::ZERO).loading(options);
        match self {
            Self::Memory(clock, _) => {
                let memory = Memory::on_clock(schema.clone(), MemoryOptions::new(), clock.clone()).unwrap();
                Cache::new(Arc::new(memory), schema).unwrap()
            }
            Self::Redis(server) => {
                let cache = on_server(server, schema);
                until("the cache can be read", || cache.status().readable).await;
                cache
            }
        }
    }

    /// Lets the max age of what is under this name pass.
    async fn expire(&self, cache: &Cache<Row>) {
        let begun = Instant::now();
        while cache.get(Row::NAME, "one").await.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not expire");
            match self {
                Self::Memory(_, hand) => hand.advance(Duration::from_millis(1)),
                Self::Redis(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

#[cfg(feature = "redis")]
fn on_server(server: &Server, schema: Schema) -> Cache<Row> {
    use larder::connector::redis::{Address, RedisOptions};
    let address = Address::Unix(server.socket().to_owned());
    let mut config = RedisOptions::new(address).operation_timeout(LONG);
    config.breaker.slow_call = LONG;
    let redis = larder::connector::redis::Redis::open(config).unwrap();
    Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap()
}

/// Without the connector no place is on a server.
#[cfg(not(feature = "redis"))]
fn on_server(_: &Server, _: Schema) -> Cache<Row> {
    unreachable!()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A source whose loads may be made to wait, or to fail.
#[derive(Clone, Default)]
struct Source {
    /// 0: there is no row.
    state: Arc<AtomicU64>,
    begun: Arc<AtomicU64>,
    gate: Option<Arc<Semaphore>>,
    fails: bool,
}

impl Source {
    fn at(state: u64) -> Self {
        Self { state: Arc::new(AtomicU64::new(state)), ..Self::default() }
    }

    /// Its loads read, and then wait.
    fn closed(&self) -> Self {
        Self { gate: Some(Arc::new(Semaphore::new(0))), ..self.clone() }
    }

    fn opens(&self) {
        self.gate.as_ref().unwrap().close();
    }

    fn failing(&self) -> Self {
        Self { fails: true, ..self.clone() }
    }

    fn writes(&self, state: u64) {
        self.state.store(state, Ordering::SeqCst);
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    async fn read(self) -> Result<Option<Row>, &'static str> {
        let state = self.state.load(Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            let _ = gate.acquire().await;
        }
        if self.fails { Err("the source is down") } else { Ok((state > 0).then(|| row(state))) }
    }

    async fn load(&self, cache: &Cache<Row>) -> Result<Option<u64>, LoadError<&'static str>> {
        let source = self.clone();
        let loaded = cache.get_or_load(Row::NAME, "one", |_| source.read()).await;
        loaded.map(|row| row.map(|row| row.state))
    }

    fn caller(&self, cache: &Cache<Row>) -> JoinHandle<Result<Option<u64>, LoadError<&'static str>>> {
        let (source, cache) = (self.clone(), cache.clone());
        tokio::spawn(async move { source.load(&cache).await })
    }
}

async fn stored(cache: &Cache<Row>) -> Option<u64> {
    cache.get(Row::NAME, "one").await.map(|row| row.state)
}

async fn becomes(cache: &Cache<Row>, state: u64) {
    let begun = Instant::now();
    while stored(cache).await != Some(state) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the load does not arrive");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_expires_soon_is_served_and_loaded_anew() {
    for place in Place::all().await {
        // Within the last 10 minutes less a bit: at once, but for the clock's grain.
        let ahead = LONG - Duration::from_millis(30);
        let cache = place.cache(LONG, LoadOptions::new().refresh_ahead(ahead)).await;
        let source = Source::at(1);
        assert_eq!(source.load(&cache).await.unwrap(), Some(1));
        source.writes(2);
        let slow = source.closed();
        let begun = Instant::now();
        while slow.begun() < 2 {
            assert_eq!(slow.load(&cache).await.unwrap(), Some(1), "nobody waits");
            if let Place::Memory(_, hand) = &place {
                hand.advance(Duration::from_millis(1));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(begun.elapsed() < Duration::from_secs(30), "not loaded anew");
        }
        // One at a time.
        assert_eq!(slow.load(&cache).await.unwrap(), Some(1));
        assert_eq!((slow.begun(), cache.stats().refreshes.get()), (2, 1));
        slow.opens();
        becomes(&cache, 2).await;
    }
}

#[tokio::test]
async fn a_change_during_a_refresh_is_not_undone_by_it() {
    for place in Place::all().await {
        let ahead = LONG - Duration::from_millis(1);
        let cache = place.cache(LONG, LoadOptions::new().refresh_ahead(ahead)).await;
        let source = Source::at(1);
        source.load(&cache).await.unwrap();
        let slow = source.closed();
        while slow.begun() < 2 {
            slow.load(&cache).await.unwrap();
            if let Place::Memory(_, hand) = &place {
                hand.advance(Duration::from_millis(1));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        source.writes(2);
        assert_eq!(cache.invalidate(Row::ID, [1_u32]).await.unwrap(), Delivery::Applied);
        let after = source.caller(&cache);
        slow.opens();
        assert_eq!(after.await.unwrap().unwrap(), Some(2), "it came after the change");
        until("the refused refresh is over", || cache.stats().fill(Stored::Overtaken).get() == 1).await;
        assert_ne!(stored(&cache).await, Some(1));
    }
}

#[tokio::test]
async fn an_expired_object_is_served_while_its_successor_is_loaded() {
    for place in Place::all().await {
        let cache = place.cache(SHORT, LoadOptions::new().serve_expired(LONG)).await;
        let source = Source::at(1);
        source.load(&cache).await.unwrap();
        place.expire(&cache).await;
        source.writes(2);
        let slow = source.closed();
        for _ in 0..3 {
            assert_eq!(slow.load(&cache).await.unwrap(), Some(1));
            assert_eq!(stored(&cache).await, None, "a get never serves it");
            assert!(matches!(
                cache.lookup(Row::ID, 1_u32).await,
                Lookup::Miss { cause: Miss::Expired, ticket: Some(_), .. }
            ));
        }
        until("the load has begun", || slow.begun() == 2).await;
        assert_eq!(cache.stats().served_expired.get(), 3);
        slow.opens();
        until("it is loaded", || cache.stats().fill(Stored::Accepted).get() == 2).await;
    }
}

#[tokio::test]
async fn an_expired_object_is_served_where_the_loader_fails_but_never_an_invalidated_one() {
    for place in Place::all().await {
        let options = LoadOptions::new().serve_expired(LONG).soft_timeout(LONG);
        let cache = place.cache(SHORT, options).await;
        let source = Source::at(1);
        source.load(&cache).await.unwrap();
        place.expire(&cache).await;
        assert_eq!(source.failing().load(&cache).await.unwrap(), Some(1));
        assert_eq!(cache.stats().load_failures.get(), 1);
        assert_eq!(cache.invalidate(Row::ID, [1_u32]).await.unwrap(), Delivery::Applied);
        assert!(matches!(source.failing().load(&cache).await, Err(LoadError::Failed(_))));

        // Invalidated while the failing load is under way.
        source.load(&cache).await.unwrap();
        place.expire(&cache).await;
        let slow = source.failing().closed();
        let begun = slow.begun();
        let caller = slow.caller(&cache);
        until("the load has begun", || slow.begun() > begun).await;
        assert_eq!(cache.invalidate(Row::NAME, ["one"]).await.unwrap(), Delivery::Applied);
        slow.opens();
        assert!(matches!(caller.await.unwrap(), Err(LoadError::Failed(_))));
    }
}

#[tokio::test]
async fn an_expired_object_is_served_for_so_long_and_no_longer() {
    for place in Place::all().await {
        let cache = place.cache(SHORT, LoadOptions::new().serve_expired(SHORT)).await;
        let source = Source::at(1);
        source.load(&cache).await.unwrap();
        let end = Instant::now() + 2 * SHORT + Duration::from_millis(1);
        match &place {
            Place::Memory(_, hand) => hand.advance(2 * SHORT),
            Place::Redis(_) => tokio::time::sleep_until(end.into()).await,
        }
        assert!(source.failing().load(&cache).await.is_err());
    }
}

#[tokio::test]
async fn whoever_is_out_of_patience_is_served_the_expired_object_unless_it_was_invalidated() {
    for place in Place::all().await {
        let soft = Duration::from_millis(20);
        let options = LoadOptions::new().serve_expired(LONG).soft_timeout(soft);
        let cache = place.cache(SHORT, options).await;
        let source = Source::at(1);
        source.load(&cache).await.unwrap();
        place.expire(&cache).await;
        source.writes(2);
        let slow = source.closed();
        assert_eq!(slow.load(&cache).await.unwrap(), Some(1), "after a while");
        assert_eq!(slow.begun(), 2);
        source.writes(3);
        assert_eq!(cache.invalidate(Row::ID, [1_u32]).await.unwrap(), Delivery::Applied);
        let after = slow.caller(&cache);
        until("it has joined", || cache.stats().joined.get() == 1).await;
        slow.opens();
        assert_eq!(after.await.unwrap().unwrap(), Some(3), "neither the old object nor the load from before");
    }
}

#[tokio::test]
async fn whoever_has_waited_long_enough_gets_an_error_and_the_load_goes_on() {
    for place in Place::all().await {
        let limit = Duration::from_millis(20);
        let cache = place.cache(LONG, LoadOptions::new().hard_timeout(limit)).await;
        let slow = Source::at(1).closed();
        let error = slow.load(&cache).await.unwrap_err();
        assert!(matches!(error, LoadError::TimedOut(after) if after == limit), "{error}");
        assert_eq!((slow.begun(), cache.stats().load_timeouts.get()), (1, 1));
        slow.opens();
        becomes(&cache, 1).await;
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_loaded_again_until_something_touches_its_key() {
    for place in Place::all().await {
        let cache = place.cache(LONG, LoadOptions::new().negative_age(LONG)).await;
        let source = Source::at(0);
        let mut loads = 0;
        let touches = [
            "set",
            "an overtaken put",
            "invalidate",
            "invalidate another",
            "delete",
            "truncate",
            "fill",
            "invalidate_change",
        ];
        for touch in touches {
            cache.truncate().await.unwrap();
            source.writes(0);
            for _ in 0..3 {
                assert_eq!(source.load(&cache).await.unwrap(), None);
            }
            loads += 1;
            assert_eq!(source.begun(), loads, "before {touch}");
            assert!(matches!(
                cache.lookup(Row::NAME, "one").await,
                Lookup::Miss { cause: Miss::KnownAbsent, ticket: None, .. }
            ));
            source.writes(7);
            let ticket = match cache.lookup(Row::ID, 5_u32).await {
                Lookup::Miss { ticket: Some(ticket), .. } => ticket,
                other => panic!("{other:?}"),
            };
            match touch {
                "set" => assert_eq!(cache.set(row(7)).await, Stored::Accepted),
                "fill" => assert_eq!(cache.fill(row(7), ticket).await, Stored::Accepted),
                "an overtaken put" => {
                    let inner = cache.clone();
                    let write = async move {
                        inner.invalidate(Row::ID, [1_u32]).await.unwrap();
                        Ok::<_, ()>(row(7))
                    };
                    cache.update(write).await.unwrap();
                    assert_eq!(cache.stats().put(Stored::Overtaken).get(), 1);
                }
                "invalidate" => drop(cache.invalidate(Row::NAME, ["one"]).await.unwrap()),
                "invalidate another" => {
                    cache.invalidate(Row::NAME, ["two"]).await.unwrap();
                    assert_eq!(source.load(&cache).await.unwrap(), None, "its own key was not touched");
                    continue;
                }
                "delete" => drop(cache.delete(Row::NAME, ["one"]).await.unwrap()),
                "truncate" => drop(cache.truncate().await.unwrap()),
                _ => drop(cache.invalidate_change(&row(7), &row(7)).await.unwrap()),
            }
            assert_eq!(source.load(&cache).await.unwrap(), Some(7), "after {touch}");
            loads = source.begun();
        }
    }
}

/// By a primary key, where what is remembered stands in the place of the object.
#[tokio::test]
async fn a_primary_key_that_does_not_exist_is_remembered_and_forgotten_too() {
    for place in Place::all().await {
        let cache = place.cache(LONG, LoadOptions::new().negative_age(LONG)).await;
        for touch in 0..3 {
            cache.truncate().await.unwrap();
            let none = |_| async { Ok::<_, ()>(None) };
            assert!(cache.get_or_load(Row::ID, 1_u32, none).await.unwrap().is_none());
            let unexpected = |_| async { panic!("it is known") };
            assert!(cache.get_or_load::<_, _, _, _, (), _>(Row::ID, 1_u32, unexpected).await.unwrap().is_none());
            match touch {
                0 => assert_eq!(cache.set(row(7)).await, Stored::Accepted),
                1 => drop(cache.invalidate(Row::ID, [1_u32]).await.unwrap()),
                _ => drop(cache.delete(Row::ID, [1_u32]).await.unwrap()),
            }
            let found = cache.get_or_load(Row::ID, 1_u32, |_| async { Ok::<_, ()>(Some(row(7))) }).await;
            assert_eq!(found.unwrap().unwrap().state, 7);
        }
        assert_eq!(cache.stats().faults.get(), 0);
    }
}

/// The row is gone and its object has expired. Callers who do not wait for the loader are given the dead object while the first load
/// runs; after that load nobody is, on any node.
#[tokio::test]
async fn a_load_that_found_nothing_ends_the_object_that_had_expired() {
    for place in Place::all().await {
        for negative_age in [Duration::ZERO, LONG] {
            let options = LoadOptions::new().serve_expired(LONG).negative_age(negative_age);
            let (cache, other) = (place.cache(SHORT, options).await, place.cache(SHORT, options).await);
            let nodes = if matches!(place, Place::Redis(_)) { vec![&cache, &other] } else { vec![&cache] };
            cache.truncate().await.unwrap();
            cache.set(row(1)).await;
            place.expire(&cache).await;
            let source = Source::at(0).closed();
            for _ in 0..3 {
                assert_eq!(source.load(&cache).await.unwrap(), Some(1), "while its load runs");
            }
            until("the load has begun", || source.begun() == 1).await;
            source.opens();
            let begun = Instant::now();
            while source.load(&cache).await.unwrap().is_some() {
                assert!(begun.elapsed() < Duration::from_secs(30), "the dead object is served for ever");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for node in &nodes {
                for _ in 0..3 {
                    assert_eq!(source.load(node).await.unwrap(), None);
                }
            }
            if !negative_age.is_zero() {
                assert_eq!(source.begun(), 1, "it is noted that there is nothing");
            }
        }
    }
}

/// The same where callers wait for the loader: what it has found counts, not what they had seen before.
#[tokio::test]
async fn who_waits_for_a_load_that_finds_nothing_is_given_nothing() {
    for place in Place::all().await {
        let options = LoadOptions::new().serve_expired(LONG).soft_timeout(LONG);
        let cache = place.cache(SHORT, options).await;
        cache.set(row(1)).await;
        place.expire(&cache).await;
        let slow = Source::at(0).closed();
        let callers: Vec<_> = (0..3).map(|_| slow.caller(&cache)).collect();
        until("all wait", || cache.stats().joined.get() == 2).await;
        slow.opens();
        for caller in callers {
            assert_eq!(caller.await.unwrap().unwrap(), None);
        }
        let found = cache.load_many(Row::NAME, ["one"], |_| async { Ok::<_, ()>(Vec::new()) }).await.unwrap();
        assert_eq!(found, [None]);
        assert_eq!(Source::at(0).load(&cache).await.unwrap(), None);
        assert_eq!(cache.stats().served_expired.get(), 0);
    }
}

/// A load of several keys that finds nothing ends what had expired as well.
#[tokio::test]
async fn a_load_of_many_that_found_nothing_ends_what_had_expired() {
    for place in Place::all().await {
        let cache = place.cache(SHORT, LoadOptions::new().serve_expired(LONG)).await;
        cache.set(row(1)).await;
        place.expire(&cache).await;
        let found = cache.load_many(Row::NAME, ["one"], |_| async { Ok::<_, ()>(Vec::new()) }).await.unwrap();
        assert_eq!(found, [None]);
        assert_eq!(Source::at(0).load(&cache).await.unwrap(), None, "not the dead object");
    }
}

/// An object that was to be loaded anew before its end, and whose row is gone by then.
#[tokio::test]
async fn a_refresh_that_found_nothing_ends_the_object() {
    for place in Place::all().await {
        for (lease, negative_age) in [(Duration::ZERO, LONG), (LONG, LONG), (LONG, Duration::ZERO)] {
            let options = LoadOptions::new().refresh_ahead(LONG - SHORT).negative_age(negative_age).lease(lease);
            let cache = place.cache(LONG, options).await;
            cache.truncate().await.unwrap();
            cache.set(row(1)).await;
            match &place {
                Place::Memory(_, hand) => hand.advance(2 * SHORT),
                Place::Redis(_) => tokio::time::sleep(2 * SHORT).await,
            }
            let source = Source::at(0);
            assert_eq!(
                source.load(&cache).await.unwrap(),
                Some(1),
                "it is still good, and loaded anew in the background"
            );
            let begun = Instant::now();
            while cache.get(Row::ID, 1_u32).await.is_some() {
                assert!(begun.elapsed() < Duration::from_secs(30), "the object stays");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(source.load(&cache).await.unwrap(), None);
            let loads = if negative_age.is_zero() { 2 } else { 1 };
            assert_eq!(source.begun(), loads, "it is noted that there is nothing, or not");
        }
    }
}

/// The object is created, and its key touched, while a load that has found nothing is under way.
#[tokio::test]
async fn what_was_created_during_a_load_is_not_remembered_as_absent() {
    for place in Place::all().await {
        let cache = place.cache(LONG, LoadOptions::new().negative_age(LONG)).await;
        for by_set in [true, false] {
            cache.truncate().await.unwrap();
            let source = Source::at(0);
            let slow = source.closed();
            let caller = slow.caller(&cache);
            until("the load has begun", || slow.begun() == 1).await;
            source.writes(1);
            if by_set {
                assert_eq!(cache.set(row(1)).await, Stored::Accepted);
            } else {
                assert_eq!(cache.invalidate(Row::NAME, ["one"]).await.unwrap(), Delivery::Applied);
            }
            slow.opens();
            assert_eq!(caller.await.unwrap().unwrap(), None, "it had asked before");
            assert_eq!(source.load(&cache).await.unwrap(), Some(1));
        }
    }
}

#[tokio::test]
async fn an_absence_is_remembered_for_so_long_and_no_longer() {
    for place in Place::all().await {
        let cache = place.cache(LONG, LoadOptions::new().negative_age(SHORT)).await;
        let source = Source::at(0);
        assert_eq!(source.load(&cache).await.unwrap(), None);
        let end = Instant::now() + SHORT + Duration::from_millis(1);
        match &place {
            Place::Memory(_, hand) => hand.advance(SHORT),
            Place::Redis(_) => tokio::time::sleep_until(end.into()).await,
        }
        source.writes(1);
        assert_eq!(source.load(&cache).await.unwrap(), Some(1));
    }
}

#[tokio::test]
async fn lifetimes_differ_and_none_is_longer_than_the_max_age() {
    let (clock, hand) = Clock::manual();
    let cache =
        Place::Memory(clock, hand.clone()).cache(Duration::from_millis(1000), LoadOptions::new().jitter(0.5)).await;
    for id in 0..400 {
        cache.set(Row { id, names: Vec::new(), state: 1 }).await;
    }
    let mut alive = Vec::new();
    for _ in 0..10 {
        let mut count = 0;
        for id in 0..400_u32 {
            count += usize::from(cache.get(Row::ID, id).await.is_some());
        }
        alive.push(count);
        hand.advance(Duration::from_millis(100));
    }
    assert!(cache.get(Row::ID, 1_u32).await.is_none());
    assert!(alive[..5].iter().all(|alive| *alive == 400), "none lives for less than half: {alive:?}");
    assert!(alive[5..].windows(2).all(|pair| pair[1] < pair[0]), "they leave one after the other: {alive:?}");
}

/// Nodes whose configurations differ: who does not serve expired objects does not find those that others keep.
#[tokio::test]
async fn what_others_keep_beyond_its_max_age_is_not_served() {
    for place in Place::all().await {
        let Place::Redis(server) = &place else { continue };
        let keeper = place.cache(SHORT, LoadOptions::new().serve_expired(LONG)).await;
        let other = place.cache(SHORT, LoadOptions::default()).await;
        keeper.set(row(1)).await;
        place.expire(&other).await;
        assert!(matches!(
            other.lookup(Row::ID, 1_u32).await,
            Lookup::Miss { cause: Miss::Expired, ticket: Some(_), .. }
        ));
        assert!(Source::at(1).failing().load(&other).await.is_err());
        assert!(server.keys("larder:row:o*").await.unwrap().len() == 1, "it is there");
    }
}

async fn leases(server: &Server) -> usize {
    server.keys("*:row:l*").await.unwrap().len()
}

#[tokio::test]
async fn nodes_load_a_key_one_after_the_other() {
    for place in Place::all().await {
        let Place::Redis(server) = &place else { continue };
        let options = LoadOptions::new().lease(LONG);
        let (near, far) = (place.cache(LONG, options).await, place.cache(LONG, options).await);
        let slow = Source::at(1).closed();
        let first = slow.caller(&near);
        until("the load has begun", || slow.begun() == 1).await;
        assert_eq!(leases(server).await, 1);
        let others: Vec<_> = (0..100).map(|n| slow.caller(if n % 2 == 0 { &near } else { &far })).collect();
        until("the other node waits", || far.stats().lease_waits.get() == 1).await;
        slow.opens();
        assert_eq!(first.await.unwrap().unwrap(), Some(1));
        for other in others {
            assert_eq!(other.await.unwrap().unwrap(), Some(1));
        }
        assert_eq!(slow.begun(), 1);
        gone(server).await;
    }
}

async fn gone(server: &Server) {
    let begun = Instant::now();
    while leases(server).await > 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the lease was not given back");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Two fills that shared one token (rueidisaside), a lease that was never given back: whoever waits goes on at once when the load of
/// the other node fails, is overtaken, or panics.
#[tokio::test]
async fn a_load_that_fails_passes_the_lease_on() {
    for place in Place::all().await {
        let Place::Redis(server) = &place else { continue };
        let options = LoadOptions::new().lease(LONG);
        let (near, far) = (place.cache(LONG, options).await, place.cache(LONG, options).await);
        for how in ["fails", "is overtaken", "panics"] {
            near.truncate().await.unwrap();
            let (source, waits) = (Source::at(1), far.stats().lease_waits.get());
            let slow = if how == "fails" { source.failing().closed() } else { source.closed() };
            let (cache, load) = (near.clone(), slow.clone());
            let first = tokio::spawn(async move {
                let loader = move |_| async move {
                    let read = load.read().await;
                    assert!(how != "panics");
                    read
                };
                cache.get_or_load(Row::NAME, "one", loader).await
            });
            until("the load has begun", || source.begun() == 1).await;
            let other = source.caller(&far);
            until("the other node waits", || far.stats().lease_waits.get() > waits).await;
            if how == "is overtaken" {
                source.writes(2);
                assert_eq!(near.invalidate(Row::ID, [1_u32]).await.unwrap(), Delivery::Applied);
            }
            slow.opens();
            let _ = first.await.unwrap();
            let state = if how == "is overtaken" { 2 } else { 1 };
            assert_eq!(other.await.unwrap().unwrap(), Some(state), "after one that {how}");
            assert_eq!(source.begun(), 2);
            gone(server).await;
        }
    }
}

/// A node that died while it held the lease.
#[tokio::test]
async fn a_lease_that_nobody_gives_back_holds_nobody_up_for_longer_than_it_lasts() {
    for place in Place::all().await {
        let Place::Redis(server) = &place else { continue };
        let cache = place.cache(LONG, LoadOptions::new().lease(SHORT)).await;
        server.command(&["SET", "larder:row:lname:one", "somebody else"]).await.unwrap();
        assert_eq!(Source::at(1).load(&cache).await.unwrap(), Some(1));
        assert!(cache.stats().lease_waits.get() >= 1, "it waited for the lease first");
        let held = server.command(&["GET", "larder:row:lname:one"]).await.unwrap();
        assert_eq!(held.bytes(), Some(&b"somebody else"[..]), "not ours to give back");
        cache.truncate().await.unwrap();
        assert_eq!(Source::at(1).load(&cache).await.unwrap(), Some(1));
        gone(server).await;
    }
}

#[tokio::test]
async fn a_lease_costs_a_miss_one_round_trip() {
    for place in Place::all().await {
        let Place::Redis(server) = &place else { continue };
        let cache = place.cache(LONG, LoadOptions::new().lease(LONG)).await;
        Source::at(1).load(&cache).await.unwrap();
        cache.truncate().await.unwrap();
        gone(server).await;
        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        Source::at(1).load(&cache).await.unwrap();
        gone(server).await;
        let stats = server.info("commandstats").await.unwrap();
        let calls = |command: &str| -> u64 {
            let told = stats.get(&format!("cmdstat_{command}")).map_or("calls=0,", String::as_str);
            told.split(['=', ',']).nth(1).unwrap().parse().unwrap()
        };
        // The lease, and in the scripts the object and its index key; fill and giving back.
        assert_eq!((calls("set"), calls("evalsha")), (3, 2), "{stats:?}");
    }
}

/// C13: a caller that goes away at any await point leaves no lease, no permit, and nobody waiting.
#[tokio::test]
async fn callers_that_go_away_at_any_point_leave_nothing_behind() {
    let options = LoadOptions::new()
        .lease(LONG)
        .refresh_ahead(SHORT / 4)
        .serve_expired(SHORT)
        .soft_timeout(SHORT / 8)
        .hard_timeout(LONG)
        .negative_age(SHORT / 8)
        .jitter(0.2);
    for place in Place::all().await {
        let cache = place.cache(SHORT, options).await;
        for round in 0..120_u64 {
            // Now it is there, now it is not, now it has expired; two callers, of which one goes away.
            let source = Source::at(round % 3);
            let load = source.load(&cache);
            let mut load = std::pin::pin!(load);
            let mut polls = round % 12;
            std::future::poll_fn(|context| {
                if polls == 0 || load.as_mut().poll(context).is_ready() {
                    return std::task::Poll::Ready(());
                }
                polls -= 1;
                std::task::Poll::Pending
            })
            .await;
            if round % 5 == 0 {
                cache.invalidate(Row::NAME, ["one"]).await.unwrap();
            }
        }
        cache.invalidate(Row::NAME, ["one"]).await.unwrap();
        let loaded = tokio::time::timeout(Duration::from_secs(30), Source::at(7).load(&cache)).await.unwrap();
        assert_eq!(loaded.unwrap(), Some(7));
        if let Place::Redis(server) = &place {
            gone(server).await;
        }
    }
}
