//! [`Status`]: how a connector is doing; [`Pruned`]: what it has cleaned up.

/// What a prune has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Objects that had expired.
    pub objects: u64,
    /// Keys that led nowhere.
    pub keys: u64,
}

impl Pruned {
    /// So many objects, and so many keys.
    #[must_use]
    pub const fn new(objects: u64, keys: u64) -> Self {
        Self { objects, keys }
    }
}

/// How a connector is doing. A connector of your own changes what differs from [`Status::default`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// Objects held, where the connector knows.
    pub objects: Option<u64>,
    /// What they weigh, in bytes, where the connector knows.
    pub bytes: Option<u64>,
    /// Invalidations that wait in the journal.
    pub journal: u64,
    /// Invalidations, deletes, truncates and sets that are neither answered nor in the journal yet.
    pub under_way: u64,
    /// Whether what is stored may be read.
    pub readable: bool,
    /// The breaker, where there is one.
    pub breaker: Option<crate::breaker::State>,
}
