//! `larder bench`.

use crate::service::{Service, at, command, on, servers, until, with, yaml};
use larder::connector::postgres::PostgresOptions;
use larder::connector::postgres::inspect::Inspector;
use larder_testing::entries::Instance;
use larder_testing::postgres::PostgresServer;
use std::process::Stdio;

/// The rows of larder's tables that a benchmark could leave.
fn left(server: &PostgresServer) -> String {
    let sql = "SELECT (SELECT count(*) FROM larder.objects), (SELECT count(*) FROM larder.keys), \
               (SELECT count(*) FROM larder.fences WHERE kind <> 'b'), (SELECT count(*) FROM larder.caches), (SELECT count(*) FROM larder.changes), \
               (SELECT count(*) FROM pg_class WHERE relname LIKE 'bench%' OR relname LIKE 'larder-bench%')";
    server.psql(sql).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_and_nothing_left() {
    for server in servers().await {
        let service = Service::<Instance>::on(&server).await;
        service.set(Instance::new("1", &["a"], "x", 1)).await;
        let before = left(&server);
        let run = at(&server, &["bench", "--objects", "500", "--rounds", "2", "--json"]).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.logged.starts_with("larder bench: stores 500 objects of 300 bytes on PostgreSQL "), "{run:?}");
        let told = run.json();
        let rows = told["rows"].as_array().unwrap();
        assert_eq!((rows.len(), &told["compared_with"], &told["ratio_of"]), (6, &"SELECT".into(), &"cpu".into()));
        for row in rows {
            assert!(row["cpu_micros"].as_f64().unwrap() > 0.0 && row["operations_per_second"].as_f64().unwrap() > 0.0);
        }
        assert!(rows.iter().any(|row| row["row"] == "plain SELECT" && row["ratio"]["median"] == 1.0), "{told}");
        assert_eq!(left(&server), before);
        assert!(service.cache.get(Instance::HOST, "a").await.is_some());
    }
}

/// The server tells its processor time to superusers. Others compare the time, and need one right more than a service.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_ask_for_the_processor_time() {
    for server in servers().await {
        let _service = Service::<Instance>::on(&server).await;
        server
            .psql(
                "CREATE ROLE ann LOGIN; GRANT USAGE ON SCHEMA larder TO ann; \
                 GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA larder TO ann",
            )
            .unwrap();
        let before = left(&server);
        let bench = ["bench", "--objects", "200", "--rounds", "1"];
        let refused = with(&on(&server, "ann"), &bench).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.logged.contains("GRANT CREATE ON SCHEMA larder TO ann"), "{refused:?}");
        assert_eq!(left(&server), before);
        server.psql("GRANT CREATE ON SCHEMA larder TO ann").unwrap();
        let told = with(&on(&server, "ann"), &bench).await;
        assert!(told.code == Some(0) && told.told.contains("× SELECT") && told.told.contains("unknown"), "{told:?}");
        assert_eq!(left(&server), before);
    }
}

/// A benchmark that is killed cleans nothing up. The next one does, and leaves what belongs to one that still runs.
#[tokio::test(flavor = "multi_thread")]
async fn killed_it_leaves_what_the_next_one_removes() {
    for server in servers().await {
        let _service = Service::<Instance>::on(&server).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("caches.yaml");
        std::fs::write(&path, yaml(&server.dsn(), "")).unwrap();
        let mut bench = command(&["bench", "-c", path.to_str().unwrap(), "--objects", "200", "--rounds", "1000"]);
        let mut child = bench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let name = "SELECT relname FROM pg_class WHERE relname LIKE 'larder-bench-%' AND relkind = 'r'";
        until("it has made its table", || !server.psql(name).unwrap().is_empty()).await;
        let killed = server.psql(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{killed}'");
        until("its sessions have ended", || server.psql(&sessions).unwrap() == "0").await;
        // Another one, that still runs.
        server.psql("CREATE TABLE larder.\"larder-bench-runs\" ()").unwrap();
        let options = PostgresOptions::from_url(&server.dsn()).unwrap().application_name("larder-bench-runs");
        let _runs = Inspector::open(options).await.unwrap();
        let next = at(&server, &["bench", "--objects", "200", "--rounds", "1"]).await;
        assert_eq!(next.code, Some(0), "{next:?}");
        let told = format!("larder bench: removed what benchmarks left that were killed ({killed}); their objects");
        assert!(next.logged.contains(&told), "{next:?}");
        assert_eq!(server.psql(name).unwrap(), "larder-bench-runs");
        assert_eq!(server.psql("SELECT count(*) FROM larder.caches WHERE cache LIKE 'larder-bench-%'").unwrap(), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_it_cleans_up() {
    for server in servers().await {
        let _service = Service::<Instance>::on(&server).await;
        let before = left(&server);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("caches.yaml");
        std::fs::write(&path, yaml(&server.dsn(), "")).unwrap();
        for signal in ["-INT", "-TERM"] {
            let mut bench = command(&["bench", "-c", path.to_str().unwrap(), "--objects", "2000", "--rounds", "1000"]);
            let child = bench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            until("it begins", || server.psql("SELECT count(*) > 0 FROM larder.objects").unwrap() == "t").await;
            let id = child.id().to_string();
            assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
            let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
            let logged = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && logged.contains("larder: interrupted"), "{output:?}");
            assert_eq!(left(&server), before, "{logged}");
        }
    }
}
