//! Where triggers write and no node runs, writers remove what would grow without end. They wait for nobody, and nobody waits for them.

use crate::feed::run;
use crate::node::{Node, servers, session};
use larder::connector::postgres::Postgres;
use larder::{Delivery, Stored};
use larder_testing::entries::Site;
use larder_testing::postgres::PostgresServer;
use tokio_postgres::Client;

const HOUSEKEEP: &str = "SELECT larder.housekeep_alone()";

/// As many fences as let a generation end.
const MANY: &str =
    "SELECT larder.touch('site', 'id', ARRAY(SELECT convert_to('x' || g, 'UTF8') FROM generate_series(1, 10000) g))";

/// Lets the moments, and the last turn, be as old as they are after this time. What nodes have left is of nodes long gone.
fn pass(server: &PostgresServer, minutes: u32) {
    let sql = "UPDATE larder.moments SET taken = taken - interval '{} minutes'; UPDATE larder.clock SET turned = turned - interval '{} minutes'";
    server.psql(&sql.replace("{}", &minutes.to_string())).unwrap();
}

fn count(server: &PostgresServer, table: &str) -> u64 {
    server.psql(&format!("SELECT count(*) FROM larder.{table}")).unwrap().parse().unwrap()
}

fn fences(server: &PostgresServer) -> u64 {
    count(server, "fences WHERE kind <> 'b'")
}

/// A database with tables and a clock, and no node.
fn set_up(server: &PostgresServer) {
    server.psql(Postgres::SCHEMA).unwrap();
    server.psql("SELECT larder.register()").unwrap();
}

#[tokio::test]
async fn where_no_node_runs_changes_and_fences_do_not_grow_without_end() {
    for server in servers().await {
        set_up(&server);
        for _ in 0..4 {
            server.psql(MANY).unwrap();
            server.psql("SELECT larder.invalidate('site', 'id', 'a', 'b')").unwrap();
            server.psql("SELECT larder.truncate('site')").unwrap();
            server.psql(HOUSEKEEP).unwrap();
            pass(&server, 21);
        }
        for _ in 0..6 {
            server.psql(HOUSEKEEP).unwrap();
            pass(&server, 21);
        }
        // Those of the last generation, and one truncate.
        assert!(fences(&server) <= 10_000, "{}", fences(&server));
        assert_eq!(count(&server, "changes"), 0);
        assert!(count(&server, "moments") <= 3);
    }
}

/// There has never been a node.
#[tokio::test]
async fn without_a_clock_everything_goes_but_what_is_not_committed() {
    for server in servers().await {
        server.psql(Postgres::SCHEMA).unwrap();
        server.psql(MANY).unwrap();
        let (open, writer) = (session(&server).await, session(&server).await);
        run(&open, "BEGIN; SELECT larder.invalidate('site', 'id', 'a')").await;
        run(&writer, "BEGIN; SELECT larder.invalidate('site', 'id', 'b'); SELECT larder.housekeep_alone(); COMMIT")
            .await;
        run(&open, "COMMIT").await;
        assert_eq!((count(&server, "changes"), fences(&server)), (2, 2));
    }
}

/// The snapshot of a transaction leaves out the transaction itself, as if it had committed.
#[tokio::test]
async fn a_writer_takes_nothing_of_its_own_for_old() {
    for server in servers().await {
        set_up(&server);
        let writer = session(&server).await;
        run(&writer, "BEGIN; SELECT larder.truncate('site')").await;
        server.psql("SELECT txid_current()").unwrap();
        run(&writer, "SELECT larder.truncate('site'); SELECT larder.housekeep_alone()").await;
        let sees = "SELECT pg_visible_in_snapshot(pg_current_xact_id(), snapshot) FROM larder.moments";
        assert!(
            !writer.query_one(sees, &[]).await.unwrap().get::<_, bool>(0),
            "its changes are not as old as the moment"
        );
        run(&writer, "COMMIT").await;
        for _ in 0..3 {
            begin_and_keep_house(&server, &writer).await;
            run(&writer, "COMMIT").await;
        }
        assert_eq!(count(&server, "fences WHERE kind = 't'"), 2, "neither is later than the other");
    }
}

/// A fence that forgets something stays with it, and of several the newest is enough.
#[tokio::test]
async fn what_a_fence_forgets_stays_forgotten() {
    for server in servers().await {
        let node = Node::on(&server).await;
        for (id, host) in [("a", "h"), ("b", "i"), ("c", "j")] {
            node.cache.set(Site::new(id, &[host], "old")).await;
        }
        drop(node);
        for _ in 0..3 {
            server.psql("SELECT larder.invalidate('site', 'id', 'a')").unwrap();
            server.psql("SELECT larder.invalidate('site', 'host', 'i')").unwrap();
        }
        for _ in 0..4 {
            server.psql(MANY).unwrap();
            pass(&server, 21);
            server.psql(HOUSEKEEP).unwrap();
        }
        for _ in 0..4 {
            pass(&server, 21);
            server.psql(HOUSEKEEP).unwrap();
        }
        let of = |index: &str, key: &str| {
            count(&server, &format!("fences WHERE mark = larder.mark('site', '{index}', '{key}')"))
        };
        // The sets of the objects have fences as well.
        assert_eq!((of("id", "a"), of("host", "i"), of("id", "c")), (1, 1, 0));
        let node = Node::on(&server).await;
        assert_eq!((node.name_by_id("a").await, node.name_by_host("i").await), (None, None));
        assert_eq!((node.name_by_host("h").await, node.name_by_id("b").await), (None, None));
        assert_eq!(node.name_by_host("j").await.as_deref(), Some("old"));
    }
}

/// A node comes up while the transaction of an application that keeps house stays open, or is prepared.
#[tokio::test]
async fn nobody_waits_for_a_transaction_that_keeps_house() {
    for server in servers().await {
        set_up(&server);
        server.psql(MANY).unwrap();
        pass(&server, 21);
        server.psql(HOUSEKEEP).unwrap();
        server.psql(MANY).unwrap();
        pass(&server, 21);
        let writer = session(&server).await;
        run(&writer, "BEGIN; SELECT larder.invalidate('site', 'id', 'a')").await;
        assert!(writer.query_one(HOUSEKEEP, &[]).await.unwrap().get::<_, bool>(0));
        let impatient = |sql: &str| server.psql(&format!("SET lock_timeout = '1ms'; {sql}"));
        let as_node = "SELECT epoch > 0 FROM larder.register(); SELECT larder.turn(); SELECT larder.turn_if_due(); SELECT done FROM larder.sweep(100); SELECT larder.trim(100)";
        for state in ["open", "prepared"] {
            assert!(impatient(HOUSEKEEP).is_ok(), "another writer, {state}");
            assert!(impatient(as_node).is_ok(), "a node, {state}: {:?}", impatient(as_node));
            let node = Node::on(&server).await;
            let ticket = node.begins_to_load().await;
            assert_eq!(node.fill(Site::new("a", &["h"], "loaded"), ticket).await, Stored::Accepted);
            assert_eq!(node.cache.set(Site::new("x1", &["k"], "new")).await, Stored::Accepted);
            assert_eq!(node.cache.invalidate(Site::ID, ["x2"]).await.unwrap(), Delivery::Applied);
            assert_eq!(node.name_by_host("h").await.as_deref(), Some("loaded"), "not committed yet");
            if state == "open" {
                run(&writer, "PREPARE TRANSACTION 'kept'").await;
            }
        }
        let node = Node::on(&server).await;
        run(&writer, "COMMIT PREPARED 'kept'").await;
        assert_eq!(node.name_by_host("h").await, None);
        assert_eq!(node.name_by_id("x1").await.as_deref(), Some("new"));
    }
}

/// A load began before writers let generations end. It is stored while the last writer's transaction is open, or after it.
#[tokio::test]
async fn a_late_fill_whose_fence_a_writer_removed_is_refused() {
    for server in servers().await {
        let (node, writer) = (Node::on(&server).await, session(&server).await);
        // The first turn of all lets no generation end.
        let cases =
            [("a", 1, false), ("b", 1, false), ("c", 1, true), ("d", 2, false), ("e", 2, true), ("f", 3, false)];
        for (id, writers, open) in cases {
            let ticket = node.begins_to_load().await;
            server.psql(&format!("SELECT larder.invalidate('site', 'id', '{id}')")).unwrap();
            for nth in 1..=writers {
                begin_and_keep_house(&server, &writer).await;
                if nth < writers || !open {
                    run(&writer, "COMMIT").await;
                }
            }
            assert_eq!(node.fill(Site::new(id, &["h"], "old"), ticket).await, Stored::Overtaken, "{id}");
            if open {
                run(&writer, "COMMIT").await;
            }
            assert_eq!(node.name_by_id(id).await, None, "{id}");
        }
        assert_eq!(count(&server, "fences WHERE mark = larder.mark('site', 'id', 'f')"), 0, "it was removed");
    }
}

/// Begins a transaction that lets a generation end and keeps house, as if no node were there.
async fn begin_and_keep_house(server: &PostgresServer, writer: &Client) {
    loop {
        // What the heartbeat of a node has left meanwhile.
        server.psql("UPDATE larder.moments SET alone = true").unwrap();
        run(writer, "BEGIN").await;
        // Neither does anything where the node's heartbeat has the clock's row at this moment.
        let turned: bool = writer.query_one("SELECT larder.turn()", &[]).await.unwrap().get(0);
        if turned && writer.query_one(HOUSEKEEP, &[]).await.unwrap().get(0) {
            return;
        }
        run(writer, "ROLLBACK").await;
    }
}

#[tokio::test]
async fn a_writer_leaves_it_to_a_node_and_fails_by_nothing() {
    for server in servers().await {
        set_up(&server);
        assert_eq!(server.psql(HOUSEKEEP).unwrap(), "t");
        let writer = session(&server).await;
        for level in ["REPEATABLE READ", "SERIALIZABLE"] {
            run(&writer, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            assert!(!writer.query_one(HOUSEKEEP, &[]).await.unwrap().get::<_, bool>(0), "{level}");
            run(&writer, "SELECT larder.invalidate('site', 'id', 'a'); COMMIT").await;
        }
        let holder = session(&server).await;
        run(&holder, "BEGIN; LOCK TABLE larder.clock IN ACCESS EXCLUSIVE MODE").await;
        run(&writer, "SET lock_timeout = '1ms'; BEGIN; SELECT larder.invalidate('site', 'id', 'b'); SELECT larder.try_to_housekeep(); COMMIT").await;
        run(&holder, "COMMIT").await;
        assert_eq!(count(&server, "changes"), 3);
        // A node was here a moment ago.
        run(&writer, "SELECT larder.trim(1)").await;
        assert_eq!(server.psql(HOUSEKEEP).unwrap(), "f");
    }
}
