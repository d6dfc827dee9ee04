//! The two entry types that are cached. Each object says twice which object and which state it is, when its load began, and what it should
//! look like. So a reader can tell whether the object is whole, and how old it is.

use larder::{Entry, Index, KeyBytes};
use serde::{Deserialize, Serialize};
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// Which cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Objects without a version: only tickets and fences protect them.
    Instance,
    /// Objects with a version, whose loaders read a replica that lags behind.
    Policy,
}

/// Which index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum By {
    /// The primary index.
    Id,
    /// A number that an object has for its whole life.
    Serial,
    /// Host names, which move from one instance to another.
    Host,
}

impl By {
    /// The name of the index.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Serial => "serial",
            Self::Host => "host",
        }
    }
}

/// A key of a cache. As a key of larder it encodes to the text that the object lists in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) by: By,
    pub(crate) number: u32,
}

impl Key {
    pub(crate) fn id(kind: Kind, number: u32) -> Self {
        Self { kind, by: By::Id, number }
    }

    pub(crate) fn serial(kind: Kind, number: u32) -> Self {
        Self { kind, by: By::Serial, number }
    }

    pub(crate) fn host(number: u32) -> Self {
        Self { kind: Kind::Instance, by: By::Host, number }
    }

    pub(crate) fn is_primary(self) -> bool {
        self.by == By::Id
    }

    /// The bytes of the key, which are text.
    pub(crate) fn text(self) -> String {
        match self.by {
            By::Id => id_of(self.kind, self.number),
            By::Serial => self.number.to_string(),
            By::Host => host(self.number),
        }
    }
}

impl larder::Key for Key {
    type Owned = Self;

    fn encode(&self) -> KeyBytes<'_> {
        KeyBytes::Owned(self.text().into_bytes())
    }

    fn to_owned_key(&self) -> Self {
        *self
    }
}

impl larder::KeyFor<Self> for Key {}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cache = match self.kind {
            Kind::Instance => Instance::CACHE,
            Kind::Policy => Policy::CACHE,
        };
        write!(f, "{cache} by {} {}", self.by.name(), self.text())
    }
}

/// A state of an object, as the source has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
    /// The number of the change that made this state.
    pub(crate) sequence: u64,
    /// The hosts of an instance.
    pub(crate) hosts: Vec<u32>,
}

impl State {
    /// Every key that an object in this state lists, the primary key first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        [Key::id(self.kind, self.number), Key::serial(self.kind, self.number)]
            .into_iter()
            .chain(self.hosts.iter().map(|host| Key::host(*host)))
    }
}

/// What an object says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    number: u32,
    pub(crate) sequence: u64,
    /// When the load or the write that made the object began, by [`now`](super::protocol::now).
    pub(crate) born: u64,
    /// The node of that load or write.
    pub(crate) by: u32,
    /// Makes some objects large: larder stores those in another way.
    filler: String,
    /// A checksum of everything else.
    check: u64,
}

/// One state in this many is larger than what larder passes through a script.
const LARGE: u64 = 5;

impl Body {
    fn new(state: &State, born: u64, by: u32) -> Self {
        let mut body = Self {
            number: state.number,
            sequence: state.sequence,
            born,
            by,
            filler: filler(state.number, state.sequence),
            check: 0,
        };
        body.check = body.sum(state);
        body
    }

    fn sum(&self, state: &State) -> u64 {
        let mut sum = Xxh3::new();
        for number in [u64::from(state.number), state.sequence, self.born, u64::from(self.by)] {
            sum.update(&number.to_be_bytes());
        }
        for host in &state.hosts {
            sum.update(&host.to_be_bytes());
        }
        sum.update(self.filler.as_bytes());
        sum.digest()
    }

    /// Whether the body agrees with `state`, which is what the rest of the object says.
    fn agrees(&self, state: &State) -> bool {
        self.number == state.number
            && self.sequence == state.sequence
            && self.filler == filler(self.number, self.sequence)
            && self.check == self.sum(state)
    }
}

fn filler(number: u32, sequence: u64) -> String {
    let text = format!("{number}/{sequence};");
    let times = if (sequence + u64::from(number)).is_multiple_of(LARGE) { 5_000 / text.len() } else { 8 };
    text.repeat(times)
}

fn id_of(kind: Kind, number: u32) -> String {
    match kind {
        Kind::Instance => format!("i{number:05}"),
        Kind::Policy => format!("p{number:05}"),
    }
}

fn host(number: u32) -> String {
    format!("h{number}.example")
}

/// An entry type of this program.
pub(crate) trait Subject: Entry + Clone + Sized {
    const KIND: Kind;

    /// The index, which takes this program's own keys.
    fn index(by: By) -> Index<Self, Key>;

    fn new(state: &State, born: u64, by: u32) -> Self;

    fn body(&self) -> &Body;

    /// The state that the object is in. `None`: its parts do not agree.
    fn state(&self) -> Option<State>;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
pub(crate) struct Instance {
    #[key(primary)]
    id: String,
    #[key(index = "serial")]
    serial: u32,
    #[key(index = "host")]
    hosts: Vec<String>,
    sequence: u64,
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "policy")]
pub(crate) struct Policy {
    #[key(primary)]
    id: String,
    #[key(index = "serial")]
    serial: u32,
    #[version]
    sequence: u64,
    body: Body,
}

impl Subject for Instance {
    const KIND: Kind = Kind::Instance;

    fn index(by: By) -> Index<Self, Key> {
        match by {
            By::Id => Index::at::<0>(),
            By::Serial => Index::at::<1>(),
            By::Host => Index::at::<2>(),
        }
    }

    fn new(state: &State, born: u64, by: u32) -> Self {
        Self {
            id: id_of(Kind::Instance, state.number),
            serial: state.number,
            hosts: state.hosts.iter().map(|number| host(*number)).collect(),
            sequence: state.sequence,
            body: Body::new(state, born, by),
        }
    }

    fn body(&self) -> &Body {
        &self.body
    }

    fn state(&self) -> Option<State> {
        let number = |host: &String| host.strip_prefix('h')?.strip_suffix(".example")?.parse().ok();
        let hosts = self.hosts.iter().map(number).collect::<Option<Vec<u32>>>()?;
        let state = State { kind: Kind::Instance, number: self.serial, sequence: self.sequence, hosts };
        (self.id == id_of(Kind::Instance, self.serial) && self.body.agrees(&state)).then_some(state)
    }
}

impl Subject for Policy {
    const KIND: Kind = Kind::Policy;

    fn index(by: By) -> Index<Self, Key> {
        match by {
            By::Id => Index::at::<0>(),
            By::Serial | By::Host => Index::at::<1>(),
        }
    }

    fn new(state: &State, born: u64, by: u32) -> Self {
        Self {
            id: id_of(Kind::Policy, state.number),
            serial: state.number,
            sequence: state.sequence,
            body: Body::new(state, born, by),
        }
    }

    fn body(&self) -> &Body {
        &self.body
    }

    fn state(&self) -> Option<State> {
        let state = State { kind: Kind::Policy, number: self.serial, sequence: self.sequence, hosts: Vec::new() };
        (self.id == id_of(Kind::Policy, self.serial) && self.body.agrees(&state)).then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder::Keys;

    fn state(sequence: u64) -> State {
        State { kind: Kind::Instance, number: 7, sequence, hosts: vec![1, 2] }
    }

    #[test]
    fn an_object_lists_the_keys_of_its_state() {
        let object = Instance::new(&state(3), 1, 2);
        let listed: Vec<_> = Keys::of(&object).iter().map(|key| key.bytes().to_vec()).collect();
        let keys: Vec<_> = state(3).keys().map(|key| key.text().into_bytes()).collect();
        assert_eq!(listed, keys);
        assert_eq!(object.state(), Some(state(3)));
        let policy = State { kind: Kind::Policy, hosts: Vec::new(), ..state(3) };
        assert_eq!(Policy::new(&policy, 1, 2).state(), Some(policy));
    }

    #[test]
    fn a_mixture_gives_itself_away() {
        let (old, new) = (Instance::new(&state(3), 1, 2), Instance::new(&state(4), 1, 2));
        for mixed in [
            Instance { body: old.body.clone(), ..new.clone() },
            Instance { sequence: 3, ..new.clone() },
            Instance { hosts: vec![host(1)], ..new.clone() },
            Instance { serial: 8, ..new.clone() },
            Instance { body: Body { born: 9, ..new.body.clone() }, ..new.clone() },
            Instance { body: Body { filler: old.body.filler.clone(), ..new.body.clone() }, ..new.clone() },
        ] {
            assert_eq!(mixed.state(), None, "{mixed:?}");
        }
    }

    #[test]
    fn some_objects_are_too_large_for_a_script() {
        let large = (1..=LARGE).filter(|sequence| filler(7, *sequence).len() > 4_096).count();
        assert_eq!(large, 1);
    }
}
