//! [`Lease`]: whose turn it is to load.

#[cfg(doc)]
use super::LoadOptions;

/// Whether a load is this node's to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lease {
    /// It is, until the lease is given back or ends.
    Granted(LeaseToken),
    /// Another load of the key is under way.
    Taken,
    /// There is nobody to ask, or the connector is no other node's: whoever wants to load may.
    Free,
}

/// Distinguishes a lease from all others, before and after it, of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseToken(pub(crate) u128);

impl LeaseToken {
    /// The token of a lease that a connector grants: a number that no other lease of the key ever has, such as one drawn at random. Whoever
    /// holds the lease gives it back with it.
    #[must_use]
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u128 {
        self.0
    }
}
