//! Memory of each node in front of the server: what is read from it, and what a change waits for.

use crate::instance::{Instance, instance};
use crate::node::{Node, at_once, calls, config, servers, until};
use crate::restart::{replicate, replicated};
use crate::tier_node::TierNode;
use larder::connector::redis::Redis;
use larder::connector::tiered::{Consistency, TieredOptions};
use larder::contract::KeyRef;
use larder::{Cache, Connector, Delivery, Lookup, Schema, Stored};
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::{Reply, Server, ServerOptions};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Long enough that a memory is still valid when a test looks at it, also on a busy machine.
const LONG: Duration = Duration::from_secs(3);

/// Where the table of followers begins in the clock.
const TABLE: &str = "131584";

/// The entries of the table of followers that are not empty.
pub(crate) async fn followers(server: &Server) -> usize {
    let reply = server.command(&["GETRANGE", "larder:instance:c", TABLE, "-1"]).await.unwrap();
    let table = reply.bytes().unwrap().to_vec();
    table.chunks(32).filter(|entry| entry.iter().any(|byte| *byte != 0)).count()
}

async fn until_followers(server: &Server, count: usize) {
    let begun = Instant::now();
    while followers(server).await != count {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {count} followers");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Two nodes follow, one changes something, and one leaves: every script of theirs runs.
pub(crate) async fn follow_a_little(server: &Server) {
    let [writer, reader] = [TierNode::on(server.socket(), LONG).await, TierNode::on(server.socket(), LONG).await];
    writer.set("1", &["a"], "Acme").await;
    reader.has("a").await;
    writer.invalidate("a").await;
    assert_eq!(writer.cache.stats().faults.get() + reader.cache.stats().faults.get(), 0);
    drop(reader);
    until_followers(server, 1).await;
}

#[tokio::test]
async fn a_hit_in_memory_asks_the_server_nothing() {
    for server in servers(ServerOptions::default()).await {
        let node = TierNode::on(server.socket(), LONG).await;
        node.set("1", &["a", "b"], "Acme").await;
        node.has("a").await;
        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        for host in ["a", "b"] {
            assert_eq!(node.here(host).unwrap().name, "Acme", "by each of its keys");
        }
        assert_eq!(node.found(KeyRef { index: 0, bytes: b"1" }).unwrap().name, "Acme");
        let many = node.cache.get_many(Instance::HOST, ["a", "b"]).await;
        assert!(many.iter().all(Option::is_some));
        assert_eq!(calls(&server, "get").await + calls(&server, "mget").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_elsewhere_is_gone_from_every_memory_when_it_is_applied() {
    for server in servers(ServerOptions::default()).await {
        let (writer, reader) = (TierNode::on(server.socket(), LONG).await, TierNode::on(server.socket(), LONG).await);
        for round in 0..40 {
            writer.set("1", &["a", "b"], &format!("{round}")).await;
            reader.has("a").await;
            writer.has("a").await;
            match round % 5 {
                0 => writer.invalidate("b").await,
                1 => {
                    let id = writer.cache.invalidate(Instance::ID, ["1"]).await;
                    assert_eq!(id.unwrap(), Delivery::Applied);
                }
                2 => {
                    assert_eq!(writer.cache.delete(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
                    assert!(reader.here("b").is_none(), "it is asked for anew, without the key");
                    assert_eq!(reader.by_host("b").await.unwrap().name, format!("{round}"));
                }
                3 => assert_eq!(writer.cache.truncate().await.unwrap(), Delivery::Applied),
                _ => {
                    writer.set("1", &["b"], "without a").await;
                    assert_eq!(reader.by_host("b").await.unwrap().name, "without a");
                }
            }
            assert!(reader.by_host("a").await.is_none(), "round {round}");
            assert!(writer.by_host("a").await.is_none(), "round {round}");
        }
        assert_eq!(followers(&server).await, 2);
    }
}

/// A node without a memory of its own waits all the same: the server's answer tells it that others have one.
#[tokio::test]
async fn a_node_without_a_memory_waits_for_those_with_one() {
    for server in servers(ServerOptions::default()).await {
        let (plain, reader) = (Node::on(&server).await, TierNode::on(server.socket(), LONG).await);
        plain.readable().await;
        for round in 0..20 {
            plain.set("1", &["a"], "old").await;
            reader.has("a").await;
            if round % 2 == 0 {
                assert_eq!(plain.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
            } else {
                assert_eq!(plain.cache.truncate().await.unwrap(), Delivery::Applied);
            }
            assert!(reader.here("a").is_none());
        }
    }
}

/// The bell only saves time. Here nobody may ring it, and nobody may hear it.
#[tokio::test]
async fn without_the_bell_changes_are_waited_for_all_the_same() {
    for server in servers(ServerOptions::default()).await {
        server.command(&["ACL", "SETUSER", "silent", "on", ">secret", "~*", "+@all", "resetchannels"]).await.unwrap();
        let config = config(server.socket()).credentials("silent", "secret");
        let options = TieredOptions::new().validity(Duration::from_millis(300));
        let nodes = [(); 2].map(|()| TierNode::begin(config.clone(), &options));
        for node in &nodes {
            node.follows().await;
        }
        let [writer, reader] = nodes;
        for _ in 0..3 {
            writer.set("1", &["a"], "old").await;
            reader.has("a").await;
            writer.invalidate("a").await;
            assert!(reader.here("a").is_none());
        }
    }
}

/// The node that is cut off may read its memory for a validity, and for so long the change waits; once, and not again.
#[tokio::test]
async fn a_follower_that_is_cut_off_is_waited_for_once() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let validity = Duration::from_millis(500);
        let (writer, reader) =
            (TierNode::on(server.socket(), validity).await, TierNode::on(proxy.socket(), validity).await);
        writer.set("1", &["a"], "old").await;
        reader.has("a").await;
        proxy.set_both(Fault::Hold);
        writer.invalidate("a").await;
        assert!(reader.here("a").is_none(), "its validity is over");
        until_followers(&server, 1).await;
        // Now nobody is waited for: the table has no other entry.
        writer.set("2", &["b"], "x").await;
        writer.invalidate("b").await;
        proxy.set_both(Fault::Pass);
        reader.follows().await;
        assert_eq!(followers(&server).await, 2);
    }
}

/// The table of followers is lost with the clock, whether everything is lost or the clock alone. Whoever finds none must not take that for nobody: a memory that does not hear of it is valid for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_lost_everything_has_lost_the_followers() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let reader = TierNode::on(proxy.socket(), LONG).await;
        let plain = Node::on(&server).await;
        plain.readable().await;
        for (truncates, everything) in [(true, true), (false, true), (true, false), (false, false)] {
            plain.set("1", &["a"], "old").await;
            reader.has("a").await;
            proxy.set_both(Fault::Hold);
            if everything {
                server.flushall().await.unwrap();
            } else {
                server.command(&["UNLINK", "larder:instance:c"]).await.unwrap();
            }
            let changed = match truncates {
                true => plain.cache.truncate().await,
                false => plain.cache.invalidate(Instance::HOST, ["a"]).await,
            };
            // It is deferred where the loss is noticed, and applied when the cache was recovered.
            if changed.unwrap() == Delivery::Deferred {
                until("the change is applied", || plain.cache.status().journal == 0).await;
            }
            assert!(reader.here("a").is_none(), "{}: its memory is valid no more", server.binary());
            proxy.set_both(Fault::Pass);
            reader.follows().await;
            plain.readable().await;
        }
    }
}

/// FusionCache, BentoCache: what was invalidated while the channel was away stayed in memory after it had come back. Here a memory is read only after the node
/// has asked what was touched, however it was cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_was_not_cleared_after_the_channel_came_back() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let validity = Duration::from_millis(500);
        let (writer, reader) =
            (TierNode::on(server.socket(), validity).await, TierNode::on(proxy.socket(), validity).await);
        writer.set("1", &["a"], "old").await;
        reader.has("a").await;
        proxy.refuse().await;
        proxy.drop_connections().await;
        until("the reader has noticed", || !reader.cache.status().readable).await;
        writer.invalidate("a").await;
        proxy.accept().await.unwrap();
        reader.follows().await;
        assert!(reader.here("a").is_none());
        assert!(reader.by_host("a").await.is_none());
    }
}

/// The wait needs no server: a server that dies meanwhile makes it no longer than a validity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_ends_although_the_server_is_gone() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let validity = Duration::from_secs(1);
        let (writer, reader) =
            (TierNode::on(server.socket(), validity).await, TierNode::on(proxy.socket(), validity).await);
        writer.set("1", &["a"], "old").await;
        reader.has("a").await;
        proxy.set_both(Fault::Hold);
        let cache = writer.cache.clone();
        let waiting = tokio::spawn(async move { cache.invalidate(Instance::HOST, ["a"]).await.unwrap() });
        let begun = Instant::now();
        while !server.keys("larder:instance:o*").await.unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        // The server may have executed the change and not answered it yet. Then it would be deferred, and nobody would wait.
        until("the change was answered", || writer.cache.status().under_way == 0).await;
        server.kill();
        let ended = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert_eq!(ended.expect("the wait ends").unwrap(), Delivery::Applied);
        assert!(reader.here("a").is_none());
    }
}

/// A node whose threads stand still keeps its memory, and does not hear of the change. When the change is applied, its validity is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_finds_its_memory_no_longer_valid() {
    for server in servers(ServerOptions::default()).await {
        let validity = Duration::from_millis(500);
        let writer = TierNode::on(server.socket(), validity).await;
        writer.set("1", &["a"], "old").await;
        let still = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = server.socket().to_owned();
        let reader = still
            .spawn(async move {
                let reader = TierNode::on(&socket, validity).await;
                reader.has("a").await;
                reader
            })
            .await
            .unwrap();
        let (go_on, stands) = mpsc::channel::<()>();
        still.spawn(async move { stands.recv().unwrap_err() });
        writer.invalidate("a").await;
        assert!(reader.here("a").is_none());
        drop(go_on);
        reader.follows().await;
        assert!(reader.by_host("a").await.is_none());
        tokio::task::spawn_blocking(move || drop((reader, still))).await.unwrap();
    }
}

/// The answer to a get was made before the change, and arrives after the mark. Whoever asked may have it; the memory must not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_a_mark_has_overtaken_is_not_taken_in() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let validity = Duration::from_millis(500);
        let (writer, reader) =
            (TierNode::on(server.socket(), validity).await, TierNode::on(proxy.socket(), validity).await);
        writer.set("1", &["a"], "old").await;
        assert!(reader.by_host("a").await.is_some(), "it knows where the object is");
        for _ in 0..20 {
            writer.set("1", &["a"], "old").await;
            proxy.set(Direction::ToClient, Fault::Delay(Duration::from_millis(20)));
            let asking = {
                let cache = reader.cache.clone();
                tokio::spawn(async move { cache.get(Instance::HOST, "a").await })
            };
            // The get and what the follower asks are answered at about the same time, in either order.
            writer.set("1", &["a"], "new").await;
            proxy.set(Direction::ToClient, Fault::Pass);
            let _ = asking.await.unwrap();
            assert_ne!(reader.by_host("a").await.map(|object| object.name.clone()), Some("old".to_owned()));
            reader.follows().await;
        }
    }
}

/// A server with another history may know nothing of those who followed the one before it. So nothing counts as applied before their validities are over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_the_memories_of_those_who_followed_the_old_server_are_waited_for() {
    for server in servers(ServerOptions::default().persistent()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let (writer, reader) = (TierNode::on(server.socket(), LONG).await, TierNode::on(proxy.socket(), LONG).await);
        writer.set("1", &["a"], "old").await;
        reader.has("a").await;
        server.command(&["SAVE"]).await.unwrap();
        proxy.set_both(Fault::Hold);
        server.kill();
        until("the connection is gone", || !writer.cache.status().readable).await;
        // From before anybody followed.
        server.restart().await.unwrap();
        let delivery = writer.cache.invalidate(Instance::HOST, ["a"]).await.unwrap();
        until("the change is applied", || {
            let status = writer.cache.status();
            status.readable && status.journal == 0 && status.under_way == 0
        })
        .await;
        assert!(reader.here("a").is_none(), "it was {delivery:?}");
        proxy.set_both(Fault::Pass);
        assert!(reader.by_host("a").await.is_none());
    }
}

#[tokio::test]
async fn flushall_empties_every_memory() {
    for server in servers(ServerOptions::default()).await {
        let options = TieredOptions::new().validity(Duration::from_millis(300));
        let (writer, reader) =
            (TierNode::with(server.socket(), &options).await, TierNode::with(server.socket(), &options).await);
        writer.set("1", &["a"], "old").await;
        reader.has("a").await;
        server.flushall().await.unwrap();
        let _ = writer.cache.invalidate(Instance::HOST, ["a"]).await.unwrap();
        until("the change is applied", || writer.cache.status().readable && writer.cache.status().journal == 0).await;
        assert!(reader.here("a").is_none());
        reader.follows().await;
        writer.follows().await;
        writer.set("1", &["a"], "new").await;
        reader.has("a").await;
        assert_eq!(reader.here("a").unwrap().name, "new");
    }
}

/// Without a place in the table nobody would wait for the node, so it reads nothing from its memory. Where nothing changes, nobody waits for the dead.
#[tokio::test]
async fn a_node_for_which_there_is_no_place_reads_the_server_until_the_dead_are_removed() {
    for server in servers(ServerOptions::default()).await {
        let first = TierNode::on(server.socket(), LONG).await;
        first.set("1", &["a"], "Acme").await;
        let strangers: Vec<u8> = (1..=1024_u64).flat_map(|id| [id.to_be_bytes(); 4].concat()).collect();
        server.command(&[b"SETRANGE", &b"larder:instance:c"[..], b"131616", &strangers]).await.unwrap();
        let second = TierNode::begin(config(server.socket()), &TieredOptions::new().validity(LONG));
        until("it can be read", || second.cache.status().readable).await;
        let found = second.by_host("a").await;
        assert!(followers(&server).await < 1025 || second.here("a").is_none());
        assert_eq!(found.unwrap().name, "Acme");
        second.follows().await;
        assert_eq!(followers(&server).await, 2, "who is alive keeps its place");
        second.has("a").await;
    }
}

#[tokio::test]
async fn who_leaves_is_not_waited_for() {
    for server in servers(ServerOptions::default()).await {
        let (writer, reader) = (TierNode::on(server.socket(), LONG).await, TierNode::on(server.socket(), LONG).await);
        assert_eq!(followers(&server).await, 2);
        drop(reader);
        until_followers(&server, 1).await;
        writer.invalidate("a").await;
    }
}

/// What was deferred is in no memory of the node that has deferred it, and neither is what somebody who went away has changed.
#[tokio::test]
async fn this_nodes_memory_has_nothing_that_it_has_deferred() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let node = TierNode::on(proxy.socket(), LONG).await;
        node.set("1", &["a"], "old").await;
        node.has("a").await;
        drop(at_once(node.cache.invalidate(Instance::HOST, ["a"])));
        assert!(node.here("a").is_none(), "the caller went away");
        node.follows().await;
        node.set("1", &["a"], "old").await;
        node.has("a").await;
        proxy.set_both(Fault::Hold);
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Deferred);
        assert!(node.here("a").is_none());
        proxy.set_both(Fault::Pass);
        until("it is applied", || node.cache.status().readable && node.cache.status().journal == 0).await;
        assert!(node.by_host("a").await.is_none());
    }
}

/// A master that was partitioned away is filled anew by another one, which lacks a change that was applied. Nobody closes a connection, and until the heartbeat
/// the server answers what it has. Once a node has noticed, no memory has anything of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_that_was_filled_anew_has_answered_is_in_no_memory() {
    for server in servers(replicated()).await {
        let other = Server::start(server.binary(), replicated()).await.unwrap();
        // Before there are nodes: its first replica gives a server another replication history, and nodes that notice clear the cache.
        replicate(&server, &other).await;
        let (writer, reader) = (TierNode::on(server.socket(), LONG).await, TierNode::on(server.socket(), LONG).await);
        writer.set("1", &["a"], "old").await;
        let begun = Instant::now();
        while other.keys("larder:instance:o*").await.unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the replica does not get the object");
        }
        other.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        reader.has("a").await;
        writer.invalidate("a").await;
        assert!(reader.here("a").is_none());
        replicate(&other, &server).await;
        server.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        // A node that has not noticed can be read all the time.
        let has_cleared = |node: &TierNode| node.cache.stats().resets.get() > 0 && node.cache.status().readable;
        let begun = Instant::now();
        while !has_cleared(&writer) && !has_cleared(&reader) {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody has noticed");
            // It may have the object again, and takes it into its memory.
            reader.by_host("a").await;
        }
        assert!(reader.here("a").is_none() && writer.here("a").is_none());
        for node in [&writer, &reader] {
            assert!(node.by_host("a").await.is_none());
            node.follows().await;
            assert!(node.by_host("a").await.is_none());
        }
    }
}

/// Bounded: a change waits for nobody. The node that made it serves nothing older, and the others do not for long.
#[tokio::test]
async fn bounded_waits_for_nobody() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let bounded = TieredOptions::new().validity(LONG).consistency(Consistency::Bounded);
        let (writer, reader) =
            (TierNode::with(server.socket(), &bounded).await, TierNode::with(proxy.socket(), &bounded).await);
        writer.set("1", &["a"], "old").await;
        writer.has("a").await;
        reader.has("a").await;
        proxy.set_both(Fault::Hold);
        writer.invalidate("a").await;
        assert!(writer.here("a").is_none());
        assert_eq!(followers(&server).await, 0, "there is nobody to wait for");
        until("the other memory is right", || reader.here("a").is_none()).await;
        proxy.set_both(Fault::Pass);
        reader.follows().await;
        assert!(reader.by_host("a").await.is_none());
    }
}

/// Wait-only: nobody acknowledges anything, and each change waits for a validity.
#[tokio::test]
async fn wait_only_waits_without_a_table() {
    for server in servers(ServerOptions::default()).await {
        let options = TieredOptions::new().validity(Duration::from_millis(200)).consistency(Consistency::WaitOnly);
        let proxy = Proxy::start(&server).await.unwrap();
        let (writer, reader) =
            (TierNode::with(server.socket(), &options).await, TierNode::with(proxy.socket(), &options).await);
        writer.set("1", &["a"], "old").await;
        reader.has("a").await;
        proxy.set_both(Fault::Hold);
        let begun = Instant::now();
        writer.invalidate("a").await;
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert!(reader.here("a").is_none());
        assert_eq!(followers(&server).await, 0);
    }
}

/// A cache that was in use without memories has a clock that says so. The first node with one makes it anew.
#[tokio::test]
async fn the_first_node_with_a_memory_begins_a_new_epoch() {
    for server in servers(ServerOptions::default()).await {
        let plain = Node::on(&server).await;
        plain.set("1", &["a"], "old").await;
        let epoch = plain.ticket().await.epoch();
        let first = TierNode::on(server.socket(), Duration::from_millis(100)).await;
        until("the old epoch is over", || first.cache.status().readable).await;
        let now = server.command(&["GETRANGE", "larder:instance:c", "0", "7"]).await.unwrap();
        assert_ne!(now, Reply::Bulk(epoch.to_be_bytes().to_vec()));
        // A node that only forgets everything leaves it as it is.
        assert_eq!(plain.cache.truncate().await.unwrap(), Delivery::Applied);
        first.follows().await;
        first.set("1", &["a"], "new").await;
        first.has("a").await;
        assert_eq!(plain.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        assert!(first.here("a").is_none());
    }
}

#[test]
fn a_validity_that_cannot_be_used_is_refused() {
    for validity in [Duration::ZERO, Duration::from_millis(24), Duration::from_secs(11)] {
        let error = TieredOptions::new().validity(validity).validate().unwrap_err();
        assert_eq!(error.option(), "validity");
        assert!(error.to_string().ends_with("give a time from 25 ms to 10 s, such as 1 s"), "{error}");
    }
    assert!(TieredOptions::new().max_objects(0).validate().is_err());
}

/// The new epoch says how the cache is followed from now on. Those who followed it in another way before are not in the table, or may read for longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncate_that_changes_how_a_cache_is_followed_waits_for_those_who_followed_it_before() {
    for server in servers(ServerOptions::default()).await {
        for (before, after) in [(Consistency::Bounded, LONG), (Consistency::Strict, LONG / 10)] {
            server.flushall().await.unwrap();
            let proxy = Proxy::start(&server).await.unwrap();
            let options = TieredOptions::new().validity(LONG).consistency(before);
            let reader = TierNode::with(proxy.socket(), &options).await;
            // It follows as the epoch says, until the cache is cleared.
            let writer = TierNode::on(server.socket(), after).await;
            writer.set("1", &["a"], "old").await;
            reader.has("a").await;
            proxy.set_both(Fault::Hold);
            assert_eq!(writer.cache.truncate().await.unwrap(), Delivery::Applied);
            assert!(reader.here("a").is_none(), "{before:?}: its memory is valid no more");
            proxy.set_both(Fault::Pass);
            reader.follows().await;
            assert!(reader.by_host("a").await.is_none());
        }
    }
}

/// The server has dropped an object that nodes still have in their memories. A key of it goes to another object, which is loaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_in_a_memory_only_loses_a_key_all_the_same() {
    for server in servers(ServerOptions::default()).await {
        let [writer, reader] = [TierNode::on(server.socket(), LONG).await, TierNode::on(server.socket(), LONG).await];
        writer.set("1", &["a", "b"], "first").await;
        reader.has("a").await;
        for name in server.keys("larder:instance:o*").await.unwrap() {
            server.command(&[b"UNLINK", &name[..]]).await.unwrap();
        }
        let Lookup::Miss { ticket: Some(ticket), .. } = writer.cache.lookup(Instance::ID, "2").await else { panic!() };
        let fill = writer.cache.fill(instance("2", &["b"], "second"), ticket).await;
        assert_eq!(fill, Stored::Accepted);
        assert_eq!(reader.by_host("b").await.unwrap().name, "second");
        assert!(reader.here("a").is_none());
    }
}

/// Each answer of the server is late, as from another region. An entry is removed all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_follower_is_removed_by_a_node_that_is_far_away() {
    for server in servers(ServerOptions::default()).await {
        let (far, proxy) = (Proxy::start(&server).await.unwrap(), Proxy::start(&server).await.unwrap());
        let writer = TierNode::on(far.socket(), LONG).await;
        let reader = TierNode::on(proxy.socket(), LONG).await;
        writer.set("1", &["a"], "old").await;
        reader.has("a").await;
        proxy.set_both(Fault::Hold);
        far.set(Direction::ToClient, Fault::Delay(Duration::from_millis(50)));
        let begun = Instant::now();
        while followers(&server).await > 1 {
            assert!(begun.elapsed() < Duration::from_secs(30), "the entry is not removed");
            writer.invalidate("a").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_memory_evicts_is_counted_for_the_cache() {
    for server in servers(ServerOptions::default()).await {
        let node = TierNode::with(server.socket(), &TieredOptions::new().validity(LONG).max_objects(1)).await;
        for id in ["1", "2"] {
            node.set(id, &[id], "x").await;
            node.has(id).await;
        }
        assert_eq!(node.cache.status().objects, Some(1));
        assert!(node.cache.stats().evicted.get() >= 1);
    }
}

/// Caches that wait for a validity before they are used hold nobody else up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_that_wait_for_a_validity_keep_no_other_cache_waiting() {
    for server in servers(ServerOptions::default()).await {
        let redis = Redis::open(config(server.socket())).unwrap();
        let schema = |name: String| Schema::of::<Instance>().named(name);
        let options = TieredOptions::new().validity(Duration::from_secs(10));
        // As many as clear at the same time.
        let tiers: Vec<_> = (0..8).map(|n| redis.tiered(schema(format!("tier{n}")), &options).unwrap()).collect();
        let begun = Instant::now();
        while server.keys("larder:tier*:c").await.unwrap().len() < tiers.len() {
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        let plain = redis.connector(schema("plain".to_owned())).unwrap();
        until("it can be read", || plain.status().readable).await;
        assert!(tiers.iter().all(|tier| !tier.status().readable), "they wait all the while");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_with_the_longest_max_age_is_taken_in() {
    for server in servers(ServerOptions::default()).await {
        let redis = Redis::open(config(server.socket())).unwrap();
        let schema = Schema::of::<Instance>().ages(Duration::MAX, Duration::ZERO);
        let tiered = Arc::new(redis.tiered(schema.clone(), &TieredOptions::new().validity(LONG)).unwrap());
        let cache = Cache::<Instance>::new(tiered.clone(), schema).unwrap();
        until("it can be read", || cache.status().readable && tiered.valid_for_ms() > 0).await;
        let loaded =
            cache.get_or_load(Instance::ID, "1", async |_| Ok::<_, &str>(Some(instance("1", &["a"], "x")))).await;
        assert_eq!(loaded.unwrap().unwrap().name, "x");
        assert!(tiered.get_hit(KeyRef { index: 0, bytes: b"1" }).is_some());
    }
}
