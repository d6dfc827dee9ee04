//! Judges every answer: was it possible, given all that had been completed when its read began?
//!
//! # What is known
//!
//! The truth ([`truth`](super::truth)): the source keeps every state. The calls that made a cache forget ([`demands`](super::demands)): when each
//! began and ended, and how far it came. All times are of one clock, the machine's monotonic one. A node tells everything that happened
//! up to some moment at once, so a read is judged when every node that lives has told what it did before the read ended, and a little more.
//!
//! # The rules
//!
//! A call is *completed for a node* when it has answered *applied*, for all nodes; when it was *deferred*, or its caller has gone away,
//! for its own node at once, and for the others when that node's journal was found empty afterwards. A node that is killed takes its
//! journal with it: what it had deferred, or had under way, demands nothing of anybody else, ever. Then, for an answer under a key:
//!
//! - *Wrong*: a state that never was; a mixture; a state that does not list the key.
//! - *Stale by state*: one of the keys that the state lists was forgotten, by a call completed for the node before the read began,
//!   because of a change by which, or after which, the state had ended already. Where the answer is that there is nothing: the key led
//!   somewhere ever since. Not for policies, whose loaders read a replica that lags behind.
//! - *Stale by birth*: the load that brought the answer began before such a call did. It could be overtaken, so it cannot have been
//!   let in, and who had it before must have forgotten it. This catches also what the state does not show: an object that comes back after a
//!   truncate, or under a key that was deleted (where only that key counts), although nothing has changed it.
//! - *Below the floor*: a hit on a policy with a version that an invalidation had excluded less than a minute before.
//! - *Lowered*: a hit on a policy that nobody ever invalidates, with a version lower than a hit on any node that had ended
//!   before the read began.
//!
//! # What the rules allow, and why
//!
//! - Between commit and completion, the old state; and any newer one, in any order.
//! - Where the server evicts, an object that was to be forgotten through a secondary key: the key may have been lost. That is documented.
//! - Below the floor and lowered are not judged across anything that loses data: floors and versions are lost with it.

use super::demands::{Demands, Place};
use super::objects::{By, Key, Kind, State};
use super::protocol::{Answer, Event, Forgotten, Read, Report, Through};
use super::source::Committed;
use super::truth::{Truth, digest};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

/// For how long a floor is demanded, with a second to spare.
const FLOOR: u64 = 59_000_000_000;

/// Policies below this number are never invalidated, so that their versions never go down.
pub(crate) const STEADY: u32 = 3;

/// After a cache was cleared, what was sent for that may still arrive for so long, in ns.
pub(crate) const CLEARING: u64 = 2_000_000_000;

/// A read is judged so long after it has ended, in ns: a node tells of a clearing a little later than it begins.
const LATE: u64 = 100_000_000;

/// How many reads are remembered to be told about.
const REMEMBERED: usize = 200_000;

/// How much time, in ns, passes until what can decide nothing any more is forgotten.
const TIDY_EVERY: u64 = 2_000_000_000;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NeverWas,
    Mixture,
    OtherKey,
    StaleState,
    StaleBirth,
    BelowFloor,
    Lowered,
    /// An object was not what it must be in itself.
    Broken,
}

impl Fault {
    /// Whether it is a stale answer, and not one that never was right.
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
    /// The completed call that had made it impossible.
    pub(crate) call: Option<Place>,
    /// The earlier read that had.
    pub(crate) earlier: Option<(u32, Read)>,
    /// What a node itself says.
    pub(crate) words: String,
}

/// Waits for its turn.
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

/// How much a node has told.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Everything that happened before.
    until: u64,
    /// Every read that had begun before.
    since: u64,
}

/// Knows all that has happened.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) truth: Truth,
    pub(crate) demands: Demands,
    /// What each node has told.
    told: BTreeMap<u32, Told>,
    tidied: u64,
    pending: BinaryHeap<Reverse<Pending>>,
    /// Times at which data may have been lost: from, until.
    losses: Vec<(u64, u64)>,
    /// Times at which a node has cleared a cache: from, until, node.
    clearings: Vec<(u64, u64, u32, Kind)>,
    /// The hits on steady policies, for each the highest version.
    highest: HashMap<u32, Vec<(u32, Read)>>,
    pub(crate) recent: VecDeque<(u32, Read)>,
    pub(crate) reads: u64,
    pub(crate) hits: u64,
    broken: Option<Violation>,
}

impl Checker {
    /// A node begins; before that it has done nothing.
    pub(crate) fn begins(&mut self, node: u32, at: u64) {
        self.told.insert(node, Told { until: at, since: at });
    }

    /// A new process begins with an empty memory, and what was promised in another's is promised no more. For caches in memory only.
    pub(crate) fn begins_anew(&mut self) {
        self.demands.withdraw();
        self.highest.clear();
    }

    /// A node has ended, by itself or not: it will tell no more.
    pub(crate) fn ends(&mut self, node: u32) {
        self.told.remove(&node);
        self.demands.ends(node);
    }

    /// From then on the server may lose data.
    pub(crate) fn loses_from(&mut self, at: u64) {
        match self.losses.last_mut() {
            // It is not over yet.
            Some((_, until)) if *until >= at => *until = u64::MAX,
            _ => self.losses.push((at, u64::MAX)),
        }
    }

    /// Whatever could be lost is lost by now.
    pub(crate) fn loses_until(&mut self, at: u64) {
        if let Some((_, until)) = self.losses.last_mut() {
            *until = at;
        }
    }

    /// A node has cleared a cache between these times, and what it has sent for that may still arrive.
    pub(crate) fn cleared(&mut self, node: u32, kind: Kind, since: u64, at: u64) {
        self.clearings.push((since, at + CLEARING, node, kind));
    }

    /// The clearings of a cache that touch this time.
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

    /// Notes what a node tells.
    pub(crate) fn hear(&mut self, node: u32, report: Report) {
        self.pending.extend(report.reads.iter().map(|read| Reverse(Pending { node, read })));
        for event in report.events {
            match event {
                Event::Forgotten(mut call) => {
                    // What had led somewhere may be lost.
                    call.led = call.led.filter(|led| !self.lost_between(led.since, call.ended));
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

    /// Up to when everybody has told everything.
    fn horizon(&self) -> u64 {
        self.told.values().map(|told| told.until).min().unwrap_or(u64::MAX)
    }

    /// Forgets what can decide no read any more, now and then: memory and the time for a read would grow for as long as the run lasts.
    fn tidy(&mut self) {
        let told = self.told.values().map(|told| told.since).min().unwrap_or(u64::MAX);
        // A node that has told nothing yet may hold everything up, and where all have ended there is no need.
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

    /// Whether there is something to judge. The truth has to be brought up to date before it is.
    pub(crate) fn has_work(&self) -> bool {
        self.broken.is_some() || self.pending.peek().is_some_and(|Reverse(pending)| pending.due() <= self.horizon())
    }

    /// Judges what can be judged, knowing also these commits. The first answer that was impossible.
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
        for (born, call) in [demanded.born, deleted] {
            if answer.born < born {
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
        let mut higher = known.filter(|(_, earlier)| {
            earlier.ended < read.begun
                && sequence(earlier) > state.sequence
                && !self.lost_between(earlier.begun, read.ended)
        });
        if let Some(earlier) = higher.next_back() {
            return Err((Fault::Lowered, None, Some(*earlier)));
        }
        // A read that began later, ended earlier and saw more says all that this one could.
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
        // A replica may lag behind for ever.
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

    /// Whether a call is about this object in any of the states that the violation is about.
    pub(crate) fn concerns(call: &Forgotten, kind: Kind, number: u32, keys: &[Key]) -> bool {
        call.kind == kind
            && (call.keys.is_empty()
                || call.keys.iter().any(|key| keys.contains(key) || (key.by != By::Host && key.number == number)))
    }
}

type Judged = Result<(), (Fault, Option<Place>, Option<(u32, Read)>)>;

#[cfg(test)]
mod tests;
