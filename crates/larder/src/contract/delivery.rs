//! [`Delivery`]: how far an invalidation has come; [`Error`]: why it could not be done.

use crate::key::KeyError;
use std::sync::Arc;

/// How far an invalidation, delete or truncate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// No get on any node that starts from now on returns what was stored before.
    Applied,
    /// The change is in this node's journal. This node reads nothing from the connector until the change was applied.
    Deferred,
}

/// Why an invalidation, delete, truncate or prune was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// One of the keys cannot exist; the others were handled.
    #[error("cache `{cache}`, index `{index}`: {reason}")]
    Key {
        /// The cache.
        cache: Arc<str>,
        /// The index.
        index: &'static str,
        /// What is wrong with the key.
        reason: KeyError,
    },
    /// The connector cannot do it now. Only prune answers this; everything else is deferred.
    #[error("cache `{cache}`: {reason}")]
    Unavailable {
        /// The cache.
        cache: Arc<str>,
        /// What stands in the way.
        reason: String,
    },
}
