//! Receives everything that happens, has it judged, and keeps the figures of the run. It has a thread of its own, because judging takes
//! processor time.

use super::account;
use super::checker::{CLEARING, Checker, Violation};
use super::faults::FaultKind;
use super::ledger::Ledger;
use super::objects::Kind;
use super::protocol::{Counts, Event, Report, now};
use super::source::{Committed, Database};
use super::writers::WRITERS;
use crate::node::OVER;
use larder::connector::tiered::Consistency;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// A report counts as one from after a fault if it is complete up to this long after the fault, in ns.
const NOTICED: u64 = 200_000_000;

/// How many messages are received at a time before the checker judges.
const AT_ONCE: usize = 32;

/// A message to the witness.
#[derive(Debug)]
pub(crate) enum News {
    Begins {
        node: u32,
        at: u64,
    },
    Report {
        node: u32,
        report: Box<Report>,
        /// Released when the report has been received, so that a node that reports faster than the checker judges must wait.
        turn: OwnedSemaphorePermit,
    },
    /// The node is about to be killed.
    Killed {
        node: u32,
    },
    /// The node's process has ended. `words`: the last bytes of its stderr.
    Ends {
        node: u32,
        words: String,
    },
    /// A fault that is over, with its details.
    Fault {
        kind: FaultKind,
        said: String,
        begun: u64,
        ended: u64,
    },
    /// A fault that loses data begins.
    LosesFrom(u64),
    /// The fault that loses data is over.
    LossOver(u64),
    EvictingFrom(u64),
    EvictingUntil(u64),
    /// All nodes have ended: judge what is left.
    Finish,
}

/// A message from the witness to the coordinator.
#[derive(Debug)]
pub(crate) enum Word {
    /// A node has carried out an order.
    Done {
        node: u32,
        result: Result<(), String>,
    },
    /// An answer was impossible.
    Found {
        violation: Box<Violation>,
        history: Vec<String>,
    },
    /// The run cannot go on.
    Trouble(String),
    Finished,
}

/// The figures of a run so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) reads: u64,
    pub(crate) hits: u64,
    pub(crate) calls: BTreeMap<&'static str, u64>,
    pub(crate) changes: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// The counts of every node that ever ran.
    pub(crate) counts: BTreeMap<u32, Counts>,
}

pub(crate) type Shared = Arc<Mutex<Progress>>;

pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, Progress> {
    // A panic cannot leave the figures inconsistent.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fault that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) kind: FaultKind,
    pub(crate) said: String,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
}

struct Witness {
    /// Whether one node can read what another stores.
    nodes_share: bool,
    checker: Checker,
    record: Record,
    begun: u64,
    killed: BTreeSet<u32>,
    alive: BTreeSet<u32>,
    faults: Vec<Made>,
    /// When the last fault that loses data was over, and for each node that could read since, when it could.
    over: Option<(u64, BTreeMap<u32, u64>)>,
    shared: Shared,
    words: UnboundedSender<Word>,
}

/// Where what was committed can be read.
pub(crate) enum Record {
    File(Database),
    Ledger(Ledger, tokio::runtime::Handle),
}

impl Record {
    /// What was committed since the last call; `newest` is the last change that is known. `None`: that cannot be read now.
    fn committed(&mut self, newest: u64) -> Result<Option<Vec<Committed>>, String> {
        match self {
            Self::File(database) => database.committed_since(newest).map(Some).map_err(|error| error.to_string()),
            // The server may be down, or stopped.
            Self::Ledger(ledger, runtime) => Ok(runtime.block_on(ledger.committed()).ok()),
        }
    }
}

/// Starts the witness. `begun`: the time that histories count from. `nodes_share`: whether one node can read what another stores. `tiered`: what changes wait for,
/// where nodes keep objects in their own memory.
pub(crate) fn listen(
    record: Record,
    begun: u64,
    nodes_share: bool,
    tiered: Option<Consistency>,
    mut inbox: UnboundedReceiver<News>,
    shared: Shared,
    words: UnboundedSender<Word>,
) -> std::io::Result<()> {
    let mut checker = Checker::default();
    if let Some(consistency) = tiered {
        checker.demands.in_memories(consistency == Consistency::Bounded, u64::try_from(OVER.as_nanos()).unwrap_or(0));
    }
    let mut witness = Witness {
        nodes_share,
        checker,
        record,
        begun,
        killed: BTreeSet::new(),
        alive: BTreeSet::new(),
        faults: Vec::new(),
        over: None,
        shared,
        words,
    };
    let work = move || {
        while let Some(news) = inbox.blocking_recv() {
            let mut last = matches!(news, News::Finish);
            witness.hear(news);
            // Only this many at a time, so that nodes that report faster than the checker judges must wait.
            for _ in 0..AT_ONCE {
                let Ok(news) = inbox.try_recv() else { break };
                last |= matches!(news, News::Finish);
                witness.hear(news);
            }
            if !witness.judge() {
                return;
            }
            while last && witness.checker.has_work() {
                // The source could not be read for a moment.
                std::thread::sleep(std::time::Duration::from_millis(20));
                if !witness.judge() {
                    return;
                }
            }
            if last {
                let _ = witness.words.send(Word::Finished);
            }
        }
    };
    std::thread::Builder::new().name("witness".to_owned()).spawn(work).map(drop)
}

impl Witness {
    fn say(&self, word: Word) {
        let _ = self.words.send(word);
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Begins { node, at } => {
                if !self.nodes_share {
                    self.checker.begins_anew();
                }
                self.checker.begins(node, at);
                self.alive.insert(node);
            }
            News::Killed { node } => {
                self.killed.insert(node);
                self.alive.remove(&node);
                // The node may have been clearing a cache without having reported that.
                let at = now();
                self.checker.cleared(node, Kind::Policy, at.saturating_sub(NOTICED), at);
            }
            News::Ends { node, words } => {
                self.checker.ends(node);
                if !self.killed.contains(&node) {
                    let words = if words.is_empty() { "it said nothing".to_owned() } else { words };
                    self.say(Word::Trouble(format!("node {node} has ended by itself: {words}")));
                }
            }
            News::Report { node, report, turn } => {
                self.report(node, *report);
                drop(turn);
            }
            News::Fault { kind, said, begun, ended } => {
                *lock(&self.shared).faults.entry(kind.name()).or_default() += 1;
                self.faults.push(Made { kind, said, begun, ended });
            }
            News::LosesFrom(at) => {
                self.over = None;
                self.checker.loses_from(at);
            }
            News::LossOver(at) => self.over = Some((at, BTreeMap::new())),
            News::EvictingFrom(at) => self.checker.demands.evicting_from(at),
            News::EvictingUntil(at) => self.checker.demands.evicting_until(at),
            News::Finish => {}
        }
    }

    fn report(&mut self, node: u32, report: Report) {
        for event in &report.events {
            if let Event::Done { result, .. } = event {
                self.say(Word::Done { node, result: result.clone() });
            }
        }
        if let Some((at, readers)) = &mut self.over
            && report.counts.readable
            && report.until > *at + NOTICED
        {
            readers.entry(node).or_insert(report.until);
            if self.alive.iter().all(|node| readers.contains_key(node)) {
                let latest = readers.values().copied().max().unwrap_or(*at);
                self.checker.loses_until(latest + CLEARING);
                self.over = None;
            }
        }
        if node != WRITERS {
            lock(&self.shared).counts.insert(node, report.counts.clone());
        }
        self.checker.hear(node, report);
    }

    /// Judges what can be judged. Returns whether the run goes on.
    fn judge(&mut self) -> bool {
        if !self.checker.has_work() {
            return true;
        }
        let committed = match self.record.committed(self.checker.truth.newest()) {
            Ok(Some(committed)) => committed,
            Ok(None) => return true,
            Err(error) => {
                self.say(Word::Trouble(format!("the source cannot be read: {error}")));
                return false;
            }
        };
        let judged = self.checker.judge(committed);
        {
            let mut progress = lock(&self.shared);
            progress.reads = self.checker.reads;
            progress.hits = self.checker.hits;
            progress.calls.clone_from(&self.checker.calls);
            progress.changes = self.checker.truth.newest();
        }
        match judged {
            Ok(()) => true,
            Err(violation) => {
                let history = account::history(&self.checker, &violation, &self.faults, self.begun);
                self.say(Word::Found { violation, history });
                false
            }
        }
    }
}
