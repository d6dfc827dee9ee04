//! [`Place`]: up to where a feed was applied to what a connector keeps.

/// Up to where the changes of a feed were applied to what a server keeps for a cache, as it stands beside the cache on that server.
///
/// The [feed](crate::feed) writes and reads the bytes. A connector only keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// What was set last. `None`: nothing, or it was lost.
    pub bytes: Option<Vec<u8>>,
    /// The [connection](super::Connector::connection) on which it was read.
    pub connection: u64,
}

impl Place {
    /// These bytes, read on this connection.
    #[must_use]
    pub const fn new(bytes: Option<Vec<u8>>, connection: u64) -> Self {
        Self { bytes, connection }
    }
}
