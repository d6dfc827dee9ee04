//! Shows any object as JSON. MessagePack has values that JSON does not have: they are shown with a mark, so that nothing is lost.
//!
//! | in the payload | as JSON |
//! |---|---|
//! | bytes that are a UUID of versions 1 to 8, as the crate `uuid` writes it | `{"$uuid": "67e55044-10b1-426f-9247-bb680e5fe0c8"}` |
//! | bytes that are printable text | `{"$text": "acme"}` |
//! | other bytes, and text that is not UTF-8 | `{"$bytes": "00ff"}` |
//! | a map with keys that are not text, or with the same key twice, or that looks like a mark | `{"$map": [[key, value], …]}` |
//! | a number that JSON does not have | `{"$float": "NaN"}` |
//! | an extension | `{"$extension": [type, "00ff"]}` |
//!
//! Integers are written exactly, up to 64 bits, even if a reader of JSON rounds them. Fields stay in their order.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Number;
use std::collections::HashSet;
use std::fmt;
use std::io::ErrorKind;

/// How deep values may be nested. Programs that read JSON usually have the same limit.
const DEEPEST: usize = 128;

/// A JSON value. Its fields stay in the order in which they were written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Shown>),
    Map(Vec<(String, Shown)>),
}

/// Shows a payload.
///
/// # Errors
///
/// Why the payload is not one value of MessagePack.
pub(crate) fn show(payload: &[u8]) -> Result<Shown, String> {
    use rmp_serde::decode::Error;
    let mut reader = rmp_serde::Deserializer::new(std::io::Cursor::new(payload));
    reader.set_max_depth(DEEPEST);
    let shown = Shown::deserialize(&mut reader).map_err(|error| match error {
        Error::InvalidMarkerRead(error) | Error::InvalidDataRead(error) if error.kind() == ErrorKind::UnexpectedEof => {
            format!("the payload is cut short after {} bytes", payload.len())
        }
        Error::DepthLimitExceeded => format!("the payload is nested more than {DEEPEST} deep"),
        error => format!("the payload is no MessagePack: {error}"),
    })?;
    match payload.len() as u64 - reader.position() {
        0 => Ok(shown),
        more => Err(format!("the payload goes on for {more} bytes after its value")),
    }
}

impl Shown {
    /// A key as it is stored.
    pub(crate) fn key(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::bytes(bytes), |text| Self::Text(text.to_owned()))
    }

    /// Bytes in the most readable form. Each form is exact.
    fn bytes(bytes: &[u8]) -> Self {
        let printable =
            |text: &&str| !text.is_empty() && !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'));
        if let Some(uuid) = uuid(bytes) {
            Self::mark("$uuid", Self::Text(uuid))
        } else if let Some(text) = std::str::from_utf8(bytes).ok().filter(printable) {
            Self::mark("$text", Self::Text(text.to_owned()))
        } else {
            Self::mark("$bytes", Self::Text(hex(bytes)))
        }
    }

    fn mark(name: &str, value: Self) -> Self {
        Self::Map(vec![(name.to_owned(), value)])
    }
}

/// The text of a UUID, if the bytes have the length, version and variant of one.
fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let (version, variant) = (bytes[6] >> 4, bytes[8] >> 6);
    if !(1..=8).contains(&version) || variant != 0b10 {
        return None;
    }
    let digits = hex(bytes);
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().filter_map(|group| digits.get(group));
    Some(groups.collect::<Vec<_>>().join("-"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(fields) => serializer.collect_map(fields.iter().map(|(name, value)| (name, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Shown;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Shown, E> {
        Ok(Shown::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shown, E> {
        Ok(Shown::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shown, E> {
        Ok(Shown::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shown, E> {
        Ok(Shown::Number(value.into()))
    }

    fn visit_f32<E: de::Error>(self, value: f32) -> Result<Shown, E> {
        // The shortest text that stands for this number: 0.1, not 0.10000000149011612.
        self.visit_f64(value.to_string().parse().unwrap_or_else(|_| f64::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shown, E> {
        let number = Number::from_f64(value).map(Shown::Number);
        Ok(number.unwrap_or_else(|| Shown::mark("$float", Shown::Text(value.to_string()))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Shown, E> {
        Ok(Shown::Text(text.to_owned()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Shown, E> {
        Ok(Shown::bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shown, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Shown::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shown, A::Error> {
        let mut map: Vec<(Shown, Shown)> = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        let names: Option<HashSet<&str>> = map
            .iter()
            .map(|(key, _)| match key {
                Shown::Text(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let plain = names.is_some_and(|names| {
            names.len() == map.len() && !(names.len() == 1 && names.iter().any(|name| name.starts_with('$')))
        });
        if !plain {
            let pairs = map.into_iter().map(|(key, value)| Shown::List(vec![key, value]));
            return Ok(Shown::mark("$map", Shown::List(pairs.collect())));
        }
        let fields = map.into_iter().filter_map(|(key, value)| match key {
            Shown::Text(name) => Some((name, value)),
            _ => None,
        });
        Ok(Shown::Map(fields.collect()))
    }

    /// An extension: its type and its bytes, in this order.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<Shown, D::Error> {
        let (kind, bytes) = <(i8, ExtensionBytes)>::deserialize(extension)?;
        Ok(Shown::mark("$extension", Shown::List(vec![Shown::Number(kind.into()), Shown::Text(hex(&bytes.0))])))
    }
}

/// The bytes of an extension, never shown as a UUID or as text.
struct ExtensionBytes(Vec<u8>);

impl<'de> Deserialize<'de> for ExtensionBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = ExtensionBytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<ExtensionBytes, E> {
                Ok(ExtensionBytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn json(payload: &[u8]) -> Result<String, String> {
        show(payload).map(|shown| serde_json::to_string(&shown).unwrap())
    }

    fn shown(value: impl Serialize) -> String {
        json(&rmp_serde::to_vec_named(&value).unwrap()).unwrap()
    }

    #[test]
    fn fields_stay_in_order_and_integers_exact() {
        #[derive(serde::Serialize)]
        struct Object {
            zebra: u64,
            apple: i64,
            rest: (Option<bool>, f32, &'static str),
        }
        let object = Object { zebra: u64::MAX, apple: i64::MIN, rest: (None, 0.1, "ü\u{0}") };
        assert_eq!(
            shown(object),
            r#"{"zebra":18446744073709551615,"apple":-9223372036854775808,"rest":[null,0.1,"ü\u0000"]}"#
        );
    }

    #[test]
    fn what_json_lacks_has_a_mark() {
        assert_eq!(json(b"\xc4\x02\x00\xff").unwrap(), r#"{"$bytes":"00ff"}"#);
        assert_eq!(json(b"\xa2\xff\xfe").unwrap(), r#"{"$bytes":"fffe"}"#);
        assert_eq!(shown(f64::NAN), r#"{"$float":"NaN"}"#);
        assert_eq!(shown(f32::NEG_INFINITY), r#"{"$float":"-inf"}"#);
        assert_eq!(json(b"\xd5\x07ab").unwrap(), r#"{"$extension":[7,"6162"]}"#);
        assert_eq!(shown(i128::MAX), r#"{"$bytes":"7fffffffffffffffffffffffffffffff"}"#);
    }

    #[test]
    fn bytes_of_a_readable_kind_are_readable() {
        let uuid = b"\x67\xe5\x50\x44\x10\xb1\x42\x6f\x92\x47\xbb\x68\x0e\x5f\xe0\xc8";
        let bytes = |bytes: &[u8]| json(&[&[0xc4, u8::try_from(bytes.len()).unwrap()], bytes].concat()).unwrap();
        assert_eq!(bytes(uuid), r#"{"$uuid":"67e55044-10b1-426f-9247-bb680e5fe0c8"}"#);
        assert_eq!(bytes(&uuid[1..]), r#"{"$bytes":"e5504410b1426f9247bb680e5fe0c8"}"#);
        assert_eq!(bytes(&[0; 16]), r#"{"$bytes":"00000000000000000000000000000000"}"#);
        assert_eq!(bytes("größe\n".as_bytes()), r#"{"$text":"größe\n"}"#);
        assert_eq!(bytes(b"sixteen letters!"), r#"{"$text":"sixteen letters!"}"#);
        assert_eq!(bytes(b"a\x00"), r#"{"$bytes":"6100"}"#);
        assert_eq!(bytes(b""), r#"{"$bytes":""}"#);
        assert_eq!(json(b"\xc7\x02\x05ab").unwrap(), r#"{"$extension":[5,"6162"]}"#);
        assert_eq!(
            serde_json::to_string(&Shown::key(uuid)).unwrap(),
            r#"{"$uuid":"67e55044-10b1-426f-9247-bb680e5fe0c8"}"#
        );
    }

    #[test]
    fn maps_that_are_no_json_objects() {
        assert_eq!(shown(BTreeMap::from([(7, "a"), (8, "b")])), r#"{"$map":[[7,"a"],[8,"b"]]}"#);
        assert_eq!(json(b"\x82\xa1a\x01\xa1a\x02").unwrap(), r#"{"$map":[["a",1],["a",2]]}"#);
        assert_eq!(shown(BTreeMap::from([("$bytes", 1)])), r#"{"$map":[["$bytes",1]]}"#);
        assert_eq!(shown(BTreeMap::from([("$a", 1), ("b", 2)])), r#"{"$a":1,"b":2}"#);
        assert_eq!(shown(BTreeMap::<u8, u8>::new()), "{}");
    }

    #[test]
    fn what_is_no_payload_says_why() {
        assert_eq!(json(b"").unwrap_err(), "the payload is cut short after 0 bytes");
        assert_eq!(json(b"\x92\x01").unwrap_err(), "the payload is cut short after 2 bytes");
        assert_eq!(json(b"\xda\xff\xffabc").unwrap_err(), "the payload is cut short after 6 bytes");
        assert_eq!(json(b"\x01\x02").unwrap_err(), "the payload goes on for 1 bytes after its value");
        assert_eq!(json(&[0x91; 5000]).unwrap_err(), "the payload is nested more than 128 deep");
        assert!(json(b"\xc1").unwrap_err().starts_with("the payload is no MessagePack"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_shown_or_refused(bytes: Vec<u8>) {
            if let Ok(shown) = show(&bytes) {
                serde_json::to_string(&shown).unwrap();
            }
        }
    }
}
