//! [`Lookup`]: what a lookup found; [`Lookups`]: what a lookup of several keys found.

#[cfg(doc)]
use super::LoadOptions;
use super::{Miss, Ticket};
use crate::codec::Value;

/// What a lookup found, for a caller who loads what is missing.
///
/// A connector answers with a [`Value`], and [`Cache::lookup`](crate::Cache::lookup) with an `Arc` of the entry.
#[derive(Clone, Debug)]
pub enum Lookup<V = Value> {
    /// The object.
    Hit {
        /// The object itself.
        value: V,
        /// Whether its max age is over within [`LoadOptions::refresh_ahead`]: it is time to load it again.
        due: bool,
    },
    /// Nothing that a get would return.
    Miss {
        /// Why.
        cause: Miss,
        /// For the load that follows: read the object from its source now, then fill it with this ticket. `None`: nothing can be filled
        /// now, as the connector could not be reached, or nothing has to be loaded ([`Miss::KnownAbsent`]).
        ticket: Option<Ticket>,
        /// An object whose max age is over, for no longer than [`LoadOptions::serve_expired`]; never one that was invalidated.
        expired: Option<V>,
    },
}

impl<V> Lookup<V> {
    /// A hit that need not be loaded again soon.
    #[must_use]
    pub fn hit(value: V) -> Self {
        Self::Hit { value, due: false }
    }

    /// What a get found, and on a miss a ticket that was taken after it, for a connector that keeps no ages of its own.
    #[must_use]
    pub fn of(got: Result<V, Miss>, ticket: Option<Ticket>) -> Self {
        got.map_or_else(|cause| Self::miss(cause, ticket), Self::hit)
    }

    /// A miss without anything that could be served.
    #[must_use]
    pub fn miss(cause: Miss, ticket: Option<Ticket>) -> Self {
        Self::Miss { cause, ticket, expired: None }
    }

    /// The object, or why there is none.
    ///
    /// # Errors
    ///
    /// The cause of the miss.
    pub fn value(self) -> Result<V, Miss> {
        match self {
            Self::Hit { value, .. } => Ok(value),
            Self::Miss { cause, .. } => Err(cause),
        }
    }

    /// As it is counted.
    pub(crate) fn outcome(&self) -> Result<(), Miss> {
        match self {
            Self::Hit { .. } => Ok(()),
            Self::Miss { cause, .. } => Err(*cause),
        }
    }
}

/// What a lookup of several keys found, for a caller who loads what is missing.
#[derive(Clone, Debug)]
pub struct Lookups<V = Value> {
    /// For each key its object, or why there is none.
    pub found: Vec<Result<V, Miss>>,
    /// For all loads that follow. `None`: nothing can be filled now, or nothing has to be loaded.
    pub ticket: Option<Ticket>,
}

impl<V> Default for Lookups<V> {
    fn default() -> Self {
        Self { found: Vec::new(), ticket: None }
    }
}

/// The first ticket is that of all: a load that begins after all of them begins after it.
impl<V> FromIterator<Lookup<V>> for Lookups<V> {
    fn from_iter<I: IntoIterator<Item = Lookup<V>>>(lookups: I) -> Self {
        let mut all = Self::default();
        for lookup in lookups {
            all.found.push(match lookup {
                Lookup::Hit { value, .. } => Ok(value),
                Lookup::Miss { cause, ticket, .. } => {
                    all.ticket = all.ticket.or(ticket);
                    Err(cause)
                }
            });
        }
        all
    }
}
