//! What others got wrong, one test for each, where it takes a server to repeat it. `docs/pitfalls.md` has the whole list.

use crate::cluster::{INSTANCES, clusters, options};
use crate::instance::{Instance, instance};
use crate::node::{Node, config, servers, until};
use crate::tier_node::TierNode;
use crate::tiered::follow_a_little;
use larder::breaker::State;
use larder::connector::tiered::TieredOptions;
use larder::contract::KeyRef;
use larder::{Cache, Connector, Delivery, Entry, Index, LoadOptions, Lookup, Schema, Stored, Ticket};
use larder_testing::entries::{Instance as Versioned, Site, next};
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::{Server, ServerOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Another cache on the same connection.
async fn cache_on<E: Entry>(node: &Node, schema: Schema) -> Cache<E> {
    let cache = Cache::new(Arc::new(node.redis.connector(schema.clone()).unwrap()), schema).unwrap();
    until("the other cache can be read", || cache.status().readable).await;
    cache
}

/// The name of the object with this id, of the cache of a node.
fn object(node: &Node, id: &str) -> String {
    format!("larder:instance:o{:016x}:{id}", node.cache.schema().fingerprint())
}

/// What is left of a key's lifetime, in ms; -1: it never ends, -2: there is no such key.
async fn lifetime(server: &Server, key: impl AsRef<[u8]>) -> i64 {
    server.command(&[b"PTTL", key.as_ref()]).await.unwrap().int().unwrap()
}

/// zitadel 11483, 12092: the breaker was off wherever the cache was tested, so no test saw that it opened and never closed.
#[tokio::test]
async fn no_test_ran_with_the_breaker_on() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        assert_eq!(node.redis.breaker().state(), State::Closed, "as everywhere in these tests, and not forced");
        server.kill();
        until("the breaker has opened", || node.redis.breaker().state() == State::Open).await;
        server.restart().await.unwrap();
        node.readable().await;
        assert_eq!(node.redis.breaker().state(), State::Closed);
    }
}

/// redis-rs, `has_reply`: where a slot leaves a node, the node says so (`sunsubscribe`) to those who have subscribed to a channel of it, and the client took that for
/// the reply to a command in flight. All replies after it then went to the wrong callers.
///
/// Nothing is subscribed to on a connection that carries commands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsolicited_push_was_taken_for_a_reply() {
    for cluster in clusters(0).await {
        let node = TierNode::begin_in_cluster(options(&cluster), &TieredOptions::new());
        node.follows().await;
        for id in ["1", "2"] {
            node.set(id, &[id], &format!("the name of {id}")).await;
        }
        let begun = Instant::now();
        // `sub=`, `psub=` and `ssub=` say how much a connection has subscribed to.
        let listens = loop {
            let reply = cluster.nodes()[0].command(&["CLIENT", "LIST"]).await.unwrap();
            let list = String::from_utf8_lossy(reply.bytes().unwrap()).into_owned();
            let listens: Vec<_> = list.lines().filter(|line| line.contains(" ssub=1 ")).map(str::to_owned).collect();
            if !listens.is_empty() {
                break listens;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody has subscribed: {list}");
        };
        assert!(listens.iter().all(|line| line.contains(" cmd=ssubscribe ")), "a command of another kind: {listens:?}");
        let tiered = node.tiered.clone();
        let moving = cluster.move_slot(INSTANCES, 0, 2);
        let reading = async {
            for turn in 0..20_000 {
                let id = if turn % 2 == 0 { "1" } else { "2" };
                // Past the memory.
                if let Ok(found) = tiered.over().get(KeyRef { index: 0, bytes: id.as_bytes() }).await {
                    let found: Arc<Instance> = found.downcast().unwrap();
                    assert_eq!((found.id.as_str(), found.name.as_str()), (id, &*format!("the name of {id}")));
                }
            }
        };
        let (moved, ()) = tokio::join!(moving, reading);
        moved.unwrap();
    }
}

/// zitadel 9140: `get.lua` called a function that only another script had, which showed where a last-use age was set.
///
/// Every script of ours runs here, on its usual and on its rarer ways, and the server has nothing to complain about.
#[tokio::test]
async fn a_script_called_a_function_that_it_did_not_have() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/connector/redis/lua");
    // Without those that are a part of others, and with the one that a node greets the server with.
    let parts = ["shebang.lua", "write_marks.lua", "store_each.lua"];
    let scripts = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let scripts = scripts.filter(|name| parts.iter().all(|part| name != part)).count() + 1;
    let scripts = scripts.to_string();
    for server in servers(ServerOptions::default()).await {
        let (max_age, last_use_age) = (Duration::from_secs(1000), Duration::from_secs(500));
        let mut config = config(server.socket());
        config.breaker.consecutive_failures = 1;
        let node = Node::with_ages(config.clone(), max_age, last_use_age);
        node.readable().await;
        let mut strict = crate::node::config(server.socket());
        (strict.wait_replicas, strict.wait_timeout) = (1, Duration::from_millis(1));
        let strict = Node::begin(strict);
        strict.readable().await;
        let stranger = Node::with_ages(self::config(server.socket()), max_age, last_use_age);
        stranger.readable().await;
        // The handshake may well ask for what an old server does not have.
        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        node.set("1", &["a", "b"], "x").await;
        node.set("2", &["b"], &"takes a key, and is large".repeat(1000)).await;
        assert!(node.by_host("b").await.is_some() && node.by_id("2").await.is_some(), "found, and touched");
        node.cache.prune().await.unwrap();
        let ticket = node.ticket().await;
        assert_eq!(node.cache.invalidate(Instance::HOST, ["b", "c"]).await.unwrap(), Delivery::Applied);
        assert_eq!(node.cache.fill(instance("3", &["d"], "x"), ticket).await, Stored::Accepted);
        assert_eq!(node.cache.fill(instance("2", &["b"], "x"), ticket).await, Stored::Overtaken);
        assert_eq!(node.cache.delete(Instance::HOST, ["d"]).await.unwrap(), Delivery::Applied);
        assert_eq!(node.cache.delete(Instance::ID, ["3"]).await.unwrap(), Delivery::Applied);
        let some =
            [instance("5", &["e"], "x"), instance("6", &["f"], &"is large".repeat(1000)), instance("7", &[], "x")];
        assert_eq!(node.cache.set_many(some).await, [Stored::Accepted; 3]);
        let found = stranger.cache.get_many(Instance::HOST, ["e", "f", "none"]).await;
        assert_eq!(found.iter().flatten().count(), 2);
        assert_eq!(stranger.cache.stats().faults.get(), 0);

        let loading = LoadOptions::new().negative_age(max_age);
        let schema = Schema::of::<Versioned>().named("versioned").ages(max_age, last_use_age).loading(loading);
        let versioned: Cache<Versioned> = cache_on(&node, schema).await;
        let nothing = |_| async { Ok::<_, ()>(None) };
        assert!(versioned.get_or_load(Versioned::ID, "1", nothing).await.unwrap().is_none(), "and remembered");
        assert_eq!(versioned.set(Versioned::new("1", &["a"], "x", 2)).await, Stored::Accepted);
        assert_eq!(versioned.set(Versioned::new("1", &["a"], "x", 1)).await, Stored::Outdated);
        for floor in [4, 3] {
            let forgotten = versioned.invalidate_below(Versioned::HOST, ["a"], floor).await;
            assert_eq!(forgotten.unwrap(), Delivery::Applied);
        }
        assert_eq!(versioned.set(Versioned::new("1", &["a"], "x", 3)).await, Stored::Outdated);
        assert_eq!(versioned.truncate().await.unwrap(), Delivery::Applied);
        assert_eq!(node.cache.stats().faults.get() + versioned.stats().faults.get(), 0);

        server.command(&["SET", &object(&node, "4"), "not an object"]).await.unwrap();
        assert!(node.by_id("4").await.is_none(), "discarded");
        let asked = strict.cache.invalidate(Instance::ID, ["1"]).await.unwrap();
        assert_eq!(asked, Delivery::Deferred, "there is no replica");
        let errors = server.info("errorstats").await.unwrap();
        assert!(errors.keys().eq(["errorstat_NOSCRIPT"]), "only that it did not know them yet: {errors:?}");
        follow_a_little(&server).await;
        assert_eq!(server.info("memory").await.unwrap()["number_of_cached_scripts"], scripts, "all have run");
        assert_eq!((node.redis.breaker().state(), node.redis.breaker().snapshot().failures), (State::Closed, 0));
    }
}

/// zitadel 9140, the other half: the breaker took the script's error for the server's, so one mistake switched the cache off.
#[tokio::test]
async fn an_error_of_a_script_opened_the_breaker() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let mut config = config(server.socket());
        config.breaker.consecutive_failures = 1;
        let writer = Node::with_ages(config.clone(), Duration::ZERO, Duration::from_secs(500));
        config.address = proxy.socket().into();
        let node = Node::with_ages(config, Duration::ZERO, Duration::from_secs(500));
        writer.readable().await;
        node.readable().await;
        // By another node: for the one that stores it, a store is as good as a touch.
        writer.set("1", &["a"], "x").await;
        // As if the script of a touch had a fault. Its reply is the number of objects that it has touched.
        proxy.set(
            Direction::ToClient,
            Fault::rewrite(|bytes| match bytes.strip_suffix(b":1\r\n") {
                Some(before) => [before, b"-ERR user_script:7: attempt to index a nil value\r\n"].concat(),
                None => bytes,
            }),
        );
        for round in 1..=30 {
            node.by_host("a").await;
            assert_eq!(node.cache.stats().faults.get(), round, "each touch is an error, and counted as ours");
        }
        assert_eq!((node.redis.breaker().state(), node.redis.breaker().snapshot().failures), (State::Closed, 0));
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
    }
}

/// zitadel's `_remove.lua`: an object that had expired was removed under all keys it once had, one of which led to another object
/// by then.
#[tokio::test]
async fn removing_an_expired_object_deleted_the_index_keys_of_a_new_one() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        for removal in 0..5 {
            node.set("1", &["moves", "stays"], "old").await;
            // It expires now; its index keys stay, as they do where they were written with a longer life.
            server.command(&["PEXPIRE", &object(&node, "1"), "0"]).await.unwrap();
            assert_eq!(lifetime(&server, object(&node, "1")).await, -2);
            node.set("2", &["moves"], "new").await;
            match removal {
                0 => assert!(node.by_id("1").await.is_none() && node.by_host("stays").await.is_none()),
                1 => assert_eq!(node.cache.prune().await.unwrap().keys, 1, "the key that stays, and leads nowhere"),
                2 => node.set("1", &["stays"], "moved away").await,
                3 => drop(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap()),
                _ => drop(node.cache.invalidate(Instance::HOST, ["stays"]).await.unwrap()),
            }
            // A node without hints needs the index key.
            let stranger = Node::on(&server).await;
            assert_eq!(stranger.by_host("moves").await.unwrap().name, "new", "{removal}");
            assert_eq!(stranger.cache.invalidate(Instance::HOST, ["moves"]).await.unwrap(), Delivery::Applied);
            assert!(node.by_id("2").await.is_none(), "{removal}: an invalidation finds it, too");
            node.cache.truncate().await.unwrap();
        }
    }
}

/// zitadel 10657, and a warning in IdentityCache's README: with the build's version in the key, an invalidation by an old node
/// missed the copies of the new nodes.
#[tokio::test]
async fn the_version_of_the_build_was_in_the_key() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let old: Cache<Site> = cache_on(&node, Schema::of::<Site>()).await;
        let new: Cache<next::Site> = cache_on(&Node::on(&server).await, Schema::of::<next::Site>()).await;
        for invalidating in 0..4 {
            let ticket = ticket(&old, Site::ID, "1").await;
            assert_eq!(old.fill(Site::new("1", &["a", "b"], "x"), ticket).await, Stored::Accepted);
            let ticket = self::ticket(&new, next::Site::ID, "1").await;
            assert_eq!(new.fill(next::Site::new("1", &["a", "b"], "x"), ticket).await, Stored::Accepted);
            assert!(old.get(Site::HOST, "b").await.is_some(), "each has its own, side by side");
            assert!(new.get(next::Site::HOST, "b").await.is_some());
            let forgotten = match invalidating {
                0 => old.invalidate(Site::ID, ["1"]).await,
                1 => old.invalidate(Site::HOST, ["a"]).await,
                2 => new.invalidate(next::Site::ID, ["1"]).await,
                _ => new.invalidate(next::Site::HOST, ["a"]).await,
            };
            assert_eq!(forgotten.unwrap(), Delivery::Applied);
            assert!(old.get(Site::HOST, "b").await.is_none(), "{invalidating}");
            assert!(new.get(next::Site::HOST, "b").await.is_none(), "{invalidating}");
        }
    }
}

async fn ticket<E: Entry + std::fmt::Debug>(cache: &Cache<E>, index: Index<E, String>, key: &str) -> Ticket {
    match cache.lookup(index, key).await {
        Lookup::Miss { ticket: Some(ticket), .. } => ticket,
        other => panic!("no ticket: {other:?}"),
    }
}

/// zitadel's redis connector: a database for each cache, SELECT in its scripts and FLUSHDB as its truncate, which neither a
/// cluster nor a managed server allows, and which takes along what others keep there.
#[tokio::test]
async fn each_cache_had_a_database_that_truncate_flushed() {
    let options = ["SELECT", "FLUSHDB", "FLUSHALL"]
        .into_iter()
        .fold(ServerOptions::default().databases(1), |all, name| all.config(format!("rename-command {name} \"\"")));
    for server in servers(options).await {
        let node = Node::on(&server).await;
        let sites: Cache<Site> = cache_on(&node, Schema::of::<Site>()).await;
        server.command(&["SET", "session:1", "somebody else's"]).await.unwrap();
        node.set("1", &["a"], "x").await;
        assert_eq!(sites.set(Site::new("1", &["a"], "x")).await, Stored::Accepted);
        assert!(node.by_host("a").await.is_some() && sites.get(Site::HOST, "a").await.is_some());
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
        assert!(node.by_host("a").await.is_none() && node.by_id("1").await.is_none());
        assert!(sites.get(Site::HOST, "a").await.is_some(), "another cache in the same database");
        let theirs = server.command(&["GET", "session:1"]).await.unwrap();
        assert_eq!(theirs.bytes(), Some(&b"somebody else's"[..]));
        assert!(server.keys("larder:instance:[^cn]*").await.unwrap().is_empty());
        assert_eq!(node.cache.stats().faults.get() + sites.stats().faults.get(), 0);
    }
}

/// zitadel's redis connector: an age was sent in whole seconds, and zero of them means "never expires".
#[tokio::test]
async fn an_age_under_a_second_was_cut_to_zero_which_is_never() {
    const SHORT: Duration = Duration::from_millis(999);
    for server in servers(ServerOptions::default()).await {
        for (max_age, last_use_age) in
            [(SHORT, Duration::ZERO), (Duration::ZERO, SHORT), (SHORT, SHORT), (2 * SHORT, SHORT)]
        {
            let node = Node::with_ages(config(server.socket()), max_age, last_use_age);
            node.readable().await;
            node.set("1", &["a"], "x").await;
            let left = lifetime(&server, object(&node, "1")).await;
            assert!(left == -2 || (0..=999).contains(&left), "{max_age:?}, {last_use_age:?}: {left} ms");
            let found = node.by_host("a").await;
            let left = lifetime(&server, object(&node, "1")).await;
            assert!(left == -2 || (0..=999).contains(&left), "touched, {found:?}: {left} ms");
        }
        for age in [Duration::from_nanos(1), Duration::from_micros(999)] {
            for (max_age, last_use_age) in [(age, Duration::ZERO), (Duration::ZERO, age)] {
                let node = Node::with_ages(config(server.socket()), max_age, last_use_age);
                node.readable().await;
                node.set("1", &["a"], "x").await;
                let left = lifetime(&server, object(&node, "1")).await;
                assert!(left == -2 || (0..=1).contains(&left), "{max_age:?}, {last_use_age:?}: {left} ms");
            }
        }
    }
}

/// zitadel's redis connector: pruning looked each object up as a get does, so what nobody used was used by the pruner.
#[tokio::test]
async fn pruning_counted_as_use() {
    for server in servers(ServerOptions::default()).await {
        let writer = Node::with_ages(config(server.socket()), Duration::ZERO, Duration::from_secs(500));
        let node = Node::with_ages(config(server.socket()), Duration::ZERO, Duration::from_secs(500));
        writer.readable().await;
        node.readable().await;
        // By another node: for the one that stores it, a store is as good as a touch.
        writer.set("1", &["a"], "x").await;
        // As if most of the age had passed.
        server.command(&["PEXPIRE", &object(&node, "1"), "100000"]).await.unwrap();
        node.cache.prune().await.unwrap();
        let left = lifetime(&server, object(&node, "1")).await;
        assert!((1..=100_000).contains(&left), "{left} ms");
        assert!(node.by_host("a").await.is_some());
        let left = lifetime(&server, object(&node, "1")).await;
        assert!((100_001..=500_000).contains(&left), "a get is a use: {left} ms");
    }
}

/// zitadel 10645: an index key without an expiry outlived its object for ever, until the memory was full.
#[tokio::test]
async fn an_index_key_never_expired() {
    for server in servers(ServerOptions::default()).await {
        let max_age = Duration::from_secs(100);
        for last_use_age in [Duration::ZERO, Duration::from_secs(50)] {
            let node = Node::with_ages(config(server.socket()), max_age, last_use_age);
            node.readable().await;
            let ticket = node.ticket().await;
            for (id, name) in [("1", "x".to_owned()), ("2", "x".repeat(20_000))] {
                let hosts = [format!("{id}.a"), format!("{id}.b")];
                let filled = Instance { id: id.to_owned(), hosts: hosts.to_vec(), name };
                assert_eq!(node.cache.fill(filled.clone(), ticket).await, Stored::Accepted);
                node.by_host(&hosts[0]).await;
                assert_eq!(node.cache.set(filled).await, Stored::Accepted);
            }
            // All but the clock and the names of the indexes.
            let keys = server.keys("larder:instance:[^cn]*").await.unwrap();
            assert_eq!(keys.len(), 2 + 4, "{keys:?}");
            for key in keys {
                let left = lifetime(&server, &key).await;
                assert!((1..=201_000).contains(&left), "{}: {left} ms", String::from_utf8_lossy(&key));
            }
            node.cache.truncate().await.unwrap();
        }
    }
}
