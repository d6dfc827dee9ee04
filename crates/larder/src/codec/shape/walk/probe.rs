//! The deserializer for one place in a type. It notes what the type asks for, and answers with a sample or with the parts of the place.

use super::parts::{Fields, Half, Items, Pair, Tag, Variant};
use super::{Asked, End, Level, MAX_DEPTH, Mode, Walk};
use crate::codec::shape::node::{Kind, Named, Node, Search};
use serde::de::{DeserializeSeed, Deserializer, VariantAccess, Visitor};

const TEXTS: [&str; 8] = [
    "1",
    "",
    "00000000-0000-0000-0000-000000000000",
    "1970-01-01T00:00:00Z",
    "1970-01-01",
    "00:00:00",
    "http://localhost/",
    "127.0.0.1",
];

const LENGTHS: [usize; 7] = [0, 16, 32, 20, 12, 8, 4];

/// One place of a walk, from which a type is deserialised.
pub(super) struct Probe<'w> {
    pub(super) node: &'w mut Node,
    pub(super) walk: &'w Walk,
    pub(super) above: Option<&'w Level<'w>>,
    pub(super) mode: Mode,
}

impl Probe<'_> {
    fn leaf<R>(self, name: &'static str, samples: usize, offer: impl FnOnce(usize) -> R) -> R {
        if self.node.unknown() && self.mode == Mode::Look {
            self.node.kind = Kind::Leaf(name, samples);
        }
        offer(self.node.attempt)
    }

    /// Refuses to go deeper if the type contains itself, or is nested too deep.
    fn bound(&mut self, level: &Level<'_>) -> Result<(), End> {
        let again = level.again();
        if again.is_none() && level.depth < MAX_DEPTH {
            return Ok(());
        }
        if self.node.unknown() && self.mode == Mode::Look {
            self.node.kind = again.map_or(Kind::OutOfSight, Kind::Again);
        }
        Err(End::Here)
    }

    /// Notes what kind of place this is, if that was unknown.
    fn enter(&mut self, level: &Level<'_>, fresh: impl FnOnce() -> Kind) -> Result<(), End> {
        self.bound(level)?;
        if self.node.unknown() && self.mode == Mode::Look {
            self.node.kind = fresh();
        }
        Ok(())
    }

    /// Ends a run in which the type asks for something else than in an earlier run.
    fn changed<R>(node: &mut Node, mode: Mode) -> Result<R, End> {
        if mode == Mode::Look {
            node.kind = Kind::OutOfSight;
        }
        Err(End::Here)
    }

    fn tuple<'de, V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, End> {
        let level = Level::below::<V>(self.above, Asked::Tuple(length));
        self.enter(&level, || Kind::tuple(length))?;
        let Self { node, walk, mode, .. } = self;
        let Kind::Tuple(items, _) = &mut node.kind else { return Self::changed(node, mode) };
        let target = items.iter().position(|item| mode == Mode::Look && !item.done());
        let before = walk.refused.get();
        let result = visitor.visit_seq(Items { items, length, target, next: 0, walk, level: &level });
        if let Some(item) = target.and_then(|target| items.get_mut(target)) {
            // If an item before it has refused a sample, a later run with another sample may still reach the target.
            if walk.refused.get() == before {
                item.out_of_sight();
            }
        }
        result
    }

    fn structure<'de, V: Visitor<'de>>(mut self, names: &'static [&'static str], visitor: V) -> Result<V::Value, End> {
        let level = Level::below::<V>(self.above, Asked::Struct(names));
        self.enter(&level, || Kind::Struct(Kind::named(names)))?;
        let Self { node, walk, mode, .. } = self;
        let Kind::Struct(fields) = &mut node.kind else { return Self::changed(node, mode) };
        match mode {
            Mode::Pass => visitor.visit_map(Fields::all(None, fields, walk, &level)),
            Mode::Look => Fields::look_at_next(None, fields, walk, &level, visitor),
        }
    }

    /// Answers a type that asks for any value, or for a map without announced fields. With a `tag`, for one variant of it.
    fn open<'de, V: Visitor<'de>>(self, tag: Option<Tag>, level: &Level<'_>, visitor: V) -> Result<V::Value, End> {
        let Self { node, walk, above, mode } = self;
        let (attempt, anything) = (node.attempt, tag.is_none() && node.anything());
        match (&mut node.kind, mode) {
            (Kind::Tagged { tag, variants }, _) => {
                let variant = match mode {
                    Mode::Look => variants.iter_mut().find(|variant| !variant.node.done()),
                    Mode::Pass => variants.get_mut(attempt),
                };
                let Some(Named { name: variant, node }) = variant else { return Err(End::Here) };
                Probe { node, walk, above, mode }.open(Some(Tag { name: tag, variant }), level, visitor)
            }
            (Kind::Open { .. }, Mode::Pass) if anything => match attempt {
                0 => visitor.visit_unit(),
                1 => visitor.visit_bool(true),
                2 => visitor.visit_u64(1),
                3 => visitor.visit_str("1"),
                4 => visitor.visit_seq(Items { items: &mut [], length: 0, target: None, next: 0, walk, level }),
                _ => visitor.visit_map(Fields::all(None, &mut [], walk, level)),
            },
            (Kind::Open { fields, .. }, Mode::Look) if fields.iter().any(|field| !field.node.done()) => {
                let result = Fields::look_at_next(tag, fields, walk, level, visitor);
                if let [Named { name, node: Node { kind: Kind::Names(names @ [_, ..]), .. } }] = &**fields {
                    let (tag, mut variants) = (*name, Kind::named(names));
                    variants.iter_mut().for_each(|variant| variant.node.kind = Kind::open(&[]));
                    node.kind = Kind::Tagged { tag, variants };
                }
                result
            }
            (Kind::Open { fields, search }, _) => {
                if mode == Mode::Look {
                    *search = Search::Asked;
                }
                visitor.visit_map(Fields::all(tag, fields, walk, level))
            }
            _ => Self::changed(node, mode),
        }
    }
}

macro_rules! leaves {
    ($($method:ident $name:literal [$($sample:expr),*] $visit:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
            let samples = [$($sample),*];
            self.leaf($name, samples.len(), |attempt| match samples.get(attempt) {
                Some(sample) => visitor.$visit(*sample),
                None => Err(End::Here),
            })
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = End;

    leaves! {
        deserialize_bool "bool" [true, false] visit_bool;
        deserialize_i8 "i8" [1, 0] visit_i8;
        deserialize_i16 "i16" [1, 0] visit_i16;
        deserialize_i32 "i32" [1, 0] visit_i32;
        deserialize_i64 "i64" [1, 0] visit_i64;
        deserialize_i128 "i128" [1, 0] visit_i128;
        deserialize_u8 "u8" [1, 0] visit_u8;
        deserialize_u16 "u16" [1, 0] visit_u16;
        deserialize_u32 "u32" [1, 0] visit_u32;
        deserialize_u64 "u64" [1, 0] visit_u64;
        deserialize_u128 "u128" [1, 0] visit_u128;
        deserialize_f32 "f32" [1.0, 0.0] visit_f32;
        deserialize_f64 "f64" [1.0, 0.0] visit_f64;
        deserialize_char "char" ['1'] visit_char;
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
        self.leaf("text", TEXTS.len(), |attempt| visitor.visit_str(TEXTS.get(attempt).unwrap_or(&"")))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
        self.leaf("bytes", LENGTHS.len(), |attempt| {
            let length = LENGTHS.get(attempt).copied().unwrap_or_default();
            visitor.visit_bytes([0; 32].get(..length).unwrap_or_default())
        })
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
        self.leaf("nil", 1, |_| visitor.visit_unit())
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, End> {
        // A unit struct is written as an empty array.
        self.leaf("()", 1, |_| visitor.visit_unit())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
        self.leaf("any", 1, |_| visitor.visit_unit())
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
        if let Kind::Names(names) = self.node.kind {
            return visitor.visit_str(names.get(self.node.attempt).copied().unwrap_or_default());
        }
        let unknown = self.node.unknown() && self.mode == Mode::Look;
        let result = visitor.visit_str("");
        if unknown {
            self.node.kind = Kind::Names(match result {
                Err(End::Unknown(names)) => names,
                _ => &[],
            });
        }
        result
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, End> {
        let level = Level::below::<V>(self.above, Asked::Option);
        self.enter(&level, || Kind::Option(Box::default()))?;
        let Self { node, walk, mode, .. } = self;
        let Kind::Option(held) = &mut node.kind else { return Self::changed(node, mode) };
        if mode == Mode::Pass && node.attempt == 0 {
            return visitor.visit_none();
        }
        walk.go(mode, held, Some(&level), |probe| visitor.visit_some(probe))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(mut self, name: &'static str, visitor: V) -> Result<V::Value, End> {
        let level = Level::below::<V>(self.above, Asked::Newtype(name));
        self.bound(&level)?;
        visitor.visit_newtype_struct(Probe { above: Some(&level), ..self })
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, End> {
        let level = Level::below::<V>(self.above, Asked::List);
        self.enter(&level, || Kind::List(Box::default()))?;
        let Self { node, walk, mode, .. } = self;
        let Kind::List(item) = &mut node.kind else { return Self::changed(node, mode) };
        let (items, target) = match mode {
            Mode::Look => (std::slice::from_mut(&mut **item), Some(0)),
            Mode::Pass if node.attempt > 0 => (std::slice::from_mut(&mut **item), None),
            Mode::Pass => (&mut [][..], None),
        };
        let result = visitor.visit_seq(Items { length: items.len(), items, target, next: 0, walk, level: &level });
        item.out_of_sight();
        result
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, End> {
        self.tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, End> {
        self.tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, End> {
        let level = Level::below::<V>(self.above, Asked::Map);
        self.enter(&level, || Kind::Map(Box::default()))?;
        if !matches!(self.node.kind, Kind::Map(_)) {
            return self.open(None, &level, visitor);
        }
        let Self { node, walk, mode, .. } = self;
        let Kind::Map(pair) = &mut node.kind else { return Self::changed(node, mode) };
        let (key, value) = &mut **pair;
        let (target, left) = match mode {
            Mode::Pass => (None, node.attempt > 0),
            Mode::Look if key.done() => (Some(Half::Value), true),
            Mode::Look => (Some(Half::Key), true),
        };
        let before = walk.refused.get();
        let result = visitor.visit_map(Pair { key, value, target, left, walk, level: &level });
        match target {
            Some(Half::Key) => key.out_of_sight(),
            Some(Half::Value) if walk.refused.get() == before => value.out_of_sight(),
            _ => {}
        }
        // A type that asks for an identifier as the key has fields, announced or not. A struct with a flattened part does not announce
        // its fields.
        if let Kind::Names(names) = key.kind {
            node.kind = Kind::open(names);
        }
        result
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, End> {
        self.structure(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, End> {
        let level = Level::below::<V>(self.above, Asked::Enum(names));
        self.enter(&level, || Kind::Enum(Kind::named(names)))?;
        let Self { node, walk, mode, .. } = self;
        let Kind::Enum(variants) = &mut node.kind else { return Self::changed(node, mode) };
        let variant = match mode {
            Mode::Look => variants.iter_mut().find(|variant| !variant.node.done()),
            Mode::Pass => variants.get_mut(node.attempt),
        };
        let Some(Named { name, node }) = variant else { return Err(End::Here) };
        let probe = Probe { node: &mut *node, walk, above: Some(&level), mode };
        let result = visitor.visit_enum(Variant { name, probe });
        node.out_of_sight();
        result
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, End> {
        let level = Level::below::<V>(self.above, Asked::Any);
        self.enter(&level, || Kind::open(&[]))?;
        self.open(None, &level, visitor)
    }

    /// False, as with the encoding of the payload.
    fn is_human_readable(&self) -> bool {
        false
    }
}

impl<'de> VariantAccess<'de> for Probe<'_> {
    type Error = End;

    fn unit_variant(self) -> Result<(), End> {
        if self.node.unknown() && self.mode == Mode::Look {
            self.node.kind = Kind::Bare;
        }
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, End> {
        let Self { node, walk, above, mode } = self;
        walk.go(mode, node, above, |probe| seed.deserialize(probe))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, End> {
        self.tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, End> {
        self.structure(fields, visitor)
    }
}
