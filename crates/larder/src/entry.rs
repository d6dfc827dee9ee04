//! What can be cached, and how it is found: [`Entry`], its [`Index`]es and the [`Keys`] of one object.

use crate::key::KeyFor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

pub use index::{AnyKey, Index};
pub use larder_derive::Entry;

#[cfg(test)]
pub(crate) mod color;
#[doc(hidden)]
pub mod derived;
pub(crate) mod index;

/// A type whose objects can be cached; usually derived.
///
/// ```
/// use larder::Entry;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize, Entry)]
/// #[entry(cache = "instance")]
/// struct Instance {
///     #[key(primary)]
///     id: String,
///     #[key(index = "host")]
///     hosts: Vec<String>,
///     #[version]
///     sequence: u64,
///     name: String,
/// }
/// # use larder::Index;
/// assert_eq!(Instance::INDEXES, ["id", "host"]);
/// let by_host: Index<Instance, String> = Instance::HOST;
/// ```
///
/// [`Index`] shows how to write an entry by hand.
///
/// # Deriving
///
/// The derive is for structs without generic parameters. For each index it adds a constant to the struct: an [`Index`], as visible as the
/// struct, named in capital letters (`email-domain` becomes `EMAIL_DOMAIN`). Names of caches and indexes consist of letters, digits, `_`,
/// `-` and `.`. The primary index comes first, then the indexes of the fields, then those of the struct, in the order in which they are
/// written. There are at most 255.
///
/// | on a field | what it is |
/// |---|---|
/// | `#[key(primary)]` | the primary key; its index has the name of the field |
/// | `#[key(primary, index = "uuid")]` | the same with another name |
/// | `#[key(index = "host")]` | secondary keys; [no two objects have the same](#keys-are-unique) |
/// | `#[key(index)]` | secondary keys; the index has the name of the field |
/// | `#[key(index = "digit", each)]` | secondary keys, one for each item, even if the field as a whole could be a key |
/// | `#[key(index = "tag", type = String)]` | the [type of the keys](#the-type-of-the-keys), if the derive cannot see it |
/// | `#[version]` | the version: `u8` to `u64`, or a `Copy` type that implements `Into<u64>` |
///
/// | within `#[entry(…)]` on the struct | what it is |
/// |---|---|
/// | `cache = "instance"` | the name of the cache; required |
/// | `key(index = "domain", with = path, type = String)` | keys of this type that the function at `path` computes, a `fn(&Self)`; `each` and `primary` as on a field |
/// | `key(index = "slug", fields = (tenant, slug))` | one key of two to four fields, looked up by a tuple; `primary` as on a field |
/// | `revision = 3` | [`REVISION`](Self::REVISION) |
/// | `weight = path` | [`weight`](Self::weight): a `fn(&Self) -> u64`, in bytes |
/// | `crate = path` | where larder is, for crates that re-export it |
///
/// # One key or many
///
/// The type of a field, or of what a function returns, decides how many keys there are:
///
/// 1. A [`Key`](crate::Key) is one key. So `Vec<u8>` and `[u8; 16]` are one key, because they are bytes; `(String, u64)` is one key of two
///    parts.
/// 2. An `Option` of a key is a key or none.
/// 3. A collection of keys is one key for each item: lists, arrays, sets, boxed slices, anything that can be iterated over by reference.
/// 4. Anything else does not compile. Neither does what could mean two things: a map, and a collection of bytes that is not a key itself
///    (`VecDeque<u8>`).
///
/// ```
/// # use larder::{Entry, Keys};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize, Entry)]
/// #[entry(
///     cache = "account",
///     key(primary, index = "number", fields = (tenant, number)),
///     key(index = "login", with = Self::logins, type = (String, String)),
/// )]
/// struct Account {
///     tenant: String,
///     number: u64,
///     logins: Vec<String>,
///     #[key(index)]
///     thumbprint: Option<[u8; 20]>,
/// }
///
/// impl Account {
///     fn logins(&self) -> impl Iterator<Item = (&str, &str)> {
///         self.logins.iter().map(|login| (&*self.tenant, &**login))
///     }
/// }
///
/// let account = Account { tenant: "acme".into(), number: 7, logins: vec!["jo".into(), "root".into()], thumbprint: None };
/// let keys = Keys::of(&account);
/// assert_eq!(keys[0], Account::NUMBER.key(("acme", 7)));
/// assert_eq!(keys[2], Account::LOGIN.key(("acme", "root")));
/// assert_eq!(keys.len(), 3);
/// ```
///
/// # The type of the keys
///
/// An index takes keys of one type. The derive reads that type off the type of the field:
///
/// | what the keys come from | type of the keys |
/// |---|---|
/// | a field whose type is a key | that type |
/// | an `Option`, a `Vec`, an array, a boxed slice or a set of the standard library | the type of the items |
/// | any collection with `each` | the type of the items |
/// | `fields` | the tuple of the fields' types |
///
/// The derive cannot read what a function returns, what is behind a type alias of a list, or the items of a collection of your own. In
/// these cases write `type = …`. Any form of the key will do: `str`, `String` and `Arc<str>` are the same index. If the type that was read
/// or written is not what the field holds, the entry does not compile.
///
/// # Keys are unique
///
/// A key leads to one object. When an object is stored, every other object of the cache that has one of its keys is invalidated, under all
/// of its keys. So an index is for what distinguishes objects (a host name, a login), not for what they share. If many users list `"admin"`
/// in an index of `roles: Vec<String>`, the cache holds only the user that was stored last, and the users displace each other with each
/// load. That is counted ([`Stats::displaced`](crate::contract::Stats::displaced), `larder_displaced_total`) and told at the level debug.
/// It can also be correct: a host name that moves from one instance to another ends the instance that had it.
///
/// # What can be stored
///
/// **The memory connector** keeps the object itself. It takes every type, and a get returns the very object that was set.
///
/// **A connector with a server** (redis) stores what `Serialize` writes, as MessagePack with named fields. `Deserialize` makes a new object
/// of it for each get. Not every type survives that, so larder tries it each time: before an object is stored, it is read back and written
/// once more. If that fails or gives other bytes, the object is not stored:
///
/// - The set or fill answers [`Stored::Unfit`](crate::Stored::Unfit).
/// - After a set the earlier state is gone, as after any set.
/// - Each later get is a miss.
/// - A warning, at most once a minute, names the cache, the type and the reason ([`EncodeError`](crate::EncodeError)).
///
/// The order of maps and lists is not compared, because a `HashSet` has another order each time.
///
/// | what an object holds | is it stored? | instead |
/// |---|---|---|
/// | numbers, `bool`, `char`, text, bytes, lists, sets, tuples, arrays | yes | |
/// | maps, whatever their keys are | yes | |
/// | structs and enums of any kind, `Option`, `Box`, `Arc` | yes | |
/// | `Duration`, `SystemTime`, `IpAddr`, `serde_json::Value` | yes | |
/// | `Some(None)`, `Some(())`, `Some(serde_json::Value::Null)` | no: MessagePack has no `Some` | an enum with a variant for each case |
/// | `i128`, `u128` in a *buffered place* | no: serde does not keep them there | text, or two `u64` |
/// | `IpAddr`, `SocketAddr` in a *buffered place* | no: serde asks them for text there | `#[serde(with = "…")]`, as text |
/// | a unit struct, `PhantomData` in an `untagged` enum | no | `()` |
/// | values nested more than 1,000 levels deep | no | a flat list |
/// | a field with `skip_serializing_if` and without `default` | not while it is left out | `#[serde(default)]` as well |
/// | a field that is written and not read (`skip_deserializing`), or read as another value | not while that makes a difference | make `Serialize` and `Deserialize` agree |
/// | what `Serialize` refuses, such as a time before 1970 | no | |
///
/// A *buffered place* is one where serde reads a value before it knows its type: behind `#[serde(flatten)]`, and in an enum with
/// `#[serde(tag = "…")]` (without `content`) or `#[serde(untagged)]`.
///
/// Values for which `Serialize` writes the same bytes cannot be told apart afterwards. larder cannot notice that, so the type must avoid
/// it:
///
/// | what an object holds | what a get returns |
/// |---|---|
/// | a field with `#[serde(skip)]` | the field's default |
/// | a field that is written shortened, such as a time in whole seconds | the shortened value |
/// | an enum with `#[serde(untagged)]` in which two variants are written the same | the first variant that takes the bytes |
/// | `#[serde(flatten)]` on an `Option` whose fields are all left out | `Some` with those fields at their defaults |
/// | two `Arc`s of one value | a separate `Arc` for each |
///
/// ```
/// # use larder::{Codec, EncodeError, Entry, contract::Value};
/// # use serde::{Deserialize, Serialize};
/// # use std::sync::Arc;
/// #[derive(Serialize, Deserialize, Entry)]
/// #[entry(cache = "profile")]
/// struct Profile {
///     #[key(primary)]
///     id: u64,
///     // Not known, known to be none, or a name: rather an enum of three variants.
///     nickname: Option<Option<String>>,
/// }
///
/// let encoded = |nickname| Codec::of::<Profile>().encode(&(Arc::new(Profile { id: 7, nickname }) as Value));
/// assert!(encoded(None).is_ok());
/// assert!(encoded(Some(Some("jo".into()))).is_ok());
/// assert_eq!(encoded(Some(None)), Err(EncodeError::SomeOfNothing("nickname".into())));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an entry",
    label = "cannot be cached",
    note = "derive it: `#[derive(serde::Serialize, serde::Deserialize, larder::Entry)]` and `#[entry(cache = \"…\")]`"
)]
pub trait Entry: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name of the cache that holds these objects: letters, digits, `_`, `-` and `.`.
    const CACHE: &'static str;

    /// The names of the indexes, the primary one first: 1 to 255 different names, of the same characters as the name of the cache. With
    /// another number of indexes the entry does not compile where it is cached.
    const INDEXES: &'static [&'static str];

    /// Raise this when the stored data changes and its shape does not. Releases that differ in revision or shape do not read each other's
    /// objects.
    ///
    /// The shape (names and types of the serialised fields at any depth, and the indexes) is found by asking `Deserialize`. It does
    /// not show what a value means, what `Serialize` does differently, what is behind `#[serde(untagged)]`, the content of
    /// enums with `#[serde(tag = "…")]` beyond the names of their required fields, nor the optional fields of a struct with
    /// `#[serde(flatten)]`.
    const REVISION: u32 = 0;

    /// Whether [`version`](Self::version) returns a version.
    const VERSIONED: bool = false;

    /// Adds all keys of this object: exactly one of the primary index, and any number of the others.
    fn keys(&self, keys: &mut Keys<Self>);

    /// The version of this state of the object. A higher version is newer. At most `i64::MAX`.
    fn version(&self) -> Option<u64> {
        None
    }

    /// What the object weighs in memory, in bytes, for a cache that is bounded by weight. `None`: its serialised length.
    fn weight(&self) -> Option<u64> {
        None
    }
}

/// Collects the keys of one object.
///
/// A key that is not of the index's type does not compile:
///
/// ```compile_fail,E0277
/// # use larder::{Entry, Index, Keys};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Instance { id: u64, name: String }
/// # impl Instance { const ID: Index<Self, u64> = Index::at::<0>(); }
/// impl Entry for Instance {
/// #   const CACHE: &'static str = "instance";
/// #   const INDEXES: &'static [&'static str] = &["id"];
///     fn keys(&self, keys: &mut Keys<Self>) {
///         keys.add(Self::ID, &self.name); // this index takes `u64` here, not `String`
///     }
/// }
/// ```
pub struct Keys<E> {
    added: Vec<AnyKey<E>>,
}

/// Up to this number, keys are compared one by one, which is faster than to hash them. For more keys that takes time that grows with the
/// square of their number.
const COMPARED: usize = 16;

impl<E: Entry> Keys<E> {
    /// Adds one key of `index`. A key that is there already is not added again.
    pub fn add<K>(&mut self, index: Index<E, K>, key: impl KeyFor<K>) {
        add_if_few(&mut self.added, index.key(key));
    }

    /// The keys of `entry`, each once, in the order in which it names them.
    pub fn of(entry: &E) -> Vec<AnyKey<E>> {
        let mut keys = Self { added: Vec::with_capacity(4) };
        entry.keys(&mut keys);
        distinct(keys.added)
    }
}

/// Adds an item unless it is there already. If there are too many items to compare, always adds it, and [`distinct`] removes duplicates
/// later.
fn add_if_few<T: PartialEq>(added: &mut Vec<T>, one: T) {
    if added.len() > COMPARED || !added.contains(&one) {
        added.push(one);
    }
}

/// All items, each once, in the order in which they were first added.
fn distinct<T: Eq + Hash>(mut added: Vec<T>) -> Vec<T> {
    if added.len() > COMPARED {
        let mut seen = HashSet::with_capacity(added.len());
        let first: Vec<bool> = added.iter().map(|one| seen.insert(one)).collect();
        let mut first = first.into_iter();
        added.retain(|_| first.next().unwrap_or(true));
    }
    added
}

impl<E: Entry> fmt::Debug for Keys<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.added).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize)]
    struct Site;

    impl Site {
        const ID: Index<Self, u32> = Index::at::<0>();
        const HOST: Index<Self, u32> = Index::at::<1>();
    }

    impl Entry for Site {
        const CACHE: &'static str = "site";
        const INDEXES: &'static [&'static str] = &["id", "host"];

        fn keys(&self, _: &mut Keys<Self>) {}
    }

    fn all_of(added: impl IntoIterator<Item = (Index<Site, u32>, u32)>) -> Vec<AnyKey<Site>> {
        let mut keys = Keys { added: Vec::new() };
        added.into_iter().for_each(|(index, key)| keys.add(index, key));
        distinct(keys.added)
    }

    #[test]
    fn each_key_counts_once_where_it_was_first_added_however_many_there_are() {
        for count in [1, 2, COMPARED as u32, COMPARED as u32 + 1, 100] {
            let once: Vec<_> = (0..count).flat_map(|key| [(Site::ID, key), (Site::HOST, key)]).collect();
            let twice = once.iter().flat_map(|key| [*key, *key]).chain(once.iter().rev().copied());
            let encoded = |(index, key): &(Index<Site, u32>, u32)| index.key(*key);
            assert_eq!(all_of(twice), once.iter().map(encoded).collect::<Vec<_>>(), "{count}");
        }
    }

    #[test]
    fn an_index_says_its_name_and_its_place() {
        assert_eq!((Site::HOST.name(), Site::HOST.position()), ("host", 1));
        assert_eq!(format!("{:?}", Site::HOST), r#"Index("host")"#);
        assert_eq!(format!("{:?}", Site::HOST.key(7)), "host=7");
        assert_ne!(Site::ID.key(7), Site::HOST.key(7));
    }

    /// Counts how often it is compared. To compare each item with each would take 50 million comparisons.
    #[test]
    fn what_it_takes_to_tell_many_keys_apart_grows_with_their_number_only() {
        use std::cell::Cell;

        thread_local!(static COMPARISONS: Cell<u64> = const { Cell::new(0) });

        #[derive(Debug, Eq)]
        struct Counted(u32);

        impl Hash for Counted {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl PartialEq for Counted {
            fn eq(&self, other: &Self) -> bool {
                COMPARISONS.set(COMPARISONS.get() + 1);
                self.0 == other.0
            }
        }

        let mut added = Vec::new();
        (0..10_000).for_each(|number| add_if_few(&mut added, Counted(number)));
        assert_eq!(distinct(added).len(), 10_000);
        assert!(COMPARISONS.get() < 50_000, "{} comparisons", COMPARISONS.get());
    }
}
