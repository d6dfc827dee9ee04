//! Several caches on one server: how they are recovered beside each other, and what that costs.

use crate::instance::Instance;
use crate::node::{Node, calls, config, servers, until};
use larder::breaker::State;
use larder::connector::redis::Redis;
use larder::{Cache, Delivery, Lookup, Schema, Stored};
use larder_testing::entries::Instance as Versioned;
use larder_testing::server::{Reply, ScriptedServer, ServerOptions};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

fn open(redis: &Redis, name: &str) -> Cache<Instance> {
    let schema = Schema::of::<Instance>().named(name);
    Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap()
}

/// The clock as `clock.lua` replies it: epoch, sequence, state, history, registered.
fn clock(epoch: i64, state: i64) -> Vec<u8> {
    Reply::Array([epoch, 0, state, 0, 1].map(Reply::Int).into()).encode()
}

/// Answers what every connection begins with; `None` for everything else.
fn greeting(words: &[Vec<u8>]) -> Option<Vec<u8>> {
    match words[0].to_ascii_uppercase().as_slice() {
        b"PING" => Some(b"+PONG\r\n".to_vec()),
        b"EVAL" if words[1] == b"return 1" => Some(b":1\r\n".to_vec()),
        // Which rights the user has, a server this old cannot tell.
        b"EVAL" if words[1].windows(13).any(|part| part == b"acl_check_cmd") => Some(b"-ERR unknown\r\n".to_vec()),
        b"GET" => Some(b"$-1\r\n".to_vec()),
        b"HELLO" | b"CLIENT" | b"INFO" => Some(b"-ERR unknown command\r\n".to_vec()),
        _ => None,
    }
}

/// A cache of many objects was cleared, and a small one beside it was unread for as long; no heartbeat went out either.
#[tokio::test]
async fn a_clearing_that_never_ends_holds_up_no_other_cache_and_no_heartbeat() {
    let pings = Arc::new(AtomicUsize::new(0));
    let counted = pings.clone();
    let server = ScriptedServer::start(move |words| {
        if words[0].eq_ignore_ascii_case(b"PING") {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(reply) = greeting(words) {
            return reply;
        }
        let large = words.iter().any(|word| word.starts_with(b"larder:large:"));
        match words[0].as_slice() {
            // There always is one more key to look at.
            b"SCAN" => Reply::Array(vec![Reply::Bulk(b"1".to_vec()), Reply::Array(Vec::new())]).encode(),
            b"EVALSHA" if words[4] == b"larder:small:c" => {
                Reply::Bulk([&[1][..], &[0; 7], &[7], &[0; 8]].concat()).encode()
            }
            b"EVALSHA" if large => clock(7, 3),
            b"EVALSHA" => clock(7, 1),
            _ => Reply::Nil.encode(),
        }
    })
    .await
    .unwrap();
    let redis = Redis::open(config(server.socket())).unwrap();
    let (large, small) = (open(&redis, "large"), open(&redis, "small"));
    until("the small cache can be read", || small.status().readable).await;
    let heartbeats = pings.load(Ordering::Relaxed) + 2;
    until("the heartbeat goes on", || pings.load(Ordering::Relaxed) >= heartbeats).await;
    assert!(!large.status().readable);
    assert_eq!(small.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
    assert_eq!(large.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
    assert!(small.status().readable && !large.status().readable);
}

/// The clocks of a thousand caches, asked for one after the other, cost seconds at each reconnect.
#[tokio::test]
async fn the_clocks_of_all_caches_are_asked_for_side_by_side() {
    const CACHES: usize = 32;
    // Not one clock is told before all have been asked for.
    let withheld = Mutex::new((0, Vec::new()));
    let server = ScriptedServer::start(move |words| {
        let mut withheld = withheld.lock().unwrap();
        let reply = greeting(words).unwrap_or_else(|| {
            withheld.0 += 1;
            clock(7, 1)
        });
        if !(1..CACHES).contains(&withheld.0) {
            return [std::mem::take(&mut withheld.1), reply].concat();
        }
        withheld.1.extend(reply);
        Vec::new()
    })
    .await
    .unwrap();
    let mut settings = config(server.socket());
    settings.connect_timeout = std::time::Duration::from_secs(60);
    let redis = Redis::open(settings).unwrap();
    let caches: Vec<_> = (0..CACHES).map(|number| open(&redis, &format!("cache{number}"))).collect();
    until("all can be read", || caches.iter().all(|cache| cache.status().readable)).await;
}

/// Each deferred set of a versioned entry demanded a version of its own, and so was a round trip of its own.
#[tokio::test]
async fn a_journal_of_versioned_sets_is_replayed_in_batches() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        let schema = Schema::of::<Versioned>();
        let cache: Cache<Versioned> =
            Cache::new(Arc::new(node.redis.connector(schema.clone()).unwrap()), schema).unwrap();
        until("the cache can be read", || cache.status().readable).await;
        let state = |id: u64| Versioned::new(&id.to_string(), &[&format!("host of {id}")], "x", 1000 + id);
        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        server.stop().unwrap();
        while node.redis.breaker().state() == State::Closed {
            assert_eq!(cache.set(state(0)).await, Stored::Unavailable);
        }
        for id in 0..3000 {
            assert_eq!(cache.set(state(id)).await, Stored::Unavailable);
        }
        assert_eq!(cache.status().journal, 6000);
        server.cont().unwrap();
        until("the journal is replayed", || cache.status().journal == 0 && cache.status().readable).await;
        assert_eq!(cache.stats().replayed.get(), 6000);
        let scripts = calls(&server, "evalsha").await;
        assert!(scripts < 100, "{scripts} scripts for 6000 keys");
        // Each object's own version is demanded, and nobody else's.
        let ticket = match cache.lookup(Versioned::ID, "nobody has this id").await {
            Lookup::Miss { ticket: Some(ticket), .. } => ticket,
            other => panic!("{other:?}"),
        };
        for id in [0, 1, 127, 128, 129, 1500, 2999] {
            let lower = Versioned { sequence: 999 + id, ..state(id) };
            assert_eq!(cache.fill(lower, ticket).await, Stored::Outdated, "{id}");
            assert_eq!(cache.fill(state(id), ticket).await, Stored::Accepted, "{id}");
        }
    }
}

/// A cache that fits into memory is cleared by one pass over the server's keys, which may be mostly other caches'.
#[tokio::test]
async fn a_small_cache_is_cleared_in_one_pass() {
    for server in servers(ServerOptions::default()).await {
        let node = Node::on(&server).await;
        for id in 0..20 {
            node.set(&id.to_string(), &[&format!("host of {id}")], "x").await;
        }
        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
        assert_eq!(calls(&server, "scan").await, 1);
        assert_eq!(server.keys("larder:instance:[^n]*").await.unwrap(), [b"larder:instance:c"]);
    }
}
