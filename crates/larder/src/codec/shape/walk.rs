//! A deserializer that has no data: it notes what a type asks for.
//!
//! Each run is about one place that is not [done](Node::done): at each level the way leads to the first such place. What comes
//! before it has to be gone through where the order is given, as in a tuple: a place that is known already is offered a sample
//! then, another one when the type refused it in an earlier run.

mod parts;
mod probe;

use super::node::{ANYTHING, Kind, Node, Search};
use probe::Probe;
use serde::de::{self, DeserializeOwned};
use std::any::type_name;
use std::cell::Cell;
use std::fmt::{self, Display};

/// Levels of things within things.
const DEEPEST: usize = 32;

/// Fields that are looked for in an open map.
const MOST_FOUND: usize = 256;

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
