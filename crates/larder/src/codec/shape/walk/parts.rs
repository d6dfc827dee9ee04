//! The parts of a place, as serde hands them to a type: items, fields, a pair, a variant.

use super::probe::Probe;
use super::{End, Level, Mode, Walk};
use crate::codec::shape::node::{Named, Node};
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, Visitor};

/// The items of a sequence or a tuple. With a target, the run ends at that item.
pub(super) struct Items<'w> {
    pub(super) items: &'w mut [Node],
    /// How many items the type is offered. If there are more than `items` has, the last of `items` stands for the rest.
    pub(super) length: usize,
    pub(super) target: Option<usize>,
    pub(super) next: usize,
    pub(super) walk: &'w Walk,
    pub(super) level: &'w Level<'w>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = End;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, End> {
        let place = self.next;
        if place >= self.length {
            return Ok(None);
        }
        let last = self.items.len().saturating_sub(1);
        let Some(node) = self.items.get_mut(place.min(last)) else { return Ok(None) };
        let mode = if self.target == Some(place) { Mode::Look } else { Mode::Pass };
        // Count the item even if it fails. Otherwise a type that ignores errors would ask for ever.
        self.next += 1;
        self.walk.go(mode, node, Some(self.level), |probe| seed.deserialize(probe)).map(Some)
    }
}

/// The field of an open map that says which variant the map is.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    pub(super) name: &'static str,
    pub(super) variant: &'static str,
}

/// Fields by name: all fields to pass, or one field to look at.
pub(super) struct Fields<'w> {
    /// The tag is offered before all fields.
    pub(super) tag: Option<Tag>,
    pub(super) fields: &'w mut [Named],
    pub(super) mode: Mode,
    pub(super) next: usize,
    due: Due,
    pub(super) walk: &'w Walk,
    pub(super) level: &'w Level<'w>,
}

/// The field whose value comes next.
enum Due {
    Tag(&'static str),
    Field(usize),
    Nothing,
}

impl<'w> Fields<'w> {
    pub(super) fn all(tag: Option<Tag>, fields: &'w mut [Named], walk: &'w Walk, level: &'w Level<'w>) -> Self {
        Self { tag, fields, mode: Mode::Pass, next: 0, due: Due::Nothing, walk, level }
    }

    /// Goes to the first field that is not done. That field is offered first, so that no other field can be in the way.
    pub(super) fn look_at_next<'de, V: Visitor<'de>>(
        tag: Option<Tag>,
        fields: &mut [Named],
        walk: &Walk,
        level: &Level<'_>,
        visitor: V,
    ) -> Result<V::Value, End> {
        let next = fields.iter_mut().find(|field| !field.node.done());
        let one = next.map(std::slice::from_mut).unwrap_or_default();
        let result = visitor.visit_map(Fields { mode: Mode::Look, ..Fields::all(tag, one, walk, level) });
        one.iter_mut().for_each(|field| field.node.out_of_sight());
        result
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = End;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, End> {
        let name = if let Some(tag) = self.tag.take() {
            self.due = Due::Tag(tag.variant);
            tag.name
        } else if let Some(field) = self.fields.get(self.next) {
            self.due = Due::Field(self.next);
            // As with items: count the field even if it fails.
            self.next += 1;
            field.name
        } else {
            self.due = Due::Nothing;
            return Ok(None);
        };
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, End> {
        match std::mem::replace(&mut self.due, Due::Nothing) {
            Due::Tag(variant) => seed.deserialize(BorrowedStrDeserializer::new(variant)),
            Due::Field(place) => match self.fields.get_mut(place) {
                Some(Named { node, .. }) => {
                    self.walk.go(self.mode, node, Some(self.level), |probe| seed.deserialize(probe))
                }
                None => Err(End::Here),
            },
            Due::Nothing => Err(End::Here),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Half {
    Key,
    Value,
}

/// The one pair of a map, or none.
pub(super) struct Pair<'w> {
    pub(super) key: &'w mut Node,
    pub(super) value: &'w mut Node,
    pub(super) target: Option<Half>,
    /// Whether the pair is still to come.
    pub(super) left: bool,
    pub(super) walk: &'w Walk,
    pub(super) level: &'w Level<'w>,
}

impl Pair<'_> {
    fn half<'de, T: DeserializeSeed<'de>>(&mut self, half: Half, seed: T) -> Result<T::Value, End> {
        let mode = if self.target == Some(half) { Mode::Look } else { Mode::Pass };
        let node = if half == Half::Key { &mut *self.key } else { &mut *self.value };
        self.walk.go(mode, node, Some(self.level), |probe| seed.deserialize(probe))
    }
}

impl<'de> MapAccess<'de> for Pair<'_> {
    type Error = End;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, End> {
        if !std::mem::take(&mut self.left) {
            return Ok(None);
        }
        self.half(Half::Key, seed).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, End> {
        self.half(Half::Value, seed)
    }
}

/// One variant of an enum.
pub(super) struct Variant<'w> {
    pub(super) name: &'static str,
    pub(super) probe: Probe<'w>,
}

impl<'de, 'w> EnumAccess<'de> for Variant<'w> {
    type Error = End;
    type Variant = Probe<'w>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Probe<'w>), End> {
        Ok((seed.deserialize(BorrowedStrDeserializer::new(self.name))?, self.probe))
    }
}
