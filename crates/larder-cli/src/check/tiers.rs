//! Tiered connectors: what a change waits for, and whether the server may wake the nodes that follow a cache.

use super::finding::Finding;
use larder::connector::redis::RedisOptions;
use larder::connector::tiered::Consistency;
use larder::{Config, ConnectorKind, ConnectorName, ConnectorOptions, TierOptions};
use redis::aio::MultiplexedConnection;
use std::time::Duration;

/// Asks whether the user may run the commands that wake followers, and runs none of them: a node sends the first, and a change's script calls the second.
/// Returns those that it may not run. A server that cannot tell refuses none.
pub(super) const MAY_WAKE: &str = "#!lua flags=no-writes
local refused, channel = {}, ARGV[1]
if not redis.acl_check_cmd then return refused end
local function try(...)
  local known, allowed = pcall(redis.acl_check_cmd, ...)
  if not (known and allowed) then refused[#refused + 1] = (...) end
end
try('SSUBSCRIBE', channel)
try('SPUBLISH', channel, '')
return refused
";

/// What caches on the tier of this name can count on.
pub(super) fn judge(config: &Config, name: &ConnectorName, tier: &TierOptions) -> Vec<Finding> {
    let over_database =
        config.connector(tier.over.clone()).map(ConnectorOptions::kind) == Some(ConnectorKind::Postgres);
    let tier = &tier.options;
    let validity = tier.validity;
    let bytes = if tier.max_bytes == 0 { String::new() } else { format!(" and {} bytes", tier.max_bytes) };
    let bounds = format!("each process holds at most {} objects{bytes} of each cache", tier.max_objects);
    let waits = match tier.consistency {
        Consistency::Bounded if over_database => {
            let unlisted = config.unlisted();
            let caches = config.caches().map(|(_, cache)| cache).chain(&unlisted);
            let deadline = caches.filter(|cache| cache.connector == *name).map(|cache| cache.feed_deadline).max();
            let deadline = deadline.unwrap_or_default();
            Finding::note(
                "consistency",
                format!(
                    "bounded: after a change another node may serve the earlier state until it has polled the feed, for up to {deadline:?} \
                     (feed_deadline)"
                ),
            )
        }
        Consistency::Bounded => Finding::note(
            "consistency",
            format!(
                "bounded: after a change another node may serve the earlier state for up to {validity:?} (validity)"
            ),
        ),
        Consistency::WaitOnly => {
            Finding::note("consistency", format!("wait-only: every change waits for {validity:?} (validity)"))
        }
        _ => Finding::ok(
            "consistency",
            format!(
                "strict: a change waits until every node has forgotten what it touched; for a node that died, {validity:?} at most (validity)"
            ),
        ),
    };
    vec![Finding::ok("bounds", bounds), waits]
}

/// The longest validity of the tiers over this connector that a cache is on. `None`: there are none.
pub(super) fn validity(config: &Config, connector: &ConnectorName) -> Option<Duration> {
    let unlisted = config.unlisted();
    let caches = config.caches().map(|(_, cache)| cache).chain(&unlisted);
    let tiers = caches.filter_map(|cache| match config.connector(&cache.connector) {
        Some(ConnectorOptions::Tiered(tier)) if tier.over == *connector => Some(tier.options.validity),
        _ => None,
    });
    tiers.max()
}

/// Whether the server wakes the nodes that follow a cache. Nothing is wrong where it does not: changes only take longer. `resp3`: whether the server speaks
/// the protocol in which it can wake anybody. With a hash tag, the channel is in its slot.
pub(super) async fn try_to_wake(
    connection: &mut MultiplexedConnection,
    config: &RedisOptions,
    (resp3, tag): (bool, Option<&str>),
    validity: Duration,
) -> Option<Finding> {
    let tag = tag.map(|tag| format!("{{{tag}}}")).unwrap_or_default();
    let mut asked = redis::cmd("EVAL");
    asked.arg(MAY_WAKE).arg(0).arg(format!("{}:larder+check{tag}", config.prefix));
    // A user that may not run scripts lacks more than this, which is told elsewhere.
    let refused: Vec<String> = asked.query_async(connection).await.ok()?;
    let (why, to_do) = match (resp3, refused.as_slice()) {
        (true, []) => return Some(Finding::ok("wake", "nodes that follow a cache are woken by its changes")),
        (false, _) => ("the server does not speak RESP3 with them (HELLO 3)".to_owned(), String::new()),
        (true, refused) => {
            let (user, prefix) = (config.username.as_deref().unwrap_or("default"), &config.prefix);
            let commands = refused.join(" and ");
            (
                format!("the user may not run {commands} on channels that begin with {prefix}:"),
                format!(". To mend it: ACL SETUSER {user} &{prefix}:* +ssubscribe +spublish"),
            )
        }
    };
    Some(Finding::note(
        "wake",
        format!(
            "nodes that follow a cache are not woken by its changes: {why}. They notice changes up to {} ms later (a third of the validity), and strict \
             changes wait for that{to_do}",
            validity.as_millis() / 3
        ),
    ))
}
