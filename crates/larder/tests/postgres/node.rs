//! Nodes, and sessions of an application beside them.

use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::{Cache, Lookup, Schema, Stored, Ticket};
use larder_testing::entries::Site;
use larder_testing::postgres::{PostgresServer, required};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// Starts one server of each version that is installed.
pub(crate) async fn servers() -> Vec<PostgresServer> {
    let mut servers = Vec::new();
    for binaries in required().unwrap() {
        servers.push(PostgresServer::start(&binaries, &["max_prepared_transactions = 10"]).await.unwrap());
    }
    servers
}

/// Options whose time-outs are never met, however slow the machine is.
pub(crate) fn options(server: &PostgresServer) -> PostgresOptions {
    let patience = Duration::from_secs(20);
    let mut options = PostgresOptions::from_url(&server.dsn()).unwrap();
    options.breaker.slow_call = patience;
    options.operation_timeout(patience).connect_timeout(patience)
}

pub(crate) struct Node {
    pub(crate) postgres: Postgres,
    pub(crate) cache: Cache<Site>,
}

impl Node {
    /// A node that has begun to connect.
    pub(crate) fn begin(options: PostgresOptions) -> Self {
        let postgres = Postgres::open(options).unwrap();
        let schema = Schema::of::<Site>();
        let cache = Cache::new(Arc::new(postgres.connector(schema.clone()).unwrap()), schema).unwrap();
        Self { postgres, cache }
    }

    /// A node that is connected.
    pub(crate) async fn on(server: &PostgresServer) -> Self {
        let node = Self::begin(options(server));
        node.readable().await;
        node
    }

    pub(crate) async fn readable(&self) {
        until("the cache can be read", || self.cache.status().readable).await;
    }

    pub(crate) async fn name_by_id(&self, id: &str) -> Option<String> {
        self.cache.get(Site::ID, id).await.map(|site| site.name.clone())
    }

    pub(crate) async fn name_by_host(&self, host: &str) -> Option<String> {
        self.cache.get(Site::HOST, host).await.map(|site| site.name.clone())
    }

    /// The ticket of a load that begins now.
    pub(crate) async fn begins_to_load(&self) -> Ticket {
        match self.cache.lookup(Site::ID, "nobody has this id").await {
            Lookup::Miss { ticket: Some(ticket), .. } => ticket,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn fill(&self, site: Site, ticket: Ticket) -> Stored {
        self.cache.fill(site, ticket).await
    }
}

/// A session of an application, as superuser of the database.
pub(crate) async fn session(server: &PostgresServer) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.dsn(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Waits, without asking how long it takes.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not seen: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
