//! The texts here are pinned. If a text changes, a release cannot read what the release before it has stored.

#![allow(dead_code)]

use super::describe;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;

mod plain {
    use super::*;

    #[derive(Deserialize)]
    struct Unit;

    #[derive(Deserialize)]
    struct Wrapped(u32);

    #[derive(Deserialize)]
    struct Two(u32, String);

    #[derive(Deserialize)]
    struct Empty {}

    #[derive(Deserialize)]
    struct Instance {
        name: String,
        id: u64,
        hosts: Vec<String>,
        owner: Option<Owner>,
        limits: BTreeMap<String, [i32; 2]>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Owner {
        full_name: Box<str>,
        is_admin: bool,
        #[serde(skip)]
        password: String,
        #[serde(default)]
        age: f32,
    }

    #[derive(Deserialize)]
    enum State {
        Open,
        Closed(char),
        Half { since: i64 },
        Moved(u8, Unit),
        Empty(()),
    }

    #[test]
    fn values_without_parts() {
        assert_eq!(describe::<u8>(), "u8");
        assert_eq!(describe::<usize>(), "u64");
        assert_eq!(describe::<i128>(), "i128");
        assert_eq!(describe::<f64>(), "f64");
        assert_eq!(describe::<bool>(), "bool");
        assert_eq!(describe::<char>(), "char");
        assert_eq!(describe::<String>(), "text");
        assert_eq!(describe::<()>(), "nil");
        assert_eq!(describe::<Unit>(), "()");
    }

    #[test]
    fn values_with_parts() {
        assert_eq!(describe::<Option<u8>>(), "option<u8>");
        assert_eq!(describe::<Vec<Vec<u8>>>(), "[[u8]]");
        assert_eq!(describe::<(u8, String, (bool,))>(), "(u8,text,(bool))");
        assert_eq!(describe::<[u8; 3]>(), "(u8,u8,u8)");
        assert_eq!(describe::<HashMap<String, Option<u8>>>(), "{text:option<u8>}");
        assert_eq!(describe::<Wrapped>(), "u32");
        assert_eq!(describe::<Two>(), "(u32,text)");
        assert_eq!(describe::<Empty>(), "{}");
    }

    #[test]
    fn a_struct() {
        assert_eq!(
            describe::<Instance>(),
            r#"{"hosts":[text],"id":u64,"limits":{text:(i32,i32)},"name":text,"owner":option<{"age":f32,"full-name":text,"is-admin":bool}>}"#
        );
    }

    #[test]
    fn an_enum() {
        assert_eq!(describe::<State>(), r#"<"Closed":char,"Empty":nil,"Half":{"since":i64},"Moved":(u8,()),"Open">"#);
        assert_eq!(describe::<Result<u8, String>>(), r#"<"Err":text,"Ok":u8>"#);
    }

    #[test]
    fn of_other_crates() {
        assert_eq!(describe::<std::time::Duration>(), r#"{"nanos":u32,"secs":u64}"#);
        assert_eq!(describe::<std::net::Ipv4Addr>(), "(u8,u8,u8,u8)");
        assert_eq!(describe::<std::ops::Range<u8>>(), r#"{"end":u8,"start":u8}"#);
        assert_eq!(describe::<std::num::NonZeroU16>(), "u16");
    }
}

mod same_shape {
    use super::*;

    #[derive(Deserialize)]
    struct One {
        id: u64,
        hosts: Vec<String>,
        part: Part,
    }

    #[derive(Deserialize)]
    struct Part {
        a: u8,
    }

    mod other {
        use super::*;

        #[derive(Deserialize)]
        pub(super) struct Id(u64);

        #[derive(Deserialize)]
        pub(super) struct Another {
            part: Portion,
            hosts: HashSet<Box<str>>,
            id: Id,
        }

        #[derive(Deserialize)]
        pub(super) struct Portion {
            a: u8,
        }
    }

    #[test]
    fn whatever_the_types_are_called_and_in_whatever_order() {
        assert_eq!(describe::<One>(), describe::<other::Another>());
        assert_eq!(describe::<Vec<String>>(), describe::<BTreeSet<String>>());
        assert_eq!(describe::<Vec<String>>(), describe::<VecDeque<Box<str>>>());
        assert_eq!(describe::<u8>(), describe::<Box<u8>>());
    }
}

mod another_shape {
    use super::*;

    macro_rules! shapes {
        ($([$($type:tt)*])*) => { vec![$({
            #[derive(Deserialize)]
            $($type)*
            describe::<T>()
        }),*] };
    }

    #[test]
    fn whatever_the_change() {
        let shapes = shapes![
            [struct T { a: u8 }]
            [struct T { b: u8 }]
            [struct T { a: u16 }]
            [struct T { a: Option<u8> }]
            [struct T { a: Vec<u8> }]
            [struct T { a: (u8, u8) }]
            [struct T { a: (u8, u8, u8) }]
            [struct T { a: HashMap<u8, u8> }]
            [struct T { a: u8, b: u8 }]
            [struct T { a: Inner, b: u8 }]
            [struct T { a: Changed, b: u8 }]
            [struct T(u8);]
            [struct T(u8, u8);]
            [struct T;]
            [struct T {}]
            [enum T { A }]
            [enum T { A, B }]
            [enum T { A(()) }]
            [enum T { A(u8) }]
            [enum T { A { a: u8 } }]
            [enum T { A { a: u8, b: u8 } }]
        ];
        let different: BTreeSet<_> = shapes.iter().collect();
        assert_eq!(different.len(), shapes.len(), "{shapes:#?}");
    }

    #[derive(Deserialize)]
    struct Inner {
        list: Vec<(u8, Option<Deep>)>,
    }

    #[derive(Deserialize)]
    struct Changed {
        list: Vec<(u8, Option<Deeper>)>,
    }

    #[derive(Deserialize)]
    struct Deep {
        x: BTreeMap<String, i8>,
    }

    #[derive(Deserialize)]
    struct Deeper {
        x: BTreeMap<String, i16>,
    }

    #[test]
    fn names_are_told_from_the_signs_around_them() {
        #[derive(Deserialize)]
        struct Split {
            a: u8,
            b: u8,
        }
        #[derive(Deserialize)]
        struct Joined {
            #[serde(rename = "a\":u8,\"b")]
            a: u8,
        }
        assert_eq!(describe::<Joined>(), r#"{"a\":u8,\"b":u8}"#);
        assert_ne!(describe::<Joined>(), describe::<Split>());
    }
}

mod recursive_types {
    use super::*;

    #[derive(Deserialize)]
    struct Tree {
        name: String,
        children: Vec<Tree>,
        parent: Option<Box<Tree>>,
    }

    #[derive(Deserialize)]
    struct Forest(Vec<Forest>);

    #[derive(Deserialize)]
    struct Endless(Box<Endless>);

    #[derive(Deserialize)]
    enum Expression {
        Sum(Box<Expression>, Box<Expression>),
        Number(i64),
        Named { name: String, value: Arc2 },
    }

    #[derive(Deserialize)]
    struct Arc2(Box<Expression>);

    #[derive(Deserialize)]
    struct Page<T> {
        item: T,
    }

    #[test]
    fn end_where_they_begin_again() {
        assert_eq!(describe::<Tree>(), r#"{"children":[^2],"name":text,"parent":option<^2>}"#);
        assert_eq!(describe::<Forest>(), "[^1]");
        assert_eq!(describe::<Endless>(), "^0");
        assert_eq!(describe::<Expression>(), r#"<"Named":{"name":text,"value":^2},"Number":i64,"Sum":(^2,?)>"#);
    }

    #[test]
    fn are_not_those_that_only_look_like_it() {
        assert_eq!(describe::<Page<Page<u8>>>(), r#"{"item":{"item":u8}}"#);
        assert_eq!(describe::<Vec<Vec<Vec<u8>>>>(), "[[[u8]]]");
    }

    #[test]
    fn in_a_tuple_are_gone_past() {
        assert_eq!(
            describe::<(Expression, Tree, u8)>(),
            format!("({},{},u8)", describe::<Expression>(), describe::<Tree>())
        );
    }
}

mod types_that_refuse {
    use super::*;

    /// A type that reads a text, but only a text that `accept` accepts.
    macro_rules! picky {
        ($name:ident, $accept:expr) => {
            #[derive(PartialEq, Eq, Hash)]
            struct $name;

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let accept: fn(&str) -> bool = $accept;
                    match &*String::deserialize(deserializer)? {
                        text if accept(text) => Ok(Self),
                        _ => Err(de::Error::custom("no")),
                    }
                }
            }
        };
    }

    picky!(Never, |_| false);
    picky!(Url, |text| text.starts_with("http://"));
    picky!(Id, |text| text.len() == 36);

    #[derive(Deserialize)]
    struct Site {
        never: Never,
        url: Url,
        tail: (Id, u8),
        list: Vec<Never>,
        last: u64,
    }

    #[derive(Deserialize)]
    struct Flat {
        url: Url,
        #[serde(flatten)]
        tail: Tail,
    }

    #[derive(Deserialize)]
    struct Tail {
        id: Id,
        last: u64,
    }

    #[derive(Deserialize)]
    enum Choice {
        No(Never, u8),
        Yes(Url, u8),
    }

    #[test]
    fn hide_only_what_has_to_come_after_them() {
        assert_eq!(describe::<Site>(), r#"{"last":u64,"list":[text],"never":text,"tail":(text,u8),"url":text}"#);
        assert_eq!(describe::<(Never, u8)>(), "(text,?)");
        assert_eq!(describe::<(u8, Never, u8)>(), "(u8,text,?)");
        assert_eq!(describe::<HashMap<Never, u8>>(), "{text:?}");
        assert_eq!(describe::<HashMap<Url, u8>>(), "{text:u8}");
        assert_eq!(describe::<Flat>(), r#"any{"id":any,"url":text}"#);
    }

    #[test]
    fn are_gone_past_by_another_way_where_there_is_one() {
        assert_eq!(describe::<(Option<Never>, u8)>(), "(option<text>,u8)");
        assert_eq!(describe::<(Vec<Never>, u8)>(), "([text],u8)");
        assert_eq!(describe::<(Choice, u8)>(), r#"(<"No":(text,?),"Yes":(text,u8)>,u8)"#);
        assert_eq!(describe::<(Vec<Url>, Url, Id, (Id, Url), u8)>(), "([text],text,text,(text,text),u8)");
    }

    #[test]
    fn everything() {
        struct Nothing;
        impl<'de> Deserialize<'de> for Nothing {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                Err(de::Error::custom("no"))
            }
        }
        assert_eq!(describe::<Nothing>(), "?");
        assert_eq!(describe::<(Nothing, u8)>(), "(?,?)");
        assert_eq!(describe::<HashMap<String, Nothing>>(), "{text:?}");
        assert_eq!(describe::<Option<Nothing>>(), "option<?>");
    }
}

mod bytes {
    use super::*;

    #[derive(PartialEq, Eq, Hash)]
    struct Bytes<const N: usize>;

    impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Exactly<const N: usize>;
            impl<const N: usize> Visitor<'_> for Exactly<N> {
                type Value = Bytes<N>;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                    if bytes.len() == N { Ok(Bytes) } else { Err(E::invalid_length(bytes.len(), &self)) }
                }
            }
            deserializer.deserialize_bytes(Exactly)
        }
    }

    #[test]
    fn of_the_usual_lengths_are_gone_past() {
        assert_eq!(describe::<Bytes<3>>(), "bytes");
        assert_eq!(describe::<(Bytes<16>, Bytes<32>, u8)>(), "(bytes,bytes,u8)");
        assert_eq!(describe::<(Bytes<3>, u8)>(), "(bytes,?)");
    }
}

mod self_describing {
    use super::*;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u64),
        Text(String),
    }

    #[derive(Deserialize)]
    #[serde(tag = "kind", rename_all = "lowercase")]
    enum Tagged {
        Human { name: String, age: u8, nick: Option<String> },
        Machine(Machine),
        Nobody,
    }

    #[derive(Deserialize)]
    struct Machine {
        serial: u64,
        on: bool,
        parts: Vec<String>,
        labels: BTreeMap<String, String>,
    }

    #[derive(Deserialize)]
    #[serde(tag = "kind", content = "value")]
    enum Adjacent {
        Number(u64),
        Text(String),
    }

    #[derive(Deserialize)]
    struct Flat {
        id: u64,
        owner: Option<String>,
        #[serde(flatten)]
        machine: Machine,
        seen: (u8, bool),
        #[serde(flatten)]
        rest: HashMap<String, serde_json::Value>,
    }

    #[derive(Deserialize)]
    struct All {
        a: Untagged,
        b: Tagged,
        c: Adjacent,
        d: Flat,
        e: serde_json::Value,
        f: u8,
    }

    const TAGGED: &str = concat!(
        r#"any<"kind"=<"human"{"age":~number,"name":~text},"#,
        r#""machine"{"labels":~map,"on":~bool,"parts":~list,"serial":~number},"nobody"{}>>"#
    );
    const FLAT: &str = r#"any{"id":u64,"labels":~map,"on":~bool,"parts":~list,"seen":(u8,bool),"serial":~number}"#;

    #[test]
    fn types_are_seen_as_far_as_they_tell() {
        assert_eq!(describe::<serde_json::Value>(), "any");
        assert_eq!(describe::<de::IgnoredAny>(), "any");
        assert_eq!(describe::<Untagged>(), "any");
        assert_eq!(describe::<Tagged>(), TAGGED);
        assert_eq!(describe::<Adjacent>(), r#"{"kind":<"Number","Text">,"value":any}"#);
        assert_eq!(describe::<Flat>(), FLAT);
    }

    #[test]
    fn types_hide_nothing_beside_them() {
        let adjacent = describe::<Adjacent>();
        assert_eq!(describe::<All>(), format!(r#"{{"a":any,"b":{TAGGED},"c":{adjacent},"d":{FLAT},"e":any,"f":u8}}"#));
        assert_eq!(describe::<Vec<(Tagged, u8)>>(), format!("[({TAGGED},u8)]"));
        assert_eq!(describe::<(Flat, serde_json::Value, u8)>(), format!("({FLAT},any,u8)"));
    }
}

mod badly_behaved {
    use super::*;

    macro_rules! visited {
        ($name:ident, $ask:ident, |$access:ident: $bound:ident| $body:expr) => {
            struct $name;

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    struct Visit;
                    impl<'de> Visitor<'de> for Visit {
                        type Value = $name;
                        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                            f.write_str("anything")
                        }
                        visited!(@ $bound $access $body $name);
                    }
                    deserializer.$ask(Visit)
                }
            }
        };
        (@ SeqAccess $access:ident $body:tt $name:ident) => {
            fn visit_seq<A: SeqAccess<'de>>(self, mut $access: A) -> Result<$name, A::Error> {
                $body
                Ok($name)
            }
        };
        (@ MapAccess $access:ident $body:tt $name:ident) => {
            fn visit_map<A: MapAccess<'de>>(self, mut $access: A) -> Result<$name, A::Error> {
                $body
                Ok($name)
            }
        };
    }

    visited!(IgnoresErrors, deserialize_seq, |list: SeqAccess| {
        while !matches!(list.next_element::<u8>(), Ok(None)) {}
    });
    visited!(NeverWantsAValue, deserialize_map, |map: MapAccess| {
        while !matches!(map.next_key::<String>(), Ok(None)) {}
    });
    visited!(NeverWantsAKey, deserialize_map, |map: MapAccess| {
        let _ = map.next_value::<u8>();
    });
    visited!(WantsAMapOfAnything, deserialize_any, |map: MapAccess| {
        while !matches!(map.next_entry::<String, String>(), Ok(None)) {}
    });

    #[derive(Deserialize)]
    struct Lenient {
        #[serde(deserialize_with = "or_default")]
        a: u8,
        b: u8,
    }

    fn or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
        Ok(u8::deserialize(deserializer).unwrap_or_default())
    }

    #[test]
    fn types_do_not_keep_us() {
        assert_eq!(describe::<IgnoresErrors>(), "[u8]");
        assert_eq!(describe::<NeverWantsAValue>(), "{text:?}");
        assert_eq!(describe::<NeverWantsAKey>(), "{?:u8}");
        assert_eq!(describe::<WantsAMapOfAnything>(), "any");
        assert_eq!(describe::<Lenient>(), r#"{"a":u8,"b":u8}"#);
        assert_eq!(describe::<(IgnoresErrors, NeverWantsAValue, u8)>(), "([u8],{text:?},u8)");
    }

    /// A type that asks for something else each time.
    struct Fickle;

    impl<'de> Deserialize<'de> for Fickle {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            use std::sync::atomic::{AtomicUsize, Ordering};
            static TIMES: AtomicUsize = AtomicUsize::new(0);
            match TIMES.fetch_add(1, Ordering::Relaxed) % 3 {
                0 => <(u8, u8)>::deserialize(deserializer).map(drop),
                1 => HashMap::<u8, u8>::deserialize(deserializer).map(drop),
                _ => Option::<u8>::deserialize(deserializer).map(drop),
            }?;
            Ok(Self)
        }
    }

    #[test]
    fn types_that_change_their_mind_are_given_up() {
        assert_eq!(describe::<Fickle>(), "?");
    }

    #[test]
    fn types_that_want_ever_more_fields_are_given_up() {
        struct Greedy;
        impl<'de> Deserialize<'de> for Greedy {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let found = HashMap::<String, u8>::deserialize(Relay(deserializer))?;
                let name: &'static str = format!("field{:03}", found.len()).leak();
                Err(de::Error::missing_field(name))
            }
        }
        /// Asks for any value, whatever the type asks it for.
        struct Relay<D>(D);
        impl<'de, D: Deserializer<'de>> Deserializer<'de> for Relay<D> {
            type Error = D::Error;
            fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
                self.0.deserialize_any(visitor)
            }
            serde::forward_to_deserialize_any! {
                bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
                unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
            }
        }
        assert_eq!(describe::<Greedy>().matches("field").count(), 256);
    }
}

mod large_types {
    use super::*;

    macro_rules! nested {
        ($type:ty;) => { $type };
        ($type:ty; $x:tt $($rest:tt)*) => { nested!(Vec<$type>; $($rest)*) };
    }

    macro_rules! doubled {
        ($name:ident of $type:ty) => {
            #[derive(Deserialize)]
            struct $name { a: $type, b: $type }
        };
        ($name:ident of $type:ty, $($rest:tt)*) => {
            doubled!($name of $type);
            doubled!($($rest)*);
        };
    }

    doubled!(
        D1 of u8, D2 of D1, D3 of D2, D4 of D3, D5 of D4, D6 of D5, D7 of D6, D8 of D7, D9 of D8, D10 of D9, D11 of D10,
        D12 of D11, D13 of D12, D14 of D13, D15 of D14, D16 of D15
    );

    #[test]
    fn are_seen_down_to_32_levels() {
        type Deep = nested!(u8; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
        assert_eq!(describe::<Deep>(), format!("{}u8{}", "[".repeat(32), "]".repeat(32)));
        assert_eq!(describe::<Vec<Deep>>(), format!("{}?{}", "[".repeat(32), "]".repeat(32)));
    }

    #[test]
    fn long_arrays_are_seen_by_their_first_item() {
        struct Long;
        impl<'de> Deserialize<'de> for Long {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Exactly;
                impl<'de> Visitor<'de> for Exactly {
                    type Value = Long;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a long array")
                    }
                    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Long, A::Error> {
                        for place in 0..10_000 {
                            items.next_element::<u16>()?.ok_or(de::Error::invalid_length(place, &self))?;
                        }
                        Ok(Long)
                    }
                }
                deserializer.deserialize_tuple(10_000, Exactly)
            }
        }
        assert_eq!(describe::<(Long, u8)>(), "((u16;10000),u8)");
        assert_eq!(describe::<[u8; 32]>(), format!("({})", ["u8"; 32].join(",")));
    }

    #[test]
    fn are_given_up_after_so_many_runs() {
        let text = describe::<D16>();
        assert_eq!(text.matches("u8").count(), super::super::MAX_RUNS);
        assert!(text.contains('?'));
    }
}

/// The payload has exactly the fields that the shape names.
#[test]
fn the_shape_is_that_of_the_payload() {
    #[derive(Serialize, Deserialize)]
    struct Both {
        id: u64,
        address: std::net::IpAddr,
    }
    let both = Both { id: 7, address: [127, 0, 0, 1].into() };
    let bytes = rmp_serde::to_vec_named(&both).unwrap();
    let payload: serde_json::Value = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(payload, serde_json::json!({ "id": 7, "address": { "V4": [127, 0, 0, 1] } }));
    assert_eq!(
        describe::<Both>(),
        format!(r#"{{"address":<"V4":(u8,u8,u8,u8),"V6":({})>,"id":u64}}"#, vec!["u8"; 16].join(","))
    );
}
