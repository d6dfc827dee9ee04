//! What a server's facts mean for larder: pure functions, so that each case can be read and tested without a server.

use super::finding::Finding;
use larder::config::{MemoryConfig, RedisConfig};
use serde::Serialize;
use std::time::Duration;

/// The oldest Redis whose scripts can free and fence while it is out of memory.
const OLDEST: (u32, u32) = (7, 0);

/// What the clock of one cache takes on the server, in bytes.
const CLOCK: u64 = 132_000;

/// Below this an empty server, which takes about a megabyte, has no room for anything.
const TINY: u64 = 2 << 20;

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Facts {
    /// `Redis 7.0.15`, as far as it says.
    pub(super) name: String,
    /// Version of the Redis it is or claims to be compatible with; `None` where it does not say.
    pub(super) version: Option<(u32, u32)>,
    pub(super) valkey: bool,
    /// `standalone`, `cluster`, `sentinel`; empty where it does not say.
    pub(super) mode: String,
    pub(super) resp3: bool,
    /// Whether it identifies its process, by which larder recognises a restart.
    pub(super) run_id: bool,
    /// `master` or `slave`; empty where it does not say.
    pub(super) role: String,
    pub(super) replicas: u32,
    /// In bytes; 0: no limit, `None` where it does not say.
    pub(super) maxmemory: Option<u64>,
    #[serde(rename = "maxmemory_policy")]
    pub(super) policy: String,
    /// Whether it writes snapshots, or a log of its commands.
    pub(super) snapshots: bool,
    pub(super) append_only: bool,
    pub(super) last_save_failed: bool,
    /// The median.
    pub(super) ping_ms: Option<f64>,
    /// How long each took, sorted.
    #[serde(skip)]
    pub(super) pings: Vec<Duration>,
}

/// How the configuration uses the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// Whether any cache on it has a max age. Only then have index keys an expiry.
    pub(super) max_age: bool,
}

/// What follows from the facts.
pub(super) fn server(facts: &Facts, config: &RedisConfig, how: Use) -> Vec<Finding> {
    let mut findings = vec![version(facts), protocol(facts)];
    findings.extend(mode(facts));
    findings.extend(role(facts));
    findings.push(latency(facts, config.operation_timeout));
    findings.push(eviction(facts, how));
    findings.extend(persistence(facts));
    findings
}

/// The memory connector has nothing that could be out of order.
pub(super) fn memory(config: &MemoryConfig) -> Vec<Finding> {
    let bytes = match config.max_bytes {
        0 => String::new(),
        bytes => format!(" and {bytes} bytes"),
    };
    vec![
        Finding::ok("bounds", format!("each cache holds at most {} objects{bytes}", config.max_objects)),
        Finding::note(
            "reach",
            "an invalidation reaches this process only; where several nodes run, their copies live until their ages end",
        ),
    ]
}

fn version(facts: &Facts) -> Finding {
    match facts.version {
        None => Finding::note(
            "version",
            "the server does not say which version it is (INFO is not allowed, or says nothing)",
        ),
        Some(version) if version < OLDEST && !facts.valkey => Finding::problem(
            "version",
            format!("{} is too old: larder needs Redis {}.{} or later, or any Valkey", facts.name, OLDEST.0, OLDEST.1),
            "upgrade the server; until then larder does not use it",
        ),
        Some(_) => Finding::ok("version", facts.name.clone()),
    }
}

fn protocol(facts: &Facts) -> Finding {
    if facts.resp3 {
        Finding::ok("protocol", "RESP3")
    } else {
        Finding::note(
            "protocol",
            "RESP2: the server, or a proxy before it, does not know or allow HELLO 3; larder works with it all the same",
        )
    }
}

fn mode(facts: &Facts) -> Option<Finding> {
    let what = match facts.mode.as_str() {
        "cluster" => "the server is part of a cluster, in which a script may not touch the keys that larder's do",
        "sentinel" => "this is a sentinel, which stores nothing",
        _ => return None,
    };
    Some(Finding::problem("mode", what, "give a server that runs by itself (redis_mode: standalone)"))
}

fn role(facts: &Facts) -> Option<Finding> {
    match (facts.role.as_str(), facts.replicas) {
        ("slave", _) => Some(Finding::problem(
            "role",
            "the server is a replica: it refuses writes, so nothing can be stored or invalidated",
            "give the master's address, or one that leads to whoever is master",
        )),
        ("master", 0) => Some(Finding::ok("role", "master, without replicas")),
        ("master", replicas) => Some(Finding::note(
            "role",
            format!(
                "master, with {replicas} connected {}; after a failover larder clears its caches, because the new master may lack the \
                 newest invalidations",
                if replicas == 1 { "replica" } else { "replicas" }
            ),
        )),
        _ => None,
    }
}

fn latency(facts: &Facts, limit: Duration) -> Finding {
    let (Some(median), Some(slowest)) = (facts.pings.get(facts.pings.len() / 2), facts.pings.last()) else {
        return Finding::note("latency", "not measured");
    };
    let measured =
        format!("PING takes {:.2} ms, the slowest of {} took {:.2} ms", ms(*median), facts.pings.len(), ms(*slowest));
    if *median * 2 > limit {
        Finding::problem(
            "latency",
            format!(
                "{measured}; an operation may take {:.0} ms (operation_timeout), so many would be given up",
                ms(limit)
            ),
            "find out what is slow, or raise connectors.redis.operation_timeout",
        )
    } else {
        Finding::ok("latency", measured)
    }
}

fn eviction(facts: &Facts, how: Use) -> Finding {
    let Some(maxmemory) = facts.maxmemory else {
        return Finding::note(
            "eviction",
            "the server does not say what it does when memory is full; noeviction suits larder",
        );
    };
    let policy = facts.policy.as_str();
    let remedy = "set maxmemory-policy noeviction: when memory is full, larder then stores nothing new and goes on invalidating. \
                  Or have every invalidation name the primary key too, which always finds the object";
    let hides =
        "an index key can go while its object stays, and an invalidation through that key then misses the object";
    match (maxmemory, policy) {
        (0, "noeviction") => {
            Finding::note("eviction", "no limit to its memory (maxmemory 0): it can grow until the machine ends it")
        }
        (0, policy) => Finding::note(
            "eviction",
            format!(
                "no limit to its memory (maxmemory 0), so {policy} evicts nothing; with a limit, noeviction suits larder"
            ),
        ),
        (limit, "noeviction") if limit < TINY => Finding::problem(
            "eviction",
            format!(
                "maxmemory is {limit} bytes: an empty server takes about a million of them, and the clock of each cache {CLOCK}"
            ),
            "raise maxmemory",
        ),
        (limit, "noeviction") => Finding::ok(
            "eviction",
            format!(
                "noeviction at {limit} bytes: nothing is lost; when memory is full, larder stores nothing new and goes on invalidating"
            ),
        ),
        (limit, policy) if policy.starts_with("volatile-") && !how.max_age => Finding::ok(
            "eviction",
            format!(
                "{policy} at {limit} bytes: without a max age, index keys and the clock have no expiry, so it evicts objects at most"
            ),
        ),
        (limit, policy) if policy.starts_with("volatile-") => Finding::problem(
            "eviction",
            format!(
                "{policy} at {limit} bytes evicts keys that have an expiry, and with a max age index keys have one: {hides}"
            ),
            remedy,
        ),
        (limit, policy) => Finding::problem(
            "eviction",
            format!(
                "{policy} at {limit} bytes evicts any key: {hides}. The clock of a cache can go as well; that is noticed, and costs the \
                 whole cache"
            ),
            remedy,
        ),
    }
}

fn persistence(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.last_save_failed {
        findings.push(Finding::problem(
            "persistence",
            "the last snapshot failed; the server may refuse writes until one succeeds (stop-writes-on-bgsave-error), and larder then stores nothing",
            "see the server's log: its disk may be full. Or switch snapshots off: a cache does not need them",
        ));
    }
    let kept = match (facts.snapshots, facts.append_only) {
        (false, false) => None,
        (true, false) => Some("snapshots"),
        (false, true) => Some("its commands (appendonly)"),
        (true, true) => Some("snapshots and its commands (appendonly)"),
    };
    findings.push(match (kept, facts.run_id) {
        (None, _) => Finding::ok("persistence", "nothing is written to disk; after a restart the cache begins empty"),
        (Some(kept), true) => Finding::note(
            "persistence",
            format!(
                "the server keeps {kept}; what it brings back after a restart may be older than invalidations that are lost, so larder \
                 clears its caches then. They gain nothing from it"
            ),
        ),
        (Some(kept), false) => Finding::problem(
            "persistence",
            format!(
                "the server keeps {kept} and does not identify its process (run_id), so larder recognises a restart only where \
                 the data went back behind what this node has seen"
            ),
            "switch persistence off (save \"\", appendonly no), or let larder's user run INFO",
        ),
    });
    findings
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn healthy() -> Facts {
        Facts {
            name: "Redis 7.2.4".to_owned(),
            version: Some((7, 2)),
            mode: "standalone".to_owned(),
            resp3: true,
            run_id: true,
            role: "master".to_owned(),
            maxmemory: Some(1 << 30),
            policy: "noeviction".to_owned(),
            pings: vec![Duration::from_micros(80); 9],
            ..Facts::default()
        }
    }

    fn judged(facts: &Facts, max_age: bool) -> Vec<Finding> {
        server(facts, &RedisConfig::default(), Use { max_age })
    }

    fn levels(facts: &Facts, max_age: bool, topic: &str) -> Vec<Level> {
        let findings = judged(facts, max_age);
        findings.iter().filter(|finding| finding.topic == topic).map(|finding| finding.level).collect()
    }

    #[test]
    fn a_server_as_it_should_be_is_fine() {
        let findings = judged(&healthy(), true);
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
    }

    #[test]
    fn every_problem_says_what_to_do() {
        let facts = Facts {
            version: Some((6, 2)),
            mode: "cluster".to_owned(),
            role: "slave".to_owned(),
            policy: "allkeys-lru".to_owned(),
            last_save_failed: true,
            snapshots: true,
            run_id: false,
            pings: vec![Duration::from_millis(90)],
            ..healthy()
        };
        let findings = judged(&facts, true);
        let problems: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Problem).collect();
        assert_eq!(problems.len(), 7, "{findings:?}");
        assert!(problems.iter().all(|problem| problem.to_do.is_some()));
    }

    #[test]
    fn an_eviction_policy_matters_by_what_it_can_take() {
        let of = |policy: &str, maxmemory, max_age| {
            levels(&Facts { policy: policy.to_owned(), maxmemory, ..healthy() }, max_age, "eviction")
        };
        assert_eq!(of("noeviction", Some(1 << 30), true), [Level::Ok]);
        assert_eq!(of("noeviction", Some(1 << 20), true), [Level::Problem]);
        assert_eq!(of("noeviction", Some(0), true), [Level::Note]);
        assert_eq!(of("allkeys-lru", Some(0), true), [Level::Note]);
        for max_age in [false, true] {
            assert_eq!(of("allkeys-lfu", Some(1 << 30), max_age), [Level::Problem]);
        }
        assert_eq!(of("volatile-ttl", Some(1 << 30), true), [Level::Problem], "index keys have an expiry");
        assert_eq!(of("volatile-ttl", Some(1 << 30), false), [Level::Ok], "only objects can have one");
        assert_eq!(of("", None, true), [Level::Note]);
    }

    #[test]
    fn an_old_redis_is_a_problem_and_a_valkey_is_not() {
        let old = Facts { version: Some((6, 2)), ..healthy() };
        assert_eq!(levels(&old, false, "version"), [Level::Problem]);
        assert_eq!(levels(&Facts { valkey: true, ..old.clone() }, false, "version"), [Level::Ok]);
        assert_eq!(levels(&Facts { version: None, ..old }, false, "version"), [Level::Note]);
    }

    #[test]
    fn persistence_is_a_problem_only_where_a_restart_cannot_be_recognised() {
        let kept = Facts { snapshots: true, ..healthy() };
        assert_eq!(levels(&kept, false, "persistence"), [Level::Note]);
        assert_eq!(levels(&Facts { run_id: false, ..kept }, false, "persistence"), [Level::Problem]);
        assert_eq!(levels(&Facts { run_id: false, ..healthy() }, false, "persistence"), [Level::Ok]);
    }

    #[test]
    fn a_slow_server_is_a_problem_by_the_time_it_is_given() {
        let slow = Facts { pings: vec![Duration::from_millis(20); 5], ..healthy() };
        assert_eq!(levels(&slow, false, "latency"), [Level::Ok]);
        let hasty = RedisConfig { operation_timeout: Duration::from_millis(30), ..RedisConfig::default() };
        let findings = server(&slow, &hasty, Use { max_age: false });
        assert!(findings.iter().any(|finding| finding.topic == "latency" && finding.level == Level::Problem));
    }
}
