//! [`Look`]: what a lookup found.

#[cfg(doc)]
use super::LoadOptions;
use super::{Miss, Ticket};
use crate::codec::Value;

/// What a lookup found.
#[derive(Debug)]
pub enum Look {
    /// The object.
    Hit {
        /// The object itself.
        value: Value,
        /// Whether its max age is over within [`LoadOptions::refresh_ahead`]: it is time to load it anew.
        due: bool,
    },
    /// Nothing that a get would return.
    Miss {
        /// Why.
        cause: Miss,
        /// For the load that follows. `None`: nothing can be filled now, or nothing needs to be loaded.
        ticket: Option<Ticket>,
        /// An object whose max age is over, for no longer than [`LoadOptions::serve_expired`]; never one that was invalidated.
        expired: Option<Value>,
    },
}

impl Look {
    /// A hit, fresh for long.
    #[must_use]
    pub fn hit(value: Value) -> Self {
        Self::Hit { value, due: false }
    }

    /// What a get has found, and on a miss a ticket that was taken after it, for a connector that keeps no ages of its own.
    #[must_use]
    pub fn of(found: Result<Value, Miss>, ticket: Option<Ticket>) -> Self {
        found.map_or_else(|cause| Self::miss(cause, ticket), Self::hit)
    }

    /// A miss without anything that could be served.
    #[must_use]
    pub fn miss(cause: Miss, ticket: Option<Ticket>) -> Self {
        Self::Miss { cause, ticket, expired: None }
    }
}
