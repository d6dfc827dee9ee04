//! Asks a Redis or Valkey server for the facts that [`judge`](super::judge) needs.

use super::cluster;
use super::finding::Finding;
use super::judge::{self, Facts, Use};
use super::rights;
use super::sentinels;
use super::tiers;
use crate::connection;
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{CertificateEnd, NamedMaster};
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::time::Instant;

/// How many PINGs are measured.
const PINGS: usize = 21;

/// Asks the server for its facts, tests larder's rights, and judges both. In a cluster, also says where these caches are.
pub(super) async fn try_out(config: &RedisOptions, how: Use, caches: &[String]) -> (Option<Facts>, Vec<Finding>) {
    if config.cluster.is_some() {
        return cluster::try_out(config, how, caches).await;
    }
    let (master, mut findings) = match sentinels::try_out(config).await {
        None => (None, Vec::new()),
        Some((Some(master), findings)) => (Some(master), findings),
        Some((None, findings)) => return (None, findings),
    };
    let (facts, of_server) = try_out_server(config, how, master, None).await;
    findings.extend(of_server);
    (facts, findings)
}

/// `tag`: in a cluster, the hash tag of keys that are on this node.
pub(super) async fn try_out_server(
    config: &RedisOptions,
    how: Use,
    master: Option<NamedMaster>,
    tag: Option<&str>,
) -> (Option<Facts>, Vec<Finding>) {
    let (mut connection, certificates) = match connection::open_and_look(config).await {
        Ok(connected) => connected,
        Err(error) => return (None, vec![unreachable(&error, config)]),
    };
    // A server that wants a password, or one that hangs, accepts the connection. The first command shows the trouble.
    if let Err(error) = redis::cmd("PING").exec_async(&mut connection).await {
        return (None, vec![unreachable(&error, config)]);
    }
    let mut findings = vec![Finding::ok("reachable", format!("it answers at {}", config.place()))];
    let mut facts = match ask(&mut connection, config).await {
        Ok(facts) => facts,
        Err(error) => return (None, vec![unreachable(&error, config)]),
    };
    let ends = |end: Option<CertificateEnd>| end.map(|end| end.day());
    if facts.mode == "sentinel" {
        findings.extend(judge::mode(&facts));
        return (Some(facts), findings);
    }
    facts.master = master.as_ref().map(|master| master.address.to_string());
    facts.config_epoch = master.map(|master| master.epoch);
    facts.certificate_ends = certificates.and_then(|certificates| ends(certificates.server));
    facts.client_certificate_ends = certificates.and_then(|certificates| ends(certificates.client));
    findings.extend(judge::encryption(certificates, config));
    let rights = rights::try_out(&mut connection, config, tag).await;
    if facts.role.is_empty() && rights.read_only {
        // The server does not report its role, but refuses writes as a replica does.
        facts.role = "slave".to_owned();
    }
    findings.extend(judge::server(&facts, config, how));
    findings.extend(rights.findings);
    if let Some(validity) = how.validity {
        let way = (facts.resp3 == Some(true), tag);
        findings.extend(tiers::try_to_wake(&mut connection, config, way, validity).await);
    }
    (Some(facts), findings)
}

/// Why a server cannot be used, and what to do. `None` if it answers.
pub(crate) async fn why_unreachable(config: &RedisOptions) -> Option<String> {
    let answered = async {
        let mut connection = connection::open(config).await?;
        redis::cmd("PING").exec_async(&mut connection).await
    };
    let Finding { text, to_do, .. } = unreachable(&answered.await.err()?, config);
    Some(to_do.map_or_else(|| text.to_string(), |to_do| format!("{text}; {to_do}")))
}

async fn ask(connection: &mut MultiplexedConnection, config: &RedisOptions) -> Result<Facts, RedisError> {
    let mut pings = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let begun = Instant::now();
        redis::cmd("PING").exec_async(connection).await?;
        pings.push(begun.elapsed());
    }
    pings.sort_unstable();
    let mut info = String::new();
    for section in ["server", "replication", "memory", "persistence"] {
        // The user may lack the right to ask, or the server may not have the section. Then its facts are missing.
        if let Ok(text) = redis::cmd("INFO").arg(section).query_async::<String>(connection).await {
            info.push_str(&text);
        }
    }
    let mut facts = read(&info);
    let save = redis::cmd("CONFIG").arg("GET").arg("save").query_async::<Vec<String>>(connection).await;
    facts.snapshots = save.ok().and_then(|save| save.get(1).map(|rules| !rules.is_empty()));
    facts.resp3 = match connection::greet_in_resp3(config).await {
        Ok(()) => Some(true),
        // The server has answered that it does not know RESP3.
        Err(error) if matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError)) => Some(false),
        Err(error) if matches!(error.code(), Some("NOPROTO")) => Some(false),
        Err(_) => None,
    };
    facts.ping_ms = pings.get(PINGS / 2).map(|median| median.as_secs_f64() * 1e3);
    facts.pings = pings;
    Ok(facts)
}

/// A field of the answer to INFO.
pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The server's name and version, from its answer to INFO: `Redis 7.0.15`. Empty if the answer lacks them.
pub(crate) fn name(info: &str) -> String {
    match (valkey(info), field(info, "redis_version")) {
        (Some(version), _) => format!("Valkey {version}"),
        (None, Some(version)) => format!("Redis {version}"),
        (None, None) => String::new(),
    }
}

fn valkey(info: &str) -> Option<&str> {
    let named = || field(info, "redis_version").filter(|_| field(info, "server_name") == Some("valkey"));
    field(info, "valkey_version").or_else(named)
}

/// What the replica that is furthest behind says: `slave0:ip=…,port=…,state=online,offset=…,lag=1`.
fn replica_lag(info: &str) -> Option<u64> {
    let replicas = info.lines().filter(|line| line.starts_with("slave") && line.contains("state="));
    replicas.filter_map(|line| line.split(',').find_map(|part| part.strip_prefix("lag="))?.trim().parse().ok()).max()
}

/// Reads the answers to INFO.
fn read(info: &str) -> Facts {
    let field = |name: &str| field(info, name);
    let text = |name: &str| field(name).unwrap_or_default().to_owned();
    Facts {
        name: name(info),
        version: field("redis_version").and_then(|version| {
            let mut parts = version.split('.').map(|part| part.parse().ok());
            Some((parts.next()??, parts.next()??))
        }),
        valkey: valkey(info).is_some(),
        mode: field("server_mode").map_or_else(|| text("redis_mode"), str::to_owned),
        run_id: field("run_id").is_some(),
        role: text("role"),
        replicas: field("connected_slaves").and_then(|count| count.parse().ok()),
        replica_lag_s: replica_lag(info),
        maxmemory: field("maxmemory").and_then(|bytes| bytes.parse().ok()),
        policy: text("maxmemory_policy"),
        append_only: field("aof_enabled").map(|enabled| enabled == "1"),
        last_save_failed: field("rdb_last_bgsave_status") == Some("err"),
        ..Facts::default()
    }
}

/// Why a server cannot be used at all, and what to do.
fn unreachable(error: &RedisError, config: &RedisOptions) -> Finding {
    let address = config.place();
    match error.code() {
        Some("WRONGPASS") => {
            let user = config.username.as_ref().map_or("the default user".to_owned(), |user| format!("user {user}"));
            return Finding::problem(
                "login",
                format!("the server refuses the password of {user}: {}", said(error)),
                "correct connectors.redis.password (or password_file) and username",
            );
        }
        Some("NOAUTH") => {
            return Finding::problem(
                "login",
                "the server wants a password, but none is configured",
                "set connectors.redis.password, or password_file",
            );
        }
        Some("LOADING") => {
            return Finding::problem("reachable", "the server is still loading its data", "try again in a while");
        }
        Some("NOPERM") => {
            return Finding::problem(
                "login",
                format!("the login succeeds, but the user lacks the rights for the first commands: {}", said(error)),
                rights::grant(config),
            );
        }
        _ => {}
    }
    match error.detail() {
        Some(detail) if detail.contains("without any password configured") => {
            return Finding::problem(
                "login",
                "a password is configured, but the server has none",
                "remove connectors.redis.password, or give the server its password (requirepass)",
            );
        }
        Some(detail) if detail.contains("unknown command") && detail.to_lowercase().contains("select") => {
            return Finding::problem(
                "mode",
                format!("{address} has no databases, as a Sentinel has none: {}", said(error)),
                "give a Sentinel in connectors.redis.sentinel, among the hosts; or set connectors.redis.database to 0",
            );
        }
        Some(detail) if detail.contains("DB index") => {
            return Finding::problem(
                "database",
                format!("the server has no database {}: {}", config.database, said(error)),
                "set connectors.redis.database to one that exists; 0 always does",
            );
        }
        _ => {}
    }
    if error.is_timeout() {
        return Finding::problem(
            "reachable",
            format!("no answer from {address} within {:?} (connect_timeout)", config.connect_timeout),
            "check whether the server hangs, and whether the network between here and the server drops packets",
        );
    }
    if config.tls.is_some() && error.kind() == ErrorKind::Io && error.to_string().contains("certificate") {
        return Finding::problem(
            "tls",
            error.to_string(),
            "see connectors.redis.tls: ca_file, cert_file, key_file, server_name",
        );
    }
    if config.tls.is_none() && error.is_connection_dropped() {
        return Finding::problem(
            "reachable",
            format!("{address} closes the connection without an answer: it may expect TLS, or be ending"),
            "if this is a port for TLS, give rediss:// in the URL, or set connectors.redis.tls",
        );
    }
    let what = match error.kind() {
        ErrorKind::Io => format!("cannot connect to {address}: {error}"),
        ErrorKind::Parse => format!("what answers at {address} is no Redis or Valkey server, or it expects TLS"),
        _ => format!("{address} refuses the connection: {}", said(error)),
    };
    Finding::problem(
        "reachable",
        what,
        "start the server, or correct connectors.redis: url, address, socket or sentinel",
    )
}

/// The text of the server's error, its code first.
pub(super) fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replica_that_is_furthest_behind_is_found() {
        let info = "connected_slaves:2\r\nslave0:ip=h,port=1,state=online,offset=5,lag=0\r\nslave1:ip=h,port=2,state=online,offset=3,lag=12\r\n";
        assert_eq!(replica_lag(info), Some(12));
        assert_eq!(
            replica_lag("slave_repl_offset:3\r\nslave0:ip=h,port=1,state=wait_bgsave,offset=0,lag=-1\r\n"),
            None
        );
    }

    #[test]
    fn info_is_read() {
        let redis = read(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\nrole:master\r\n\
             connected_slaves:2\r\nmaxmemory:1048576\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\nrdb_last_bgsave_status:err\r\n",
        );
        let expected = Facts {
            name: "Redis 7.0.15".to_owned(),
            version: Some((7, 0)),
            mode: "standalone".to_owned(),
            run_id: true,
            role: "master".to_owned(),
            replicas: Some(2),
            maxmemory: Some(1 << 20),
            policy: "allkeys-lru".to_owned(),
            append_only: Some(true),
            last_save_failed: true,
            ..Facts::default()
        };
        assert_eq!(redis, expected);
        let valkey =
            read("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\nserver_mode:cluster\r\n");
        assert_eq!((valkey.name.as_str(), valkey.valkey, valkey.mode.as_str()), ("Valkey 8.1.1", true, "cluster"));
        assert_eq!(read(""), Facts::default());
    }
}
