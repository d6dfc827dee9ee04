//! Options with values that nobody expects, from code: each is refused by name, or works.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end where what they expect does not hold")]

#[cfg(feature = "yaml")]
use larder::Config;
use larder::audit::{AuditError, AuditOptions};
use larder::breaker::{Breaker, BreakerOptions, HalfOpen};
use larder::clock::Clock;
use larder::connector::memory::{Memory, MemoryOptions};
use larder::connector::noop::Noop;
use larder::{Cache, Entry, Keys, LoadOptions, OptionError, Schema};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

const ZERO: Duration = Duration::ZERO;
const SHORT: Duration = Duration::from_nanos(1);
const HOUR: Duration = Duration::from_secs(3600);
const MAX: Duration = Duration::MAX;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "row")]
struct Row {
    #[key(primary)]
    id: u32,
    #[key(index = "host")]
    host: String,
}

fn row(id: u32) -> Row {
    Row { id, host: format!("{id}.example") }
}

/// What is said of a refusal, which names the option and what is accepted; none: it was not refused.
fn said(refused: Result<(), OptionError>) -> Option<String> {
    refused.err().map(|error| {
        let text = error.to_string();
        assert!(text.starts_with(error.option()) && text.len() > error.option().len() + 10, "{text}");
        text
    })
}

/// What is not refused is right in every way that can be told: what is set is got, by both keys, and what is loaded is filled.
async fn works(what: &str, cache: &Cache<Row>) {
    let load = |id: u32| cache.get_or_load(Row::ID, id, |id| async move { Ok::<_, String>(Some(row(id))) });
    let none = |id: u32| cache.get_or_load(Row::ID, id, |_| async { Ok::<_, String>(None) });
    // An age of a nanosecond is over before anybody can look.
    let lives =
        [cache.schema().max_age(), cache.schema().last_use_age()].iter().all(|age| age.is_zero() || *age > HOUR / 2);
    assert_eq!(cache.set(row(1)).await, larder::Stored::Accepted, "{what}");
    if lives {
        assert_eq!(cache.get(Row::ID, 1).await.as_deref(), Some(&row(1)), "{what}");
        assert_eq!(cache.get(Row::HOST, "1.example").await.as_deref(), Some(&row(1)), "{what}");
    }
    assert_eq!(load(1).await.unwrap().as_deref(), Some(&row(1)), "{what}");
    assert_eq!(load(2).await.unwrap().as_deref(), Some(&row(2)), "{what}");
    assert_eq!(none(3).await.unwrap(), None, "{what}");
    assert_eq!(none(3).await.unwrap(), None, "{what}");
    cache.invalidate(Row::HOST, ["1.example", "2.example"]).await.unwrap();
    assert_eq!(cache.get(Row::ID, 1).await, None, "{what}");
    assert_eq!(load(2).await.unwrap().as_deref(), Some(&row(2)), "{what}");
}

/// Values of [`LoadOptions`] and ages. Refused: what is said, else everything has to work.
fn schemas() -> Vec<(&'static str, Schema, Option<&'static str>)> {
    let plain = || Schema::of::<Row>();
    let ages = |max_age, last_use_age| plain().ages(max_age, last_use_age);
    let loading = |options| ages(HOUR, ZERO).loading(options);
    let off = LoadOptions::default;
    let named = |name: &str| plain().named(name);
    macro_rules! indexed {
        ($($name:literal),*) => {{
            #[derive(Serialize, Deserialize)]
            struct Odd;

            impl Entry for Odd {
                const CACHE: &'static str = "row";
                const INDEXES: &'static [&'static str] = &[$($name),*];

                fn keys(&self, _: &mut Keys<Self>) {}
            }

            Schema::of::<Odd>()
        }};
    }
    const NAME: &str = "give 1 to 128 letters, digits, `_`, `-` or `.`";
    const JITTER: &str = "give a part of the max age from 0 to 1, such as 0.1";
    let mut rows = vec![
        ("nothing", plain(), None),
        // Ages.
        ("max_age 1 ns", ages(SHORT, ZERO), None),
        ("max_age MAX", ages(MAX, ZERO), None),
        ("last_use_age 1 ns", ages(ZERO, SHORT), None),
        ("last_use_age MAX", ages(ZERO, MAX), None),
        ("both MAX", ages(MAX, MAX), None),
        ("both 1 ns", ages(SHORT, SHORT), None),
        ("last use over max", ages(HOUR, MAX), Some("last_use_age contradicts `max_age`: a last-use age of")),
        // Names.
        ("a long name", named(&"a".repeat(128)), None),
        ("signs", named("-._"), None),
        ("no object at all", plain().max_object_size(0), Some("max_object_size is `0`: give a size of 1 B or more")),
        ("objects of any size", plain().max_object_size(u64::MAX), None),
        ("an index with a colon", indexed!("id", "a:b"), Some("indexes is `a:b`: give")),
        ("an index without a name", indexed!("id", ""), Some("indexes is ``: give")),
        ("two indexes of a name", indexed!("id", "id"), Some("indexes is `id`: give each index a name of its own")),
        // Loading.
        ("lease 1 ns", loading(LoadOptions { lease: SHORT, ..off() }), None),
        ("lease MAX", loading(LoadOptions { lease: MAX, ..off() }), None),
        ("refresh_ahead 1 ns", loading(LoadOptions { refresh_ahead: SHORT, ..off() }), None),
        (
            "refresh_ahead MAX",
            loading(LoadOptions { refresh_ahead: MAX, ..off() }),
            Some("refresh_ahead contradicts `max_age`"),
        ),
        (
            "refresh_ahead alone",
            plain().loading(LoadOptions { refresh_ahead: HOUR, ..off() }),
            Some("refresh_ahead contradicts `max_age`"),
        ),
        ("serve_expired 1 ns", loading(LoadOptions { serve_expired: SHORT, ..off() }), None),
        ("serve_expired MAX", loading(LoadOptions { serve_expired: MAX, ..off() }), None),
        ("serve_expired MAX of MAX", ages(MAX, ZERO).loading(LoadOptions { serve_expired: MAX, ..off() }), None),
        (
            "serve_expired alone",
            plain().loading(LoadOptions { serve_expired: HOUR, ..off() }),
            Some("serve_expired contradicts `max_age`"),
        ),
        (
            "soft_timeout alone",
            loading(LoadOptions { soft_timeout: MAX, ..off() }),
            Some("soft_timeout contradicts `serve_expired`"),
        ),
        ("soft_timeout MAX", loading(LoadOptions { soft_timeout: MAX, serve_expired: MAX, ..off() }), None),
        ("soft_timeout 1 ns", loading(LoadOptions { soft_timeout: SHORT, serve_expired: SHORT, ..off() }), None),
        (
            "soft over hard",
            loading(LoadOptions { soft_timeout: HOUR, hard_timeout: HOUR, serve_expired: HOUR, ..off() }),
            Some("soft_timeout contradicts `hard_timeout`"),
        ),
        ("hard_timeout MAX", loading(LoadOptions { hard_timeout: MAX, ..off() }), None),
        ("negative_age 1 ns", loading(LoadOptions { negative_age: SHORT, ..off() }), None),
        ("negative_age MAX", loading(LoadOptions { negative_age: MAX, ..off() }), None),
        ("jitter 1", loading(LoadOptions { jitter: 1.0, ..off() }), None),
        ("jitter 1 of MAX", ages(MAX, ZERO).loading(LoadOptions { jitter: 1.0, ..off() }), None),
        ("jitter 1 of 1 ns", ages(SHORT, ZERO).loading(LoadOptions { jitter: 1.0, ..off() }), None),
        ("jitter tiny", loading(LoadOptions { jitter: f64::MIN_POSITIVE, ..off() }), None),
        ("jitter alone", plain().loading(LoadOptions { jitter: 0.1, ..off() }), Some("jitter contradicts `max_age`")),
        (
            "everything MAX",
            ages(MAX, MAX).loading(LoadOptions {
                lease: MAX,
                serve_expired: MAX,
                soft_timeout: HOUR,
                hard_timeout: MAX,
                negative_age: MAX,
                jitter: 1.0,
                ..off()
            }),
            None,
        ),
    ];
    for name in ["", "a:b", ":", "{a}", "a*", "a b", "a\nb", "a\0b", "größe", "a/b"] {
        rows.push((name, named(name), Some(NAME)));
    }
    rows.push(("too long a name", named(&"a".repeat(129)), Some(NAME)));
    rows.push(("far too long a name", named(&":".repeat(1_000_000)), Some(NAME)));
    for jitter in [-0.1, -1.0, 1.000_001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
        rows.push(("jitter", loading(LoadOptions { jitter, ..off() }), Some(JITTER)));
    }
    rows
}

#[tokio::test]
async fn each_option_of_a_cache_is_refused_by_name_or_works_in_memory() {
    for (what, schema, refused) in schemas() {
        let text = said(schema.validate());
        let opened = Memory::open(schema.clone(), MemoryOptions::default());
        assert_eq!(opened.as_ref().err().map(ToString::to_string), text, "{what}");
        match (text, refused) {
            (Some(text), Some(refused)) => {
                assert!(text.contains(refused) && text.len() < 400, "{what}: {text}");
            }
            (None, None) => works(what, &Cache::new(Arc::new(opened.unwrap()), schema).unwrap()).await,
            (text, refused) => panic!("{what}: {text:?}, and not {refused:?}"),
        }
    }
}

/// A connector of somebody else's may ask nobody. Then nothing is right, but nothing panics.
#[tokio::test]
async fn no_option_makes_a_cache_panic_that_was_not_asked() {
    for (what, schema, _) in schemas() {
        assert!(!schema.lifetime().is_zero() || schema.max_age().is_zero(), "{what}");
        let Ok(cache) = Cache::<Row>::new(Arc::new(Noop), schema) else {
            assert!(what.contains("index"), "{what}: the others are of this entry");
            continue;
        };
        let found = cache.get_or_load(Row::ID, 1_u32, |id| async move { Ok::<_, String>(Some(row(id))) }).await;
        assert_eq!(found.unwrap().as_deref(), Some(&row(1)), "{what}");
    }
}

/// The time until which a caller waits was computed by a sum that panics.
#[tokio::test]
async fn a_caller_with_endless_patience_waits_for_the_loader() {
    let (clock, hand) = Clock::manual();
    let options = LoadOptions { serve_expired: MAX, soft_timeout: MAX, ..LoadOptions::default() };
    let schema = Schema::of::<Row>().ages(HOUR, ZERO).loading(options);
    let memory = Memory::on_clock(schema.clone(), MemoryOptions::new(), clock).unwrap();
    let cache: Cache<Row> = Cache::new(Arc::new(memory), schema).unwrap();
    cache.set(row(1)).await;
    hand.advance(2 * HOUR);
    let newer = Row { host: "new.example".into(), ..row(1) };
    let found = cache.get_or_load(Row::ID, 1_u32, |_| async move { Ok::<_, String>(Some(newer)) }).await;
    assert_eq!(found.unwrap().unwrap().host, "new.example");
}

/// A lifetime of zero would never end.
#[test]
fn no_jitter_makes_a_lifetime_endless_or_longer() {
    for max_age in [SHORT, Duration::from_micros(1), Duration::from_millis(1), Duration::from_millis(3), HOUR, MAX] {
        let least = Duration::from_millis(1);
        for jitter in [0.0, f64::MIN_POSITIVE, 0.5, 1.0, 2.0, -1.0, f64::NAN, f64::INFINITY] {
            let schema =
                Schema::of::<Row>().ages(max_age, ZERO).loading(LoadOptions { jitter, ..LoadOptions::default() });
            for _ in 0..10_000 {
                let lifetime = schema.lifetime();
                assert!((least..=max_age.max(least)).contains(&lifetime), "{lifetime:?} of {max_age:?} by {jitter}");
            }
        }
    }
    assert_eq!(Schema::of::<Row>().lifetime(), ZERO, "without a limit");
}

#[tokio::test]
async fn each_option_of_the_memory_connector_is_refused_by_name_or_works() {
    let none = MemoryOptions::new().max_objects(0);
    assert_eq!(said(none.validate()).as_deref(), Some("max_objects is `0`: give a number, 1 or more"));
    assert!(Memory::open(Schema::of::<Row>(), none).is_err());
    for (max_objects, max_bytes) in [(u64::MAX, 0), (u64::MAX, u64::MAX), (10, u64::MAX), (3, 10_000)] {
        let options = MemoryOptions::new().max_objects(max_objects).max_bytes(max_bytes);
        let schema = Schema::of::<Row>().ages(HOUR, ZERO);
        let memory = Memory::open(schema.clone(), options).unwrap();
        works(&format!("{max_objects} objects, {max_bytes} bytes"), &Cache::new(Arc::new(memory), schema).unwrap())
            .await;
    }
    let (clock, hand) = Clock::manual();
    let schema = Schema::of::<Row>().ages(MAX, ZERO);
    let memory = Memory::on_clock(schema.clone(), MemoryOptions::new(), clock.clone()).unwrap();
    let cache: Cache<Row> = Cache::new(Arc::new(memory), schema).unwrap();
    cache.set(row(1)).await;
    hand.advance(HOUR);
    assert!(cache.get(Row::ID, 1).await.is_some());
    let before = clock.now();
    hand.advance(MAX);
    assert!(clock.now() > before, "a clock that is moved too far does not go back");
}

fn breakers() -> Vec<(&'static str, BreakerOptions, Option<&'static str>)> {
    let plain = BreakerOptions::default;
    let ratio = "give 0 (never) to 1";
    let mut rows = vec![
        ("window MAX", plain().window(MAX), None),
        ("window 0", plain().window(ZERO), None),
        ("window 1 ns", plain().window(SHORT), Some("window is `1ns`: give 0 (never forgets) or at least 10 ms")),
        ("min_calls 0", plain().min_calls(0), Some("min_calls is `0`: give a number, 1 or more")),
        ("min_calls MAX", plain().min_calls(u64::MAX), None),
        ("consecutive_failures 0", plain().consecutive_failures(0), None),
        ("consecutive_failures MAX", plain().consecutive_failures(u32::MAX), None),
        ("slow_call 1 ns", plain().slow_call(SHORT), None),
        ("slow_call MAX", plain().slow_call(MAX), None),
        ("open 0", plain().open(ZERO), Some("open is `0`: give a duration above 0")),
        ("open 1 ns", plain().open(SHORT), None),
        ("open over open_max", plain().open(MAX), None),
        ("open_max 0", plain().open_max(ZERO), None),
        ("open_refused 0", plain().open_refused(ZERO), Some("open_refused is `0`: give a duration above 0")),
        ("open_refused MAX", plain().open_refused(MAX), None),
        ("open MAX", plain().open(MAX).open_max(MAX), None),
        ("healthy_after MAX", plain().healthy_after(MAX), None),
        ("nobody tries", plain().half_open(HalfOpen::Requests(0)), Some("half_open is `0`: give probes, or")),
        ("everybody tries", plain().half_open(HalfOpen::Requests(u32::MAX)), Some("half_open is `4294967295`: give")),
        ("many try", plain().half_open(HalfOpen::Requests(16_777_215)), None),
        ("half_open_successes 0", plain().half_open_successes(0), Some("half_open_successes is `0`: give a number, 1")),
        ("half_open_successes MAX", plain().half_open_successes(u32::MAX), None),
        ("trial_timeout MAX", plain().trial_timeout(MAX), None),
        ("ramp MAX", plain().ramp(MAX), None),
        ("max_in_flight MAX", plain().max_in_flight(usize::MAX), None),
    ];
    for value in [-0.1, 1.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        rows.push(("failure_ratio", plain().failure_ratio(value), Some(ratio)));
        rows.push(("slow_ratio", plain().slow_ratio(value), Some(ratio)));
    }
    rows
}

#[test]
fn each_setting_of_a_breaker_is_refused_by_name_or_works() {
    for (what, config, refused) in breakers() {
        let (clock, hand) = Clock::manual();
        let breaker = Breaker::new("test", config.clone(), clock);
        assert_eq!(said(config.validate()), breaker.as_ref().err().map(ToString::to_string), "{what}");
        match (breaker, refused) {
            (Err(error), Some(refused)) => assert!(error.to_string().contains(refused), "{what}: {error}"),
            (Ok(breaker), None) => {
                // Through every state, however long they last.
                for _ in 0..100 {
                    breaker.permit().into_iter().for_each(|permit| permit.failure("reset"));
                    breaker.permit().into_iter().for_each(|permit| permit.success_after(HOUR));
                    breaker.permit().into_iter().for_each(|permit| permit.refusal("password"));
                    hand.advance(breaker.next_probe_in().unwrap_or(HOUR));
                    breaker.probe().into_iter().for_each(|permit| permit.success());
                    let _ = (breaker.snapshot(), breaker.ramp_admits());
                }
                breaker.reset();
                assert!(breaker.permit_past_ramp().is_ok(), "{what}");
            }
            (breaker, refused) => panic!("{what}: {breaker:?}, and not {refused:?}"),
        }
    }
}

#[tokio::test]
async fn each_option_of_an_audit_is_refused_by_name_or_works() {
    let plain = || AuditOptions { share: 1.0, ..AuditOptions::default() };
    let share = "give the part of the hits, 0 (none) to 1";
    for (options, refused) in [
        (AuditOptions { share: -0.1, ..plain() }, Some(share)),
        (AuditOptions { share: 1.1, ..plain() }, Some(share)),
        (AuditOptions { share: f64::NAN, ..plain() }, Some(share)),
        (AuditOptions { share: 0.0, ..plain() }, None),
        (AuditOptions { grace: ZERO, ..plain() }, Some("grace is `0`: give a duration above 0")),
        (AuditOptions { grace: SHORT, ..plain() }, None),
        (AuditOptions { grace: MAX, ..plain() }, None),
        (AuditOptions { source_timeout: ZERO, ..plain() }, Some("source_timeout is `0`: give a duration above 0")),
        (AuditOptions { source_timeout: MAX, ..plain() }, None),
        (AuditOptions { concurrency: 0, ..plain() }, Some("concurrency is `0`: give a number, 1 to 1000000")),
        (AuditOptions { concurrency: usize::MAX, ..plain() }, Some("concurrency is `18446744073709551615`: give")),
        (AuditOptions { concurrency: 1_000_000, ..plain() }, None),
        (AuditOptions { per_second: 0, ..plain() }, Some("per_second is `0`: give a number, 1 or more")),
        (AuditOptions { per_second: u32::MAX, ..plain() }, None),
        (AuditOptions { bypass: MAX, ..plain() }, None),
    ] {
        let schema = Schema::of::<Row>();
        let cache =
            Cache::new(Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap();
        cache.set(row(1)).await;
        let audit = cache.audited(options, |served| async move { Ok::<_, String>(Some((*served).clone())) });
        match (audit, refused) {
            (Err(AuditError::Option(error)), Some(refused)) => {
                assert_eq!(said(options.validate()), Some(error.to_string()));
                assert!(error.to_string().contains(refused), "{error}");
            }
            (Ok(_audit), None) => {
                for _ in 0..100 {
                    assert!(cache.get(Row::ID, 1).await.is_some(), "{options:?}");
                    tokio::task::yield_now().await;
                }
            }
            (audit, refused) => panic!("{options:?}: {audit:?}, and not {refused:?}"),
        }
    }
}

/// The same value is refused from a file and from code, in the same words.
#[cfg(feature = "yaml")]
#[test]
fn a_file_and_code_are_refused_the_same_in_the_same_words() {
    let loading = |options| Schema::of::<Row>().ages(HOUR, ZERO).loading(options).validate();
    let off = LoadOptions::default;
    let from_code = [
        ("jitter: 1.5", loading(LoadOptions { jitter: 1.5, ..off() })),
        ("jitter: -1", loading(LoadOptions { jitter: -1.0, ..off() })),
        ("max_object_size: 0", Schema::of::<Row>().max_object_size(0).validate()),
        ("refresh_ahead: 2h", loading(LoadOptions { refresh_ahead: 2 * HOUR, ..off() })),
        ("last_use_age: 2h", Schema::of::<Row>().ages(HOUR, 2 * HOUR).validate()),
        ("soft_timeout: 1s", loading(LoadOptions { soft_timeout: Duration::from_secs(1), ..off() })),
        ("audit_share: 2", AuditOptions { share: 2.0, ..AuditOptions::default() }.validate()),
        ("audit_grace: 0", AuditOptions { grace: ZERO, ..AuditOptions::default() }.validate()),
    ];
    for (setting, from_code) in from_code {
        let from_code = said(from_code).unwrap();
        let yaml = format!("caches: {{ row: {{ connector: memory, max_age: 1h, {setting} }} }}");
        let from_file = Config::from_yaml(&yaml).unwrap_err().to_string();
        let plain = from_file.replace("line 1: ", "").replace("caches.row.", "").replace("defaults.", "");
        assert_eq!(plain.trim_start_matches("audit_"), from_code, "{setting}");
    }
}

#[cfg(feature = "redis")]
mod redis {
    use super::*;
    use larder::connector::Secret;
    use larder::connector::redis::inspect::{InspectError, Inspector};
    use larder::connector::redis::{Address, RedisOptions};
    use larder::connector::redis::{Redis, RedisError};
    use larder_testing::server::{Server, ServerOptions, required};
    use std::path::PathBuf;
    use std::time::Instant;

    /// Nothing is late or slow, however busy the machine.
    fn patient(server: &Server) -> RedisOptions {
        let address = Address::Unix(server.socket().to_owned());
        let mut config = RedisOptions::new(address).operation_timeout(Duration::from_secs(20));
        config.connect_timeout = Duration::from_secs(20);
        config.breaker.slow_call = ZERO;
        config.breaker.ramp = ZERO;
        config
    }

    /// Two caches of larder's own names share nothing, so what is opened for one never sees another's.
    fn alone(schema: Schema, place: usize) -> Schema {
        if schema.cache() == "row" { schema.named(format!("row{place}")) } else { schema }
    }

    async fn servers() -> Vec<Server> {
        let mut servers = Vec::new();
        for binary in required().unwrap() {
            servers.push(Server::start(&binary, ServerOptions::default()).await.unwrap());
        }
        servers
    }

    async fn readable(what: &str, cache: &Cache<Row>) {
        let begun = Instant::now();
        while !cache.status().readable {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: waited in vain until it can be read");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn each_option_of_a_cache_is_refused_by_name_or_works_on_a_server() {
        for server in servers().await {
            let redis = Redis::open(patient(&server)).unwrap();
            for (place, (what, schema, refused)) in schemas().into_iter().enumerate() {
                let schema = alone(schema, place);
                match (redis.connector(schema.clone()), refused) {
                    (Err(error), Some(refused)) => assert!(error.to_string().contains(refused), "{what}: {error}"),
                    (Ok(connector), None) => {
                        let cache = Cache::new(Arc::new(connector), schema).unwrap();
                        readable(what, &cache).await;
                        works(what, &cache).await;
                    }
                    (connector, refused) => panic!("{what}: {connector:?}, and not {refused:?}"),
                }
            }
        }
    }

    type Change = fn(&mut RedisOptions);

    /// Settings of the connector; each is refused with what is said, or works on a real server.
    const SETTINGS: &[(&str, Change, Option<&str>)] = &[
        (
            "database",
            |redis| redis.database = u32::MAX,
            Some("database is `4294967295`: give a number, 0 to 2147483647"),
        ),
        ("an empty user name", |redis| redis.username = Some(String::new()), Some("username is empty")),
        (
            "a user name alone",
            |redis| redis.username = Some("ann".into()),
            Some("username has a user name and no password"),
        ),
        ("an empty password", |redis| redis.password = Some(Secret::new("")), Some("password is empty")),
        (
            "an empty client name",
            |redis| redis.client_name = Some(String::new()),
            Some("client_name is ``: give letters"),
        ),
        (
            "a client name of two words",
            |redis| redis.client_name = Some("a b".into()),
            Some("client_name is `a b`: give letters"),
        ),
        (
            "a client name with a line",
            |redis| redis.client_name = Some("a\r\nb".into()),
            Some(r"client_name is `a\r\nb`: give"),
        ),
        ("a client name with signs", |redis| redis.client_name = Some("a:{b}*".into()), None),
        ("a long client name", |redis| redis.client_name = Some("a".repeat(10_000)), None),
        ("an empty prefix", |redis| redis.prefix = String::new(), Some("prefix is ``: give 1 to 128 letters")),
        ("a prefix with a colon", |redis| redis.prefix = "a:b".into(), Some("prefix is `a:b`: give 1 to 128 letters")),
        ("a prefix with braces", |redis| redis.prefix = "{a}".into(), Some("prefix is `{a}`: give 1 to 128 letters")),
        ("a prefix that is a pattern", |redis| redis.prefix = "*".into(), Some("prefix is `*`: give 1 to 128 letters")),
        ("a prefix with zero", |redis| redis.prefix = "a\0".into(), Some(r"prefix is `a\0`: give 1 to 128 letters")),
        (
            "a prefix of another language",
            |redis| redis.prefix = "größe".into(),
            Some("prefix is `größe`: give 1 to 128 letters"),
        ),
        ("too long a prefix", |redis| redis.prefix = "a".repeat(129), Some("…`: give 1 to 128 letters")),
        ("a long prefix", |redis| redis.prefix = "a".repeat(128), None),
        (
            "connect_timeout 0",
            |redis| redis.connect_timeout = ZERO,
            Some("connect_timeout is `0`: give a duration above 0 and up to 1h"),
        ),
        ("connect_timeout MAX", |redis| redis.connect_timeout = MAX, Some("connect_timeout is")),
        ("connect_timeout 1 h", |redis| redis.connect_timeout = HOUR, None),
        ("operation_timeout 0", |redis| redis.operation_timeout = ZERO, Some("operation_timeout is `0`: give")),
        ("operation_timeout MAX", |redis| redis.operation_timeout = MAX, Some("operation_timeout is")),
        ("operation_timeout 1 h", |redis| redis.operation_timeout = HOUR, None),
        ("wait_replicas MAX", |redis| redis.wait_replicas = u32::MAX, Some("wait_replicas is `4294967295`: give")),
        ("wait_timeout 0", |redis| redis.wait_timeout = ZERO, Some("wait_timeout is `0`: give")),
        ("wait_timeout MAX", |redis| redis.wait_timeout = MAX, Some("wait_timeout is")),
        ("journal_limit 0", |redis| redis.journal_limit = 0, Some("journal_limit is `0`: give a number, 1 or more")),
        ("journal_limit MAX", |redis| redis.journal_limit = usize::MAX, None),
        ("journal_bytes 0", |redis| redis.journal_bytes = 0, Some("journal_bytes is `0`: give a size of 1 B or more")),
        ("journal_bytes MAX", |redis| redis.journal_bytes = usize::MAX, None),
        ("shutdown_timeout MAX", |redis| redis.shutdown_timeout = MAX, None),
        ("hints 0", |redis| redis.hints = 0, Some("hints is `0`: give a number, 1 to 100000000")),
        ("hints MAX", |redis| redis.hints = usize::MAX, Some("hints is `18446744073709551615`: give a number, 1 to")),
        ("hints 1", |redis| redis.hints = 1, None),
        ("max_in_flight 0", |redis| redis.max_in_flight = 0, None),
        ("max_in_flight MAX", |redis| redis.max_in_flight = usize::MAX, None),
        ("prune_interval MAX", |redis| redis.prune_interval = MAX, None),
        (
            "the breaker",
            |redis| redis.breaker.failure_ratio = f64::NAN,
            Some("breaker.failure_ratio is `NaN`: give 0 (never) to 1"),
        ),
        (
            "a limit in the breaker",
            |redis| redis.breaker.max_in_flight = 5,
            Some("breaker.max_in_flight is `5`: give 0 here"),
        ),
    ];

    #[tokio::test]
    async fn each_setting_of_the_connector_is_refused_by_name_or_works() {
        for server in servers().await {
            for (what, change, refused) in SETTINGS {
                let mut config = patient(&server);
                change(&mut config);
                let text = said(config.validate());
                match (Redis::open(config.clone()), refused) {
                    (Err(error), Some(refused)) => {
                        let text = text.unwrap();
                        assert!(text.contains(refused) && text.len() < 300, "{what}: {text}");
                        assert_eq!(
                            error.to_string(),
                            format!("the redis connector cannot be opened: {text}"),
                            "{what}"
                        );
                        let Err(InspectError::Option(inspected)) = Inspector::open(config).await else {
                            panic!("{what}: an inspector takes it")
                        };
                        assert_eq!(inspected.to_string(), text);
                    }
                    (Ok(redis), None) => {
                        let schema = Schema::of::<Row>();
                        let cache = Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
                        readable(what, &cache).await;
                        works(what, &cache).await;
                    }
                    (redis, refused) => panic!("{what}: {redis:?}, and not {refused:?}"),
                }
            }
        }
    }

    /// Whether anybody is there shows later; an address that cannot be one is refused at once, and not shown, since a URL with a password
    /// is easily given for it.
    #[tokio::test]
    async fn what_can_be_no_address_is_refused() {
        let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
        let unix = |path: &str| Address::Unix(PathBuf::from(path));
        let long = "/tmp/".to_owned() + &"a".repeat(200);
        for (address, accepted) in [
            (tcp("localhost", 6379), true),
            (tcp("::1", 1), true),
            (tcp("fe80::1%eth0", 65_535), true),
            (tcp("", 6379), false),
            (tcp("localhost", 0), false),
            (tcp("redis://ann:barley@localhost", 6379), false),
            (tcp("[::1]", 6379), false),
            (tcp("local host", 6379), false),
            (tcp("localhost\n", 6379), false),
            (tcp("local\0host", 6379), false),
            (unix("/run/redis.sock"), true),
            (unix("\0redis"), true),
            (unix(""), false),
            (unix("\0"), false),
            (unix("/run/\0redis.sock"), false),
            (unix(&long), false),
        ] {
            let refused = RedisOptions::new(address.clone()).validate().err();
            assert_eq!(refused.is_none(), accepted, "{address:?}: {refused:?}");
            if let Some(refused) = refused {
                assert_eq!(refused.option(), "address");
                assert!(!refused.to_string().contains("barley"), "{refused}");
            }
        }
    }

    /// A path of a socket need not be text.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_socket_may_have_a_name_that_is_no_text() {
        use std::os::unix::ffi::OsStrExt;
        let server = servers().await.remove(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(std::ffi::OsStr::from_bytes(b"no text \xff\xfe"));
        std::os::unix::fs::symlink(server.socket(), &path).unwrap();
        let redis = Redis::open(patient(&server).address(Address::Unix(path))).unwrap();
        let schema = Schema::of::<Row>();
        let cache = Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
        readable("a symbolic link", &cache).await;
        works("a symbolic link", &cache).await;
    }

    /// C14: the prefix `a:b` with the cache `orders` was wiped by whoever opened the prefix `a` with the cache `b`.
    #[tokio::test]
    async fn no_two_pairs_of_prefix_and_cache_share_keys() {
        for server in servers().await {
            let open = |prefix: &str, cache: &str| -> Result<Cache<Row>, RedisError> {
                let redis = Redis::open(patient(&server).prefix(prefix.to_owned()))?;
                let schema = Schema::of::<Row>().named(cache);
                Ok(Cache::new(Arc::new(redis.connector(schema.clone())?), schema).unwrap())
            };
            let pairs =
                [("a", "b"), ("a", "b.orders"), ("a.b", "orders"), ("a", "o"), ("a", "b:orders"), ("a:b", "orders")];
            let opened: Vec<_> = pairs.iter().filter_map(|(prefix, cache)| open(prefix, cache).ok()).collect();
            assert_eq!(opened.len(), 4, "what has a colon is refused");
            for (number, cache) in opened.iter().enumerate() {
                readable("a pair", cache).await;
                cache.set(row(number as u32)).await;
            }
            for (number, cache) in opened.iter().enumerate() {
                assert!(cache.get(Row::ID, number as u32).await.is_some(), "{number}");
                cache.truncate().await.unwrap();
                for (other, cache) in opened.iter().enumerate() {
                    assert_eq!(
                        cache.get(Row::ID, other as u32).await.is_some(),
                        other > number,
                        "{other} after {number}"
                    );
                }
            }
        }
    }
}
