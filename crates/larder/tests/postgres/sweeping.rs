//! Fences are swept by generations of tickets: nothing that a fence forgets outlives it, and no fill that is under way is overlooked.

use crate::node::{Node, servers, session, until};
use larder::Stored;
use larder_testing::entries::Site;
use larder_testing::postgres::PostgresServer;
use std::sync::Arc;

fn sweep(server: &PostgresServer) {
    while server.psql("SELECT done FROM larder.sweep(1000)").unwrap() != "t" {}
}

/// Begins a generation. Where a node has the clock's row at this moment, neither turn nor sweep does anything.
fn turn(server: &PostgresServer) {
    while server.psql("SELECT larder.turn()").unwrap() != "t" {
        sweep(server);
    }
}

/// Lets two generations end and sweeps after each, as often as it takes. Answers how many fences are left.
pub(crate) fn turn_and_sweep(server: &PostgresServer) -> u64 {
    for _ in 0..2 {
        turn(server);
        sweep(server);
    }
    server.psql("SELECT count(*) FROM larder.fences WHERE kind <> 'b'").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_late_fill_whose_fence_was_swept_is_refused() {
    for server in servers().await {
        let node = Node::on(&server).await;
        let ticket = node.begins_to_load().await;
        node.cache.invalidate(Site::ID, ["a"]).await.unwrap();
        assert_eq!(turn_and_sweep(&server), 0);
        assert_eq!(node.fill(Site::new("a", &["h"], "old"), ticket).await, Stored::Overtaken);
        let ticket = node.begins_to_load().await;
        assert_eq!(node.fill(Site::new("a", &["h"], "new"), ticket).await, Stored::Accepted);
        assert_eq!(turn_and_sweep(&server), 0);
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("new"));
    }
}

/// What a fence forgets goes before the fence does: through the primary key, a secondary key, and the whole cache.
#[tokio::test]
async fn what_was_forgotten_goes_with_its_fence() {
    for server in servers().await {
        let node = Node::on(&server).await;
        let objects = || server.psql("SELECT count(*) FROM larder.objects").unwrap();
        for (index, key) in [(Site::ID, "a"), (Site::HOST, "h"), (Site::HOST, "i")] {
            node.cache.set(Site::new("a", &["h", "i"], "old")).await;
            node.cache.set(Site::new("b", &["k"], "stays")).await;
            node.cache.invalidate(index, [key]).await.unwrap();
            assert_eq!((turn_and_sweep(&server), objects()), (0, "1".to_owned()));
            assert_eq!(node.name_by_id("a").await, None);
            assert_eq!(node.name_by_host("k").await.as_deref(), Some("stays"));
        }
        node.cache.set(Site::new("a", &["h", "i"], "old")).await;
        node.cache.truncate().await.unwrap();
        server.psql("UPDATE larder.fences SET until = now() WHERE until IS NOT NULL").unwrap();
        assert_eq!((turn_and_sweep(&server), objects()), (0, "0".to_owned()));
    }
}

/// Where a cache was truncated more than once, the fences go only when no object is left, however few of them a sweep removes.
#[tokio::test]
async fn what_two_truncates_have_forgotten_goes_before_both_fences() {
    for server in servers().await {
        let node = Node::on(&server).await;
        for id in ["a", "b", "c", "d"] {
            node.cache.set(Site::new(id, &[], "old")).await;
        }
        node.cache.truncate().await.unwrap();
        node.cache.truncate().await.unwrap();
        server.psql("UPDATE larder.fences SET until = now() WHERE until IS NOT NULL").unwrap();
        for _ in 0..2 {
            turn(&server);
            while server.psql("SELECT done FROM larder.sweep(3)").unwrap() != "t" {
                assert_eq!(node.name_by_id("d").await, None);
            }
        }
        assert_eq!(server.psql("SELECT count(*) FROM larder.fences WHERE kind <> 'b'").unwrap(), "0");
        for id in ["a", "b", "c", "d"] {
            assert_eq!(node.name_by_id(id).await, None, "{id} is back");
        }
        assert_eq!(server.psql("SELECT count(*) FROM larder.objects").unwrap(), "0");
    }
}

/// A get that was answered before the truncate renews the last-use age of the object while the sweep removes it. PostgreSQL then gives the row another place.
#[tokio::test]
async fn an_object_that_is_touched_while_it_is_swept_goes_as_well() {
    for server in servers().await {
        let (node, touching) = (Node::on(&server).await, session(&server).await);
        node.cache.set(Site::new("a", &["h"], "old")).await;
        node.cache.truncate().await.unwrap();
        server.psql("UPDATE larder.fences SET until = now() WHERE until IS NOT NULL").unwrap();
        turn(&server);
        sweep(&server);
        turn(&server);
        touching.batch_execute("BEGIN; UPDATE larder.objects SET idle = idle").await.unwrap();
        let sweeping = session(&server).await;
        let swept = tokio::spawn(async move { sweeping.batch_execute("SELECT larder.sweep(1000)").await });
        until("the sweep waits for the row", || {
            let waits =
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%larder.sweep%'";
            server.psql(waits).unwrap() == "1" || swept.is_finished()
        })
        .await;
        touching.batch_execute("COMMIT").await.unwrap();
        swept.await.unwrap().unwrap();
        sweep(&server);
        assert_eq!(node.name_by_id("a").await, None);
        assert_eq!(server.psql("SELECT count(*) FROM larder.objects").unwrap(), "0");
    }
}

/// A deleted key stays deleted, and still leads an invalidation to the object.
#[tokio::test]
async fn a_deleted_key_stays_so_without_its_fence() {
    for server in servers().await {
        let node = Node::on(&server).await;
        node.cache.set(Site::new("a", &["h", "i"], "old")).await;
        node.cache.delete(Site::HOST, ["h"]).await.unwrap();
        assert_eq!(turn_and_sweep(&server), 0);
        assert_eq!(node.name_by_host("h").await, None);
        assert_eq!(node.name_by_host("i").await.as_deref(), Some("old"));
        node.cache.invalidate(Site::HOST, ["h"]).await.unwrap();
        assert_eq!(node.name_by_host("i").await, None);
    }
}

/// A fill that is under way when generations end holds up the sweep, and nothing else.
#[tokio::test]
async fn a_fill_in_flight_over_two_turns_is_waited_for() {
    for server in servers().await {
        let (node, slow) = (Node::on(&server).await, session(&server).await);
        // A fill whose transaction stays open: it has the lock of its generation, and has stored.
        let begun = "BEGIN; SELECT larder.store('f', 1, ARRAY[larder.mark('site', '', ''), larder.mark('site', 'id', 'a'), larder.mark('site', 'host', 'h')], \
            NULL, 'x', NULL, NULL, NULL, c.epoch, c.generation, pg_current_snapshot()) FROM larder.clock c";
        slow.batch_execute(begun).await.unwrap();
        node.cache.invalidate(Site::HOST, ["h"]).await.unwrap();
        turn(&server);
        turn(&server);
        assert_eq!(server.psql("SELECT fences, done FROM larder.sweep(1000)").unwrap(), "0|t", "the fill is under way");
        assert_eq!(node.cache.set(Site::new("b", &["k"], "goes on")).await, Stored::Accepted);
        slow.batch_execute("COMMIT").await.unwrap();
        sweep(&server);
        assert_eq!(
            server.psql("SELECT count(*) FROM larder.objects WHERE mark = larder.mark('site', 'id', 'a')").unwrap(),
            "0"
        );
    }
}

/// Stores `a` again with the host `h`, in a transaction that stays open. The row of the key leads to `a` already.
const STORES_AGAIN: &str = "BEGIN; SELECT larder.store('f', o.shape, o.marks, NULL, o.payload, NULL, NULL, NULL, c.epoch, c.generation, \
    pg_current_snapshot()) FROM larder.clock c, saved o";

/// An object was stored and has expired. The row of its key is still there.
async fn expired(server: &PostgresServer) -> Arc<Node> {
    let node = Arc::new(Node::on(server).await);
    assert_eq!(node.cache.set(Site::new("a", &["h"], "old")).await, Stored::Accepted);
    server.psql("CREATE TABLE saved AS SELECT * FROM larder.objects; DELETE FROM larder.objects").unwrap();
    node
}

/// A store of another object that takes the key waits for the first one, and then displaces its object. Otherwise both would be left with the key, and
/// the key would lead an invalidation to only one of them.
#[tokio::test]
async fn a_key_is_not_taken_from_a_store_in_flight_that_has_found_it_right() {
    for server in servers().await {
        let (node, slow) = (expired(&server).await, session(&server).await);
        slow.batch_execute(STORES_AGAIN).await.unwrap();
        let ticket = node.begins_to_load().await;
        let other = node.clone();
        let taking = tokio::spawn(async move { other.fill(Site::new("b", &["h"], "new"), ticket).await });
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("the fill waits, or has ended", || taking.is_finished() || server.psql(waits).unwrap() == "1").await;
        slow.batch_execute("COMMIT").await.unwrap();
        assert_eq!(taking.await.unwrap(), Stored::Accepted);
        assert_eq!(node.name_by_id("a").await, None, "it has lost its key");
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("new"));
    }
}

/// What a prune sees may be older than the end of a fill that has relied on the row of a key.
#[tokio::test]
async fn the_row_of_a_key_stays_until_the_fills_have_ended_that_may_rely_on_it() {
    for server in servers().await {
        let (node, slow, pruning) = (expired(&server).await, session(&server).await, session(&server).await);
        slow.batch_execute(STORES_AGAIN).await.unwrap();
        server.psql("SELECT larder.turn(); SELECT larder.turn()").unwrap();
        pruning.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM larder.clock").await.unwrap();
        slow.batch_execute("COMMIT").await.unwrap();
        pruning.batch_execute("SELECT larder.prune(0, 1000); COMMIT").await.unwrap();
        assert_eq!(server.psql("SELECT count(*) FROM larder.keys").unwrap(), "1");
        node.cache.invalidate(Site::HOST, ["h"]).await.unwrap();
        turn_and_sweep(&server);
        assert_eq!(turn_and_sweep(&server), 0);
        assert_eq!(node.name_by_id("a").await, None, "the key has led the sweep to the object");
    }
}

/// Who takes a lock and then looks with an older snapshot overlooks what was committed in between.
#[tokio::test]
async fn what_needs_new_snapshots_refuses_other_isolation_levels() {
    for server in servers().await {
        let _node = Node::on(&server).await;
        for call in ["sweep(10)", "absent(1, 2, true, 0, 1, 1, 1, '1:1:')"] {
            let told =
                server.psql(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT larder.{call}")).unwrap_err();
            assert!(told.contains("needs the isolation level read committed"), "{told}");
        }
    }
}
