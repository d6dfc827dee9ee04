//! `larder check`, as a user runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "check/sentinel.rs"]
mod sentinel;
#[path = "check/tiers.rs"]
mod tiers;
#[path = "check/tls.rs"]
mod tls;

use larder_testing::server::{Server, ServerOptions, required};
use serde_json::Value;
use std::fs;
use std::process::Command;
use tokio::runtime::Runtime;

struct Checked {
    code: Option<i32>,
    told: String,
    logged: String,
}

fn check(file: &str, text: &str, arguments: &[&str]) -> Checked {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    let output = command.arg("check").arg("-c").arg(path).args(arguments).env_remove("RUST_LOG").output().unwrap();
    Checked {
        code: output.status.code(),
        told: String::from_utf8(output.stdout).unwrap(),
        logged: String::from_utf8(output.stderr).unwrap(),
    }
}

fn yaml(redis: &str) -> String {
    format!("connectors: {{ redis: {{ {redis} }} }}\ncaches: {{ instance: {{ connector: redis, max_age: 1h }} }}\n")
}

/// The findings of a redis connector: topic, level, text, and what to do.
fn findings(redis: &str) -> (Checked, Vec<(String, String, String, String)>) {
    let checked = check("caches.yaml", &yaml(redis), &["--json"]);
    let report: Value = serde_json::from_str(&checked.told).unwrap();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = report["connectors"][0]["findings"].as_array().unwrap();
    let findings =
        findings.iter().map(|one| (text(one, "topic"), text(one, "level"), text(one, "text"), text(one, "do")));
    let findings = findings.collect();
    (checked, findings)
}

fn only_problem(redis: &str, topic: &str, says: &str) {
    let (checked, findings) = findings(redis);
    let problems: Vec<_> = findings.iter().filter(|(_, level, ..)| level == "problem").collect();
    assert_eq!(checked.code, Some(1), "{findings:?}");
    let [(found, _, text, to_do)] = problems.as_slice() else { panic!("not one problem: {findings:?}") };
    assert!(found == topic && text.contains(says) && !to_do.is_empty(), "{problems:?}");
    assert_eq!(checked.logged, "larder: 1 problem\n");
}

fn started(runtime: &Runtime, options: ServerOptions) -> Vec<Server> {
    let start = |binary| runtime.block_on(Server::start(&binary, options.clone())).unwrap();
    required().unwrap().into_iter().map(start).collect()
}

fn socket(server: &Server) -> String {
    format!("socket: '{}'", server.socket().display())
}

#[test]
fn a_server_as_it_should_be() {
    let runtime = Runtime::new().unwrap();
    let options = ServerOptions::default().config("maxmemory 100mb").config("maxmemory-policy noeviction");
    for server in started(&runtime, options) {
        let (checked, findings) = findings(&socket(&server));
        assert_eq!((checked.code, checked.logged.as_str()), (Some(0), ""), "{findings:?}");
        let topics: Vec<_> = findings.iter().map(|(topic, level, ..)| (topic.as_str(), level.as_str())).collect();
        let expected =
            ["reachable", "version", "protocol", "role", "latency", "eviction", "persistence", "rights", "scripts"];
        assert_eq!(topics, expected.map(|topic| (topic, "ok")));
        assert!(runtime.block_on(server.keys("*")).unwrap().is_empty(), "nothing is left behind");

        let report: Value = serde_json::from_str(&checked.told).unwrap();
        assert_eq!(report["connectors"][0]["server"]["maxmemory_policy"], "noeviction");
        assert_eq!(report["connectors"][0]["caches"], serde_json::json!(["instance"]));
    }
}

#[test]
fn for_people() {
    let runtime = Runtime::new().unwrap();
    let options = ServerOptions::default().config("maxmemory 100mb").config("maxmemory-policy allkeys-lru");
    let server = started(&runtime, options.config("requirepass opensesame")).remove(0);
    let checked = check("caches.yaml", &yaml(&format!("{}, password: opensesame", socket(&server))), &[]);
    assert_eq!((checked.code, checked.logged.as_str()), (Some(1), "larder: 1 problem\n"));
    assert!(checked.told.contains("password: \"***\"") && !checked.told.contains("opensesame"), "{}", checked.told);
    assert!(checked.told.contains("  PROBLEM  eviction     allkeys-lru"), "{}", checked.told);
    assert!(checked.told.contains("do: set maxmemory-policy noeviction"), "{}", checked.told);
}

#[test]
fn passwords() {
    let runtime = Runtime::new().unwrap();
    for server in started(&runtime, ServerOptions::default().config("requirepass opensesame")) {
        only_problem(&format!("{}, password: wrong", socket(&server)), "login", "WRONGPASS");
        only_problem(&socket(&server), "login", "wants a password");
        only_problem(&format!("{}, username: nobody, password: opensesame", socket(&server)), "login", "user nobody");
    }
    let server = started(&runtime, ServerOptions::default()).remove(0);
    only_problem(&format!("{}, password: needless", socket(&server)), "login", "the server has none");
}

#[test]
fn nobody_there_and_nobody_who_answers() {
    only_problem("address: '127.0.0.1:1'", "reachable", "cannot connect to 127.0.0.1:1");
    only_problem("socket: /nowhere/redis.sock", "reachable", "/nowhere/redis.sock");
    let runtime = Runtime::new().unwrap();
    let server = started(&runtime, ServerOptions::default()).remove(0);
    server.stop().unwrap();
    only_problem(&format!("{}, connect_timeout: 200ms", socket(&server)), "reachable", "no answer");
}

#[test]
fn eviction() {
    let runtime = Runtime::new().unwrap();
    let options = ServerOptions::default().config("maxmemory 100mb");
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let server = started(&runtime, options.clone().config(format!("maxmemory-policy {policy}"))).remove(0);
        only_problem(&socket(&server), "eviction", policy);
    }
}

#[test]
fn a_replica_a_database_that_is_none_and_a_full_server() {
    let runtime = Runtime::new().unwrap();
    let server = started(&runtime, ServerOptions::default().databases(2)).remove(0);
    only_problem(&format!("{}, database: 2", socket(&server)), "database", "no database 2");

    let command = |arguments: &[&str]| drop(runtime.block_on(server.command(arguments)).unwrap());
    command(&["REPLICAOF", "127.0.0.1", "1"]);
    let (_, found) = findings(&socket(&server));
    assert!(found.iter().any(|(topic, level, ..)| topic == "role" && level == "problem"), "{found:?}");
    command(&["REPLICAOF", "NO", "ONE"]);

    command(&["CONFIG", "SET", "maxmemory", "1"]);
    let (_, found) = findings(&socket(&server));
    assert!(found.iter().any(|(topic, level, ..)| topic == "memory" && level == "problem"), "{found:?}");
}

/// What the check tells an administrator to grant is enough for larder, and less is not.
#[test]
fn rights() {
    let runtime = Runtime::new().unwrap();
    for server in started(&runtime, ServerOptions::default()) {
        let command = |arguments: &[&str]| {
            let reply = runtime.block_on(server.command(arguments)).unwrap();
            assert!(!format!("{reply:?}").contains("ERR"), "{reply:?}");
        };
        command(&["ACL", "SETUSER", "service", "on", ">pass", "~larder:*", "+@read", "+@connection", "+info", "+eval"]);
        let login = format!("{}, username: service, password: pass", socket(&server));
        let (checked, found) = findings(&login);
        let (_, _, text, grant) =
            found.iter().find(|(topic, level, ..)| topic == "rights" && level == "problem").expect("a problem");
        assert_eq!(checked.code, Some(1));
        assert!(text.contains("SET:") && text.contains("EVALSHA:") && text.contains("BITFIELD in a script:"), "{text}");

        command(&["ACL", "SETUSER", "service", "reset", "on", ">pass"]);
        command(&grant.split(' ').collect::<Vec<_>>());
        let (checked, found) = findings(&login);
        assert_eq!(checked.code, Some(0), "{found:?}");
        assert!(found.iter().any(|(topic, level, ..)| topic == "rights" && level == "ok"), "{found:?}");
        runtime.block_on(serves(&server));
    }
}

/// larder itself, with the rights that were granted.
async fn serves(server: &Server) {
    use larder::{Caches, Config, Delivery, Stored};
    use larder_testing::entries::Instance;
    let login = format!("{}, username: service, password: pass, client_name: test", socket(server));
    let caches = Caches::from_config(Config::from_yaml(&yaml(&login)).unwrap()).await.unwrap();
    let cache = caches.open::<Instance>().unwrap();
    while !cache.status().readable {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(cache.set(Instance::new("1", &["a"], "x", 1)).await, Stored::Accepted);
    let large = Instance::new("2", &["b"], &"x".repeat(100_000), 1);
    assert_eq!(cache.set(large).await, Stored::Accepted);
    assert!(cache.get(Instance::HOST, "b").await.is_some());
    assert_eq!(cache.delete(Instance::HOST, ["b"]).await.unwrap(), Delivery::Applied);
    assert_eq!(cache.invalidate_below(Instance::HOST, ["a"], 7).await.unwrap(), Delivery::Applied);
    assert_eq!(cache.truncate().await.unwrap(), Delivery::Applied);
    cache.prune().await.unwrap();
    assert_eq!(cache.stats().faults.get(), 0);
}

/// Each primary is tried out, and what concerns the cluster is said once.
#[test]
fn a_cluster_is_tried_out_node_by_node() {
    use larder_testing::cluster::Cluster;
    let runtime = Runtime::new().unwrap();
    for binary in required().unwrap() {
        let cluster = runtime.block_on(Cluster::start(&binary, ServerOptions::default(), 3, 0)).unwrap();
        let nodes = format!("address: \"{}\", cluster: [\"{}\"]", cluster.address(0), cluster.address(1));
        let (checked, found) = findings(&nodes);
        assert_eq!(checked.code, Some(0), "{found:?}");
        let said = |words: &str| found.iter().any(|(.., text, _)| text.contains(words));
        assert!(said("3 primaries with 0 replicas in all serve every slot"), "{found:?}");
        assert!(said("some primary has no replica"), "{found:?}");
        assert!((0..3).all(|node| said(&format!("{}: cluster-require-full-coverage is on", cluster.address(node)))));
        assert!(said("all commands and scripts that larder needs run"), "{found:?}");
        // What CLUSTER KEYSLOT says of `{instance}`.
        let place = format!("it will be in slot 1961, on {}", cluster.address(0));
        assert!(said("the cache `instance` has no clock yet") && said(&place), "{found:?}");
        runtime.block_on(cluster.nodes()[0].command(&["SET", "larder:{instance}:c", "x"])).unwrap();
        let (_, found) = findings(&nodes);
        let place = format!("the cache `instance` is in slot 1961, on {}", cluster.address(0));
        assert!(found.iter().any(|(topic, level, text, _)| topic == "slot" && level == "ok" && *text == place));

        let last = &cluster.nodes()[2];
        // A node tells only others what it serves, and nobody what nobody serves.
        for node in cluster.nodes() {
            runtime.block_on(node.command(&["CLUSTER", "DELSLOTSRANGE", "10923", "10932", "1961", "1961"])).unwrap();
        }
        runtime.block_on(last.config_set("cluster-allow-reads-when-down", "yes")).unwrap();
        let (checked, found) = findings(&nodes);
        assert_eq!(checked.code, Some(1), "{found:?}");
        let problem = |words: &str| found.iter().any(|(_, level, text, _)| level == "problem" && text.contains(words));
        assert!(problem("cluster-allow-reads-when-down is on") && problem("of the 16,384 slots"), "{found:?}");
        assert!(problem("`instance` is in slot 1961, which nobody serves"), "{found:?}");

        // A node of a cluster that is given as a server of its own.
        let (_, found) = findings(&format!("address: \"{}\"", cluster.address(0)));
        let (.., to_do) = found.iter().find(|(topic, ..)| topic == "mode").unwrap();
        assert!(to_do.contains("redis-cluster://"), "{to_do}");
    }
}

/// As managed services do, which rename or disable some commands: each is named, with what it costs.
#[test]
fn a_command_that_is_disabled_is_named_with_what_it_costs() {
    let runtime = Runtime::new().unwrap();
    for (command, costs) in [
        ("RENAME", "Without that: objects over 4 KiB are not stored"),
        ("SCAN", "Without that: a cache that has to be cleared cannot be"),
        ("EVALSHA", "Without that: nothing works"),
    ] {
        for server in started(&runtime, ServerOptions::default().config(format!("rename-command {command} \"\""))) {
            let (checked, found) = findings(&socket(&server));
            let (_, _, text, to_do) = found.iter().find(|(topic, ..)| topic == "rights").unwrap();
            assert_eq!(checked.code, Some(1), "{command}: {found:?}");
            assert!(text.contains(command) && text.contains(costs), "{text}");
            assert!(to_do.contains(&format!("`rename-command` for {command},")), "{to_do}");
        }
    }
    for command in ["CONFIG", "CLIENT", "INFO", "WAIT", "PUBLISH"] {
        for server in started(&runtime, ServerOptions::default().config(format!("rename-command {command} other"))) {
            let (_, found) = findings(&socket(&server));
            assert!(found.iter().any(|(topic, level, ..)| topic == "rights" && level == "ok"), "{command}: {found:?}");
        }
    }
}

#[test]
fn a_configuration_that_cannot_be_used() {
    let checked = check("caches.yaml", "connectors: { redis: { adress: x } }", &[]);
    assert_eq!((checked.code, checked.told.as_str()), (Some(2), ""));
    assert!(checked.logged.contains("did you mean `address`?"), "{}", checked.logged);

    let checked = check("caches.yaml", "caches: { instance: { connector: redis } }", &["--json"]);
    let report: Value = serde_json::from_str(&checked.told).unwrap();
    assert_eq!((checked.code, &report["ok"]), (Some(2), &false.into()));
    assert_eq!(report["errors"].as_array().unwrap().len(), 1);

    assert_eq!(check("caches.ini", "", &[]).code, Some(2));
}

/// A user with every right that larder needs but one, and what is claimed of it.
#[test]
fn every_right_withdrawn_one_at_a_time() {
    let runtime = Runtime::new().unwrap();
    for server in started(&runtime, ServerOptions::default().config("maxmemory 100mb")) {
        let command = |arguments: &[&str]| {
            let reply = runtime.block_on(server.command(arguments)).unwrap();
            assert!(!format!("{reply:?}").contains("ERR"), "{reply:?}");
        };
        let rights = "+get +mget +getrange +set +setrange +bitfield +unlink +exists +rename +persist +pexpire +time +scan +eval +evalsha \
                      +ping +hello +auth +select +info +config|get";
        let login = format!("{}, username: service, password: pass", socket(&server));
        let grant = |without: &str| {
            let user = ["ACL", "SETUSER", "service", "reset", "on", ">pass", "~larder:*"].into_iter();
            command(&user.chain(rights.split_whitespace().filter(|right| *right != without)).collect::<Vec<_>>());
            findings(&login)
        };
        let level = |found: &[(String, String, String, String)], topic: &str| {
            found.iter().find(|(other, ..)| other == topic).map(|(_, level, text, _)| (level.clone(), text.clone()))
        };
        let (checked, found) = grant("");
        assert_eq!(checked.code, Some(0), "{found:?}");
        assert_eq!(level(&found, "persistence").unwrap().0, "ok", "{found:?}");
        // Those that every server grants, or that larder needs in another database only, make no difference.
        for right in rights
            .split_whitespace()
            .filter(|right| !["+hello", "+auth", "+select", "+info", "+config|get"].contains(right))
        {
            let (checked, found) = grant(right);
            let topic = if right == "+ping" { "login" } else { "rights" };
            let (level, text) = level(&found, topic).unwrap();
            assert_eq!((checked.code, level.as_str()), (Some(1), "problem"), "{right}: {found:?}");
            assert!(text.to_lowercase().contains(&right[1..]), "{right}: {text}");
            assert_eq!(found.iter().filter(|(_, level, ..)| level == "problem").count(), 1, "{right}: {found:?}");
        }
        // What is not told is not known; nothing is claimed of it.
        let (checked, found) = grant("+config|get");
        assert_eq!(checked.code, Some(0), "{found:?}");
        let (note, text) = level(&found, "persistence").unwrap();
        assert!(note == "note" && text.contains("not known whether the server keeps snapshots:"), "{text}");
        let (checked, found) = grant("+info");
        assert_eq!(checked.code, Some(0), "{found:?}");
        for topic in ["version", "role", "eviction", "persistence"] {
            let (note, text) = level(&found, topic).unwrap();
            assert!(note == "note" && (text.contains("not known") || text.contains("does not say")), "{topic}: {text}");
        }
        let text = level(&found, "persistence").unwrap().1;
        assert!(text.contains("keeps its commands (appendonly), nor which process it is"), "{text}");
        let (_, found) = grant("+hello");
        assert_eq!(level(&found, "protocol").unwrap().0, "ok", "every user may say HELLO");

        // In strict mode it takes one more.
        let strict = format!("{login}, wait_replicas: 1");
        let (_, found) = findings(&strict);
        let (problem, text) = level(&found, "rights").unwrap();
        assert!(problem == "problem" && text.contains("WAIT"), "{text}");
        assert!(found.iter().any(|(topic, .., to_do)| topic == "rights" && to_do.contains("+wait")), "{found:?}");
        assert_eq!(level(&found, "replicas").unwrap().0, "problem", "there is none");
    }
}

/// Without a command, just these of larder's scripts do not run.
const WITHOUT: [(&str, &[&str]); 11] = [
    ("bitfield", &["clock.lua", "remove.lua"]),
    ("exists", &[LARGE, LASTING, FOLLOWED]),
    (
        "getrange",
        &[
            "store.lua",
            KEYS,
            AGAIN,
            DEADLINE,
            LARGE,
            LASTING,
            "store_many.lua",
            "absent.lua",
            "invalidate.lua",
            FLOOR,
            "delete.lua",
            "prune.lua",
            FOLLOWED,
            "follow.lua",
            "followers.lua",
            "leave.lua",
            "clock.lua",
        ],
    ),
    ("mget", &[KEYS, AGAIN, "store_many.lua", "get_many.lua"]),
    ("persist", &[LASTING]),
    ("pexpire", &[AGAIN, LARGE, "touch.lua"]),
    ("rename", &[LARGE, LASTING]),
    ("set", &["store.lua", KEYS, AGAIN, DEADLINE, "store_many.lua", "absent.lua", FLOOR, FOLLOWED, "confirm.lua"]),
    (
        "setrange",
        &[
            "store.lua",
            KEYS,
            DEADLINE,
            "store_many.lua",
            "invalidate.lua",
            FLOOR,
            "delete.lua",
            FOLLOWED,
            "follow.lua",
            "clock.lua",
        ],
    ),
    ("time", &[DEADLINE, "absent.lua", "touch.lua"]),
    ("unlink", &["absent.lua", "discard.lua", "invalidate.lua", FLOOR, "delete.lua", "prune.lua", "remove.lua"]),
];
const KEYS: &str = "store.lua, an object with several keys";
const AGAIN: &str = "store.lua, an object with several keys and a max age";
const DEADLINE: &str = "store.lua, an object whose deadline is kept";
const LARGE: &str = "store.lua, an object over 4 KiB";
const LASTING: &str = "store.lua, an object over 4 KiB without age limits";
const FOLLOWED: &str = "store.lua, a load on a tier";
const FLOOR: &str = "invalidate.lua, with a lowest version";

/// Each script that does not run without a command is named, with what that costs, and no other script is.
#[test]
fn the_scripts_that_do_not_run_without_a_command() {
    let runtime = Runtime::new().unwrap();
    for server in started(&runtime, ServerOptions::default().config("maxmemory 100mb")) {
        let login = format!("{}, username: service, password: pass", socket(&server));
        for (command, scripts) in WITHOUT {
            let without = format!("-{command}");
            let user = ["ACL", "SETUSER", "service", "reset", "on", ">pass", "~larder:*", "+@all", &without];
            runtime.block_on(server.command(&user)).unwrap();
            let (checked, found) = findings(&login);
            let (_, level, text, _) = found.iter().find(|(topic, ..)| topic == "scripts").unwrap();
            assert_eq!((checked.code, level.as_str()), (Some(1), "note"), "the rights are the problem: {found:?}");
            let (_, failed) = text.split_once(" fail. ").unwrap_or_else(|| panic!("{command}: {text}"));
            let named: Vec<_> = failed.split("; ").map(|one| one.split_once(": ").unwrap().0).collect();
            assert_eq!(named, scripts, "{command}: {text}");
            for key in runtime.block_on(server.keys("*")).unwrap() {
                assert_eq!(command, "unlink", "{} is left behind", String::from_utf8_lossy(&key));
                let left = runtime.block_on(server.command(&[b"PTTL", key.as_slice()])).unwrap().int().unwrap();
                let expires = left > 0 || key.ends_with(b":\x05");
                assert!(expires, "{} stays for ever", String::from_utf8_lossy(&key));
            }
            runtime.block_on(server.flushall()).unwrap();
        }
    }
}

/// A service that refuses a script for a reason that no single command shows, is found out as well.
#[test]
fn a_script_that_may_not_use_its_keys_is_told_with_what_that_costs() {
    let runtime = Runtime::new().unwrap();
    for server in started(&runtime, ServerOptions::default().config("maxmemory 100mb")) {
        // Every key but objects, which scripts find by themselves.
        let keys = ["~larder:larder+check:*:[abcisl]*", "~larder:*:r", "~larder::*"];
        let user = [&["ACL", "SETUSER", "service", "on", ">pass", "+@all"][..], &keys].concat();
        runtime.block_on(server.command(&user)).unwrap();
        let (checked, found) = findings(&format!("{}, username: service, password: pass", socket(&server)));
        let (_, level, text, to_do) = found.iter().find(|(topic, ..)| topic == "scripts").unwrap();
        assert_eq!((checked.code, level.as_str()), (Some(1), "problem"), "{found:?}");
        assert!(text.contains("invalidate.lua (") && text.contains("every invalidation is deferred"), "{text}");
        assert!(to_do.starts_with("ACL SETUSER service "), "{to_do}");
    }
}

/// No server here refuses keys that are not declared to everybody. This user may not use them.
#[test]
fn a_script_that_may_not_use_a_key_that_it_finds_by_itself() {
    let runtime = Runtime::new().unwrap();
    for server in started(&runtime, ServerOptions::default().config("maxmemory 100mb")) {
        let declared = ["~larder:larder+check:*:a", "~larder:larder+check:*:b", "+@all"];
        let user = [&["ACL", "SETUSER", "service", "on", ">pass"][..], &declared].concat();
        runtime.block_on(server.command(&user)).unwrap();
        let login = format!("{}, username: service, password: pass", socket(&server));
        only_problem(&login, "rights", "not among its KEYS");
        only_problem(&login, "rights", "every invalidation is deferred");
    }
}

#[test]
fn a_replica_lacks_no_rights() {
    let runtime = Runtime::new().unwrap();
    for server in started(&runtime, ServerOptions::default()) {
        let command = |arguments: &[&str]| drop(runtime.block_on(server.command(arguments)).unwrap());
        command(&["REPLICAOF", "127.0.0.1", "1"]);
        only_problem(&socket(&server), "role", "the server is a replica");
        let (_, found) = findings(&socket(&server));
        let (_, level, text, _) = found.iter().find(|(topic, ..)| topic == "rights").unwrap();
        assert!(level == "note" && text.contains("cannot be, while the server takes no writes"), "{found:?}");
        // One that does not say what it is shows it.
        command(&["ACL", "SETUSER", "service", "reset", "on", ">pass", "~larder:*", "+@all", "-info"]);
        only_problem(&format!("{}, username: service, password: pass", socket(&server)), "role", "a replica");
        // One that can be written to is a replica as well.
        command(&["CONFIG", "SET", "replica-read-only", "no"]);
        only_problem(&socket(&server), "role", "or lost when its master goes on");

        command(&["REPLICAOF", "NO", "ONE"]);
        command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        only_problem(&socket(&server), "memory", "NOREPLICAS");
    }
}

/// What is said of the size of a clock is what the server takes for it.
#[test]
fn the_size_of_a_clock() {
    let runtime = Runtime::new().unwrap();
    for server in started(&runtime, ServerOptions::default()) {
        runtime.block_on(async {
            use larder::{Caches, Config};
            let caches = Caches::from_config(Config::from_yaml(&yaml(&socket(&server))).unwrap()).await.unwrap();
            let cache = caches.open::<larder_testing::entries::Instance>().unwrap();
            while !cache.status().readable {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        let usage = runtime.block_on(server.command(&["MEMORY", "USAGE", "larder:instance:c"])).unwrap().int().unwrap();
        runtime.block_on(server.command(&["CONFIG", "SET", "maxmemory", "2000000"])).unwrap();
        let (_, found) = findings(&socket(&server));
        let (_, _, text, _) = found.iter().find(|(topic, ..)| topic == "eviction").unwrap();
        let said: f64 = text.rsplit(' ').next().unwrap().parse().unwrap();
        assert!((0.95..1.05).contains(&(said / usage as f64)), "{said} for {usage}");
    }
}

#[test]
fn what_nothing_can_open_is_a_problem() {
    let zitadel =
        "Caches:\n  Connectors:\n    Postgres: { Enabled: true }\n  Instance: { Connector: postgres, MaxAge: 1h }\n";
    let checked = check("caches.yaml", zitadel, &["--json"]);
    let report: Value = serde_json::from_str(&checked.told).unwrap();
    let postgres = &report["connectors"][0];
    assert_eq!((checked.code, checked.logged.as_str()), (Some(1), "larder: 1 problem\n"), "{report}");
    assert_eq!((&report["ok"], &postgres["connector"]), (&false.into(), &"postgres".into()));
    assert_eq!(postgres["caches"].as_array().unwrap().len(), 1, "{report}");
    assert!(postgres["findings"][0]["text"].as_str().unwrap().contains("nothing says where it is"), "{report}");
    for text in ["defaults: { connector: postgres }", "caches: { instance: { connector: postgres } }"] {
        let checked = check("caches.yaml", text, &[]);
        assert!(checked.code == Some(2) && checked.logged.contains("give `url` there"), "{}", checked.logged);
    }
    let checked = check("caches.yaml", "caches: { instance: { connector: none } }", &[]);
    assert!(checked.code == Some(0) && checked.told.contains("switched off"), "{}", checked.told);
}

#[test]
fn memory_needs_no_server() {
    let checked = check("caches.toml", "[defaults]\nconnector = \"memory\"\n", &[]);
    assert_eq!((checked.code, checked.logged.as_str()), (Some(0), ""));
    assert!(checked.told.contains("memory: in each process by itself"), "{}", checked.told);
}

#[test]
fn every_connector_is_tried_by_its_name() {
    let runtime = Runtime::new().unwrap();
    let options = ServerOptions::default().config("maxmemory 100mb").config("maxmemory-policy noeviction");
    let server = started(&runtime, options).remove(0);
    let text = format!(
        "
        connectors:
          redis: {{ {} }}
          sessions: {{ kind: redis, address: '127.0.0.1:1' }}
          small: {{ kind: memory, max_objects: 5 }}
          mine: {{ kind: own }}
          spare: {{ kind: memory }}
        caches:
          instance: {{ connector: redis, max_age: 1h }}
          session: {{ connector: Sessions }}
          color: {{ connector: small }}
          login: {{ connector: mine }}
        ",
        socket(&server)
    );
    let checked = check("caches.yaml", &text, &["--json"]);
    let report: Value = serde_json::from_str(&checked.told).unwrap();
    assert_eq!((checked.code, checked.logged.as_str()), (Some(1), "larder: 1 problem\n"), "{report}");
    let told: Vec<_> = report["connectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let problem = one["findings"].as_array().unwrap().iter().any(|finding| finding["level"] == "problem");
            let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            (text("connector"), text("kind"), one["caches"][0].as_str().unwrap_or_default().to_owned(), problem)
        })
        .collect();
    let told: Vec<_> = told.iter().map(|(a, b, c, problem)| (a.as_str(), b.as_str(), c.as_str(), *problem)).collect();
    let expected = [
        ("mine", "own", "login", false),
        ("redis", "redis", "instance", false),
        ("sessions", "redis", "session", true),
        ("small", "memory", "color", false),
    ];
    assert_eq!(told, expected);
    assert_eq!(report["notes"][0], "connectors.spare: no cache is on it, so nothing comes of it");
    let people = check("caches.yaml", &text, &[]).told;
    for line in
        ["redis: ", "sessions (redis): 127.0.0.1:1", "small (memory): in each process by itself", "mine (own): "]
    {
        assert!(people.lines().any(|told| told.starts_with(line)), "{line}: {people}");
    }
}
