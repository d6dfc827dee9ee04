//! Fences are swept by generations of tickets: nothing that a fence forgets outlives it, and no fill that is under way is overlooked.

use crate::node::{Node, servers, session};
use larder::Stored;
use larder_testing::entries::Site;
use larder_testing::postgres::PostgresServer;

/// Lets two generations end and sweeps after each, as often as it takes. Answers how many fences are left.
fn turn_and_sweep(server: &PostgresServer) -> u64 {
    for _ in 0..2 {
        server.psql("SELECT larder.turn()").unwrap();
        for _ in 0..100 {
            if server.psql("SELECT done FROM larder.sweep(1000)").unwrap() == "t" {
                break;
            }
        }
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
        let begun = "BEGIN; SELECT larder.store(false, 1, ARRAY[larder.mark('site', '', ''), larder.mark('site', 'id', 'a'), larder.mark('site', 'host', 'h')], \
            NULL, 'x', NULL, NULL, NULL, c.epoch, c.generation, pg_current_snapshot()) FROM larder.clock c";
        slow.batch_execute(begun).await.unwrap();
        node.cache.invalidate(Site::HOST, ["h"]).await.unwrap();
        server.psql("SELECT larder.turn()").unwrap();
        server.psql("SELECT larder.sweep(1000)").unwrap();
        server.psql("SELECT larder.turn()").unwrap();
        assert_eq!(server.psql("SELECT fences, done FROM larder.sweep(1000)").unwrap(), "0|t", "the fill is under way");
        assert_eq!(node.cache.set(Site::new("b", &["k"], "goes on")).await, Stored::Accepted);
        slow.batch_execute("COMMIT").await.unwrap();
        while server.psql("SELECT done FROM larder.sweep(1000)").unwrap() != "t" {}
        assert_eq!(
            server.psql("SELECT count(*) FROM larder.objects WHERE mark = larder.mark('site', 'id', 'a')").unwrap(),
            "0"
        );
    }
}
