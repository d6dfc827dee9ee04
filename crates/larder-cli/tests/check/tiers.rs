//! What `larder check` says of tiered connectors.

use super::{Checked, check, socket, started};
use larder_testing::cluster::Cluster;
use larder_testing::server::{Reply, Server, ServerOptions, required};
use serde_json::Value;
use tokio::runtime::Runtime;

fn yaml(server: &Server, login: &str, near: &str) -> String {
    format!(
        "connectors: {{ redis: {{ {}{login} }}, near: {{ kind: tiered, over: redis{near} }} }}\n\
         caches: {{ instance: {{ connector: near, max_age: 1h }} }}\n",
        socket(server)
    )
}

/// The findings of a connector: topic, level and text.
fn findings(checked: &Checked, connector: &str) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_str(&checked.told).unwrap();
    let connectors = report["connectors"].as_array().unwrap();
    let of = connectors.iter().find(|one| one["connector"] == connector).unwrap();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = of["findings"].as_array().unwrap().iter();
    findings.map(|one| (text(one, "topic"), text(one, "level"), text(one, "text"))).collect()
}

fn found<'a>(findings: &'a [(String, String, String)], topic: &str) -> Option<(&'a str, &'a str)> {
    findings.iter().find(|(of, ..)| of == topic).map(|(_, level, text)| (level.as_str(), text.as_str()))
}

#[test]
fn a_tier_is_shown_with_what_it_is_over_and_what_a_change_waits_for() {
    let runtime = Runtime::new().unwrap();
    for server in started(&runtime, ServerOptions::default().config("maxmemory 100mb")) {
        let checked = check("caches.yaml", &yaml(&server, "", ""), &["--json"]);
        assert_eq!((checked.code, checked.logged.as_str()), (Some(0), ""), "{}", checked.told);
        let (near, redis) = (findings(&checked, "near"), findings(&checked, "redis"));
        let (level, text) = found(&near, "consistency").unwrap();
        assert!(level == "ok" && text.starts_with("strict: ") && text.contains("1s"), "{text}");
        assert_eq!(found(&redis, "use"), None, "the cache is on the server by its tier");
        assert_eq!(found(&redis, "wake").unwrap().0, "ok", "{redis:?}");

        let people = check("caches.yaml", &yaml(&server, "", ""), &[]).told;
        let shown = "near (tiered): in each process, in front of redis\n  caches: instance\n";
        assert!(people.contains(shown), "{people}");
        assert!(people.contains("    near:\n      kind: tiered\n      over: redis\n"), "{people}");
    }
}

/// A primary that is cut off answers for the time-out of the cluster.
#[test]
fn a_time_out_of_a_cluster_that_is_longer_than_the_validity_is_told() {
    let runtime = Runtime::new().unwrap();
    for binary in required().unwrap() {
        let cluster = runtime.block_on(Cluster::start(&binary, ServerOptions::default(), 3, 0)).unwrap();
        for (validity, told) in [("900ms", true), ("1s", false)] {
            let yaml = format!(
                "connectors: {{ redis: {{ address: \"{}\", cluster: [] }}, near: {{ kind: tiered, over: redis, validity: {validity} }} }}\n\
                 caches: {{ instance: {{ connector: near, max_age: 1h }} }}\n",
                cluster.address(0)
            );
            let redis = findings(&check("caches.yaml", &yaml, &["--json"]), "redis");
            let says = |text: &str| text.contains("cluster-node-timeout is 1s, longer than the validity (900ms)");
            assert_eq!(redis.iter().any(|(_, level, text)| level == "note" && says(text)), told, "{redis:?}");
        }
    }
}

#[test]
fn a_weaker_consistency_is_a_note_with_its_time() {
    let runtime = Runtime::new().unwrap();
    let server = started(&runtime, ServerOptions::default()).remove(0);
    for consistency in ["bounded", "wait-only"] {
        let near = format!(", consistency: {consistency}, validity: 250ms");
        let checked = check("caches.yaml", &yaml(&server, "", &near), &["--json"]);
        let near = findings(&checked, "near");
        let (level, text) = found(&near, "consistency").unwrap();
        assert!(level == "note" && text.starts_with(consistency) && text.contains("250ms"), "{text}");
    }
}

/// A new user has no channels. Followers do without; and with what is said to grant, they are woken.
#[test]
fn a_right_to_wake_that_is_missing_is_told_with_what_it_costs() {
    let runtime = Runtime::new().unwrap();
    for server in started(&runtime, ServerOptions::default().config("maxmemory 100mb")) {
        let command = |arguments: &[&str]| {
            let reply = runtime.block_on(server.command(arguments)).unwrap();
            assert!(matches!(&reply, Reply::Status(said) if said == "OK"), "{reply:?}");
        };
        let of_user = || {
            let login = ", username: service, password: pass";
            let checked = check("caches.yaml", &yaml(&server, login, ", validity: 300ms"), &["--json"]);
            assert_eq!(checked.code, Some(0), "{}", checked.told);
            let (level, text) =
                found(&findings(&checked, "redis"), "wake").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            (level, text)
        };
        command(&["ACL", "SETUSER", "service", "on", ">pass", "~larder:*", "+@all", "resetchannels"]);
        let (level, text) = of_user();
        assert!(
            level == "note" && text.contains("SSUBSCRIBE and SPUBLISH on channels that begin with larder:"),
            "{text}"
        );
        assert!(text.contains("up to 100 ms later"), "{text}");
        let (_, grant) = text.split_once("To mend it: ").unwrap();
        command(&grant.split(' ').collect::<Vec<_>>());
        assert_eq!(of_user().0, "ok");
        command(&["ACL", "SETUSER", "service", "-ssubscribe"]);
        let (level, text) = of_user();
        assert!(level == "note" && text.contains("may not run SSUBSCRIBE on"), "{text}");
    }
}

/// A server without tiers in front of it wakes nobody.
#[test]
fn without_a_tier_nothing_is_said_of_waking() {
    let runtime = Runtime::new().unwrap();
    let server = started(&runtime, ServerOptions::default()).remove(0);
    let unused = yaml(&server, "", "").replace("connector: near", "connector: redis");
    let checked = check("caches.yaml", &unused, &["--json"]);
    assert_eq!(found(&findings(&checked, "redis"), "wake"), None);
}

/// Over a database, the deadline of the feed says for how long.
#[test]
fn a_tier_over_a_database_is_bounded_by_the_feeds_deadline() {
    let yaml = "connectors: { db: { kind: postgres, url: 'host=/nowhere user=ann' }, near: { kind: tiered, over: db, consistency: bounded } }\n\
                feed: { main: { connector: db } }\n\
                caches: { instance: { connector: near, feed: main, feed_deadline: 700ms }, session: { connector: near, feed: main } }\n";
    let checked = check("caches.yaml", yaml, &["--json"]);
    let near = findings(&checked, "near");
    let said = "bounded: after a change another node may serve the earlier state until it has polled the feed, for up to 1s (feed_deadline)";
    assert_eq!(found(&near, "consistency").unwrap(), ("note", said));
}
