//! The smallest entry there is, for tests within the crate, where the derive cannot be used.

use super::{Entry, Index, Keys};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(crate) struct Color;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ColorIndex;

impl Index for ColorIndex {
    const NAMES: &'static [&'static str] = &["name"];

    fn position(self) -> usize {
        0
    }

    fn from_name(name: &str) -> Option<Self> {
        (name == "name").then_some(Self)
    }
}

impl Entry for Color {
    type Index = ColorIndex;

    const CACHE: &'static str = "color";

    fn keys(&self, keys: &mut Keys<ColorIndex>) {
        keys.add(ColorIndex, "red");
    }
}
