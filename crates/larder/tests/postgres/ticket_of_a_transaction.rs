//! A loader that reads within a transaction which is older than its lookup: the snapshot of the transaction is the ticket.

use crate::feed::FedNode;
use crate::in_transaction::{App, Failed, sqlx_session};
use crate::node::{Node, servers, session};
use crate::sweeping::turn_and_sweep;
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::{Cache, Stored, Ticket};
use larder_testing::entries::Site;
use larder_testing::postgres::PostgresServer;

async fn ticket(app: &mut App, cache: &Cache<Site>) -> Result<Option<Ticket>, Failed> {
    match app {
        App::Tokio(client) => cache.ticket_in(&*client).await.map_err(Into::into),
        App::Sqlx(connection) => cache.ticket_in(connection).await.map_err(Into::into),
    }
}

async fn load(app: &mut App) -> Site {
    let sql = "SELECT name FROM public.sites WHERE id = 'a'";
    let name: String = match app {
        App::Tokio(client) => client.query_one(sql, &[]).await.unwrap().get(0),
        App::Sqlx(connection) => sqlx::query_scalar(sql).fetch_one(connection).await.unwrap(),
    };
    Site::new("a", &["h"], &name)
}

/// Commits the state that the source has next, and says so.
fn change(server: &PostgresServer, name: &str) {
    let sql =
        format!("BEGIN; UPDATE public.sites SET name = '{name}'; SELECT larder.invalidate('site', 'id', 'a'); COMMIT");
    server.psql(&sql).unwrap();
}

#[tokio::test]
async fn a_load_in_a_transaction_that_is_older_than_its_lookup() {
    for server in servers().await {
        let node = Node::on(&server).await;
        server
            .psql("CREATE TABLE public.sites (id text, name text); INSERT INTO public.sites VALUES ('a', 'old')")
            .unwrap();
        for mut app in App::both(&server).await {
            for begin in [
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM public.sites",
                "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM public.sites",
            ] {
                change(&server, "old");
                app.run(begin).await;
                change(&server, "new");
                // With the ticket of the lookup the earlier state would be served: nothing tells the database how old the load is.
                let lookups = node.begins_to_load().await;
                let loaded = load(&mut app).await;
                assert_eq!(loaded.name, "old");
                assert_eq!(node.fill(loaded, lookups).await, Stored::Accepted);
                assert_eq!(node.name_by_id("a").await.as_deref(), Some("old"), "which is wrong");
                node.cache.invalidate(Site::ID, ["a"]).await.unwrap();
                // With that of the transaction it is refused.
                let own = ticket(&mut app, &node.cache).await.unwrap().unwrap();
                let loaded = load(&mut app).await;
                assert_eq!(node.fill(loaded, own).await, Stored::Overtaken);
                assert_eq!(node.name_by_id("a").await, None);
                app.run("COMMIT").await;

                // Nothing has changed since the next one began, so what it loads is stored. A change that comes later forgets it.
                app.run(begin).await;
                server.psql("SELECT larder.invalidate('site', 'id', 'b')").unwrap();
                let own = ticket(&mut app, &node.cache).await.unwrap().unwrap();
                let loaded = load(&mut app).await;
                assert_eq!(node.fill(loaded, own).await, Stored::Accepted);
                assert_eq!(node.name_by_host("h").await.as_deref(), Some("new"));
                change(&server, "newer");
                assert_eq!(node.name_by_host("h").await, None);
                app.run("COMMIT").await;
            }
        }
    }
}

/// Each statement of a READ COMMITTED transaction has a snapshot of its own: the ticket is as old as the statement that took it.
#[tokio::test]
async fn a_ticket_before_the_load_in_read_committed() {
    for server in servers().await {
        let node = Node::on(&server).await;
        server
            .psql("CREATE TABLE public.sites (id text, name text); INSERT INTO public.sites VALUES ('a', 'old')")
            .unwrap();
        for mut app in App::both(&server).await {
            app.run("BEGIN").await;
            let before = ticket(&mut app, &node.cache).await.unwrap().unwrap();
            let loaded = load(&mut app).await;
            change(&server, "new");
            assert_eq!(node.fill(loaded, before).await, Stored::Overtaken);
            let after = ticket(&mut app, &node.cache).await.unwrap().unwrap();
            let loaded = load(&mut app).await;
            assert_eq!(loaded.name, "new");
            assert_eq!(node.fill(loaded, after).await, Stored::Accepted);
            app.run("COMMIT").await;
        }
    }
}

/// The fences that a snapshot would have to see are swept meanwhile.
#[tokio::test]
async fn a_transaction_that_is_older_than_two_generations() {
    for server in servers().await {
        let node = Node::on(&server).await;
        server
            .psql("CREATE TABLE public.sites (id text, name text); INSERT INTO public.sites VALUES ('a', 'old')")
            .unwrap();
        for mut app in App::both(&server).await {
            change(&server, "old");
            app.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM public.sites").await;
            change(&server, "new");
            assert_eq!(turn_and_sweep(&server), 0, "no fence is left");
            let own = ticket(&mut app, &node.cache).await.unwrap().unwrap();
            let loaded = load(&mut app).await;
            assert_eq!(loaded.name, "old");
            assert_eq!(node.fill(loaded, own).await, Stored::Overtaken);
            app.run("COMMIT").await;
        }
    }
}

#[tokio::test]
async fn transactions_whose_snapshot_is_no_ticket() {
    for server in servers().await {
        let node = Node::on(&server).await;
        server
            .psql("CREATE TABLE public.sites (id text, name text); INSERT INTO public.sites VALUES ('a', 'old')")
            .unwrap();
        let fed = FedNode::on(&server).await;
        server.psql("CREATE DATABASE other").unwrap();
        let elsewhere = server.dsn().replace("dbname=larder", "dbname=other");
        let (client, connection) = tokio_postgres::connect(&elsewhere, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("{}; SELECT larder.register()", Postgres::SCHEMA)).await.unwrap();
        let others = [App::Tokio(client), App::Sqlx(sqlx_session(&server, "larder", "other").await)];
        for (mut app, mut other) in App::both(&server).await.into_iter().zip(others) {
            for writes in [
                "BEGIN; UPDATE public.sites SET name = 'uncommitted'",
                "BEGIN; SAVEPOINT s; INSERT INTO public.sites VALUES ('b', 'x'); ROLLBACK TO s",
                "BEGIN; SELECT FROM public.sites FOR UPDATE",
            ] {
                app.run(writes).await;
                let refused = ticket(&mut app, &node.cache).await.unwrap_err().to_string();
                assert!(refused.contains("has written or locked rows"), "{writes}: {refused}");
                app.run("ROLLBACK").await;
            }
            let refused = ticket(&mut app, &fed.cache).await.unwrap_err().to_string();
            assert!(refused.contains("is not on the postgres connector"), "{refused}");
            let refused = ticket(&mut other, &node.cache).await.unwrap_err().to_string();
            assert!(refused.contains("not in the database in which the cache keeps its objects"), "{refused}");
            // Without a clock, or with one that came along with a copy, there is none.
            other.run("UPDATE larder.clock SET home = 'elsewhere'").await;
            assert!(ticket(&mut other, &node.cache).await.unwrap().is_none());
            other.run("UPDATE larder.clock SET home = larder.home()").await;
        }
        let app = session(&server).await;
        app.batch_execute("CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA larder TO app; SET ROLE app").await.unwrap();
        let refused = node.cache.ticket_in(&app).await.unwrap_err().to_string();
        assert!(refused.contains("GRANT SELECT ON larder.clock"), "{refused}");
        app.batch_execute("RESET ROLE").await.unwrap();
        assert!(node.cache.ticket_in(&app).await.unwrap().is_some());
        // A node that may not read its cache has none.
        let away = Node::begin(PostgresOptions::from_url("host=/nowhere user=larder dbname=larder").unwrap());
        assert!(away.cache.ticket_in(&app).await.unwrap().is_none());
    }
}
