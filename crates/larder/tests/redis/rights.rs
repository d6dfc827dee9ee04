//! A user that lacks a right: what needs it does not work, everything else does, nothing is stale, and an operator is told once.

use crate::cluster::{clusters, options};
use crate::instance::{Instance, instance};
use crate::node::{Node, calls, config, servers, until};
use crate::sentinel::sentinels;
use crate::tier_node::TierNode;
use larder::breaker::State;
use larder::connector::Secret;
use larder::connector::tiered::TieredOptions;
use larder::{Delivery, Stored};
use larder_testing::log::Log;
use larder_testing::server::{Reply, Server, ServerOptions, Watched, required};
use std::time::Duration;
use tracing::Level;

/// The commands that the operator's page asks for.
fn granted() -> Vec<&'static str> {
    let page = include_str!("../../../../docs/operating.md");
    let (_, list) = page.split_once("```text\n").unwrap();
    let (list, _) = list.split_once("```").unwrap();
    list.split(|end: char| end.is_whitespace() || end == '`').filter_map(|word| word.strip_prefix('+')).collect()
}

const ALL: [&str; 9] = ["get", "get by host", "several", "set", "large", "invalidate", "delete", "prune", "truncate"];

/// What does not work without this right, as this is written down here and in the words of the operator's page: only what needs it.
fn lost(right: &str) -> &'static [&'static str] {
    match right {
        "get" => &["get", "get by host", "invalidate", "delete"],
        // A get that is due to touch its object is refused with the touch.
        "evalsha" => &["get", "get by host", "set", "large", "invalidate", "delete", "prune", "truncate"],
        "mget" => &["several", "set", "large"],
        "getrange" => &["set", "large", "invalidate", "delete", "prune", "truncate"],
        "set" => &["set", "large"],
        "setrange" => &["set", "large", "invalidate", "delete"],
        "bitfield" => &["truncate"],
        "unlink" => &["invalidate", "truncate"],
        "exists" | "rename" | "persist" => &["large"],
        // Whether an index key outlives its object.
        "pexpire" => &["set", "large"],
        "time" => &["set", "large"],
        "scan" => &["prune", "truncate"],
        // A script that the server knows needs no EVAL.
        "eval" | "ping" | "hello" | "auth" | "select" | "info" => &[],
        other => panic!("the page grants {other}: say here what it is for"),
    }
}

/// Without these no connection is made, or no cache recovered on it.
const NEEDED_TO_CONNECT: [&str; 5] = ["get", "eval", "evalsha", "getrange", "bitfield"];

/// Those that a server is asked for, and an operator told of.
const TOLD: [&str; 10] =
    ["exists", "mget", "persist", "pexpire", "rename", "scan", "set", "setrange", "time", "unlink"];

/// The server's user `larder`, with all rights that the page asks for.
async fn grant(server: &Server) {
    grant_and(server, &[]).await;
}

/// The same, and what else the words say.
async fn grant_and(server: &Server, more: &[&str]) {
    let mut words = vec!["ACL", "SETUSER", "larder", "reset", "on", ">opensesame", "~larder:*"];
    let rights: Vec<_> = granted().into_iter().map(|right| format!("+{right}")).collect();
    words.extend(rights.iter().map(String::as_str));
    words.extend(more);
    assert_eq!(server.command(&words).await.unwrap(), Reply::Status("OK".to_owned()));
}

async fn withdraw(server: &Server, right: &str) {
    server.command(&["ACL", "SETUSER", "larder", &format!("-{right}")]).await.unwrap();
}

fn node(server: &Server, right: &str) -> Node {
    let mut config = config(server.socket());
    config.username = Some("larder".to_owned());
    config.password = Some(Secret::new("opensesame"));
    // However slow this machine is.
    config.operation_timeout = Duration::from_secs(20);
    let hour = Duration::from_secs(3600);
    // What lasts for ever needs another command than what expires.
    if right == "persist" { Node::begin(config) } else { Node::with_ages(config, hour, hour) }
}

/// Does one thing. Whether it has worked.
async fn works(node: &Node, what: &str) -> bool {
    let changed = |delivery: Result<Delivery, larder::Error>| delivery.unwrap() == Delivery::Applied;
    match what {
        "get" => node.by_id("1").await.is_some(),
        "get by host" => node.by_host("a").await.is_some(),
        "several" => node.cache.get_many(Instance::ID, ["1", "2"]).await.iter().flatten().count() == 2,
        "set" => node.cache.set(instance("1", &["a"], "new")).await == Stored::Accepted,
        "large" => node.cache.set(instance("1", &["a"], &"new".repeat(5_000))).await == Stored::Accepted,
        "invalidate" => changed(node.cache.invalidate(Instance::HOST, ["a"]).await),
        "delete" => changed(node.cache.delete(Instance::HOST, ["a"]).await),
        "prune" => node.cache.prune().await.is_ok(),
        "truncate" => changed(node.cache.truncate().await),
        other => panic!("{other}?"),
    }
}

/// What another node, which has all rights, may not see once something has worked, or has been replayed.
async fn nothing_is_stale(observer: &Node, what: &str) {
    let found = observer.by_host("a").await;
    match what {
        "set" | "large" => assert!(found.is_none_or(|found| found.name.starts_with("new")), "{what}"),
        "invalidate" | "truncate" => assert!(found.is_none() && observer.by_id("1").await.is_none(), "{what}"),
        "delete" => assert!(found.is_none(), "{what}"),
        // No index key has gone whose object is there: an invalidation by it finds the object.
        _ => {
            let forgotten = observer.cache.invalidate(Instance::HOST, ["a"]).await.unwrap();
            assert_eq!((forgotten, observer.by_id("1").await), (Delivery::Applied, None), "{what}");
        }
    }
}

/// A node with all rights, and two objects.
async fn begin(server: &Server) -> Node {
    let hour = Duration::from_secs(3600);
    let observer = Node::with_ages(config(server.socket()), hour, hour);
    observer.readable().await;
    observer.set("1", &["a"], "old").await;
    observer.set("2", &["b"], "old").await;
    observer
}

#[tokio::test]
async fn a_right_that_is_withdrawn_costs_what_needs_it_and_nothing_else() {
    for server in servers(ServerOptions::default()).await {
        // So that the server knows every script.
        let _ = begin(&server).await;
        grant(&server).await;
        for what in ALL {
            let observer = begin(&server).await;
            let node = node(&server, "");
            node.readable().await;
            assert!(works(&node, what).await, "{what}, with all rights");
            nothing_is_stale(&observer, what).await;
        }
        for right in granted() {
            for what in ALL {
                let case = format!("{what} without {right}");
                let observer = begin(&server).await;
                let node = node(&server, right);
                node.readable().await;
                withdraw(&server, right).await;
                let worked = works(&node, what).await;
                assert_eq!(!worked, lost(right).contains(&what), "{case}");
                let open = node.redis.breaker().state() == State::Open;
                assert_eq!(open, right == "evalsha" || right == "get" && what.starts_with("get"), "{case}");
                if !open {
                    assert!(worked || node.redis.breaker().snapshot().failures == 0, "{case}");
                }
                if worked {
                    nothing_is_stale(&observer, what).await;
                }
                grant(&server).await;
                if !worked && !open {
                    node.readable().await;
                    nothing_is_stale(&observer, what).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_right_that_was_never_there_costs_what_needs_it_and_an_operator_is_told_once() {
    for server in servers(ServerOptions::default()).await {
        let _ = begin(&server).await;
        for right in granted() {
            grant(&server).await;
            let observer = begin(&server).await;
            withdraw(&server, right).await;
            let (log, _guard) = Log::begin(Level::INFO);
            let node = node(&server, right);
            if NEEDED_TO_CONNECT.contains(&right) {
                until("the breaker is open", || node.redis.breaker().state() == State::Open).await;
                continue;
            }
            node.readable().await;
            for what in ALL {
                if !node.cache.status().readable {
                    // Something was deferred, as it has to be.
                    assert!(
                        lost(right).iter().any(|lost| ["invalidate", "delete", "truncate"].contains(lost)),
                        "{right}"
                    );
                    break;
                }
                let case = format!("{what} without {right}");
                observer.set("1", &["a"], "old").await;
                observer.set("2", &["b"], "old").await;
                let worked = works(&node, what).await;
                assert_eq!(!worked, lost(right).contains(&what), "{case}");
                if worked {
                    nothing_is_stale(&observer, what).await;
                }
                assert_eq!(node.redis.breaker().state(), State::Closed, "{case}");
            }
            assert_eq!(node.redis.breaker().snapshot().failures, 0, "{right}");
            let told = usize::from(TOLD.contains(&right));
            assert_eq!(log.count(&["WARN", "rights are missing"]), told, "{right}: {}", log.text());
            let warnings = log.count(&["WARN"]);
            assert!(warnings <= told + 2, "beside it, that something is deferred and not replayed: {}", log.text());
        }
    }
}

/// Managed services disable or rename commands. Each costs what the right to it costs, and those that larder can do without cost nothing.
#[tokio::test]
async fn a_command_that_is_disabled_costs_what_needs_it_and_an_operator_is_told_once() {
    let spared = ["config", "client", "publish", "wait", "debug"];
    // Nobody can log in without AUTH.
    let commands = granted().into_iter().filter(|command| *command != "auth").chain(spared);
    for command in commands.collect::<Vec<_>>() {
        let user = "user larder on >opensesame ~larder:* &* +@all";
        let disabled = format!("rename-command {command} \"\"");
        for server in servers(ServerOptions::default().config(user).config(disabled)).await {
            let (log, _guard) = Log::begin(Level::INFO);
            let node = node(&server, command);
            if NEEDED_TO_CONNECT.contains(&command) {
                until("the breaker is open", || node.redis.breaker().state() == State::Open).await;
                continue;
            }
            if TOLD.contains(&command) {
                let words = format!("let the server know {}", command.to_uppercase());
                until("it is told", || log.count(&["WARN", "rights are missing", &words]) == 1).await;
            }
            if ["scan", "setrange"].contains(&command) {
                // A cache that is not there yet cannot be begun: there is no clock, and there may be objects of an earlier one.
                assert!(!node.cache.status().readable);
                continue;
            }
            node.readable().await;
            let lost = if spared.contains(&command) { &[] } else { lost(command) };
            let stored =
                works(&node, "set").await && node.cache.set(instance("2", &["b"], "new")).await == Stored::Accepted;
            assert_eq!(stored, !lost.contains(&"set"), "{command}");
            for what in ALL {
                let reads = what.starts_with("get") || what == "several";
                if (reads && !stored) || !node.cache.status().readable {
                    continue;
                }
                assert_eq!(works(&node, what).await, !lost.contains(&what), "{what} without {command}");
            }
            let breaker = node.redis.breaker();
            assert_eq!((breaker.state(), breaker.snapshot().failures), (State::Closed, 0), "{command}: {}", log.text());
            let told = usize::from(TOLD.contains(&command));
            assert_eq!(log.count(&["WARN", "rights are missing"]), told, "{command}: {}", log.text());
        }
    }
}

/// Each object over 4 KiB dropped the connection of all caches for half a minute.
#[tokio::test]
async fn what_a_right_costs_is_told_when_it_is_missed_and_large_objects_are_not_sent_any_more() {
    for server in servers(ServerOptions::default()).await {
        grant(&server).await;
        let _ = begin(&server).await;
        let (log, _guard) = Log::begin(Level::INFO);
        let node = node(&server, "rename");
        node.readable().await;
        withdraw(&server, "rename").await;
        let large = |name: &str| instance("3", &["c"], &name.repeat(5_000));
        assert_eq!(node.cache.set(large("old")).await, Stored::Unfit);
        until("it is told", || log.count(&["WARN", "rights are missing", "+rename", "over 4 KiB"]) == 1).await;
        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        for _ in 0..20 {
            assert_eq!(node.cache.set(large("new")).await, Stored::Unfit);
        }
        assert_eq!(calls(&server, "set").await, 0, "not sent any more");
        node.set("4", &["d"], "small").await;
        assert!(node.by_host("d").await.is_some());
        assert_eq!(log.count(&["WARN"]), 1, "{}", log.text());
        assert_eq!((node.redis.breaker().state(), node.redis.breaker().snapshot().failures), (State::Closed, 0));
        grant(&server).await;
        // A new connection finds out at once.
        server.client_kill_all().await.unwrap();
        until("it is told that it is there", || log.count(&["INFO", "the user may run all commands"]) == 1).await;
        node.readable().await;
        assert_eq!(node.cache.set(large("new")).await, Stored::Accepted);
    }
}

#[tokio::test]
async fn keys_that_are_forbidden_cost_the_cache_that_has_them() {
    for server in servers(ServerOptions::default()).await {
        grant(&server).await;
        let observer = begin(&server).await;
        let (log, _guard) = Log::begin(Level::INFO);
        let node = node(&server, "");
        node.readable().await;
        server.command(&["ACL", "SETUSER", "larder", "resetkeys", "~larder:instance:[ci]*"]).await.unwrap();
        for _ in 0..20 {
            assert!(node.by_id("1").await.is_none());
        }
        assert_eq!(node.redis.breaker().state(), State::Closed);
        until("it is told", || log.count(&["WARN", "lacks a right to keys of the cache", "instance"]) == 1).await;
        // Neither its object nor what the script finds of it may be read: then nothing is applied.
        assert_eq!(node.cache.delete(Instance::HOST, ["a"]).await.unwrap(), Delivery::Deferred);
        assert!(observer.by_host("a").await.is_some());
        server.command(&["ACL", "SETUSER", "larder", "resetkeys", "~larder:*"]).await.unwrap();
        node.readable().await;
        assert!(observer.by_host("a").await.is_none());
    }
}

#[tokio::test]
async fn a_slow_script_of_somebody_else_is_a_failure_and_no_end_of_the_connection() {
    for server in servers(ServerOptions::default().config("busy-reply-threshold 1")).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let mut config = config(server.socket());
        (config.operation_timeout, config.breaker.consecutive_failures) = (Duration::from_secs(20), 1_000);
        config.breaker.failure_ratio = 0.0;
        let node = Node::begin(config);
        node.readable().await;
        node.set("1", &["a"], "x").await;
        let mut busy = server.connect().await.unwrap();
        let slow = tokio::spawn(async move { busy.command(&["EVAL", "while true do end", "0"]).await });
        until_async(async || node.by_id("1").await.is_none()).await;
        assert!(node.redis.breaker().snapshot().failures > 0);
        server.command(&["SCRIPT", "KILL"]).await.unwrap();
        drop(slow.await);
        until_async(async || node.by_id("1").await.is_some()).await;
        assert_eq!(node.redis.breaker().state(), State::Closed);
        assert_eq!(log.count(&["the connection is given up"]), 0, "{}", log.text());
    }
}

async fn until_async(condition: impl AsyncFn() -> bool) {
    for _ in 0..3_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain");
}

/// As the pages on clusters and tiers say, and nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_of_the_pages_are_enough_for_a_tier_in_a_cluster() {
    for cluster in clusters(0).await {
        for server in cluster.nodes() {
            grant_and(server, &["+cluster|slots", "+ssubscribe", "+spublish", "&larder:*"]).await;
        }
        let (log, _guard) = Log::begin(Level::INFO);
        let begin =
            || TierNode::begin_in_cluster(options(&cluster).credentials("larder", "opensesame"), &TieredOptions::new());
        let nodes = [begin(), begin()];
        for node in &nodes {
            node.follows().await;
        }
        let [writer, reader] = &nodes;
        for name in ["small".to_owned(), "large".repeat(5_000)] {
            writer.set("1", &["a"], &name).await;
            reader.has("a").await;
            writer.invalidate("a").await;
            assert!(reader.here("a").is_none());
        }
        assert_eq!(writer.cache.truncate().await.unwrap(), Delivery::Applied);
        writer.cache.prune().await.unwrap();
        for words in ["NOPERM", "right", "cannot subscribe"] {
            assert_eq!(log.count(&[words]), 0, "{}", log.text());
        }
    }
}

/// As the page on Sentinels says, and nothing more. The servers answer ROLE, and not INFO.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_of_the_page_are_enough_with_sentinels() {
    for binary in required().unwrap() {
        let watcher = "user watcher on >rye +auth +sentinel|master +sentinel|masters +sentinel|get-master-addr-by-name";
        // They ask each other as this user.
        let own = [watcher, "user default on nopass +@all ~* &*"];
        let each = own.iter().fold(ServerOptions::default(), |options, line| options.config(*line));
        let watched = Watched::start_with(&binary, ServerOptions::default(), vec![each; 3]).await.unwrap();
        for server in [&watched.master, &watched.replica] {
            grant_and(server, &["-info", "+role"]).await;
        }
        let options = crate::node::config(std::path::Path::new("/not/used")).credentials("larder", "opensesame");
        let node = Node::begin(options.sentinel(sentinels(&watched).credentials("watcher", "rye")));
        node.readable().await;
        node.set("1", &["a"], "old").await;
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        watched.master.kill();
        watched.until_named(&watched.replica).await.unwrap();
        node.readable().await;
        node.set("1", &["a"], "new").await;
        assert_eq!(node.by_host("a").await.unwrap().name, "new");
    }
}
