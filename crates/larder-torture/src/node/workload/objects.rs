//! The objects, which task may change them and how, and the keys that are read.

use crate::checker::STEADY;
use crate::objects::{Key, Kind};
use crate::protocol::Setup;
use crate::source::{SourceError, Writing};
use std::ops::Range;

/// The number of shared instances, which all tasks change, and of their hosts. There are few, so that tasks often touch the same objects.
pub(crate) const INSTANCES: u32 = 32;
pub(crate) const HOSTS: u32 = 64;
pub(crate) const POLICIES: u32 = 10;

/// The number of an object that never exists.
pub(super) const NOBODY: u32 = 999;

/// The most hosts of an instance.
const MOST_HOSTS: usize = 4;

/// The first of the instances that only one task changes, and how many each task has.
const OWN: u32 = 1_000;
const OWN_OF_A_TASK: u32 = 3;

/// The first of the instances that are invalidated through a key that they have lost, and how many there are in each place.
const ROUNDABOUT: u32 = 50_000;
pub(super) const ROUNDABOUTS: u32 = 4;

/// The first of the hosts that belong to one instance for ever. Each instance has two.
const HOSTS_OF_ITS_OWN: u32 = 1_000_000;

/// The instances that only this task in this place changes.
pub(super) fn own(place: u32, task: u32) -> Range<u32> {
    let first = OWN + (place * 100 + task) * OWN_OF_A_TASK;
    first..first + OWN_OF_A_TASK
}

/// The instances in this place that are invalidated through a key that they have lost.
pub(super) fn roundabout(place: u32) -> Range<u32> {
    let first = ROUNDABOUT + place * ROUNDABOUTS;
    first..first + ROUNDABOUTS
}

/// A host that no other instance ever has.
pub(super) fn host_of_its_own(number: u32, second: bool) -> u32 {
    HOSTS_OF_ITS_OWN + number * 2 + u32::from(second)
}

/// A shared instance.
pub(super) fn shared(rng: &mut fastrand::Rng) -> u32 {
    // A quarter of the instances gets more than half of the calls.
    if rng.bool() { rng.u32(..INSTANCES / 4) } else { rng.u32(..INSTANCES) }
}

/// A key, in any index, of an instance that all tasks may make the cache forget.
pub(super) fn instance_key(setup: &Setup, rng: &mut fastrand::Rng) -> Key {
    match rng.u32(..10) {
        0 => own_key(setup, rng),
        1..4 => Key::id(Kind::Instance, shared(rng)),
        4..6 => Key::serial(Kind::Instance, shared(rng)),
        _ => Key::host(rng.u32(..HOSTS)),
    }
}

/// A key of an instance to read.
pub(super) fn readable_key(setup: &Setup, rng: &mut fastrand::Rng) -> Key {
    if rng.u32(..12) > 0 {
        return instance_key(setup, rng);
    }
    // Not by their hosts: a load that finds nothing writes a note in the place of the index key.
    let place = rng.u32(..setup.places.max(1));
    let number = rng.choice(roundabout(place)).unwrap_or(ROUNDABOUT);
    if rng.bool() { Key::id(Kind::Instance, number) } else { Key::serial(Kind::Instance, number) }
}

/// Keys of instances in one index. A key may occur more than once.
pub(super) fn readable_keys(setup: &Setup, rng: &mut fastrand::Rng, most: usize) -> Vec<Key> {
    let first = readable_key(setup, rng);
    let most = rng.usize(1..most.max(2));
    let others = std::iter::repeat_with(|| readable_key(setup, rng)).take(most).filter(|key| key.by == first.by);
    std::iter::once(first).chain(others.collect::<Vec<_>>()).collect()
}

fn own_key(setup: &Setup, rng: &mut fastrand::Rng) -> Key {
    let (place, task) = (rng.u32(..setup.places.max(1)), rng.u32(..setup.tasks.max(1)));
    let number = rng.choice(own(place, task)).unwrap_or(OWN);
    match rng.u32(..3) {
        0 => Key::id(Kind::Instance, number),
        1 => Key::serial(Kind::Instance, number),
        _ => Key::host(host_of_its_own(number, rng.bool())),
    }
}

pub(super) fn policy_key(rng: &mut fastrand::Rng) -> Key {
    let number = rng.u32(..POLICIES);
    if rng.bool() { Key::id(Kind::Policy, number) } else { Key::serial(Kind::Policy, number) }
}

pub(super) fn policy_keys(rng: &mut fastrand::Rng) -> Vec<Key> {
    let by_id = rng.bool();
    let key = |number| if by_id { Key::id(Kind::Policy, number) } else { Key::serial(Kind::Policy, number) };
    (0..rng.u32(2..8)).map(|_| key(rng.u32(..POLICIES))).collect()
}

/// A key of a policy that is never invalidated.
pub(super) fn steady_key(rng: &mut fastrand::Rng) -> Key {
    Key::id(Kind::Policy, rng.u32(..STEADY))
}

/// A change of an instance.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    /// Gives the instance a new state with the same keys.
    Touch,
    /// Gives the host up if the instance has it. Otherwise takes it, from its owner if there is one.
    Toggle(u32),
    /// Deletes the instance, or makes it again.
    Remove,
    /// Takes or gives up the second of the instance's own hosts.
    ToggleItsOwn,
}

impl Edit {
    pub(super) fn random(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(..10) {
            0..4 => Self::Touch,
            4..9 => Self::Toggle(rng.u32(..HOSTS)),
            _ => Self::Remove,
        }
    }

    pub(super) fn make(self, writing: &mut Writing<'_>, number: u32) -> Result<(), SourceError> {
        let hosts = writing.read(Kind::Instance, number)?.map(|state| state.hosts);
        match (self, hosts) {
            (Self::Remove, Some(_)) => writing.delete(Kind::Instance, number),
            (Self::Touch | Self::Remove, hosts) => writing.write(Kind::Instance, number, hosts.unwrap_or_default()),
            (Self::ToggleItsOwn, hosts) => {
                let [first, second] = [false, true].map(|second| host_of_its_own(number, second));
                let has_both = hosts.is_some_and(|hosts| hosts.contains(&second));
                writing.write(Kind::Instance, number, if has_both { vec![first] } else { vec![first, second] })
            }
            (Self::Toggle(host), hosts) => {
                let mut hosts = hosts.unwrap_or_default();
                match writing.owner(host)? {
                    Some(owner) if owner == number => hosts.retain(|other| *other != host),
                    owner => {
                        if let Some(state) = owner.and_then(|owner| writing.read(Kind::Instance, owner).transpose()) {
                            let mut state = state?;
                            state.hosts.retain(|other| *other != host);
                            writing.write(Kind::Instance, state.number, state.hosts)?;
                        }
                        hosts.push(host);
                        if hosts.len() > MOST_HOSTS {
                            hosts.remove(0);
                        }
                    }
                }
                writing.write(Kind::Instance, number, hosts)
            }
        }
    }
}
