//! [`Miss`]: why nothing was found.

/// Why a get found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Miss {
    /// Nothing is stored under this key.
    Absent,
    /// The stored object has outlived one of its ages.
    Expired,
    /// A load has found nothing in the source under this key, a short while ago.
    KnownAbsent,
    /// The server is not reachable, or the breaker is open.
    Unavailable,
    /// Too many operations were under way, so this one was not sent.
    Shed,
    /// The server did not answer within the operation time-out.
    TimedOut,
    /// The cache may not be read until the journal has been replayed and the server's history has been checked.
    Distrusted,
    /// The stored bytes are damaged, or are not an object; they were removed.
    Undecodable,
    /// The server answered with an error that says nothing about its health.
    Fault,
    /// The key cannot be looked up: it is empty, or too long.
    InvalidKey,
    /// The cache is switched off.
    Off,
    /// An auditor has found that the cache serves stale objects, and the cache is bypassed for a while.
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

    /// The name of the cause in metrics.
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

    /// Whether this miss is worth a ticket: the object was looked for, and is not there.
    #[cfg(any(feature = "redis", feature = "postgres"))]
    pub(crate) fn is_loadable(self) -> bool {
        matches!(self, Self::Absent | Self::Expired | Self::Undecodable)
    }
}
