//! The story of the feed: a line for each thing that happened, and when each node knew.

use super::node::Known;
use super::watch::{Change, Seen};
use super::{Followed, FollowedError, PATIENCE};
use crate::instance::InstanceKey;
use serde::Serialize;
use std::time::{Duration, Instant};

/// What happened. Its serialised form is the output of `--json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Told {
    server: String,
    /// Whether everything went right.
    pub(crate) ok: bool,
    pub(crate) problems: Vec<String>,
    /// What happened, a line each.
    lines: Vec<String>,
    changes: Vec<Change>,
    lookups: u64,
    /// Lookups that were answered from memory.
    hits: u64,
    /// Answers that were judged: more than lookups, since the nodes are also asked when they know of a change.
    checked: u64,
    stale_reads: u64,
}

/// The number of the node that is cut off, from 0.
const CUT_OFF: usize = 1;

/// Plays the story. Calls `heard` with each line.
pub(crate) async fn tell(followed: &Followed, mut heard: impl FnMut(&str)) -> Result<Told, FollowedError> {
    let mut lines = Vec::new();
    let mut problems = Vec::new();
    let mut say = |line: String| {
        heard(&line);
        lines.push(line);
    };
    let first = followed.tables.first(1).await?.into_iter().next();
    let id = first.ok_or_else(|| FollowedError::NoInstance("at all".to_owned()))?.id;
    let readers = followed.read_steadily().await?;

    followed.in_memory(&id, followed.nodes.len()).await?;
    say(format!("Both nodes have {id} in memory, and read it all the time."));

    let number = followed.change(&id).await?;
    let change = followed.until(number, "both nodes know of a change by SQL", |nodes| nodes.iter().all(knows)).await?;
    say(change.sql.clone());
    say(format!("    Committed: {}.", known(&change)));

    followed.in_memory(&id, followed.nodes.len()).await?;
    let cut_off = followed.nodes.get(CUT_OFF).ok_or(FollowedError::InVain { what: "there is a second node" })?;
    cut_off.cut_off(true);
    say("Node 2 is cut off from the feed.".to_owned());

    let number = followed.change(&id).await?;
    let what = "node 1 knows of a change, and node 2 serves nothing older";
    let settled =
        |nodes: &[Seen]| nodes.iter().all(|seen| seen.not_served_ms.is_some()) && nodes.first().is_some_and(knows);
    let change = followed.until(number, what, settled).await?;
    say(change.sql.clone());
    say(format!("    Committed: {}.", known(&change)));
    match change.nodes.get(CUT_OFF) {
        Some(Seen { not_served_ms: Some(from), knew_ms: None }) => {
            say(format!(
                "    Node 2 did not hear of it. From {from:.0} ms after the commit on it asks the database, and serves nothing old."
            ));
        }
        seen => problems.push(format!("node 2 was cut off, and heard of the change all the same: {seen:?}")),
    }
    let asked = cut_off.look_up(&InstanceKey::id(&id), &followed.watch).await?;
    if asked.is_none_or(|instance| instance.user_limit != change.user_limit) {
        problems.push("node 2 was cut off, and did not answer what the database has".to_owned());
    }

    let connected = Instant::now();
    cut_off.cut_off(false);
    let change = followed.until(number, "node 2 knows, too", |nodes| nodes.iter().all(knows)).await?;
    let after = connected.elapsed().as_millis();
    let since_commit = change.nodes.get(CUT_OFF).and_then(|seen| seen.knew_ms).unwrap_or_default();
    say(format!(
        "Node 2 hears the feed again. It went on where it was, and knew {after} ms later, {since_commit:.0} ms after the commit."
    ));
    followed.in_memory(&id, followed.nodes.len()).await?;
    drop(readers);

    let (mut lookups, mut hits, mut checked, mut stale_reads) = (0, 0, 0, 0);
    for one in followed.nodes.iter().map(|node| node.counts()) {
        (lookups, hits) = (lookups + one.lookups, hits + one.hits);
        (checked, stale_reads) = (checked + one.checked, stale_reads + one.stale);
    }
    say(format!(
        "{lookups} lookups meanwhile, {hits} of them from memory. Of {checked} answers that were checked, {stale_reads} were stale."
    ));
    if stale_reads > 0 {
        problems.push(format!("{stale_reads} answers were older than a commit that was longer ago than the deadline"));
    }
    if hits == 0 {
        problems.push("nothing was read from memory, so nothing was shown".to_owned());
    }
    let changes = followed.watch.newest(usize::MAX);
    Ok(Told {
        server: followed.name.clone(),
        ok: problems.is_empty(),
        problems,
        lines,
        changes,
        lookups,
        hits,
        checked,
        stale_reads,
    })
}

fn knows(seen: &Seen) -> bool {
    seen.knew_ms.is_some()
}

/// `node 1 knew 23 ms later, node 2 knew 41 ms later`, of the nodes that know.
fn known(change: &Change) -> String {
    let nodes = change.nodes.iter().zip(1..);
    let known = nodes.filter_map(|(seen, number)| Some(format!("node {number} knew {:.0} ms later", seen.knew_ms?)));
    known.collect::<Vec<_>>().join(", ")
}

impl Followed {
    /// Waits until this many nodes have the instance in memory. The readers load it.
    async fn in_memory(&self, id: &str, wanted: usize) -> Result<(), FollowedError> {
        let begun = Instant::now();
        loop {
            let mut have = 0;
            for node in &self.nodes {
                have += usize::from(matches!(node.known(id, &self.watch).await, Known::Limit(_)));
            }
            if have >= wanted {
                return Ok(());
            }
            patience(begun, "every node has an instance in memory").await?;
        }
    }

    /// Waits for a condition of how the nodes saw a change.
    async fn until(
        &self,
        number: usize,
        what: &'static str,
        condition: impl Fn(&[Seen]) -> bool,
    ) -> Result<Change, FollowedError> {
        let begun = Instant::now();
        loop {
            if let Some(change) = self.watch.change(number).filter(|change| condition(&change.nodes)) {
                return Ok(change);
            }
            patience(begun, what).await?;
        }
    }
}

/// Waits for a moment.
async fn patience(begun: Instant, what: &'static str) -> Result<(), FollowedError> {
    if begun.elapsed() > PATIENCE {
        return Err(FollowedError::InVain { what });
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}
