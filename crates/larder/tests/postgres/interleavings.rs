//! Orders of steps in which a cache beside a database goes stale, each played with real transactions. The writer is an application that knows
//! nothing of larder but the function `larder.invalidate`.

use crate::node::{Node, servers, session, until};
use larder::{Delivery, Stored};
use larder_testing::entries::Site;
use larder_testing::postgres::PostgresServer;
use std::sync::Arc;
use tokio_postgres::Client;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

fn site(id: &str, hosts: &[&str], name: &str) -> Site {
    Site::new(id, hosts, name)
}

/// The source: one row for each site, and what it is called now.
async fn source(client: &Client) {
    client
        .batch_execute(
            "CREATE TABLE sites (id text PRIMARY KEY, name text); INSERT INTO sites VALUES ('a', 'old'), ('b', 'old')",
        )
        .await
        .unwrap();
}

async fn rename(client: &Client, id: &str, name: &str) {
    client.execute("UPDATE sites SET name = $2 WHERE id = $1", &[&id, &name]).await.unwrap();
}

async fn load(client: &Client, id: &str) -> String {
    client.query_one("SELECT name FROM sites WHERE id = $1", &[&id]).await.unwrap().get(0)
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

/// Puts the source and the cache where they were.
async fn reset(client: &Client, node: &Node) {
    run(client, "ROLLBACK; UPDATE sites SET name = 'old'").await;
    assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
}

/// A load that begins while the change is on its way reads the old state, and must not bring it back after the commit.
#[tokio::test]
async fn a_ticket_that_was_taken_during_the_invalidation() {
    for server in servers().await {
        let (node, writer, loader) = (Node::on(&server).await, session(&server).await, session(&server).await);
        source(&writer).await;
        for level in LEVELS {
            reset(&writer, &node).await;
            run(&writer, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            rename(&writer, "a", "new").await;
            run(&writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
            let ticket = node.begins_to_load().await;
            let name = load(&loader, "a").await;
            assert_eq!(name, "old");
            run(&writer, "COMMIT").await;
            assert_eq!(node.fill(site("a", &["h"], &name), ticket).await, Stored::Overtaken, "{level}");
            assert_eq!(node.name_by_id("a").await, None, "{level}");
        }
    }
}

/// The fill sees nothing of an invalidation that has not been committed; the read has to find it.
#[tokio::test]
async fn a_fill_while_the_invalidation_is_in_flight_by_another_key() {
    for server in servers().await {
        let (node, writer) = (Node::on(&server).await, session(&server).await);
        source(&writer).await;
        for level in LEVELS {
            reset(&writer, &node).await;
            let ticket = node.begins_to_load().await;
            run(&writer, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            rename(&writer, "a", "new").await;
            run(&writer, "SELECT larder.invalidate('site', 'host', 'h')").await;
            assert_eq!(node.fill(site("a", &["h"], "old"), ticket).await, Stored::Accepted);
            assert_eq!(node.name_by_id("a").await.as_deref(), Some("old"), "nothing has changed yet");
            run(&writer, "COMMIT").await;
            assert_eq!(node.name_by_id("a").await, None, "{level}");
            assert_eq!(node.name_by_host("h").await, None, "{level}");
        }
    }
}

#[tokio::test]
async fn a_writer_whose_snapshot_is_older_than_the_fill() {
    for server in servers().await {
        let (node, writer) = (Node::on(&server).await, session(&server).await);
        source(&writer).await;
        for level in LEVELS {
            reset(&writer, &node).await;
            let ticket = node.begins_to_load().await;
            run(&writer, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            rename(&writer, "a", "new").await;
            assert_eq!(node.fill(site("a", &["h"], "old"), ticket).await, Stored::Accepted);
            run(&writer, "SELECT larder.invalidate('site', 'host', 'h')").await;
            run(&writer, "COMMIT").await;
            assert_eq!(node.name_by_id("a").await, None, "{level}");
        }
    }
}

/// A long transaction elsewhere keeps nobody from caching.
#[tokio::test]
async fn a_fill_that_begins_after_the_invalidation_beside_a_long_writer() {
    for server in servers().await {
        let (node, writer, long) = (Node::on(&server).await, session(&server).await, session(&server).await);
        source(&writer).await;
        run(&long, "BEGIN; INSERT INTO sites VALUES ('long', 'x')").await;
        run(&writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
        let ticket = node.begins_to_load().await;
        assert_eq!(node.fill(site("a", &["h"], "old"), ticket).await, Stored::Accepted);
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("old"));
        run(&long, "ROLLBACK").await;
    }
}

/// Nobody waits for anybody: what two applications forget in other orders makes no deadlock, and what is rolled back was not forgotten.
#[tokio::test]
async fn two_writers_in_other_orders_and_what_is_rolled_back() {
    for server in servers().await {
        let (node, one, two) = (Node::on(&server).await, session(&server).await, session(&server).await);
        for id in ["a", "b"] {
            node.cache.set(site(id, &[&format!("{id}.example")], "old")).await;
        }
        run(&one, "BEGIN").await;
        run(&two, "BEGIN").await;
        run(&one, "SELECT larder.invalidate('site', 'id', 'a')").await;
        run(&two, "SELECT larder.invalidate('site', 'id', 'b')").await;
        run(&one, "SELECT larder.invalidate('site', 'id', 'b')").await;
        run(&two, "SELECT larder.invalidate('site', 'id', 'a')").await;
        run(&two, "ROLLBACK").await;
        assert!(node.name_by_id("a").await.is_some() && node.name_by_id("b").await.is_some());
        run(&one, "COMMIT").await;
        assert!(node.name_by_id("a").await.is_none() && node.name_by_id("b").await.is_none());

        node.cache.set(site("a", &[], "again")).await;
        run(&one, "BEGIN; SAVEPOINT s; SELECT larder.invalidate('site', 'id', 'a'); ROLLBACK TO s; COMMIT").await;
        assert!(node.name_by_id("a").await.is_some(), "the savepoint was rolled back");
        run(&one, "BEGIN; SAVEPOINT s; SELECT larder.invalidate('site', 'id', 'a'); RELEASE s; COMMIT").await;
        assert!(node.name_by_id("a").await.is_none(), "the savepoint was released");
    }
}

#[tokio::test]
async fn an_older_fill_after_a_put_and_a_key_that_moves() {
    for server in servers().await {
        let node = Node::on(&server).await;
        let ticket = node.begins_to_load().await;
        assert_eq!(node.cache.set(site("a", &["h"], "new")).await, Stored::Accepted);
        assert_eq!(node.fill(site("a", &["h"], "old"), ticket).await, Stored::Overtaken);
        assert_eq!(node.name_by_id("a").await.as_deref(), Some("new"));
        let ticket = node.begins_to_load().await;
        assert_eq!(node.fill(site("b", &["h"], "taker"), ticket).await, Stored::Accepted);
        assert_eq!(node.name_by_id("a").await, None, "it has lost a key");
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("taker"));
    }
}

/// The unique row of the key puts the two in order: one of them is left.
#[tokio::test]
async fn fills_in_flight_that_claim_one_key() {
    for server in servers().await {
        let node = Arc::new(Node::on(&server).await);
        for round in 0..20 {
            let ticket = node.begins_to_load().await;
            let host = format!("{round}.example");
            let fills: Vec<_> = (0..8)
                .map(|id| {
                    let (node, host) = (node.clone(), host.clone());
                    tokio::spawn(
                        async move { node.fill(site(&id.to_string(), &[&host], &id.to_string()), ticket).await },
                    )
                })
                .collect();
            for fill in fills {
                fill.await.unwrap();
            }
            let holder = node.name_by_host(&host).await;
            let mut left = 0;
            for id in 0..8 {
                if let Some(found) = node.cache.get(Site::ID, &*id.to_string()).await
                    && found.hosts.contains(&host)
                {
                    assert_eq!(holder.as_ref(), Some(&found.name), "two objects have the host");
                    left += 1;
                }
            }
            assert!(left <= 1, "{left}");
            assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
        }
    }
}

/// Waits until so many stores of larder wait for a lock.
async fn stores_wait(server: &PostgresServer, count: usize) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%larder.store%' \
        AND application_name = 'larder'";
    until("stores wait for a lock", || server.psql(waiting).unwrap() == count.to_string()).await;
}

/// A put and a fill of one object, of which the first is held up half-way: it has passed its check and has not committed. The state of the put is
/// the one that is left.
#[tokio::test]
async fn a_put_against_a_fill_in_flight_in_both_orders() {
    for server in servers().await {
        let (one, two) = (Arc::new(Node::on(&server).await), Arc::new(Node::on(&server).await));
        let holder = session(&server).await;
        for put_is_first in [false, true] {
            assert_eq!(one.cache.truncate().await.unwrap(), Delivery::Applied);
            // Makes the row of the key, on which the store is held up.
            one.cache.set(site("a", &["h"], "older")).await;
            let ticket = one.begins_to_load().await;
            run(&holder, "BEGIN; SELECT FROM larder.keys WHERE mark = larder.mark('site', 'host', 'h') FOR UPDATE")
                .await;
            let fill = |node: &Arc<Node>| {
                let node = node.clone();
                tokio::spawn(async move { node.fill(site("a", &["h"], "old"), ticket).await })
            };
            let put = |node: &Arc<Node>| {
                let node = node.clone();
                tokio::spawn(async move { node.cache.set(site("a", &["h"], "new")).await })
            };
            let (fill, put) = if put_is_first {
                let put = put(&two);
                stores_wait(&server, 1).await;
                (fill(&one), put)
            } else {
                let fill = fill(&one);
                stores_wait(&server, 1).await;
                (fill, put(&two))
            };
            stores_wait(&server, 2).await;
            run(&holder, "ROLLBACK").await;
            let expected = if put_is_first { Stored::Overtaken } else { Stored::Accepted };
            assert_eq!(fill.await.unwrap(), expected);
            assert_eq!(put.await.unwrap(), Stored::Accepted);
            for node in [&one, &two] {
                assert_eq!(node.name_by_id("a").await.as_deref(), Some("new"), "the put was first: {put_is_first}");
                assert_eq!(node.name_by_host("h").await.as_deref(), Some("new"), "the put was first: {put_is_first}");
            }
        }
    }
}

/// A truncate within an application's transaction.
#[tokio::test]
async fn a_truncate_takes_effect_when_its_transaction_commits() {
    for server in servers().await {
        let (node, writer) = (Node::on(&server).await, session(&server).await);
        node.cache.set(site("a", &["h"], "old")).await;
        let ticket = node.begins_to_load().await;
        run(&writer, "BEGIN; SELECT larder.truncate('site')").await;
        assert!(node.name_by_id("a").await.is_some());
        run(&writer, "COMMIT").await;
        assert!(node.name_by_id("a").await.is_none());
        assert_eq!(node.fill(site("b", &["k"], "old"), ticket).await, Stored::Overtaken);
        let ticket = node.begins_to_load().await;
        assert_eq!(node.fill(site("a", &["h"], "new"), ticket).await, Stored::Accepted);
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("new"));
    }
}

#[tokio::test]
async fn a_transaction_that_is_prepared_first_and_committed_later() {
    for server in servers().await {
        let (node, writer) = (Node::on(&server).await, session(&server).await);
        node.cache.set(site("a", &["h"], "old")).await;
        run(&writer, "BEGIN; SELECT larder.invalidate('site', 'id', 'a'); PREPARE TRANSACTION 'later'").await;
        assert!(node.name_by_id("a").await.is_some());
        let ticket = node.begins_to_load().await;
        assert_eq!(node.fill(site("a", &["h"], "old"), ticket).await, Stored::Accepted);
        run(&writer, "COMMIT PREPARED 'later'").await;
        assert!(node.name_by_id("a").await.is_none());
    }
}

/// A crash keeps the prepared transaction and loses its fence. So nothing is cached until it has ended.
#[tokio::test]
async fn a_transaction_that_was_prepared_before_a_crash() {
    for server in servers().await {
        let node = Node::on(&server).await;
        node.cache.set(site("a", &["h"], "old")).await;
        let has_clock = || server.psql("SELECT epoch IS NOT NULL FROM larder.register()").unwrap() == "t";
        server
            .psql("BEGIN; SELECT larder.invalidate('site', 'id', 'a'); PREPARE TRANSACTION 'before the crash'")
            .unwrap();
        server.restart().await.unwrap();
        assert!(!has_clock());
        // It is not waited for a transaction that is prepared later: its fence is there.
        server.psql("BEGIN; SELECT larder.invalidate('site', 'id', 'b'); PREPARE TRANSACTION 'after it'").unwrap();
        assert!(!has_clock());
        server.psql("COMMIT PREPARED 'before the crash'").unwrap();
        assert!(has_clock());
        node.readable().await;
        let ticket = node.begins_to_load().await;
        assert_eq!(node.fill(site("b", &["k"], "old"), ticket).await, Stored::Accepted);
        server.psql("COMMIT PREPARED 'after it'").unwrap();
        assert_eq!(node.name_by_id("b").await, None);
    }
}
