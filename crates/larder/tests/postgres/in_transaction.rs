//! Invalidations within a transaction of the application's, by both client libraries.

use crate::feed::FedNode;
use crate::node::{Node, options, servers, session, until};
use larder::connector::memory::{Memory, MemoryOptions};
use larder::connector::noop::Noop;
use larder::connector::postgres::Postgres;
use larder::{Cache, Entry, Index, Key, KeyFor, Lookup, Schema, Stored, TransactionError};
use larder_testing::entries::{Account, Site};
use larder_testing::postgres::PostgresServer;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use std::error::Error;
use std::sync::Arc;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// A session of an application that uses one client library or the other.
pub(crate) enum App {
    Tokio(tokio_postgres::Client),
    Sqlx(PgConnection),
}

pub(crate) type Failed = Box<dyn Error + Send + Sync>;

impl App {
    /// One of each.
    pub(crate) async fn both(server: &PostgresServer) -> [Self; 2] {
        [Self::Tokio(session(server).await), Self::Sqlx(sqlx_session(server, "larder", "larder").await)]
    }

    pub(crate) async fn run(&mut self, sql: &'static str) {
        match self {
            Self::Tokio(client) => client.batch_execute(sql).await.unwrap(),
            Self::Sqlx(connection) => drop(sqlx::raw_sql(sql).execute(connection).await.unwrap()),
        }
    }

    async fn begin(&mut self, level: &str) {
        self.run(match level {
            "READ COMMITTED" => "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT 1",
            "REPEATABLE READ" => "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
            _ => "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1",
        })
        .await;
    }

    async fn invalidate<E: Entry, T, K: KeyFor<T> + Key>(
        &mut self,
        cache: &Cache<E>,
        index: Index<E, T>,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<(), Failed> {
        match self {
            Self::Tokio(client) => cache.invalidate_in(&*client, index, keys).await.map_err(Into::into),
            Self::Sqlx(connection) => cache.invalidate_in(connection, index, keys).await.map_err(Into::into),
        }
    }

    async fn truncate<E: Entry>(&mut self, cache: &Cache<E>) -> Result<(), Failed> {
        match self {
            Self::Tokio(client) => cache.truncate_in(&*client).await.map_err(Into::into),
            Self::Sqlx(connection) => cache.truncate_in(connection).await.map_err(Into::into),
        }
    }
}

pub(crate) async fn sqlx_session(server: &PostgresServer, user: &str, database: &str) -> PgConnection {
    let options = PgConnectOptions::new_without_pgpass().socket(server.socket()).username(user).database(database);
    PgConnection::connect_with(&options).await.unwrap()
}

/// The error and its causes.
fn told(error: &Failed) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn stores(node: &Node, id: &str, hosts: &[&str]) {
    assert_eq!(node.cache.set(Site::new(id, hosts, "old")).await, Stored::Accepted);
}

#[tokio::test]
async fn it_takes_effect_at_the_commit_and_not_without_it() {
    for server in servers().await {
        let node = Node::on(&server).await;
        for mut app in App::both(&server).await {
            for level in LEVELS {
                stores(&node, "a", &["h"]).await;
                stores(&node, "b", &["k"]).await;
                app.begin(level).await;
                app.invalidate(&node.cache, Site::HOST, ["h"]).await.unwrap();
                app.run("ROLLBACK").await;
                assert!(node.name_by_id("a").await.is_some(), "{level}: it was rolled back");

                app.begin(level).await;
                app.run("SAVEPOINT s").await;
                app.invalidate(&node.cache, Site::HOST, ["h"]).await.unwrap();
                app.run("ROLLBACK TO s").await;
                app.invalidate(&node.cache, Site::ID, ["b"]).await.unwrap();
                let ticket = node.begins_to_load().await;
                assert!(node.name_by_host("k").await.is_some(), "{level}: nothing is committed");
                app.run("COMMIT").await;
                assert!(node.name_by_id("a").await.is_some(), "{level}: the savepoint was rolled back");
                assert!(node.name_by_host("k").await.is_none(), "{level}");
                // A load of the earlier state began before the commit.
                assert_eq!(node.fill(Site::new("b", &["k"], "old"), ticket).await, Stored::Overtaken, "{level}");

                app.begin(level).await;
                app.truncate(&node.cache).await.unwrap();
                assert!(node.name_by_id("a").await.is_some(), "{level}: nothing is committed");
                app.run("COMMIT").await;
                assert!(node.name_by_id("a").await.is_none(), "{level}");
            }
        }
    }
}

#[tokio::test]
async fn a_transaction_that_is_prepared_first() {
    for server in servers().await {
        let node = Node::on(&server).await;
        for mut app in App::both(&server).await {
            stores(&node, "a", &["h"]).await;
            app.begin("READ COMMITTED").await;
            app.invalidate(&node.cache, Site::ID, ["a"]).await.unwrap();
            app.run("PREPARE TRANSACTION 'later'").await;
            assert!(node.name_by_id("a").await.is_some());
            app.run("COMMIT PREPARED 'later'").await;
            assert!(node.name_by_id("a").await.is_none());
        }
    }
}

/// As a program writes it: with the transaction types of the libraries.
#[tokio::test]
async fn transactions_of_the_libraries() {
    for server in servers().await {
        let node = Node::on(&server).await;
        stores(&node, "a", &["h"]).await;
        let mut client = session(&server).await;
        let transaction = client.transaction().await.unwrap();
        node.cache.invalidate_in(&transaction, Site::ID, ["a"]).await.unwrap();
        transaction.rollback().await.unwrap();
        assert!(node.name_by_id("a").await.is_some());
        let transaction = client.transaction().await.unwrap();
        node.cache.invalidate_in(&transaction, Site::ID, ["a"]).await.unwrap();
        transaction.commit().await.unwrap();
        assert!(node.name_by_id("a").await.is_none());

        stores(&node, "a", &["h"]).await;
        let mut connection = sqlx_session(&server, "larder", "larder").await;
        let mut transaction = connection.begin().await.unwrap();
        node.cache.invalidate_in(&mut *transaction, Site::ID, ["a"]).await.unwrap();
        transaction.rollback().await.unwrap();
        assert!(node.name_by_id("a").await.is_some());
        let mut transaction = connection.begin().await.unwrap();
        node.cache.invalidate_in(&mut *transaction, Site::ID, ["a"]).await.unwrap();
        transaction.commit().await.unwrap();
        assert!(node.name_by_id("a").await.is_none());
        // Can run in a task of its own.
        fn is_send(_: impl Send) {}
        is_send(node.cache.invalidate_in(&mut connection, Site::ID, ["a"]));
        is_send(node.cache.invalidate_in(&client, Site::ID, ["a"]));
    }
}

#[tokio::test]
async fn caches_in_memory_hear_of_it_from_their_feed() {
    for server in servers().await {
        let (one, two) = (FedNode::on(&server).await, FedNode::on(&server).await);
        for mut app in App::both(&server).await {
            for node in [&one, &two] {
                node.fill("a", &["h"], "old").await;
                node.fill("b", &["k"], "stays").await;
            }
            app.begin("REPEATABLE READ").await;
            // Through the cache of one node, which hears of it as the other one does.
            app.invalidate(&one.cache, Site::HOST, ["h"]).await.unwrap();
            assert!(one.has("a").await && two.has("a").await);
            app.run("COMMIT").await;
            for node in [&one, &two] {
                node.forgets("a").await;
                assert!(node.has("b").await);
            }
            app.truncate(&two.cache).await.unwrap();
            one.forgets("b").await;
            two.forgets("b").await;
        }
    }
}

/// Keys of two parts, in a cache with a name of its own. A key that looks like SQL or like two keys is one key.
#[tokio::test]
async fn keys_reach_nothing_else() {
    for server in servers().await {
        let postgres = Postgres::open(options(&server)).unwrap();
        let schema = Schema::of::<Account>().named("account.of_tenant-1");
        let cache: Cache<Account> = Cache::new(Arc::new(postgres.connector(schema.clone()).unwrap()), schema).unwrap();
        until("the cache can be read", || cache.status().readable).await;
        for mut app in App::both(&server).await {
            let (one, two) = (("acme'); --", "jo\\"), ("acme'); --j", "o\\"));
            for (number, login) in [(1, one), (2, two)] {
                assert_eq!(cache.set(Account::new("acme", number, &[login])).await, Stored::Accepted);
            }
            app.begin("READ COMMITTED").await;
            app.invalidate(&cache, Account::LOGIN, [one]).await.unwrap();
            app.run("COMMIT").await;
            assert!(cache.get(Account::LOGIN, one).await.is_none());
            assert!(cache.get(Account::LOGIN, two).await.is_some());
            app.invalidate(&cache, Account::ID, [("acme", 2_u64)]).await.unwrap();
            assert!(cache.get(Account::LOGIN, two).await.is_none());
        }
    }
}

#[tokio::test]
async fn many_keys_no_keys_and_one_that_cannot_exist() {
    for server in servers().await {
        let node = Node::on(&server).await;
        for mut app in App::both(&server).await {
            stores(&node, "a", &["h"]).await;
            stores(&node, "b", &["k"]).await;
            app.invalidate(&node.cache, Site::ID, [""; 0]).await.unwrap();
            assert!(node.name_by_id("a").await.is_some());
            let error = app.invalidate(&node.cache, Site::ID, ["", "a"]).await.unwrap_err();
            assert!(told(&error).contains("index `id`"), "{}", told(&error));
            assert!(node.name_by_id("a").await.is_none(), "the other keys were told");
            let ids: Vec<String> = (0..10_001).map(|number| format!("x{number}")).collect();
            app.invalidate(&node.cache, Site::ID, &ids[1..]).await.unwrap();
            assert!(node.name_by_id("b").await.is_some(), "10,000 keys are told one by one");
            app.invalidate(&node.cache, Site::ID, &ids).await.unwrap();
            assert!(node.name_by_id("b").await.is_none(), "of more the whole cache is told");
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_said_and_the_write_fails_with_it() {
    for server in servers().await {
        // A cache whose database is set up elsewhere.
        let node = Node::begin(options(&server).create(false));
        for mut app in App::both(&server).await {
            app.run("BEGIN").await;
            let error = app.invalidate(&node.cache, Site::ID, ["a"]).await.unwrap_err();
            assert!(told(&error).contains("larder postgres setup"), "{}", told(&error));
            assert!(told(&error).contains("schema \"larder\" does not exist"), "{}", told(&error));
            let error = app.truncate(&node.cache).await.unwrap_err();
            assert!(told(&error).contains("transaction is aborted"), "{}", told(&error));
            app.run("ROLLBACK").await;
        }
        server.psql(Postgres::SCHEMA).unwrap();
        node.readable().await;
        server
            .psql("CREATE ROLE app LOGIN; CREATE TABLE public.sites (id text); GRANT ALL ON public.sites TO app")
            .unwrap();
        let (client, connection) =
            tokio_postgres::connect(&server.dsn().replace("user=larder", "user=app"), tokio_postgres::NoTls)
                .await
                .unwrap();
        tokio::spawn(connection);
        for mut app in [App::Tokio(client), App::Sqlx(sqlx_session(&server, "app", "larder").await)] {
            stores(&node, "a", &["h"]).await;
            app.run("BEGIN; INSERT INTO public.sites VALUES ('a')").await;
            let error = app.invalidate(&node.cache, Site::ID, ["a"]).await.unwrap_err();
            assert!(told(&error).contains("GRANT USAGE ON SCHEMA larder"), "{}", told(&error));
            // COMMIT of an aborted transaction rolls it back.
            app.run("COMMIT").await;
            assert_eq!(server.psql("SELECT count(*) FROM public.sites").unwrap(), "0");
            server.psql("GRANT USAGE ON SCHEMA larder TO app").unwrap();
            app.run("BEGIN; INSERT INTO public.sites VALUES ('a')").await;
            app.invalidate(&node.cache, Site::ID, ["a"]).await.unwrap();
            app.run("COMMIT").await;
            assert!(node.name_by_id("a").await.is_none());
            server.psql("REVOKE USAGE ON SCHEMA larder FROM app; TRUNCATE public.sites").unwrap();
        }
    }
}

/// A cache that hears nothing of transactions says so. One that is switched off has nothing to forget, and no schema is needed for it.
#[tokio::test]
async fn a_cache_that_would_not_hear_of_it() {
    for server in servers().await {
        let schema = Schema::of::<Site>();
        let memory = Memory::open(schema.clone(), MemoryOptions::new()).unwrap();
        let alone: Cache<Site> = Cache::new(Arc::new(memory), schema.clone()).unwrap();
        let off: Cache<Site> = Cache::new(Arc::new(Noop), schema).unwrap();
        for mut app in App::both(&server).await {
            app.run("BEGIN").await;
            let error = app.invalidate(&alone, Site::ID, ["a"]).await.unwrap_err();
            assert!(told(&error).contains("does not hear what a transaction says"), "{}", told(&error));
            assert!(app.truncate(&alone).await.is_err());
            app.invalidate(&off, Site::ID, ["a"]).await.unwrap();
            app.truncate(&off).await.unwrap();
            // Nothing was sent: the schema is not there, so the transaction would be aborted.
            app.run("SELECT 1; COMMIT").await;
        }
        let client = session(&server).await;
        let error = alone.invalidate_in(&client, Site::ID, ["a"]).await.unwrap_err();
        assert!(matches!(error, TransactionError::Unheard { .. }));
        assert!(matches!(off.lookup(Site::ID, "a").await, Lookup::Miss { ticket: None, .. }));
    }
}
