//! Judges what a server's facts mean for larder. Pure functions, so that each case can be tested without a server.

use super::finding::Finding;
use larder::connector::memory::MemoryOptions;
use larder::connector::redis::inspect::CertificateEnds;
use larder::connector::redis::{Address, RedisOptions};
use serde::Serialize;
use std::net::IpAddr;
use std::time::Duration;

/// The oldest Redis whose scripts can remove objects and write fences while the server is out of memory.
const OLDEST: (u32, u32) = (7, 0);

/// The memory of one cache's clock on the server, in bytes: 131,584, and what the server's allocator adds.
pub(super) const CLOCK: u64 = 164_000;

/// A `maxmemory` below this leaves no room for caches: an empty server takes about a megabyte.
const TINY: u64 = 2 << 20;

/// What a server reports about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Facts {
    /// Name and version, such as `Redis 7.0.15`. Empty if the server does not say.
    pub(super) name: String,
    /// The version of Redis that the server is, or claims to be compatible with. `None` if the server does not say.
    pub(super) version: Option<(u32, u32)>,
    pub(super) valkey: bool,
    /// `standalone`, `cluster` or `sentinel`. Empty if the server does not say.
    pub(super) mode: String,
    /// Whether the server speaks the third version of the protocol. `None` if that is not known.
    pub(super) resp3: Option<bool>,
    /// Whether the server identifies its process. By that larder recognises a restart.
    pub(super) run_id: bool,
    /// `master` or `slave`. Empty if the server does not say.
    pub(super) role: String,
    /// The server that the Sentinels name as the master. `None` without Sentinels.
    pub(super) master: Option<String>,
    /// The config epoch of that master: it grows with each failover.
    pub(super) config_epoch: Option<u64>,
    /// The number of connected replicas. `None` if the server does not say.
    pub(super) replicas: Option<u32>,
    /// For how long the replica that is furthest behind has not said that it has what it was sent, in seconds. `None` if there is none, or the server does
    /// not say.
    pub(super) replica_lag_s: Option<u64>,
    /// In bytes. 0: no limit. `None` if the server does not say.
    pub(super) maxmemory: Option<u64>,
    #[serde(rename = "maxmemory_policy")]
    pub(super) policy: String,
    /// Whether the server writes snapshots. `None` if the user may not ask.
    pub(super) snapshots: Option<bool>,
    /// Whether the server writes a log of its commands. `None` if the user may not ask.
    pub(super) append_only: Option<bool>,
    pub(super) last_save_failed: bool,
    /// The day on which the server's certificate ends. `None` without TLS.
    pub(super) certificate_ends: Option<String>,
    /// The day on which the client's certificate ends. `None` without one.
    pub(super) client_certificate_ends: Option<String>,
    /// The median time of a PING, in milliseconds.
    pub(super) ping_ms: Option<f64>,
    /// The times of all PINGs, sorted.
    #[serde(skip)]
    pub(super) pings: Vec<Duration>,
}

/// How the configuration uses the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// Whether any cache on the server has a max age. Only then do index keys have an expiry.
    pub(super) max_age: bool,
    /// The longest validity of the memories in front of the server. `None`: there are none.
    pub(super) validity: Option<Duration>,
}

pub(super) fn server(facts: &Facts, config: &RedisOptions, how: Use) -> Vec<Finding> {
    let mut findings = vec![version(facts), protocol(facts)];
    if config.cluster.is_none() {
        findings.extend(mode(facts));
    }
    findings.push(role(facts));
    findings.extend(confirmation(facts, config.wait_replicas));
    findings.extend(lag(facts, config.wait_replicas));
    findings.push(latency(facts, config.operation_timeout));
    findings.push(eviction(facts, how));
    findings.extend(persistence(facts));
    findings
}

/// Whether the connection is encrypted, and until when its certificates are valid. `None`: it does not leave this machine.
pub(super) fn encryption(certificates: Option<CertificateEnds>, config: &RedisOptions) -> Option<Finding> {
    let Some(certificates) = certificates else {
        let here = |address: &Address| match address {
            Address::Tcp { host, .. } => host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
            Address::Unix(_) => true,
        };
        // Servers that are watched are on other machines, unless their Sentinels are here.
        let here =
            config.sentinel.as_ref().map_or_else(|| here(&config.address), |sentinel| sentinel.hosts.iter().all(here));
        let text = "none: whoever is on the way can read the password and the objects, and change them";
        return (!here).then(|| Finding::note("tls", text));
    };
    let both = [("the server's", certificates.server), ("the client's", certificates.client)];
    let known = || both.into_iter().filter_map(|(whose, end)| Some((whose, end?)));
    let said = known().map(|(whose, end)| format!("{whose} certificate {end}")).collect::<Vec<_>>().join("; ");
    if known().any(|(_, end)| end.is_near()) {
        return Some(Finding::note("tls", format!("{said}: renew what ends")));
    }
    Some(Finding::ok("tls", if said.is_empty() { "encrypted".to_owned() } else { said }))
}

/// A connector of the program's own, which this command cannot test.
pub(super) fn own() -> Vec<Finding> {
    vec![Finding::note(
        "connector",
        "the program must provide it (`Caches::builder().connector(…)`); a program without it cannot open the configuration",
    )]
}

/// The caches on this connector are switched off.
pub(super) fn none() -> Vec<Finding> {
    vec![Finding::note("connector", "switched off: nothing is stored, and every object is loaded each time")]
}

/// The memory connector has nothing that could be out of order.
pub(super) fn memory(config: &MemoryOptions) -> Vec<Finding> {
    let bytes = match config.max_bytes {
        0 => String::new(),
        bytes => format!(" and {bytes} bytes"),
    };
    vec![
        Finding::ok("bounds", format!("each cache holds at most {} objects{bytes}", config.max_objects)),
        Finding::note(
            "reach",
            "an invalidation reaches one process only; with several nodes, the copies of the others live until their ages end",
        ),
    ]
}

fn version(facts: &Facts) -> Finding {
    match facts.version {
        None => Finding::note(
            "version",
            "not known, nor whether the server is part of a cluster: it does not answer INFO, or the answer lacks both",
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
    match facts.resp3 {
        Some(true) => Finding::ok("protocol", "RESP3"),
        Some(false) => Finding::note(
            "protocol",
            "RESP2: the server, or a proxy in front of it, does not know HELLO 3; larder works with RESP2, too",
        ),
        None => Finding::note(
            "protocol",
            "not known: the answer to HELLO 3 was neither yes nor no; larder tries RESP3 first",
        ),
    }
}

pub(super) fn mode(facts: &Facts) -> Option<Finding> {
    let what = match facts.mode.as_str() {
        "cluster" => Finding::problem(
            "mode",
            "the server is a node of a cluster",
            "set connectors.redis.cluster to a list of further nodes, or to [], or give a URL that begins with redis-cluster://",
        ),
        "sentinel" => Finding::problem(
            "mode",
            "this is a Sentinel, which stores nothing, and not the server that it watches",
            "give it in connectors.redis.sentinel: among the hosts, with the name of the master",
        ),
        _ => return None,
    };
    Some(what)
}

fn role(facts: &Facts) -> Finding {
    match (facts.role.as_str(), facts.replicas) {
        ("slave", _) => Finding::problem(
            "role",
            "the server is a replica: what is written there is refused, or lost when its master goes on, so larder does not use it",
            "give the master's address, or an address that always leads to the master",
        ),
        ("master", Some(0)) => Finding::ok("role", "master, without replicas"),
        ("master", Some(replicas)) => Finding::note(
            "role",
            format!(
                "master, with {replicas} connected {}; after a failover larder clears its caches, because the new master may lack the \
                 newest invalidations",
                if replicas == 1 { "replica" } else { "replicas" }
            ),
        ),
        ("master", None) => Finding::ok("role", "master; it does not say how many replicas it has"),
        _ => Finding::note("role", "not known whether it is a master: the server does not answer INFO replication"),
    }
}

/// In strict mode: whether enough replicas are connected to confirm a change.
fn confirmation(facts: &Facts, wanted: u32) -> Option<Finding> {
    let asks = format!("wait_replicas asks for {wanted}");
    match (wanted, facts.replicas) {
        (0, _) => None,
        (_, None) => Some(Finding::note("replicas", format!("not known how many are connected; {asks}"))),
        (_, Some(connected)) if connected < wanted => Some(Finding::problem(
            "replicas",
            format!(
                "{asks}, and {connected} are connected: every change is deferred, and nodes that change something do not read"
            ),
            "connect one replica more than wait_replicas asks for, or lower connectors.redis.wait_replicas",
        )),
        (_, Some(connected)) if connected == wanted => Some(Finding::note(
            "replicas",
            format!("{asks}, and just as many are connected: while one is away, every change is deferred; add one"),
        )),
        (_, Some(connected)) => Some(Finding::ok("replicas", format!("{asks}, and {connected} are connected"))),
    }
}

/// A replica that is well says each second what it has.
const LAG: u64 = 5;

/// Whether a replica is far behind.
fn lag(facts: &Facts, wanted: u32) -> Option<Finding> {
    let seconds = facts.replica_lag_s.filter(|seconds| *seconds >= LAG)?;
    let waits = if wanted > 0 { " Changes are deferred where too few others confirm them." } else { "" };
    Some(Finding::note(
        "replicas",
        format!(
            "a replica has not said for {seconds} s what it has: after a failover to it, as much that was set is gone.{waits} Find out what keeps it,              or the network to it, busy"
        ),
    ))
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
                "{measured}; an operation may take {:.0} ms (operation_timeout), so many would time out",
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
                  Or let every invalidation name the primary key, too, which always finds the object";
    let hides =
        "an index key can go while its object stays, and an invalidation through that key then misses the object";
    match (maxmemory, policy) {
        (0, "noeviction") => {
            Finding::note("eviction", "no memory limit (maxmemory 0): the server can grow until the machine kills it")
        }
        (0, policy) => Finding::note(
            "eviction",
            format!("no memory limit (maxmemory 0), so {policy} evicts nothing; with a limit, noeviction suits larder"),
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
                "{policy} at {limit} bytes: without a max age, index keys and the clock have no expiry, so only objects can be evicted"
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
                "{policy} at {limit} bytes evicts any key: {hides}. The clock of a cache can go as well: larder notices that, and clears the \
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
    let ways = [("snapshots", facts.snapshots), ("its commands (appendonly)", facts.append_only)];
    let which = |what: Option<bool>| {
        let named: Vec<&str> = ways.iter().filter(|(_, kept)| *kept == what).map(|(name, _)| *name).collect();
        (!named.is_empty()).then(|| named.join(" or "))
    };
    findings.push(match (which(Some(true)), which(None), facts.run_id) {
        (None, None, _) => {
            Finding::ok("persistence", "nothing is written to disk; after a restart the caches are empty")
        }
        (None, Some(unknown), true) => Finding::note(
            "persistence",
            format!(
                "not known whether the server keeps {unknown}: the user may not ask (CONFIG GET save, INFO persistence). If it does, \
                 larder clears its caches after a restart, so they gain nothing from it"
            ),
        ),
        (None, Some(unknown), false) => Finding::note(
            "persistence",
            format!(
                "not known whether the server keeps {unknown}, nor which process it is (INFO): if it does, larder recognises a restart \
                 only if the data are older than what this node has seen. Let larder's user run INFO, or make sure that nothing is kept"
            ),
        ),
        (Some(kept), _, true) => Finding::note(
            "persistence",
            format!(
                "the server keeps {kept}; the data after a restart may be older than invalidations that were lost, so larder then clears \
                 its caches, and they gain nothing from it"
            ),
        ),
        (Some(kept), _, false) => Finding::problem(
            "persistence",
            format!(
                "the server keeps {kept} and does not identify its process (run_id), so larder recognises a restart only if \
                 the data are older than what this node has seen"
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
            resp3: Some(true),
            run_id: true,
            role: "master".to_owned(),
            replicas: Some(0),
            snapshots: Some(false),
            append_only: Some(false),
            maxmemory: Some(1 << 30),
            policy: "noeviction".to_owned(),
            pings: vec![Duration::from_micros(80); 9],
            ..Facts::default()
        }
    }

    fn judged(facts: &Facts, max_age: bool) -> Vec<Finding> {
        server(facts, &RedisOptions::default(), Use { max_age, validity: None })
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
            snapshots: Some(true),
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
        let kept = Facts { snapshots: Some(true), ..healthy() };
        assert_eq!(levels(&kept, false, "persistence"), [Level::Note]);
        assert_eq!(levels(&Facts { run_id: false, ..kept }, false, "persistence"), [Level::Problem]);
        assert_eq!(levels(&Facts { run_id: false, ..healthy() }, false, "persistence"), [Level::Ok]);
    }

    #[test]
    fn what_is_not_known_is_not_said_to_be_well() {
        let untold = Facts { pings: healthy().pings, ..Facts::default() };
        let findings = judged(&untold, true);
        let known: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Ok).collect();
        assert!(known.iter().all(|finding| finding.topic == "latency"), "{known:?}");
        let texts: Vec<_> =
            findings.iter().map(|finding| (finding.topic, finding.text.contains("not known"))).collect();
        for topic in ["version", "protocol", "role", "persistence"] {
            assert!(texts.contains(&(topic, true)), "{topic}: {texts:?}");
        }
        for (snapshots, append_only) in [(None, Some(false)), (Some(false), None), (None, None)] {
            let facts = Facts { snapshots, append_only, ..healthy() };
            assert_eq!(levels(&facts, true, "persistence"), [Level::Note]);
            assert_eq!(levels(&Facts { run_id: false, ..facts }, true, "persistence"), [Level::Note]);
        }
        let log = Facts { append_only: Some(true), snapshots: None, run_id: false, ..healthy() };
        assert_eq!(levels(&log, true, "persistence"), [Level::Problem], "what is known is enough");
    }

    #[test]
    fn strict_mode_needs_replicas() {
        let of = |replicas, wait_replicas| {
            let config = RedisOptions::default().wait_replicas(wait_replicas);
            let findings = server(&Facts { replicas, ..healthy() }, &config, Use { max_age: false, validity: None });
            findings.iter().filter(|one| one.topic == "replicas").map(|one| one.level).collect::<Vec<_>>()
        };
        assert_eq!(of(Some(0), 0), []);
        assert_eq!(of(Some(1), 2), [Level::Problem]);
        assert_eq!(of(Some(2), 2), [Level::Note]);
        assert_eq!(of(Some(3), 2), [Level::Ok]);
        assert_eq!(of(None, 2), [Level::Note]);
    }

    #[test]
    fn a_replica_that_is_far_behind_is_told() {
        let of = |replica_lag_s| levels(&Facts { replicas: Some(1), replica_lag_s, ..healthy() }, true, "replicas");
        assert_eq!((of(None), of(Some(1)), of(Some(5))), (vec![], vec![], vec![Level::Note]));
    }

    #[test]
    fn a_slow_server_is_a_problem_by_the_time_it_is_given() {
        let slow = Facts { pings: vec![Duration::from_millis(20); 5], ..healthy() };
        assert_eq!(levels(&slow, false, "latency"), [Level::Ok]);
        let hasty = RedisOptions::default().operation_timeout(Duration::from_millis(30));
        let findings = server(&slow, &hasty, Use { max_age: false, validity: None });
        assert!(findings.iter().any(|finding| finding.topic == "latency" && finding.level == Level::Problem));
    }
}
