//! Triggers of a cache that keeps its objects elsewhere tell the feed only. A cache that keeps objects in the database must never have such triggers,
//! whoever comes first: the service that opens it, or the one who installs the triggers.

use crate::node::{Node, options, servers, session, until};
use larder::connector::postgres::Postgres;
use larder::feed::{Finding, Source, Sources};
use larder_testing::entries::Site;
use larder_testing::log::Log;
use larder_testing::postgres::PostgresServer;
use tracing::Level;

const SITES: &str = "CREATE TABLE sites (id text PRIMARY KEY, name text)";

fn everywhere() -> Sources {
    Sources::new().of("site", Source::new("sites", ["id"], "id"))
}

fn elsewhere() -> Sources {
    everywhere().elsewhere("site")
}

/// How many fences and changes a statement leaves behind.
fn left_by(server: &PostgresServer, sql: &str) -> (String, String) {
    server.psql("DELETE FROM larder.fences WHERE kind <> 'b'; DELETE FROM larder.changes").unwrap();
    server.psql(sql).unwrap();
    let count = |table: &str| server.psql(&format!("SELECT count(*) FROM larder.{table}")).unwrap();
    (count("fences WHERE kind <> 'b'"), count("changes"))
}

/// An object that was stored is gone once its row has changed.
async fn a_change_is_told_to(node: &Node, server: &PostgresServer) {
    node.cache.set(Site::new("1", &["a"], "old")).await;
    assert_eq!(node.name_by_host("a").await.as_deref(), Some("old"));
    server.psql("INSERT INTO sites VALUES ('1', 'new') ON CONFLICT (id) DO UPDATE SET name = 'newer'").unwrap();
    assert_eq!(node.name_by_host("a").await, None);
}

/// Waits until so many sessions wait for the lock.
async fn waits(server: &PostgresServer) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    until("it waits", || server.psql(waiting).unwrap() != "0").await;
}

#[tokio::test]
async fn where_no_objects_are_kept_only_the_feed_is_told() {
    for server in servers().await {
        server.psql(Postgres::SCHEMA).unwrap();
        server.psql(SITES).unwrap();
        elsewhere().apply(&options(&server)).await.unwrap();
        assert_eq!(left_by(&server, "INSERT INTO sites VALUES ('1', 'a'), ('2', 'b')"), ("0".into(), "1".into()));
        assert_eq!(left_by(&server, "UPDATE sites SET name = 'c'"), ("0".into(), "1".into()));
        assert_eq!(left_by(&server, "DELETE FROM sites WHERE id = '3'"), ("0".into(), "0".into()));
        let many = "INSERT INTO sites SELECT 'x' || g, '' FROM generate_series(1, 10001) g";
        assert_eq!(left_by(&server, many), ("1".into(), "1".into()), "the whole cache");
        assert_eq!(elsewhere().check(&options(&server)).await.unwrap(), []);
        let found = everywhere().check(&options(&server)).await.unwrap();
        let one = |found: &Finding| matches!(found, Finding::FeedOnly { .. }) && found.misses();
        assert!(found.len() == 3 && found.iter().all(one), "{found:?}");
        // Those who may keep objects here are told, too, from the end of this on.
        let applied = everywhere().apply(&options(&server)).await.unwrap();
        assert_eq!(applied.forgotten, ["site"]);
        assert_eq!(left_by(&server, "UPDATE sites SET name = 'd' WHERE id = '1'"), ("1".into(), "1".into()));
        let found = elsewhere().check(&options(&server)).await.unwrap();
        let one = |found: &Finding| matches!(found, Finding::TellsTooMany { .. }) && !found.misses();
        assert!(found.len() == 3 && found.iter().all(one), "{found:?}");
        // And back: what tells more than it has to has missed nothing.
        assert!(elsewhere().apply(&options(&server)).await.unwrap().forgotten.is_empty());
        assert_eq!(left_by(&server, "UPDATE sites SET name = 'e' WHERE id = '1'"), ("0".into(), "1".into()));
    }
}

/// The service comes first. Its tables of releases are emptied by a crash; that the cache was here is remembered all the same.
#[tokio::test]
async fn a_cache_that_is_kept_here_is_told_whatever_is_declared() {
    for server in servers().await {
        drop(Node::on(&server).await);
        server.psql(SITES).unwrap();
        server.kill();
        server.restart().await.unwrap();
        elsewhere().apply(&options(&server)).await.unwrap();
        let node = Node::on(&server).await;
        a_change_is_told_to(&node, &server).await;
        assert_eq!(elsewhere().check(&options(&server)).await.unwrap(), []);
    }
}

/// The triggers come first. The service says what to do, and caches nothing until that is done.
#[tokio::test]
async fn a_service_that_comes_later_keeps_nothing_where_nobody_would_tell_it() {
    for server in servers().await {
        server.psql(Postgres::SCHEMA).unwrap();
        server.psql(SITES).unwrap();
        elsewhere().apply(&options(&server)).await.unwrap();
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::begin(options(&server));
        until("it says what to do", || log.count(&["cache site", "run `larder feed apply`"]) > 0).await;
        assert!(!node.cache.status().readable);
        assert_eq!(server.psql("SELECT count(*) FROM larder.kept").unwrap(), "0");
        everywhere().apply(&options(&server)).await.unwrap();
        node.readable().await;
        a_change_is_told_to(&node, &server).await;
    }
}

/// The triggers are being made. The service waits, and then finds them.
#[tokio::test]
async fn a_service_that_comes_while_triggers_are_made_sees_them() {
    for server in servers().await {
        server.psql(Postgres::SCHEMA).unwrap();
        server.psql(SITES).unwrap();
        let making = session(&server).await;
        let sql = elsewhere().sql(&options(&server)).await.unwrap();
        making.batch_execute(&format!("BEGIN;\n{sql}")).await.unwrap();
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::begin(options(&server));
        waits(&server).await;
        making.batch_execute("COMMIT").await.unwrap();
        until("it says what to do", || log.count(&["run `larder feed apply`"]) > 0).await;
        assert!(!node.cache.status().readable);
    }
}

/// The service is registering. Who makes the triggers waits, and then finds it.
#[tokio::test]
async fn triggers_that_are_made_while_a_service_registers_are_refused() {
    for server in servers().await {
        server.psql(Postgres::SCHEMA).unwrap();
        server.psql(SITES).unwrap();
        let registering = session(&server).await;
        let kept = "BEGIN; SELECT larder.register(); SELECT larder.register_cache('site', 1, false, '{id,host}')";
        registering.batch_execute(kept).await.unwrap();
        let options = options(&server);
        let making = tokio::spawn(async move { elsewhere().apply(&options).await });
        waits(&server).await;
        registering.batch_execute("COMMIT").await.unwrap();
        let refused = making.await.unwrap().unwrap_err().to_string();
        assert!(refused.contains("once more"), "{refused}");
        assert_eq!(server.psql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'larder%'").unwrap(), "0");
        elsewhere().apply(&self::options(&server)).await.unwrap();
        assert_eq!(left_by(&server, "INSERT INTO sites VALUES ('1', 'a')"), ("1".into(), "1".into()));
    }
}
