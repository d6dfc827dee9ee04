//! Caches in a database that a configuration or a builder names.

use crate::node::{options, servers, until};
use larder::connector::Secret;
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::{Cache, CacheOptions, Caches, Delivery, OpenError, Schema};
use larder_testing::entries::Site;
use larder_testing::postgres::PostgresServer;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

async fn caches(options: PostgresOptions) -> Caches {
    let max_age = Duration::from_secs(3600);
    Caches::builder()
        .postgres("db", options)
        .cache::<Site>(CacheOptions::on("db").max_age(max_age))
        .open()
        .await
        .unwrap()
}

pub(crate) async fn opened(caches: &Caches) -> Cache<Site> {
    let cache = caches.open::<Site>().unwrap();
    let readiness = caches.ready(PATIENCE).await;
    assert!(readiness.is_ready(), "{readiness}");
    cache
}

pub(crate) fn sessions(server: &PostgresServer) -> String {
    server.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'larder'").unwrap()
}

#[tokio::test]
async fn two_processes_share_a_cache_in_a_database_that_the_builder_names() {
    for server in servers().await {
        let (one, other) = (caches(options(&server)).await, caches(options(&server)).await);
        assert_eq!(sessions(&server), "0", "nothing is connected before a cache is opened");
        let (writer, reader) = (opened(&one).await, opened(&other).await);
        writer.set(Site::new("a", &["h"], "there")).await;
        assert_eq!(reader.get(Site::HOST, "h").await.unwrap().name, "there");
        assert_eq!(reader.invalidate(Site::ID, ["a"]).await.unwrap(), Delivery::Applied);
        assert!(writer.get(Site::HOST, "h").await.is_none());
        assert!(one.shutdown().await.is_clean());
    }
}

/// All caches of a connector, and what a program does with `Caches::postgres`, use the same connections.
#[tokio::test]
async fn caches_of_one_connector_share_its_connections() {
    for server in servers().await {
        let caches = caches(options(&server).connections(2)).await;
        let cache = opened(&caches).await;
        let postgres: Postgres = caches.postgres("db").unwrap().clone();
        assert!(caches.postgres("other").is_none());
        let schema = Schema::of::<Site>();
        let second = Cache::<Site>::new(Arc::new(postgres.connector(schema.clone()).unwrap()), schema).unwrap();
        until("the second cache can be read", || second.status().readable).await;
        assert_eq!(sessions(&server), "2");
        drop((cache, second, postgres, caches));
        until("the connections end with the last cache", || sessions(&server) == "0").await;
    }
}

/// What `ready` and `shutdown` say while the server is away, and that a shutdown delivers what was deferred once it is back.
#[tokio::test]
async fn a_server_that_is_away_is_told_and_its_changes_are_delivered_at_the_end() {
    for server in servers().await {
        let caches = caches(options(&server).shutdown_timeout(PATIENCE)).await;
        let cache = opened(&caches).await;
        cache.set(Site::new("a", &[], "there")).await;
        server.kill();
        until("the server is seen to be away", || !cache.status().readable).await;
        assert_eq!(cache.invalidate(Site::ID, ["a"]).await.unwrap(), Delivery::Deferred);
        let readiness = caches.ready(Duration::ZERO).await;
        let said = readiness.to_string();
        assert!(said.starts_with("cannot be read: `site`, because "), "{said}");
        assert!(said.contains(&format!("{}/larder", server.socket().display())), "{said}");
        let left = caches.shutdown_within(Duration::ZERO).await;
        assert_eq!(left.undelivered().collect::<Vec<_>>(), [("site", 1)]);
        server.restart().await.unwrap();
        let shutdown = caches.shutdown().await;
        assert!(shutdown.is_clean(), "{shutdown}");
    }
}

#[cfg(feature = "yaml")]
#[tokio::test]
async fn a_file_names_the_database() {
    for server in servers().await {
        let text = format!(
            "
            connectors:
              postgres:
                url: '{}'
                operation_timeout: 20s
                connect_timeout: 20s
                breaker: {{ slow_call: 0 }}
            caches: {{ site: {{ connector: postgres, max_age: 1h }} }}
            ",
            server.dsn()
        );
        let caches = Caches::from_config(larder::Config::from_yaml(&text).unwrap()).await.unwrap();
        let cache = opened(&caches).await;
        cache.set(Site::new("a", &["h"], "there")).await;
        assert!(cache.get(Site::HOST, "h").await.is_some());
    }
}

/// Zitadel's block does not say where the database is; the program that reads it may know.
#[cfg(feature = "zitadel")]
#[tokio::test]
async fn code_may_bring_the_database_of_zitadels_block() {
    let block = "Caches: { Instance: { Connector: postgres }, Site: { Connector: postgres, MaxAge: 1h } }";
    let config = || larder::Config::from_yaml(block).unwrap();
    let unknown = Caches::from_config(config()).await.unwrap().open::<Site>().unwrap_err();
    assert!(matches!(unknown, OpenError::NoConnector { .. }), "{unknown}");
    for server in servers().await {
        let caches = Caches::builder().config(config()).postgres("postgres", options(&server)).open().await.unwrap();
        opened(&caches).await;
    }
}

#[tokio::test]
async fn options_that_cannot_be_used_are_refused_with_the_name_of_the_connector() {
    let postgres = PostgresOptions::from_url("host=h").unwrap();
    for (options, expected) in [
        (postgres.clone().connections(0), "connections is `0`: give a number, 1 to 100"),
        (postgres.clone().hints(0), "hints is `0`: give a number, 1 to 100000000"),
        (postgres.clone().password(" "), "password is empty: give a password, or none"),
    ] {
        assert_eq!(options.validate().unwrap_err().to_string(), expected);
        let refused = Caches::builder().postgres("db", options).open().await.unwrap_err();
        assert_eq!(refused.to_string(), format!("the connector `db` cannot be opened: {expected}"));
    }
    let refused = PostgresOptions::from_url("http://ann:barley@h").unwrap_err().to_string();
    assert!(refused.starts_with("url is neither a URL") && !refused.contains("barley"), "{refused}");
    let refused = Caches::builder().postgres("redis", postgres).open().await.unwrap_err().to_string();
    assert!(refused.contains("is the name of a connector of the kind redis, and not postgres"), "{refused}");
}

/// A password that changes is written to its file, and larder finds it there when it connects again.
#[tokio::test]
async fn a_password_file_is_read_again_at_every_connect() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "barley\n").unwrap();
    for server in servers().await {
        server.psql("CREATE ROLE ann LOGIN PASSWORD 'barley'; GRANT CREATE ON DATABASE larder TO ann").unwrap();
        let rules = server.socket().join("data/pg_hba.conf");
        let others = std::fs::read_to_string(&rules).unwrap();
        std::fs::write(&rules, format!("local all ann scram-sha-256\n{others}")).unwrap();
        server.restart().await.unwrap();
        let url = server.dsn().replace("user=larder", "user=ann");
        let wrong = PostgresOptions::from_url(&url).unwrap().password("rye").connect_timeout(PATIENCE);
        let refused = caches(wrong).await;
        let cache = refused.open::<Site>().unwrap();
        until("the wrong password is refused", || server.log().contains("authentication failed")).await;
        assert!(!cache.status().readable);

        let mut with_file = PostgresOptions::from_url(&url).unwrap().connect_timeout(PATIENCE);
        with_file.operation_timeout = PATIENCE;
        with_file.breaker.slow_call = Duration::ZERO;
        with_file.password = Some(Secret::from_file(&file).unwrap());
        let caches = caches(with_file).await;
        let cache = opened(&caches).await;
        server.psql("ALTER ROLE ann PASSWORD 'rye'").unwrap();
        std::fs::write(&file, "rye\n").unwrap();
        server.restart().await.unwrap();
        until("it is connected with the new password", || {
            let seen = "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'ann' AND state = 'idle'";
            server.psql(seen).unwrap() == "t" && cache.status().readable
        })
        .await;
        std::fs::write(&file, "barley\n").unwrap();
    }
}
