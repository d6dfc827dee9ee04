//! Which of two states of an object is newer, as far as their versions or bytes tell.

use crate::codec::order_free_hash;
use crate::contract::{KeyBuf, Schema, Value};
use crate::entry::{AnyKey, Entry, Keys};
use std::sync::Arc;

/// What a cache or a source holds under a primary key.
#[derive(Debug)]
pub(super) struct State(Option<Present>);

#[derive(Debug)]
struct Present {
    keys: Vec<KeyBuf>,
    version: Option<u64>,
    hash: u64,
}

impl Present {
    fn primary(&self) -> Option<&KeyBuf> {
        self.keys.iter().find(|key| key.index == 0)
    }
}

impl State {
    /// `None` if the object cannot be encoded, and so cannot be compared.
    pub(super) fn of<E: Entry>(object: Option<Arc<E>>, schema: &Schema) -> Option<Self> {
        let Some(object) = object else { return Some(Self(None)) };
        let (keys, version) = (Keys::of(&*object).into_iter().map(AnyKey::into_buf).collect(), object.version());
        let hash = order_free_hash(&schema.codec.write(&(object as Value)).ok()?);
        Some(Self(Some(Present { keys, version, hash })))
    }

    pub(super) fn keys(&self) -> Vec<KeyBuf> {
        self.0.as_ref().map(|present| present.keys.clone()).unwrap_or_default()
    }

    /// The versions of both, if both are states of one object and have a version.
    fn versions(&self, other: &Self) -> Option<(u64, u64)> {
        let (one, other) = (self.0.as_ref()?, other.0.as_ref()?);
        (one.primary() == other.primary()).then_some((one.version?, other.version?))
    }

    /// Whether both are states of the same object. A state without an object counts as one of any object.
    pub(super) fn is_of_the_same_object_as(&self, other: &Self) -> bool {
        let (Some(one), Some(other)) = (&self.0, &other.0) else { return true };
        one.primary() == other.primary()
    }

    /// Whether this state is the same as the other or, by its version, newer.
    pub(super) fn is_as_new_as(&self, other: &Self) -> bool {
        match (self.versions(other), &self.0, &other.0) {
            (Some((own, other)), ..) => own >= other,
            (None, Some(one), Some(other)) => one.hash == other.hash,
            (None, one, other) => one.is_none() && other.is_none(),
        }
    }

    /// Whether the version shows that the other is newer.
    pub(super) fn is_outdated_by(&self, other: &Self) -> bool {
        self.versions(other).is_some_and(|(own, other)| own < other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(primary: &str, version: Option<u64>, hash: u64) -> State {
        let keys = vec![KeyBuf { index: 0, bytes: primary.as_bytes().into() }];
        State(Some(Present { keys, version, hash }))
    }

    #[test]
    fn versions_decide_where_both_have_one() {
        let (old, new) = (state("1", Some(1), 7), state("1", Some(2), 7));
        assert!(new.is_as_new_as(&old) && new.is_as_new_as(&new) && !old.is_as_new_as(&new));
        assert!(old.is_outdated_by(&new) && !new.is_outdated_by(&old) && !old.is_outdated_by(&old));
        assert!(state("1", Some(2), 8).is_as_new_as(&new), "what they hold does not count then");
    }

    #[test]
    fn otherwise_only_what_is_the_same_is_as_new() {
        let (one, other, gone) = (state("1", None, 7), state("1", None, 8), State(None));
        assert!(one.is_as_new_as(&state("1", None, 7)) && !one.is_as_new_as(&other));
        assert!(!one.is_outdated_by(&other) && !one.is_outdated_by(&gone));
        assert!(!one.is_as_new_as(&gone) && !gone.is_as_new_as(&one) && gone.is_as_new_as(&State(None)));
        assert!(one.is_of_the_same_object_as(&other) && !one.is_of_the_same_object_as(&state("2", None, 7)));
        assert!(!state("1", Some(9), 7).is_as_new_as(&state("2", Some(1), 8)), "versions of two objects");
    }
}
