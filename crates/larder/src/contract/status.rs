//! [`Status`]: how a connector is doing; [`Pruned`]: what a prune has removed.

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
    /// This number of objects, and this number of keys.
    #[must_use]
    pub const fn new(objects: u64, keys: u64) -> Self {
        Self { objects, keys }
    }
}

/// How a connector is doing. A connector of your own starts from [`Status::default`] and sets what differs.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// How many objects the connector holds, if it knows.
    pub objects: Option<u64>,
    /// What the objects weigh, in bytes, if the connector knows.
    pub bytes: Option<u64>,
    /// Invalidations that wait in the journal.
    pub journal: u64,
    /// Invalidations, deletes, truncates and sets that have no answer yet and are not in the journal.
    pub under_way: u64,
    /// Whether the cache may be read.
    pub readable: bool,
    /// The state of the breaker, if there is one.
    pub breaker: Option<crate::breaker::State>,
    /// For how long the memory in front of the server may still be read, in ms, if this node does not hear from the server again. `None`: there is no such
    /// memory. Where there is one, `objects` and `bytes` are those in it.
    pub valid_for_ms: Option<u64>,
}
