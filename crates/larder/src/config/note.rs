//! [`Note`]: a setting that was accepted and has no effect here, or another one.

use super::tree::{self, Origin};
use std::fmt;

/// A setting that was accepted and has no effect in larder, or not the effect that it has in the program it comes from; and what larder does
/// instead.
///
/// A note is no error: a configuration that was written for another program loads unchanged, and its notes say what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    path: String,
    text: String,
}

impl Note {
    pub(super) fn new(origin: &Origin, text: impl Into<String>) -> Self {
        Self { path: tree::shown_path(&origin.path), text: text.into() }
    }

    /// A note about several places at once.
    #[cfg(feature = "zitadel")]
    pub(super) fn about(places: String, text: impl Into<String>) -> Self {
        Self { path: places, text: text.into() }
    }

    /// The setting, as it is written in the file.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What larder does instead.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}
