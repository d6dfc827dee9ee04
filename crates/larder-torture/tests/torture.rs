//! `larder-torture`, as a user runs it: clean where larder is whole, and not where a protection is off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use larder_testing::server::required;
use serde_json::Value;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by each test that starts servers and nodes. Several runs at a time would leave the servers too little of a small machine.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    // A test that failed is no reason for another one to fail.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_larder-torture")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

/// The summary of a run that ended with this exit code.
fn torture(arguments: &[&str], code: i32) -> Value {
    let turn = machine();
    let output = command(&[arguments, &["--json"]].concat());
    drop(turn);
    let (told, logged) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{logged}\n{told}");
    assert_eq!(logged, "");
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("not one JSON object: {error}\n{told}"))
}

fn count(summary: &Value, figure: &str) -> u64 {
    summary[figure].as_u64().unwrap_or_else(|| panic!("{figure} is {}", summary[figure]))
}

/// Runs that must be clean, each ten times as long as the one before, until one has shown enough: a busy machine shows less in the same time.
fn clean(arguments: &[&str], seconds: u64, enough: impl Fn(&Value) -> Result<(), String>) {
    let mut missing = String::new();
    for seconds in [seconds, 10 * seconds] {
        let summary = torture(&[arguments, &["--seed", "7", "--seconds", &seconds.to_string()]].concat(), 0);
        assert_eq!((&summary["clean"], &summary["stale"], &summary["wrong"]), (&true.into(), &0.into(), &0.into()));
        match enough(&summary) {
            Ok(()) => return,
            Err(too_few) => missing = format!("{too_few}: {summary}"),
        }
    }
    panic!("{missing}");
}

/// Whether there were more than so many of each.
fn more_than(least: u64, summary: &Value, figures: &[&str]) -> Result<(), String> {
    let too_few = figures.iter().find(|figure| summary[**figure].as_u64().is_none_or(|count| count <= least));
    too_few.map_or(Ok(()), |figure| Err(format!("{figure} not above {least}")))
}

/// Whether there was much to judge, and every call has taken part.
fn pressed(summary: &Value) -> Result<(), String> {
    more_than(2_000, summary, &["reads"])?;
    more_than(200, summary, &["hits"])?;
    let reading = ["get", "get_many", "get_or_load", "load_many", "lookup"];
    let forgetting = ["invalidate", "invalidate_many", "invalidate_change", "invalidate_below"];
    let others = ["update", "set", "set_many", "delete", "truncate"];
    more_than(0, &summary["calls"], &[&reading[..], &forgetting, &others].concat())
}

fn refused(summary: &Value) -> Result<(), String> {
    more_than(20, &summary["refused_fills"], &["overtaken"])
}

#[test]
fn every_server_is_clean_under_every_fault() {
    for binary in required().unwrap() {
        clean(&["--server", binary.path.to_str().unwrap()], 8, |summary| {
            assert_eq!(summary["leaks"], serde_json::json!([]));
            pressed(summary)?;
            refused(summary)?;
            more_than(10, summary, &["deferred", "replayed", "callers_gone", "loads", "joined"])?;
            several_faults(summary)
        });
    }
}

fn several_faults(summary: &Value) -> Result<(), String> {
    let faults = summary["faults"].as_object().unwrap().len();
    if faults < 4 { Err(format!("{faults} kinds of faults")) } else { Ok(()) }
}

/// The faults of a failover, and as many of the others as there is time for.
#[test]
fn failovers_are_clean() {
    for (connector, faults, seconds) in [
        // The first five are the grace: the Sentinels have only begun.
        ("redis-sentinel", "kill,failover,depose,isolate,clients,slow,drop,cancel", 12),
        ("redis-cluster", "kill,failover,depose,isolate,move,clients,slow,drop,cancel", 6),
    ] {
        clean(&["--connector", connector, "--faults", faults], seconds, |summary| {
            assert_eq!(summary["leaks"], serde_json::json!([]));
            more_than(500, summary, &["reads"])?;
            more_than(50, summary, &["hits", "deferred", "applied"])?;
            let failovers = ["kill", "failover", "depose", "isolate", "move"];
            let made: u64 = failovers.iter().filter_map(|fault| summary["faults"][*fault].as_u64()).sum();
            if made == 0 { Err("no failover".to_owned()) } else { Ok(()) }
        });
    }
}

/// A certificate is changed, has expired for a while, or is of another authority.
#[test]
fn changed_certificates_are_clean() {
    clean(&["--tls", "--faults", "certificate,clients,slow,close,cancel"], 6, |summary| {
        assert_eq!(summary["leaks"], serde_json::json!([]));
        more_than(1_000, summary, &["reads"])?;
        more_than(100, summary, &["hits"])?;
        more_than(0, &summary["faults"], &["certificate"])
    });
}

/// Each node keeps objects in its own memory.
#[test]
fn tiers_are_clean_under_every_fault() {
    for (consistency, seconds) in [("strict", 6), ("bounded", 3), ("wait-only", 3)] {
        clean(&["--tiered", consistency], seconds, |summary| {
            assert_eq!(summary["leaks"], serde_json::json!([]));
            more_than(2_000, summary, &["reads", "hits"])?;
            more_than(20, summary, &["applied", "deferred"])
        });
    }
}

/// Memory in front of servers that take each other's place, and in front of a database.
#[test]
fn tiers_over_a_cluster_and_over_a_database_are_clean() {
    clean(
        &["--tiered", "strict", "--connector", "redis-cluster", "--faults", "move,failover,clients,slow,cancel"],
        8,
        |summary| {
            assert_eq!(summary["leaks"], serde_json::json!([]));
            more_than(500, summary, &["reads"])?;
            more_than(50, summary, &["hits", "applied"])?;
            more_than(0, &summary["faults"], &["move", "failover"])
        },
    );
    clean(&["--tiered", "bounded", "--connector", "postgres"], 4, |summary| {
        assert_eq!(summary["leaks"], serde_json::json!([]));
        more_than(300, summary, &["reads"])?;
        more_than(50, summary, &["hits", "applied"])
    });
}

/// Followers that are stopped, killed, not told, or answered late; and a server that is filled anew while they are connected.
#[test]
fn followers_that_do_not_follow_are_survived() {
    clean(&["--tiered", "strict", "--faults", "bells,late,pause,clients,resync,cancel"], 6, |summary| {
        assert_eq!(summary["leaks"], serde_json::json!([]));
        more_than(1_000, summary, &["reads", "hits"])?;
        more_than(0, &summary["faults"], &["bells", "late", "resync"])
    });
}

#[test]
fn postgres_is_clean_under_every_fault() {
    clean(&["--connector", "postgres"], 8, |summary| {
        assert_eq!(summary["leaks"], serde_json::json!([]));
        more_than(500, summary, &["reads"])?;
        more_than(50, summary, &["hits", "deferred"])?;
        more_than(
            0,
            &summary["calls"],
            &["get", "get_or_load", "load_many", "invalidate", "sql", "truncate", "update"],
        )?;
        more_than(0, &summary["faults"], &["turn"])?;
        several_faults(summary)
    });
}

#[test]
fn caches_that_hear_of_plain_sql_are_clean_under_every_fault() {
    clean(&["--feed"], 6, |summary| {
        more_than(2_000, summary, &["reads", "hits"])?;
        more_than(0, &summary["calls"], &["sql", "get", "get_many", "get_or_load", "lookup"])?;
        more_than(50, summary, &["changes"])?;
        several_faults(summary)
    });
    clean(&["--feed", "--connector", "postgres"], 3, |summary| {
        more_than(300, summary, &["reads"])?;
        more_than(50, summary, &["hits", "changes"])
    });
    clean(&["--feed", "--connector", "redis"], 4, |summary| {
        assert_eq!(summary["leaks"], serde_json::json!([]));
        more_than(500, summary, &["reads"])?;
        more_than(50, summary, &["hits", "changes"])?;
        several_faults(summary)
    });
}

/// Nodes know both hosts, but for the one behind the pooler.
#[test]
fn a_standby_that_takes_over_and_a_pooler_that_restarts_are_survived() {
    for connector in [&["--connector", "postgres"][..], &["--feed"]] {
        let faults = ["--pooler", "--faults", "promote,pooler,cancel"];
        clean(&[connector, &faults].concat(), 3, |summary| {
            assert_eq!(summary["leaks"], serde_json::json!([]));
            more_than(0, &summary["faults"], &["promote", "pooler"])?;
            more_than(50, summary, &["hits", "changes"])
        });
    }
}

#[test]
fn memory_is_clean() {
    clean(&["--connector", "memory"], 3, |summary| {
        pressed(summary)?;
        // Nodes were killed.
        more_than(1, summary, &["processes"])?;
        refused(summary)
    });
}

/// Without one protection something is found, and told.
fn is_found(connector: &str, protection: &str) {
    is_found_with(&["--connector", connector], protection);
}

fn is_found_with(arguments: &[&str], protection: &str) {
    // It ends when something is found, which takes seconds where the machine has time for it.
    let always = ["--seconds", "600", "--seed", "7", "--without", protection];
    let summary = torture(&[arguments, &always].concat(), 1);
    assert_eq!((&summary["clean"], &summary["without"]), (&false.into(), &protection.into()));
    assert_eq!(count(&summary, "stale") + count(&summary, "wrong"), 1, "{summary}");
    let history = summary["history"].as_array().unwrap();
    let last = history.iter().filter(|line| line.as_str().unwrap().ends_with("<- this was impossible"));
    assert_eq!(last.count(), 1, "{summary}");
    assert!((3..60).contains(&history.len()), "{summary}");
    let again = summary["again"].as_str().unwrap();
    assert!(again.contains("--seed 7") && again.ends_with(&format!("--without {protection}")), "{again}");
}

#[test]
fn each_protection_of_the_redis_connector_is_missed() {
    for protection in ["fence", "ticket", "journal", "version", "epoch", "history", "validate"] {
        is_found("redis", protection);
    }
}

#[test]
#[ignore = "each takes up to a minute: a failover, a slot that moves, or a node that stands still takes seconds"]
fn each_protection_that_needs_something_slow_is_missed() {
    for protection in ["grace", "history"] {
        is_found("redis-sentinel", protection);
    }
    for protection in ["never-ask", "history"] {
        is_found("redis-cluster", protection);
    }
    is_found_with(&["--tiered", "strict"], "validity");
}

#[test]
fn each_protection_of_tiers_is_missed() {
    for protection in ["ack-order", "ring", "settle-wait"] {
        is_found_with(&["--tiered", "strict"], protection);
    }
}

#[test]
fn each_protection_of_the_memory_connector_is_missed() {
    for protection in ["fence", "ticket", "version", "epoch"] {
        is_found("memory", protection);
    }
}

#[test]
fn each_protection_of_the_postgres_connector_is_missed() {
    for protection in ["readcheck", "generations", "drain", "epoch", "ticket", "journal"] {
        is_found("postgres", protection);
    }
}

#[test]
fn each_protection_of_the_feed_is_missed() {
    for protection in ["deadline", "snapshot-difference"] {
        is_found_with(&["--feed"], protection);
        is_found_with(&["--feed", "--connector", "redis"], protection);
    }
}

#[test]
fn for_people() {
    let _turn = machine();
    let output = command(&["--connector", "memory", "--seconds", "600", "--seed", "7", "--without", "fence"]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for line in [
        "stale reads    1",
        "seed           7",
        "as it should be: the protection `fence` is off.",
        "Again: larder-torture",
    ] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
}

#[test]
fn what_cannot_be_meant_is_told_clearly() {
    let refused = |arguments: &[&str], code, texts: &[&str]| {
        let output = command(arguments);
        let logged = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{logged}");
        for text in texts {
            assert!(logged.contains(text) && !logged.contains("panicked"), "{text} is not in {logged}");
        }
    };
    refused(&["--faults", "help"], 2, &["give `all`", "truncate-bytes", "kill -9 of a node"]);
    refused(&["--faults", "kill,kil"], 2, &["there is no fault `kil`", "snapshot"]);
    refused(&["--faults", ""], 2, &["`all`", "scriptflush"]);
    refused(&["--without", "luck"], 2, &["there is no protection `luck`", "validate"]);
    refused(
        &["--connector", "memory", "--without", "journal"],
        2,
        &["memory", "`journal`", "fence, ticket, version, epoch"],
    );
    refused(&["--connector", "memory", "--nodes", "2"], 2, &["--nodes", "other processes"]);
    refused(&["--connector", "memory", "--faults", "kill"], 2, &["`clients`, `cancel`"]);
    refused(&["--connector", "memory", "--server", "/nowhere"], 2, &["--connector redis"]);
    refused(&["--connector", "postgres", "--without", "fence"], 2, &["postgres", "`fence`", "readcheck, generations"]);
    refused(&["--connector", "postgres", "--faults", "misconf"], 2, &["`crash`, `restart`", "`turn`"]);
    refused(&["--connector", "postgres", "--server", "/nowhere"], 1, &["/nowhere"]);
    refused(
        &["--feed", "--connector", "redis", "--without", "fence"],
        2,
        &["`fence`", "deadline, snapshot-difference"],
    );
    refused(&["--connector", "redis-sentinel", "--without", "never-ask"], 2, &["redis-sentinel", "grace, history"]);
    refused(&["--connector", "redis-cluster", "--faults", "sentinel"], 2, &["`failover`, `depose`, `isolate`, `move`"]);
    refused(&["--connector", "redis-cluster", "--feed"], 2, &["--feed", "redis-cluster"]);
    refused(&["--tiered", "loose"], 2, &["strict, bounded, wait-only"]);
    refused(&["--tiered", "strict", "--connector", "postgres"], 2, &["--tiered", "`bounded`"]);
    refused(&["--tiered", "strict", "--connector", "memory"], 2, &["--tiered", "redis-sentinel"]);
    refused(&["--connector", "redis", "--without", "ring"], 2, &["`ring`", "fence, ticket"]);
    refused(&["--tls", "--connector", "redis-cluster"], 2, &["--tls", "--connector redis"]);
    refused(&["--faults", "certificate"], 2, &["`certificate`", "--tls"]);
    refused(&["--pooler"], 2, &["--pooler", "--connector postgres", "--feed"]);
    refused(&["--connector", "postgres", "--faults", "pooler"], 2, &["`pooler`", "--pooler"]);
    refused(&["--feed", "--without", "epoch"], 2, &["`epoch`", "deadline, snapshot-difference"]);
    refused(&["--server", "/nowhere/redis-server"], 1, &["/nowhere/redis-server"]);
    refused(&["--seconds", "0"], 2, &["--seconds"]);
}

/// The processes that were started with this folder for what is temporary, or that work in it: a server writes its title over what it
/// was started with.
#[cfg(target_os = "linux")]
fn processes(folder: &std::path::Path) -> Vec<String> {
    let wanted = format!("TMPDIR={}", folder.display());
    let of_ours = |pid: &String| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let works_in = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|place| place.starts_with(folder));
        works_in || environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(of_ours).collect()
}

#[cfg(target_os = "linux")]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "not within two minutes: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_coordinator_that_is_killed_leaves_nothing_behind() {
    let server = required().unwrap().remove(0).path;
    // The coordinator, its guard, three nodes and a server; one that is being replaced may be missing for a moment.
    nothing_is_left_behind("redis", &server, 6);
}

/// A server of PostgreSQL has processes with groups of their own, and a piece of shared memory.
#[cfg(target_os = "linux")]
#[test]
fn a_coordinator_that_is_killed_leaves_nothing_of_postgres_behind() {
    let programs = larder_testing::postgres::required().unwrap().remove(0).folder;
    nothing_is_left_behind("postgres", &programs, 12);
}

/// The numbers of the pieces of shared memory that servers in this folder have.
#[cfg(target_os = "linux")]
fn shared_memory(folder: &std::path::Path) -> Vec<String> {
    let folders = std::fs::read_dir(folder).unwrap().flatten();
    let files = folders.filter_map(|folder| std::fs::read_to_string(folder.path().join("data/postmaster.pid")).ok());
    files.filter_map(|lines| Some(lines.lines().nth(6)?.split_whitespace().nth(1)?.to_owned())).collect()
}

/// Starts a run, waits until it has this many processes, and kills its coordinator.
#[cfg(target_os = "linux")]
fn nothing_is_left_behind(connector: &str, server: &std::path::Path, least: usize) {
    let _turn = machine();
    let folder = tempfile::Builder::new().prefix("killed").tempdir().unwrap();
    // The user of a server that is not root's must be able to enter.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut coordinator = Command::new(env!("CARGO_BIN_EXE_larder-torture"))
        .args([
            "--connector",
            connector,
            "--seconds",
            "600",
            "--nodes",
            "3",
            "--faults",
            "turn,clients",
            "--json",
            "--server",
        ])
        .arg(server)
        .env("TMPDIR", folder.path())
        // Without `setpriv` nobody but the guard ends the server.
        .env("PATH", "/nonexistent")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until("all processes", || processes(folder.path()).len() >= least);
    assert!(
        std::fs::read_dir(folder.path()).unwrap().count() >= 5,
        "one folder for each socket and one for the source"
    );
    let pieces_before = shared_memory(folder.path());
    coordinator.kill().unwrap();
    coordinator.wait().unwrap();
    wait_until("every process has ended", || processes(folder.path()).is_empty());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(pieces_before.len(), usize::from(connector == "postgres"));
    let all = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let is_left = |piece: &String| all.lines().any(|line| line.split_whitespace().nth(1) == Some(piece));
    assert!(!pieces_before.iter().any(is_left), "{pieces_before:?} of\n{all}");
}
