//! The source of record: two objects, P and Q, and one secondary key, h, that moves between them.
//!
//! Each change is one transaction. It raises the version of every object that it changes. So an object and a version identify a *state* of
//! the object, and the keys that a state lists never change.

use std::fmt;

/// An object, by its primary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Object {
    /// The object that holds h at first.
    P,
    /// The other object.
    Q,
}

/// Both objects.
pub(crate) const OBJECTS: [Object; 2] = [Object::P, Object::Q];

impl Object {
    pub(crate) fn at(self) -> usize {
        self as usize
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::P => Self::Q,
            Self::Q => Self::P,
        }
    }

    pub(crate) fn key(self) -> Keys {
        match self {
            Self::P => Keys::P,
            Self::Q => Keys::Q,
        }
    }
}

/// A set of keys: the primary keys of P and Q, and h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Keys(u8);

impl Keys {
    /// No key.
    pub(crate) const NONE: Self = Self(0);
    /// The primary key of P.
    pub(crate) const P: Self = Self(1);
    /// The primary key of Q.
    pub(crate) const Q: Self = Self(2);
    /// The secondary key.
    pub(crate) const H: Self = Self(4);

    /// The keys of both sets.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each key with its position: 0 for P, 1 for Q, 2 for h.
    pub(crate) fn each(self) -> impl Iterator<Item = (usize, Self)> {
        [Self::P, Self::Q, Self::H].into_iter().enumerate().filter(move |(_, key)| self.meets(*key))
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.each().map(|(at, _)| ["P", "Q", "h"][at]).collect();
        f.write_str(&names.join(" and "))
    }
}

/// One state of one object, as a loader reads it or a writer writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Value {
    pub(crate) object: Object,
    pub(crate) version: u8,
    pub(crate) lists_h: bool,
}

impl Value {
    pub(crate) fn keys(self) -> Keys {
        if self.lists_h { self.object.key().and(Keys::H) } else { self.object.key() }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} v{}{}", self.object, self.version, if self.lists_h { " (lists h)" } else { "" })
    }
}

/// A set of states of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct States(u16);

impl States {
    fn bit(object: Object, version: u8) -> u16 {
        1 << (8 * object.at() + usize::from(version))
    }

    pub(crate) fn contain(self, object: Object, version: u8) -> bool {
        self.0 & Self::bit(object, version) != 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What a writer does to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Nothing changes, but the keys are invalidated.
    Nothing,
    /// The object gets another payload.
    Value(Object),
    /// h moves from the object that holds it to the other one.
    Move,
}

/// The source of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Source {
    version: [u8; 2],
    /// For each object: bit v is set if version v lists h.
    listing: [u8; 2],
}

impl Default for Source {
    fn default() -> Self {
        Self { version: [0, 0], listing: [1, 0] }
    }
}

impl Source {
    pub(crate) fn load(&self, object: Object) -> Value {
        let version = self.version[object.at()];
        Value { object, version, lists_h: self.lists_h(object, version) }
    }

    /// The state on a replica that lags by one version.
    pub(crate) fn load_lagging(&self, object: Object) -> Value {
        let version = self.version[object.at()].saturating_sub(1);
        Value { object, version, lists_h: self.lists_h(object, version) }
    }

    pub(crate) fn holder(&self) -> Object {
        if self.load(Object::P).lists_h { Object::P } else { Object::Q }
    }

    /// Whether this state of the object lists h.
    pub(crate) fn lists_h(&self, object: Object, version: u8) -> bool {
        self.listing[object.at()] & 1 << version != 0
    }

    pub(crate) fn apply(&mut self, change: Change) {
        let holder = self.holder();
        let (changed, holder): (&[Object], _) = match change {
            Change::Nothing => return,
            Change::Value(Object::P) => (&[Object::P], holder),
            Change::Value(Object::Q) => (&[Object::Q], holder),
            Change::Move => (&OBJECTS, holder.other()),
        };
        for &object in changed {
            self.version[object.at()] += 1;
            if object == holder {
                self.listing[object.at()] |= 1 << self.version[object.at()];
            }
        }
    }

    /// The states that no read may return once these keys have been invalidated: all older states that list one of the keys.
    pub(crate) fn older(&self, keys: Keys) -> States {
        let mut older = States::default();
        for object in OBJECTS {
            for version in 0..self.version[object.at()] {
                let listed = Value { object, version, lists_h: self.lists_h(object, version) }.keys();
                if listed.meets(keys) {
                    older.add(States(States::bit(object, version)));
                }
            }
        }
        older
    }
}
