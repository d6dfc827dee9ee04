//! Nodes that the database notifies of changes (`wake: listen`).
//!
//! These nodes poll twice a minute. So what they hear within twenty seconds of another change they were notified of.

use crate::feed::{FedNode, run};
use crate::node::{options, servers, session, until};
use crate::pooler::through;
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::feed::{Feed, FeedOptions, Wake};
use larder_testing::log::Log;
use larder_testing::pgbouncer::PgBouncer;
use larder_testing::postgres::PostgresServer;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tracing::Level;

const POLL: Duration = Duration::from_secs(30);

async fn node(options: PostgresOptions, feed: FeedOptions) -> FedNode {
    let postgres = Postgres::open(options).unwrap();
    let node = FedNode::following(&Feed::open(&postgres, feed.wake(Wake::Listen)).unwrap(), 2 * POLL);
    node.readable().await;
    node
}

async fn notified(server: &PostgresServer) -> FedNode {
    node(options(server), FeedOptions::new().poll(POLL)).await
}

/// Several changes, and each of them reaches all of these nodes long before they poll of themselves. The first one may arrive because a node polls when
/// it begins to listen.
async fn hear(nodes: &[&FedNode], writer: &Client) {
    for _ in 0..4 {
        for node in nodes {
            node.fill("a", &[], "old").await;
        }
        run(writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
        let begun = Instant::now();
        for node in nodes {
            while node.has("a").await {
                assert!(begun.elapsed() < Duration::from_secs(20), "a node is not notified");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
}

/// Who is the waker, or was the last one. Empty: there was none.
fn waker(server: &PostgresServer) -> String {
    server.psql("SELECT encode(token, 'hex') FROM larder.leases").unwrap()
}

#[tokio::test]
async fn a_node_is_notified_long_before_it_polls() {
    for server in servers().await {
        let writer = session(&server).await;
        let (one, two, three) = (notified(&server).await, notified(&server).await, notified(&server).await);
        hear(&[&one, &two, &three], &writer).await;
    }
}

#[tokio::test]
async fn when_the_waker_ends_another_node_takes_over() {
    for server in servers().await {
        let writer = session(&server).await;
        let one = notified(&server).await;
        until("the first node is the waker", || !waker(&server).is_empty()).await;
        let first = waker(&server);
        let (two, three) = (notified(&server).await, notified(&server).await);
        hear(&[&one, &two, &three], &writer).await;
        drop(one);
        hear(&[&two, &three], &writer).await;
        assert_ne!(waker(&server), first);
    }
}

#[tokio::test]
async fn a_node_whose_session_ends_listens_again() {
    for server in servers().await {
        let writer = session(&server).await;
        let (one, two) = (notified(&server).await, notified(&server).await);
        hear(&[&one, &two], &writer).await;
        let of = "FROM pg_stat_activity WHERE application_name = 'larder' AND (query LIKE '%''waker''%' OR query LIKE 'WITH stirred%')";
        until("both listen", || server.psql(&format!("SELECT count(*) {of}")).unwrap() == "2").await;
        assert_eq!(server.psql(&format!("SELECT count(pg_terminate_backend(pid)) {of}")).unwrap(), "2");
        hear(&[&one, &two], &writer).await;
    }
}

/// A pooler in transaction mode takes the LISTEN, and no notification ever arrives.
#[tokio::test]
async fn behind_a_pooler_a_node_polls_and_says_so_once() {
    for server in servers().await {
        let (pooler, writer) = (PgBouncer::start(&server).await.unwrap(), session(&server).await);
        let (log, _logging) = Log::begin(Level::INFO);
        let polls = FeedOptions::new().poll(Duration::from_millis(5));
        let node = node(through(&pooler, &server, false), polls).await;
        let told = "the feed does not notify this node: changes arrive with the next poll";
        until("it is said", || log.count(&[told, "behind a pooler in transaction mode"]) > 0).await;
        for _ in 0..4 {
            node.fill("a", &[], "old").await;
            run(&writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
            node.forgets("a").await;
        }
        assert_eq!(log.count(&["WARN"]), 1, "{}", log.text());
        assert_eq!(waker(&server), "", "a node that is not notified looks for nobody's changes");
    }
}

/// A session that counts its notifications of changes.
async fn counted(server: &PostgresServer) -> (Client, Arc<AtomicU32>) {
    let (client, mut connection) = tokio_postgres::connect(&server.dsn(), NoTls).await.unwrap();
    let count = Arc::<AtomicU32>::default();
    let counted = count.clone();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(heard) = message
                && heard.payload().starts_with("changed")
            {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    run(&client, "LISTEN \"larder.changes\"").await;
    (client, count)
}

#[tokio::test]
async fn many_changes_are_few_notifications() {
    for server in servers().await {
        let (node, (_client, count), writer) =
            (notified(&server).await, counted(&server).await, session(&server).await);
        hear(&[&node], &writer).await;
        let (before, begun) = (count.load(Ordering::Relaxed), Instant::now());
        for number in 0..400 {
            run(&writer, &format!("SELECT larder.invalidate('site', 'id', '{number}')")).await;
        }
        until("somebody is notified", || count.load(Ordering::Relaxed) > before).await;
        // One of them may have been on its way.
        let (sent, allowed) = (count.load(Ordering::Relaxed) - before, begun.elapsed().as_millis() / 50 + 2);
        assert!(u128::from(sent) <= allowed, "{sent} notifications, and {allowed} are allowed");
    }
}

/// The first poll comes after the first connection. Before that it can only fail.
#[tokio::test]
async fn a_normal_start_logs_no_warning() {
    for server in servers().await {
        for wake in [Wake::Poll, Wake::Listen] {
            let (log, _logging) = Log::begin(Level::INFO);
            let postgres = Postgres::open(options(&server)).unwrap();
            let feed = FeedOptions::new().poll(Duration::from_millis(5)).wake(wake);
            let node = FedNode::following(&Feed::open(&postgres, feed).unwrap(), Duration::from_secs(20));
            node.readable().await;
            assert!(log.count(&["connected"]) == 1 && log.count(&["WARN"]) == 0, "{}", log.text());
        }
    }
}
