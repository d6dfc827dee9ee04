//! Judges every answer: was it possible, given the calls that were completed when its read began?
//!
//! # What is known
//!
//! The truth ([`truth`](super::truth)): the source keeps every state. The calls that made a cache forget ([`demands`](super::demands)): when
//! each began and ended, and its outcome. All times come from one clock, the machine's monotonic clock. Each report of a node is complete up
//! to some time. So a read is judged when all nodes that live have reported everything up to the end of the read, and a little more.
//!
//! # The rules
//!
//! When a call is *completed* depends on its outcome. *Applied*: at once, for all nodes. *Deferred*, or the caller went away: at once for its
//! own node; for the other nodes when its node's journal was found empty afterwards. A node that is killed loses its journal: calls that it
//! had deferred, or that were under way, demand nothing of other nodes. Then, for an answer under a key:
//!
//! - *Wrong*: a state that never was; a mixture; a state that does not list the key.
//! - *Stale by state*: a call that was completed for the node before the read began made the cache forget a key that the state lists. The
//!   reason of the call was the change that ended the state, or a later change. If the answer is that there is nothing: the key led to an
//!   object ever since that change. Not for policies, whose loaders read a replica that lags behind.
//! - *Stale by birth*: the load of the answer began before such a call, or its set had ended by then. The call overtook the load, so its fill must have been refused, or the
//!   object must have been forgotten. This also finds what the state does not show: an object that comes back unchanged after a truncate, or
//!   under a key that was deleted (then only that key counts).
//! - *Below the floor*: a hit on a policy with a version that an invalidation had excluded less than a minute earlier.
//! - *Lowered*: a hit on a policy that is never invalidated, with a lower version than a hit on any node that ended before the read began. Where nodes keep objects
//!   in their own memory, a fill is not over before these are right, and a hit on another node counts only after that.
//!
//! # What the rules allow, and why
//!
//! - Between commit and completion: the old state, and any newer state, in any order.
//! - If the server evicts: an object that was to be forgotten through a secondary key. The index key may have been lost, which is documented.
//! - *Below the floor* and *lowered* are not judged across faults that lose data: floors and versions are lost, too.

use super::demands::{Demands, Place};
use super::objects::{By, Key, Kind, State};
use super::protocol::{Answer, Call, Event, Forgotten, Read, Report, SET, Through};
use super::source::Committed;
use super::truth::{Truth, digest};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

/// How long a floor is demanded, in ns: a minute, less a second to be safe.
const FLOOR: u64 = 59_000_000_000;

/// Policies below this number are never invalidated, so that their versions never go down.
pub(crate) const STEADY: u32 = 3;

/// For this long after a cache was cleared, in ns, commands of the clearing may still arrive.
pub(crate) const CLEARING: u64 = 2_000_000_000;

/// A read is judged this long after it has ended, in ns: a node reports a clearing a little after the clearing begins.
const LATE: u64 = 100_000_000;

/// How many reads are remembered for histories.
const REMEMBERED: usize = 200_000;

/// How often, in ns, the checker forgets what can no longer decide a read.
const TIDY_EVERY: u64 = 2_000_000_000;

/// What is wrong with an answer: see the rules above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NeverWas,
    Mixture,
    OtherKey,
    StaleState,
    StaleBirth,
    BelowFloor,
    Lowered,
    /// The parts of an object do not agree with each other, or a call gave a wrong number of answers.
    Broken,
}

impl Fault {
    /// Whether the answer is stale: it was right once.
    pub(crate) fn is_stale(self) -> bool {
        matches!(self, Self::StaleState | Self::StaleBirth | Self::BelowFloor | Self::Lowered)
    }
}

/// An answer that was impossible.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) fault: Fault,
    pub(crate) node: u32,
    pub(crate) read: Read,
    /// The completed call that made the answer impossible.
    pub(crate) call: Option<Place>,
    /// The earlier read that made the answer impossible.
    pub(crate) earlier: Option<(u32, Read)>,
    /// For [`Fault::Broken`]: the node's own report.
    pub(crate) words: String,
}

/// A read that waits to be judged.
#[derive(Debug)]
struct Pending {
    node: u32,
    read: Read,
}

impl Pending {
    fn due(&self) -> u64 {
        self.read.ended.saturating_add(LATE)
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.due() == other.due()
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due().cmp(&other.due())
    }
}

/// What a node has reported so far.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Everything that happened before this time.
    until: u64,
    /// Every read that began before this time.
    since: u64,
}

/// Knows everything that has happened, and judges.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) truth: Truth,
    pub(crate) demands: Demands,
    /// How far each node has reported.
    told: BTreeMap<u32, Told>,
    tidied: u64,
    pending: BinaryHeap<Reverse<Pending>>,
    /// Times at which data may have been lost: from, until.
    losses: Vec<(u64, u64)>,
    /// Times at which a node has cleared a cache: from, until, node.
    clearings: Vec<(u64, u64, u32, Kind)>,
    /// For each policy below [`STEADY`], the hits with its highest versions.
    highest: HashMap<u32, Vec<(u32, Read)>>,
    pub(crate) recent: VecDeque<(u32, Read)>,
    /// When the set of each state has ended.
    sets: HashMap<(u32, u64), u64>,
    pub(crate) reads: u64,
    pub(crate) hits: u64,
    /// How many answers each kind of reading call has given, and how many calls of each other kind were made.
    pub(crate) calls: BTreeMap<&'static str, u64>,
    broken: Option<Violation>,
}

impl Checker {
    /// A node starts. It has done nothing before this time.
    pub(crate) fn begins(&mut self, node: u32, at: u64) {
        self.told.insert(node, Told { until: at, since: at });
    }

    /// For caches in memory: a new process starts with empty caches, and the promises of earlier processes end.
    pub(crate) fn begins_anew(&mut self) {
        self.demands.withdraw();
        self.highest.clear();
    }

    /// A node has ended, and will not report any more.
    pub(crate) fn ends(&mut self, node: u32) {
        self.told.remove(&node);
        self.demands.ends(node);
    }

    /// From this time on the server may lose data.
    pub(crate) fn loses_from(&mut self, at: u64) {
        match self.losses.last_mut() {
            // The earlier loss is not over yet.
            Some((_, until)) if *until >= at => *until = u64::MAX,
            _ => self.losses.push((at, u64::MAX)),
        }
    }

    /// After this time the server loses no more data.
    pub(crate) fn loses_until(&mut self, at: u64) {
        if let Some((_, until)) = self.losses.last_mut() {
            *until = at;
        }
    }

    /// A node has cleared a cache between these times. Commands of the clearing may still arrive for a while.
    pub(crate) fn cleared(&mut self, node: u32, kind: Kind, since: u64, at: u64) {
        self.clearings.push((since, at + CLEARING, node, kind));
    }

    /// The clearings of a cache that overlap this time: when each began, and on which node.
    pub(crate) fn clearings(&self, of: Kind, from: u64, until: u64) -> impl Iterator<Item = (u64, u32)> + '_ {
        let touching = self
            .clearings
            .iter()
            .filter(move |(begun, ended, _, kind)| *kind == of && *begun <= until && from <= *ended);
        touching.map(|(begun, _, node, _)| (*begun, *node))
    }

    fn lost_between(&self, from: u64, until: u64) -> bool {
        self.losses.iter().any(|(begun, ended)| *begun <= until && from <= *ended)
            || self.clearings(Kind::Policy, from, until).next().is_some()
    }

    /// Takes a node's report.
    pub(crate) fn hear(&mut self, node: u32, report: Report) {
        self.pending.extend(report.reads.iter().map(|read| Reverse(Pending { node, read })));
        for event in report.events {
            match event {
                Event::Forgotten(mut call) => {
                    // If data may have been lost, it is not certain that the key still led to the object.
                    call.led = call.led.filter(|led| !self.lost_between(led.since, call.ended));
                    *self.calls.entry(call.call.name()).or_default() += 1;
                    if let (Call::Set | Call::SetMany, Some(primary)) =
                        (call.call, call.keys.iter().find(|key| key.is_primary()))
                    {
                        self.sets.insert((primary.number, call.sequence), call.ended);
                    }
                    self.demands.forgotten(node, call);
                }
                Event::Empty { kind, asked, seen } => self.demands.delivered(node, kind, asked, seen),
                Event::Broken { at, key, what } => {
                    let read = Read { key, begun: at, ended: at, through: Through::Get, answer: None };
                    let fault = Fault::Broken;
                    let violation = Violation { fault, node, read, call: None, earlier: None, words: what };
                    self.broken.get_or_insert(violation);
                }
                Event::Cleared { kind, since, at } => self.cleared(node, kind, since, at),
                Event::Done { .. } => {}
            }
        }
        if let Some(told) = self.told.get_mut(&node) {
            told.until = report.until.max(told.until);
            told.since = report.since.max(told.since);
        }
    }

    /// The time up to which the reports of all nodes are complete.
    fn horizon(&self) -> u64 {
        self.told.values().map(|told| told.until).min().unwrap_or(u64::MAX)
    }

    /// Forgets, now and then, what can no longer decide a read. Otherwise memory, and the time for each read, would grow with the run.
    fn tidy(&mut self) {
        let told = self.told.values().map(|told| told.since).min().unwrap_or(u64::MAX);
        // Not if all nodes have ended, and not before the slowest node has reported far enough.
        if told == u64::MAX || told < self.tidied.saturating_add(TIDY_EVERY) {
            return;
        }
        self.tidied = told;
        let pending = self.pending.iter().map(|Reverse(pending)| pending.read.begun).min();
        let begun = told.min(pending.unwrap_or(u64::MAX));
        self.demands.forget_before(begun, begun.saturating_sub(FLOOR));
        let mut highest = std::mem::take(&mut self.highest);
        for reads in highest.values_mut() {
            reads.retain(|(_, read)| !self.lost_between(read.begun, begun));
        }
        self.highest = highest;
        let matter = begun.saturating_sub(FLOOR);
        self.losses.retain(|(_, until)| *until >= matter);
        self.clearings.retain(|(_, until, ..)| *until >= matter);
    }

    /// Whether there is something to judge. Then [`judge`](Self::judge) must be called with the newest commits.
    pub(crate) fn has_work(&self) -> bool {
        self.broken.is_some() || self.pending.peek().is_some_and(|Reverse(pending)| pending.due() <= self.horizon())
    }

    /// Adds these commits to the truth, and judges every read that can be judged.
    ///
    /// # Errors
    ///
    /// The first impossible answer.
    pub(crate) fn judge(&mut self, committed: Vec<Committed>) -> Result<(), Box<Violation>> {
        self.truth.commit(committed);
        if let Some(broken) = self.broken.take() {
            return Err(Box::new(broken));
        }
        let horizon = self.horizon();
        while let Some(Reverse(pending)) = self.pending.peek() {
            if pending.due() > horizon {
                break;
            }
            let Some(Reverse(Pending { node, read, .. })) = self.pending.pop() else { break };
            self.reads += 1;
            self.hits += u64::from(read.through.is_hit());
            *self.calls.entry(read.through.name()).or_default() += 1;
            let verdict = self.judge_read(node, &read);
            self.recent.push_back((node, read));
            if self.recent.len() > REMEMBERED {
                self.recent.pop_front();
            }
            verdict?;
        }
        self.tidy();
        Ok(())
    }

    fn judge_read(&mut self, node: u32, read: &Read) -> Result<(), Box<Violation>> {
        let fault = match read.answer {
            Some(answer) => self.judge_object(node, read, answer),
            None => self.judge_nothing(node, read),
        };
        match fault {
            Ok(()) => Ok(()),
            Err((fault, call, earlier)) => {
                Err(Box::new(Violation { fault, node, read: *read, call, earlier, words: String::new() }))
            }
        }
    }

    fn judge_object(&mut self, node: u32, read: &Read, answer: Answer) -> Judged {
        let kind = read.key.kind;
        let Some(state) = self.truth.state(kind, answer.number, answer.sequence) else {
            return Err((Fault::NeverWas, None, None));
        };
        if digest(&state.hosts) != answer.hosts {
            return Err((Fault::Mixture, None, None));
        }
        if !state.keys().any(|key| key == read.key) {
            return Err((Fault::OtherKey, None, None));
        }
        let demanded = self.demands.on(node, read.begun, read.key, state.keys());
        let ended_by = self.truth.ended_by(&state);
        if kind == Kind::Instance && ended_by.is_some_and(|ended_by| ended_by <= demanded.sequence.0) {
            return Err((Fault::StaleState, Some(demanded.sequence.1), None));
        }
        let deleted = self.demands.on_key(node, read.begun, read.key);
        let answer_born = match answer.born {
            // As long as the set has not ended, nobody knows when it took its ticket.
            SET => self.sets.get(&(answer.number, answer.sequence)).copied().unwrap_or(SET),
            born => born,
        };
        for (born, call) in [demanded.born, deleted] {
            if answer_born < born {
                return Err((Fault::StaleBirth, Some(call), None));
            }
        }
        if kind == Kind::Policy && read.through.is_hit() {
            self.judge_version(node, read, &state)?;
        }
        Ok(())
    }

    fn judge_version(&mut self, node: u32, read: &Read, state: &State) -> Judged {
        for floor in self.demands.floors(node, read.begun, Key::id(Kind::Policy, state.number)) {
            if state.sequence < floor.version
                && read.ended < floor.begun + FLOOR
                && !self.lost_between(floor.begun, read.ended)
            {
                return Err((Fault::BelowFloor, Some(floor.place), None));
            }
        }
        if state.number >= STEADY {
            return Ok(());
        }
        let sequence = |read: &Read| read.answer.map_or(0, |answer| answer.sequence);
        let known = self.highest.get(&state.number).into_iter().flatten();
        let mut higher = known.filter(|(on, earlier)| {
            self.demands.seen_everywhere(*on == node, earlier.ended) < read.begun
                && sequence(earlier) > state.sequence
                && !self.lost_between(earlier.begun, read.ended)
        });
        if let Some(earlier) = higher.next_back() {
            return Err((Fault::Lowered, None, Some(*earlier)));
        }
        // Keep this read only if no other read began later, ended earlier and saw a version at least as high: that one decides more.
        let known = self.highest.entry(state.number).or_default();
        if !known.iter().any(|(_, other)| {
            other.ended <= read.ended && sequence(other) >= state.sequence && other.begun >= read.begun
        }) {
            known.retain(|(_, other)| {
                !(sequence(other) <= state.sequence && other.ended >= read.ended && other.begun <= read.begun)
            });
            known.push((node, *read));
        }
        if known.len() > 256 {
            known.remove(0);
        }
        Ok(())
    }

    fn judge_nothing(&self, node: u32, read: &Read) -> Judged {
        // A replica may lag behind for any time.
        if read.key.kind == Kind::Policy {
            return Ok(());
        }
        let demanded = self.demands.on(node, read.begun, read.key, std::iter::once(read.key)).sequence;
        if self.truth.led_nowhere_after(read.key, demanded.0) {
            Ok(())
        } else {
            Err((Fault::StaleState, Some(demanded.1), None))
        }
    }

    /// Whether a call concerns this object, by its number or by one of these keys.
    pub(crate) fn concerns(call: &Forgotten, kind: Kind, number: u32, keys: &[Key]) -> bool {
        call.kind == kind
            && (call.keys.is_empty()
                || call.keys.iter().any(|key| keys.contains(key) || (key.by != By::Host && key.number == number)))
    }
}

type Judged = Result<(), (Fault, Option<Place>, Option<(u32, Read)>)>;

#[cfg(test)]
mod tests;
