//! Of a master that Sentinels watch.

use super::{check, findings, only_problem, yaml};
use larder_testing::server::{ServerOptions, Watched, required};
use serde_json::Value;
use tokio::runtime::Runtime;

fn all_watched(runtime: &Runtime, sentinels: Vec<ServerOptions>) -> Vec<Watched> {
    let options = ServerOptions::default().config("maxmemory 100mb").config("maxmemory-policy noeviction");
    let start = |binary| runtime.block_on(Watched::start_with(&binary, options.clone(), sentinels.clone())).unwrap();
    required().unwrap().into_iter().map(start).collect()
}

/// The settings of the Sentinels at these ports.
fn sentinel(ports: &[u16], more: &str) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
    format!("sentinel: {{ master: mymaster, hosts: [{}]{more} }}", hosts.join(", "))
}

fn ports(watched: &Watched) -> Vec<u16> {
    watched.sentinels.iter().map(|sentinel| sentinel.port().unwrap()).collect()
}

#[test]
fn who_is_the_master_and_who_says_so() {
    let runtime = Runtime::new().unwrap();
    for watched in all_watched(&runtime, vec![ServerOptions::default(); 3]) {
        let settings = sentinel(&ports(&watched), "");
        let (checked, found) = findings(&settings);
        assert_eq!((checked.code, checked.logged.as_str()), (Some(0), ""), "{found:?}");
        let port = watched.master.port().unwrap();
        let says = format!("3 of 3 answer; the master mymaster is 127.0.0.1:{port} (config epoch 0)");
        assert!(found.contains(&("sentinels".to_owned(), "ok".to_owned(), says, String::new())), "{found:?}");
        let is_master = |(topic, _, text, _): &(String, String, String, String)| {
            topic == "role" && text.starts_with("master, with 1")
        };
        assert!(found.iter().any(is_master), "{found:?}");
        let report: Value = serde_json::from_str(&checked.told).unwrap();
        assert_eq!(report["connectors"][0]["server"]["master"], format!("127.0.0.1:{port}"));
        assert_eq!(report["connectors"][0]["server"]["config_epoch"], 0);

        watched.sentinels[1].kill();
        only_problem(
            &settings,
            "sentinels",
            &format!("127.0.0.1:{} does not say which server", watched.sentinels[1].port().unwrap()),
        );
        let told = check("caches.yaml", &yaml(&settings), &[]).told;
        assert!(
            told.contains("redis: mymaster of the Sentinels 127.0.0.1:") && told.contains("2 of 3 answer"),
            "{told}"
        );
    }
}

#[test]
fn what_is_wrong_with_what_was_given() {
    let runtime = Runtime::new().unwrap();
    let locked = ServerOptions::default().config("user watcher on >rye +@all");
    for watched in all_watched(&runtime, vec![locked]) {
        let (server, of_sentinel) = (watched.master.port().unwrap(), watched.sentinels[0].port().unwrap());
        only_problem(&format!("address: '127.0.0.1:{of_sentinel}'"), "mode", "this is a Sentinel");
        only_problem(&format!("address: '127.0.0.1:{of_sentinel}', database: 2"), "mode", "Sentinel");
        only_problem(&sentinel(&[server], ""), "sentinels", "this is a server, and no Sentinel");
        let other = sentinel(&[of_sentinel], "").replace("mymaster", "other");
        only_problem(&other, "sentinels", "watches `mymaster`");
        let wrong = ", username: watcher, password: wheat";
        only_problem(&sentinel(&[of_sentinel], wrong), "sentinels", "WRONGPASS");
        let (checked, found) = findings(&sentinel(&[of_sentinel], ", username: watcher, password: rye"));
        assert_eq!(checked.code, Some(0), "{found:?}");
        assert!(!checked.told.contains("rye"), "{}", checked.told);
    }
}

/// Every command finds the master.
#[test]
fn a_url_leads_every_command_to_the_master() {
    let runtime = Runtime::new().unwrap();
    for watched in all_watched(&runtime, vec![ServerOptions::default()]) {
        let url = format!("redis-sentinel://127.0.0.1:{}#mymaster", watched.sentinels[0].port().unwrap());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_larder"));
        let output = command
            .args(["stats", "--redis", &url])
            .env("LARDER_CONNECTORS_REDIS_SENTINEL_USERNAME", "")
            .output()
            .unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{told} {}", String::from_utf8_lossy(&output.stderr));
        assert!(told.contains("mymaster of the Sentinel 127.0.0.1"), "{told}");
    }
}
