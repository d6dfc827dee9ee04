//! `cargo demo --story`, as a user runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use larder::connector::postgres::Postgres;
use larder_testing::postgres::PostgresServer;
use larder_testing::server::{Server, ServerOptions, required};
use serde_json::Value;
use std::process::{Command, Output};
use std::sync::{PoisonError, RwLock};

/// A story says what was too slow. Those on a database have the machine for themselves: they take most of it, and others start a cluster meanwhile.
static MACHINE: RwLock<()> = RwLock::new(());

fn demo(arguments: &[&str]) -> Output {
    let alone = arguments.iter().any(|argument| argument.contains("postgres"));
    let _alone = alone.then(|| MACHINE.write().unwrap_or_else(PoisonError::into_inner));
    let _together = (!alone).then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner));
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder-demo"));
    command.arg("--story").args(arguments).env_remove("RUST_LOG").output().unwrap()
}

/// The report of a story in which everything went as it should.
fn told(arguments: &[&str]) -> Value {
    let output = demo(&[arguments, &["--json"]].concat());
    let (told, logged) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{logged}\n{told}");
    assert_eq!(logged, "");
    let report: Value =
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("not one JSON object: {error}\n{told}"));
    assert_eq!(report["ok"], true, "{told}");
    assert_eq!(report["stale_reads"], 0);
    assert_eq!(report["wrong_reads"], 0);
    assert!(count(&report, "lookups") > 10_000);
    assert!(count(&report, "loads") >= 1_000);
    assert!(count(&report, "refused_fills") >= 10);
    assert!(report["hit_ratio"].as_f64().unwrap() > 0.3);
    report
}

fn count(report: &Value, figure: &str) -> u64 {
    report[figure].as_u64().unwrap_or_else(|| panic!("{figure} is {}", report[figure]))
}

fn phases(report: &Value) -> Vec<&str> {
    report["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect()
}

const CALM: [&str; 6] = ["warm_up", "look_up", "change", "move_hosts", "delete_and_make_again", "slow_load"];
const OUTAGES: [&str; 5] = ["server_hangs", "server_dies", "old_snapshot", "flush_all", "script_flush"];

#[test]
fn on_memory() {
    let report = told(&[]);
    assert_eq!(report["connector"], "memory");
    assert_eq!(phases(&report), [&CALM[..], &["compare_all"]].concat());
    assert_eq!(report["trip_ms"], Value::Null);
    assert_eq!(report["left_out"], serde_json::json!([]));
}

#[test]
fn on_a_server_of_its_own() {
    for binary in required().unwrap() {
        let report = told(&["--connector", "redis", "--server", binary.path.to_str().unwrap()]);
        assert_eq!((&report["connector"], &report["nodes"]), (&"redis".into(), &2.into()));
        assert_eq!(phases(&report), [&CALM[..], &OUTAGES, &["compare_all"]].concat());
        assert!(report["trip_ms"].is_number() && report["added_latency_p99_during_outage"].is_number(), "{report}");
        let hung = report["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == "server_hangs").unwrap();
        let outage = &hung["outage"];
        // On each of two nodes five have to wait in vain, of ten readers who wait at the same time; then nobody does.
        assert!((1..=2 * (5 + 10)).contains(&count(outage, "timed_out")), "{outage}");
        assert_eq!(count(outage, "timed_out_later"), 0, "{outage}");
        // Beside the loader alone, which was measured in turns with it: on a busy machine both are slow.
        let median = |of: &str| outage[of]["p50"].as_f64().unwrap();
        assert!(median("lookup") < 2.0 * median("loader"), "{outage}");
        assert!(count(&report, "deferred") >= 40);
        assert!(count(&report, "replayed") >= 40);
        assert!(count(&report, "breaker_opened") >= 2);
    }
}

/// Changes are applied only when the other node's memory has forgotten what they touched, through every outage.
#[test]
fn on_a_tier_over_a_server_of_its_own() {
    for binary in required().unwrap() {
        let report = told(&["--connector", "tiered", "--server", binary.path.to_str().unwrap()]);
        assert_eq!((&report["connector"], &report["nodes"]), (&"tiered".into(), &2.into()));
        assert_eq!(phases(&report), [&CALM[..], &OUTAGES, &["compare_all"]].concat());
        assert!(count(&report, "deferred") >= 40 && count(&report, "replayed") >= 40, "{report}");
    }
}

/// A replica takes over when the primary dies, and nothing stale is served by either node's memory.
#[test]
fn on_a_tier_over_sentinels_and_over_a_cluster() {
    for connector in ["tiered-sentinel", "tiered-cluster"] {
        let report = told(&["--connector", connector]);
        assert_eq!((&report["connector"], &report["nodes"]), (&"tiered".into(), &2.into()));
        assert_eq!(phases(&report), [&CALM[..], &["primary_dies", "compare_all"]].concat());
        assert_eq!(report["left_out"], serde_json::json!([]));
    }
}

#[test]
fn on_a_server_of_somebody_elses() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let binary = required().unwrap().remove(0);
    let server = runtime.block_on(Server::start(&binary, ServerOptions::default())).unwrap();
    runtime.block_on(server.command(&["SET", "larder:instance:c", "somebody else's"])).unwrap();
    let report = told(&["--connector", "redis", "--redis", &server.url()]);
    assert_eq!(phases(&report), [&CALM[..], &["compare_all"]].concat());
    assert_eq!(report["left_out"], serde_json::json!(OUTAGES));
    let left = runtime.block_on(server.keys("*")).unwrap();
    assert_eq!(left, [b"larder:instance:c"], "the demo's own keys are removed, and no others");
}

#[test]
fn on_a_postgres_server_of_its_own() {
    for binaries in larder_testing::postgres::required().unwrap() {
        let report = told(&["--connector", "postgres", "--server", binaries.folder.to_str().unwrap()]);
        assert_eq!((&report["connector"], &report["nodes"]), (&"postgres".into(), &2.into()));
        assert_eq!(phases(&report), [&CALM[..], &OUTAGES[..2], &["compare_all"]].concat());
        assert_eq!(report["left_out"], serde_json::json!([]));
        assert!(report["trip_ms"].is_number(), "{report}");
        assert!(count(&report, "deferred") >= 20 && count(&report, "replayed") >= 20, "{report}");
        assert!(count(&report, "breaker_opened") >= 2);
    }
}

#[test]
fn in_a_database_of_somebody_elses() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let binaries = larder_testing::postgres::required().unwrap().remove(0);
    let server = runtime.block_on(PostgresServer::start(&binaries, &[])).unwrap();
    server.psql(Postgres::SCHEMA).unwrap();
    let report = told(&["--postgres", &server.dsn()]);
    assert_eq!(phases(&report), [&CALM[..], &["compare_all"]].concat());
    assert_eq!(report["left_out"], serde_json::json!(&OUTAGES[..2]));
    let caches = server.psql("SELECT DISTINCT cache FROM larder.caches").unwrap();
    assert!(caches.starts_with("larder-demo-") && !caches.contains('\n'), "a cache of the demo's own: {caches}");
    let forgotten = server.psql("SELECT cache FROM larder.changes WHERE keys IS NULL").unwrap();
    assert_eq!(forgotten, caches, "at the end the demo forgets its cache, and no other");
}

#[test]
fn of_the_feed() {
    let output = demo(&["--feed", "--json"]);
    let (told, logged) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && logged.is_empty(), "{logged}\n{told}");
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&report["ok"], &report["stale_reads"]), (&true.into(), &0.into()));
    assert!(count(&report, "hits") > 0);
    // The newest comes first. Node 2 was cut off from the feed during it.
    let changes = report["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 2, "{told}");
    for change in changes {
        assert!(change["nodes"].as_array().unwrap().iter().all(|node| node["knew_ms"].is_number()), "{change}");
    }
    let cut_off = &changes[0]["nodes"][1];
    assert!(cut_off["not_served_ms"].as_f64() < cut_off["knew_ms"].as_f64(), "{cut_off}");
}

#[test]
fn of_the_feed_for_people() {
    let output = demo(&["--feed"]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    for part in ["UPDATE demo.restrictions", "node 1 knew", "Node 2 hears the feed again", "checked, 0 were stale."] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
}

#[test]
fn for_people() {
    let output = demo(&[]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    for line in ["move hosts             ok", "stale reads    0", "Every phase did what it should."] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
}

#[test]
fn what_cannot_be_is_one_clear_line() {
    let refused = |arguments: &[&str], code, text: &str| {
        let output = demo(arguments);
        let logged = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{logged}");
        assert!(logged.contains(text) && !logged.contains("panicked") && !logged.contains("secret"), "{logged}");
        if code == 1 {
            assert_eq!(logged.trim_end().lines().count(), 1, "{logged}");
        }
    };
    refused(&["--connector", "memory", "--redis", "redis://localhost"], 1, "--connector memory");
    refused(&["--connector", "redis", "--redis", "http://localhost"], 1, "larder-demo: --redis ");
    refused(&["--connector", "redis", "--server", "/nowhere/redis-server"], 1, "/nowhere/redis-server");
    refused(
        &["--connector", "redis", "--redis", "redis://user:secret@127.0.0.1:1"],
        1,
        "cannot use the server at 127.0.0.1:1",
    );
    refused(
        &["--connector", "redis", "--postgres", "postgres://localhost/x"],
        1,
        "--postgres names a server of another kind",
    );
    refused(
        &["--connector", "tiered", "--postgres", "postgres://localhost/x"],
        1,
        "--postgres names a server of another kind than --connector tiered",
    );
    refused(
        &["--connector", "tiered-sentinel", "--redis", "redis://localhost"],
        1,
        "--connector tiered-sentinel starts its own",
    );
    refused(&["--connector", "tiered-cluster", "--postgres", "postgres://localhost/x"], 1, "give --config FILE");
    refused(&["--connector", "postgres", "--redis", "redis://localhost"], 1, "--redis names a server of another kind");
    refused(&["--connector", "memory", "--postgres", "postgres://localhost/x"], 1, "--connector memory");
    refused(&["--postgres", "http://user:secret@localhost"], 1, "larder-demo: --postgres: ");
    refused(&["--connector", "postgres", "--server", "/nowhere"], 1, "/nowhere");
    refused(&["--postgres", "postgres://user:secret@127.0.0.1:1/x"], 1, "the database 127.0.0.1:1/x cannot be reached");
    refused(&["-c", "/nowhere/caches.yaml"], 1, "/nowhere/caches.yaml");
    let file = format!("{}/in_a_database.yaml", env!("CARGO_TARGET_TMPDIR"));
    let text =
        "connectors: { postgres: { url: 'postgres://localhost/x' } }\ncaches: { instance: { connector: postgres } }\n";
    std::fs::write(&file, text).unwrap();
    refused(&["-c", &file], 1, "--config: the cache is in PostgreSQL there");
    refused(&["--feed", "--connector", "memory"], 2, "--feed");
    refused(&["--feed", "--postgres", "postgres://localhost/x"], 2, "--feed");
    refused(&["--feed", "--server", "/nowhere"], 1, "/nowhere");
    refused(&["--instances", "3"], 2, "150");
    refused(&["--database-latency", "2 days"], 2, "milliseconds, 0 to 10000");
}
