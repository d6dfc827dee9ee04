//! The age limits of a cache.

use crate::connector::Schema;

/// In ms; [`NEVER`] where there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    pub(super) max: u64,
    pub(super) last_use: u64,
}

const NEVER: u64 = u64::MAX;

impl Ages {
    pub(super) fn of(schema: &Schema) -> Self {
        // An age under a millisecond is one, not none.
        let limit = |age: std::time::Duration| match age.as_nanos().div_ceil(1_000_000) {
            0 => NEVER,
            some => u64::try_from(some).unwrap_or(NEVER),
        };
        Self { max: limit(schema.max_age), last_use: limit(schema.last_use_age) }
    }

    #[inline]
    pub(super) fn none(self) -> bool {
        self.max == NEVER && self.last_use == NEVER
    }

    /// Whether it matters when an object was last used.
    #[inline]
    pub(super) fn counts_uses(self) -> bool {
        self.last_use != NEVER
    }
}
