//! `#[derive(Entry)]` as its users see it: which keys an object has, under which indexes, and what else is derived.
#![allow(missing_docs)]

use larder::connector::memory::{Memory, MemoryOptions};
use larder::{Cache, Entry, Index, Key, KeyBytes, KeyFor, Keys, Schema, Stored};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::net::IpAddr;

/// The keys of an object as text: `index=key`.
fn keys<E: Entry>(entry: &E) -> Vec<String> {
    Keys::of(entry).iter().map(|key| format!("{}={}", key.index().name(), key.bytes().escape_ascii())).collect()
}

mod the_usual_entry {
    use super::*;

    #[derive(Clone, Serialize, Deserialize, Entry)]
    #[entry(cache = "instance")]
    struct Instance {
        name: String,
        #[key(index = "host")]
        hosts: Vec<String>,
        #[key(primary)]
        id: String,
        #[version]
        sequence: u64,
    }

    fn instance() -> Instance {
        Instance {
            name: "Acme".into(),
            hosts: vec!["a.example".into(), "b.example".into()],
            id: "42".into(),
            sequence: 7,
        }
    }

    #[test]
    fn has_its_primary_key_and_its_secondary_keys() {
        assert_eq!(keys(&instance()), ["id=42", "host=a.example", "host=b.example"]);
        assert_eq!(keys(&Instance { hosts: vec![], ..instance() }), ["id=42"]);
    }

    #[test]
    fn names_the_primary_index_first() {
        assert_eq!(Instance::INDEXES, ["id", "host"]);
        assert_eq!([Instance::ID.position(), Instance::HOST.position()], [0, 1]);
    }

    #[test]
    fn finds_an_index_by_its_name_only() {
        let named = Index::<Instance, Vec<u8>>::named;
        assert_eq!(named("id"), Some(Instance::ID.encoded()));
        assert_eq!(named("host"), Some(Instance::HOST.encoded()));
        for name in ["", "hosts", "Host", "name"] {
            assert_eq!(named(name), None, "{name}");
        }
    }

    #[test]
    fn says_the_rest() {
        assert_eq!(Instance::CACHE, "instance");
        assert_eq!(Instance::REVISION, 0);
        const { assert!(Instance::VERSIONED) };
        assert_eq!(instance().version(), Some(7));
        assert_eq!(instance().weight(), None);
    }
}

mod one_key {
    use super::*;

    type Digest = Vec<u8>;

    #[derive(Clone, Serialize, Deserialize)]
    struct HostName(String);

    impl Key for HostName {
        type Owned = String;

        fn encode(&self) -> KeyBytes<'_> {
            self.0.encode()
        }

        fn to_owned_key(&self) -> String {
            self.0.clone()
        }
    }

    impl KeyFor<String> for HostName {}

    #[derive(Serialize, Deserialize, Entry)]
    #[entry(cache = "one")]
    struct One {
        #[key(primary)]
        id: u128,
        #[key(index)]
        text: Box<str>,
        #[key(index)]
        bytes: Vec<u8>,
        #[key(index)]
        alias: Digest,
        #[key(index)]
        array: [u8; 3],
        #[key(index)]
        pair: (String, i16),
        #[key(index)]
        address: IpAddr,
        #[key(index)]
        own: HostName,
    }

    #[test]
    fn is_what_is_a_key_and_bytes_are_one() {
        let one = One {
            id: 1,
            text: "x".into(),
            bytes: b"yz".to_vec(),
            alias: vec![0, 255],
            array: *b"abc",
            pair: ("acme".into(), -7),
            address: IpAddr::from([127, 0, 0, 1]),
            own: HostName("h".into()),
        };
        assert_eq!(
            keys(&one),
            [
                "id=1",
                "text=x",
                "bytes=yz",
                r"alias=\x00\xff",
                "array=abc",
                "pair=4:acme,2:-7,",
                "address=127.0.0.1",
                "own=h"
            ]
        );
    }
}

mod optional_keys {
    use super::*;

    type Maybe = Option<Vec<u8>>;

    #[derive(Default, Serialize, Deserialize, Entry)]
    #[entry(cache = "optional")]
    struct Optional {
        #[key(primary)]
        id: u8,
        #[key(index)]
        text: Option<String>,
        #[key(index)]
        bytes: Maybe,
        #[key(index)]
        byte: Option<u8>,
    }

    #[test]
    fn are_there_or_not() {
        assert_eq!(keys(&Optional::default()), ["id=0"]);
        let all = Optional { id: 1, text: Some("x".into()), bytes: Some(b"yz".to_vec()), byte: Some(9) };
        assert_eq!(keys(&all), ["id=1", "text=x", "bytes=yz", "byte=9"]);
    }
}

mod many_keys {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Grouped(Vec<String>);

    impl<'a> IntoIterator for &'a Grouped {
        type Item = &'a String;
        type IntoIter = std::slice::Iter<'a, String>;

        fn into_iter(self) -> Self::IntoIter {
            self.0.iter()
        }
    }

    #[derive(Serialize, Deserialize, Entry)]
    #[entry(cache = "many")]
    struct Many {
        #[key(primary)]
        id: u8,
        #[key(index)]
        list: Vec<u16>,
        #[key(index)]
        digests: Vec<Vec<u8>>,
        #[key(index)]
        pairs: Vec<(String, String)>,
        #[key(index)]
        array: [String; 2],
        #[key(index)]
        boxed: Box<[String]>,
        #[key(index)]
        hashed: HashSet<String>,
        #[key(index)]
        sorted: BTreeSet<u64>,
        #[key(index)]
        queue: VecDeque<char>,
        #[key(index, each)]
        own: Grouped,
        #[key(index, type = str)]
        more: Grouped,
        #[key(index = "digit", each)]
        digits: Vec<u8>,
    }

    #[test]
    fn are_the_items_of_a_collection() {
        let many = Many {
            id: 0,
            list: vec![1, 2, 1],
            digests: vec![b"a".to_vec(), b"b".to_vec()],
            pairs: vec![("t".into(), "u".into())],
            array: ["p".into(), "q".into()],
            boxed: ["r".to_owned()].into(),
            hashed: HashSet::from(["s".to_owned()]),
            sorted: BTreeSet::from([30, 4]),
            queue: VecDeque::from(['x']),
            own: Grouped(vec!["g".into()]),
            more: Grouped(vec!["m".into()]),
            digits: vec![3, 4],
        };
        assert_eq!(
            keys(&many),
            [
                "id=0",
                "list=1",
                "list=2",
                "digests=a",
                "digests=b",
                "pairs=1:t,1:u,",
                "array=p",
                "array=q",
                "boxed=r",
                "hashed=s",
                "sorted=4",
                "sorted=30",
                "queue=x",
                "own=g",
                "more=m",
                "digit=3",
                "digit=4"
            ]
        );
    }
}

mod computed_keys {
    use super::*;

    #[derive(Serialize, Deserialize, Entry)]
    #[entry(cache = "user")]
    #[entry(key(primary, index = "number", with = Self::number, type = usize))]
    #[entry(
        key(index = "email_domain", with = Self::domain, type = String),
        key(index = "login", with = logins, type = (String, String)),
        key(index = "tag", with = Self::tags, type = String),
        key(index = "initial", with = Self::initials, each, type = u8),
        key(index = "digest", with = Self::digest, type = Vec<u8>),
        key(index = "alias", with = text::aliases, type = &'static str)
    )]
    struct User {
        tenant: String,
        email: String,
        tags: BTreeMap<String, u8>,
    }

    impl User {
        fn number(&self) -> usize {
            self.email.len()
        }

        fn domain(&self) -> Option<&str> {
            Some(self.email.split_once('@')?.1)
        }

        fn tags(&self) -> impl Iterator<Item = &String> {
            self.tags.keys()
        }

        fn initials(&self) -> Vec<u8> {
            self.email.bytes().take(1).collect()
        }

        fn digest(&self) -> Vec<u8> {
            self.email.bytes().rev().take(2).collect()
        }
    }

    fn logins(user: &User) -> Vec<(&str, &str)> {
        user.email.split('@').map(|part| (&*user.tenant, part)).collect()
    }

    mod text {
        pub(super) fn aliases(user: &super::User) -> [&str; 1] {
            [&user.email]
        }
    }

    #[test]
    fn are_what_the_function_returns() {
        let tags = BTreeMap::from([("b".to_owned(), 1), ("a".to_owned(), 2)]);
        let user = User { tenant: "t".into(), email: "jo@x.example".into(), tags };
        assert_eq!(
            keys(&user),
            [
                "number=12",
                "email_domain=x.example",
                "login=1:t,2:jo,",
                "login=1:t,9:x.example,",
                "tag=a",
                "tag=b",
                "initial=106",
                "digest=el",
                "alias=jo@x.example"
            ]
        );
        let nobody = User { tenant: "t".into(), email: "jo".into(), tags: BTreeMap::new() };
        assert!(!keys(&nobody).iter().any(|key| key.starts_with("email_domain")));
    }
}

mod keys_of_several_fields {
    use super::*;

    #[derive(Serialize, Deserialize, Entry)]
    #[entry(cache = "project", key(primary, index = "number", fields = (tenant, number)))]
    #[entry(key(index = "tenant_slug", fields = (tenant, slug)))]
    struct Project {
        tenant: String,
        number: u64,
        slug: String,
    }

    #[test]
    fn are_tuples() {
        let project = Project { tenant: "acme".into(), number: 7, slug: "x".into() };
        assert_eq!(keys(&project), ["number=4:acme,1:7,", "tenant_slug=4:acme,1:x,"]);
        assert_eq!(Keys::of(&project)[0], Project::NUMBER.key(("acme", 7)));
    }
}

/// The constants compile with the types that are written here, and with no others.
mod the_type_of_the_keys {
    use super::*;
    use std::rc::Rc;
    use std::sync::Arc;

    type Digest = Vec<u8>;
    type Maybe = Option<u16>;

    #[derive(Serialize, Deserialize, Entry)]
    #[entry(
        cache = "types",
        key(index = "pair", fields = (id, text)),
        key(index = "computed", with = Self::computed, type = (&'static str, u8)),
    )]
    struct Types {
        #[key(primary)]
        id: u128,
        #[key(index)]
        text: Box<str>,
        #[key(index)]
        shared: std::borrow::Cow<'static, str>,
        #[key(index)]
        bytes: Vec<u8>,
        #[key(index)]
        boxed_bytes: Box<[u8]>,
        #[key(index)]
        alias: Digest,
        #[key(index)]
        maybe: Maybe,
        #[key(index)]
        texts: Vec<Box<str>>,
        #[key(index)]
        digests: std::vec::Vec<Digest>,
        #[key(index)]
        pairs: Vec<(String, i8)>,
        #[key(index)]
        array: [String; 2],
        #[key(index)]
        digest: [u8; 20],
        #[key(index)]
        boxed: Box<[u32]>,
        #[key(index)]
        set: BTreeSet<(u8, String)>,
        #[key(index, each)]
        each: Vec<u8>,
        #[key(index, each, type = u64)]
        written: VecDeque<u64>,
    }

    impl Types {
        fn computed(&self) -> Option<(&str, u8)> {
            None
        }
    }

    const _: (Index<Types, u128>, Index<Types, String>, Index<Types, String>) = (Types::ID, Types::TEXT, Types::SHARED);
    const _: [Index<Types, Vec<u8>>; 4] = [Types::BYTES, Types::BOXED_BYTES, Types::ALIAS, Types::DIGESTS];
    const _: (Index<Types, u16>, Index<Types, String>) = (Types::MAYBE, Types::TEXTS);
    const _: (Index<Types, (String, i8)>, Index<Types, String>) = (Types::PAIRS, Types::ARRAY);
    const _: (Index<Types, [u8; 20]>, Index<Types, u32>) = (Types::DIGEST, Types::BOXED);
    const _: (Index<Types, (u8, String)>, Index<Types, u8>) = (Types::SET, Types::EACH);
    const _: (Index<Types, u64>, Index<Types, (u128, String)>) = (Types::WRITTEN, Types::PAIR);
    const _: Index<Types, (String, u8)> = Types::COMPUTED;

    #[test]
    fn takes_owned_and_borrowed_forms_and_numbers_without_their_type() {
        let digest = [7; 20];
        let keys = [
            (Types::ID.key(7), &b"7"[..]),
            (Types::ID.key(&7), b"7"),
            (Types::TEXT.key("x"), b"x"),
            (Types::TEXT.key(String::from("x")), b"x"),
            (Types::TEXT.key(Arc::<str>::from("x")), b"x"),
            (Types::TEXT.key(std::borrow::Cow::Borrowed("x")), b"x"),
            (Types::BYTES.key(&b"x"[..]), b"x"),
            (Types::PAIRS.key(("x", -1)), b"1:x,2:-1,"),
            (Types::PAIRS.key(&(String::from("x"), -1)), b"1:x,2:-1,"),
            (Types::SET.key((1, "x")), b"1:1,1:x,"),
            (Types::DIGEST.key(digest), &digest),
        ];
        for (key, bytes) in keys {
            assert_eq!(key.bytes(), bytes, "{key:?}");
        }
        assert_eq!(Rc::new(Types::PAIR).key((7, "x")).index(), Types::PAIR.encoded());
    }
}

/// What the derive writes, by hand.
mod by_hand {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Account {
        Person { tenant: String, login: String },
        Machine { tenant: String, number: u64, logins: Vec<String> },
    }

    impl Account {
        const NUMBER: Index<Self, (String, u64)> = Index::at::<0>();
        const LOGIN: Index<Self, (String, String)> = Index::at::<1>();
    }

    impl Entry for Account {
        const CACHE: &'static str = "account";
        const INDEXES: &'static [&'static str] = &["number", "login"];

        fn keys(&self, keys: &mut Keys<Self>) {
            match self {
                Self::Person { tenant, login } => {
                    keys.add(Self::NUMBER, (tenant, 0));
                    keys.add(Self::LOGIN, (tenant, login));
                }
                Self::Machine { tenant, number, logins } => {
                    keys.add(Self::NUMBER, (tenant, number));
                    logins.iter().for_each(|login| keys.add(Self::LOGIN, (tenant, login)));
                }
            }
        }
    }

    /// Generic in the entry, the type of the index's keys, and the key.
    async fn forget_and_look<E: Entry, T, K: KeyFor<T> + Copy>(cache: &Cache<E>, index: Index<E, T>, key: K) -> bool {
        cache.invalidate(index, [key]).await.is_err() || cache.get(index, key).await.is_some()
    }

    #[tokio::test]
    async fn an_entry_is_cached_as_one_that_is_derived() {
        let schema = Schema::of::<Account>();
        let memory = Memory::open(schema.clone(), MemoryOptions::default()).unwrap();
        let accounts = Cache::<Account>::new(std::sync::Arc::new(memory), schema).unwrap();
        let logins = vec!["build".to_owned(), "deploy".to_owned()];
        assert_eq!(accounts.set(Account::Machine { tenant: "acme".into(), number: 7, logins }).await, Stored::Accepted);
        assert!(accounts.get(Account::LOGIN, ("acme", "deploy")).await.is_some());
        assert!(accounts.get(Account::NUMBER, ("acme", 7)).await.is_some());
        assert!(accounts.get(Account::LOGIN, ("bolt", "deploy")).await.is_none());
        assert!(!forget_and_look(&accounts, Account::LOGIN, ("acme", "build")).await);
        assert!(accounts.get(Account::NUMBER, ("acme", 7)).await.is_none());
    }
}

mod other_structs {
    use super::*;

    #[derive(Serialize, Deserialize, Entry)]
    #[entry(cache = "tuple", key(index = "both", fields = (0, 1)))]
    struct Tuple(#[key(primary, index = "id")] u8, #[key(index = "name")] String);

    #[derive(Serialize, Deserialize, Entry)]
    #[entry(cache = "unit", key(primary, index = "only", with = Self::only, type = String))]
    struct Unit;

    impl Unit {
        fn only(&self) -> &'static str {
            "one"
        }
    }

    #[derive(Serialize, Deserialize, Entry)]
    #[entry(cache = "raw")]
    struct Raw {
        #[key(primary)]
        r#type: u8,
        #[key(index = "self")]
        this: u8,
        #[key(index = "2fa")]
        factor: u8,
    }

    #[test]
    fn can_be_entries_too() {
        assert_eq!(keys(&Tuple(1, "x".into())), ["id=1", "name=x", "both=1:1,1:x,"]);
        assert_eq!(keys(&Unit), ["only=one"]);
        assert_eq!(keys(&Raw { r#type: 1, this: 2, factor: 3 }), ["type=1", "self=2", "2fa=3"]);
        assert_eq!([Raw::TYPE, Raw::SELF, Raw::_2FA].map(Index::position), [0, 1, 2]);
    }
}

mod versions {
    use super::*;

    #[derive(Clone, Copy, Serialize, Deserialize)]
    struct Sequence(u32);

    impl From<Sequence> for u64 {
        fn from(Sequence(number): Sequence) -> Self {
            number.into()
        }
    }

    macro_rules! versioned {
        ($($name:ident $type:ty = $value:expr, $expected:expr;)*) => {$({
            #[derive(Serialize, Deserialize, Entry)]
            #[entry(cache = "versioned")]
            struct $name(#[key(primary, index = "id")] u8, #[version] $type);

            assert_eq!($name(0, $value).version(), Some($expected), stringify!($type));
        })*};
    }

    #[test]
    fn are_unsigned_numbers_or_become_one() {
        versioned! {
            A u8 = u8::MAX, 0xff;
            B u16 = u16::MAX, 0xffff;
            C u32 = u32::MAX, 0xffff_ffff;
            D u64 = u64::MAX, u64::MAX;
            E std::num::NonZeroU64 = std::num::NonZeroU64::MIN, 1;
            F Sequence = Sequence(9), 9;
        }
    }
}

mod everything_else {
    use super::*;

    mod facade {
        pub(crate) mod store {
            pub(crate) use larder::*;
        }
    }

    mod inner {
        use super::*;

        /// An entry with all words of the struct.
        #[derive(Serialize, Deserialize, Entry)]
        #[entry(cache = "Full-1.x_y", revision = 3, weight = Self::bytes, crate = super::facade::store)]
        pub(crate) struct Full {
            #[key(primary, index = "full-uuid")]
            pub(crate) id: String,
            #[key(index = "full.name")]
            pub(crate) name: String,
            #[key(index = "full_slug")]
            pub(crate) slug: String,
        }

        impl Full {
            fn bytes(&self) -> u64 {
                self.name.len() as u64 + 100
            }
        }
    }

    #[test]
    fn is_as_written() {
        use inner::Full;
        let full = Full { id: "1".into(), name: "abc".into(), slug: "s".into() };
        assert_eq!(Full::CACHE, "Full-1.x_y");
        assert_eq!(Full::REVISION, 3);
        assert_eq!(full.weight(), Some(103));
        const { assert!(!Full::VERSIONED) };
        assert_eq!(full.version(), None);
        assert_eq!(Full::INDEXES, ["full-uuid", "full.name", "full_slug"]);
        assert_eq!([Full::FULL_UUID, Full::FULL_NAME, Full::FULL_SLUG].map(Index::position), [0, 1, 2]);
        assert_eq!(keys(&full), ["full-uuid=1", "full.name=abc", "full_slug=s"]);
    }

    #[test]
    fn can_come_from_a_macro() {
        macro_rules! entry {
            ($name:ident, $cache:literal, $index:literal, $type:ty, $with:path, $revision:literal) => {
                #[derive(Serialize, Deserialize, Entry)]
                #[entry(cache = $cache, revision = $revision, key(index = $index, with = $with, type = usize))]
                struct $name {
                    #[key(primary)]
                    id: $type,
                }
            };
        }
        entry!(Made, "made", "length", Vec<u8>, length, 2);
        fn length(made: &Made) -> usize {
            made.id.len()
        }
        assert_eq!(Made::CACHE, "made");
        assert_eq!(Made::REVISION, 2);
        assert_eq!(keys(&Made { id: b"xy".to_vec() }), ["id=xy", "length=2"]);
    }

    #[test]
    fn needs_nothing_of_the_prelude() {
        #[allow(dead_code, non_camel_case_types)]
        mod hostile {
            struct Some;
            struct None;
            struct Option;
            struct Vec;
            struct Bytes;
            trait Clone {}
            trait Copy {}

            #[derive(serde::Serialize, serde::Deserialize, larder::Entry)]
            #[entry(cache = "hostile", weight = weigh)]
            pub(super) struct Hostile {
                #[key(primary)]
                pub(super) keys: ::std::string::String,
                #[version]
                pub(super) found: u64,
            }

            fn weigh(hostile: &Hostile) -> u64 {
                hostile.found
            }
        }
        let hostile = hostile::Hostile { keys: "1".into(), found: 2 };
        assert_eq!(keys(&hostile), ["keys=1"]);
        assert_eq!(hostile.weight(), Some(2));
    }
}
