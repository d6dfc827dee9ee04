//! `larder bench`.

use crate::service::{Service, command, larder, servers};
use larder_testing::entries::Instance;
use larder_testing::server::ServerOptions;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn the_table_and_nothing_left() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Instance>::on(&server).await;
        service.set(Instance::new("1", &["a"], "x", 1)).await;
        let before = server.keys("*").await.unwrap();
        let run = larder(&server, &["bench", "--objects", "500", "--rounds", "2", "--json"]).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.logged.starts_with("larder bench: stores 500 objects of 300 bytes on "), "{run:?}");
        let told = run.json();
        let rows = told["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 6);
        for row in rows {
            assert!(row["cpu_micros"].as_f64().unwrap() > 0.0 && row["operations_per_second"].as_f64().unwrap() > 0.0);
        }
        assert!(rows.iter().any(|row| row["row"] == "plain GET" && row["ratio"]["median"] == 1.0), "{told}");
        assert!(told["idle"]["seconds"].as_f64().unwrap() >= 1.0);
        assert_eq!(server.keys("*").await.unwrap(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_it_cleans_up() {
    for server in servers(ServerOptions::default()).await {
        for signal in ["-INT", "-TERM"] {
            let mut bench = command(&["bench", "--redis", &server.url(), "--objects", "2000", "--rounds", "1000"]);
            let child = bench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let begun = Instant::now();
            while server.keys("larder-bench-*:bench:o*").await.unwrap().is_empty() {
                assert!(begun.elapsed() < Duration::from_secs(120), "it does not begin");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let id = child.id().to_string();
            assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
            let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
            let logged = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && logged.contains("larder: interrupted"), "{output:?}");
            assert!(server.keys("*").await.unwrap().is_empty(), "{logged}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room() {
    for server in servers(ServerOptions::default().config("maxmemory 20mb")).await {
        larder(&server, &["bench"]).await.refused(1, "give fewer --objects");
        assert!(server.keys("*").await.unwrap().is_empty());
    }
}
