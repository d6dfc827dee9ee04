//! The bytes of an object.

use super::Cut;
use crate::connector::remote::envelope::{DecodeError, Opened, decode, encode, open, seal};
use crate::contract::{KeyBuf, KeyRef, Object, Schema};
use crate::{Entry, Index, Keys};
use std::sync::Arc;

/// What the objects here hold.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Fuzzed {
    text: String,
    numbers: Vec<u32>,
    inner: Option<Box<Fuzzed>>,
}

impl Fuzzed {
    const ID: Index<Self, String> = Index::at::<0>();
}

impl Entry for Fuzzed {
    const CACHE: &'static str = "fuzzed";
    // The beginning of one is another.
    const INDEXES: &'static [&'static str] = &["id", "host", "ho"];

    fn keys(&self, keys: &mut Keys<Self>) {
        keys.add(Self::ID, &self.text);
    }
}

/// Found out but once: to describe a shape takes longer than to read an object.
fn schema() -> Schema {
    thread_local!(static SCHEMA: Schema = Schema::of::<Fuzzed>().with_fingerprint(u64::from_be_bytes(*b"fuzzed!!")));
    SCHEMA.with(Schema::clone)
}

/// Stored bytes: whatever they are, they are read or refused. What is served lists the key, and what was written is what is read, under
/// its own keys and no others, and not at all with a byte of it changed.
pub fn object(bytes: &[u8]) {
    let schema = schema();
    read(&schema, bytes);
    // Most bytes end at the checksum. With the right one they come further.
    let mut sealed = bytes.to_vec();
    if seal(&mut sealed, schema.fingerprint) {
        read(&schema, &sealed);
    }
    write(&schema, Cut(bytes));
}

/// Reads what may be an object under each key that it lists, and under others.
fn read(schema: &Schema, bytes: &[u8]) {
    let opened = open(bytes).ok();
    let listed = opened.iter().flat_map(|opened| &opened.keys).map(|key| key.bytes).take(8);
    for name in listed.chain([b"".as_slice(), b"a", b"host:a"]) {
        for index in 0..=3 {
            let key = KeyRef { index, bytes: name };
            if decode(schema, bytes, key).is_ok() {
                // What is broken behind the key is not looked at, if its checksum is right all the same.
                assert!(opened.as_ref().is_none_or(|opened| serves(schema, opened, key)), "served under {key:?}");
            }
        }
    }
}

/// Whether an object lists a key that was not deleted.
fn serves(schema: &Schema, opened: &Opened<'_>, key: KeyRef<'_>) -> bool {
    let index = schema.indexes.get(usize::from(key.index)).map(|name| name.as_bytes());
    let index = if key.index == 0 { None } else { Some(index.unwrap_or(b"?")) };
    opened.keys.iter().any(|listed| !listed.deleted && listed.index == index && listed.bytes == key.bytes)
}

/// Writes an object, and reads it again.
fn write(schema: &Schema, mut cut: Cut<'_>) {
    let (flaw, version) = (usize::from(cut.byte()) << 8 | usize::from(cut.byte()), cut.byte());
    let primary: Box<[u8]> = cut.piece().into();
    let mut secondary = Vec::new();
    for _ in 0..cut.byte() % 6 {
        let key = KeyBuf { index: 1 + cut.byte() % 2, bytes: cut.piece().into() };
        if !secondary.contains(&key) {
            secondary.push(key);
        }
    }
    let text = String::from_utf8_lossy(cut.piece()).into_owned();
    let numbers = cut.piece().iter().map(|byte| u32::from(*byte) << (byte % 25)).collect();
    let value = Arc::new(Fuzzed { text, numbers, inner: None });
    let version = (version > 0).then(|| u64::from(version) << (version % 57));
    let object = Object { primary, secondary, version, value: value.clone() };
    let written = encode(schema, &object);
    assert!(written.is_ok(), "an object that can be stored: {written:?}");
    let Ok(mut written) = written else { return };
    for key in object.keys() {
        let found = decode(schema, &written, key).map(|value| value.downcast::<Fuzzed>());
        assert!(matches!(&found, Ok(Ok(found)) if *found == value), "{key:?} finds {found:?}");
        let other = KeyRef { index: key.index + 1, ..key };
        if !object.keys().any(|key| key == other) {
            assert_eq!(decode(schema, &written, other).err(), Some(DecodeError::OtherKey), "{other:?}");
        }
    }
    let opened = open(&written);
    let same = opened.as_ref().is_ok_and(|opened| {
        opened.version == object.version
            && opened.keys.len() == object.keys().count()
            && object.keys().all(|key| serves(schema, opened, key))
    });
    assert!(same, "{opened:?} is what became of {object:?}");
    // Everything but what the server writes is under the checksum: the deadline, and which keys were deleted.
    let place = flaw % written.len();
    let servers = (20..28).contains(&place) || (42..42 + object.keys().count()).contains(&place);
    if let (false, Some(byte)) = (servers, written.get_mut(place)) {
        *byte ^= 1 << (flaw % 8);
        let key = KeyRef { index: 0, bytes: &object.primary };
        assert!(decode(schema, &written, key).is_err(), "read although byte {place} has changed");
        assert!(open(&written).is_err(), "opened although byte {place} has changed");
    }
}
