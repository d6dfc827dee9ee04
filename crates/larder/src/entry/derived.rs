//! What the code that `#[derive(Entry)]` generates calls. Not for use by hand.
//!
//! The macro sees how a type is spelled, not what it is, so the compiler decides here whether a value is one key or several.
//! [`Kind::of`] holds the type of the value; `(&&&&&kind).keys()` calls the `keys` of the first line in this list that fits,
//! because method lookup takes off one `&` at a time:
//!
//! | receiver | type of the value | what it is |
//! |---|---|---|
//! | `&&&&Kind` | a [`Key`] | one key |
//! | `&&&Kind` | `Option` of a key | a key or none |
//! | `&&Kind` | a collection of bytes that is no key itself | an error: one key or many? |
//! | `&&Kind` | a map, borrowed | an error: its keys, its values or both? |
//! | `&Kind` | a collection of keys | a key for each item |
//! | `Kind` | anything else | an error |
//!
//! An error is a bound on a trait that nothing implements, with a message that says what to write.

use crate::entry::{Index, Keys};
use crate::key::Key;
use std::marker::PhantomData;

/// The traits below without their names, which would hide names of the user's.
pub mod methods {
    pub use super::{
        Bytes as _, Counter as _, ManyKeys as _, Map as _, NoCounter as _, NoKey as _, OneKey as _, OptionalKey as _,
    };
}

/// The type of a value that the macro found under a key or a version.
#[derive(Debug)]
pub struct Kind<T>(PhantomData<fn() -> T>);

impl<T> Kind<T> {
    /// The kind of this value.
    pub fn of(_: &T) -> Self {
        Self(PhantomData)
    }
}

/// One key.
#[derive(Debug)]
pub struct One;

impl One {
    /// Adds it.
    pub fn add<I: Index>(self, keys: &mut Keys<I>, index: I, key: impl Key) {
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
    pub fn add<I: Index, T: IntoIterator<Item: Key>>(self, keys: &mut Keys<I>, index: I, items: T) {
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

impl<T: Key> OneKey for &&&&Kind<T> {}

/// See the table at the top.
pub trait OptionalKey {
    /// A key or none.
    fn keys(&self) -> Each {
        Each
    }
}

impl<K: Key> OptionalKey for &&&Kind<Option<K>> {}
impl<K: Key> OptionalKey for &&&Kind<&Option<K>> {}

/// See the table at the top.
pub trait Bytes<T> {
    /// An error.
    fn keys(&self) -> Unclear<T> {
        Unclear(PhantomData)
    }
}

impl<T: IntoIterator<Item: Byte>> Bytes<T> for &&Kind<T> {}

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

impl<'a, C: ?Sized, K: 'a, V: 'a> Map<&'a C> for &&Kind<&'a C> where &'a C: IntoIterator<Item = (&'a K, &'a V)> {}

/// See the table at the top.
pub trait ManyKeys {
    /// A key for each item.
    fn keys(&self) -> Each {
        Each
    }
}

impl<T: IntoIterator<Item: Key>> ManyKeys for &Kind<T> {}

/// See the table at the top.
pub trait NoKey<T> {
    /// An error.
    fn keys(&self) -> Neither<T> {
        Neither(PhantomData)
    }

    /// An error.
    fn key(&self) -> NotOne<T> {
        NotOne(PhantomData)
    }
}

impl<T> NoKey<T> for Kind<T> {}

/// A value that could be one key or several.
#[derive(Debug)]
pub struct Unclear<T>(PhantomData<fn() -> T>);

impl<T> Unclear<T> {
    /// Never compiles.
    pub fn add<I: Index>(self, _: &mut Keys<I>, _: I, _: T)
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
    pub fn add<I: Index>(self, _: &mut Keys<I>, _: I, _: T)
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
    pub fn add<I: Index>(self, _: &mut Keys<I>, _: I, _: T)
    where
        T: KeyOrKeys,
    {
    }
}

/// A value that is not one key, where exactly one is asked for.
#[derive(Debug)]
pub struct NotOne<T>(PhantomData<fn() -> T>);

impl<T> NotOne<T> {
    /// Never compiles. A key is returned so that no second error follows.
    pub fn exactly(self, _: T) -> &'static str
    where
        T: ExactlyOneKey,
    {
        ""
    }
}

/// Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` could be one key or many",
    label = "one key or many?",
    note = "if each item is a key of its own, say so: `#[key(index = \"…\", each)]`",
    note = "otherwise compute the key: `#[entry(key(index = \"…\", with = Self::function))]`"
)]
pub trait ClearlyOneKeyOrMany {}

/// Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a map: an object could be looked up by either side of it or by pairs",
    label = "which side of it?",
    note = "compute the keys: `#[entry(key(index = \"…\", with = Self::function))]`",
    note = "if each pair is a key of two parts, say so: `#[key(index = \"…\", each)]`"
)]
pub trait NotAMap {}

/// Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a key nor a collection of keys",
    label = "cannot be looked up by",
    note = "a key is text, bytes, a number, a UUID (feature `uuid`), a tuple of those, or a type that implements `larder::Key`",
    note = "to compute keys from it: `#[entry(key(index = \"…\", with = Self::function))]`"
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
