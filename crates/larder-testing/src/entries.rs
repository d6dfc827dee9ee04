//! Sample entry types: one for each thing about entries that a connector can get wrong.
//!
//! | type | what it is for |
//! |---|---|
//! | [`Instance`] | the usual case: one id, several hosts, a version |
//! | [`Site`] | the same without a version, which would hide a stale object from a test of fences |
//! | [`next::Site`] | what the next release of a service made of `Site`: the same cache and indexes, another shape |
//! | [`Account`] | keys of several parts |
//! | [`Blob`] | keys of any bytes, and index names that begin with one another |
//! | [`Misfit`] | what should not be cached: no id or two, bytes that cannot be written or read back |

use larder::{Entry, Index, Keys};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// Found by its id or by one of its hosts; versioned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The primary key.
    pub id: String,
    /// Keys of the index `host`.
    pub hosts: Vec<String>,
    /// No key.
    pub name: String,
    /// The version.
    pub sequence: u64,
}

impl Instance {
    /// An instance with these values.
    pub fn new(id: &str, hosts: &[&str], name: &str, sequence: u64) -> Self {
        Self { id: id.into(), hosts: owned(hosts), name: name.into(), sequence }
    }
}

/// Found by its id or by one of its hosts; without a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The primary key.
    pub id: String,
    /// Keys of the index `host`.
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

/// Entry types of the next release, which runs beside the one before.
pub mod next {
    use serde::{Deserialize, Serialize};

    /// [`Site`](super::Site) in another shape.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Site {
        /// The primary key.
        pub id: String,
        /// Keys of the index `host`.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The primary key: tenant and number.
    pub id: (String, u64),
    /// Keys of the index `login`: tenant and name.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// The primary key.
    pub i: Vec<u8>,
    /// Keys of the index `id`.
    pub id: Vec<Vec<u8>>,
    /// Keys of the index `id2`.
    pub id2: Vec<Vec<u8>>,
}

impl Blob {
    /// A blob with at most one key in each secondary index.
    pub fn new(i: impl AsRef<[u8]>, id: Option<&[u8]>, id2: Option<&[u8]>) -> Self {
        let keys = |key: Option<&[u8]>| key.map(<[u8]>::to_vec).into_iter().collect();
        Self { i: i.as_ref().to_vec(), id: keys(id), id2: keys(id2) }
    }
}

/// The indexes of [`Blob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlobIndex {
    /// `i`, the primary index.
    I,
    /// `id`.
    Id,
    /// `id2`.
    Id2,
}

impl Index for BlobIndex {
    const NAMES: &'static [&'static str] = &["i", "id", "id2"];

    fn position(self) -> usize {
        self as usize
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::I, Self::Id, Self::Id2].into_iter().find(|index| Self::NAMES.get(index.position()) == Some(&name))
    }
}

// By hand, since a byte string is one key here and a list of them several.
impl Entry for Blob {
    type Index = BlobIndex;

    const CACHE: &'static str = "blob";

    fn keys(&self, keys: &mut Keys<BlobIndex>) {
        keys.add(BlobIndex::I, &self.i);
        for id in &self.id {
            keys.add(BlobIndex::Id, id);
        }
        for id2 in &self.id2 {
            keys.add(BlobIndex::Id2, id2);
        }
    }
}

/// What should not be cached: it may have no id or several, and its [`Body`] may not survive being written and read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misfit {
    /// The primary key, when there is exactly one.
    pub ids: Vec<String>,
    /// Keys of the index `host`.
    pub hosts: Vec<String>,
    /// What becomes of its bytes.
    pub body: Body,
}

impl Misfit {
    /// A misfit with these values.
    pub fn new(ids: &[&str], hosts: &[&str], body: Body) -> Self {
        Self { ids: owned(ids), hosts: owned(hosts), body }
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

mod by_hand {
    use super::{Account, Instance, Misfit, Site, next};
    use larder::{Entry, Index, Keys};

    macro_rules! index {
        ($name:ident { $($variant:ident = $text:literal),* }) => {
            /// The indexes, the primary one first.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            pub enum $name {
                $(#[doc = concat!("`", $text, "`")] $variant),*
            }

            impl Index for $name {
                const NAMES: &'static [&'static str] = &[$($text),*];

                fn position(self) -> usize {
                    self as usize
                }

                fn from_name(name: &str) -> Option<Self> {
                    match name {
                        $($text => Some(Self::$variant),)*
                        _ => None,
                    }
                }
            }
        };
    }

    index!(InstanceIndex { Id = "id", Host = "host" });
    index!(SiteIndex { Id = "id", Host = "host" });
    index!(NextSiteIndex { Id = "id", Host = "host" });
    index!(AccountIndex { Id = "id", Login = "login" });
    index!(MisfitIndex { Id = "id", Host = "host" });

    impl Entry for Instance {
        type Index = InstanceIndex;
        const CACHE: &'static str = "instance";
        const VERSIONED: bool = true;
        fn keys(&self, keys: &mut Keys<InstanceIndex>) {
            keys.add(InstanceIndex::Id, &self.id);
            self.hosts.iter().for_each(|host| keys.add(InstanceIndex::Host, host));
        }
        fn version(&self) -> Option<u64> {
            Some(self.sequence)
        }
    }

    impl Entry for Site {
        type Index = SiteIndex;
        const CACHE: &'static str = "site";
        fn keys(&self, keys: &mut Keys<SiteIndex>) {
            keys.add(SiteIndex::Id, &self.id);
            self.hosts.iter().for_each(|host| keys.add(SiteIndex::Host, host));
        }
    }

    impl Entry for next::Site {
        type Index = NextSiteIndex;
        const CACHE: &'static str = "site";
        const REVISION: u32 = 1;
        fn keys(&self, keys: &mut Keys<NextSiteIndex>) {
            keys.add(NextSiteIndex::Id, &self.id);
            self.hosts.iter().for_each(|host| keys.add(NextSiteIndex::Host, host));
        }
    }

    impl Entry for Account {
        type Index = AccountIndex;
        const CACHE: &'static str = "account";
        fn keys(&self, keys: &mut Keys<AccountIndex>) {
            keys.add(AccountIndex::Id, (&self.id.0, self.id.1));
            self.logins.iter().for_each(|(tenant, name)| keys.add(AccountIndex::Login, (tenant, name)));
        }
    }

    impl Entry for Misfit {
        type Index = MisfitIndex;
        const CACHE: &'static str = "misfit";
        fn keys(&self, keys: &mut Keys<MisfitIndex>) {
            self.ids.iter().for_each(|id| keys.add(MisfitIndex::Id, id));
            self.hosts.iter().for_each(|host| keys.add(MisfitIndex::Host, host));
        }
    }
}

pub use by_hand::{AccountIndex, InstanceIndex, MisfitIndex, NextSiteIndex, SiteIndex};
