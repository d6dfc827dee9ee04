//! What others got wrong, one test for each, where any connector could repeat it: each test runs on the memory connector and on
//! every server that is installed. And `docs/pitfalls.md`, which has the whole list, is held to what it says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::connector::memory::{Memory, MemoryOptions};
use larder::{Cache, Delivery, Entry, Index, Lookup, Schema, Stored, Ticket};
use larder_testing::entries::Site;
use larder_testing::server::{Server, ServerOptions, required};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

/// One cache as two nodes see it; where it is in memory they are one.
struct Place<E: Entry> {
    near: Cache<E>,
    far: Cache<E>,
    server: Option<Server>,
}

/// The same cache on every connector.
async fn places<E: Entry>() -> Vec<Place<E>> {
    let schema = Schema::of::<E>();
    let memory = Memory::open(schema.clone(), MemoryOptions::default()).unwrap();
    let memory = Cache::new(Arc::new(memory), schema).unwrap();
    let mut places = vec![Place { near: memory.clone(), far: memory, server: None }];
    let servers = if cfg!(feature = "redis") { required().unwrap() } else { Vec::new() };
    for binary in servers {
        let server = Server::start(&binary, ServerOptions::default()).await.unwrap();
        let (near, far) = (node(&server).await, node(&server).await);
        places.push(Place { near, far, server: Some(server) });
    }
    places
}

#[cfg(feature = "redis")]
async fn node<E: Entry>(server: &Server) -> Cache<E> {
    use larder::connector::redis::{Address, RedisOptions};
    use std::time::{Duration, Instant};
    // Time-outs that no test waits for.
    let patience = Duration::from_secs(20);
    let address = Address::Unix(server.socket().to_owned());
    let mut config = RedisOptions::new(address).operation_timeout(patience);
    config.breaker.slow_call = patience;
    let schema = Schema::of::<E>();
    let redis = larder::connector::redis::Redis::open(config).unwrap();
    let cache = Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
    let begun = Instant::now();
    while !cache.status().readable {
        assert!(begun.elapsed() < patience, "waited in vain until the cache can be read");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cache
}

/// Without the connector no place is on a server.
#[cfg(not(feature = "redis"))]
async fn node<E: Entry>(_: &Server) -> Cache<E> {
    unreachable!()
}

impl Place<Site> {
    /// The name of what each node finds by each of these hosts, and by the id `1`.
    async fn found(&self, hosts: &[&str]) -> Vec<Option<String>> {
        let mut found = Vec::new();
        for node in [&self.near, &self.far] {
            found.push(node.get(Site::ID, "1").await);
            for host in hosts {
                found.push(node.get(Site::HOST, *host).await);
            }
        }
        found.into_iter().map(|site| site.map(|site| site.name.clone())).collect()
    }

    async fn ticket(&self, index: Index<Site, String>, key: &str) -> Ticket {
        match self.near.lookup(index, key).await {
            Lookup::Miss { ticket: Some(ticket), .. } => ticket,
            other => panic!("no ticket: {other:?}"),
        }
    }
}

fn site(hosts: &[&str], name: &str) -> Site {
    Site::new("1", hosts, name)
}

/// zitadel's `set.lua`: the new state overwrote the keys it had; under those it had lost, the old one lived on.
#[tokio::test]
async fn a_set_left_the_old_object_alive_under_its_other_keys() {
    for place in places::<Site>().await {
        assert_eq!(place.near.set(site(&["lost", "kept"], "old")).await, Stored::Accepted);
        assert!(place.found(&["lost", "kept"]).await.iter().all(|name| name.as_deref() == Some("old")));
        assert_eq!(place.far.set(site(&["kept"], "new")).await, Stored::Accepted);
        assert!(place.found(&["kept"]).await.iter().all(|name| name.as_deref() == Some("new")));
        for node in [&place.near, &place.far] {
            assert!(node.get(Site::HOST, "lost").await.is_none());
        }
        // No key in common but the id.
        assert_eq!(place.near.set(site(&["fresh"], "newest")).await, Stored::Accepted);
        assert!(place.found(&["fresh"]).await.iter().all(|name| name.as_deref() == Some("newest")));
        for node in [&place.near, &place.far] {
            assert!(node.get(Site::HOST, "kept").await.is_none());
        }
        // Another object takes a key: nothing is left of the one that had it, under any key.
        assert_eq!(place.near.set(Site::new("2", &["fresh"], "taker")).await, Stored::Accepted);
        for node in [&place.near, &place.far] {
            assert!(node.get(Site::ID, "1").await.is_none());
            assert_eq!(node.get(Site::HOST, "fresh").await.unwrap().name, "taker");
        }
    }
}

/// zitadel's memory connector: a lock for each index, taken one after the other, so that readers saw half a set: the new state
/// under one key, and after that the old one under another.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_saw_half_a_set() {
    // Many keys, so that a set takes a while.
    let hosts: Vec<_> = (0..100).map(|n| format!("{n}.example")).collect();
    let keys = [(Site::ID, "1"), (Site::HOST, "0.example"), (Site::HOST, "99.example"), (Site::HOST, "50.example")];
    for place in places::<Site>().await {
        let rounds = if place.server.is_some() { 100 } else { 2000 };
        let over = Arc::new(AtomicBool::new(false));
        let readers = [&place.near, &place.far].map(|node| {
            let (node, over) = (node.clone(), over.clone());
            tokio::spawn(async move {
                let mut newest = 0;
                // However slow the machine is, each has seen the last state, if no other.
                while newest == 0 || !over.load(Ordering::Relaxed) {
                    for (index, key) in keys {
                        let Some(site) = node.get(index, key).await else { continue };
                        let round: u32 = site.name.parse().unwrap();
                        assert!(round >= newest, "round {round} by {key}, after round {newest} was seen");
                        newest = round;
                    }
                    tokio::task::yield_now().await;
                }
            })
        });
        for round in 1..=rounds {
            let site = Site { id: "1".to_owned(), hosts: hosts.clone(), name: round.to_string() };
            assert_eq!(place.near.set(site).await, Stored::Accepted);
        }
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

/// FusionCache 535 and 628, moka's `get_with`, HybridCache: a loader that had read the old row wrote it into the cache after the
/// invalidation, where it stayed.
#[tokio::test]
async fn a_loader_that_began_before_an_invalidation_wrote_its_old_value_after_it() {
    let keys = [(Site::ID, "1"), (Site::HOST, "a"), (Site::HOST, "b")];
    for place in places::<Site>().await {
        for (loaded, by) in keys {
            for (invalidated, through) in keys {
                let (begin, begun) = oneshot::channel();
                let (write, may_write) = oneshot::channel::<()>();
                let cache = place.near.clone();
                let load = async move |_: String| {
                    begin.send(()).unwrap();
                    may_write.await.unwrap();
                    Ok::<_, String>(Some(site(&["a", "b"], "old")))
                };
                let caller = tokio::spawn(async move { cache.get_or_load(loaded, by, load).await });
                begun.await.unwrap();
                let forgotten = place.far.invalidate(invalidated, [through]).await.unwrap();
                assert_eq!(forgotten, Delivery::Applied);
                write.send(()).unwrap();
                assert_eq!(caller.await.unwrap().unwrap().unwrap().name, "old", "who asked before is answered");
                let found = place.found(&["a", "b"]).await;
                assert!(found.iter().all(Option::is_none), "by {by}, through {through}: {found:?}");
            }
        }
    }
}

/// rueidisaside: all fills of a client shared one token, so the late fill of a load from before an invalidation was let in by the
/// token of the load that had begun after it.
#[tokio::test]
async fn two_fills_shared_one_token() {
    for place in places::<Site>().await {
        for (index, key) in [(Site::ID, "1"), (Site::HOST, "a")] {
            for late_first in [true, false] {
                let before = place.ticket(index, key).await;
                assert_eq!(place.far.invalidate(Site::ID, ["1"]).await.unwrap(), Delivery::Applied);
                // The same node, the same key; nothing but its time tells the second load from the first.
                let after = place.ticket(index, key).await;
                if late_first {
                    assert_eq!(place.near.fill(site(&["a"], "old"), before).await, Stored::Overtaken);
                }
                assert_eq!(place.near.fill(site(&["a"], "new"), after).await, Stored::Accepted);
                assert_eq!(place.near.fill(site(&["a"], "old"), before).await, Stored::Overtaken);
                assert!(place.found(&["a"]).await.iter().all(|name| name.as_deref() == Some("new")));
                place.near.invalidate(Site::ID, ["1"]).await.unwrap();
            }
        }
    }
}

/// A setting of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "setting", key(primary, index = "name", fields = (tenant, name)))]
struct Setting {
    tenant: String,
    name: String,
    value: String,
}

/// zitadel 11945: settings were cached under their name without their tenant, so one tenant was served another's.
#[tokio::test]
async fn a_key_lacked_the_tenant() {
    let setting = |tenant: &str, name: &str| Setting {
        tenant: tenant.to_owned(),
        name: name.to_owned(),
        value: format!("{name} of {tenant}"),
    };
    // Two tenants, and three that have the letters of others with the border elsewhere.
    let all = [("acme", "login"), ("bolt", "login"), ("acm", "elogin"), ("acme,x", "login"), ("acme", "x,login")];
    for place in places::<Setting>().await {
        for (tenant, name) in all {
            assert_eq!(place.near.set(setting(tenant, name)).await, Stored::Accepted);
        }
        for (place_of, (tenant, name)) in all.into_iter().enumerate() {
            for (tenant, name) in &all[place_of..] {
                let found = place.far.get(Setting::NAME, (*tenant, *name)).await;
                assert_eq!(found.as_deref(), Some(&setting(tenant, name)));
            }
            let forgotten = place.far.invalidate(Setting::NAME, [(tenant, name)]).await.unwrap();
            assert_eq!(forgotten, Delivery::Applied);
            assert!(place.near.get(Setting::NAME, (tenant, name)).await.is_none());
        }
        // Without a tenant it does not compile: see `compile_errors/wrong_keys.rs`. Neither is it found by the bytes of the name alone.
        assert_eq!(place.near.set(setting("acme", "login")).await, Stored::Accepted);
        assert!(place.near.get(Setting::NAME.encoded(), &b"login"[..]).await.is_none(), "nobody's");
    }
}

/// What `docs/pitfalls.md` says of tests is true.
mod page {
    use super::Path;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

    /// A section of the page: a mistake, and the tests that it names.
    struct Mistake {
        title: String,
        tests: Vec<(String, String)>,
    }

    /// The page's sections, each from its heading to the next one.
    fn mistakes() -> Vec<Mistake> {
        let page = std::fs::read_to_string(format!("{ROOT}/docs/pitfalls.md")).unwrap();
        let sections = page.split("\n### ").skip(1).map(|section| {
            let section = section.split("\n## ").next().unwrap();
            let title = section.lines().next().unwrap().to_owned();
            let tests = section.split_once("\nTests: ").map(|(_, named)| tests(named)).unwrap_or_default();
            Mistake { title, tests }
        });
        sections.collect()
    }

    /// The tests that a section names, each in backticks after a link to the file that it is in.
    fn tests(named: &str) -> Vec<(String, String)> {
        let mut tests = Vec::new();
        for part in named.split("](../").skip(1) {
            let (file, names) = part.split_once(')').unwrap();
            tests.extend(names.split('`').skip(1).step_by(2).map(|name| (file.to_owned(), name.to_owned())));
        }
        tests
    }

    /// Whether a source has a test of this name, or a case of the conformance suite.
    fn has_test(source: &str, name: &str) -> bool {
        let lines: Vec<_> = source.lines().map(str::trim).collect();
        let begins = |line: &str| {
            let rest = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name));
            rest.is_some_and(|rest| rest.starts_with(['(', '<']))
        };
        let Some(place) = lines.iter().position(|line| begins(line)) else { return false };
        let is_test =
            lines[..place].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"));
        let is_case = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest == "," || rest.starts_with(" if "));
        is_test || lines.iter().any(is_case)
    }

    #[test]
    fn the_page_names_a_test_for_each_mistake_and_each_is_there() {
        let mistakes = mistakes();
        assert!(mistakes.len() > 15, "the sections were not found: {}", mistakes.len());
        for Mistake { title, tests } in mistakes {
            assert!(!tests.is_empty(), "no test for: {title}");
            for (file, name) in tests {
                let source = std::fs::read_to_string(Path::new(ROOT).join(&file))
                    .unwrap_or_else(|error| panic!("{file}: {error}"));
                assert!(has_test(&source, &name), "there is no test `{name}` in {file}");
            }
        }
    }

    #[test]
    fn every_test_that_is_named_after_a_mistake_is_on_the_page() {
        let named: Vec<_> = mistakes().into_iter().flat_map(|mistake| mistake.tests).collect();
        for file in [
            "crates/larder/tests/pitfalls.rs",
            "crates/larder/tests/redis/pitfalls.rs",
            "crates/larder/src/breaker/tests/pitfalls.rs",
        ] {
            let source = std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
            let names = source
                .lines()
                .filter_map(|line| line.trim_start_matches("async ").strip_prefix("fn ")?.split_once('('));
            for (name, _) in names.filter(|(name, _)| has_test(&source, name)) {
                assert!(named.contains(&(file.to_owned(), name.to_owned())), "{file}: `{name}` is not on the page");
            }
        }
    }
}
