//! Sample entry types. Each covers one property of entries that a connector can get wrong.
//!
//! | type | what it is for |
//! |---|---|
//! | [`Instance`] | the usual case: one id, several hosts, a version |
//! | [`Site`] | the same without a version: a version would hide a missing fence |
//! | [`next::Site`] | `Site` in the next release of a service: the same cache and indexes, another shape |
//! | [`Account`] | keys of several parts |
//! | [`Blob`] | keys of any bytes, and index names that begin with one another |
//! | [`Misfit`] | an object that cannot be stored: no id or two, or a body that cannot be written or read back |

use larder::{Entry, Index, Keys};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// Found by its id or by one of its hosts; versioned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
pub struct Instance {
    /// The primary key.
    #[key(primary)]
    pub id: String,
    /// Keys of the index `host`.
    #[key(index = "host")]
    pub hosts: Vec<String>,
    /// No key.
    pub name: String,
    /// The version.
    #[version]
    pub sequence: u64,
}

impl Instance {
    /// An instance with these values.
    pub fn new(id: &str, hosts: &[&str], name: &str, sequence: u64) -> Self {
        Self { id: id.into(), hosts: owned(hosts), name: name.into(), sequence }
    }
}

/// Found by its id or by one of its hosts; without a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Entry)]
#[entry(cache = "site")]
pub struct Site {
    /// The primary key.
    #[key(primary)]
    pub id: String,
    /// Keys of the index `host`.
    #[key(index = "host")]
    pub hosts: Vec<String>,
    /// No key.
    pub name: String,
}

impl Site {
    /// A site with these values.
    pub fn new(id: &str, hosts: &[&str], name: &str) -> Self {
        Self { id: id.into(), hosts: owned(hosts), name: name.into() }
    }
}

/// Entry types of the next release, which runs beside the earlier release.
pub mod next {
    use larder::Entry;
    use serde::{Deserialize, Serialize};

    /// [`Site`](super::Site) in another shape.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Entry)]
    #[entry(cache = "site")]
    pub struct Site {
        /// The primary key.
        #[key(primary)]
        pub id: String,
        /// Keys of the index `host`.
        #[key(index = "host")]
        pub hosts: Vec<String>,
        /// No key.
        pub name: String,
        /// New in this release.
        pub region: Option<u32>,
    }

    impl Site {
        /// A site with these values, and a region.
        pub fn new(id: &str, hosts: &[&str], name: &str) -> Self {
            Self { id: id.into(), hosts: super::owned(hosts), name: name.into(), region: Some(7) }
        }
    }
}

/// Found by a tenant and a number, or by a tenant and one of its login names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Entry)]
#[entry(cache = "account")]
pub struct Account {
    /// The primary key: tenant and number.
    #[key(primary)]
    pub id: (String, u64),
    /// Keys of the index `login`: tenant and name.
    #[key(index = "login")]
    pub logins: Vec<(String, String)>,
}

impl Account {
    /// An account with these values.
    pub fn new(tenant: &str, number: u64, logins: &[(&str, &str)]) -> Self {
        let logins = logins.iter().map(|(tenant, name)| ((*tenant).into(), (*name).into())).collect();
        Self { id: (tenant.into(), number), logins }
    }
}

/// Found by bytes, in the indexes `i`, `id` and `id2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Entry)]
#[entry(cache = "blob")]
pub struct Blob {
    /// The primary key.
    #[key(primary)]
    pub i: Vec<u8>,
    /// Keys of the index `id`.
    #[key(index)]
    pub id: Vec<Vec<u8>>,
    /// Keys of the index `id2`.
    #[key(index)]
    pub id2: Vec<Vec<u8>>,
}

impl Blob {
    /// A blob with at most one key in each secondary index.
    pub fn new(i: impl AsRef<[u8]>, id: Option<&[u8]>, id2: Option<&[u8]>) -> Self {
        let keys = |key: Option<&[u8]>| key.map(<[u8]>::to_vec).into_iter().collect();
        Self { i: i.as_ref().to_vec(), id: keys(id), id2: keys(id2) }
    }
}

/// An object that cannot be stored: it may have no id or several, and its [`Body`] may not be writable or readable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misfit {
    /// The primary key, when there is exactly one.
    pub ids: Vec<String>,
    /// Keys of the index `host`.
    pub hosts: Vec<String>,
    /// Whether the object can be written and read back.
    pub body: Body,
}

impl Misfit {
    /// A misfit with these values.
    pub fn new(ids: &[&str], hosts: &[&str], body: Body) -> Self {
        Self { ids: owned(ids), hosts: owned(hosts), body }
    }
}

impl Misfit {
    /// The primary index.
    pub const ID: Index<Self, String> = Index::at::<0>();
    /// The index `host`.
    pub const HOST: Index<Self, String> = Index::at::<1>();
}

// Not derived: a derived entry has exactly one primary key.
impl Entry for Misfit {
    const CACHE: &'static str = "misfit";
    const INDEXES: &'static [&'static str] = &["id", "host"];

    fn keys(&self, keys: &mut Keys<Self>) {
        self.ids.iter().for_each(|id| keys.add(Self::ID, id));
        self.hosts.iter().for_each(|host| keys.add(Self::HOST, host));
    }
}

/// The body of a [`Misfit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Can be written and read.
    Text(String),
    /// Cannot be serialised.
    Unwritable,
    /// Can be serialised, but not deserialised.
    Unreadable,
}

const UNREADABLE: &str = "\u{0}unreadable";

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Unwritable => Err(ser::Error::custom("an unwritable body")),
            Self::Unreadable => serializer.serialize_str(UNREADABLE),
        }
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)? {
            text if text == UNREADABLE => Err(de::Error::custom("an unreadable body")),
            text => Ok(Self::Text(text)),
        }
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
