//! Which objects there are, who may change them how, and which keys are asked for.

use crate::checker::STEADY;
use crate::objects::{Key, Kind};
use crate::protocol::Setup;
use crate::source::{SourceError, Writing};
use std::ops::Range;

/// Instances that everybody changes, and their hosts: few, so that everybody is after the same ones.
pub(crate) const INSTANCES: u32 = 32;
pub(crate) const HOSTS: u32 = 64;
pub(crate) const POLICIES: u32 = 10;

/// A policy that there never is.
pub(super) const NOBODY: u32 = 999;

/// Most hosts of one instance.
const MOST_HOSTS: usize = 4;

/// The first of the instances that one task alone changes, and how many a task has.
const OWN: u32 = 1_000;
const OWN_OF_A_TASK: u32 = 3;

/// The first of the instances that are invalidated through a key that they have lost, and how many there are in each place.
const ROUNDABOUT: u32 = 50_000;
pub(super) const ROUNDABOUTS: u32 = 4;

/// Hosts from here on belong to the instance with that number, for ever: two for each.
const HOSTS_OF_ITS_OWN: u32 = 1_000_000;

/// The instances that a task in this place alone changes.
pub(super) fn own(place: u32, task: u32) -> Range<u32> {
    let first = OWN + (place * 100 + task) * OWN_OF_A_TASK;
    first..first + OWN_OF_A_TASK
}

/// The instances of the roundabout in this place.
pub(super) fn roundabout(place: u32) -> Range<u32> {
    let first = ROUNDABOUT + place * ROUNDABOUTS;
    first..first + ROUNDABOUTS
}

/// A host that no other instance ever has.
pub(super) fn host_of_its_own(number: u32, second: bool) -> u32 {
    HOSTS_OF_ITS_OWN + number * 2 + u32::from(second)
}

/// One of the instances that everybody changes.
pub(super) fn shared(rng: &mut fastrand::Rng) -> u32 {
    // Half of it all is about a quarter of them.
    if rng.bool() { rng.u32(..INSTANCES / 4) } else { rng.u32(..INSTANCES) }
}

/// A key of an instance that anybody may make the cache forget, through any index.
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
    // Not by their hosts: a load that finds nothing notes that in the place of what leads to the object.
    let place = rng.u32(..setup.places.max(1));
    let number = rng.choice(roundabout(place)).unwrap_or(ROUNDABOUT);
    if rng.bool() { Key::id(Kind::Instance, number) } else { Key::serial(Kind::Instance, number) }
}

/// Keys of instances by one index, some of them more than once.
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

/// One of the policies that nobody ever invalidates.
pub(super) fn steady_key(rng: &mut fastrand::Rng) -> Key {
    Key::id(Kind::Policy, rng.u32(..STEADY))
}

/// What is done to an instance.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    /// A new state with the same keys.
    Touch,
    /// Takes the host, from whoever has it; or gives it up.
    Toggle(u32),
    /// Deletes it, or makes it again.
    Remove,
    /// Takes, or gives up, the second of the hosts that nobody else ever has.
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
