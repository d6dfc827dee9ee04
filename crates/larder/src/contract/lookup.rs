//! [`Lookup`]: what a lookup found; [`Lookups`]: what a lookup of several keys found.

#[cfg(doc)]
use super::LoadOptions;
use super::{Miss, Ticket};
use crate::codec::Value;

/// What a lookup found, for a caller that loads what is missing.
///
/// A connector answers with a [`Value`], and [`Cache::lookup`](crate::Cache::lookup) with an `Arc` of the entry.
#[derive(Clone, Debug)]
pub enum Lookup<V = Value> {
    /// The object.
    Hit {
        /// The object itself.
        value: V,
        /// Whether the object's max age ends within [`LoadOptions::refresh_ahead`], so that it is time to load it again.
        due: bool,
    },
    /// Nothing that a get would return.
    Miss {
        /// Why it is a miss.
        cause: Miss,
        /// The ticket for the load that follows: read the object from its source now, then fill it with this ticket. `None`: nothing can be
        /// filled, because the connector could not be reached, or nothing has to be loaded ([`Miss::KnownAbsent`]).
        ticket: Option<Ticket>,
        /// An object whose max age has been over for no longer than [`LoadOptions::serve_expired`]. An object that was invalidated is never
        /// here.
        expired: Option<V>,
    },
}

impl<V> Lookup<V> {
    /// A hit that does not have to be loaded again soon.
    #[must_use]
    pub fn hit(value: V) -> Self {
        Self::Hit { value, due: false }
    }

    /// The lookup for the result of a get. A miss gets `ticket`, which was taken after the get. For a connector that keeps no ages of its
    /// own.
    #[must_use]
    pub fn of(got: Result<V, Miss>, ticket: Option<Ticket>) -> Self {
        got.map_or_else(|cause| Self::miss(cause, ticket), Self::hit)
    }

    /// A miss without an expired object.
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

    /// The lookup as the counters see it.
    pub(crate) fn outcome(&self) -> Result<(), Miss> {
        match self {
            Self::Hit { .. } => Ok(()),
            Self::Miss { cause, .. } => Err(*cause),
        }
    }
}

/// What a lookup of several keys found, for a caller that loads what is missing.
#[derive(Clone, Debug)]
pub struct Lookups<V = Value> {
    /// For each key its object, or why there is none.
    pub found: Vec<Result<V, Miss>>,
    /// The ticket for all loads that follow. `None`: nothing can be filled now, or nothing has to be loaded.
    pub ticket: Option<Ticket>,
}

impl<V> Default for Lookups<V> {
    fn default() -> Self {
        Self { found: Vec::new(), ticket: None }
    }
}

/// All loads get the first ticket. They begin after all of the lookups, and so after that ticket was taken.
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
