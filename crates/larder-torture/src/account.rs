//! A short history of an impossible answer: everything about its object, from the event that made the answer impossible to the read.

use super::checker::{Checker, Fault, Violation};
use super::objects::{Key, Kind};
use super::protocol::{Call, Forgotten, Outcome, Read};
use super::truth::digest;
use super::witness::Made;
use std::collections::HashMap;

/// The most reads of the same object in a history.
const READS: usize = 12;

/// The most other calls in a history.
const CALLS: usize = 16;

/// One line for each event, in the order in which the events began. Times are in seconds since `begun`.
pub(crate) fn history(checker: &Checker, violation: &Violation, faults: &[Made], begun: u64) -> Vec<String> {
    let read = &violation.read;
    let kind = read.key.kind;
    let call = violation.call.and_then(|place| checker.demands.call(place));
    let answer = read.answer;
    let number = answer.map_or(read.key.number, |answer| answer.number);
    let state = answer.and_then(|answer| checker.truth.state(kind, answer.number, answer.sequence));
    let mut keys: Vec<Key> = state.iter().flat_map(|state| state.keys()).collect();
    keys.push(read.key);
    // When the load began, or the event that made its answer impossible, whichever was first.
    let since = [
        answer.map(|answer| answer.born),
        call.map(|(_, call)| call.begun),
        violation.earlier.as_ref().map(|(_, read)| read.begun),
    ]
    .into_iter()
    .flatten()
    .min()
    .unwrap_or(read.begun);

    let mut lines: Vec<(u64, String)> = Vec::new();
    let first_change = answer.map_or(0, |answer| answer.sequence);
    let last_change = call.map_or(first_change, |(_, call)| call.sequence).max(first_change);
    let changes = checker.truth.changes(kind, number, first_change, last_change);
    let told = if changes.len() > 3 {
        changes.split_at(1).0.iter().chain(changes.split_at(changes.len() - 2).1).collect()
    } else {
        changes.iter().collect::<Vec<_>>()
    };
    for (sequence, hosts) in told {
        let what = match hosts {
            None => "deleted".to_owned(),
            Some(hosts) if kind == Kind::Instance => format!("hosts {hosts:?}"),
            Some(_) => "written".to_owned(),
        };
        lines.push((0, format!("{:>9}  source   change {sequence}: {what}", "")));
    }
    if let Some(answer) = answer {
        let line = format!(
            "{}  node {:<3} begins to load, or to write, what will be change {}",
            at(answer.born, begun),
            answer.by,
            answer.sequence
        );
        lines.push((answer.born, line));
    }
    let mut others: Vec<(u64, String)> = checker
        .demands
        .calls()
        .filter(|(place, (_, other))| {
            Some(**place) != violation.call
                && other.ended >= since
                && other.begun <= read.ended
                && Checker::concerns(other, kind, number, &keys)
        })
        .map(|(_, (node, other))| (other.begun, told_call(*node, other, begun, "")))
        .collect();
    others.sort();
    let skipped = others.len().saturating_sub(CALLS);
    lines.extend(others.into_iter().skip(skipped));
    if let Some((node, call)) = call {
        lines.push((call.begun, told_call(*node, call, begun, "   <- after this")));
    }
    let mut reads: Vec<(u64, String)> = checker
        .recent
        .iter()
        .filter(|(node, other)| {
            let told = |earlier: &(u32, Read)| earlier.0 == *node && earlier.1.ended == other.ended;
            !violation.earlier.as_ref().is_some_and(told)
                && other.begun >= since
                && other.ended <= read.begun
                && other.key.kind == kind
                && other.answer.map_or(other.key == read.key, |answer| answer.number == number)
        })
        .map(|(node, other)| (other.begun, told_read(*node, other, begun, "")))
        .collect();
    reads.sort();
    let skipped = reads.len().saturating_sub(READS);
    lines.extend(reads.into_iter().skip(skipped));
    if let Some((node, earlier)) = &violation.earlier {
        lines.push((earlier.begun, told_read(*node, earlier, begun, "   <- after this")));
    }
    for (time, node) in first_of_each(checker.clearings(kind, since, read.ended)) {
        lines.push((
            time,
            format!(
                "{}  node {node:<3} clears the cache: the server's history is another one, or a clearing had not ended",
                at(time, begun)
            ),
        ));
    }
    for fault in faults.iter().filter(|fault| fault.ended >= since && fault.begun <= read.ended) {
        let line = format!(
            "{}  fault    {} {} until {}",
            at(fault.begun, begun),
            fault.kind,
            fault.said,
            at(fault.ended, begun).trim()
        );
        lines.push((fault.begun, line));
    }
    lines.push((read.begun, told_read(violation.node, read, begun, "   <- this was impossible")));
    lines.sort_by_key(|(at, _)| *at);
    let mut history =
        vec![headline(violation, call.map(|(_, call)| call), state.as_ref().map(|state| digest(&state.hosts)))];
    history.extend(lines.into_iter().map(|(_, line)| line));
    history
}

fn headline(violation: &Violation, call: Option<&Forgotten>, hosts: Option<u64>) -> String {
    let read = &violation.read;
    let key = read.key;
    match violation.fault {
        Fault::Broken => format!("{key}: {}", violation.words),
        Fault::NeverWas => format!("{key}: the answer is a state that never was"),
        Fault::Mixture => format!(
            "{key}: the answer is a mixture: its keys are not those of its state ({:x} and {:x})",
            read.answer.map_or(0, |answer| answer.hosts),
            hosts.unwrap_or(0)
        ),
        Fault::OtherKey => format!("{key}: the answer is an object that does not list the key"),
        Fault::StaleState if read.answer.is_none() => {
            format!(
                "{key}: the answer is that there is nothing, but the key had led somewhere ever since a change that was completed"
            )
        }
        Fault::StaleState => format!("{key}: the answer is a state that was over since a completed change"),
        Fault::StaleBirth if call.is_some_and(|call| call.call == Call::Truncate) => {
            format!("{key}: the answer was loaded before a truncate that was completed")
        }
        Fault::StaleBirth => format!("{key}: the answer was loaded before it was forgotten"),
        Fault::BelowFloor => format!("{key}: a hit with a version below the one that an invalidation had demanded"),
        Fault::Lowered => format!("{key}: a hit with a version lower than one that was stored"),
    }
}

/// Keeps the first report of each clearing: a node reports a clearing again and again, until the cache can be read.
fn first_of_each(clearings: impl Iterator<Item = (u64, u32)>) -> impl Iterator<Item = (u64, u32)> {
    /// The reports of one clearing follow each other within this time, in ns.
    const APART: u64 = 1_000_000_000;
    let mut told_last: HashMap<u32, u64> = HashMap::new();
    clearings.filter(move |(time, node)| {
        let before = told_last.insert(*node, *time);
        before.is_none_or(|before| time.saturating_sub(before) > APART)
    })
}

fn at(time: u64, begun: u64) -> String {
    format!("{:>9.4}", (time as f64 - begun as f64) / 1e9)
}

fn told_call(node: u32, call: &Forgotten, begun: u64, mark: &str) -> String {
    let what = match call.call {
        Call::InvalidateBelow(version) => format!("{} {version}", call.call.name()),
        call => call.name().to_owned(),
    };
    let keys: Vec<String> = call.keys.iter().map(Key::to_string).collect();
    let because = if call.sequence == 0 { String::new() } else { format!(" because of change {}", call.sequence) };
    let outcome = match call.outcome {
        Outcome::Applied => "applied",
        Outcome::Deferred if call.call == Call::Update => "done or deferred",
        Outcome::Deferred => "deferred",
        Outcome::Dropped => "its caller went away",
    };
    let ended = at(call.ended, begun);
    let keys = if keys.is_empty() { String::new() } else { format!(" {}", keys.join(", ")) };
    let led = call.led.map_or_else(String::new, |led| format!(", which led to {}", led.to));
    format!("{}  node {node:<3} {what}{keys}{led}{because}: {outcome} at {}{mark}", at(call.begun, begun), ended.trim())
}

fn told_read(node: u32, read: &Read, begun: u64, mark: &str) -> String {
    let through = read.through.name();
    let answer = match read.answer {
        Some(answer) => format!("object {} at change {}", answer.number, answer.sequence),
        None => "nothing".to_owned(),
    };
    format!(
        "{}  node {node:<3} {through} {}: {answer} at {}{mark}",
        at(read.begun, begun),
        read.key,
        at(read.ended, begun).trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clearing_is_told_once_however_long_it_takes() {
        const MS: u64 = 1_000_000;
        let words = [(0, 1), (50 * MS, 1), (60 * MS, 2), (900 * MS, 1), (1_800 * MS, 1), (3_000 * MS, 1)];
        let told: Vec<_> = first_of_each(words.into_iter()).collect();
        assert_eq!(told, [(0, 1), (60 * MS, 2), (3_000 * MS, 1)]);
    }
}
