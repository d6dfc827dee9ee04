//! Zitadel's settings, and what larder does with each of them. A further setting is one more row.

use super::values::{
    Time, boolean, integer, pointless_time, pool_number, pool_time, time, time_or, timeout, truth, unless_empty,
    zero_is_never,
};
use crate::config::tree::{Node, Value};

/// One of Zitadel's settings.
pub(super) struct Word {
    /// Its path below `Caches`, or below a cache.
    pub(super) path: &'static [&'static str],
    /// The settings of larder's that get its value, below `connectors` or below the cache.
    pub(super) becomes: &'static [&'static [&'static str]],
    pub(super) take: fn(&Node) -> Taken,
}

/// What becomes of a value.
pub(super) enum Taken {
    /// It is taken as it is.
    Keep,
    /// This value takes its place.
    As(Value),
    /// It is left out without a note: larder does this anyway, or reads it elsewhere.
    Drop,
    /// It has no effect here. The text says what larder does instead.
    Note(String),
    /// This value takes its place. The text says how it differs.
    AsNote(Value, String),
    /// It is refused. The text follows the path.
    Refuse(String),
}

pub(super) const REDIS: &[&str] = &["Connectors", "Redis"];
pub(super) const BREAKER: &[&str] = &["Connectors", "Redis", "CircuitBreaker"];

pub(super) const POOL: &str =
    "larder has no pool: all operations share one multiplexed connection, and `max_in_flight` caps them";
pub(super) const RETRIES: &str =
    "larder does not repeat an operation: a get that fails is a miss, an invalidation that fails waits in the journal";

pub(super) const CONNECTORS: &[Word] = &[
    Word { path: &["Connectors", "Memory", "Enabled"], becomes: &[], take: boolean },
    Word {
        path: &["Connectors", "Memory", "AutoPrune", "Interval"],
        becomes: &[&["memory", "prune_interval"]],
        take: zero_is_never,
    },
    Word {
        path: &["Connectors", "Memory", "AutoPrune", "TimeOut"],
        becomes: &[],
        take: |node| pointless_time(node, "pruning memory waits for nothing, so it has no time-out"),
    },
    Word { path: &["Connectors", "Postgres", "Enabled"], becomes: &[], take: boolean },
    // Zitadel has no such setting. It is larder's, for a service that reads Zitadel's file and cannot set a variable.
    Word { path: &["Connectors", "Postgres", "URL"], becomes: &[&["postgres", "url"]], take: unless_empty },
    Word {
        path: &["Connectors", "Postgres", "AutoPrune", "Interval"],
        becomes: &[&["postgres", "prune_interval"]],
        take: zero_is_never,
    },
    Word {
        path: &["Connectors", "Postgres", "AutoPrune", "TimeOut"],
        becomes: &[],
        take: |node| pointless_time(node, "larder prunes in small steps, and `operation_timeout` limits each of them"),
    },
    Word { path: &["Connectors", "Redis", "Enabled"], becomes: &[], take: boolean },
    // These are read in `Translation::server`: which of them apply depends on the others.
    Word { path: &["Connectors", "Redis", "URL"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Connectors", "Redis", "Network"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Connectors", "Redis", "Addr"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Connectors", "Redis", "ClientName"], becomes: &[&["redis", "client_name"]], take: unless_empty },
    Word { path: &["Connectors", "Redis", "Username"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Connectors", "Redis", "Password"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Connectors", "Redis", "DBOffset"], becomes: &[], take: |_| Taken::Drop },
    Word {
        path: &["Connectors", "Redis", "MaxRetries"],
        becomes: &[],
        take: |node| match integer(node) {
            None => Taken::Refuse(format!("is {}: give a number, -1 for no retries", node.shown())),
            Some(retries) if retries < 0 => Taken::Drop,
            Some(_) => Taken::Note(RETRIES.to_owned()),
        },
    },
    Word {
        path: &["Connectors", "Redis", "MinRetryBackoff"],
        becomes: &[],
        take: |node| pointless_time(node, RETRIES),
    },
    Word {
        path: &["Connectors", "Redis", "MaxRetryBackoff"],
        becomes: &[],
        take: |node| pointless_time(node, RETRIES),
    },
    Word {
        path: &["Connectors", "Redis", "DialTimeout"],
        becomes: &[&["redis", "connect_timeout"]],
        take: |node| timeout(node, "1s"),
    },
    Word {
        path: &["Connectors", "Redis", "ReadTimeout"],
        becomes: &[&["redis", "operation_timeout"]],
        take: |node| timeout(node, "100ms"),
    },
    Word {
        path: &["Connectors", "Redis", "WriteTimeout"],
        becomes: &[],
        take: |node| {
            let text = "ReadTimeout limits the whole operation, writing and reading";
            time_or(node, |_| Taken::Note(text.to_owned()))
        },
    },
    Word {
        path: &["Connectors", "Redis", "PoolFIFO"],
        becomes: &[],
        take: |node| match truth(node) {
            Some(_) => Taken::Note(POOL.to_owned()),
            None => boolean(node),
        },
    },
    Word { path: &["Connectors", "Redis", "PoolSize"], becomes: &[], take: pool_number },
    Word { path: &["Connectors", "Redis", "PoolTimeout"], becomes: &[], take: pool_time },
    Word { path: &["Connectors", "Redis", "MinIdleConns"], becomes: &[], take: pool_number },
    Word { path: &["Connectors", "Redis", "MaxIdleConns"], becomes: &[], take: pool_number },
    Word { path: &["Connectors", "Redis", "MaxActiveConns"], becomes: &[], take: pool_number },
    Word { path: &["Connectors", "Redis", "ConnMaxIdleTime"], becomes: &[], take: pool_time },
    Word { path: &["Connectors", "Redis", "ConnMaxLifetime"], becomes: &[], take: pool_time },
    Word {
        path: &["Connectors", "Redis", "EnableTLS"],
        becomes: &[&["redis", "tls"]],
        // False is Zitadel's default, and says nothing against a URL that begins with `rediss`.
        take: |node| match truth(node) {
            Some(true) => Taken::As(Value::Bool(true)),
            _ => boolean(node),
        },
    },
    Word {
        path: &["Connectors", "Redis", "DisableIndentity"],
        becomes: &[],
        take: |node| match truth(node) {
            Some(true) => Taken::Note(
                "larder tells the server its name and version; a server that does not know the command is no trouble"
                    .to_owned(),
            ),
            _ => boolean(node),
        },
    },
    Word {
        path: &["Connectors", "Redis", "IdentitySuffix"],
        becomes: &[],
        take: |node| match unless_empty(node) {
            Taken::Keep => Taken::Note("larder adds nothing to its name; ClientName names the connection".to_owned()),
            taken => taken,
        },
    },
    Word {
        path: &["Connectors", "Redis", "CircuitBreaker", "Interval"],
        becomes: &[&["redis", "breaker", "window"]],
        take: zero_is_never,
    },
    Word {
        path: &["Connectors", "Redis", "CircuitBreaker", "MaxConsecutiveFailures"],
        becomes: &[&["redis", "breaker", "consecutive_failures"]],
        take: |_| Taken::Keep,
    },
    Word {
        path: &["Connectors", "Redis", "CircuitBreaker", "MaxFailureRatio"],
        becomes: &[&["redis", "breaker", "failure_ratio"]],
        take: |_| Taken::Keep,
    },
    Word {
        path: &["Connectors", "Redis", "CircuitBreaker", "Timeout"],
        becomes: &[&["redis", "breaker", "open"], &["redis", "breaker", "open_max"]],
        take: |node| match time(node) {
            Ok(Time::Some(_)) => Taken::Keep,
            Ok(_) => Taken::As(Value::Text("60s".to_owned())),
            Err(refused) => refused,
        },
    },
    Word {
        path: &["Connectors", "Redis", "CircuitBreaker", "MaxRetryRequests"],
        becomes: &[&["redis", "breaker", "half_open"], &["redis", "breaker", "half_open_successes"]],
        take: |node| match integer(node) {
            Some(0) => Taken::As(Value::Integer(1)),
            _ => Taken::Keep,
        },
    },
];

pub(super) const CACHES: &[Word] = &[
    Word {
        path: &["Connector"],
        becomes: &[&["connector"]],
        take: |node| match &node.value {
            Value::Text(text) => match text.trim().to_ascii_lowercase() {
                off if off.is_empty() => Taken::As(Value::Text("none".to_owned())),
                name if ["memory", "redis", "postgres"].contains(&name.as_str()) => Taken::As(Value::Text(name)),
                _ => Taken::Refuse(format!(
                    "is {}: give memory, redis, postgres, or an empty text for none",
                    node.shown()
                )),
            },
            _ => Taken::Keep,
        },
    },
    Word { path: &["MaxAge"], becomes: &[&["max_age"]], take: zero_is_never },
    Word { path: &["LastUseAge"], becomes: &[&["last_use_age"]], take: zero_is_never },
    Word { path: &["Log", "Level"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Log", "AddSource"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Log", "Formatter", "Format"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Log", "Formatter", "Data"], becomes: &[], take: |_| Taken::Drop },
];
