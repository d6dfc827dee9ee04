//! What was true after which change: every state of every object, and the object that every host led to.

use super::objects::{By, Key, Kind, State};
use super::source::Committed;
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// The number of a change, and the hosts that the object had after it. `None`: the change deleted the object.
type Made = (u64, Option<Vec<u32>>);

/// All changes that are known to be committed.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// The states of each object, oldest first.
    states: HashMap<(Kind, u32), Vec<Made>>,
    /// The instances that each host led to, oldest first.
    leads: HashMap<u32, Vec<(u64, Option<u32>)>>,
    newest: u64,
}

/// A digest that stands for the hosts of a state in an answer.
pub(crate) fn digest(hosts: &[u32]) -> u64 {
    let bytes: Vec<u8> = hosts.iter().flat_map(|host| host.to_be_bytes()).collect();
    xxh3_64(&bytes)
}

impl Truth {
    /// The newest change that is known.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Adds committed changes, which must come in the order of commits.
    pub(crate) fn commit(&mut self, committed: Vec<Committed>) {
        for change in committed.chunk_by(|a, b| a.sequence == b.sequence) {
            let Some(sequence) = change.first().map(|first| first.sequence) else { continue };
            self.newest = self.newest.max(sequence);
            // A host may move from one object to another in one change. So take all hosts away first, and give them out after that.
            for one in change.iter().filter(|one| one.kind == Kind::Instance) {
                let before = self.states.get(&(one.kind, one.number)).and_then(|states| states.last());
                for host in before.iter().flat_map(|(_, hosts)| hosts.iter().flatten()) {
                    lead(self.leads.entry(*host).or_default(), sequence, None);
                }
            }
            for one in change {
                for host in one.hosts.iter().flatten() {
                    lead(self.leads.entry(*host).or_default(), sequence, Some(one.number));
                }
                self.states.entry((one.kind, one.number)).or_default().push((sequence, one.hosts.clone()));
            }
        }
    }

    /// The state of an object that a change made. `None`: the change did not touch the object, or deleted it.
    pub(crate) fn state(&self, kind: Kind, number: u32, sequence: u64) -> Option<State> {
        let states = self.states.get(&(kind, number))?;
        let found = states.binary_search_by_key(&sequence, |(sequence, _)| *sequence).ok()?;
        let hosts = states.get(found)?.1.clone()?;
        Some(State { kind, number, sequence, hosts })
    }

    /// The change that ended this state of an object. `None`: the state is the current one.
    pub(crate) fn ended_by(&self, state: &State) -> Option<u64> {
        let states = self.states.get(&(state.kind, state.number))?;
        let next = states.partition_point(|(sequence, _)| *sequence <= state.sequence);
        states.get(next).map(|(sequence, _)| *sequence)
    }

    /// Whether the key led nowhere at any time since this change.
    pub(crate) fn led_nowhere_after(&self, key: Key, sequence: u64) -> bool {
        let exists: Vec<(u64, bool)> = match key.by {
            By::Host => self.leads.get(&key.number).into_iter().flatten().map(|(at, to)| (*at, to.is_some())).collect(),
            By::Id | By::Serial => self
                .states
                .get(&(key.kind, key.number))
                .into_iter()
                .flatten()
                .map(|(at, hosts)| (*at, hosts.is_some()))
                .collect(),
        };
        let mut nowhere = true;
        for (at, somewhere) in exists {
            if nowhere && at > sequence {
                return true;
            }
            nowhere = !somewhere;
        }
        nowhere
    }

    /// The changes of an object from `from` to `to`, both included.
    pub(crate) fn changes(&self, kind: Kind, number: u32, from: u64, to: u64) -> Vec<Made> {
        let states = self.states.get(&(kind, number)).into_iter().flatten();
        states.filter(|(sequence, _)| (from..=to).contains(sequence)).cloned().collect()
    }
}

/// Notes where a host leads after a change. Within one change the last call counts.
fn lead(leads: &mut Vec<(u64, Option<u32>)>, sequence: u64, to: Option<u32>) {
    if leads.last().is_some_and(|(last, _)| *last == sequence) {
        leads.pop();
    }
    leads.push((sequence, to));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(sequence: u64, number: u32, hosts: Option<&[u32]>) -> Committed {
        Committed { sequence, kind: Kind::Instance, number, hosts: hosts.map(<[u32]>::to_vec) }
    }

    #[test]
    fn knows_each_state_and_what_ended_it() {
        let mut truth = Truth::default();
        truth.commit(vec![made(1, 7, Some(&[1])), made(3, 7, Some(&[1, 2])), made(4, 7, None)]);
        let state = |sequence| truth.state(Kind::Instance, 7, sequence);
        assert_eq!(state(1).unwrap().hosts, [1]);
        assert_eq!(state(2), None);
        assert_eq!(state(4), None);
        assert_eq!(truth.ended_by(&state(1).unwrap()), Some(3));
        assert_eq!(truth.ended_by(&state(3).unwrap()), Some(4));
        assert_eq!(truth.newest(), 4);
    }

    #[test]
    fn a_host_that_moves_is_never_nobodys() {
        let mut truth = Truth::default();
        truth.commit(vec![made(1, 7, Some(&[1])), made(2, 8, Some(&[]))]);
        truth.commit(vec![made(3, 7, Some(&[])), made(3, 8, Some(&[1]))]);
        assert!(truth.led_nowhere_after(Key::host(1), 0));
        assert!(!truth.led_nowhere_after(Key::host(1), 1));
        assert!(truth.led_nowhere_after(Key::host(2), 9), "nobody ever had it");
        truth.commit(vec![made(4, 8, None)]);
        assert!(truth.led_nowhere_after(Key::host(1), 9));
        assert!(truth.led_nowhere_after(Key::id(Kind::Instance, 8), 9));
        truth.commit(vec![made(6, 8, Some(&[1]))]);
        assert!(truth.led_nowhere_after(Key::host(1), 5));
        assert!(!truth.led_nowhere_after(Key::host(1), 6));
    }
}
