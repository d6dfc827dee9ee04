//! What the log says when a server cannot be used: what happened, and what to change.

use crate::node::{Node, options, servers, session, until};
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::{Delivery, Stored};
use larder_testing::entries::Site;
use larder_testing::log::Log;
use larder_testing::postgres::{PostgresServer, required};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tracing::Level;

/// What is said of the first attempt to connect.
pub(crate) async fn refusal(options: PostgresOptions) -> String {
    let (log, _guard) = Log::begin(Level::INFO);
    let _node = Node::begin(options);
    until("the first attempt has failed", || log.count(&["cannot connect: "]) > 0).await;
    log.text()
}

/// Of a DSN.
pub(crate) async fn refusal_of(dsn: &str) -> String {
    let patience = Duration::from_secs(20);
    refusal(PostgresOptions::from_url(dsn).unwrap().connect_timeout(patience)).await
}

pub(crate) fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[tokio::test]
async fn a_wrong_password() {
    for binaries in required().unwrap() {
        let server = PostgresServer::start_on_tcp(&binaries, &[]).await.unwrap();
        server.psql("CREATE ROLE app LOGIN PASSWORD 'barley'").unwrap();
        server.write("pg_hba.conf", "local all all trust\nhost all all all scram-sha-256\n").unwrap();
        server.reload("").unwrap();
        let dsn =
            |password: &str| format!("postgres://app:{password}@127.0.0.1:{}/larder?sslmode=disable", server.port());
        let text = refusal_of(&dsn("hunter2")).await;
        says(&text, &["password authentication failed", "correct user or password"]);
        assert!(!text.contains("hunter2"), "{text}");
        server.psql("GRANT CREATE ON DATABASE larder TO app").unwrap();
        Node::begin(patient(&dsn("barley"))).readable().await;
    }
}

#[tokio::test]
async fn an_unknown_database_and_an_unknown_role() {
    for server in servers().await {
        let text = refusal_of(&server.dsn().replace("dbname=larder", "dbname=nowhere")).await;
        says(&text, &["database \"nowhere\" does not exist", "correct `dbname`"]);
        let text = refusal_of(&server.dsn().replace("user=larder", "user=nobody")).await;
        says(&text, &["role \"nobody\" does not exist"]);
    }
}

#[tokio::test]
async fn a_standby_is_said_to_be_one_and_passed_over_where_there_are_several_hosts() {
    for server in servers().await {
        let standby = server.standby().await.unwrap();
        says(&refusal_of(&standby.dsn()).await, &["the server is a standby", "give the primary"]);
        let both = format!("host={},{}", standby.socket().display(), server.socket().display());
        let both = format!("{both} user=larder dbname=larder target_session_attrs=read-write");
        let node = Node::begin(PostgresOptions::from_url(&both).unwrap());
        node.readable().await;
        assert_eq!(node.cache.set(Site::new("a", &[], "x")).await, Stored::Accepted);
        let nowhere = format!("host=/nowhere,{} user=larder dbname=larder", standby.socket().display());
        says(&refusal_of(&nowhere).await, &["/nowhere port 5432: ", "the server is a standby"]);
    }
}

/// A server that says it is PostgreSQL 14.
#[tokio::test]
async fn a_version_that_is_too_old() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let message = |kind: u8, body: &[u8]| {
                    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
                    [&[kind][..], &length, body].concat()
                };
                let mut bytes = vec![0; 4096];
                assert!(socket.read(&mut bytes).await.unwrap() > 0);
                let ready = message(b'Z', b"I");
                socket.write_all(&[message(b'R', &[0; 4]), ready.clone()].concat()).await.unwrap();
                assert!(socket.read(&mut bytes).await.unwrap() > 0);
                let types: [(i32, &[u8]); 5] =
                    [(23, &140_009_i32.to_be_bytes()), (16, &[0]), (25, b"off"), (25, b"read committed"), (25, b"now")];
                let (mut columns, mut row) = (vec![0, 5], vec![0, 5]);
                for (oid, value) in types {
                    columns.extend([b"c\0".as_slice(), &[0; 6], &oid.to_be_bytes(), &[0; 6], &[0, 1]].concat());
                    row.extend([&i32::try_from(value.len()).unwrap().to_be_bytes(), value].concat());
                }
                let answer = [
                    message(b'1', &[]),
                    message(b't', &[0, 0]),
                    message(b'2', &[]),
                    message(b'T', &columns),
                    message(b'D', &row),
                    message(b'C', b"SELECT 1\0"),
                    ready,
                ];
                socket.write_all(&answer.concat()).await.unwrap();
                let _ = socket.read(&mut bytes).await;
            });
        }
    });
    let text = refusal_of(&format!("postgres://u@127.0.0.1:{port}/d?sslmode=disable")).await;
    says(&text, &["the server is PostgreSQL 14, and larder needs 15 or later"]);
}

#[tokio::test]
async fn too_many_connections() {
    for server in servers().await {
        server.psql("CREATE ROLE app LOGIN CONNECTION LIMIT 3").unwrap();
        let text = refusal_of(&server.dsn().replace("user=larder", "user=app")).await;
        says(&text, &["too many connections for role", "lower `connections`"]);
    }
}

#[tokio::test]
async fn defaults_of_the_role_that_larder_cannot_work_with() {
    for server in servers().await {
        for (setting, words) in [
            ("default_transaction_read_only = on", ["read-only by default", "`default_transaction_read_only`"]),
            (
                "default_transaction_isolation = serializable",
                ["serializable by default", "`default_transaction_isolation`"],
            ),
        ] {
            server
                .psql(&format!("DROP ROLE IF EXISTS app; CREATE ROLE app LOGIN; ALTER ROLE app SET {setting}"))
                .unwrap();
            says(&refusal_of(&server.dsn().replace("user=larder", "user=app")).await, &words);
        }
    }
}

#[tokio::test]
async fn terminated_backends_lose_nothing() {
    for server in servers().await {
        let node = Node::on(&server).await;
        node.cache.set(Site::new("a", &["h"], "stays")).await;
        node.cache.set(Site::new("b", &["k"], "old")).await;
        server
            .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'larder'")
            .unwrap();
        until("it is noticed", || !node.cache.status().readable).await;
        node.cache.invalidate(Site::HOST, ["k"]).await.unwrap();
        node.readable().await;
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("stays"));
        assert_eq!(node.name_by_id("b").await, None);
    }
}

/// The server says so by a trigger: a disk that is full takes a file system of its own.
#[tokio::test]
async fn a_full_disk_stops_fills_and_no_reads() {
    for server in servers().await {
        let node = Node::on(&server).await;
        node.cache.set(Site::new("a", &["h"], "stays")).await;
        let application = session(&server).await;
        let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                    RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$; \
                    CREATE TRIGGER full_disk BEFORE INSERT ON larder.objects EXECUTE FUNCTION full_disk()";
        application.batch_execute(full).await.unwrap();
        let ticket = node.begins_to_load().await;
        assert_eq!(node.fill(Site::new("b", &["k"], "new"), ticket).await, Stored::Full);
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("stays"));
        assert_eq!(node.cache.invalidate(Site::HOST, ["h"]).await.unwrap(), Delivery::Applied);
        assert_eq!(node.name_by_id("a").await, None);
    }
}

/// Stopped, the server answers nothing, and its sockets stay open.
#[tokio::test]
async fn a_server_that_hangs_costs_callers_little_and_gets_what_was_deferred() {
    use larder::breaker::State;
    for server in servers().await {
        let mut quick =
            options(&server).operation_timeout(Duration::from_millis(200)).connect_timeout(Duration::from_secs(1));
        quick.breaker.open = Duration::from_millis(100);
        quick.breaker.open_max = Duration::from_millis(100);
        let node = Node::begin(quick);
        node.readable().await;
        while node.cache.set(Site::new("a", &["h"], "old")).await != Stored::Accepted {}
        server.stop().unwrap();
        while node.cache.status().breaker != Some(State::Open) {
            assert_eq!(node.name_by_id("a").await, None, "nobody answers");
        }
        assert_eq!(node.cache.invalidate(Site::HOST, ["h"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(node.cache.status().journal, 1);
        server.cont().unwrap();
        node.readable().await;
        until("it is applied", || node.cache.status().journal == 0).await;
        assert_eq!(node.name_by_id("a").await, None);
    }
}

/// What the docs of the connector grant.
fn grants() -> String {
    let docs = include_str!("../../src/connector/postgres.rs");
    let lines = docs.lines().filter_map(|line| line.strip_prefix("//! ")).filter(|line| line.starts_with("GRANT "));
    lines.map(|line| line.replace("role_of_the_service", "app")).collect::<Vec<_>>().join("\n")
}

fn as_app(server: &PostgresServer) -> PostgresOptions {
    patient(&server.dsn().replace("user=larder", "user=app"))
}

/// Options whose time-outs are never met, however slow the machine is.
fn patient(url: &str) -> PostgresOptions {
    let patience = Duration::from_secs(20);
    let mut options = PostgresOptions::from_url(url).unwrap();
    options.breaker.slow_call = patience;
    options.operation_timeout(patience).connect_timeout(patience)
}

#[tokio::test]
async fn a_role_with_the_rights_in_the_docs_can_do_everything() {
    for server in servers().await {
        server.psql(Postgres::SCHEMA).unwrap();
        server.psql("CREATE ROLE app LOGIN").unwrap();
        server.psql(&grants()).unwrap();
        let node = Node::begin(as_app(&server));
        node.readable().await;
        assert_eq!(node.cache.set(Site::new("a", &["h"], "x")).await, Stored::Accepted);
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("x"));
        assert_eq!(node.cache.delete(Site::HOST, ["h"]).await.unwrap(), Delivery::Applied);
        assert_eq!(node.cache.invalidate(Site::ID, ["a"]).await.unwrap(), Delivery::Applied);
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
        node.cache.prune().await.unwrap();
        let sql = "SET ROLE app; SELECT larder.turn(); SELECT larder.sweep(1000); SELECT larder.turn_if_due(); \
                   SELECT larder.invalidate('site', 'id', 'a'), larder.truncate('site'); \
                   INSERT INTO larder.leases VALUES (1, '', now()) ON CONFLICT (mark) DO UPDATE SET until = now(); DELETE FROM larder.leases";
        server.psql(sql).unwrap();
        // As after a dump was read in: the tables are emptied.
        server.psql("UPDATE larder.clock SET home = 'elsewhere'").unwrap();
        let other = Node::begin(as_app(&server));
        other.readable().await;
        assert_eq!(other.cache.set(Site::new("a", &["h"], "y")).await, Stored::Accepted);
    }
}

#[tokio::test]
async fn without_a_right_to_store_reads_go_on_and_nothing_is_stale() {
    for server in servers().await {
        server.psql(Postgres::SCHEMA).unwrap();
        server.psql("CREATE ROLE app LOGIN").unwrap();
        server.psql(&grants()).unwrap();
        let node = Node::begin(as_app(&server));
        node.readable().await;
        node.cache.set(Site::new("a", &["h"], "x")).await;
        server.psql("REVOKE INSERT ON larder.objects FROM app").unwrap();
        let (log, _guard) = Log::begin(Level::INFO);
        let ticket = node.begins_to_load().await;
        assert_eq!(node.fill(Site::new("b", &["k"], "y"), ticket).await, Stored::Unfit);
        for _ in 0..3 {
            assert_eq!(node.fill(Site::new("b", &["k"], "y"), ticket).await, Stored::Unfit);
        }
        let refused = || log.count(&["permission denied for table objects", "grant what the docs"]);
        assert_eq!(refused(), 1, "it is told once: {}", log.text());
        let named = || log.count(&["rights are missing", "INSERT on larder.objects"]);
        until("the right is named", || named() == 1).await;
        server.psql("GRANT INSERT ON larder.objects TO app").unwrap();
        until("it is told that they are there", || log.count(&["has all rights that larder needs"]) == 1).await;
        server.psql("REVOKE INSERT ON larder.objects FROM app").unwrap();
        assert_eq!(node.fill(Site::new("b", &["k"], "y"), ticket).await, Stored::Unfit);
        assert_eq!(refused(), 2, "it is told anew: {}", log.text());
        assert_eq!(node.name_by_host("h").await.as_deref(), Some("x"), "reads go on");
        server.psql("REVOKE INSERT ON larder.fences FROM app").unwrap();
        let sent = node.cache.invalidate(Site::ID, ["a"]).await;
        assert!(!matches!(sent, Ok(Delivery::Applied)), "{sent:?}");
        assert_eq!(node.name_by_id("a").await, None, "what could not be forgotten is not read");
        server.psql("GRANT INSERT ON larder.fences TO app").unwrap();
        node.readable().await;
        assert_eq!(node.name_by_id("a").await, None, "it was applied");
    }
}
