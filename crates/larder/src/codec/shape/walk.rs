//! A deserializer that has no data: it notes what a type asks for.
//!
//! Each run is about one place that is not [done](Node::done): at each level the way leads to the first such place. What comes
//! before it has to be gone through where the order is given, as in a tuple: a place that is known already is offered a sample
//! then, another one when the type refused it in an earlier run.

use super::node::{ANYTHING, Kind, Named, Node, Search};
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::any::type_name;
use std::cell::Cell;
use std::fmt::{self, Display};

/// Levels of things within things.
const DEEPEST: usize = 32;

/// Fields that are looked for in an open map.
const MOST_FOUND: usize = 256;

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

/// Why a run ended.
#[derive(Debug)]
pub(super) enum End {
    /// It has seen what it was about, or the type refused what it was offered.
    Here,
    /// The type wants a field with this name.
    Missing(&'static str),
    /// The type takes these names only.
    Unknown(&'static [&'static str]),
}

impl Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the shape is only looked at")
    }
}

impl std::error::Error for End {}

impl de::Error for End {
    fn custom<T: Display>(_: T) -> Self {
        Self::Here
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Unknown(expected)
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Unknown(expected)
    }
}

/// What the places of a walk share.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// How often a sample was refused and the next one chosen.
    refused: Cell<usize>,
}

impl Walk {
    /// One run through the whole of `T`.
    pub(super) fn run<T: DeserializeOwned>(&self, root: &mut Node) {
        self.look(root, None, |probe| T::deserialize(probe));
    }

    /// Goes to a place that the run is about, and learns from what becomes of it.
    fn look<R>(&self, node: &mut Node, above: Option<&Level<'_>>, go: impl FnOnce(Probe<'_>) -> Result<R, End>) {
        let before = self.refused.get();
        let end = go(Probe { node, walk: self, above, mode: Mode::Look }).err();
        node.learn(end, self.refused.get() != before);
        node.out_of_sight();
    }

    /// Goes past a place that is known. If its sample is refused, and not because of a place within that has another one to
    /// offer, the next one is due.
    fn pass<R>(
        &self,
        node: &mut Node,
        above: Option<&Level<'_>>,
        go: impl FnOnce(Probe<'_>) -> Result<R, End>,
    ) -> Result<R, End> {
        if node.attempt >= node.samples() {
            return Err(End::Here);
        }
        let before = self.refused.get();
        let result = go(Probe { node, walk: self, above, mode: Mode::Pass });
        if result.is_err() && self.refused.get() == before {
            node.attempt += 1;
            self.refused.set(before + 1);
        }
        result
    }

    fn go<R>(
        &self,
        mode: Mode,
        node: &mut Node,
        above: Option<&Level<'_>>,
        go: impl FnOnce(Probe<'_>) -> Result<R, End>,
    ) -> Result<R, End> {
        match mode {
            Mode::Pass => self.pass(node, above, go),
            Mode::Look => {
                self.look(node, above, go);
                Err(End::Here)
            }
        }
    }
}

impl Node {
    /// Learns which field is missing, if the run has asked for that. `refused`: another sample is due somewhere within.
    fn learn(&mut self, end: Option<End>, refused: bool) {
        match &mut self.kind {
            Kind::Tagged { tag, variants } => {
                if let Some(variant) = variants.iter_mut().find(|variant| !variant.node.done()) {
                    variant.node.learn(end.filter(|end| !matches!(end, End::Missing(name) if name == tag)), refused);
                }
            }
            Kind::Open { fields, search } if *search == Search::Asked => {
                *search = match end {
                    Some(End::Missing(name))
                        if fields.len() < MOST_FOUND && fields.iter().all(|field| field.name != name) =>
                    {
                        fields.extend(Kind::named(&[name]));
                        Search::On
                    }
                    Some(_) if refused => Search::On,
                    // The fields before it were there when it was missed, so it is the last one that is refused.
                    Some(_) if fields.last_mut().is_some_and(|field| field.node.next_of_anything()) => Search::On,
                    _ => Search::Over,
                };
            }
            _ => {}
        }
    }

    /// Chooses the next sample for a place that takes anything at first. False if there is none.
    fn next_of_anything(&mut self) -> bool {
        if !self.anything() {
            return false;
        }
        self.attempt = (self.attempt + 1) % ANYTHING.len();
        self.attempt > 0
    }
}

/// Something that was entered on the way to a place, to notice when a type contains itself.
struct Level<'a> {
    /// The type of the visitor: it has no part in the text, only in telling types apart.
    visitor: &'static str,
    asked: Asked,
    depth: usize,
    above: Option<&'a Level<'a>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Any,
    Option,
    List,
    Map,
    Tuple(usize),
    Struct(&'static [&'static str]),
    Enum(&'static [&'static str]),
    Newtype(&'static str),
}

impl<'a> Level<'a> {
    fn below<V>(above: Option<&'a Level<'a>>, asked: Asked) -> Self {
        Self { visitor: type_name::<V>(), asked, depth: above.map_or(0, |above| above.depth + 1), above }
    }

    /// How many levels up the same was entered before. A newtype is not a level, being the same place as what it holds.
    fn again(&self) -> Option<usize> {
        let (mut levels, mut next) = (0, self.above);
        while let Some(level) = next {
            levels += usize::from(!matches!(level.asked, Asked::Newtype(_)));
            if level.visitor == self.visitor && level.asked == self.asked {
                return Some(levels);
            }
            next = level.above;
        }
        None
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// The run is about this place.
    Look,
    /// The run has to go past this place, which is known.
    Pass,
}

/// A place, as a type sees it that is deserialised from there.
pub(super) struct Probe<'w> {
    node: &'w mut Node,
    walk: &'w Walk,
    above: Option<&'w Level<'w>>,
    mode: Mode,
}

impl Probe<'_> {
    fn leaf<R>(self, name: &'static str, samples: usize, offer: impl FnOnce(usize) -> R) -> R {
        if self.node.unknown() && self.mode == Mode::Look {
            self.node.kind = Kind::Leaf(name, samples);
        }
        offer(self.node.attempt)
    }

    /// Refuses to go deeper where a type contains itself, or far too much.
    fn bound(&mut self, level: &Level<'_>) -> Result<(), End> {
        let again = level.again();
        if again.is_none() && level.depth < DEEPEST {
            return Ok(());
        }
        if self.node.unknown() && self.mode == Mode::Look {
            self.node.kind = again.map_or(Kind::OutOfSight, Kind::Again);
        }
        Err(End::Here)
    }

    /// Makes an unknown place what it is found to be.
    fn enter(&mut self, level: &Level<'_>, fresh: impl FnOnce() -> Kind) -> Result<(), End> {
        self.bound(level)?;
        if self.node.unknown() && self.mode == Mode::Look {
            self.node.kind = fresh();
        }
        Ok(())
    }

    /// The type asked for something else here in an earlier run.
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
            // With another sample for an item before it, it may be reached yet.
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

    /// Whatever is there. Behind a `tag`, that of one variant.
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
        // Written as an empty array.
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
        // Whoever asks for an identifier has fields, announced or not: a struct with a flattened part does not announce them.
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

    /// As the encoding of the payload says.
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The items of a sequence or a tuple: up to the target, if there is one.
struct Items<'w> {
    items: &'w mut [Node],
    /// Where there are more than `items`, the last one stands for the rest.
    length: usize,
    target: Option<usize>,
    next: usize,
    walk: &'w Walk,
    level: &'w Level<'w>,
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
        let result = self.walk.go(mode, node, Some(self.level), |probe| seed.deserialize(probe));
        // After an error there is nothing, so that nobody who ignores it asks for ever.
        self.next = if result.is_err() { usize::MAX } else { place + 1 };
        result.map(Some)
    }
}

/// The field of an open map that says which variant it is.
#[derive(Clone, Copy)]
struct Tag {
    name: &'static str,
    variant: &'static str,
}

/// Fields by name: all of them to pass, or one to look at.
struct Fields<'w> {
    /// Comes first.
    tag: Option<Tag>,
    fields: &'w mut [Named],
    mode: Mode,
    next: usize,
    due: Due,
    walk: &'w Walk,
    level: &'w Level<'w>,
}

/// Whose value comes next.
enum Due {
    Tag(&'static str),
    Field(usize),
    Nothing,
}

impl<'w> Fields<'w> {
    fn all(tag: Option<Tag>, fields: &'w mut [Named], walk: &'w Walk, level: &'w Level<'w>) -> Self {
        Self { tag, fields, mode: Mode::Pass, next: 0, due: Due::Nothing, walk, level }
    }

    /// Goes to the first field that is not done. It comes first, so that no other can be in the way.
    fn look_at_next<'de, V: Visitor<'de>>(
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

    fn stop(&mut self) {
        self.tag = None;
        self.next = usize::MAX;
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
            self.next += 1;
            field.name
        } else {
            self.due = Due::Nothing;
            return Ok(None);
        };
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some).inspect_err(|_| self.stop())
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, End> {
        let result = match std::mem::replace(&mut self.due, Due::Nothing) {
            Due::Tag(variant) => seed.deserialize(BorrowedStrDeserializer::new(variant)),
            Due::Field(place) => match self.fields.get_mut(place) {
                Some(Named { node, .. }) => {
                    self.walk.go(self.mode, node, Some(self.level), |probe| seed.deserialize(probe))
                }
                None => Err(End::Here),
            },
            Due::Nothing => Err(End::Here),
        };
        // As with items.
        result.inspect_err(|_| self.stop())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Half {
    Key,
    Value,
}

/// The one pair of a map, or none.
struct Pair<'w> {
    key: &'w mut Node,
    value: &'w mut Node,
    target: Option<Half>,
    /// Whether it is still to come.
    left: bool,
    walk: &'w Walk,
    level: &'w Level<'w>,
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
struct Variant<'w> {
    name: &'static str,
    probe: Probe<'w>,
}

impl<'de, 'w> EnumAccess<'de> for Variant<'w> {
    type Error = End;
    type Variant = Probe<'w>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Probe<'w>), End> {
        Ok((seed.deserialize(BorrowedStrDeserializer::new(self.name))?, self.probe))
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
