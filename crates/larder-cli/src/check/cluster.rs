//! Asks a cluster which nodes are its primaries, tries each of them out, and judges the cluster.

use super::finding::{Finding, Level};
use super::judge::{Facts, Use};
use super::server;
use crate::connection;
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{ClusterReport, cluster};
use std::time::Duration;

const TOPIC: &str = "cluster";
const SLOT: &str = "slot";

/// The facts of the first primary, and what was found of the cluster, of each primary, and of each of these caches.
pub(super) async fn try_out(config: &RedisOptions, how: Use, caches: &[String]) -> (Option<Facts>, Vec<Finding>) {
    let report = match cluster(config).await {
        Ok(Some(report)) => report,
        Ok(None) => return (None, Vec::new()),
        Err(error) => {
            let to_do = "start a node, or correct connectors.redis: address, cluster or url";
            return (None, vec![Finding::problem(TOPIC, error.to_string(), to_do)]);
        }
    };
    let mut findings = judge(&report);
    for cache in caches {
        findings.push(place(&report, config, cache).await);
    }
    let mut first = None;
    for (node, tag) in report.primaries() {
        let address = &node.address;
        let (facts, of_node) = server::try_out_server(&node, how, None, tag.as_deref()).await;
        // What is as it should be is said once.
        let told = of_node.into_iter().filter(|finding| first.is_none() || finding.level != Level::Ok);
        findings.extend(told.map(|finding| finding.of(address)));
        findings.extend(settings(&node, how).await.into_iter().map(|finding| finding.of(address)));
        first = first.or(facts);
    }
    (first, findings)
}

fn judge(report: &ClusterReport) -> Vec<Finding> {
    let (primaries, replicas, unserved) = (report.primaries().len(), report.replicas(), report.unserved());
    let mut findings = Vec::new();
    if unserved > 0 {
        findings.push(Finding::problem(
            TOPIC,
            format!("nobody serves {unserved} of the 16,384 slots: a cache in one of them is not read"),
            "let `redis-cli --cluster fix` give them to a primary",
        ));
    } else {
        findings.push(Finding::ok(
            TOPIC,
            format!("{primaries} primaries with {replicas} replicas in all serve every slot"),
        ));
    }
    if replicas < primaries {
        findings.push(Finding::note(
            TOPIC,
            "some primary has no replica: if it dies, its caches are away until it is back, and other caches notice nothing",
        ));
    }
    findings
}

/// The slot of a cache, and the primary that has it.
async fn place(report: &ClusterReport, config: &RedisOptions, cache: &str) -> Finding {
    let slot = report.slot_of(cache);
    let Some(primary) = report.primary_of(cache) else {
        return Finding::problem(
            SLOT,
            format!("the cache `{cache}` is in slot {slot}, which nobody serves: it is not read"),
            "let `redis-cli --cluster fix` give the slot to a primary",
        );
    };
    let clock = format!("{}:{{{cache}}}:c", config.prefix);
    let node = report.primaries().into_iter().map(|(node, _)| node).find(|node| node.address == primary);
    match is_there(node.as_ref().unwrap_or(config), &clock).await {
        // The name as it stands in the configuration may be spelt otherwise, and then the slot is another one.
        Some(false) => Finding::note(
            SLOT,
            format!(
                "the cache `{cache}` has no clock yet: if its services write the name exactly so, it will be in slot {slot}, on {primary}"
            ),
        ),
        Some(true) | None => Finding::ok(SLOT, format!("the cache `{cache}` is in slot {slot}, on {primary}")),
    }
}

/// Whether there is a key of this name. `None`: the node does not tell.
async fn is_there(node: &RedisOptions, key: &str) -> Option<bool> {
    let mut connection = connection::open(node).await.ok()?;
    let first = redis::cmd("GETRANGE").arg(key).arg(0).arg(0).query_async::<Vec<u8>>(&mut connection).await;
    first.ok().map(|first| !first.is_empty())
}

/// What the settings of a node cost. Nothing is said where the node does not tell them.
async fn settings(node: &RedisOptions, how: Use) -> Vec<Finding> {
    let Ok(mut connection) = connection::open(node).await else { return Vec::new() };
    let mut setting = async |name: &str| {
        let mut asked = redis::cmd("CONFIG");
        asked.arg("GET").arg(name);
        let told = asked.query_async::<Vec<String>>(&mut connection).await;
        told.ok().and_then(|told| told.into_iter().nth(1)).unwrap_or_default()
    };
    let mut findings = Vec::new();
    if setting("cluster-allow-reads-when-down").await == "yes" {
        findings.push(Finding::problem(
            TOPIC,
            "cluster-allow-reads-when-down is on: a primary that is cut off serves what was invalidated on its successor",
            "CONFIG SET cluster-allow-reads-when-down no",
        ));
    }
    if setting("cluster-require-full-coverage").await == "yes" {
        findings.push(Finding::note(
            TOPIC,
            "cluster-require-full-coverage is on: while one primary is dead and not replaced, no cache is read",
        ));
    }
    let timeout = setting("cluster-node-timeout").await.parse().map(Duration::from_millis).unwrap_or_default();
    if let Some(validity) = how.validity.filter(|validity| timeout > *validity) {
        findings.push(Finding::note(
            TOPIC,
            format!(
                "cluster-node-timeout is {timeout:?}, longer than the validity ({validity:?}): a primary that is cut off answers for so long, and a node that \
                 is cut off with it may serve what others have changed on its successor"
            ),
        ));
    }
    findings
}
