//! The names that releases register for people who look into caches: who writes them, what they survive, and what does not depend on them.

use crate::node::{Node, options, servers, until};
use larder::connector::postgres::Postgres;
use larder::connector::postgres::inspect::Inspector;
use larder::{Cache, Schema, Stored};
use larder_testing::entries::Site;
use larder_testing::postgres::PostgresServer;
use std::sync::Arc;

/// The fingerprints of the releases of a cache, and their indexes, in the order of the fingerprints.
async fn releases(server: &PostgresServer) -> Vec<(u64, Vec<String>)> {
    let inspector = Inspector::open(options(server)).await.unwrap();
    let cache = inspector.cache("site").await.unwrap();
    let mut all: Vec<_> = cache.releases().iter().map(|one| (one.fingerprint, one.indexes.clone())).collect();
    all.sort();
    all
}

async fn of_release(server: &PostgresServer, fingerprint: u64) -> Cache<Site> {
    let postgres = Postgres::open(options(server).connections(1)).unwrap();
    let schema = Schema::of::<Site>().with_fingerprint(fingerprint);
    let cache = Cache::new(Arc::new(postgres.connector(schema.clone()).unwrap()), schema).unwrap();
    until("the cache can be read", || cache.status().readable).await;
    cache
}

#[tokio::test]
async fn they_are_there_while_the_tables_are() {
    for server in servers().await {
        let node = Node::on(&server).await;
        let expected = vec![(node.cache.schema().fingerprint(), vec!["id".to_owned(), "host".to_owned()])];
        assert_eq!(releases(&server).await, expected);
        node.cache.truncate().await.unwrap();
        assert_eq!(releases(&server).await, expected, "the release stays when its objects go");

        // A crash empties the tables, and the node connects again.
        server.restart().await.unwrap();
        until("the node has registered again", || server.psql("SELECT count(*) FROM larder.caches").unwrap() == "1")
            .await;
        assert_eq!(releases(&server).await, expected);

        // What came with a copy of another database goes with everything else.
        server
            .psql("UPDATE larder.clock SET home = 'elsewhere'; INSERT INTO larder.caches SELECT 'foreign', shape, followed, mark, indexes FROM larder.caches")
            .unwrap();
        let _other = Node::on(&server).await;
        assert_eq!(server.psql("SELECT cache FROM larder.caches").unwrap(), "site");
    }
}

#[tokio::test]
async fn the_latest_sixteen_releases_stay() {
    for server in servers().await {
        for fingerprint in 1..=18 {
            let _cache = of_release(&server, fingerprint).await;
        }
        let left: Vec<u64> = releases(&server).await.into_iter().map(|(fingerprint, _)| fingerprint).collect();
        assert_eq!(left, (3..=18).collect::<Vec<_>>());
    }
}

/// No service needs the names, nor the right to write them.
#[tokio::test]
async fn services_work_without_them() {
    for server in servers().await {
        server.psql(Postgres::SCHEMA).unwrap();
        server
            .psql(
                "CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA larder TO app; \
                 GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA larder TO app; \
                 REVOKE ALL ON larder.caches FROM app",
            )
            .unwrap();
        let url = server.dsn().replace("user=larder", "user=app");
        let mut as_app = larder::connector::postgres::PostgresOptions::from_url(&url).unwrap();
        as_app.breaker = options(&server).breaker;
        let patience = options(&server).operation_timeout;
        let node = Node::begin(as_app.operation_timeout(patience).connect_timeout(patience));
        node.readable().await;
        assert_eq!(node.cache.set(Site::new("a", &["h"], "x")).await, Stored::Accepted);
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("x"));
        assert_eq!(server.psql("SELECT count(*) FROM larder.caches").unwrap(), "0");
    }
}

/// The caches of a database share its tables. While one prunes, another one has nothing to do, and answers at once.
#[tokio::test]
async fn of_the_caches_of_a_node_one_prunes() {
    for server in servers().await {
        let postgres = Postgres::open(options(&server)).unwrap();
        let open = |name: &str| {
            let schema = Schema::of::<Site>().named(name);
            Cache::<Site>::new(Arc::new(postgres.connector(schema.clone()).unwrap()), schema).unwrap()
        };
        let (one, other) = (open("one"), open("other"));
        until("they can be read", || one.status().readable && other.status().readable).await;
        one.set(Site::new("a", &[], "x")).await;
        server.psql("UPDATE larder.objects SET until = now()").unwrap();
        // Holds up whoever removes the object.
        let held = crate::node::session(&server).await;
        held.batch_execute("BEGIN; LOCK TABLE larder.objects IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let pruning = tokio::spawn(async move { one.prune().await.unwrap() });
        let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'larder.objects'::regclass AND NOT granted";
        until("it waits", || server.psql(waits).unwrap() == "1").await;
        assert_eq!(other.prune().await.unwrap().objects, 0);
        assert_eq!(server.psql(waits).unwrap(), "1", "nobody else has asked");
        held.batch_execute("COMMIT").await.unwrap();
        assert_eq!(pruning.await.unwrap().objects, 1);
        other.prune().await.unwrap();
    }
}
