//! [`MemoryOptions`]: how much the memory connector may hold.

use crate::contract::OptionError;
use crate::option_error::setters;
use std::time::Duration;

/// How much the memory connector may hold. It holds for each cache by itself.
///
/// ```
/// use larder::connector::memory::MemoryOptions;
///
/// let small = MemoryOptions::new().max_objects(1000).max_bytes(64 << 20);
/// assert!(small.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// Objects held at most; 1 or more. Default 100,000.
    pub max_objects: u64,
    /// What they may weigh together, in bytes, by [`Entry::weight`](crate::Entry::weight) plus their keys and what it takes to find them;
    /// zero: no limit. Notes of what the source does not have ([`LoadOptions::negative_age`](crate::LoadOptions::negative_age)) count
    /// too: there are at most as many of them as of objects, and they take at most a tenth of these bytes. Default 0.
    pub max_bytes: u64,
    /// How often [`Caches`](crate::Caches) removes what has expired; zero: it goes only to make room. Default 1 min.
    pub prune_interval: Duration,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What errors say to give, wherever the option was given.
pub(crate) const MAX_OBJECTS: &str = "a number, 1 or more";

impl MemoryOptions {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_objects: 100_000, max_bytes: 0, prune_interval: Duration::from_secs(60) }
    }

    setters! {
        max_objects: u64,
        max_bytes: u64,
        prune_interval: Duration,
    }

    /// Checks that every option can be used. [`Memory::open`](super::Memory::open) refuses what is not.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted.
    pub fn validate(&self) -> Result<(), OptionError> {
        match self.max_objects {
            0 => Err(OptionError::new("max_objects", self.max_objects, MAX_OBJECTS)),
            _ => Ok(()),
        }
    }
}
