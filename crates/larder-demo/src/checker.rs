//! Counts stale reads: answers that a completed change had made impossible.
//!
//! # What is known
//!
//! The source numbers all changes in the order of its commits. A change makes new *states* of the instances that it touches, and makes keys
//! *lead* elsewhere: to another instance, or nowhere. The source reports each commit before anybody can read it. So each answer can be looked
//! up among all states that ever were. Every event, on any node, takes a *tick* from one counter, under the lock that makes the event known.
//! So an event with a smaller tick was known when a larger tick was taken.
//!
//! # The rule
//!
//! A change is *completed for a node* when the call that told the cache of the change has returned: on any node, if the invalidation was
//! applied; on this node, if it was deferred. Then:
//!
//! > An answer is stale if a change of the same thing, newer than the answer, was completed for the reading node before
//! > the read began.
//!
//! If the answer is an instance, the thing is that instance. If the answer is "there is no such instance", the thing is where the key leads.
//! Apart from that, an answer is *wrong* if it is a state that never was, or if it does not list the key that was asked for.
//!
//! # What the rule allows, and why
//!
//! - *Between commit and completion: the old state.* The cache cannot know yet. So a host that moves may lead to its former owner until the
//!   move is completed. After that it may not: the move is also a newer change of the former owner.
//! - *Any state that is newer than the newest completed change*, in any order: two loads may overtake each other.
//! - *On another node, while the change is deferred: the old state.* This is the documented limit of an outage: the cache cannot be told.
//!   After the journal was replayed, [`delivered`](Checker::delivered) makes the change completed for all nodes.
//! - *On a node that is cut off from the cache: an answer older than another node's change.* The node then reads the source, but a caller may
//!   share a load that began just before the change. The node knows of its own changes, so those count. The caller of the checker says
//!   whether the node was cut off. In doubt it was.
//!
//! # Limits
//!
//! The newest [`KEPT`] states of each instance are remembered. An older answer is stale if any newer change is completed. After so many
//! changes, one is.

use super::instance::{Instance, InstanceKey};
use super::source::Commit;
use larder::Delivery;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How many states of one instance, and how many leads of one key, are remembered.
const KEPT: usize = 64;

/// Judges every read of the demo.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    tick: AtomicU64,
    truth: RwLock<Truth>,
    reads: AtomicU64,
    stale: AtomicU64,
    wrong: AtomicU64,
}

#[derive(Debug, Default)]
struct Truth {
    /// For each id, the states of the instance, oldest first, each with the number of its change. `None`: deleted.
    states: HashMap<String, Vec<(u64, Option<Instance>)>>,
    /// For each key, the ids that it led to, oldest first, each with the number of its change. `None`: nowhere.
    leads: HashMap<InstanceKey, Vec<(u64, Option<String>)>>,
    /// The changes by number. Only those that `states` or `leads` still name.
    changes: HashMap<u64, Change>,
    /// The numbers of the changes that were deferred on a node and have not been replayed yet.
    deferred: Vec<u64>,
    first_fault: Option<String>,
}

/// When a change was completed, in ticks, and by which node.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    applied: Option<(usize, u64)>,
    deferred: Option<(usize, u64)>,
    /// How many entries of `states` and `leads` name the change.
    named: usize,
}

/// A read that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    node: usize,
    begun: u64,
    /// Whether the node reaches the cache, as far as it knows.
    linked: bool,
}

/// The verdict on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is wrong.
    Fine,
    /// A completed change had made the answer impossible.
    Stale,
    /// The answer never was true, or does not list the key.
    Wrong,
}

impl Checker {
    /// Adds a commit to the truth. To be called in the order of commits, before anybody can read the change.
    pub(crate) fn committed(&self, commit: Commit) {
        let mut truth = self.write();
        let mut leads: Vec<(InstanceKey, Option<String>)> = Vec::new();
        for (id, state) in &commit.states {
            if let Some((_, Some(before))) = truth.states.get(id).and_then(|states| states.last()) {
                for key in InstanceKey::all_of(before) {
                    if !state.as_ref().is_some_and(|state| key.is_listed_by(state)) {
                        leads.push((key, None));
                    }
                }
            }
        }
        // A key that one instance has lost may belong to another now. So the new owners come last.
        for (id, state) in &commit.states {
            for key in state.iter().flat_map(InstanceKey::all_of) {
                leads.retain(|(other, _)| *other != key);
                leads.push((key, Some(id.clone())));
            }
        }
        let Truth { states, leads: histories, changes, .. } = &mut *truth;
        for (key, id) in leads {
            let known = histories.entry(key).or_default();
            if known.last().map(|(_, id)| id) != Some(&id) {
                keep(known, (commit.sequence, id), changes);
            }
        }
        for (id, state) in commit.states {
            keep(states.entry(id).or_default(), (commit.sequence, state), changes);
        }
    }

    /// Notes that a call on `node`, which told the cache of a change, has returned.
    pub(crate) fn completed(&self, sequence: u64, node: usize, delivery: Delivery) {
        let mut truth = self.write();
        let now = self.now();
        let Some(change) = truth.changes.get_mut(&sequence) else { return };
        match delivery {
            Delivery::Applied => change.applied = Some((node, now)),
            Delivery::Deferred => {
                change.deferred = Some((node, now));
                truth.deferred.push(sequence);
            }
        }
    }

    /// Notes that the journal of `node` was found empty: everything that the node has deferred before this call is applied.
    pub(crate) fn delivered(&self, node: usize) {
        let mut truth = self.write();
        let now = self.now();
        for sequence in std::mem::take(&mut truth.deferred) {
            match truth.changes.get_mut(&sequence) {
                Some(Change { deferred: Some((by, _)), .. }) if *by != node => truth.deferred.push(sequence),
                Some(change) => change.applied = change.applied.or(Some((node, now))),
                None => {}
            }
        }
    }

    /// Begins a read on `node`. `linked`: whether the node reaches the cache.
    pub(crate) fn begin(&self, node: usize, linked: bool) -> Reading {
        Reading { node, begun: self.now(), linked }
    }

    /// Judges the answer to a read that is over. `linked`: whether the node still reaches the cache.
    pub(crate) fn judge(
        &self,
        reading: Reading,
        linked: bool,
        key: &InstanceKey,
        answer: Option<&Instance>,
    ) -> Verdict {
        let reading = Reading { linked: reading.linked && linked, ..reading };
        let truth = self.read();
        let verdict = match answer {
            Some(found) => truth.judge_found(reading, key, found),
            None => truth.judge_missing(reading, key),
        };
        let fault = truth.first_fault.is_none().then(|| truth.describe(reading, key, answer, verdict));
        drop(truth);
        self.reads.fetch_add(1, Ordering::Relaxed);
        match verdict {
            Verdict::Fine => return verdict,
            Verdict::Stale => self.stale.fetch_add(1, Ordering::Relaxed),
            Verdict::Wrong => self.wrong.fetch_add(1, Ordering::Relaxed),
        };
        if let Some(fault) = fault {
            self.write().first_fault.get_or_insert(fault);
        }
        verdict
    }

    /// The number of reads that were judged.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The number of stale reads.
    pub(crate) fn stale(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }

    /// The number of wrong reads.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong.load(Ordering::Relaxed)
    }

    /// The first stale or wrong read, in words.
    pub(crate) fn first_fault(&self) -> Option<String> {
        self.read().first_fault.clone()
    }

    fn now(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::SeqCst)
    }

    // After a panic under the lock, at most one change is missing from the truth, and the panic is reported anyway. So a poisoned lock can be
    // used.
    fn read(&self) -> RwLockReadGuard<'_, Truth> {
        self.truth.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Truth> {
        self.truth.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Truth {
    fn judge_found(&self, reading: Reading, key: &InstanceKey, found: &Instance) -> Verdict {
        if !key.is_listed_by(found) {
            return Verdict::Wrong;
        }
        let Some(states) = self.states.get(&found.id) else { return Verdict::Wrong };
        let state = states.iter().rev().find(|(sequence, _)| *sequence == found.sequence);
        let forgotten = states.len() == KEPT && states.first().is_some_and(|(oldest, _)| found.sequence < *oldest);
        match state {
            Some((_, Some(state))) if state == found => {}
            None if forgotten => {}
            _ => return Verdict::Wrong,
        }
        if found.sequence < self.newest_completed(reading, states) { Verdict::Stale } else { Verdict::Fine }
    }

    fn judge_missing(&self, reading: Reading, key: &InstanceKey) -> Verdict {
        // No instance ever listed this key.
        let Some(leads) = self.leads.get(key) else { return Verdict::Fine };
        let floor = self.newest_completed(reading, leads);
        // Before its first change, the key led nowhere.
        let nowhere_since = leads.iter().rev().find(|(_, id)| id.is_none()).map_or(0, |(sequence, _)| *sequence);
        if nowhere_since < floor { Verdict::Stale } else { Verdict::Fine }
    }

    /// The newest of these changes that was completed for the reading node before the read began. 0: none.
    fn newest_completed<T>(&self, reading: Reading, changes: &[(u64, T)]) -> u64 {
        let completed = |sequence: &u64| self.changes.get(sequence).is_some_and(|change| change.demanded_of(reading));
        changes.iter().rev().map(|(sequence, _)| *sequence).find(completed).unwrap_or(0)
    }

    fn describe(&self, reading: Reading, key: &InstanceKey, answer: Option<&Instance>, verdict: Verdict) -> String {
        if verdict == Verdict::Fine {
            return String::new();
        }
        let answered = match answer {
            Some(found) => format!("{} at change {}", found.id, found.sequence),
            None => "nothing".to_owned(),
        };
        let newest = match answer {
            Some(found) => self.states.get(&found.id).map(|states| self.newest_completed(reading, states)),
            None => self.leads.get(key).map(|leads| self.newest_completed(reading, leads)),
        };
        let newest = newest.map_or_else(String::new, |newest| format!("; newest completed change: {newest}"));
        format!("node {}, {key}: {verdict} answer: {answered}{newest}", reading.node + 1)
    }
}

impl Change {
    /// Whether it was completed for the reading node before the read began.
    fn demanded_of(&self, reading: Reading) -> bool {
        let before =
            |event: Option<(usize, u64)>| event.filter(|(_, tick)| *tick < reading.begun).map(|(node, _)| node);
        before(self.deferred) == Some(reading.node)
            || before(self.applied).is_some_and(|node| reading.linked || node == reading.node)
    }
}

fn keep<T>(history: &mut Vec<(u64, T)>, newest: (u64, T), changes: &mut HashMap<u64, Change>) {
    changes.entry(newest.0).or_default().named += 1;
    history.push(newest);
    if history.len() > KEPT {
        let (oldest, _) = history.remove(0);
        if let Some(change) = changes.get_mut(&oldest) {
            change.named -= 1;
            if change.named == 0 {
                changes.remove(&oldest);
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fine => "fine",
            Self::Stale => "stale",
            Self::Wrong => "wrong",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::instance::Settings;
    use super::*;

    const A: usize = 0;
    const B: usize = 1;

    /// A history written by hand. Change 1 makes instance `x` with the hosts `h` and `i`, and instance `y` without hosts, and is completed.
    struct Tale(Checker);

    fn state(id: &str, hosts: &[&str], sequence: u64) -> Instance {
        Instance {
            id: id.to_owned(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            name: format!("{id} {sequence}"),
            features: Vec::new(),
            settings: Settings { second_factor: false, session_minutes: 60 },
            sequence,
        }
    }

    impl Tale {
        fn new() -> Self {
            let tale = Self(Checker::default());
            tale.commit(1, &[state("x", &["h", "i"], 1), state("y", &[], 1)]);
            tale.0.completed(1, A, Delivery::Applied);
            tale
        }

        fn commit(&self, sequence: u64, states: &[Instance]) {
            let states = states.iter().map(|state| (state.id.clone(), Some(state.clone()))).collect();
            self.0.committed(Commit { sequence, states });
        }

        fn delete(&self, sequence: u64, id: &str) {
            self.0.committed(Commit { sequence, states: vec![(id.to_owned(), None)] });
        }

        /// Change 2: renames `x`.
        fn rename(&self) {
            self.commit(2, &[state("x", &["h", "i"], 2)]);
        }

        /// Change 2: moves `h` from `x` to `y`.
        fn move_host(&self) {
            self.commit(2, &[state("x", &["i"], 2), state("y", &["h"], 2)]);
        }

        fn done(&self, sequence: u64, node: usize, delivery: Delivery) {
            self.0.completed(sequence, node, delivery);
        }

        /// A read that begins and ends now, on a node that reaches the cache.
        fn read(&self, node: usize, key: InstanceKey, answer: Option<Instance>) -> Verdict {
            self.0.judge(self.0.begin(node, true), true, &key, answer.as_ref())
        }

        fn cut_off(&self, node: usize, key: InstanceKey, answer: Option<Instance>) -> Verdict {
            self.0.judge(self.0.begin(node, false), true, &key, answer.as_ref())
        }
    }

    fn id(id: &str) -> InstanceKey {
        InstanceKey::id(id)
    }

    fn host(host: &str) -> InstanceKey {
        InstanceKey::host(host)
    }

    fn old() -> Option<Instance> {
        Some(state("x", &["h", "i"], 1))
    }

    fn renamed() -> Option<Instance> {
        Some(state("x", &["h", "i"], 2))
    }

    #[test]
    fn an_old_state_is_stale_on_every_node_once_its_change_was_applied() {
        let tale = Tale::new();
        tale.rename();
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Fine, "committed, not completed");
        tale.done(2, A, Delivery::Applied);
        for node in [A, B] {
            for key in [id("x"), host("h"), host("i")] {
                assert_eq!(tale.read(node, key.clone(), old()), Verdict::Stale);
                assert_eq!(tale.read(node, key, renamed()), Verdict::Fine);
            }
        }
        assert_eq!((tale.0.reads(), tale.0.stale(), tale.0.wrong()), (13, 6, 0));
        assert!(tale.0.first_fault().unwrap().contains("newest completed change: 2"));
    }

    #[test]
    fn a_read_that_began_before_the_completion_may_see_the_old_state() {
        let tale = Tale::new();
        tale.rename();
        let reading = tale.0.begin(B, true);
        tale.done(2, A, Delivery::Applied);
        assert_eq!(tale.0.judge(reading, true, &host("h"), old().as_ref()), Verdict::Fine);
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Stale);
    }

    #[test]
    fn a_deferred_change_binds_only_its_own_node_until_it_is_delivered() {
        let tale = Tale::new();
        tale.rename();
        tale.done(2, A, Delivery::Deferred);
        assert_eq!(tale.read(A, host("h"), old()), Verdict::Stale);
        assert_eq!(tale.cut_off(A, host("h"), old()), Verdict::Stale, "it knows of its own changes");
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Fine);
        tale.0.delivered(B);
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Fine, "another node's journal");
        let reading = tale.0.begin(B, true);
        tale.0.delivered(A);
        assert_eq!(tale.0.judge(reading, true, &host("h"), old().as_ref()), Verdict::Fine);
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Stale);
    }

    #[test]
    fn a_node_that_is_cut_off_is_bound_by_its_own_changes_only() {
        let tale = Tale::new();
        tale.rename();
        tale.done(2, A, Delivery::Applied);
        assert_eq!(tale.cut_off(B, host("h"), old()), Verdict::Fine);
        let lost_meanwhile = tale.0.begin(B, true);
        assert_eq!(tale.0.judge(lost_meanwhile, false, &host("h"), old().as_ref()), Verdict::Fine);
        assert_eq!(tale.cut_off(A, host("h"), old()), Verdict::Stale);
    }

    #[test]
    fn a_newer_completed_change_ends_all_older_states_completed_or_not() {
        let tale = Tale::new();
        tale.rename();
        tale.commit(3, &[state("x", &["h", "i"], 3)]);
        tale.done(3, B, Delivery::Applied);
        assert_eq!(tale.read(A, id("x"), old()), Verdict::Stale);
        assert_eq!(tale.read(A, id("x"), renamed()), Verdict::Stale);
        tale.commit(4, &[state("x", &["h", "i"], 4)]);
        assert_eq!(tale.read(A, id("x"), Some(state("x", &["h", "i"], 3))), Verdict::Fine);
        assert_eq!(
            tale.read(A, id("x"), Some(state("x", &["h", "i"], 4))),
            Verdict::Fine,
            "read from the source already"
        );
    }

    #[test]
    fn a_moved_host_leads_to_its_former_owner_until_the_move_is_completed() {
        let tale = Tale::new();
        tale.move_host();
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Fine);
        assert_eq!(tale.read(B, host("h"), Some(state("y", &["h"], 2))), Verdict::Fine);
        tale.done(2, A, Delivery::Applied);
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Stale);
        assert_eq!(tale.read(B, host("i"), old()), Verdict::Stale, "the former owner under its other key");
        assert_eq!(tale.read(B, id("y"), Some(state("y", &[], 1))), Verdict::Stale, "the new owner without the host");
        assert_eq!(tale.read(B, host("h"), None), Verdict::Stale, "at no moment was it nobody's");
        assert_eq!(tale.read(B, host("h"), Some(state("y", &["h"], 2))), Verdict::Fine);
        assert_eq!(tale.read(B, host("i"), Some(state("x", &["i"], 2))), Verdict::Fine);
    }

    #[test]
    fn the_answer_must_list_the_key_that_was_asked_for() {
        let tale = Tale::new();
        tale.move_host();
        assert_eq!(tale.read(A, host("h"), Some(state("x", &["i"], 2))), Verdict::Wrong);
        assert_eq!(tale.read(A, id("y"), old()), Verdict::Wrong);
    }

    #[test]
    fn a_mixture_of_two_states_is_wrong() {
        let tale = Tale::new();
        tale.rename();
        let mixed = Instance { name: "x 1".to_owned(), ..state("x", &["h", "i"], 2) };
        assert_eq!(tale.read(A, id("x"), Some(mixed)), Verdict::Wrong);
        assert_eq!(tale.read(A, id("x"), Some(state("x", &["h", "i"], 9))), Verdict::Wrong, "from the future");
        assert_eq!(tale.read(A, id("z"), Some(state("z", &[], 1))), Verdict::Wrong, "from nowhere");
    }

    #[test]
    fn a_deleted_instance_is_stale_and_its_absence_is_not() {
        let tale = Tale::new();
        tale.delete(2, "x");
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Fine);
        assert_eq!(tale.read(B, host("h"), None), Verdict::Fine);
        tale.done(2, A, Delivery::Applied);
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Stale);
        assert_eq!(tale.read(B, host("h"), None), Verdict::Fine);
        assert_eq!(tale.read(B, id("x"), None), Verdict::Fine);
    }

    #[test]
    fn absence_is_stale_once_the_making_was_completed() {
        let tale = Tale::new();
        assert_eq!(tale.read(A, id("z"), None), Verdict::Fine);
        tale.commit(2, &[state("z", &["k"], 2)]);
        assert_eq!(tale.read(A, host("k"), None), Verdict::Fine);
        tale.done(2, A, Delivery::Applied);
        assert_eq!(tale.read(A, host("k"), None), Verdict::Stale);
        assert_eq!(tale.read(A, id("z"), None), Verdict::Stale);
        assert_eq!(tale.read(A, id("x"), None), Verdict::Stale, "there from the beginning");
    }

    #[test]
    fn an_instance_made_again_does_not_excuse_its_earlier_life() {
        let tale = Tale::new();
        tale.delete(2, "x");
        tale.done(2, A, Delivery::Applied);
        tale.commit(3, &[state("x", &["h", "i"], 3)]);
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Stale);
        assert_eq!(tale.read(B, host("h"), None), Verdict::Fine);
        assert_eq!(tale.read(B, host("h"), Some(state("x", &["h", "i"], 3))), Verdict::Fine);
        tale.done(3, B, Delivery::Applied);
        assert_eq!(tale.read(A, host("h"), None), Verdict::Stale);
    }

    #[test]
    fn what_is_no_longer_remembered_is_stale_all_the_same() {
        let tale = Tale::new();
        for sequence in 2..3 * KEPT as u64 {
            tale.commit(sequence, &[state("x", &["h", "i"], sequence)]);
            tale.done(sequence, A, Delivery::Applied);
        }
        assert_eq!(tale.read(B, host("h"), old()), Verdict::Stale);
        assert!(tale.0.read().changes.len() <= KEPT + 1, "the memory is bounded");
    }
}
