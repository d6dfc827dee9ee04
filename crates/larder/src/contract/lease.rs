//! [`Lease`]: which node may load.

#[cfg(doc)]
use super::LoadOptions;

/// Whether this node may begin a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lease {
    /// It may, until the lease is given back or ends.
    Granted(LeaseToken),
    /// Another load of the key is under way.
    Taken,
    /// There is no lease: the connector cannot be asked, or belongs to this node alone. Every node may load.
    Free,
}

/// Distinguishes a lease of a key from all leases of the key before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseToken(pub(crate) u128);

impl LeaseToken {
    /// The token of a lease that a connector grants: a number that no other lease of the key ever has, for example a random one. The holder
    /// gives the lease back with it.
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
