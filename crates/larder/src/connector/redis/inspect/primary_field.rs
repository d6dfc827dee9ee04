//! Whether objects show that a name is that of their primary index.

use crate::connector::inspect::FoundObject;
use crate::key::Key;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Whether the object has a field of this name, and the field holds its primary key.
pub(super) fn primary_is_field(object: &FoundObject, name: &str) -> bool {
    let primary = object.keys.iter().find(|key| key.index.is_none());
    let mut reader = rmp_serde::Deserializer::from_read_ref(&*object.payload);
    // A limit of depth, so that no bytes whatever can exhaust the stack.
    reader.set_max_depth(DEEPEST);
    let field = BTreeMap::<String, AsKey>::deserialize(&mut reader)
        .ok()
        .and_then(|mut fields| fields.remove(name))
        .and_then(|AsKey(bytes)| bytes);
    field.is_some() && field.as_ref() == primary.map(|key| &key.bytes)
}

/// How deep values may be nested in an object whose fields are read.
const DEEPEST: usize = 128;

/// The value of a field, encoded as a key. `None`: a value of this type cannot be a key.
struct AsKey(Option<Vec<u8>>);

impl<'de> Deserialize<'de> for AsKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyField)
    }
}

struct AnyField;

impl<'de> Visitor<'de> for AnyField {
    type Value = AsKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<AsKey, E> {
        Ok(AsKey(Some(text.encode().to_vec())))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<AsKey, E> {
        Ok(AsKey(Some(bytes.encode().to_vec())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<AsKey, E> {
        Ok(AsKey(Some(number.encode().to_vec())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<AsKey, E> {
        Ok(AsKey(Some(number.encode().to_vec())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<AsKey, E> {
        Ok(AsKey(Some(value.encode().to_vec())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<AsKey, E> {
        Ok(AsKey(None))
    }

    fn visit_unit<E>(self) -> Result<AsKey, E> {
        Ok(AsKey(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<AsKey, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(AsKey(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<AsKey, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(AsKey(None))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<AsKey, D::Error> {
        IgnoredAny::deserialize(extension).map(|_| AsKey(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::inspect::FoundKey;
    use serde::Serialize;

    #[test]
    fn a_field_that_holds_the_primary_key() {
        #[derive(Serialize)]
        struct Object {
            id: &'static str,
            number: u64,
            below: i8,
            rest: (Option<()>, f32, Vec<u8>, BTreeMap<u8, u8>),
        }
        let object = |primary: &str| FoundObject {
            version: None,
            deadline: None,
            keys: vec![
                FoundKey { index: Some("host".to_owned()), bytes: b"b".to_vec(), deleted: false },
                FoundKey { index: None, bytes: primary.as_bytes().to_vec(), deleted: false },
            ],
            payload: rmp_serde::to_vec_named(&Object {
                id: "a",
                number: u64::MAX,
                below: -7,
                rest: (None, 0.1, vec![1], BTreeMap::from([(1, 2)])),
            })
            .unwrap(),
        };
        for (name, primary) in [("id", "a"), ("number", "18446744073709551615"), ("below", "-7")] {
            assert!(primary_is_field(&object(primary), name), "{name}");
        }
        for (name, primary) in [("id", "b"), ("ids", "a"), ("rest", "a"), ("number", "a")] {
            assert!(!primary_is_field(&object(primary), name), "{name}");
        }
        let mut other = object("a");
        other.payload = b"\xa1a".to_vec();
        assert!(!primary_is_field(&other, "id"), "no fields at all");
        other.payload = [&b"\x81\xa2id"[..], &[0x91; 100_000]].concat();
        assert!(!primary_is_field(&other, "id"), "and no end");
    }
}
