//! What the code that `#[derive(Entry)]` generates calls. Not for use by hand.
//!
//! The macro sees how a type is spelled, not what it is, so the compiler decides here whether a value is one key or several.
//! [`Kind::of`] holds the type of the value; `(&&&&&kind).keys()` calls the `keys` of the first line in this list that fits,
//! because method lookup takes off one `&` at a time.
//!
//! | receiver | type of the value | what it is |
//! |---|---|---|
//! | `&&&&Kind` | a [`Key`] | one key |
//! | `&&&Kind` | `Option` of a key | a key or none |
//! | `&&Kind` | a collection of bytes that is no key itself | an error: one key or many? |
//! | `&&Kind` | a map, borrowed | an error: its keys, its values or both? |
//! | `&Kind` | a collection of keys | a key for each item |
//! | `Kind` | anything else | an error, or, of a field, told by [`Field`] |
//!
//! An error is a bound on a trait that nothing implements, with a message that says what to write.
//!
//! Method lookup cannot name a type, but the constant of an index needs one. [`Field`] says which type the keys in a field have. Where the field
//! is spelled `Vec<…>`, `[…; N]` or `Box<[…]>`, the macro takes the item's type, unless that is `u8`: lists of bytes are keys
//! themselves. A wrong guess is not silent: the keys that are then added do not fit the index, and that does not compile.

use crate::entry::{Entry, Index, Keys};
use crate::key::{Key, KeyFor};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::marker::PhantomData;

/// The traits below without their names, which would hide names of the user's.
pub mod methods {
    pub use super::{
        Bytes as _, Counter as _, ManyKeys as _, Map as _, NoCounter as _, NoKey as _, NoKeyInField as _,
        NotOneKey as _, OneKey as _, OptionalKey as _,
    };
}

/// The type of a value that the macro found under a key or a version.
#[derive(Debug)]
pub struct Kind<T, From = Computed>(PhantomData<fn() -> (T, From)>);

/// The value is what a function returns, or the type of its keys is written.
#[derive(Debug)]
pub struct Computed;

/// The value is a field of which [`Field`] has said what keys it holds, or that it holds none.
#[derive(Debug)]
pub struct InField;

impl<T> Kind<T> {
    /// The kind of this value.
    pub fn of(_: &T) -> Self {
        Self(PhantomData)
    }

    /// The kind of this value, which is a field's.
    pub fn of_field(_: &T) -> Kind<T, InField> {
        Kind(PhantomData)
    }
}

/// What holds keys, and of which type: that of the field in most cases. A list is not here, since a list of bytes is a key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a key nor a collection of keys",
    label = "cannot be looked up by",
    note = "a key is text, bytes, a number, a UUID (feature `uuid`), a tuple of those, or a type that implements `larder::Key`",
    note = "to compute keys from it: `#[entry(key(index = \"…\", with = Self::function, type = …))]`"
)]
pub trait Field {
    /// The owned form of the keys.
    type Key;
}

impl<K: Key> Field for K {
    type Key = K::Owned;
}

macro_rules! holds_keys {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> Field for $type {
            type Key = K::Owned;
        }
    )*};
}

holds_keys! {
    [K: Key] Option<K>;
    [K: Key] BTreeSet<K>;
    [K: Key, S] HashSet<K, S>;
    [K: Key] VecDeque<K>;
    [K: Key] LinkedList<K>;
    [K: Key] BinaryHeap<K>;
    // A map is an error, which `Map` tells.
    [K: Key, V] BTreeMap<K, V>;
    [K: Key, V, S] HashMap<K, V, S>;
}

/// One key.
#[derive(Debug)]
pub struct One;

impl One {
    /// Adds it.
    pub fn add<E: Entry, T>(self, keys: &mut Keys<E>, index: Index<E, T>, key: impl KeyFor<T>) {
        keys.add(index, key);
    }

    /// The key itself, where exactly one is asked for.
    pub fn exactly<K: Key>(self, key: K) -> K {
        key
    }
}

/// A key for each item.
#[derive(Debug)]
pub struct Each;

impl Each {
    /// Adds all of them.
    pub fn add<E: Entry, T>(self, keys: &mut Keys<E>, index: Index<E, T>, items: impl IntoIterator<Item: KeyFor<T>>) {
        items.into_iter().for_each(|key| keys.add(index, key));
    }
}

/// See the table at the top.
pub trait OneKey {
    /// One key.
    fn keys(&self) -> One {
        One
    }

    /// One key, where exactly one is asked for.
    fn key(&self) -> One {
        One
    }
}

impl<T: Key, From> OneKey for &&&&Kind<T, From> {}

/// See the table at the top.
pub trait OptionalKey {
    /// A key or none.
    fn keys(&self) -> Each {
        Each
    }
}

impl<K: Key, From> OptionalKey for &&&Kind<Option<K>, From> {}
impl<K: Key, From> OptionalKey for &&&Kind<&Option<K>, From> {}

/// See the table at the top.
pub trait Bytes<T> {
    /// An error.
    fn keys(&self) -> Unclear<T> {
        Unclear(PhantomData)
    }
}

impl<T: IntoIterator<Item: Byte>, From> Bytes<T> for &&Kind<T, From> {}

/// An item of a byte string.
pub trait Byte {}

impl Byte for u8 {}
impl Byte for &u8 {}

/// See the table at the top.
pub trait Map<T> {
    /// An error.
    fn keys(&self) -> Pairs<T> {
        Pairs(PhantomData)
    }
}

impl<'a, C: ?Sized, K: 'a, V: 'a, From> Map<&'a C> for &&Kind<&'a C, From> where
    &'a C: IntoIterator<Item = (&'a K, &'a V)>
{
}

/// See the table at the top.
pub trait ManyKeys {
    /// A key for each item.
    fn keys(&self) -> Each {
        Each
    }
}

impl<T: IntoIterator<Item: Key>, From> ManyKeys for &Kind<T, From> {}

/// See the table at the top.
pub trait NoKey<T> {
    /// An error.
    fn keys(&self) -> Neither<T> {
        Neither(PhantomData)
    }
}

impl<T> NoKey<T> for Kind<T> {}

/// See the table at the top.
pub trait NoKeyInField {
    /// An error that [`Field`] has told.
    fn keys(&self) -> Told {
        Told
    }
}

impl<T> NoKeyInField for Kind<T, InField> {}

/// See the table at the top.
pub trait NotOneKey<T> {
    /// An error.
    fn key(&self) -> NotOne<T> {
        NotOne(PhantomData)
    }
}

impl<T, From> NotOneKey<T> for Kind<T, From> {}

/// A value of which it was told that it cannot be looked up by.
#[derive(Debug)]
pub struct Told;

impl Told {
    /// Tells no second error.
    pub fn add<E: Entry, K, T>(self, _: &mut Keys<E>, _: Index<E, K>, _: T) {}
}

/// A value that could be one key or several.
#[derive(Debug)]
pub struct Unclear<T>(PhantomData<fn() -> T>);

impl<T> Unclear<T> {
    /// Never compiles.
    pub fn add<E: Entry, K>(self, _: &mut Keys<E>, _: Index<E, K>, _: T)
    where
        T: ClearlyOneKeyOrMany,
    {
    }
}

/// A map.
#[derive(Debug)]
pub struct Pairs<T>(PhantomData<fn() -> T>);

impl<T> Pairs<T> {
    /// Never compiles.
    pub fn add<E: Entry, K>(self, _: &mut Keys<E>, _: Index<E, K>, _: T)
    where
        T: NotAMap,
    {
    }
}

/// A value that cannot be looked up by.
#[derive(Debug)]
pub struct Neither<T>(PhantomData<fn() -> T>);

impl<T> Neither<T> {
    /// Never compiles.
    pub fn add<E: Entry, K>(self, _: &mut Keys<E>, _: Index<E, K>, _: T)
    where
        T: KeyOrKeys,
    {
    }
}

/// A value that is not one key, where exactly one is asked for.
#[derive(Debug)]
pub struct NotOne<T>(PhantomData<fn() -> T>);

impl<T> NotOne<T> {
    /// Never compiles.
    pub fn add<E: Entry, K>(self, _: &mut Keys<E>, _: Index<E, K>, _: T)
    where
        T: ExactlyOneKey,
    {
    }

    /// Never compiles. A key of whatever type is asked for is promised, so that no second error follows.
    pub fn exactly<K: Key + Default>(self, _: T) -> K
    where
        T: ExactlyOneKey,
    {
        K::default()
    }
}

/// Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` could be one key or many",
    label = "one key or many?",
    note = "if each item is a key of its own, say so: `#[key(index = \"…\", each)]`",
    note = "otherwise compute the key: `#[entry(key(index = \"…\", with = Self::function, type = …))]`"
)]
pub trait ClearlyOneKeyOrMany {}

/// Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a map: an object could be looked up by either side of it or by pairs",
    label = "which side of it?",
    note = "compute the keys: `#[entry(key(index = \"…\", with = Self::function, type = …))]`",
    note = "if each pair is a key of two parts, say so: `#[key(index = \"…\", each)]`"
)]
pub trait NotAMap {}

/// Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a key nor a collection of keys",
    label = "cannot be looked up by",
    note = "a key is text, bytes, a number, a UUID (feature `uuid`), a tuple of those, or a type that implements `larder::Key`",
    note = "to compute keys from it: `#[entry(key(index = \"…\", with = Self::function, type = …))]`"
)]
pub trait KeyOrKeys {}

/// Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "exactly one key is needed here, and `{Self}` is not one",
    label = "not exactly one key",
    note = "a primary key, and each part of a key made of several fields, is always there and never a collection",
    note = "a key is text, bytes, a number, a UUID (feature `uuid`), a tuple of those, or a type that implements `larder::Key`"
)]
pub trait ExactlyOneKey {}

/// Whether a type can be a version: `(&&kind).version()`, as for keys.
pub trait Counter {
    /// A version.
    fn version(&self) -> Number {
        Number
    }
}

impl<T: Copy + Into<u64>> Counter for &Kind<T> {}

/// A version.
#[derive(Debug)]
pub struct Number;

impl Number {
    /// The version.
    pub fn read(self, version: &(impl Copy + Into<u64>)) -> u64 {
        (*version).into()
    }
}

/// See [`Counter`].
pub trait NoCounter<T> {
    /// An error.
    fn version(&self) -> NoNumber<T> {
        NoNumber(PhantomData)
    }
}

impl<T> NoCounter<T> for Kind<T> {}

/// A value that cannot be a version.
#[derive(Debug)]
pub struct NoNumber<T>(PhantomData<fn() -> T>);

impl<T> NoNumber<T> {
    /// Never compiles.
    pub fn read(self, _: &T) -> u64
    where
        T: Version,
    {
        0
    }
}

/// Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a version",
    label = "not an unsigned number of at most 64 bits",
    note = "a version is `u8`, `u16`, `u32`, `u64` or a `Copy` type that implements `Into<u64>`, and is never missing",
    note = "keep a signed column in a `u64`: convert it where the row is read, with `u64::try_from`"
)]
pub trait Version {}
