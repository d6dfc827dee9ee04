//! [`Stored`] and [`Fill`]: what became of an object that was to be stored.

use super::Ticket;

/// What became of a fill, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fill {
    /// What became of it.
    pub stored: Stored,
    /// What a ticket would have been at the moment that was decided: of all that had touched the object's keys by then, nothing had
    /// overtaken the fill where it was stored. `None` where the connector cannot tell.
    pub at: Option<Ticket>,
}

impl Fill {
    /// A fill that was decided at this moment, as the connector's clock tells.
    #[must_use]
    pub fn at(stored: Stored, at: Ticket) -> Self {
        Self { stored, at: Some(at) }
    }

    /// A fill of which it is not known when it was decided, as where it was not sent at all.
    #[must_use]
    pub fn undated(stored: Stored) -> Self {
        Self { stored, at: None }
    }

    /// When it was stored, if it was.
    #[must_use]
    pub fn accepted(self) -> Option<Ticket> {
        self.at.filter(|_| self.stored == Stored::Accepted)
    }
}

/// What became of a fill or a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stored {
    /// The object is stored and can be looked up now.
    Accepted,
    /// An invalidation or put of one of its keys has overtaken the ticket. (A put has invalidated its keys.)
    Overtaken,
    /// A higher version is stored, or demanded by an invalidation.
    Outdated,
    /// The object, or one of its keys, can not be cached: too large, no or several primary keys, an empty key, or its bytes would not
    /// be read back as the same object (see "What can be stored" at [`Entry`](crate::Entry)). (A put has invalidated its keys.)
    Unfit,
    /// The server is full. (A put has invalidated its keys.)
    Full,
    /// The connector could not be reached. (For a put, an invalidation of its keys is in the journal.)
    Unavailable,
    /// The cache is switched off.
    Off,
}

impl Stored {
    /// Every outcome, in the order of their counters.
    pub const ALL: &'static [Self] =
        &[Self::Accepted, Self::Overtaken, Self::Outdated, Self::Unfit, Self::Full, Self::Unavailable, Self::Off];

    /// The outcome as it stands in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "stored",
            Self::Overtaken => "overtaken",
            Self::Outdated => "outdated",
            Self::Unfit => "unfit",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Off => "off",
        }
    }
}
