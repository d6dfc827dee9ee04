//! The operations on a cache: how they are drawn at random, and how they are shown in words.

use super::Settings;
use crate::conformance::Nature;
use proptest::prelude::*;
use std::fmt;
use std::time::Duration;

/// The names of keys. There are few, so that operations often touch the same keys.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// A key. Both indexes use the same names, so that a connector which confuses the indexes is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) host: bool,
    pub(super) name: &'static str,
}

impl Key {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [false, true].into_iter().flat_map(|host| NAMES.map(|name| Self { host, name }))
    }
}

/// A state of an object. Its name, which is the number of the operation, tells it from all other states.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) id: &'static str,
    pub(super) hosts: Vec<&'static str>,
    pub(super) version: u64,
}

/// A change after which keys miss.
#[derive(Clone, Debug)]
pub(super) enum Forget {
    Invalidate {
        host: bool,
        names: Vec<&'static str>,
    },
    InvalidateMany(Vec<Key>),
    /// Only by primary key: whether a lowest version is remembered for a secondary key depends on what the key leads to.
    InvalidateBelow {
        names: Vec<&'static str>,
        version: u64,
    },
    Delete {
        host: bool,
        names: Vec<&'static str>,
    },
    Truncate,
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Get(Key),
    GetMany {
        host: bool,
        names: Vec<&'static str>,
    },
    Set(State),
    SetMany(Vec<State>),
    Forget(Forget),
    /// Looks up, and keeps the ticket of a miss in one of two places.
    Begin(Key, usize),
    /// Fills an object with the ticket in that place.
    Fill(State, usize),
    /// Updates an object. During the write, another caller may set or forget something.
    Update(State, Option<Box<Act>>),
    Prune,
    Pass(Duration),
}

#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) node: usize,
    pub(super) act: Act,
}

#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) versioned: bool,
    pub(super) max_age: Duration,
    pub(super) last_use_age: Duration,
    pub(super) operations: Vec<Operation>,
}

impl Act {
    /// The states that this operation may store.
    pub(super) fn states(&self) -> Vec<&State> {
        match self {
            Self::SetMany(states) => states.iter().collect(),
            Self::Set(state) | Self::Fill(state, _) | Self::Update(state, None) => vec![state],
            Self::Update(state, Some(meanwhile)) => meanwhile.states().into_iter().chain([state]).collect(),
            _ => Vec::new(),
        }
    }

    /// The hosts through which this operation invalidates.
    pub(super) fn invalidated_hosts(&self) -> Vec<&'static str> {
        match self {
            Self::Forget(Forget::Invalidate { host: true, names }) => names.clone(),
            Self::Forget(Forget::InvalidateMany(keys)) => {
                keys.iter().filter(|key| key.host).map(|key| key.name).collect()
            }
            Self::Update(_, Some(meanwhile)) => meanwhile.invalidated_hosts(),
            _ => Vec::new(),
        }
    }
}

impl Sequence {
    pub(super) fn ages(&self) -> bool {
        !self.max_age.is_zero() || !self.last_use_age.is_zero()
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.as_slice())
}

fn key() -> impl Strategy<Value = Key> {
    (any::<bool>(), name()).prop_map(|(host, name)| Key { host, name })
}

fn names() -> impl Strategy<Value = (bool, Vec<&'static str>)> {
    (any::<bool>(), prop::collection::vec(name(), 1..=2))
}

fn state() -> impl Strategy<Value = State> {
    let hosts = prop::sample::subsequence(NAMES.as_slice(), 0..=2);
    (name(), hosts, 1..=4_u64).prop_map(|(id, hosts, version)| State { id, hosts, version })
}

fn forget() -> impl Strategy<Value = Forget> {
    prop_oneof![
        6 => names().prop_map(|(host, names)| Forget::Invalidate { host, names }),
        2 => prop::collection::vec(key(), 1..=3).prop_map(Forget::InvalidateMany),
        2 => (names(), 1..=4_u64)
            .prop_map(|((_, names), version)| Forget::InvalidateBelow { names, version }),
        3 => names().prop_map(|(host, names)| Forget::Delete { host, names }),
        1 => Just(Forget::Truncate),
    ]
}

fn change() -> impl Strategy<Value = Act> {
    prop_oneof![state().prop_map(Act::Set), forget().prop_map(Act::Forget)]
}

fn act(nature: Nature) -> impl Strategy<Value = Act> {
    // A lowest version is demanded for one minute, which is too long for a real wait.
    let (passes, weight) = if nature.exact_time.is_there() {
        ([1, 20, 20, 20, 39, 40, 60, 99, 100, 60_000].as_slice(), 4)
    } else {
        ([45].as_slice(), 1)
    };
    let pass = prop::sample::select(passes).prop_map(|time| Act::Pass(Duration::from_millis(time)));
    let meanwhile = prop::option::weighted(0.6, change().prop_map(Box::new));
    prop_oneof![
        16 => key().prop_map(Act::Get),
        8 => state().prop_map(Act::Set),
        3 => names().prop_map(|(host, names)| Act::GetMany { host, names }),
        3 => prop::collection::vec(state(), 1..=3).prop_map(Act::SetMany),
        8 => forget().prop_map(Act::Forget),
        6 => (key(), 0..2_usize).prop_map(|(key, place)| Act::Begin(key, place)),
        8 => (state(), 0..2_usize).prop_map(|(state, place)| Act::Fill(state, place)),
        4 => (state(), meanwhile).prop_map(|(state, meanwhile)| Act::Update(state, meanwhile)),
        1 => Just(Act::Prune),
        weight => pass,
    ]
}

/// Sequences for connectors of this nature.
pub(super) fn sequences(nature: Nature, settings: &Settings) -> impl Strategy<Value = Sequence> + use<> {
    let operation = (0..super::nodes(nature), act(nature)).prop_map(|(node, act)| Operation { node, act });
    let ages = if nature.exact_time.is_there() {
        [(0, 0), (100, 0), (0, 40), (100, 40)]
    } else {
        [(0, 0), (0, 0), (40, 0), (0, 40)]
    };
    let ages = prop::sample::select(ages.to_vec());
    (any::<bool>(), ages, prop::collection::vec(operation, 1..=settings.operations)).prop_map(
        |(versioned, (max_age, last_use_age), operations)| Sequence {
            versioned,
            max_age: Duration::from_millis(max_age),
            last_use_age: Duration::from_millis(last_use_age),
            operations,
        },
    )
}

fn index(host: bool) -> &'static str {
    if host { "host" } else { "id" }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", index(self.host), self.name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id {}", self.id)?;
        match self.hosts.as_slice() {
            [] => write!(f, " without a host"),
            [host] => write!(f, " with host {host}"),
            hosts => write!(f, " with hosts {}", hosts.join(" and ")),
        }
    }
}

impl fmt::Display for Forget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalidate { host, names } => write!(f, "invalidates {} {}", index(*host), names.join(" and ")),
            Self::InvalidateMany(keys) => {
                let keys: Vec<_> = keys.iter().map(Key::to_string).collect();
                write!(f, "invalidates {}", keys.join(" and "))
            }
            Self::InvalidateBelow { names, version } => {
                write!(f, "invalidates id {} below version {version}", names.join(" and "))
            }
            Self::Delete { host, names } => write!(f, "deletes {} {}", index(*host), names.join(" and ")),
            Self::Truncate => write!(f, "truncates"),
        }
    }
}

/// The name of the load whose ticket is kept in this place.
fn load(place: usize) -> &'static str {
    if place == 0 { "load one" } else { "load two" }
}

impl Act {
    /// The operation in words, as step `number` of a sequence.
    pub(super) fn words(&self, number: usize, versioned: bool) -> String {
        let of = |state: &State| {
            let version = if versioned { format!(", version {}", state.version) } else { String::new() };
            format!("{state}{version}, as state {number}")
        };
        match self {
            Self::Get(key) => format!("gets {key}"),
            Self::GetMany { host, names } => format!("gets {} {} at once", index(*host), names.join(" and ")),
            Self::Set(state) => format!("sets {}", of(state)),
            Self::SetMany(states) => {
                let numbered = states.iter().zip(1..).map(|(state, place)| format!("{}.{place}", of(state)));
                format!("sets at once {}", numbered.collect::<Vec<_>>().join("; "))
            }
            Self::Forget(forget) => forget.to_string(),
            Self::Begin(key, place) => format!("looks up {key} to begin {}", load(*place)),
            Self::Fill(state, place) => format!("ends {} with {}", load(*place), of(state)),
            Self::Update(state, None) => format!("updates {}", of(state)),
            Self::Update(state, Some(meanwhile)) => {
                format!("updates {}, while another {}", of(state), meanwhile.words(number, versioned))
            }
            Self::Prune => "prunes".to_owned(),
            Self::Pass(time) => format!("{} ms pass", time.as_millis()),
        }
    }
}
