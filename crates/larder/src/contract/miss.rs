//! [`Miss`]: why nothing was found.

/// Why a get found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Miss {
    /// Nothing is stored under this key.
    Absent,
    /// What is stored has outlived one of its ages.
    Expired,
    /// Its source was found to have nothing under this key, a short while ago.
    KnownAbsent,
    /// The server is not reachable, or the breaker is open.
    Unavailable,
    /// Too many operations were in flight; this one was not sent.
    Shed,
    /// The server did not answer within the operation time-out.
    TimedOut,
    /// What is stored may not be read until the journal has been replayed and the server's history checked.
    Distrusted,
    /// The stored bytes are damaged, or not an object; they were removed.
    Undecodable,
    /// The server answered with an error that is no sign of its health.
    Fault,
    /// The key can not be looked up: empty, or too long.
    InvalidKey,
    /// The cache is switched off.
    Off,
    /// An auditor has found the cache to serve what is stale, and it is not read for a while.
    Bypassed,
}

impl Miss {
    /// Every cause, in the order of their counters.
    pub const ALL: &'static [Self] = &[
        Self::Absent,
        Self::Expired,
        Self::KnownAbsent,
        Self::Unavailable,
        Self::Shed,
        Self::TimedOut,
        Self::Distrusted,
        Self::Undecodable,
        Self::Fault,
        Self::InvalidKey,
        Self::Off,
        Self::Bypassed,
    ];

    /// The cause as it stands in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Expired => "expired",
            Self::KnownAbsent => "known_absent",
            Self::Unavailable => "unavailable",
            Self::Shed => "shed",
            Self::TimedOut => "timed_out",
            Self::Distrusted => "distrusted",
            Self::Undecodable => "undecodable",
            Self::Fault => "fault",
            Self::InvalidKey => "invalid_key",
            Self::Off => "off",
            Self::Bypassed => "bypassed",
        }
    }

    /// Whether what was missed is worth a ticket: it was looked for, and is not there.
    #[cfg(feature = "redis")]
    pub(crate) fn is_loadable(self) -> bool {
        matches!(self, Self::Absent | Self::Expired | Self::Undecodable)
    }
}
