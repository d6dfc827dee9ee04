//! The smallest entry there is, for tests within the crate, where the derive cannot be used.

use super::{Entry, Index, Keys};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(crate) struct Color;

impl Color {
    pub(crate) const NAME: Index<Self, String> = Index::at::<0>();
}

impl Entry for Color {
    const CACHE: &'static str = "color";
    const INDEXES: &'static [&'static str] = &["name"];

    fn keys(&self, keys: &mut Keys<Self>) {
        keys.add(Self::NAME, "red");
    }
}
