//! The auditor finds a cache that serves what has changed, and accuses no other.
//!
//! Time is tokio's, paused: it advances when everybody waits, so that a grace is as long as it says, however slow the machine is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::audit::{Audit, AuditOptions, Findings};
use larder::connector::memory::{Memory, MemoryOptions};
use larder::contract::{Answer, Connector, Fill, KeyBuf, KeyRef, Lookup, Object, Pruned, Status, Value};
use larder::{Cache, CacheOptions, Caches, Delivery, Entry, Error, Miss, Schema, Stored, Ticket};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, advance, sleep};

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(100);

/// Without a version: a state may come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "plain")]
struct Plain {
    #[key(primary)]
    id: u32,
    #[key(index)]
    host: String,
    /// In another order each time.
    rights: HashMap<String, bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "versioned")]
struct Versioned {
    #[key(primary)]
    id: u32,
    #[version]
    version: u64,
}

fn plain(id: u32, right: bool) -> Plain {
    let rights = (0..20).map(|n| (n.to_string(), right)).collect();
    Plain { id, host: format!("{id}.example"), rights }
}

/// The system of record.
struct Source<E>(Arc<Mutex<BTreeMap<u32, E>>>);

impl<E> Clone for Source<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Clone> Source<E> {
    fn of(rows: impl IntoIterator<Item = (u32, E)>) -> Self {
        Self(Arc::new(Mutex::new(rows.into_iter().collect())))
    }

    fn read(&self, id: u32) -> Option<E> {
        self.0.lock().unwrap().get(&id).cloned()
    }

    /// Answers what was there before.
    fn write(&self, id: u32, row: E) -> Option<E> {
        self.0.lock().unwrap().insert(id, row)
    }

    fn delete(&self, id: u32) -> Option<E> {
        self.0.lock().unwrap().remove(&id)
    }
}

fn options() -> AuditOptions {
    AuditOptions::new().share(1.0).grace(GRACE).per_second(1000)
}

/// What a connector gets wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    Nothing,
    /// Invalidations are answered, and dropped.
    DropsInvalidations,
    /// Invalidations are fenced, and what had been read once is served for ever.
    Remembers,
}

/// The memory connector, with a flaw.
struct Flawed {
    memory: Memory,
    flaw: Flaw,
    remembered: Mutex<HashMap<KeyBuf, Value>>,
}

impl Flawed {
    fn cache<E: Entry>(flaw: Flaw) -> Cache<E> {
        let schema = Schema::of::<E>();
        let memory = Memory::open(schema.clone(), MemoryOptions::default()).unwrap();
        Cache::new(Arc::new(Self { memory, flaw, remembered: Mutex::default() }), schema).unwrap()
    }
}

impl Connector for Flawed {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        let mut remembered = self.remembered.lock().unwrap();
        if let Some(value) = remembered.get(&key.to_buf()) {
            return Answer::now(Ok(value.clone()));
        }
        let found = self.memory.get(key);
        if let (Flaw::Remembers, Answer::Now(Some(Ok(value)))) = (self.flaw, &found) {
            remembered.insert(key.to_buf(), value.clone());
        }
        found
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        self.memory.lookup(key)
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.memory.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        self.memory.fill(object, ticket)
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        self.memory.put(object, ticket)
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        if self.flaw == Flaw::DropsInvalidations {
            return Answer::now(Ok(Delivery::Applied));
        }
        self.memory.invalidate(keys, floor)
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.memory.delete(keys)
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.remembered.lock().unwrap().clear();
        self.memory.truncate()
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        self.memory.prune()
    }

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        self.memory.untouched(keys, since)
    }

    fn status(&self) -> Status {
        self.memory.status()
    }
}

fn audited(cache: &Cache<Plain>, source: &Source<Plain>, options: AuditOptions) -> Audit {
    let source = source.clone();
    cache.audited(options, move |served| std::future::ready(Ok::<_, String>(source.read(served.id)))).unwrap()
}

/// A reader who comes again and again.
async fn read(cache: &Cache<Plain>, lasting: Duration) {
    let until = Instant::now() + lasting;
    while Instant::now() < until {
        cache.get(Plain::HOST, "1.example").await;
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_drops_invalidations_is_found_out() {
    for flaw in [Flaw::DropsInvalidations, Flaw::Remembers] {
        let (cache, source) = (Flawed::cache(flaw), Source::of([(1, plain(1, true))]));
        let audit = audited(&cache, &source, options());
        cache.set(plain(1, true)).await;
        read(&cache, SECOND).await;
        let before = audit.findings();
        assert!(before.current > 10 && before.stale == 0, "{flaw:?}: {before:?}");
        source.write(1, plain(1, false));
        cache.invalidate(Plain::ID, [1_u32]).await.unwrap();
        read(&cache, SECOND).await;
        let found = audit.findings();
        assert!(found.stale > 0, "{flaw:?}: {found:?}");
        assert!((GRACE..SECOND).contains(&found.worst), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_from_the_source_is_stale_as_well() {
    let (cache, source) = (Flawed::cache(Flaw::DropsInvalidations), Source::of([(1, plain(1, true))]));
    let audit = audited(&cache, &source, options());
    cache.set(plain(1, true)).await;
    source.delete(1);
    cache.invalidate(Plain::ID, [1_u32]).await.unwrap();
    read(&cache, SECOND).await;
    assert!(audit.findings().stale > 0, "{:?}", audit.findings());
}

#[tokio::test(start_paused = true)]
async fn a_lower_version_is_stale_and_a_higher_one_is_not() {
    let cache: Cache<Versioned> = Flawed::cache(Flaw::DropsInvalidations);
    let source = Source::of([(1, Versioned { id: 1, version: 5 })]);
    let reading = source.clone();
    let audit =
        cache.audited(options(), move |served| std::future::ready(Ok::<_, String>(reading.read(served.id)))).unwrap();
    cache.set(Versioned { id: 1, version: 6 }).await;
    // A source that lags behind.
    cache.get(Versioned::ID, 1_u32).await;
    sleep(SECOND).await;
    assert_eq!(audit.findings(), Findings { current: 1, ..Findings::default() });
    source.write(1, Versioned { id: 1, version: 7 });
    cache.get(Versioned::ID, 1_u32).await;
    sleep(SECOND).await;
    assert_eq!(audit.findings().stale, 1);
    assert_eq!(audit.findings().worst, GRACE);
}

/// Many writers who commit, and invalidate within the grace; the same states come back again and again, keys move, objects come
/// and go. Each difference that the auditor sees is one that had been there for less than the grace.
#[tokio::test(start_paused = true)]
async fn writers_who_behave_are_never_accused() {
    const OBJECTS: u32 = 8;
    for seed in 0..3 {
        fastrand::seed(seed);
        let cache: Cache<Plain> = Flawed::cache(Flaw::Nothing);
        let source = Source::of((0..OBJECTS).map(|id| (id, plain(id, true))));
        let audit = audited(&cache, &source, options().concurrency(64));
        let until = Instant::now() + 10 * SECOND;
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let (cache, source) = (cache.clone(), source.clone());
            tasks.push(tokio::spawn(async move {
                while Instant::now() < until {
                    let id = fastrand::u32(..OBJECTS);
                    let replaced = match fastrand::u32(..8) {
                        0..3 => source.delete(id),
                        3 => source.write(id, Plain { host: "shared.example".into(), ..plain(id, true) }),
                        _ => source.write(id, plain(id, fastrand::bool())),
                    };
                    // Within the grace. What was not there before is in no cache.
                    if replaced.is_some() {
                        sleep(GRACE.mul_f64(fastrand::f64() * 0.99)).await;
                        cache.invalidate(Plain::ID, [id]).await.unwrap();
                    }
                    sleep(Duration::from_millis(fastrand::u64(..300))).await;
                }
            }));
        }
        for _ in 0..8 {
            let (cache, source) = (cache.clone(), source.clone());
            tasks.push(tokio::spawn(async move {
                while Instant::now() < until {
                    let id = fastrand::u32(..OBJECTS);
                    let source = source.clone();
                    let load = move |id| async move {
                        let row = source.read(id);
                        sleep(Duration::from_millis(fastrand::u64(..20))).await;
                        Ok::<_, String>(row)
                    };
                    let _ = cache.get_or_load(Plain::ID, id, load).await;
                    cache.get(Plain::HOST, "shared.example").await;
                    sleep(Duration::from_millis(fastrand::u64(..10))).await;
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        sleep(10 * GRACE).await;
        let found = audit.findings();
        assert_eq!(found.stale, 0, "seed {seed}: {found:?}");
        assert!(found.current > 500, "seed {seed}: {found:?}");
    }
}

/// The same with versions, which only ever rise.
#[tokio::test(start_paused = true)]
async fn writers_who_behave_are_never_accused_by_their_versions() {
    for seed in 0..3 {
        fastrand::seed(seed);
        let cache: Cache<Versioned> = Flawed::cache(Flaw::Nothing);
        let source = Source::of((0..4).map(|id| (id, Versioned { id, version: 0 })));
        let reading = source.clone();
        let audit = cache
            .audited(options().concurrency(64), move |served| {
                std::future::ready(Ok::<_, String>(reading.read(served.id)))
            })
            .unwrap();
        let until = Instant::now() + 10 * SECOND;
        let mut tasks = Vec::new();
        for id in 0..4_u32 {
            let (writing, writer) = (source.clone(), cache.clone());
            tasks.push(tokio::spawn(async move {
                for version in 1.. {
                    if Instant::now() > until {
                        return;
                    }
                    writing.write(id, Versioned { id, version });
                    sleep(GRACE.mul_f64(fastrand::f64() * 0.99)).await;
                    writer.invalidate(Versioned::ID, [id]).await.unwrap();
                    sleep(Duration::from_millis(fastrand::u64(..300))).await;
                }
            }));
            let (reading, reader) = (source.clone(), cache.clone());
            tasks.push(tokio::spawn(async move {
                while Instant::now() < until {
                    let reading = reading.clone();
                    let load = move |id| std::future::ready(Ok::<_, String>(reading.read(id)));
                    let _ = reader.get_or_load(Versioned::ID, id, load).await;
                    sleep(Duration::from_millis(fastrand::u64(..10))).await;
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        sleep(10 * GRACE).await;
        let found = audit.findings();
        assert_eq!((found.stale, found.undecided), (0, 0), "seed {seed}: {found:?}");
        assert!(found.current > 500, "seed {seed}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_was_found_out_is_bypassed_for_a_while_or_until_it_is_reset() {
    for (bypass, reset) in [(5 * SECOND, false), (Duration::MAX, true)] {
        let (cache, source) = (Flawed::cache(Flaw::DropsInvalidations), Source::of([(1, plain(1, false))]));
        let audit = audited(&cache, &source, options().bypass(bypass));
        cache.set(plain(1, true)).await;
        assert!(cache.get(Plain::ID, 1_u32).await.is_some());
        sleep(SECOND).await;
        assert!(audit.bypasses());
        assert!(cache.get(Plain::ID, 1_u32).await.is_none());
        assert!(cache.get(Plain::HOST, "1.example").await.is_none());
        assert_eq!(cache.get_many(Plain::ID, [1_u32]).await, [None]);
        assert_eq!(cache.stats().miss(Miss::Bypassed).get(), 3);
        // A load goes to the source, and its fill is as good as ever.
        let reading = source.clone();
        let load = move |id| std::future::ready(Ok::<_, String>(reading.read(id)));
        assert_eq!(cache.get_or_load(Plain::ID, 1_u32, load).await.unwrap().as_deref(), Some(&plain(1, false)));
        assert_eq!(cache.stats().misses(), 4, "one for each call");
        if reset {
            advance(1000 * SECOND).await;
            assert!(audit.bypasses());
            audit.reset();
        } else {
            advance(5 * SECOND).await;
        }
        assert!(!audit.bypasses());
        assert_eq!(cache.get(Plain::ID, 1_u32).await.as_deref(), Some(&plain(1, false)));
        sleep(SECOND).await;
        assert!(!audit.bypasses(), "it is current now");
    }
}

/// The request is answered, and the auditor rests, longer each time.
#[tokio::test(start_paused = true)]
async fn a_source_that_fails_panics_or_hangs_only_pauses_the_auditor() {
    for way in 0..4 {
        let cache: Cache<Plain> = Flawed::cache(Flaw::Nothing);
        let (reads, well) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (reading, is_well) = (reads.clone(), well.clone());
        let source = move |served: Arc<Plain>| {
            reading.fetch_add(1, Ordering::SeqCst);
            let well = is_well.load(Ordering::SeqCst);
            assert!(well || way != 0, "before it begins");
            async move {
                match way {
                    _ if well => Ok(Some(Plain::clone(&served))),
                    1 => panic!("while it runs"),
                    2 => std::future::pending().await,
                    _ => Err("no connection"),
                }
            }
        };
        let audit = cache.audited(options(), source).unwrap();
        cache.set(plain(1, true)).await;
        let begun = Instant::now();
        read(&cache, 60 * SECOND).await;
        assert!(begun.elapsed() < 61 * SECOND, "nobody waits for the auditor");
        let tried = reads.load(Ordering::SeqCst);
        // Once every 1, 2, 4, … seconds, and as many at once as hang together.
        assert!((4..=32).contains(&tried), "way {way}: {tried} reads");
        assert!(audit.findings().failed >= 4 && audit.findings().skipped > 1000, "{:?}", audit.findings());
        assert_eq!(audit.findings().current, 0);
        well.store(true, Ordering::SeqCst);
        read(&cache, 90 * SECOND).await;
        assert!(audit.findings().current > 100, "way {way}: {:?}", audit.findings());
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_audit_ends_it_with_all_that_is_under_way() {
    let (cache, source) = (Flawed::cache(Flaw::DropsInvalidations), Source::of([(1, plain(1, false))]));
    let audit = audited(&cache, &source, options().bypass(Duration::MAX));
    cache.set(plain(1, true)).await;
    cache.get(Plain::ID, 1_u32).await;
    sleep(GRACE / 2).await;
    drop(audit);
    sleep(SECOND).await;
    assert_eq!(Arc::strong_count(&source.0), 1, "nobody holds the source any more");
    assert!(cache.get(Plain::ID, 1_u32).await.is_some());
    // The bypass goes as well.
    let audit = audited(&cache, &source, options().bypass(Duration::MAX));
    cache.get(Plain::ID, 1_u32).await;
    sleep(SECOND).await;
    assert!(audit.bypasses());
    drop(audit);
    assert!(cache.get(Plain::ID, 1_u32).await.is_some());
}

/// A cache ends with its last clone, audit or not.
#[tokio::test(start_paused = true)]
async fn an_audit_keeps_no_cache_alive() {
    let (cache, source) = (Flawed::cache(Flaw::Nothing), Source::of([(1, plain(1, true))]));
    let audit = audited(&cache, &source, options());
    let object = Arc::new(plain(1, true));
    cache.set(object.clone()).await;
    cache.get(Plain::ID, 1_u32).await;
    sleep(SECOND).await;
    drop(cache);
    assert_eq!(Arc::strong_count(&object), 1);
    assert!(!audit.bypasses());
}

#[tokio::test(start_paused = true)]
async fn a_second_auditor_takes_the_place_of_the_first() {
    let (cache, source) = (Flawed::cache(Flaw::Nothing), Source::of([(1, plain(1, true))]));
    cache.set(plain(1, true)).await;
    let first = audited(&cache, &source, options());
    let second = audited(&cache, &source, options());
    read(&cache, SECOND).await;
    drop(first);
    let before = second.findings();
    assert!(before.current > 0);
    read(&cache, SECOND).await;
    assert!(second.findings().current > before.current);
}

#[tokio::test(start_paused = true)]
async fn a_share_of_the_hits_is_examined_at_no_more_than_the_rate() {
    let (cache, source) = (Flawed::cache(Flaw::Nothing), Source::of([(1, plain(1, true))]));
    cache.set(plain(1, true)).await;
    fastrand::seed(7);
    let audit = audited(&cache, &source, options().share(0.25));
    read(&cache, 100 * SECOND).await;
    let found = audit.findings();
    assert!((2000..3000).contains(&(found.current + found.skipped)), "a quarter of 10,000: {found:?}");
    drop(audit);
    let audit = audited(&cache, &source, options().per_second(5));
    read(&cache, 100 * SECOND).await;
    assert!((490..=505).contains(&audit.findings().current), "{:?}", audit.findings());
}

#[tokio::test(start_paused = true)]
async fn the_options_of_a_cache_say_what_is_audited() {
    let options = CacheOptions::on("memory");
    let audited = options.clone().audit_share(1.0).audit_grace(SECOND / 10).audit_bypass(60 * SECOND);
    let caches = Caches::builder().cache::<Plain>(audited).open().await.unwrap();
    let source = Source::of([(1, plain(1, false))]);
    let reading = source.clone();
    let audit = caches
        .audit::<Plain, _, _, _>(move |served| std::future::ready(Ok::<_, String>(reading.read(served.id))))
        .unwrap();
    let cache: Cache<Plain> = caches.open().unwrap();
    // A writer that does not behave: it says that this is current.
    cache.set(plain(1, true)).await;
    cache.get(Plain::ID, 1_u32).await;
    sleep(SECOND).await;
    assert_eq!((audit.findings().stale, audit.bypasses()), (1, true));
    advance(60 * SECOND).await;
    assert!(!audit.bypasses());

    let off = Caches::builder().cache::<Plain>(options).open().await.unwrap();
    let audit = off.audit::<Plain, _, _, _>(|_| std::future::ready(Ok::<_, String>(None))).unwrap();
    let cache: Cache<Plain> = off.open().unwrap();
    cache.set(plain(1, true)).await;
    cache.get(Plain::ID, 1_u32).await;
    sleep(20 * SECOND).await;
    assert_eq!(audit.findings(), Findings::default(), "a share of 0 is the default");
}

#[test]
fn an_audit_outside_a_runtime_is_refused() {
    let cache: Cache<Plain> = Flawed::cache(Flaw::Nothing);
    let refused = cache.audited(options(), |_| std::future::ready(Ok::<_, String>(None)));
    assert!(refused.is_err());
}
