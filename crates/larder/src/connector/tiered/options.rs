//! [`TieredOptions`]: how much a node keeps in its own memory, and what a change waits for.

use crate::connector::memory::MemoryOptions;
use crate::contract::{Consistency, OptionError, VALIDITY};
use crate::option_error::{Refuse, setters};
use std::time::Duration;

/// How much a node keeps in its own memory of each cache, and what a change of the cache waits for.
///
/// ```
/// use larder::connector::tiered::{Consistency, TieredOptions};
/// use std::time::Duration;
///
/// let options = TieredOptions::new().max_objects(10_000).consistency(Consistency::Bounded).validity(Duration::from_millis(500));
/// assert!(options.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TieredOptions {
    /// How many objects of each cache the memory holds at most; 1 or more. Default 10,000.
    pub max_objects: u64,
    /// What they may weigh together, in bytes; zero: no limit. Default 0.
    pub max_bytes: u64,
    /// What a change waits for. All nodes should say the same: what counts is what the node says that has cleared the cache last. Default
    /// [`Consistency::Strict`].
    pub consistency: Consistency,
    /// How long the memory may be read after the node has last heard from the server: from 25 ms to 10 s, in steps of 25 ms. A node that dies, or is cut off,
    /// makes one change wait for so long. The node asks three times as often. All nodes should say the same, as with `consistency`. Default 1 s.
    pub validity: Duration,
}

impl Default for TieredOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl TieredOptions {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_objects: 10_000, max_bytes: 0, consistency: Consistency::Strict, validity: Duration::from_secs(1) }
    }

    setters! {
        max_objects: u64,
        max_bytes: u64,
        consistency: Consistency,
        validity: Duration,
    }

    /// Checks that every option can be used.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| self.examine(refuse))
    }

    /// Reports every option that cannot be used.
    pub(crate) fn examine(&self, refuse: Refuse<'_>) {
        if let Err(error) = self.memory().validate() {
            refuse(error);
        }
        if self.validity < Duration::from_millis(25) || self.validity > Duration::from_secs(10) {
            refuse(OptionError::duration("validity", self.validity, VALIDITY));
        }
    }

    pub(crate) fn memory(&self) -> MemoryOptions {
        MemoryOptions::new().max_objects(self.max_objects).max_bytes(self.max_bytes)
    }
}
