//! Asks a cluster which nodes are its primaries, tries each of them out, and judges the cluster.

use super::finding::{Finding, Level};
use super::judge::{Facts, Use};
use super::server;
use crate::connection;
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{ClusterReport, cluster};

const TOPIC: &str = "cluster";

/// The facts of the first primary, and what was found of the cluster and of each primary.
pub(super) async fn try_out(config: &RedisOptions, how: Use) -> (Option<Facts>, Vec<Finding>) {
    let report = match cluster(config).await {
        Ok(Some(report)) => report,
        Ok(None) => return (None, Vec::new()),
        Err(error) => {
            let to_do = "start a node, or correct connectors.redis: address, cluster or url";
            return (None, vec![Finding::problem(TOPIC, error.to_string(), to_do)]);
        }
    };
    let mut findings = judge(&report);
    let mut first = None;
    for (address, tag) in report.primaries() {
        let node = config.clone().address(address.clone());
        let (facts, of_node) = server::try_out_server(&node, how, None, tag.as_deref()).await;
        // What is as it should be is said once.
        let told = of_node.into_iter().filter(|finding| first.is_none() || finding.level != Level::Ok);
        findings.extend(told.map(|finding| finding.of(&address)));
        findings.extend(settings(&node).await.into_iter().map(|finding| finding.of(&address)));
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

/// What the settings of a node cost. Nothing is said where the node does not tell them.
async fn settings(node: &RedisOptions) -> Vec<Finding> {
    let Ok(mut connection) = connection::open(node).await else { return Vec::new() };
    let mut is_on = async |setting: &str| {
        let mut asked = redis::cmd("CONFIG");
        asked.arg("GET").arg(setting);
        let told = asked.query_async::<Vec<String>>(&mut connection).await;
        told.is_ok_and(|told| told.get(1).is_some_and(|value| value == "yes"))
    };
    let mut findings = Vec::new();
    if is_on("cluster-allow-reads-when-down").await {
        findings.push(Finding::problem(
            TOPIC,
            "cluster-allow-reads-when-down is on: a primary that is cut off serves what was invalidated on its successor",
            "CONFIG SET cluster-allow-reads-when-down no",
        ));
    }
    if is_on("cluster-require-full-coverage").await {
        findings.push(Finding::note(
            TOPIC,
            "cluster-require-full-coverage is on: while one primary is dead and not replaced, no cache is read",
        ));
    }
    findings
}
