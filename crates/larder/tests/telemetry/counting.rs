//! One call that looks an object up is one hit or one miss, however often it looks.

use crate::place::{LONG, Place, until};
use crate::user::{User, user};
use larder::{Cache, LoadOptions, Lookup, Stored};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;

/// What this cache has counted: hits and misses.
fn counted(cache: &Cache<User>) -> (u64, u64) {
    (cache.stats().hits.get(), cache.stats().misses())
}

/// What was counted since it was asked last.
struct Since<'a> {
    cache: &'a Cache<User>,
    before: (u64, u64),
}

impl<'a> Since<'a> {
    fn now(cache: &'a Cache<User>) -> Self {
        Self { cache, before: counted(cache) }
    }

    fn counted(&mut self) -> (u64, u64) {
        let (before, now) = (self.before, counted(self.cache));
        self.before = now;
        (now.0 - before.0, now.1 - before.1)
    }
}

async fn load(cache: &Cache<User>, id: u32) -> Option<Arc<User>> {
    cache.get_or_load(User::ID, id, |id| async move { Ok::<_, ()>(Some(user(id, &[]))) }).await.unwrap()
}

async fn load_nothing(cache: &Cache<User>, id: u32) -> Option<Arc<User>> {
    cache.get_or_load(User::ID, id, |_| async { Ok::<_, ()>(None) }).await.unwrap()
}

/// Each way to look up, and each kind of load.
#[tokio::test]
async fn each_call_counts_once() {
    let default = LoadOptions::default();
    let all = [
        default,
        default.lease(LONG),
        default.refresh_ahead(LONG / 2).lease(LONG),
        default.serve_expired(LONG).soft_timeout(LONG),
        default.hard_timeout(LONG).negative_age(LONG),
    ];
    for place in Place::all().await {
        for options in all {
            let name = format!("{} with {options:?}", place.name());
            let cache = place.cache(options).await;
            cache.truncate().await.unwrap();
            let mut since = Since::now(&cache);
            for id in 0..100 {
                assert!(load(&cache, id).await.is_some());
            }
            assert_eq!(since.counted(), (0, 100), "loads, {name}");
            for id in 1000..1050 {
                assert!(load_nothing(&cache, id).await.is_none());
            }
            assert_eq!(since.counted(), (0, 50), "loads of nothing, {name}");
            let stored = if place.stores() { 100 } else { 0 };
            for id in 0..100 {
                assert!(load(&cache, id).await.is_some());
            }
            assert_eq!(since.counted(), (stored, 100 - stored), "loads again, {name}");
            for id in 0..100 {
                let found = matches!(cache.lookup(User::ID, id).await, Lookup::Hit { .. });
                assert_eq!(cache.get(User::ID, id).await.is_some(), found);
            }
            assert_eq!(since.counted(), (2 * stored, 200 - 2 * stored), "gets and lookups, {name}");
            cache.get_many(User::ID, 50..150_u32).await;
            assert_eq!(since.counted(), (stored / 2, 100 - stored / 2), "a get of many, {name}");
            // Some are there, some are not, and one is asked for twice.
            let ids = (90..110_u32).chain([90, 109]);
            let rows = |ids: Vec<u32>| async { Ok::<_, ()>(ids.into_iter().map(|id| user(id, &[])).collect()) };
            let found = cache.load_many(User::ID, ids, rows).await.unwrap();
            assert!(found.iter().all(Option::is_some));
            let stored = if place.stores() { 11 } else { 0 };
            assert_eq!(since.counted(), (stored, 22 - stored), "a load of many, {name}");
            let long = "x".repeat(larder::MAX_KEY_LEN + 1);
            let nobody = |_| async { Ok::<_, ()>(None) };
            assert!(cache.get_or_load(User::LOGIN, &*long, nobody).await.unwrap().is_none());
            let nobody = |_| async { Ok::<_, ()>(Vec::new()) };
            assert_eq!(cache.load_many(User::LOGIN, [&*long], nobody).await.unwrap(), [None]);
            assert_eq!(since.counted(), (0, 2), "a key that cannot exist, {name}");
        }
    }
}

/// Those who join a load that has begun, and may have to wait for the next one, whose pilot looks again for all of them.
#[tokio::test]
async fn callers_who_wait_for_a_load_and_for_the_next_one_count_once() {
    for place in Place::all().await {
        let cache = place.cache(LoadOptions::default()).await;
        let (begun, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let caller = || {
            let (cache, begun, gate) = (cache.clone(), begun.clone(), gate.clone());
            let loader = move |id| async move {
                begun.fetch_add(1, Ordering::SeqCst);
                let _ = gate.acquire().await;
                Ok::<_, ()>(Some(user(id, &[])))
            };
            tokio::spawn(async move { cache.get_or_load(User::ID, 1_u32, loader).await.unwrap() })
        };
        let many = || {
            let (cache, begun, gate) = (cache.clone(), begun.clone(), gate.clone());
            let loader = move |ids: Vec<u32>| {
                let (begun, gate) = (begun.clone(), gate.clone());
                async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let _ = gate.acquire().await;
                    Ok::<_, ()>(ids.into_iter().map(|id| user(id, &[])).collect())
                }
            };
            tokio::spawn(async move { cache.load_many(User::ID, [1_u32], loader).await.unwrap().pop().unwrap() })
        };
        let mut callers = vec![caller()];
        until("the load has begun", || begun.load(Ordering::SeqCst) == 1).await;
        // It is changed meanwhile, so that the first load answers nobody who comes now.
        cache.invalidate(User::ID, [1_u32]).await.unwrap();
        for n in 1..20 {
            callers.push(if n % 2 == 0 { caller() } else { many() });
        }
        until("all have joined", || cache.stats().joined.get() == 19).await;
        gate.close();
        for caller in callers {
            assert!(caller.await.unwrap().is_some());
        }
        assert_eq!(begun.load(Ordering::SeqCst), 2, "{}", place.name());
        assert_eq!(counted(&cache), (0, 20), "{}", place.name());
    }
}

/// An object that is due is a hit, and what loads it anew in the background looks for itself.
#[tokio::test]
async fn a_refresh_counts_for_nobody() {
    let place = Place::memory();
    let Place::Memory(_, hand) = &place else { unreachable!() };
    for lease in [std::time::Duration::ZERO, LONG] {
        let options = LoadOptions::new().refresh_ahead(LONG / 2).lease(lease);
        let cache = place.cache(options).await;
        assert_eq!(cache.set(user(1, &[])).await, Stored::Accepted);
        hand.advance(LONG / 2);
        assert!(load(&cache, 1).await.is_some());
        until("it was loaded anew", || cache.stats().fill(Stored::Accepted).get() == 1).await;
        assert_eq!(cache.stats().refreshes.get(), 1);
        assert_eq!(counted(&cache), (1, 0));
    }
}
