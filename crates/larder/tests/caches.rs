//! Caches opened from a configuration: what is set up, what is not, and what runs in the background until when.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end where what they expect does not hold")]

use larder::clock::{Clock, ManualClock};
use larder::{Cache, Caches, Config, Delivery, Entry, Miss, OpenError, Stored};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Handle;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
struct Instance {
    #[key(primary)]
    id: u32,
    #[key(index = "host")]
    hosts: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "organization")]
struct Organization {
    #[key(primary)]
    id: u32,
}

/// Another type for the cache of [`Instance`].
#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "Instance")]
struct Impostor {
    #[key(primary)]
    id: u32,
}

fn instance(id: u32) -> Instance {
    Instance { id, hosts: vec![format!("{id}.example")] }
}

async fn caches(yaml: &str) -> Caches {
    Caches::from_config(Config::from_yaml(yaml).unwrap()).await.unwrap()
}

async fn with_clock(yaml: &str) -> (Caches, ManualClock) {
    let (clock, hand) = Clock::manual();
    (Caches::on_clock(Config::from_yaml(yaml).unwrap(), clock).await.unwrap(), hand)
}

// What can be opened

#[tokio::test]
async fn a_configured_cache_opens_and_works() {
    let caches = caches("caches: { instance: { connector: memory } }").await;
    let instances: Cache<Instance> = caches.open().unwrap();
    assert_eq!(instances.set(instance(1)).await, Stored::Accepted);
    assert_eq!(instances.get(Instance::HOST, "1.example").await.as_deref(), Some(&instance(1)));
}

#[tokio::test]
async fn without_a_file_every_cache_is_in_memory() {
    let caches = Caches::from_config(Config::default()).await.unwrap();
    let organizations: Cache<Organization> = caches.open().unwrap();
    assert_eq!(organizations.set(Organization { id: 1 }).await, Stored::Accepted);
}

#[tokio::test]
async fn a_cache_that_is_switched_off_opens_and_keeps_nothing() {
    let caches = caches("caches: { instance: { connector: none } }").await;
    let instances: Cache<Instance> = caches.open().unwrap();
    assert_eq!(instances.set(instance(1)).await, Stored::Off);
    assert_eq!(instances.invalidate(Instance::ID, [1]).await.unwrap(), Delivery::Applied);
    assert!(instances.get(Instance::ID, 1).await.is_none());
    assert_eq!(instances.stats().miss(Miss::Off).get(), 1);
}

#[tokio::test]
async fn a_cache_that_is_opened_twice_is_one_cache() {
    let caches = caches("caches: { INSTANCE: { connector: memory } }").await;
    let first: Cache<Instance> = caches.open().unwrap();
    let second: Cache<Instance> = caches.open().unwrap();
    let load = async |cache: &Cache<Instance>| {
        cache.get_or_load(Instance::ID, 1_u32, |id| async move { Ok::<_, String>(Some(instance(id))) }).await.unwrap()
    };
    let (one, other) = tokio::join!(load(&first), load(&second));
    assert!(one.is_some() && one == other);
    assert_eq!(second.stats().loads.get(), 1, "both share one load");
}

#[tokio::test]
async fn why_a_cache_cannot_be_opened_is_told_with_what_to_do() {
    let said = |caches: &Caches| caches.open::<Instance>().unwrap_err().to_string();
    assert_eq!(
        said(&caches("caches: { instanc: { connector: memory }, session: { connector: none } }").await),
        "the cache `instance` is not in the configuration, which has `instanc`, `session` (did you mean `instanc`?); add `instance` with \
         its `connector` under `caches`, or set `defaults.connector`"
    );
    assert_eq!(
        said(&caches("").await),
        "the cache `instance` is not in the configuration, which has no caches; add `instance` with its `connector` under `caches`, or set \
         `defaults.connector`"
    );
    assert_eq!(
        said(&caches("Caches: { Instance: { Connector: postgres } }").await),
        "the cache `instance` is on the connector `postgres`, whose database is not known: Zitadel keeps these caches in its own database, \
         which the section `Caches` does not name; give the URL of that database in the environment variable \
         LARDER_CONNECTORS_POSTGRES_URL, or as `URL` in `Connectors.Postgres`"
    );
    #[cfg(not(feature = "postgres"))]
    assert_eq!(
        said(&caches("{ connectors: { postgres: { url: 'postgres://h' } }, defaults: { connector: postgres } }").await),
        "the cache `instance` is on the connector `postgres`, and larder was built without its feature `postgres`: turn that on in \
         `Cargo.toml`, or give the cache another `connector`"
    );
    #[cfg(not(feature = "redis"))]
    assert_eq!(
        said(
            &caches(
                "{ connectors: { redis: { address: h }, tiered: { over: redis } }, defaults: { connector: tiered } }"
            )
            .await
        ),
        "the cache `instance` is on the connector `tiered`, and larder was built without its feature `redis`: turn that on in `Cargo.toml`, \
         or give the cache another `connector`"
    );
    let opened = caches("defaults: { connector: memory }").await;
    opened.open::<Instance>().unwrap();
    assert_eq!(
        opened.open::<Impostor>().unwrap_err().to_string(),
        "the cache `Instance` is open for the entry type caches::Instance, so it cannot be opened for caches::Impostor; give one of them \
         another cache"
    );
    opened.shutdown().await;
    assert_eq!(
        opened.open::<Organization>().unwrap_err().to_string(),
        "the cache `organization` was asked for after the shutdown; open it before, or make new caches"
    );
}

#[test]
fn outside_a_runtime_nothing_is_opened() {
    let mut caches = Box::pin(Caches::from_config(Config::default()));
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Err(OpenError::NoRuntime)) = caches.as_mut().poll(&mut context) else {
        panic!("no error outside a runtime");
    };
}

/// zitadel's own words for a cache: case, and the connector's name as Zitadel writes it.
#[tokio::test]
async fn a_cache_of_zitadels_file_opens() {
    let caches = caches(
        "Caches: { Connectors: { Memory: { Enabled: true } }, Instance: { Connector: memory, MaxAge: 1h, LastUseAge: 10m } }",
    )
    .await;
    let instances: Cache<Instance> = caches.open().unwrap();
    assert_eq!(instances.schema().max_age(), 3600 * SECOND);
    assert_eq!(instances.schema().last_use_age(), 600 * SECOND);
    assert_eq!(instances.schema().cache(), "instance", "keys are named by the entry, not by the file");
}

// Settings arrive

#[tokio::test]
async fn the_limits_of_the_memory_connector_arrive() {
    let caches = caches(
        "
        connectors: { memory: { max_objects: 2 } }
        caches: { instance: { connector: memory }, organization: { connector: memory, max_object_size: 1 B } }
        ",
    )
    .await;
    let instances: Cache<Instance> = caches.open().unwrap();
    for id in 0..10_u32 {
        instances.set(instance(id)).await;
    }
    assert_eq!(instances.status().objects, Some(2));
    let organizations: Cache<Organization> = caches.open().unwrap();
    assert_eq!(organizations.set(Organization { id: 1 }).await, Stored::Unfit);
}

#[tokio::test]
async fn ages_arrive() {
    let (caches, hand) = with_clock("defaults: { connector: memory, max_age: 1h, last_use_age: 10m }").await;
    let instances: Cache<Instance> = caches.open().unwrap();
    instances.set(instance(1)).await;
    hand.advance(599 * SECOND);
    assert!(instances.get(Instance::ID, 1).await.is_some());
    hand.advance(600 * SECOND);
    assert!(instances.get(Instance::ID, 1).await.is_none());
}

/// Ages under a second were truncated to zero, which means "never expires".
#[tokio::test]
async fn an_age_below_a_millisecond_ends() {
    let (caches, hand) = with_clock("caches: { instance: { connector: memory, max_age: 500us } }").await;
    let instances: Cache<Instance> = caches.open().unwrap();
    instances.set(instance(1)).await;
    assert!(instances.get(Instance::ID, 1).await.is_some());
    hand.advance(Duration::from_millis(1));
    assert!(instances.get(Instance::ID, 1).await.is_none());
}

// In the background

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_pruned_once_per_interval() {
    let (caches, hand) = with_clock(
        "
        connectors: { memory: { prune_interval: 30s } }
        caches: { instance: { connector: memory, max_age: 1s }, organization: { connector: memory } }
        ",
    )
    .await;
    let instances: Cache<Instance> = caches.open().unwrap();
    for round in 0..3 {
        instances.set(instance(round)).await;
        assert_eq!(instances.status().objects, Some(1));
        hand.advance(2 * SECOND);
        tokio::time::sleep(31 * SECOND).await;
        assert_eq!(instances.status().objects, Some(0));
    }
    let before = tasks();
    caches.open::<Organization>().unwrap();
    assert_eq!(tasks(), before + 1, "where nothing expires there is nothing to prune");
}

#[tokio::test(start_paused = true)]
async fn the_background_ends_with_the_last_clone_of_a_cache() {
    let caches = caches("defaults: { connector: memory, max_age: 1h }").await;
    let instances: Cache<Instance> = caches.open().unwrap();
    assert_eq!(tasks(), 2, "counters and pruning");
    drop(caches);
    tokio::time::sleep(200 * SECOND).await;
    assert_eq!(tasks(), 2, "the cache is still there");
    drop(instances);
    tokio::time::sleep(200 * SECOND).await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_background_and_leaves_the_caches() {
    let caches = caches("defaults: { connector: memory, max_age: 1h }").await;
    let instances: Cache<Instance> = caches.open().unwrap();
    assert!(caches.shutdown().await.is_clean(), "memory defers nothing");
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 0);
    assert_eq!(instances.set(instance(1)).await, Stored::Accepted);
    assert!(caches.shutdown().await.is_clean(), "a second time does nothing");
}

#[tokio::test(start_paused = true)]
async fn counters_reach_the_metrics_recorder_within_a_second() {
    let recorder = Recorder::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let caches = caches("defaults: { connector: memory }").await;
    let instances: Cache<Instance> = caches.open().unwrap();
    instances.set(instance(1)).await;
    for _ in 0..3 {
        instances.get(Instance::ID, 1).await;
    }
    tokio::time::sleep(SECOND + SECOND / 10).await;
    assert_eq!(recorder.total("larder_hits_total"), 3);
    instances.get(Instance::ID, 1).await;
    caches.shutdown().await;
    assert_eq!(recorder.total("larder_hits_total"), 4, "a shutdown hands them over once more");
}

/// Remembers counters by name.
#[derive(Default)]
struct Recorder(Mutex<HashMap<String, Arc<AtomicU64>>>);

impl Recorder {
    fn total(&self, name: &str) -> u64 {
        self.0.lock().unwrap()[name].load(Ordering::Relaxed)
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        let mut counters = self.0.lock().unwrap();
        metrics::Counter::from_arc(counters.entry(key.name().to_owned()).or_default().clone())
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

// A gentle comeback

/// A truncate must not send every reader to the database at once.
#[tokio::test(start_paused = true)]
async fn after_a_truncate_loads_are_limited_for_a_while() {
    let caches = caches("caches: { instance: { connector: memory, comeback_loads: 2 } }").await;
    let instances: Cache<Instance> = caches.open().unwrap();
    let (running, peak) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let load_all = async || {
        peak.store(0, Ordering::SeqCst);
        let all: Vec<_> = (0..10_u32)
            .map(|id| {
                let (instances, running, peak) = (instances.clone(), running.clone(), peak.clone());
                let load = move |id| async move {
                    peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(SECOND / 10).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, ()>(Some(instance(id)))
                };
                tokio::spawn(async move { instances.get_or_load(Instance::ID, id, load).await.unwrap().unwrap() })
            })
            .collect();
        for one in all {
            one.await.unwrap();
        }
        peak.load(Ordering::SeqCst)
    };
    assert_eq!(load_all().await, 10, "a start is no comeback");
    assert_eq!(instances.truncate().await.unwrap(), Delivery::Applied);
    assert_eq!(load_all().await, 2);
    assert_eq!(instances.stats().held_back.get(), 8);
    tokio::time::advance(11 * SECOND).await;
    for id in 0..10_u32 {
        instances.invalidate(Instance::ID, [id]).await.unwrap();
    }
    assert_eq!(load_all().await, 10);
}

// On a server

#[cfg(feature = "redis")]
mod redis {
    use super::*;
    use larder::breaker::State;
    use larder_testing::server::{Server, ServerOptions, required};
    use std::io::ErrorKind;
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::time::Instant;

    async fn servers(options: ServerOptions) -> Vec<Server> {
        let mut servers = Vec::new();
        for binary in required().unwrap() {
            servers.push(Server::start(&binary, options.clone()).await.unwrap());
        }
        servers
    }

    fn on_redis(socket: &Path, settings: &str) -> String {
        let socket = socket.display();
        // Time-outs that no test waits for.
        format!(
            "
            connectors: {{ redis: {{ socket: '{socket}', connect_timeout: 20s, operation_timeout: 20s{settings} }} }}
            caches: {{ instance: {{ connector: redis }}, organization: {{ connector: memory }} }}
            "
        )
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < 30 * SECOND, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// zitadel 10712: setup failed for users who wanted no cache at all, because it was done regardless.
    #[tokio::test]
    async fn nothing_is_set_up_for_a_connector_that_no_cache_uses() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("redis.sock");
        let server = UnixListener::bind(&socket).unwrap();
        server.set_nonblocking(true).unwrap();
        let connected = || match server.accept() {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        };
        let caches = caches(&on_redis(&socket, "")).await;
        let before = tasks();
        let organizations: Cache<Organization> = caches.open().unwrap();
        organizations.set(Organization { id: 1 }).await;
        // One thread runs everything: whatever was begun has had its turn.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(tasks(), before + 1, "counters only");
        assert!(!connected());
        // The first cache on it connects.
        let _instances: Cache<Instance> = caches.open().unwrap();
        until("larder connects", connected).await;
        // A configuration that has no cache on it, has no server to ask for either.
        let none = super::caches(&format!("connectors: {{ redis: {{ socket: '{}' }} }}", socket.display())).await;
        assert!(none.redis("redis").is_none());
    }

    #[tokio::test]
    async fn the_settings_of_the_redis_connector_arrive() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "barley\n").unwrap();
        for server in servers(ServerOptions::default().config("requirepass barley")).await {
            let settings =
                format!(", password_file: '{}', database: 3, prefix: shop, client_name: checkout", file.display());
            let caches = caches(&on_redis(server.socket(), &settings)).await;
            let instances: Cache<Instance> = caches.open().unwrap();
            until("the cache can be read", || instances.status().readable).await;
            assert_eq!(instances.set(instance(1)).await, Stored::Accepted);
            assert_eq!(instances.get(Instance::HOST, "1.example").await.as_deref(), Some(&instance(1)));
            let keyspace = server.info("keyspace").await.unwrap();
            assert!(keyspace.contains_key("db3") && !keyspace.contains_key("db0"), "{keyspace:?}");
            let clients = format!("{:?}", server.command(&["CLIENT", "LIST"]).await.unwrap());
            assert!(clients.contains("name=checkout"), "{clients}");
            assert_eq!(caches.redis("redis").unwrap().breaker().state(), State::Closed);
            assert!(caches.shutdown().await.is_clean());
        }
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_a_normal_start() {
        let folder = tempfile::tempdir().unwrap();
        let caches = caches(&on_redis(&folder.path().join("nobody"), ", shutdown_timeout: 1h")).await;
        let instances: Cache<Instance> = caches.open().unwrap();
        assert!(instances.get(Instance::ID, 1).await.is_none());
        assert_eq!(instances.set(instance(1)).await, Stored::Unavailable);
        assert_eq!(instances.invalidate(Instance::ID, [2]).await.unwrap(), Delivery::Deferred);
        // Both keys of the object that was set, and the one that was invalidated.
        let shutdown = caches.shutdown_within(Duration::from_millis(20));
        let shutdown = tokio::time::timeout(300 * SECOND, shutdown).await.expect("not the hour that is configured");
        assert_eq!((shutdown.total(), shutdown.undelivered().collect::<Vec<_>>()), (3, vec![("instance", 3)]));
        let said = "not delivered, so that other nodes may serve objects that have changed until their ages end: \
            3 invalidations of `instance`";
        assert_eq!(shutdown.to_string(), said);
    }

    /// What is deferred after a shutdown is not forgotten by the next.
    #[tokio::test]
    async fn a_second_shutdown_waits_for_what_came_after_the_first() {
        for server in servers(ServerOptions::default()).await {
            let caches = caches(&on_redis(server.socket(), ", shutdown_timeout: 20s")).await;
            let instances: Cache<Instance> = caches.open().unwrap();
            until("the cache can be read", || instances.status().readable).await;
            assert!(caches.shutdown().await.is_clean());
            assert_eq!(instances.invalidate(Instance::ID, [1]).await.unwrap(), Delivery::Applied, "it still works");
            server.stop().unwrap();
            {
                let mut invalidation = Box::pin(instances.invalidate(Instance::ID, [1]));
                assert!(invalidation.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            assert_eq!(caches.shutdown_within(Duration::ZERO).await.total(), 1);
            server.cont().unwrap();
            assert!(caches.shutdown().await.is_clean());
        }
    }

    /// It is on its way and in no journal: the runtime must not be ended under it.
    #[tokio::test]
    async fn a_shutdown_waits_for_an_update_that_is_under_way() {
        for server in servers(ServerOptions::default()).await {
            let caches = caches(&on_redis(server.socket(), ", shutdown_timeout: 20s")).await;
            let instances: Cache<Instance> = caches.open().unwrap();
            until("the cache can be read", || instances.status().readable).await;
            let updating = instances.clone();
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            let (end, may_end) = tokio::sync::oneshot::channel();
            let write = async {
                begun.send(()).unwrap();
                may_end.await.map(|()| instance(1))
            };
            let update = tokio::spawn(async move { updating.update(write).await.map(drop) });
            has_begun.await.unwrap();
            server.stop().unwrap();
            end.send(()).unwrap();
            until("the object is on its way", || instances.status().under_way > 0).await;
            assert_eq!(instances.status().journal, 0);
            assert_eq!(caches.shutdown_within(Duration::ZERO).await.total(), 1);
            server.cont().unwrap();
            assert!(caches.shutdown().await.is_clean());
            update.await.unwrap().unwrap();
            assert!(instances.get(Instance::ID, 1).await.is_some());
        }
    }

    #[tokio::test]
    async fn a_shutdown_gives_deferred_invalidations_a_last_chance() {
        for server in servers(ServerOptions::default()).await {
            let caches = caches(&on_redis(server.socket(), "")).await;
            let instances: Cache<Instance> = caches.open().unwrap();
            until("the cache can be read", || instances.status().readable).await;
            {
                // Sent, and given up before the answer.
                let mut invalidation = Box::pin(instances.invalidate(Instance::ID, [1]));
                let mut context = Context::from_waker(Waker::noop());
                assert!(invalidation.as_mut().poll(&mut context).is_pending());
            }
            assert_eq!(instances.status().journal, 1);
            assert!(caches.shutdown().await.is_clean());
        }
    }

    /// With Zitadel's breaker: requests, not probes, are let through half-open, and nothing is ever forgotten while it is closed.
    #[tokio::test]
    async fn zitadels_breaker_comes_back_after_an_outage() {
        for server in servers(ServerOptions::default()).await {
            let block = format!(
                "
                Caches:
                  Connectors:
                    Redis:
                      Enabled: true
                      Network: unix
                      Addr: '{}'
                      DBOffset: 0
                      ReadTimeout: 20s
                      CircuitBreaker: {{ Interval: 0, MaxConsecutiveFailures: 5, MaxFailureRatio: 0.1, Timeout: 50ms, MaxRetryRequests: 2 }}
                  Instance: {{ Connector: redis, MaxAge: 1h, LastUseAge: 10m }}
                ",
                server.socket().display()
            );
            let caches = caches(&block).await;
            let instances: Cache<Instance> = caches.open().unwrap();
            until("the cache can be read", || instances.status().readable).await;
            instances.set(instance(1)).await;
            server.kill();
            until("the breaker opens", || caches.redis("redis").unwrap().breaker().state() == State::Open).await;
            server.restart().await.unwrap();
            until("the cache can be read again", || instances.status().readable).await;
            assert_eq!(instances.set(instance(2)).await, Stored::Accepted);
        }
    }
}
