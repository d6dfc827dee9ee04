//! Hears everything that happens, has it judged, and knows how the run is doing. It has a thread of its own, since judging is work.

use super::account;
use super::checker::{CLEARING, Checker, Violation};
use super::faults::FaultKind;
use super::objects::Kind;
use super::protocol::{Counts, Event, Report, now};
use super::source::Database;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// A report counts as one from after a fault if it came so much later, in ns.
const NOTICED: u64 = 200_000_000;

/// How much is heard before it is judged.
const AT_ONCE: usize = 32;

/// Something has happened.
#[derive(Debug)]
pub(crate) enum News {
    Begins {
        node: u32,
        at: u64,
    },
    Report {
        node: u32,
        report: Report,
        /// Given back when it was heard, so that a node that tells faster than can be judged waits.
        turn: OwnedSemaphorePermit,
    },
    /// It is about to be killed.
    Killed {
        node: u32,
    },
    /// Its process has ended; what it has said on stderr.
    Ends {
        node: u32,
        words: String,
    },
    /// What was done to whom, from when until when.
    Fault {
        kind: FaultKind,
        said: String,
        begun: u64,
        ended: u64,
    },
    /// A fault that loses data begins, or is over.
    LosesFrom(u64),
    LossOver(u64),
    EvictingFrom(u64),
    EvictingUntil(u64),
    /// All nodes have ended: judge what is left.
    Finish,
}

/// What the coordinator has to know.
#[derive(Debug)]
pub(crate) enum Word {
    /// A node has carried out an order.
    Done {
        node: u32,
        result: Result<(), String>,
    },
    /// An answer was impossible; the history of it.
    Found {
        violation: Box<Violation>,
        history: Vec<String>,
    },
    /// The run cannot go on.
    Trouble(String),
    Finished,
}

/// How the run is doing.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) reads: u64,
    pub(crate) hits: u64,
    pub(crate) changes: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Of every node there ever was.
    pub(crate) counts: BTreeMap<u32, Counts>,
}

pub(crate) type Shared = Arc<Mutex<Progress>>;

pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, Progress> {
    // Numbers only.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fault, as it is told of.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) kind: FaultKind,
    pub(crate) said: String,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
}

struct Witness {
    /// Whether what one node stores another can read.
    nodes_share: bool,
    checker: Checker,
    database: Database,
    begun: u64,
    killed: BTreeSet<u32>,
    alive: BTreeSet<u32>,
    faults: Vec<Made>,
    /// When the last fault that loses data was over, and who could read since.
    over: Option<(u64, BTreeMap<u32, u64>)>,
    shared: Shared,
    words: UnboundedSender<Word>,
}

/// Begins to listen. `begun`: the time that histories count from. `nodes_share`: whether what one node stores another can read.
pub(crate) fn listen(
    database: Database,
    begun: u64,
    nodes_share: bool,
    mut inbox: UnboundedReceiver<News>,
    shared: Shared,
    words: UnboundedSender<Word>,
) -> std::io::Result<()> {
    let mut witness = Witness {
        nodes_share,
        checker: Checker::default(),
        database,
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
            // So much at once: nodes that tell faster than can be judged get no turn meanwhile.
            for _ in 0..AT_ONCE {
                let Ok(news) = inbox.try_recv() else { break };
                last |= matches!(news, News::Finish);
                witness.hear(news);
            }
            if !witness.judge() {
                return;
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
                // It may have been clearing, and told nobody.
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
                self.report(node, report);
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
        lock(&self.shared).counts.insert(node, report.counts.clone());
        self.checker.hear(node, report);
    }

    /// Whether to go on.
    fn judge(&mut self) -> bool {
        if !self.checker.has_work() {
            return true;
        }
        let committed = match self.database.committed_since(self.checker.truth.newest()) {
            Ok(committed) => committed,
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
