//! [`Stored`] and [`Fill`]: what became of an object that was to be stored.

use super::Ticket;

/// What became of a fill, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fill {
    /// What became of it.
    pub stored: Stored,
    /// The ticket of the moment when the fill was decided. A fill that was stored had not been overtaken by anything that had touched the
    /// object's keys up to that moment. `None`: the connector cannot tell.
    pub at: Option<Ticket>,
}

impl Fill {
    /// A fill that was decided at this moment, by the connector's clock.
    #[must_use]
    pub fn at(stored: Stored, at: Ticket) -> Self {
        Self { stored, at: Some(at) }
    }

    /// A fill for which the moment of the decision is not known, for example because the fill was not sent.
    #[must_use]
    pub fn undated(stored: Stored) -> Self {
        Self { stored, at: None }
    }

    /// When the object was stored. `None`: it was not, or the moment is not known.
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
    /// An invalidation or put of one of the object's keys has overtaken the ticket. (A put has invalidated the object's keys.)
    Overtaken,
    /// A higher version is stored, or an invalidation demands a higher one.
    Outdated,
    /// The object, or one of its keys, cannot be cached: the object is too large, has no primary key or several, has an empty key, or would
    /// not be read back from its bytes as the same object (see "What can be stored" at [`Entry`](crate::Entry)). (A put has invalidated the
    /// object's keys.)
    Unfit,
    /// The server is full. (A put has invalidated the object's keys.)
    Full,
    /// The connector could not be reached. (For a put, an invalidation of the object's keys is in the journal.)
    Unavailable,
    /// The cache is switched off.
    Off,
}

impl Stored {
    /// Every outcome, in the order of their counters.
    pub const ALL: &'static [Self] =
        &[Self::Accepted, Self::Overtaken, Self::Outdated, Self::Unfit, Self::Full, Self::Unavailable, Self::Off];

    /// The name of the outcome in metrics.
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
