//! Asks the Sentinels of a connector which server is the master, and judges what they say.

use super::finding::Finding;
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{NamedMaster, SentinelReport, sentinels};

/// The master, and what was found. `None`: the connector names no Sentinels.
pub(super) async fn try_out(config: &RedisOptions) -> Option<(Option<NamedMaster>, Vec<Finding>)> {
    let name = config.sentinel.as_ref().map(|sentinel| sentinel.master.clone())?;
    match sentinels(config).await {
        Ok(report) => {
            let report = report?;
            Some((report.master.clone().ok(), judge(&name, &report)))
        }
        // Not reached: a configuration with such an option was refused.
        Err(error) => Some((None, vec![Finding::problem(TOPIC, error.to_string(), "correct the option")])),
    }
}

const TOPIC: &str = "sentinels";

fn judge(name: &str, report: &SentinelReport) -> Vec<Finding> {
    let mut findings = Vec::new();
    let all = report.answers.len();
    let answered = report.answers.iter().filter(|(_, answer)| answer.is_ok()).count();
    for (sentinel, answer) in &report.answers {
        match (answer, &report.master) {
            (Err(why), _) => findings.push(Finding::problem(
                TOPIC,
                format!("{sentinel} does not say which server is the master: {why}"),
                "start this Sentinel, or correct connectors.redis.sentinel",
            )),
            (Ok(named), Ok(master)) if named.address != master.address => findings.push(Finding::note(
                TOPIC,
                format!(
                    "{sentinel} names {} (config epoch {}), another than larder believes: it has not heard of the last failover, or is \
                     cut off from the others",
                    named.address, named.epoch
                ),
            )),
            _ => {}
        }
    }
    match &report.master {
        Ok(NamedMaster { address, epoch, .. }) => findings.push(Finding::ok(
            TOPIC,
            format!("{answered} of {all} answer; the master {name} is {address} (config epoch {epoch})"),
        )),
        // Each Sentinel has a finding of its own, if none has answered.
        Err(_) if answered == 0 => {}
        Err(why) => {
            findings.push(Finding::problem(TOPIC, why.clone(), "let the Sentinels reach each other, and try again"));
        }
    }
    if all < 3 && answered > 0 {
        findings.push(Finding::note(
            TOPIC,
            "fewer than three are given: where one is wrong or away, no majority shows who is right. Give every Sentinel of this master",
        ));
    }
    findings
}
