//! Several objects in one call: round trips, and what happens where something goes wrong on the way.

use crate::instance::{Instance, instance};
use crate::node::{self, Node, servers, until};
use larder::breaker::State;
use larder::connector::redis::RedisOptions;
use larder::connector::redis::{Redis, RedisConnector};
use larder::contract::{Connector, KeyRef, Lookups, Object};
use larder::{AnyKey, Cache, Delivery, Keys, LoadOptions, Miss, Schema, Stored};
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::{Server, ServerOptions};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often each command was called since the statistics were reset, but for those that the heartbeat and the tests need.
async fn calls(server: &Server) -> Vec<(String, u64)> {
    let mut calls: Vec<_> = server
        .info("commandstats")
        .await
        .unwrap()
        .into_iter()
        .filter_map(|(name, line)| {
            let name = name.strip_prefix("cmdstat_")?.to_owned();
            let calls = line.split(',').find_map(|part| part.strip_prefix("calls="))?.parse().ok()?;
            Some((name, calls))
        })
        .filter(|(name, _)| !["info", "role", "ping", "hello", "config|resetstat", "auth"].contains(&&**name))
        .collect();
    calls.sort();
    calls
}

/// No answer of a server that runs is late, however large the call and slow the machine is.
fn config(socket: &Path) -> RedisOptions {
    node::config(socket).operation_timeout(Duration::from_secs(600))
}

/// A node that is connected, and patient.
async fn on(server: &Server) -> Node {
    let node = Node::begin(config(server.socket()));
    node.readable().await;
    node
}

/// Stores objects from a node that is gone then: the heartbeat of a node that sets asks for the clock.
async fn store(server: &Server, count: usize) {
    let stored = on(server).await.cache.set_many(many(count, "x")).await;
    assert!(stored.iter().all(|stored| *stored == Stored::Accepted), "{stored:?}");
}

async fn reset(server: &Server) {
    server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
}

fn counted(calls: &[(&str, u64)]) -> Vec<(String, u64)> {
    calls.iter().map(|(name, calls)| ((*name).to_owned(), *calls)).collect()
}

fn many(count: usize, name: &str) -> Vec<Instance> {
    (0..count).map(|n| instance(&format!("{n}"), &[&format!("a{n}"), &format!("b{n}")], name)).collect()
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n}")).collect()
}

fn hosts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("b{n}")).collect()
}

/// The cache of a node as it is below its entry type.
async fn connector(node: &Node) -> RedisConnector {
    let connector = node.redis.connector(node.cache.schema().clone()).unwrap();
    until("the connector can be read", || connector.status().readable).await;
    connector
}

fn object(entry: &Instance) -> Object {
    let mut keys = Keys::of(entry).into_iter().map(AnyKey::into_buf);
    let primary = keys.next().unwrap().bytes;
    Object::new(primary, keys.collect(), None, Arc::new(entry.clone()))
}

fn found(objects: &[Option<Arc<Instance>>]) -> usize {
    objects.iter().flatten().count()
}

/// Everything that a call takes is sent, and done by the server, while no answer comes back: it is one round trip.
async fn in_one_go<T>(
    server: &Server,
    expected: &[(&str, u64)],
    call: impl AsyncFnOnce(Node, RedisConnector) -> T,
) -> T {
    let proxy = Proxy::start(server).await.unwrap();
    let node = Node::begin(config(proxy.socket()));
    node.readable().await;
    let connector = connector(&node).await;
    reset(server).await;
    proxy.set(Direction::ToClient, Fault::Hold);
    let begun = Instant::now();
    let mut call = pin!(call(node, connector));
    let mut unanswered = true;
    loop {
        tokio::select! {
            answer = &mut call => {
                assert!(!unanswered, "an answer came through");
                assert_eq!(calls(server).await, counted(expected), "and nothing else was sent");
                return answer;
            }
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        let calls = calls(server).await;
        if unanswered && calls == counted(expected) {
            unanswered = false;
            proxy.set(Direction::ToClient, Fault::Pass);
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "sent without waiting for an answer: {calls:?}");
    }
}

#[tokio::test]
async fn a_get_by_keys_that_are_known_is_one_round_trip_of_mgets() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        assert!(node.cache.set_many(many(100, "x")).await.iter().all(|stored| *stored == Stored::Accepted));
        reset(&server).await;
        assert_eq!(found(&node.cache.get_many(Instance::ID, ids(100)).await), 100);
        assert_eq!(calls(&server).await, counted(&[("mget", 2)]));
        reset(&server).await;
        let objects = node.cache.get_many(Instance::HOST, hosts(100)).await;
        assert_eq!(calls(&server).await, counted(&[("mget", 2)]), "stored here, and so remembered");
        let right = objects.iter().enumerate().all(|(n, found)| found.as_ref().unwrap().id == n.to_string());
        assert!(right, "in the order of the keys");
        assert_eq!(node.cache.stats().hits.get(), 200);
    }
}

#[tokio::test]
async fn nothing_asked_for_is_nothing_sent() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        reset(&server).await;
        assert!(node.cache.get_many(Instance::ID, [""; 0]).await.is_empty());
        assert_eq!(found(&node.cache.get_many(Instance::ID, ["", ""]).await), 0);
        assert!(node.cache.set_many([] as [Instance; 0]).await.is_empty());
        assert_eq!(node.cache.invalidate_many([]).await.unwrap(), Delivery::Applied);
        assert_eq!(calls(&server).await, []);
    }
}

#[tokio::test]
async fn a_get_by_unknown_keys_asks_the_index_and_reads_the_objects_in_one_round_trip() {
    for server in servers(ServerOptions::default()).await {
        store(&server, 200).await;
        // So that the server knows the script.
        on(&server).await.cache.get_many(Instance::HOST, ["a0"]).await;
        // Two scripts, of which each asks for its index keys at once.
        let sent = [("evalsha", 2), ("getrange", 200), ("mget", 2)];
        let get = async |node: Node, _| found(&node.cache.get_many(Instance::HOST, hosts(200)).await);
        assert_eq!(in_one_go(&server, &sent, get).await, 200);
        let stranger = on(&server).await;
        assert_eq!(found(&stranger.cache.get_many(Instance::HOST, hosts(200)).await), 200);
        reset(&server).await;
        assert_eq!(found(&stranger.cache.get_many(Instance::HOST, hosts(200)).await), 200);
        assert_eq!(calls(&server).await, counted(&[("mget", 4)]), "known by now");
    }
}

#[tokio::test]
async fn a_lookup_of_many_brings_a_ticket_along_and_a_fill_of_many_is_one_round_trip() {
    for server in servers(ServerOptions::default()).await {
        store(&server, 50).await;
        let writer = on(&server).await;
        on(&server).await.cache.get_many(Instance::HOST, ["a0"]).await;
        // What is not there has no index key; the clock is one more.
        let look = async |_, connector: RedisConnector| {
            let keys = hosts(100);
            let keys: Vec<_> = keys.iter().map(|host| KeyRef { index: 1, bytes: host.as_bytes() }).collect();
            connector.lookup_many(&keys).await
        };
        let Lookups { found, ticket } =
            in_one_go(&server, &[("evalsha", 1), ("getrange", 51), ("mget", 1)], look).await;
        assert_eq!(found.iter().flatten().count(), 50);
        let missing: Vec<_> = many(100, "loaded").iter().skip(50).map(object).collect();
        let fill = async move |_, connector: RedisConnector| connector.fill_many(missing, ticket.unwrap()).await;
        // Of each object its index keys, and what it stores: itself and two index keys. The first script leaves a record for the second.
        let sent = [("evalsha", 2), ("get", 1), ("getrange", 2 + 50), ("mget", 50), ("set", 1 + 150), ("unlink", 1)];
        let filled = in_one_go(&server, &sent, fill).await;
        assert!(filled.iter().all(|fill| fill.stored == Stored::Accepted && fill.at.is_some()), "{filled:?}");
        assert_eq!(self::found(&writer.cache.get_many(Instance::HOST, hosts(100)).await), 100);
        // All of them have been touched since; but none by somebody else while the load ran.
        let again: Vec<_> = many(100, "overtaken").iter().map(object).collect();
        writer.cache.invalidate(Instance::ID, ["7"]).await.unwrap();
        let filled = connector(&writer).await.fill_many(again, ticket.unwrap()).await;
        let refused: Vec<_> =
            filled.iter().enumerate().filter(|(_, fill)| fill.stored != Stored::Accepted).map(|(n, _)| n).collect();
        assert_eq!(refused, [7]);
    }
}

/// What is large goes natively, in a second round trip, and once for all of its keys.
#[tokio::test]
async fn large_objects_do_not_pass_through_a_script() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        let large = "x".repeat(20_000);
        let stored = node.cache.set_many([instance("1", &["a", "b"], &large), instance("2", &["c"], "x")]).await;
        assert_eq!(stored, [Stored::Accepted, Stored::Accepted]);
        let stranger = on(&server).await;
        reset(&server).await;
        let objects = stranger.cache.get_many(Instance::HOST, ["a", "c", "b", "a", "d"]).await;
        assert_eq!(found(&objects), 4);
        let [a, _, b, again, _] = &objects[..] else { panic!("{objects:?}") };
        assert!(Arc::ptr_eq(a.as_ref().unwrap(), b.as_ref().unwrap()), "decoded once");
        assert!(Arc::ptr_eq(a.as_ref().unwrap(), again.as_ref().unwrap()));
        let calls = calls(&server).await;
        assert!(calls.contains(&("mget".to_owned(), 2)), "by the script, and of the large one: {calls:?}");
        let left = server.keys("larder:instance:s*").await.unwrap();
        assert!(left.is_empty(), "staged, and left there: {left:?}");
    }
}

/// What this node remembers may be wrong by now.
#[tokio::test]
async fn a_key_that_leads_elsewhere_by_now_is_asked_for_again() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        node.cache.set_many(many(3, "old")).await;
        let other = on(&server).await;
        other.set("9", &["b0"], "moved").await;
        other.cache.invalidate(Instance::ID, ["1"]).await.unwrap();
        let objects = node.cache.get_many(Instance::HOST, hosts(3)).await;
        let names: Vec<_> = objects.iter().map(|found| found.as_ref().map(|found| &*found.name)).collect();
        assert_eq!(names, [Some("moved"), None, Some("old")]);
    }
}

#[tokio::test]
async fn a_load_of_many_is_a_lookup_and_a_fill() {
    for server in servers(ServerOptions::default()).await {
        store(&server, 50).await;
        // So that the server knows the script.
        on(&server).await.cache.get_many(Instance::HOST, ["a0"]).await;
        let node = on(&server).await;
        let load = async || {
            let loader = |missing: Vec<String>| async move {
                let all = many(100, "loaded").into_iter();
                Ok::<_, ()>(all.filter(|object| missing.contains(&object.hosts[1])).collect())
            };
            let loaded = node.cache.load_many(Instance::HOST, hosts(100), loader).await.unwrap();
            loaded.iter().flatten().filter(|object| object.name == "loaded").count()
        };
        reset(&server).await;
        assert_eq!(load().await, 50);
        let lookup = [("evalsha", 1), ("getrange", 1 + 50), ("mget", 1)];
        // Two scripts, of which the first leaves a record for the second.
        let fill = [("evalsha", 2), ("get", 1), ("getrange", 2 + 50), ("mget", 50), ("set", 1 + 150), ("unlink", 1)];
        let sum =
            |name: &str| [lookup.as_slice(), &fill].concat().iter().filter(|one| one.0 == name).map(|one| one.1).sum();
        assert_eq!(
            calls(&server).await,
            ["evalsha", "get", "getrange", "mget", "set", "unlink"].map(|name| (name.to_owned(), sum(name)))
        );
        reset(&server).await;
        assert_eq!(load().await, 50);
        assert_eq!(calls(&server).await, counted(&[("getrange", 1), ("mget", 2)]), "all of it is there");
    }
}

#[tokio::test]
async fn a_set_of_many_is_a_ticket_and_a_script_for_each_few() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        // So that the server knows the script.
        node.cache.set_many(many(1, "x")).await;
        reset(&server).await;
        let stored = node.cache.set_many(many(100, "x")).await;
        assert!(stored.iter().all(|stored| *stored == Stored::Accepted), "{stored:?}");
        let calls = calls(&server).await;
        assert!(calls.contains(&("evalsha".to_owned(), 3)), "300 keys, up to 128 in a script: {calls:?}");
        // Each script reads the clock once, and then for each object. What the scripts before it have written it need not read.
        let clock = 1 + 3 + 100;
        assert!(calls.contains(&("getrange".to_owned(), clock)), "the ticket, and the clock: {calls:?}");
        let stranger = on(&server).await;
        assert_eq!(found(&stranger.cache.get_many(Instance::ID, ids(100)).await), 100);
    }
}

#[tokio::test]
async fn an_invalidation_of_many_is_one_round_trip() {
    for server in servers(ServerOptions::default()).await {
        store(&server, 600).await;
        let node = on(&server).await;
        node.cache.invalidate(Instance::ID, ["none"]).await.unwrap();
        let invalidate = async |node: Node, _| {
            let by_id = ids(300).into_iter().map(|id| Instance::ID.key(id));
            let by_host = hosts(600).into_iter().skip(300).map(|host| Instance::HOST.key(host));
            node.cache.invalidate_many(by_id.chain(by_host)).await.unwrap()
        };
        let sent = [("evalsha", 5), ("get", 300), ("getrange", 5), ("setrange", 10), ("unlink", 600)];
        assert_eq!(in_one_go(&server, &sent, invalidate).await, Delivery::Applied);
        assert_eq!(found(&node.cache.get_many(Instance::ID, ids(600)).await), 0);
    }
}

/// A pitfall: a server that does not know a script says so within a pipeline, too.
#[tokio::test]
async fn scripts_that_the_server_has_lost_are_repaired_within_a_pipeline() {
    for server in servers(ServerOptions::default()).await {
        let mut settings = config(server.socket());
        settings.breaker.consecutive_failures = 1;
        let node = Node::with_ages(settings, Duration::ZERO, Duration::from_secs(600));
        node.readable().await;
        for _ in 0..3 {
            server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
            let stored = node.cache.set_many(many(300, "x")).await;
            assert!(stored.iter().all(|stored| *stored == Stored::Accepted));
            let stranger = Node::with_ages(config(server.socket()), Duration::ZERO, Duration::from_secs(600));
            stranger.readable().await;
            server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
            assert_eq!(found(&stranger.cache.get_many(Instance::HOST, hosts(300)).await), 300);
            assert_eq!(stranger.cache.stats().faults.get(), 0);
            server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
            let all = hosts(300).into_iter().map(|host| Instance::HOST.key(host));
            assert_eq!(node.cache.invalidate_many(all).await.unwrap(), Delivery::Applied);
            assert_eq!(found(&node.cache.get_many(Instance::ID, ids(300)).await), 0);
        }
        assert_eq!((node.redis.breaker().state(), node.redis.breaker().snapshot().failures), (State::Closed, 0));
        assert_eq!(node.cache.stats().faults.get(), 0);
    }
}

/// C7 at the price of an MGET: what is due rides along, for known keys and for unknown ones.
#[tokio::test]
async fn touches_ride_along() {
    let age = Duration::from_secs(600);
    for server in servers(ServerOptions::default()).await {
        let writer = Node::with_ages(config(server.socket()), Duration::from_secs(1000), age);
        writer.readable().await;
        writer.cache.set_many(many(3, "x")).await;
        let prefix = format!("larder:instance:o{:016x}:", writer.cache.schema().fingerprint());
        for index in [Instance::ID, Instance::HOST] {
            // As if most of the age had passed.
            for id in ids(3) {
                server.command(&["PEXPIRE", &format!("{prefix}{id}"), "100000"]).await.unwrap();
            }
            let node = Node::with_ages(config(server.socket()), Duration::from_secs(1000), age);
            node.readable().await;
            let keys = if index == Instance::ID { ids(3) } else { hosts(3) };
            assert_eq!(found(&node.cache.get_many(index, &keys).await), 3);
            for id in ids(3) {
                let left = server.command(&["PTTL", &format!("{prefix}{id}")]).await.unwrap().int().unwrap();
                assert!((100_001..=600_000).contains(&left), "{index:?}: {left} ms");
            }
            reset(&server).await;
            assert_eq!(found(&node.cache.get_many(index, &keys).await), 3);
            assert_eq!(calls(&server).await, counted(&[("mget", 1)]), "not due again");
        }
        // Where the server takes no writes it is read all the same.
        let node = Node::with_ages(config(server.socket()), Duration::from_secs(1000), age);
        node.readable().await;
        server.config_set("min-replicas-to-write", "1").await.unwrap();
        for _ in 0..2 {
            assert_eq!(found(&node.cache.get_many(Instance::HOST, hosts(3)).await), 3);
            assert_eq!(found(&node.cache.get_many(Instance::ID, ids(3)).await), 3);
        }
        assert_eq!(node.redis.breaker().snapshot().failures, 0);
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_a_miss_of_its_own_key_alone() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        node.cache.set_many(many(3, "x")).await;
        let prefix = format!("larder:instance:o{:016x}:", node.cache.schema().fingerprint());
        server
            .command(&["DEL", &format!("{prefix}1"), &format!("{prefix}2"), "larder:instance:ihost:b0"])
            .await
            .unwrap();
        server.command(&["LPUSH", &format!("{prefix}1"), "x"]).await.unwrap();
        server.command(&["SET", &format!("{prefix}2"), "not an object"]).await.unwrap();
        server.command(&["LPUSH", "larder:instance:ihost:b0", "x"]).await.unwrap();
        let objects = node.cache.get_many(Instance::ID, ids(3)).await;
        assert!(objects[0].is_some() && objects[1].is_none() && objects[2].is_none());
        let left = server.command(&["EXISTS", &format!("{prefix}2")]).await.unwrap().int();
        assert_eq!((left, node.cache.stats().faults.get()), (Some(0), 1), "C11: reported and removed");
        let stranger = on(&server).await;
        server.command(&["SET", &format!("{prefix}2"), "not an object"]).await.unwrap();
        assert_eq!(found(&stranger.cache.get_many(Instance::HOST, ["b0", "b1", "a0", "b2"]).await), 1);
        assert_eq!(stranger.cache.stats().faults.get(), 1);
        assert_eq!(node.redis.breaker().snapshot().failures + stranger.redis.breaker().snapshot().failures, 0);
    }
}

/// Whatever a call asks for, it is one operation: one time-out, and one failure for the breaker.
#[tokio::test]
async fn a_server_that_hangs_costs_a_call_one_time_out_and_the_breaker_one_failure() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        node.cache.set_many(many(3, "x")).await;
        server.stop().unwrap();
        // From here on the clock jumps from one timer to the next. Three calls take 0.9 s by it, in which one heartbeat may fail as well.
        tokio::time::pause();
        let failures = || node.redis.breaker().snapshot().failures;
        let by_host: Vec<_> = (0..2000).map(|n| format!("a{n}")).collect();
        assert_eq!(found(&node.cache.get_many(Instance::HOST, by_host).await), 0);
        assert!((1..=2).contains(&failures()), "{}", failures());
        assert_eq!(node.cache.stats().miss(Miss::TimedOut).get(), 2000);
        let stored = node.cache.set_many(many(2000, "new")).await;
        assert!(stored.iter().all(|stored| *stored == Stored::Unavailable));
        assert!((2..=3).contains(&failures()), "it asked for its ticket, and no more: {}", failures());
        assert_eq!(node.cache.status().journal, 6000);
        let all = by_ids(3000).await;
        assert_eq!(node.cache.invalidate_many(all).await.unwrap(), Delivery::Deferred);
        assert!((3..=4).contains(&failures()), "the first lot, and no more: {}", failures());
        tokio::time::resume();
        server.cont().unwrap();
        node.readable().await;
        assert_eq!(found(&node.cache.get_many(Instance::ID, ids(3)).await), 0, "the journal has been replayed");
    }
}

async fn by_ids(count: usize) -> Vec<AnyKey<Instance>> {
    ids(count).into_iter().map(|id| Instance::ID.key(id)).collect()
}

/// What was answered before the time was over is no miss.
#[tokio::test]
async fn what_was_answered_in_time_is_served() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        on(&server).await.cache.set_many(many(600, "x")).await;
        let node = Node::begin(config(proxy.socket()).operation_timeout(Duration::from_secs(2)));
        node.readable().await;
        let answers = AtomicUsize::new(0);
        // The first lot is answered; then there is silence.
        proxy.set(
            Direction::ToServer,
            Fault::rewrite(move |bytes| {
                let ids = bytes.windows(4).filter(|word| word == b"MGET").count();
                if answers.fetch_add(ids, Ordering::SeqCst) + ids > 8 { Vec::new() } else { bytes }
            }),
        );
        let objects = node.cache.get_many(Instance::ID, ids(600)).await;
        assert_eq!(found(&objects), 512);
        assert_eq!(node.cache.stats().miss(Miss::TimedOut).get(), 88);
        proxy.set_both(Fault::Pass);
    }
}

/// Guarded from the first moment, each of them.
#[tokio::test]
async fn a_set_of_many_that_is_dropped_invalidates_the_rest() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let node = Node::begin(config(proxy.socket()));
        node.readable().await;
        node.cache.set_many(many(50, "old")).await;
        proxy.set(Direction::ToServer, Fault::Hold);
        let cache = node.cache.clone();
        let caller = tokio::spawn(async move { cache.set_many(many(50, "new")).await });
        tokio::task::yield_now().await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert_eq!(node.cache.status().journal, 150);
        proxy.set_both(Fault::Pass);
        node.readable().await;
        let objects = node.cache.get_many(Instance::ID, ids(50)).await;
        assert!(objects.iter().flatten().all(|found| found.name == "new"), "{objects:?}");
    }
}

#[tokio::test]
async fn a_full_server_refuses_many_and_forgets_their_earlier_states() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        node.cache.set_many(many(100, "old")).await;
        server.config_set("maxmemory", "1mb").await.unwrap();
        let stored = node.cache.set_many(many(100, "new")).await;
        assert!(stored.iter().all(|stored| *stored == Stored::Full), "{stored:?}");
        assert_eq!(found(&node.cache.get_many(Instance::ID, ids(100)).await), 0);
        assert_eq!((node.cache.status().journal, node.redis.breaker().snapshot().failures), (0, 0));
    }
}

/// What the server refuses within a pipeline is heard, and what it has answered beside it is believed.
#[tokio::test]
async fn a_redirection_or_a_refusal_within_a_pipeline_is_heard() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        node.cache.set_many(many(3, "x")).await;
        server.command(&["ACL", "SETUSER", "default", "-mget"]).await.unwrap();
        for _ in 0..10 {
            assert_eq!(found(&node.cache.get_many(Instance::ID, ids(3)).await), 0);
            assert!(node.cache.get(Instance::ID, "0").await.is_some(), "one at a time needs no such right");
        }
        assert_eq!(node.redis.breaker().state(), State::Closed);
        server.command(&["ACL", "SETUSER", "default", "+@all"]).await.unwrap();
        let proxy = Proxy::start(&server).await.unwrap();
        let node = Node::begin(config(proxy.socket()));
        node.readable().await;
        // As a node of a cluster would answer.
        proxy.set(Direction::ToClient, Fault::rewrite(|_| b"-MOVED 42 127.0.0.1:1\r\n".to_vec()));
        assert_eq!(found(&node.cache.get_many(Instance::ID, ids(3)).await), 0);
        // The connection is given up. That a key is elsewhere says nothing about the server's health.
        until("the cache cannot be read", || !node.cache.status().readable).await;
        proxy.set_both(Fault::Pass);
    }
}

/// In this order, one after the other, as if they had been set alone.
#[tokio::test]
async fn the_last_of_those_that_claim_a_key_has_it() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        let large = "x".repeat(10_000);
        node.set("1", &["moves", "stays"], "old").await;
        let stored = node
            .cache
            .set_many([
                instance("2", &["moves"], "takes it from one that is stored"),
                instance("1", &["stays"], "has given it up"),
                instance("3", &["x"], &large),
                instance("3", &["y"], "the same object again"),
                instance("4", &["z"], "loses it"),
                instance("5", &["z"], &large),
            ])
            .await;
        assert_eq!(stored, [Stored::Accepted; 6]);
        for node in [&node, &on(&server).await] {
            let found = node.cache.get_many(Instance::HOST, ["moves", "stays", "x", "y", "z"]).await;
            let ids: Vec<_> = found.iter().map(|found| found.as_ref().map(|found| &*found.id)).collect();
            assert_eq!(ids, [Some("2"), Some("1"), None, Some("3"), Some("5")]);
            assert!(node.by_id("4").await.is_none());
        }
    }
}

/// What load options keep on the server beyond an object's age, or in its place, is no object to a get of many either.
#[tokio::test]
async fn what_has_expired_and_what_is_known_to_be_nowhere_is_a_miss() {
    for server in servers(ServerOptions::default()).await {
        let long = Duration::from_secs(600);
        let loading = LoadOptions::new().serve_expired(long).negative_age(long);
        let open = async || {
            let redis = Redis::open(config(server.socket())).unwrap();
            let schema = Schema::of::<Instance>().ages(Duration::from_millis(50), Duration::ZERO).loading(loading);
            let cache: Cache<Instance> =
                Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
            until("the cache can be read", || cache.status().readable).await;
            cache
        };
        let (cache, stranger) = (open().await, open().await);
        let stored = cache.set_many(many(3, "x")).await;
        assert_eq!(stored, [Stored::Accepted; 3]);
        // Each node for itself: by a part of a millisecond they know the server's time differently.
        for node in [&cache, &stranger] {
            let begun = Instant::now();
            while found(&node.get_many(Instance::ID, ids(3)).await) > 0 {
                assert!(begun.elapsed() < Duration::from_secs(30), "they do not expire");
            }
        }
        let expired = stranger.stats().miss(Miss::Expired).get();
        for (index, keys) in [(Instance::ID, ids(3)), (Instance::HOST, hosts(3))] {
            assert_eq!(found(&stranger.get_many(index, keys).await), 0);
        }
        assert_eq!(stranger.stats().miss(Miss::Expired).get() - expired, 6);
        let left = server.keys("larder:instance:o*").await.unwrap();
        assert_eq!(left.len(), 3, "kept for who fails to load their successors");

        let nothing = |_| async { Ok::<_, ()>(Vec::new()) };
        let nobody = ["nobody", "no one"];
        for index in [Instance::ID, Instance::HOST] {
            assert_eq!(found(&cache.load_many(index, nobody, nothing).await.unwrap()), 0);
            for _ in 0..2 {
                assert_eq!(found(&stranger.get_many(index, nobody).await), 0);
            }
        }
        assert_eq!(stranger.stats().miss(Miss::KnownAbsent).get(), 8);
        assert_eq!(cache.stats().faults.get() + stranger.stats().faults.get(), 0);
    }
}
