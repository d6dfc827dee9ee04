//! [`Index`]: a way to look the objects of an entry up, and [`AnyKey`]: a key of any of these ways.

use super::Entry;
use crate::key::KeyFor;
use crate::key::{KeyBuf, KeyRef};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// An index of the entry `E` whose keys are `K`: a way to look objects up.
///
/// `#[derive(Entry)]` makes a constant of the struct for each index, named after the index in capital letters. `K` is the owned form of
/// the keys ([`Key::Owned`](crate::Key::Owned)): `String` where the field is a `String`, a `Box<str>` or a list of those. A key of another type,
/// or an index of another entry, does not compile:
///
/// ```
/// # use larder::{Cache, Entry, Index};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize, Entry)]
/// #[entry(cache = "account", key(index = "login", fields = (tenant, name)))]
/// struct Account {
///     #[key(primary)]
///     number: u64,
///     tenant: String,
///     name: String,
/// }
///
/// let number: Index<Account, u64> = Account::NUMBER;
/// let login: Index<Account, (String, String)> = Account::LOGIN;
/// # async fn look_up(accounts: Cache<Account>) {
/// accounts.get(Account::NUMBER, 7).await;
/// accounts.get(Account::LOGIN, ("acme", "jo")).await;
/// # }
/// ```
///
/// ```compile_fail,E0277
/// # use larder::{Cache, Entry};
/// # #[derive(serde::Serialize, serde::Deserialize, Entry)]
/// # #[entry(cache = "account", key(index = "login", fields = (tenant, name)))]
/// # struct Account { #[key(primary)] number: u64, tenant: String, name: String }
/// # async fn look_up(accounts: Cache<Account>) {
/// accounts.get(Account::LOGIN, "jo").await; // this index takes `(String, String)` here, not `str`
/// # }
/// ```
///
/// # By hand
///
/// An entry that is written by hand has one constant for each name of its [`INDEXES`](Entry::INDEXES). [`Index::at`] makes it of the place of the
/// name. What the type does not prove, the author of the entry has to see to: each place has one constant, with one type of keys.
///
/// ```
/// use larder::{Entry, Index, Keys};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Instance {
///     id: u64,
///     hosts: Vec<String>,
/// }
///
/// impl Instance {
///     const ID: Index<Self, u64> = Index::at::<0>();
///     const HOST: Index<Self, String> = Index::at::<1>();
/// }
///
/// impl Entry for Instance {
///     const CACHE: &'static str = "instance";
///     const INDEXES: &'static [&'static str] = &["id", "host"];
///
///     fn keys(&self, keys: &mut Keys<Self>) {
///         keys.add(Self::ID, self.id);
///         self.hosts.iter().for_each(|host| keys.add(Self::HOST, host));
///     }
/// }
///
/// let acme = Instance { id: 42, hosts: vec!["acme.example".into()] };
/// assert_eq!(Keys::of(&acme), [Instance::ID.key(42), Instance::HOST.key("acme.example")]);
/// assert_eq!(Instance::HOST.name(), "host");
/// ```
///
/// A place that the names do not have does not compile:
///
/// ```compile_fail,E0080
/// # use larder::{Entry, Index, Keys};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Instance { id: u64 }
/// # impl Entry for Instance {
/// #     const CACHE: &'static str = "instance";
/// #     const INDEXES: &'static [&'static str] = &["id", "host"];
/// #     fn keys(&self, keys: &mut Keys<Self>) { keys.add(NAME, "") }
/// # }
/// const NAME: Index<Instance, String> = Index::at::<2>();
/// ```
pub struct Index<E, K> {
    position: u8,
    of: PhantomData<Of<E, K>>,
}

/// Neither an entry nor a key is in an index, so an index can go to any thread.
type Of<E, K> = (fn() -> E, fn() -> K);

impl<E: Entry, K> Index<E, K> {
    /// The index whose name is at this place of [`Entry::INDEXES`], counted from 0. Where there is no such name, this does not compile.
    #[must_use]
    pub const fn at<const POSITION: usize>() -> Self {
        const {
            names::<E>();
            assert!(POSITION < E::INDEXES.len(), "`Entry::INDEXES` has no name at this position");
        }
        // There are at most 255 names, so the position fits.
        Self { position: POSITION as u8, of: PhantomData }
    }

    /// The name of the index.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_at::<E>(self.position)
    }

    /// A key of this index, for a call that takes keys of several indexes, such as [`invalidate_many`](crate::Cache::invalidate_many).
    #[must_use]
    pub fn key(self, key: impl KeyFor<K>) -> AnyKey<E> {
        AnyKey::new(KeyBuf { index: self.position, bytes: (*key.encode()).into() })
    }
}

impl<E, K> Index<E, K> {
    /// The place of its name among [`Entry::INDEXES`]; 0 is the primary index.
    #[must_use]
    pub const fn position(self) -> u8 {
        self.position
    }

    /// The same index, looked up by the [encoded](crate::Key::encode) bytes of its keys.
    #[must_use]
    pub const fn encoded(self) -> Index<E, Vec<u8>> {
        Index { position: self.position, of: PhantomData }
    }
}

/// An index that is known only while the program runs.
impl<E: Entry> Index<E, Vec<u8>> {
    /// The index with this name, looked up by the [encoded](crate::Key::encode) bytes of its keys. Nothing checks that bytes are a key of the index.
    ///
    /// ```
    /// # use larder::{Cache, Entry, Index, Key};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "account", key(index = "login", fields = (tenant, name)))]
    /// # struct Account { #[key(primary)] number: u64, tenant: String, name: String }
    /// assert_eq!(Index::<Account, Vec<u8>>::named("login"), Some(Account::LOGIN.encoded()));
    /// assert_eq!(Index::<Account, Vec<u8>>::named("host"), None);
    /// assert_eq!(Account::LOGIN.encoded().key(&*("acme", "jo").encode()), Account::LOGIN.key(("acme", "jo")));
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let position = names::<E>().iter().position(|known| *known == name)?;
        Some(Self { position: u8::try_from(position).ok()?, of: PhantomData })
    }
}

impl<E, K> Clone for Index<E, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E, K> Copy for Index<E, K> {}

impl<E, K> PartialEq for Index<E, K> {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}

impl<E, K> Eq for Index<E, K> {}

impl<E, K> Hash for Index<E, K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.position.hash(state);
    }
}

impl<E: Entry, K> fmt::Debug for Index<E, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Index").field(&self.name()).finish()
    }
}

/// An encoded key of any index of the entry `E`: [`Index::key`] makes it, and [`Keys::of`](super::Keys::of) lists those of an object.
pub struct AnyKey<E> {
    key: KeyBuf,
    of: PhantomData<fn() -> E>,
}

impl<E> AnyKey<E> {
    pub(crate) fn new(key: KeyBuf) -> Self {
        Self { key, of: PhantomData }
    }

    /// The key as a connector takes it.
    #[must_use]
    pub fn as_ref(&self) -> KeyRef<'_> {
        self.key.as_ref()
    }

    /// The key as a connector takes it.
    #[must_use]
    pub fn into_buf(self) -> KeyBuf {
        self.key
    }

    /// The key's bytes in its index.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.key.bytes
    }

    /// The key's index, which takes the key's [`bytes`](Self::bytes).
    #[must_use]
    pub fn index(&self) -> Index<E, Vec<u8>> {
        Index { position: self.key.index, of: PhantomData }
    }
}

impl<E> Clone for AnyKey<E> {
    fn clone(&self) -> Self {
        Self::new(self.key.clone())
    }
}

impl<E> PartialEq for AnyKey<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<E> Eq for AnyKey<E> {}

impl<E> Hash for AnyKey<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl<E: Entry> fmt::Debug for AnyKey<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.index().name(), self.key.bytes.escape_ascii())
    }
}

/// The most indexes of an entry. The position of an index in a key is one byte.
pub(crate) const MOST: usize = 255;

/// The names of the indexes. Where their number does not fit into a key, this does not compile.
pub(crate) const fn names<E: Entry>() -> &'static [&'static str] {
    const {
        assert!(!E::INDEXES.is_empty(), "`Entry::INDEXES` is empty: an entry has at least one index, the primary one");
        assert!(E::INDEXES.len() <= MOST, "`Entry::INDEXES` has more than 255 names: an entry has at most 255 indexes");
    }
    E::INDEXES
}

/// The name at this position, for people.
pub(crate) fn name_at<E: Entry>(position: u8) -> &'static str {
    E::INDEXES.get(usize::from(position)).copied().unwrap_or("?")
}
