//! PgBouncer in transaction mode between a node and the server.

use crate::node::{Node, options, servers, until};
use larder::connector::postgres::PostgresOptions;
use larder_testing::entries::Site;
use larder_testing::log::Log;
use larder_testing::pgbouncer::PgBouncer;
use larder_testing::postgres::PostgresServer;
use tracing::Level;

pub(crate) fn through(pooler: &PgBouncer, server: &PostgresServer, prepared: bool) -> PostgresOptions {
    let direct = options(server);
    let mut through = PostgresOptions::from_url(&pooler.dsn()).unwrap().prepared(prepared);
    through.breaker = direct.breaker.clone();
    through.operation_timeout(direct.operation_timeout).connect_timeout(direct.connect_timeout)
}

#[tokio::test]
async fn a_restart_of_the_pooler_loses_nothing() {
    for server in servers().await {
        let pooler = PgBouncer::start(&server).await.unwrap();
        let node = Node::begin(through(&pooler, &server, false));
        node.readable().await;
        node.cache.set(Site::new("a", &["h"], "stays")).await;
        node.cache.set(Site::new("b", &["k"], "old")).await;
        pooler.kill();
        until("it is noticed", || !node.cache.status().readable).await;
        node.cache.invalidate(Site::HOST, ["k"]).await.unwrap();
        assert_eq!(node.name_by_id("a").await, None);
        pooler.restart().await.unwrap();
        node.readable().await;
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("stays"));
        assert_eq!(node.name_by_id("b").await, None);
    }
}

/// The pooler gives the node another session of the server, in which nothing was prepared.
#[tokio::test]
async fn an_old_pooler_and_prepared_statements_are_told_apart_from_an_outage() {
    for server in servers().await {
        let pooler = PgBouncer::start(&server).await.unwrap();
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::begin(through(&pooler, &server, true));
        until("a session has lost what was prepared", || {
            let ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'larder' AND state = 'idle'";
            server.psql(ends).unwrap();
            log.count(&["set `prepared: false`"]) > 0
        })
        .await;
        drop(node);
    }
}
