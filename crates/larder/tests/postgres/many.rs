//! Calls for several objects: how many statements they send, and that they do not wait in between.

use crate::node::{Node, options, session, until};
use larder::connector::postgres::Postgres;
use larder::{Cache, Delivery, Schema, Stored};
use larder_testing::entries::{Instance, Site};
use larder_testing::postgres::{PostgresServer, required};
use larder_testing::proxy::{Direction, Fault, Proxy};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// Servers that log every statement, with the name of the application that sends it.
async fn talkative() -> Vec<PostgresServer> {
    let mut servers = Vec::new();
    for binaries in required().unwrap() {
        let lines = ["log_statement = 'all'", "log_line_prefix = 'by %a: '"];
        servers.push(PostgresServer::start_on_tcp(&binaries, &lines).await.unwrap());
    }
    servers
}

/// What nodes send beside their operations.
const HEARTBEAT: [&str; 4] = ["pg_is_in_recovery", "larder.turn_if_due", "larder.sweep", "larder.trim"];

/// The statements that larder has executed since the log had this length.
fn statements(server: &PostgresServer, since: usize) -> Vec<String> {
    let log = server.log();
    let lines = log.get(since..).unwrap().lines().filter(|line| line.starts_with("by larder: LOG:  execute"));
    lines.filter(|line| !HEARTBEAT.iter().any(|words| line.contains(words))).map(str::to_owned).collect()
}

fn sites(count: usize, name: &str) -> Vec<Site> {
    (0..count).map(|n| Site::new(&format!("id-{n}"), &[&format!("host-{n}")], &format!("{name}-{n}."))).collect()
}

fn ids(count: usize) -> Vec<String> {
    sites(count, "").into_iter().map(|site| site.id).collect()
}

fn hosts(count: usize) -> Vec<String> {
    sites(count, "").into_iter().map(|site| site.hosts[0].clone()).collect()
}

#[tokio::test]
async fn a_hundred_take_few_statements() {
    for server in talkative().await {
        let (near, far) = (Node::on(&server).await, Node::on(&server).await);
        let mut begun = server.log().len();
        let mut sent = |what: &str, expected: &[(&str, usize)]| {
            let sent = statements(&server, begun);
            let all: usize = expected.iter().map(|(_, count)| count).sum();
            assert_eq!(sent.len(), all, "{what}: {sent:#?}");
            for (words, count) in expected {
                let like = sent.iter().filter(|statement| statement.contains(words)).count();
                assert_eq!(like, *count, "{what}, `{words}`: {sent:#?}");
            }
            begun = server.log().len();
        };
        let outcomes = near.cache.set_many(sites(100, "one")).await;
        assert!(outcomes.iter().all(|stored| *stored == Stored::Accepted));
        // A ticket; and a statement for each object, which are sent at once: see below.
        sent("a set", &[("SELECT c.epoch", 1), ("larder.store", 100)]);
        for node in [&near, &far] {
            for _ in 0..2 {
                let found = node.cache.get_many(Site::HOST, hosts(100)).await;
                assert!(found.iter().all(Option::is_some));
                sent("a get by host", &[("unnest((SELECT $1), (SELECT $2)) WITH ORDINALITY", 1)]);
                let found = node.cache.get_many(Site::ID, ids(100)).await;
                assert!(found.iter().all(Option::is_some));
                sent("a get by id", &[("unnest((SELECT $1), (SELECT $2)) WITH ORDINALITY", 1)]);
            }
        }
        assert_eq!(near.cache.invalidate(Site::HOST, hosts(1000)).await.unwrap(), Delivery::Applied);
        sent("an invalidation", &[("INSERT INTO larder.fences", 1)]);
        let load = |_: Vec<String>| async { Ok::<_, String>(sites(100, "two")) };
        let loaded = far.cache.load_many(Site::ID, ids(100), load).await.unwrap();
        assert!(loaded.iter().all(Option::is_some));
        sent("a load", &[("unnest((SELECT $1), (SELECT $2)) WITH ORDINALITY", 1), ("larder.store", 100)]);
        let found = near.cache.get_many(Site::HOST, hosts(100)).await;
        assert!(found.iter().flatten().all(|site| site.name.starts_with("two-")));
    }
}

/// The first of several statements waits for a lock, and all others are sent nevertheless.
#[tokio::test]
async fn no_object_waits_for_the_answer_to_another_one() {
    for server in talkative().await {
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port()))).await.unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let recorded = sent.clone();
        proxy.set(
            Direction::ToServer,
            Fault::rewrite(move |bytes| {
                recorded.lock().unwrap().extend_from_slice(&bytes);
                bytes
            }),
        );
        let direct = options(&server);
        let url = format!("host=127.0.0.1 port={} user=larder dbname=larder sslmode=disable", proxy.port());
        let mut through = larder::connector::postgres::PostgresOptions::from_url(&url).unwrap();
        through.breaker = direct.breaker.clone();
        let node =
            Node::begin(through.operation_timeout(direct.operation_timeout).connect_timeout(direct.connect_timeout));
        node.readable().await;
        let holder = session(&server).await;
        let has = |name: String| {
            let sent = sent.lock().unwrap();
            sent.windows(name.len()).any(|bytes| bytes == name.as_bytes())
        };
        for call in ["set", "fill"] {
            holder.batch_execute("SELECT pg_advisory_lock(larder.mark('site', 'id', 'id-0'))").await.unwrap();
            let cache = node.cache.clone();
            let stores = tokio::spawn(async move {
                if call == "set" {
                    let outcomes = cache.set_many(sites(50, call)).await;
                    assert!(outcomes.iter().all(|stored| *stored == Stored::Accepted));
                } else {
                    let load = |_: Vec<String>| async { Ok::<_, String>(sites(50, "fill")) };
                    cache.load_many(Site::ID, ids(50), load).await.unwrap();
                }
            });
            until("the last object is sent", || has(format!("{call}-49."))).await;
            assert!(has(format!("{call}-0.")) && !stores.is_finished());
            let stored = "SELECT count(*) FROM larder.objects";
            assert_eq!(server.psql(stored).unwrap(), "0", "the first waits, and those behind it on its session");
            holder.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
            stores.await.unwrap();
            assert_eq!(node.name_by_host("host-49").await, Some(format!("{call}-49.")));
            server.psql("TRUNCATE larder.objects").unwrap();
        }
    }
}

/// Keys of one object share its value.
#[tokio::test]
async fn keys_of_one_object_share_it() {
    for server in talkative().await {
        let node = Node::on(&server).await;
        node.cache.set(Site::new("a", &["h", "i"], "x")).await;
        node.cache.set(Site::new("b", &["k"], "x")).await;
        let found = node.cache.get_many(Site::HOST, ["h", "k", "i", "h", "nobody"]).await;
        let found: Vec<_> = found.iter().map(Option::as_ref).collect();
        let [Some(h), Some(k), Some(i), Some(again), None] = found[..] else { panic!("{found:?}") };
        assert!(Arc::ptr_eq(h, i) && Arc::ptr_eq(h, again) && !Arc::ptr_eq(h, k));
    }
}

/// Another caller has touched a key of one of several objects between the ticket and the turn of the object: that one alone is invalidated.
#[tokio::test]
async fn one_of_several_that_somebody_else_touches_meanwhile() {
    for server in talkative().await {
        let (node, other) = (Arc::new(Node::on(&server).await), Node::on(&server).await);
        let holder = session(&server).await;
        holder.batch_execute("SELECT pg_advisory_lock(larder.mark('site', 'id', 'id-0'))").await.unwrap();
        let setting = node.clone();
        let sets = tokio::spawn(async move { setting.cache.set_many(sites(3, "set")).await });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%larder.store%' \
            AND application_name = 'larder'";
        until("the first waits", || server.psql(waiting).unwrap() == "1").await;
        assert_eq!(other.cache.invalidate(Site::HOST, ["host-1"]).await.unwrap(), Delivery::Applied);
        holder.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
        assert_eq!(sets.await.unwrap(), [Stored::Accepted, Stored::Overtaken, Stored::Accepted]);
        assert_eq!(other.name_by_id("id-1").await, None);
        assert!(other.name_by_id("id-0").await.is_some() && other.name_by_id("id-2").await.is_some());
    }
}

/// Several states of one object in one call: none of them takes the place of a higher version that is stored.
#[tokio::test]
async fn several_lower_versions_in_one_call() {
    for server in talkative().await {
        let postgres = Postgres::open(options(&server)).unwrap();
        let schema = Schema::of::<Instance>();
        let cache: Cache<Instance> = Cache::new(Arc::new(postgres.connector(schema.clone()).unwrap()), schema).unwrap();
        until("the cache can be read", || cache.status().readable).await;
        assert_eq!(cache.set(Instance::new("a", &["h"], "third", 3)).await, Stored::Accepted);
        let lower = ["first", "second"].map(|name| Instance::new("a", &[], name, 1));
        assert_eq!(cache.set_many(lower).await, [Stored::Outdated; 2]);
        assert_eq!(cache.get(Instance::HOST, "h").await.unwrap().name, "third");
        let both = [Instance::new("a", &["h"], "fourth", 4), Instance::new("a", &["i"], "fifth", 5)];
        assert_eq!(cache.set_many(both).await, [Stored::Accepted; 2]);
        assert_eq!(cache.get(Instance::HOST, "i").await.unwrap().name, "fifth");
        assert!(cache.get(Instance::HOST, "h").await.is_none());
    }
}
