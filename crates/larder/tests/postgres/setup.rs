//! What larder makes in a database, and when.

use crate::node::{Node, options, servers, session, until};
use larder::connector::postgres::Postgres;
use larder::{Cache, Schema};
use larder_testing::entries::Site;
use std::sync::Arc;

const THERE: &str = "SELECT to_regclass('larder.clock') IS NOT NULL";

/// Zitadel's setup failed for users who wanted no cache at all, because the tables were made regardless (zitadel 10712).
#[tokio::test]
async fn setup_failed_for_users_who_wanted_no_cache_because_tables_were_made_regardless() {
    for server in servers().await {
        let postgres = Postgres::open(options(&server)).unwrap();
        let connected = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'larder'";
        until("it is connected", || server.psql(connected).unwrap() == "4").await;
        assert_eq!(server.psql(THERE).unwrap(), "f", "no cache is opened");
        let schema = Schema::of::<Site>();
        let cache: Cache<Site> = Cache::new(Arc::new(postgres.connector(schema.clone()).unwrap()), schema).unwrap();
        until("the cache can be read", || cache.status().readable).await;
        assert_eq!(server.psql(THERE).unwrap(), "t");
    }
}

#[tokio::test]
async fn where_it_may_not_make_tables_it_says_what_makes_them() {
    for server in servers().await {
        let node = Node::begin(options(&server).create(false));
        until("it has asked for them", || server.log().contains("larder.register")).await;
        assert_eq!(server.psql(THERE).unwrap(), "f");
        server.psql(Postgres::SCHEMA).unwrap();
        node.readable().await;
    }
}

/// A dump brings unlogged tables along, and a template the whole database. What lies there is of another place.
#[tokio::test]
async fn what_was_copied_with_the_database_is_not_believed() {
    for server in servers().await {
        let node = Node::on(&server).await;
        node.cache.set(Site::new("a", &[], "of the original")).await;
        drop(node);
        let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'larder' AND pid <> pg_backend_pid()";
        until("the sessions are over", || server.psql(others).unwrap() == "0").await;
        let admin = format!("{} dbname=postgres", server.dsn());
        let (client, connection) = tokio_postgres::connect(&admin, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("CREATE DATABASE copy TEMPLATE larder").await.unwrap();
        let url = server.dsn().replace("dbname=larder", "dbname=copy");
        let copied = larder::connector::postgres::PostgresOptions::from_url(&url).unwrap();
        let node = Node::begin(copied);
        node.readable().await;
        assert_eq!(node.name_by_id("a").await, None);
        let original = Node::on(&server).await;
        assert_eq!(original.name_by_id("a").await.as_deref(), Some("of the original"));
    }
}

/// The marks that SQL computes are those that larder computes.
#[tokio::test]
async fn sql_names_a_key_as_larder_does() {
    for server in servers().await {
        let (node, client) = (Node::on(&server).await, session(&server).await);
        for host in ["h", "ü.example", "a'b\"c\\d", &"x".repeat(3000)] {
            node.cache.set(Site::new("a", &[host], "there")).await;
            assert!(node.name_by_host(host).await.is_some());
            client.execute("SELECT larder.invalidate('site', 'host', $1::text)", &[&host]).await.unwrap();
            assert!(node.name_by_id("a").await.is_none(), "{host}");
        }
        node.cache.set(Site::new("a", &[], "there")).await;
        client
            .execute("SELECT larder.invalidate('site', 'host', NULL), larder.invalidate('other', 'id', 'a')", &[])
            .await
            .unwrap();
        assert!(node.name_by_id("a").await.is_some(), "neither names a key of this cache");
    }
}
