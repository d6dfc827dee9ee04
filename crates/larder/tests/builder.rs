//! Connectors and caches said in code: what a builder accepts and refuses, that it comes to the same as a file, connectors of one's own,
//! and several servers beside each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end where what they expect does not hold")]

use larder::connector::memory::{Memory, MemoryOptions};
use larder::{
    Cache, CacheOptions, Caches, CachesBuilder, Connector, ConnectorKind, Entry, OpenError, OptionError, Schema, Stored,
};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
struct Instance {
    #[key(primary)]
    id: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "session")]
struct Session {
    #[key(primary)]
    id: u32,
}

async fn refusal(builder: CachesBuilder) -> String {
    builder.open().await.err().unwrap().to_string()
}

#[tokio::test]
async fn caches_open_on_the_connectors_that_they_name() {
    let caches = Caches::builder()
        .memory("small", MemoryOptions::new().max_objects(2))
        .memory("large", MemoryOptions::new())
        .cache::<Instance>(CacheOptions::on("Small").max_age(HOUR))
        .defaults(CacheOptions::on("large").max_object_size(1))
        .open()
        .await
        .unwrap();
    let instances: Cache<Instance> = caches.open().unwrap();
    for id in 0..10 {
        instances.set(Instance { id }).await;
    }
    assert_eq!(instances.status().objects, Some(2));
    assert_eq!(instances.schema().max_age(), HOUR);
    let sessions: Cache<Session> = caches.open().unwrap();
    assert_eq!(sessions.set(Session { id: 1 }).await, Stored::Unfit, "longer than the defaults allow");
    assert_eq!(caches.connector_options("SMALL").unwrap().kind(), ConnectorKind::Memory);
    assert!(caches.connector_options("smal").is_none());
}

/// `memory` needs no options, and `none` no connector.
#[tokio::test]
async fn what_is_always_there_need_not_be_added() {
    let caches = Caches::builder()
        .cache::<Instance>(CacheOptions::on("memory"))
        .cache::<Session>(CacheOptions::on("none"))
        .open()
        .await
        .unwrap();
    assert_eq!(caches.open::<Instance>().unwrap().set(Instance { id: 1 }).await, Stored::Accepted);
    assert_eq!(caches.open::<Session>().unwrap().set(Session { id: 1 }).await, Stored::Off);
    // Its options may be said all the same.
    let caches = Caches::builder()
        .memory("memory", MemoryOptions::new().max_objects(1))
        .cache::<Instance>(CacheOptions::on("memory"))
        .open()
        .await
        .unwrap();
    let instances = caches.open::<Instance>().unwrap();
    instances.set(Instance { id: 1 }).await;
    instances.set(Instance { id: 2 }).await;
    assert_eq!(instances.status().objects, Some(1));
}

#[tokio::test]
async fn a_cache_that_nobody_named_cannot_be_opened() {
    let caches = Caches::builder().cache::<Instance>(CacheOptions::on("memory")).open().await.unwrap();
    let Err(OpenError::NotConfigured { cache, configured, .. }) = caches.open::<Session>() else {
        panic!("opened");
    };
    assert_eq!((cache.as_str(), configured), ("session", vec!["instance".to_owned()]));
}

#[tokio::test]
async fn what_cannot_be_is_told_when_it_is_opened() {
    let memory = MemoryOptions::new;
    for (builder, said) in [
        (
            Caches::builder().memory("a:b", memory()),
            "the connector `a:b` is no name for a connector: give 1 to 128 letters, digits, `_`, `-` or `.`",
        ),
        (
            Caches::builder().memory("none", memory()),
            "the connector `none` cannot be the name of a connector: a cache on it is switched off; give another name",
        ),
        (
            Caches::builder().memory("NoOp", memory()),
            "the connector `NoOp` cannot be the name of a connector: a cache on it is switched off; give another name",
        ),
        (
            Caches::builder().memory("redis", memory()),
            "the connector `redis` is the name of a connector of the kind redis, and not memory: give another name",
        ),
        (
            Caches::builder().memory("my-own", memory()).memory("MyOwn", memory()),
            "the connector `MyOwn` names the same connector as `my-own`: case, `_` and `-` make no difference; give one of the two",
        ),
        (
            Caches::builder().memory("small", memory().max_objects(0)),
            "the connector `small` cannot be opened: max_objects is `0`: give a number, 1 or more",
        ),
        (
            Caches::builder().memory("small", memory()).cache::<Instance>(CacheOptions::on("smal")),
            "the cache `instance` is on the connector `smal`, which is not there (did you mean `small`?): there are `none`, `memory`, \
             `small`; add it to the builder, or to the configuration under `connectors`",
        ),
        (
            Caches::builder().defaults(CacheOptions::on("redis")),
            "the cache `*` is on the connector `redis`, which is not there: there are `none`, `memory`; add it to the builder, or to the \
             configuration under `connectors`",
        ),
        (
            Caches::builder()
                .cache::<Instance>(CacheOptions::on("memory"))
                .cache::<Instance>(CacheOptions::on("memory")),
            "the cache `instance` names the same cache as `instance`: case, `_` and `-` make no difference; give one of the two",
        ),
        (
            Caches::builder().cache::<Instance>(CacheOptions::on("memory").max_age(SECOND).last_use_age(HOUR)),
            "the cache `instance` cannot be opened: last_use_age contradicts `max_age`: a last-use age of 1h is longer than the max age, \
             1s: give one of at most the max age, or 0 for either",
        ),
        (
            Caches::builder().cache::<Instance>(CacheOptions::on("memory").audit_share(2.0)),
            "the cache `instance` cannot be opened: audit_share is `2`: give the part of the hits, 0 (none) to 1",
        ),
        (
            Caches::builder().cache::<Instance>(CacheOptions::on("memory").jitter(0.5)),
            "the cache `instance` cannot be opened: jitter contradicts `max_age`: `jitter` is a part of `max_age`, which has no limit: \
             give both, or `jitter: 0`",
        ),
    ] {
        assert_eq!(refusal(builder).await, said);
    }
}

// Connectors of one's own

fn own(schema: Schema) -> Result<Arc<dyn Connector>, OptionError> {
    Ok(Arc::new(Memory::open(schema, MemoryOptions::new().max_objects(3))?))
}

#[tokio::test]
async fn a_connector_of_ones_own_is_made_for_each_cache_on_it() {
    let made = Arc::new(Mutex::new(Vec::new()));
    let told = made.clone();
    let caches = Caches::builder()
        .connector("mine", move |schema: Schema| {
            told.lock().unwrap().push((schema.cache().to_owned(), schema.max_age()));
            own(schema)
        })
        .cache::<Instance>(CacheOptions::on("mine").max_age(HOUR))
        .cache::<Session>(CacheOptions::on("mine"))
        .open()
        .await
        .unwrap();
    assert!(made.lock().unwrap().is_empty(), "nothing is made before it is needed");
    let instances: Cache<Instance> = caches.open().unwrap();
    for id in 0..10 {
        assert_eq!(instances.set(Instance { id }).await, Stored::Accepted);
    }
    assert_eq!(instances.status().objects, Some(3), "it is the connector that was made");
    let _again: Cache<Instance> = caches.open().unwrap();
    let _sessions: Cache<Session> = caches.open().unwrap();
    let expected = [("instance".to_owned(), HOUR), ("session".to_owned(), Duration::ZERO)];
    assert_eq!(*made.lock().unwrap(), expected);
    assert!(caches.ready(Duration::ZERO).await.is_ready());
    assert!(caches.shutdown().await.is_clean());
}

#[tokio::test]
async fn a_connector_of_ones_own_that_cannot_be_made_is_an_error_with_its_source() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let caches = Caches::builder()
        .connector("mine", move |_: Schema| -> Result<Arc<dyn Connector>, std::io::Error> {
            counted.fetch_add(1, Ordering::SeqCst);
            Err(std::io::Error::other("the disk is full"))
        })
        .defaults(CacheOptions::on("mine"))
        .open()
        .await
        .unwrap();
    let error = caches.open::<Instance>().unwrap_err();
    assert_eq!(error.to_string(), "the cache `instance` cannot be opened on the connector `mine`: the disk is full");
    assert!(error.source().is_some());
    assert!(caches.open::<Instance>().is_err());
    assert_eq!(tries.load(Ordering::SeqCst), 2, "the next one tries anew");
}

#[tokio::test]
async fn a_connector_of_ones_own_takes_no_name_that_is_taken() {
    let twice = Caches::builder().connector("mine", own).connector("MINE", own);
    assert!(refusal(twice).await.starts_with("the connector `MINE` names the same connector as `mine`"));
    let taken = Caches::builder().memory("mine", MemoryOptions::new()).connector("mine", own);
    assert!(refusal(taken).await.starts_with("the connector `mine` names the same connector as `mine`"));
    let kind = Caches::builder().connector("memory", own);
    assert!(refusal(kind).await.starts_with("the connector `memory` is the name of a connector of the kind memory"));
}

// Beside a file

#[cfg(feature = "yaml")]
mod file {
    use super::*;
    use larder::Config;

    #[tokio::test]
    async fn a_file_and_code_come_to_the_same() {
        let file = Config::from_yaml(
            "
            connectors: { small: { kind: memory, max_objects: 5, max_bytes: 1 MiB, prune_interval: 2s } }
            defaults: { connector: small, audit_share: 0.5 }
            caches:
              instance:
                connector: small
                max_age: 1h
                last_use_age: 1h
                max_object_size: 2 kB
                comeback_loads: 3
                audit_share: 0.25
                audit_grace: 1s
                audit_bypass: 1h
                lease: 1s
                refresh_ahead: 1s
                serve_expired: 1h
                soft_timeout: 1s
                hard_timeout: 1h
                negative_age: 1s
                jitter: 0.5
            ",
        );
        let file = Caches::from_config(file.unwrap()).await.unwrap();
        let small = MemoryOptions::new().max_objects(5).max_bytes(1 << 20).prune_interval(2 * SECOND);
        let code = Caches::builder()
            .memory("small", small)
            .cache::<Instance>(
                CacheOptions::on("small")
                    .max_age(HOUR)
                    .last_use_age(HOUR)
                    .max_object_size(2000)
                    .comeback_loads(3)
                    .audit_share(0.25)
                    .audit_grace(SECOND)
                    .audit_bypass(HOUR)
                    .lease(SECOND)
                    .refresh_ahead(SECOND)
                    .serve_expired(HOUR)
                    .soft_timeout(SECOND)
                    .hard_timeout(HOUR)
                    .negative_age(SECOND)
                    .jitter(0.5),
            )
            .defaults(CacheOptions::on("small").audit_share(0.5))
            .open()
            .await
            .unwrap();
        for cache in ["instance", "any other"] {
            assert!(code.cache_options(cache).is_some());
            assert_eq!(file.cache_options(cache), code.cache_options(cache));
        }
        assert_eq!(file.connector_options("small"), code.connector_options("small"));
    }

    /// A file that says nothing and code that says nothing have the same defaults.
    #[tokio::test]
    async fn defaults_are_the_same_in_both() {
        let file = Config::from_yaml("caches: { instance: { connector: memory } }").unwrap();
        assert_eq!(file.cache("instance"), Some(CacheOptions::on("memory")));
        assert_eq!(file.memory(), MemoryOptions::new());
        let redis = Config::from_yaml("connectors: { redis: { address: 'h:1' } }").unwrap();
        assert_eq!(redis.redis(), Some(&larder::connector::redis::RedisOptions::new("h:1")));
    }

    #[tokio::test]
    async fn code_adds_to_a_file() {
        let config = || {
            Config::from_yaml(
                "
                connectors: { mine: { kind: own }, small: { kind: memory, max_objects: 1 } }
                caches: { instance: { connector: mine, max_age: 1h } }
                ",
            )
            .unwrap()
        };
        let session = CacheOptions::on("small");
        let before = Caches::builder().connector("Mine", own).config(config()).cache::<Session>(session.clone());
        let after = CachesBuilder::from(config()).connector("Mine", own).cache::<Session>(session);
        for builder in [before, after] {
            let caches = builder.open().await.unwrap();
            let instances: Cache<Instance> = caches.open().unwrap();
            let sessions: Cache<Session> = caches.open().unwrap();
            for id in 0..10 {
                instances.set(Instance { id }).await;
                sessions.set(Session { id }).await;
            }
            assert_eq!((instances.status().objects, sessions.status().objects), (Some(3), Some(1)));
            assert_eq!(instances.schema().max_age(), HOUR);
        }
        let said = Caches::from_config(config()).await.unwrap_err().to_string();
        assert_eq!(
            said,
            "the cache `instance` is on the connector `mine`, of the kind `own`, which the program has to bring along: add it with \
             `Caches::builder().connector(\"mine\", …)`, or give the cache another `connector`"
        );
        let twice = CachesBuilder::from(config()).cache::<Instance>(CacheOptions::on("small"));
        assert!(refusal(twice).await.starts_with("the cache `instance` names the same cache as `instance`"));
        let twice = CachesBuilder::from(config()).memory("small", MemoryOptions::new());
        assert!(refusal(twice).await.starts_with("the connector `small` names the same connector as `small`"));
    }
}

// On servers

#[cfg(feature = "redis")]
mod redis {
    use super::*;
    use larder::Delivery;
    use larder::breaker::BreakerOptions;
    use larder::connector::redis::RedisOptions;
    use larder_testing::server::{Server, ServerOptions, required};
    use std::path::Path;
    use std::task::{Context, Waker};
    use std::time::Instant;

    /// No test waits for so long.
    const LONG: Duration = Duration::from_secs(300);

    /// Nothing is late or slow, however busy the machine.
    fn patient(socket: &Path) -> RedisOptions {
        RedisOptions::new(socket)
            .connect_timeout(20 * SECOND)
            .operation_timeout(20 * SECOND)
            .breaker(BreakerOptions::new().ramp(Duration::ZERO))
    }

    async fn pairs() -> Vec<(Server, Server)> {
        let mut pairs = Vec::new();
        for binary in required().unwrap() {
            let one = Server::start(&binary, ServerOptions::default()).await.unwrap();
            pairs.push((one, Server::start(&binary, ServerOptions::default()).await.unwrap()));
        }
        pairs
    }

    async fn on_two(main: &Server, other: &Server) -> Caches {
        Caches::builder()
            .redis("main", patient(main.socket()))
            .redis("sessions", patient(other.socket()).prefix("shop").shutdown_timeout(Duration::ZERO))
            .cache::<Instance>(CacheOptions::on("main"))
            .cache::<Session>(CacheOptions::on("sessions"))
            .open()
            .await
            .unwrap()
    }

    async fn keys(server: &Server) -> String {
        format!("{:?}", server.command(&["KEYS", "*"]).await.unwrap())
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < LONG, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn each_cache_is_on_the_server_of_its_connector() {
        for (main, other) in pairs().await {
            let caches = on_two(&main, &other).await;
            let instances: Cache<Instance> = caches.open().unwrap();
            let sessions: Cache<Session> = caches.open().unwrap();
            let readiness = caches.ready(LONG).await;
            assert!(readiness.is_ready(), "{readiness}");
            assert_eq!(instances.set(Instance { id: 1 }).await, Stored::Accepted);
            assert_eq!(sessions.set(Session { id: 2 }).await, Stored::Accepted);
            let (on_main, on_other) = (keys(&main).await, keys(&other).await);
            assert!(on_main.contains("larder:instance") && !on_main.contains("session"), "{on_main}");
            assert!(on_other.contains("shop:session") && !on_other.contains("instance"), "{on_other}");
            assert!(caches.redis("Main").is_some() && caches.redis("sessions").is_some());
            assert!(caches.redis("redis").is_none() && caches.redis("memory").is_none());
            assert!(caches.shutdown().await.is_clean());
        }
    }

    /// A server that is away takes the caches of the other along in nothing: they are read, changed and ready.
    #[tokio::test]
    async fn where_one_server_is_down_the_caches_of_the_other_work() {
        for (main, other) in pairs().await {
            other.kill();
            let caches = on_two(&main, &other).await;
            let instances: Cache<Instance> = caches.open().unwrap();
            let sessions: Cache<Session> = caches.open().unwrap();
            until("the cache on the server that is there can be read", || instances.status().readable).await;
            assert_eq!(instances.set(Instance { id: 1 }).await, Stored::Accepted);
            assert_eq!(instances.get(Instance::ID, 1).await.as_deref(), Some(&Instance { id: 1 }));
            assert_eq!(sessions.invalidate(Session::ID, [1]).await.unwrap(), Delivery::Deferred);
            let readiness = caches.ready(Duration::ZERO).await;
            let unreadable: Vec<_> = readiness.unreadable().collect();
            let [(cache, why)] = unreadable.as_slice() else { panic!("{readiness}") };
            assert_eq!(*cache, "session");
            assert!(why.contains(&other.socket().display().to_string()), "{why}");
            assert!(!why.contains(&main.socket().display().to_string()), "{why}");
            // Each has its own time: that of this one is over at once.
            let shutdown = tokio::time::timeout(LONG, caches.shutdown()).await.unwrap();
            assert_eq!(shutdown.undelivered().collect::<Vec<_>>(), [("session", 1)]);
            other.restart().await.unwrap();
            until("the journal is delivered", || sessions.status().journal == 0).await;
            assert!(caches.shutdown_within(LONG).await.is_clean());
        }
    }

    /// The limit of one connector must not cut off what another still has to deliver.
    #[tokio::test]
    async fn a_shutdown_waits_for_each_server_as_long_as_its_connector_says() {
        for (main, other) in pairs().await {
            main.kill();
            other.kill();
            let caches = Caches::builder()
                .redis("main", patient(main.socket()).shutdown_timeout(LONG))
                .redis("sessions", patient(other.socket()).shutdown_timeout(Duration::ZERO))
                .cache::<Instance>(CacheOptions::on("main"))
                .cache::<Session>(CacheOptions::on("sessions"))
                .open()
                .await
                .unwrap();
            let instances: Cache<Instance> = caches.open().unwrap();
            let sessions: Cache<Session> = caches.open().unwrap();
            assert_eq!(instances.invalidate(Instance::ID, [1]).await.unwrap(), Delivery::Deferred);
            assert_eq!(sessions.invalidate(Session::ID, [1]).await.unwrap(), Delivery::Deferred);
            let mut shutdown = Box::pin(caches.shutdown());
            let waits = shutdown.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
            assert!(waits, "for the first server");
            main.restart().await.unwrap();
            assert_eq!(shutdown.await.undelivered().collect::<Vec<_>>(), [("session", 1)]);
        }
    }

    #[tokio::test]
    async fn options_of_a_server_that_cannot_be_used_are_told_with_its_name() {
        for (options, said) in [
            (
                RedisOptions::new("redis://ann:barley@h"),
                "address is neither a host and a port nor the path of a Unix socket",
            ),
            (RedisOptions::new("h:p"), "address is neither a host and a port"),
            (RedisOptions::new("h").hints(0), "hints is `0`: give a number, 1 to 100000000"),
            (
                RedisOptions::new("h").breaker(BreakerOptions::new().min_calls(0)),
                "breaker.min_calls is `0`: give a number, 1 or more",
            ),
        ] {
            let error = refusal(Caches::builder().redis("main", options)).await;
            let expected = format!("the connector `main` cannot be opened: {said}");
            assert!(error.starts_with(&expected) && !error.contains("barley"), "{error}");
        }
    }

    #[cfg(feature = "yaml")]
    #[tokio::test]
    async fn a_file_and_code_make_the_same_server() {
        let file = larder::Config::from_yaml(
            "
            connectors:
              main:
                kind: redis
                url: 'redis://ann:barley@cache.internal/3'
                client_name: checkout
                prefix: shop
                connect_timeout: 2s
                operation_timeout: 3s
                wait_replicas: 1
                wait_timeout: 4s
                max_in_flight: 5
                journal_limit: 6
                journal_bytes: 7 B
                shutdown_timeout: 8s
                hints: 9
                prune_interval: 10s
                breaker: { open: 1s, open_max: 2s, failure_ratio: 0.25 }
            ",
        )
        .unwrap();
        let breaker = BreakerOptions::for_server().open(SECOND).open_max(2 * SECOND).failure_ratio(0.25);
        let code = RedisOptions::new("cache.internal:6379")
            .credentials("ann", "barley")
            .database(3)
            .client_name("checkout")
            .prefix("shop")
            .connect_timeout(2 * SECOND)
            .operation_timeout(3 * SECOND)
            .wait_replicas(1)
            .wait_timeout(4 * SECOND)
            .max_in_flight(5)
            .journal_limit(6)
            .journal_bytes(7)
            .shutdown_timeout(8 * SECOND)
            .hints(9)
            .prune_interval(10 * SECOND)
            .breaker(breaker);
        assert_eq!(file.connector("main"), Some(&code.into()));
        let url = RedisOptions::from_url("redis://ann:barley@cache.internal/3").unwrap();
        assert_eq!(url, RedisOptions::new("cache.internal").credentials("ann", "barley").database(3));
        let refused = RedisOptions::from_url("redis://ann:barley@h:port").unwrap_err().to_string();
        assert!(!refused.contains("barley") && refused.starts_with("url is no URL of a server"), "{refused}");
    }
}
