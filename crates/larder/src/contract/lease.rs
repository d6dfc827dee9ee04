//! [`Lease`]: whose turn it is to load.

#[cfg(doc)]
use super::LoadOptions;

/// Whether a load is this node's to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
pub struct LeaseToken(pub u128);
