//! The shape of a type as it is serialised, as a text: equal for equal shapes, different where the shapes differ.
//!
//! The text becomes part of the fingerprint, and so of the names of stored objects. It depends on nothing but the serialised
//! shape: not on the names of types, not on the order of fields and variants, not on the compiler, not on hashing. Changing how
//! it is written makes every stored object unreadable.
//!
//! A type tells its shape by being deserialised: [`walk`] offers it a field, sees what it asks for there, and breaks off. One run
//! learns one thing, so there are as many runs as things to learn, and no complete object is ever needed.
//!
//! | text | what |
//! |---|---|
//! | `u64`, `f32`, `bool`, `char`, `text`, `bytes`, `nil` | as they are |
//! | `option<T>`, `[T]`, `(T,U)`, `{K:V}` | an option, a sequence, a tuple or an array, a map |
//! | `(T;64)` | an array of more than 32 items |
//! | `{"a":T,"b":U}` | a struct; the fields in alphabetical order |
//! | `<"A","B":T>` | an enum; the variants in alphabetical order, with what they hold |
//! | `^2` | the second of the things around this place once more: a recursive type |
//! | `any` | whatever is there |
//! | `any{"a":T}`, `any<"kind"="A"{"a":T}>` | an open map, and one whose fields depend on a tag |
//! | `~text` | something that is read as whatever is there, and takes a text then; `~number` and so on |
//! | `?` | out of sight |
//!
//! # What it cannot see
//!
//! After a change to one of these, raise `REVISION`:
//!
//! - what `Serialize` does, where that is not what `Deserialize` asks for; and what a text or a number means (a unit, a format);
//! - what is behind `#[serde(untagged)]` or an own `deserialize_any`: it is `any`;
//! - in a struct with `#[serde(flatten)]` and in an enum with `#[serde(tag = "…")]`: fields that may be missing, fields after one
//!   that refuses every sample, and what is inside the fields of the flattened part or of the enum; with `#[serde(tag = "…",
//!   content = "…")]` all that is in the content;
//! - in a tuple, what comes after an item that refuses every sample it is offered (a text in a format of its own, say) or that
//!   is the type around it once more; and the values of a map with such keys;
//! - what lies deeper than 32 levels, what is found after 4,096 runs, and in a tuple of more than 32 items all but the first.
//!
//! An alias counts as a field or a variant, and a field that is read but never written counts as well.

mod node;
mod walk;

use node::Node;
use serde::de::DeserializeOwned;
use walk::Walk;

/// More runs than that tell nothing that a fingerprint needs.
const MOST_RUNS: usize = 4096;

/// The shape of `T`.
pub(crate) fn describe<T: DeserializeOwned>() -> String {
    let (mut root, walk) = (Node::default(), Walk::default());
    for _ in 0..MOST_RUNS {
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
