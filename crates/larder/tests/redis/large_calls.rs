//! Calls of so many objects that they take several scripts, which others may come between.

use crate::instance::{Instance, instance};
use crate::node::{self, Node, servers, until};
use larder::connector::redis::RedisConnector;
use larder::connector::redis::RedisOptions;
use larder::contract::{Connector, Object};
use larder::{AnyKey, Delivery, Keys, Stored, Ticket};
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::{Server, ServerOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The marks that the log of the clock holds.
const RING: u64 = 16_384;

/// The objects of one round trip.
const LOT: usize = 512;

/// No answer of a server that runs is late, however large the call and slow the machine is.
fn config(socket: &Path) -> RedisOptions {
    node::config(socket).operation_timeout(Duration::from_secs(60))
}

async fn on(server: &Server) -> Node {
    let node = Node::begin(config(server.socket()));
    node.readable().await;
    node
}

/// Objects of so many hosts each: the objects' numbers are their ids, and part of their hosts' names.
fn many(count: usize, hosts: usize, name: &str) -> Vec<Instance> {
    let hosts = |id: usize| (0..hosts).map(|host| format!("{id}.{host}")).collect();
    (0..count).map(|id| Instance { id: id.to_string(), hosts: hosts(id), name: name.to_owned() }).collect()
}

async fn names(node: &Node, ids: impl IntoIterator<Item = usize>) -> Vec<Option<String>> {
    let ids = ids.into_iter().map(|id| id.to_string());
    let found = node.cache.get_many(Instance::ID, ids).await;
    found.iter().map(|found| found.as_ref().map(|found| found.name.clone())).collect()
}

/// The places of those that were not stored, and what became of them.
fn refused(stored: &[Stored]) -> Vec<(usize, Stored)> {
    stored.iter().copied().enumerate().filter(|(_, stored)| *stored != Stored::Accepted).collect()
}

async fn records(server: &Server) -> Vec<Vec<u8>> {
    server.keys("larder:instance:s*").await.unwrap()
}

/// The cache of a node as it is below its entry type.
async fn connector(node: &Node) -> RedisConnector {
    let connector = node.redis.connector(node.cache.schema().clone()).unwrap();
    until("the connector can be read", || connector.status().readable).await;
    connector
}

async fn fill(connector: &RedisConnector, entries: impl IntoIterator<Item = Instance>, ticket: Ticket) -> Vec<Stored> {
    let objects = entries.into_iter().map(|entry| {
        let mut keys = Keys::of(&entry).into_iter().map(AnyKey::into_buf);
        let primary = keys.next().unwrap().bytes;
        Object::new(primary, keys.collect(), None, Arc::new(entry))
    });
    let filled = connector.fill_many(objects.collect(), ticket).await;
    filled.iter().map(|fill| fill.stored).collect()
}

/// A call of `set_many` that has ended, and the node that it was made on.
struct Ended {
    stored: Vec<Stored>,
    node: Node,
    _proxy: Arc<Proxy>,
}

/// Sets these objects on a node of its own. `between` happens after the first lot has been stored, and before the second is sent.
async fn set_with_a_pause(server: &Server, objects: Vec<Instance>, between: impl AsyncFnOnce()) -> Ended {
    let proxy = Arc::new(Proxy::start(server).await.unwrap());
    let node = Node::begin(config(proxy.socket()));
    node.readable().await;
    // The server has to know the script: its code goes in a round trip of its own.
    node.cache.set_many([instance("before", &[], "x")]).await;
    // From the first lot on, which is sent once the ticket has come back, no answer comes back.
    let hold = Arc::downgrade(&proxy);
    proxy.set(
        Direction::ToServer,
        Fault::rewrite(move |bytes| {
            if bytes.windows(7).any(|word| word == b"EVALSHA")
                && let Some(proxy) = hold.upgrade()
            {
                proxy.set(Direction::ToClient, Fault::Hold);
            }
            bytes
        }),
    );
    let last = format!("larder:instance:o{:016x}:{}", node.cache.schema().fingerprint(), objects[LOT - 1].id);
    let cache = node.cache.clone();
    let call = tokio::spawn(async move { cache.set_many(objects).await });
    let begun = Instant::now();
    while server.command(&["EXISTS", &last]).await.unwrap().int() != Some(1) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the first lot is not stored");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    between().await;
    proxy.set_both(Fault::Pass);
    Ended { stored: call.await.unwrap(), node, _proxy: proxy }
}

#[tokio::test]
async fn a_set_of_more_keys_than_the_log_holds_does_not_overtake_itself() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        for (count, hosts) in [(17_000, 0), (6_000, 2), (400, 100)] {
            let stored = node.cache.set_many(many(count, hosts, "x")).await;
            assert_eq!(refused(&stored), [], "{count} objects of {hosts} hosts");
            let found = names(&on(&server).await, 0..count).await;
            assert_eq!(found.iter().flatten().count(), count);
            assert_eq!(records(&server).await, [[0_u8; 0]; 0], "nothing is left behind");
        }
    }
}

/// Each of these objects displaces one that is stored, which leaves a mark; and one of those is an object of the call itself, in the state
/// that has lost the key.
#[tokio::test]
async fn a_fill_of_many_that_displace_others_does_not_overtake_itself() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        let connector = connector(&node).await;
        let count = 1_000;
        assert_eq!(refused(&node.cache.set_many(many(count, 1, "old")).await), []);
        let ticket = node.ticket().await;
        let moved = (0..count).map(|id| instance(&format!("new {id}"), &[&format!("{id}.0")], "new"));
        let left = (0..count).map(|id| instance(&id.to_string(), &[], "has lost its host"));
        assert_eq!(refused(&fill(&connector, moved.chain(left), ticket).await), []);
        let found = names(&node, 0..count).await;
        assert!(found.iter().all(|name| name.as_deref() == Some("has lost its host")));
        assert!(node.by_host("7.0").await.is_some_and(|found| found.id == "new 7"));
    }
}

#[tokio::test]
async fn of_those_that_claim_a_key_the_last_has_it_however_far_apart_they_are() {
    for server in servers(ServerOptions::default()).await {
        let node = on(&server).await;
        node.set("a", &["moves"], "before the call").await;
        let mut objects = many(1_200, 1, "x");
        objects[0] = instance("a", &["stays"], "has given it up");
        objects[100] = instance("b", &["moves"], "has it for a while");
        objects[101] = instance("c", &["other"], "first");
        objects[1_100] = instance("c", &["other"], "last");
        objects[1_199] = instance("d", &["moves"], "has it in the end");
        assert_eq!(refused(&node.cache.set_many(objects).await), []);
        let node = on(&server).await;
        assert_eq!(node.by_host("moves").await.unwrap().name, "has it in the end");
        assert_eq!(node.by_host("stays").await.unwrap().name, "has given it up");
        assert_eq!(node.by_id("c").await.unwrap().name, "last");
        assert!(node.by_id("b").await.is_none());
    }
}

/// However much the call itself has written into the log meanwhile.
#[tokio::test]
async fn somebody_else_overtakes_exactly_the_objects_whose_keys_they_touch() {
    for server in servers(ServerOptions::default()).await {
        for hosts in [1, 40] {
            let other = on(&server).await;
            other.cache.truncate().await.unwrap();
            let touch = async || {
                let by_id = ["7", "600", "1300"].map(|id| Instance::ID.key(id));
                let by_host = ["9.0", "700.0", "1499.0"].map(|host| Instance::HOST.key(host));
                let keys = by_id.into_iter().chain(by_host);
                assert_eq!(other.cache.invalidate_many(keys).await.unwrap(), Delivery::Applied);
                other.set("800", &[], "newer than the call").await;
            };
            let call = set_with_a_pause(&server, many(1_500, hosts, "of the call"), touch).await;
            let overtaken = [600, 700, 800, 1300, 1499];
            assert_eq!(refused(&call.stored), overtaken.map(|place| (place, Stored::Overtaken)));
            for reader in [&call.node, &other, &on(&server).await] {
                let found = names(reader, 0..1_500).await;
                let missing: Vec<_> = (0..1_500).filter(|id| found[*id].is_none()).collect();
                assert_eq!(missing, [7, 9, 600, 700, 800, 1300, 1499], "the first two were stored before");
            }
            assert_eq!(records(&server).await, [[0_u8; 0]; 0]);
        }
    }
}

/// Then nobody knows whose keys they were.
#[tokio::test]
async fn others_who_touch_more_than_the_log_holds_overtake_the_rest_of_a_call() {
    for server in servers(ServerOptions::default()).await {
        let clock = "larder:instance:c";
        let wind = async |by: u64| {
            let now = server.command(&["GETRANGE", clock, "8", "15"]).await.unwrap();
            let now = u64::from_be_bytes(now.bytes().unwrap().try_into().unwrap());
            let then = (now + by).to_be_bytes();
            server.command(&[b"SETRANGE".as_slice(), clock.as_bytes(), b"8", &then]).await.unwrap();
        };
        for (by, rest) in [(RING, Stored::Accepted), (RING + 1, Stored::Overtaken)] {
            on(&server).await.cache.truncate().await.unwrap();
            // So that what is left in the ring are the marks of nobody.
            server.command(&["SETRANGE", clock, "512", &"-".repeat(8 * RING as usize)]).await.unwrap();
            let between = async || {
                server.command(&["SETRANGE", clock, "512", &"-".repeat(8 * RING as usize)]).await.unwrap();
                wind(by).await;
            };
            let Ended { stored, .. } = set_with_a_pause(&server, many(700, 0, "x"), between).await;
            assert!(stored[..LOT].iter().all(|stored| *stored == Stored::Accepted));
            assert!(stored[LOT..].iter().all(|stored| *stored == rest), "{by}: {:?}", &stored[LOT..]);
        }
    }
}

/// A server that evicts may take the record away.
#[tokio::test]
async fn a_call_whose_record_is_lost_invalidates_the_rest() {
    for server in servers(ServerOptions::default()).await {
        let other = on(&server).await;
        let between = async || {
            let records = records(&server).await;
            assert_eq!(records.len(), 1);
            server.command(&[b"DEL".as_slice(), &records[0]]).await.unwrap();
            other.cache.invalidate(Instance::ID, ["600"]).await.unwrap();
        };
        let Ended { stored, node, _proxy } = set_with_a_pause(&server, many(700, 0, "x"), between).await;
        assert!(stored[..LOT].iter().all(|stored| *stored == Stored::Accepted));
        assert!(stored[LOT..].iter().all(|stored| *stored == Stored::Overtaken));
        assert_eq!(names(&node, LOT..700).await.iter().flatten().count(), 0);
        assert_eq!(node.cache.status().journal, 0);
    }
}

/// A truncate between two lots: what is left of the call is from before it.
#[tokio::test]
async fn a_truncate_overtakes_the_rest_of_a_call() {
    for server in servers(ServerOptions::default()).await {
        let other = on(&server).await;
        let ticket = other.ticket().await;
        let between = async || assert_eq!(other.cache.truncate().await.unwrap(), Delivery::Applied);
        let Ended { stored, node, _proxy } = set_with_a_pause(&server, many(1_100, 0, "x"), between).await;
        assert!(stored[LOT..].iter().all(|stored| *stored == Stored::Overtaken));
        let connector = connector(&other).await;
        // Calls of one script, and of several.
        for count in [2, 1_100] {
            let untouched = (0..count).map(|id| instance(&format!("new {id}"), &[], "loaded before"));
            let filled = fill(&connector, untouched, ticket).await;
            assert!(filled.iter().all(|stored| *stored == Stored::Overtaken));
        }
        assert_eq!(names(&node, 0..1_100).await.iter().flatten().count(), 0);
    }
}
