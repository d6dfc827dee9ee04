//! The age limits of a cache.

use crate::contract::Schema;
use std::time::Duration;

/// Each limit in ms; [`NEVER`] where there is no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    max: u64,
    pub(super) last_use: u64,
    /// How long an object is kept after its max age is over.
    pub(super) kept: u64,
}

const NEVER: u64 = u64::MAX;

/// An age in ms, rounded up: an age of less than a millisecond becomes one millisecond. Zero means that there is no limit.
fn limit(age: Duration) -> u64 {
    match age.as_nanos().div_ceil(1_000_000) {
        0 => NEVER,
        some => u64::try_from(some).unwrap_or(NEVER),
    }
}

impl Ages {
    pub(super) fn of(schema: &Schema) -> Self {
        Self {
            max: limit(schema.max_age()),
            last_use: limit(schema.last_use_age()),
            kept: u64::try_from(schema.kept_after().as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER),
        }
    }

    /// The lifetime of one object in ms: the max age, shortened at random where the schema says so.
    pub(super) fn lifetime(self, schema: &Schema) -> u64 {
        if self.max == NEVER || schema.load_options().jitter <= 0.0 { self.max } else { limit(schema.lifetime()) }
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
