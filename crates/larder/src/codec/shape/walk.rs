//! A deserializer without data: it notes what a type asks for.
//!
//! Each run is about one place that is not [done](Node::done): at each level, the run goes to the first such place. Where the order is
//! fixed, as in a tuple, the run must first pass the places before it. To pass a place, the run offers the type a sample for it. If
//! the type refused that sample in an earlier run, the run offers the next sample.

mod parts;
mod probe;

use super::node::{ANYTHING, Kind, Node, Search};
use probe::Probe;
use serde::de::{self, DeserializeOwned};
use std::any::type_name;
use std::cell::Cell;
use std::fmt::{self, Display};

/// How deep places may be nested.
const MAX_DEPTH: usize = 32;

/// The most fields that are looked for in an open map.
const MAX_FIELDS: usize = 256;

/// Why a run ended.
#[derive(Debug)]
pub(super) enum End {
    /// The run has seen the place that it was about, or the type refused a sample.
    Here,
    /// The type misses a field with this name.
    Missing(&'static str),
    /// The type takes only these names.
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
    /// How often the type refused a sample, so that the next sample was chosen.
    refused: Cell<usize>,
}

impl Walk {
    /// One run through the whole of `T`.
    pub(super) fn run<T: DeserializeOwned>(&self, root: &mut Node) {
        self.look(root, None, |probe| T::deserialize(probe));
    }

    /// Goes to the place that the run is about, and learns from how the run ends.
    fn look<R>(&self, node: &mut Node, above: Option<&Level<'_>>, go: impl FnOnce(Probe<'_>) -> Result<R, End>) {
        let before = self.refused.get();
        let end = go(Probe { node, walk: self, above, mode: Mode::Look }).err();
        node.learn(end, self.refused.get() != before);
        node.out_of_sight();
    }

    /// Passes a place that is known. If the type refuses the sample, the next run offers the next sample; but not if a place within
    /// this place has already chosen its next sample.
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
    /// Learns from the end of a run which field is missing, if the run was to find that out. `refused`: a sample was refused somewhere
    /// within this place, so that the next run will offer another one.
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
                        if fields.len() < MAX_FIELDS && fields.iter().all(|field| field.name != name) =>
                    {
                        fields.extend(Kind::named(&[name]));
                        Search::On
                    }
                    Some(_) if refused => Search::On,
                    // The type took all fields before the last one in the run that missed the last one. So it is the last field whose
                    // sample is refused.
                    Some(_) if fields.last_mut().is_some_and(|field| field.node.next_of_anything()) => Search::On,
                    _ => Search::Over,
                };
            }
            _ => {}
        }
    }

    /// Chooses the next sample for a place where the type asks for any value. False if there is no further sample.
    fn next_of_anything(&mut self) -> bool {
        if !self.anything() {
            return false;
        }
        self.attempt = (self.attempt + 1) % ANYTHING.len();
        self.attempt > 0
    }
}

/// A type that was entered on the way to a place. With the levels above, the walk notices when a type contains itself.
struct Level<'a> {
    /// The name of the visitor's type, only to tell types apart. It does not appear in the text of the shape.
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

    /// How many levels up the same type was entered before. A newtype does not count as a level: it is the same place as the value in it.
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
    /// The run must pass this place, which is known.
    Pass,
}
