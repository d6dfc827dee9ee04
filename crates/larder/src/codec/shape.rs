//! The shape of a type as a text. Types that are serialised in the same shape have the same text; other types have another.
//!
//! The text becomes part of the fingerprint, and so of the names of stored objects. It depends only on the serialised shape: not on
//! the names of types, the order of fields and variants, the compiler, or hashing. A change in how the text is written would make
//! every stored object unreadable.
//!
//! larder learns the shape of a type by deserialising the type: [`walk`] offers it a field, sees what the type asks for there, and
//! breaks off with an error. One run learns one thing, so there are as many runs as there are things to learn. No complete object is
//! ever needed.
//!
//! | text | what |
//! |---|---|
//! | `u64`, `f32`, `bool`, `char`, `text`, `bytes`, `nil` | as they are |
//! | `option<T>`, `[T]`, `(T,U)`, `{K:V}` | an option, a sequence, a tuple or an array, a map |
//! | `(T;64)` | an array of more than 32 items |
//! | `{"a":T,"b":U}` | a struct; the fields in alphabetical order |
//! | `<"A","B":T>` | an enum; the variants in alphabetical order, with what they hold |
//! | `^2` | the type two levels around this place, once more: a recursive type |
//! | `any` | any value |
//! | `any{"a":T}`, `any<"kind"="A"{"a":T}>` | an open map; an open map whose fields depend on a tag |
//! | `~text` | a type that asks for any value, and then takes only a text; `~number` and so on |
//! | `?` | could not be seen |
//!
//! # What it cannot see
//!
//! After a change to one of these, raise `REVISION`:
//!
//! - what `Serialize` writes, if `Deserialize` does not ask for the same; and what a text or a number means (a unit, a format);
//! - everything behind `#[serde(untagged)]`, or behind a `deserialize_any` of the type's own: the text is `any`;
//! - in a struct with `#[serde(flatten)]` and in an enum with `#[serde(tag = "…")]`: fields that may be missing, fields after a field
//!   that refuses every sample, and what is inside the fields of the flattened part or of the enum; with `#[serde(tag = "…",
//!   content = "…")]` everything in the content;
//! - in a tuple: the items after an item that refuses every sample (for example a text in a format of its own), or after an item that
//!   is the type around it once more; and the values of a map with such keys;
//! - what lies deeper than 32 levels, what is found after 4,096 runs, and in a tuple of more than 32 items all but the first.
//!
//! An alias counts as a field or a variant of its own. A field that is read but never written counts, too.

mod node;
mod walk;

use node::Node;
use serde::de::DeserializeOwned;
use walk::Walk;

/// The most runs. A type that needs more is known well enough for a fingerprint by then.
const MAX_RUNS: usize = 4096;

/// The shape of `T`.
pub(crate) fn describe<T: DeserializeOwned>() -> String {
    let (mut root, walk) = (Node::default(), Walk::default());
    for _ in 0..MAX_RUNS {
        if root.done() {
            break;
        }
        walk.run::<T>(&mut root);
    }
    let mut text = String::new();
    root.write(&mut text);
    text
}

#[cfg(test)]
mod tests;
