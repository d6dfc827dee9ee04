//! A value is read back as it was encoded, or is refused. The tests try every kind of value that serde knows, in every place where serde
//! treats a value in its own way.

use super::*;
use crate::entry::{Index, Keys};
use EncodeError::{OtherValue, SomeOfNothing, Unreadable, Unwritable};
use serde::de::DeserializeOwned;
use serde::ser::{Error as _, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Any type as an entry.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Only<T>(T);

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Entry for Only<T> {
    const CACHE: &'static str = "only";
    const INDEXES: &'static [&'static str] = &["name"];

    fn keys(&self, keys: &mut Keys<Self>) {
        keys.add(Index::<Self, String>::at::<0>(), "1");
    }
}

trait Held: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static> Held for T {}

/// Encodes a value, and reads it back.
fn read_back<T: Held>(value: T) -> Result<T, EncodeError> {
    let codec = Codec::of::<Only<T>>();
    let payload = codec.encode(&(Arc::new(Only(value)) as Value))?;
    let read = codec.decode(&payload).expect("what was encoded can be decoded");
    Ok(Arc::into_inner(read.downcast::<Only<T>>().unwrap()).unwrap().0)
}

/// Why a value is refused. `None`: it was read back unchanged. Fails if it was read back as another value: that must never happen.
fn refused<T: Held>(value: T) -> Option<EncodeError> {
    match read_back(value.clone()) {
        Ok(read) => {
            // NaN is not equal to itself, so values are compared as texts as well.
            let same = read == value || format!("{read:?}") == format!("{value:?}");
            assert!(same, "{value:?} was read back as {read:?}");
            None
        }
        Err(error) => Some(error),
    }
}

/// Places in which a value is written by its own type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Typed<T> {
    field: T,
    list: Vec<T>,
    tuple: (T, u8, T),
    map: BTreeMap<String, T>,
    wrapped: Wrapped<T>,
    variants: Vec<Variants<T>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped<T>(T);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Variants<T> {
    Other,
    Newtype(T),
    Tuple(T, T),
    Struct { held: T },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Optional<T> {
    id: u32,
    held: Option<T>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flattened<T> {
    id: u32,
    #[serde(flatten)]
    rest: Rest<T>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rest<T> {
    held: T,
    more: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged<T> {
    This { held: T },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "content")]
enum Adjacent<T> {
    This(T),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged<T> {
    Other { other: bool },
    This { held: T },
}

/// The places of a value, in the order of the tests' tables.
const PLACES: [&str; 6] = ["typed", "option", "adjacent", "flatten", "tag", "untagged"];

/// The places in which a value is refused.
fn refusing<T: Held>(value: T) -> Vec<&'static str> {
    let held = || value.clone();
    let typed = Typed {
        field: held(),
        list: vec![held(), held()],
        tuple: (held(), 7, held()),
        map: BTreeMap::from([("a".to_owned(), held())]),
        wrapped: Wrapped(held()),
        variants: vec![
            Variants::Other,
            Variants::Newtype(held()),
            Variants::Tuple(held(), held()),
            Variants::Struct { held: held() },
        ],
    };
    let refused = [
        refused(typed),
        refused(Optional { id: 1, held: Some(held()) }),
        refused(Adjacent::This(held())),
        refused(Flattened { id: 1, rest: Rest { held: held(), more: None } }),
        refused(Tagged::This { held: held() }),
        refused(Untagged::This { held: held() }),
    ];
    PLACES.into_iter().zip(refused).filter_map(|(place, refused)| refused.map(|_| place)).collect()
}

const NOWHERE: [&str; 0] = [];

/// The places where serde buffers a value before it knows its type. There serde takes no integers of 128 bits, and takes every format for
/// a human-readable one.
const BUFFERED: [&str; 3] = ["flatten", "tag", "untagged"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Empty {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct EmptyTuple();

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Enum {
    Bare,
    Nil(()),
    Tuple(),
    Struct {},
    Option(Option<u8>),
    Pair(u8, char),
}

#[derive(Clone, Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

#[test]
fn numbers_and_texts_are_kept() {
    assert_eq!(refusing((u8::MAX, u64::MAX, i8::MIN, i64::MIN, true)), NOWHERE);
    assert_eq!(refusing((f32::NAN, f64::NAN, f64::NEG_INFINITY, -0.0_f64, 0.1_f32)), NOWHERE);
    assert_eq!(refusing(('x', 'ß', String::new(), "x".repeat(70_000))), NOWHERE);
    assert_eq!(refusing((vec![0_u8, 255], [7_u8; 32], Bytes(vec![0, 255]), Bytes(vec![]))), NOWHERE);
}

#[test]
fn what_holds_nothing_is_kept_but_not_in_an_option() {
    assert_eq!(refusing(()), ["option"]);
    assert_eq!(refusing(Wrapped(())), ["option"]);
    assert_eq!(refusing(None::<u8>), ["option"]);
    assert_eq!(refusing(Wrapped(None::<u8>)), ["option"]);
    assert_eq!(refusing(Box::new(None::<u8>)), ["option"]);
    assert_eq!(refusing(serde_json::Value::Null), ["option"]);
    assert_eq!(refusing(Empty {}), NOWHERE);
    assert_eq!(refusing(EmptyTuple()), NOWHERE);
    // A unit struct is written as an empty list. Where serde tries variant after variant, it does not take an empty list for a unit.
    assert_eq!(refusing(Unit), ["untagged"]);
    assert_eq!(refusing(PhantomData::<u8>), ["untagged"]);
}

#[test]
fn an_option_in_an_option_is_kept_or_refused_wherever_it_is() {
    assert_eq!(refusing(Some(1_u8)), NOWHERE);
    assert_eq!(refusing(Some(Some(Some(1_u8)))), NOWHERE);
    assert_eq!(refusing(Some(Unit)), ["untagged"]);
    assert_eq!(refusing(Some(Bytes(vec![]))), NOWHERE);
    assert_eq!(refusing(Some(None::<u8>)), PLACES);
    assert_eq!(refusing(Some(())), PLACES);
    assert_eq!(refusing(Some(Wrapped(None::<u8>))), PLACES);
    assert_eq!(refusing(vec![BTreeMap::from([(Some(Some(1)), Some(Some('a'))), (Some(None), None)])]), PLACES);
}

#[test]
fn enums_are_kept() {
    let all = [Enum::Bare, Enum::Nil(()), Enum::Tuple(), Enum::Struct {}, Enum::Option(None), Enum::Option(Some(1))];
    assert_eq!(refusing(all.to_vec()), NOWHERE);
    assert_eq!(refusing(Some(Enum::Nil(()))), NOWHERE);
    assert_eq!(refusing((Enum::Pair(1, 'x'), Ok::<(), u8>(()), Err::<u8, String>("x".into()))), NOWHERE);
}

#[test]
fn numbers_of_128_bits_are_kept_where_serde_takes_them() {
    assert_eq!(refusing(i128::MIN), BUFFERED);
    assert_eq!(refusing(1_i128), BUFFERED);
    assert_eq!(refusing(u128::MAX), BUFFERED);
    assert_eq!(refusing(BTreeMap::from([(u128::MAX, 1)])), BUFFERED);
}

#[test]
fn maps_and_sets_are_kept_whatever_their_keys_and_their_order() {
    assert_eq!(refusing((0..100_u32).map(|n| (n, n * n)).collect::<HashMap<_, _>>()), NOWHERE);
    assert_eq!(refusing((0..100).map(|n| n.to_string()).collect::<HashSet<_>>()), NOWHERE);
    assert_eq!(refusing(HashMap::from([((1, 'a'), Some(1)), ((2, 'b'), None)])), NOWHERE);
    assert_eq!(refusing(BTreeMap::from([(Enum::Bare, 1), (Enum::Option(None), 2)])), NOWHERE);
    assert_eq!(refusing(BTreeMap::from([(Some('x'), true), (None, false)])), NOWHERE);
    assert_eq!(refusing(BTreeMap::from([((), 1)])), NOWHERE);
}

#[test]
fn types_of_std_are_kept() {
    assert_eq!(refusing((Duration::MAX, SystemTime::UNIX_EPOCH, 1..2, Bound::<u8>::Unbounded)), NOWHERE);
    assert_eq!(refusing((PathBuf::from("/a"), std::ffi::OsString::from("a"))), NOWHERE);
    assert_eq!(refusing(serde_json::json!({"a": [1, -1, 1.5, null, "x", {}], "b": u64::MAX})), NOWHERE);
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    assert!(matches!(refused(before), Some(Unwritable(_))));
}

/// Addresses are written as bytes. But they ask for a text where serde has buffered them.
#[test]
fn addresses_are_kept_where_serde_tells_them_that_the_bytes_are_not_readable() {
    assert_eq!(refusing(IpAddr::from(Ipv4Addr::LOCALHOST)), BUFFERED);
    assert_eq!(refusing("1.2.3.4:5".parse::<SocketAddr>().unwrap()), BUFFERED);
}

#[test]
fn the_message_names_the_fields_and_nothing_else() {
    let value = Optional { id: 7, held: Some(Flattened { id: 8, rest: Rest { held: Some(()), more: None } }) };
    assert_eq!(refused(value), Some(SomeOfNothing("held".into())), "what is flattened has no name of its own");
    let value = Optional { id: 7, held: Some(Optional { id: 8, held: Some(()) }) };
    let error = refused(value).unwrap();
    assert_eq!(error, SomeOfNothing("held.held".into()));
    assert!(error.to_string().starts_with("`held.held` holds `Some`"), "{error}");
    let private = Untagged::This { held: Secret("sesame") };
    let error = refused(private).unwrap();
    assert!(!error.to_string().contains("sesame") && error.detail().unwrap().contains("sesame"), "{error}");
}

#[derive(Clone, Debug, PartialEq)]
struct Secret(&'static str);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom(self.0))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self("never read"))
    }
}

/// Types whose `Serialize` and `Deserialize` do not match. The name of each test says what is wrong; each has a harmless value and one
/// that would be lost.
mod asymmetric {
    use super::*;

    macro_rules! shapes {
        ($($(#[$struct:meta])* $name:ident { $($(#[$field:meta])* $held:ident: $type:ty),* })*) => {$(
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            $(#[$struct])*
            struct $name { $($(#[$field])* $held: $type),* }
        )*};
    }

    shapes! {
        LeftOut { #[serde(skip_serializing_if = "Vec::is_empty")] held: Vec<u8> }
        NotRead { #[serde(skip_deserializing)] held: u8 }
        Renamed { #[serde(rename(serialize = "one", deserialize = "other"))] held: u8 }
        RenamedWithDefault { #[serde(default, rename(serialize = "one", deserialize = "other"))] held: u8 }
        OtherDefault { #[serde(skip_serializing_if = "is_zero", default = "seven")] held: u8 }
        Lowered { #[serde(deserialize_with = "lowered")] held: String }
        Several { #[serde(serialize_with = "two_of_three")] held: Vec<u8>, last: u8 }
        Collides { held: u8, #[serde(flatten)] more: BTreeMap<String, u8> }
        #[serde(deny_unknown_fields)]
        Denies { held: u8, #[serde(flatten)] more: Rest<u8> }
    }

    fn is_zero(number: &u8) -> bool {
        *number == 0
    }

    fn seven() -> u8 {
        7
    }

    fn lowered<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer).map(|text| text.to_lowercase())
    }

    fn two_of_three<S: Serializer>(items: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(2))?;
        items.iter().try_for_each(|item| list.serialize_element(item))?;
        list.end()
    }

    #[test]
    fn fields_that_are_not_read_as_they_are_written() {
        assert_eq!(refused(LeftOut { held: vec![1] }), None);
        assert!(matches!(refused(LeftOut { held: vec![] }), Some(Unreadable(_))));
        assert_eq!(refused(NotRead { held: 0 }), None);
        assert_eq!(refused(NotRead { held: 1 }), Some(OtherValue));
        assert!(matches!(refused(Renamed { held: 0 }), Some(Unreadable(_))));
        assert_eq!(refused(RenamedWithDefault { held: 0 }), None);
        assert_eq!(refused(RenamedWithDefault { held: 1 }), Some(OtherValue));
        assert_eq!(refused(OtherDefault { held: 1 }), None);
        assert_eq!(refused(OtherDefault { held: 0 }), Some(OtherValue));
        assert_eq!(refused(Lowered { held: "jo".into() }), None);
        assert_eq!(refused(Lowered { held: "Jo".into() }), Some(OtherValue));
    }

    #[test]
    fn lists_of_another_length_than_announced() {
        assert_eq!(refused(Several { held: vec![1, 2], last: 3 }), None);
        assert!(refused(Several { held: vec![1, 2, 3], last: 3 }).is_some());
        assert!(refused(Several { held: vec![1], last: 3 }).is_some());
        // No value comes after this list, so no error tells that the lengths differ. Only the comparison notices.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct Last(#[serde(serialize_with = "two_of_three")] Vec<u8>);
        assert_eq!(refused(Last(vec![1, 2])), None);
        assert_eq!(refused(Last(vec![1, 2, 3])), Some(OtherValue));
    }

    #[test]
    fn flattened_fields_that_meet_others() {
        assert_eq!(refused(Collides { held: 1, more: BTreeMap::from([("a".into(), 1)]) }), None);
        assert!(matches!(
            refused(Collides { held: 1, more: BTreeMap::from([("held".into(), 2)]) }),
            Some(Unreadable(_))
        ));
        assert!(matches!(refused(Denies { held: 1, more: Rest { held: 2, more: None } }), Some(Unreadable(_))));
    }

    #[test]
    fn a_variant_that_takes_the_bytes_of_another() {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Either {
            Short { a: u8 },
            Long { a: u8, b: u8 },
        }
        assert_eq!(refused(Either::Short { a: 1 }), None);
        assert_eq!(refused(Either::Long { a: 1, b: 2 }), Some(OtherValue));
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        enum Known {
            A {
                a: u8,
            },
            #[serde(other)]
            Other,
        }
        assert_eq!(refused(vec![Known::A { a: 1 }, Known::Other]), None);
    }

    /// A type that reads nothing leaves its bytes to the field after it.
    #[test]
    fn a_type_that_reads_nothing() {
        #[derive(Clone, Debug, PartialEq, Serialize)]
        struct Constant(u8);
        impl<'de> Deserialize<'de> for Constant {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                Ok(Self(1))
            }
        }
        assert!(refused((Constant(1), Constant(2), 3_u8)).is_some());
        assert_eq!(refused(Optional { id: 1, held: Some(Constant(1)) }), None);
        assert_eq!(refused(Optional { id: 1, held: Some(Constant(2)) }), Some(OtherValue));
    }
}

/// As a field that is encrypted with a new nonce each time.
#[test]
fn what_is_written_in_another_way_each_time_is_kept() {
    #[derive(Clone, Debug, PartialEq)]
    struct Encrypted(String);
    impl Serialize for Encrypted {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (fastrand::u64(..), &self.0).serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Encrypted {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            <(u64, String)>::deserialize(deserializer).map(|(_, text)| Self(text))
        }
    }
    assert_eq!(refused(Optional { id: 1, held: Some(Encrypted("x".into())) }), None);
}

#[test]
fn what_is_nested_deeper_than_can_be_read_is_refused() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct List(Vec<List>);
    let list = |levels| (0..levels).fold(List(vec![]), |held, _| List(vec![held]));
    let test = move || {
        assert_eq!(refused(list(500)), None);
        assert!(matches!(refused(list(1100)), Some(Unreadable(_))));
    };
    // Without optimisation each level takes some kilobytes of stack.
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

/// The limit of the promise, as the documentation of `Entry` says: values that are written as the same bytes are not told apart.
#[test]
fn what_serialize_does_not_tell_apart_is_not_told_apart() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Skipped {
        #[serde(skip)]
        held: u8,
    }
    assert_eq!(read_back(Skipped { held: 1 }), Ok(Skipped { held: 0 }));
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Text {
        Long(String),
        Letter(char),
    }
    assert_eq!(read_back(Text::Letter('x')), Ok(Text::Long("x".into())));
}

#[test]
fn what_is_written_is_what_was_written_before_it_was_proven() {
    let value = Typed {
        field: Some(1_u8),
        list: vec![None, Some(200)],
        tuple: (None, 7, Some(0)),
        map: BTreeMap::from([("a".to_owned(), None)]),
        wrapped: Wrapped(Some(3)),
        variants: vec![Variants::Other, Variants::Newtype(None), Variants::Struct { held: Some(1) }],
    };
    let flattened = Flattened { id: 1, rest: Rest { held: value, more: None } };
    let plain = rmp_serde::to_vec_named(&flattened).unwrap();
    let codec = Codec::of::<Only<Flattened<Typed<Option<u8>>>>>();
    assert_eq!(codec.encode(&(Arc::new(Only(flattened)) as Value)), Ok(plain));
}

/// `cargo test --release -p larder --lib what_the_proof_costs -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn what_the_proof_costs() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Object {
        id: String,
        hosts: Vec<String>,
        features: Vec<Feature>,
        by_name: HashMap<String, u32>,
        text: String,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Feature {
        name: String,
        level: u32,
        on: Option<bool>,
    }
    let object = |features: usize, names: u32, text: usize| Object {
        id: "100000000000000042".into(),
        hosts: (0..3).map(|n| format!("h{n}-42.example")).collect(),
        features: (0..features)
            .map(|n| Feature { name: format!("feature {n}"), level: 1000, on: Some(true) })
            .collect(),
        by_name: (0..names).map(|n| (n.to_string(), n)).collect(),
        text: "x".repeat(text),
    };
    let time = |act: &dyn Fn()| {
        let rounds = (0..200).map(|_| {
            let begun = std::time::Instant::now();
            (0..50).for_each(|_| act());
            begun.elapsed() / 50
        });
        rounds.min().unwrap()
    };
    let codec = Codec::of::<Only<Object>>();
    for (what, object) in [
        ("300 B", object(4, 0, 60)),
        ("20 kB of many parts", object(550, 0, 60)),
        ("20 kB of one text", object(0, 0, 20_000)),
        ("300 B with a hash map", object(2, 10, 60)),
    ] {
        let value = Arc::new(Only(object.clone())) as Value;
        let plain = time(&|| drop(std::hint::black_box(rmp_serde::to_vec_named(&object))));
        let proven = time(&|| drop(std::hint::black_box(codec.encode(&value))));
        let bytes = codec.encode(&value).unwrap().len();
        println!("{what}, {bytes} bytes: written in {plain:?}, written and proven in {proven:?}");
    }
}
