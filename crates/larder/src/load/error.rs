//! Why a load gave nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a load gave nothing.
#[derive(Debug)]
pub enum LoadError<Err> {
    /// The loader failed; all callers who waited for it share the error.
    Failed(Arc<Err>),
    /// The loader panicked, or the runtime was shut down while it ran.
    Aborted,
    /// `get_or_load` was called outside a Tokio runtime.
    NoRuntime,
    /// The caller has waited for as long as [`LoadOptions::hard_timeout`](crate::LoadOptions::hard_timeout) says; the load goes on, and fills the cache.
    TimedOut(Duration),
    /// It was called by a loader that this load, or one that it waits for, is waiting for: neither would ever end.
    Circular,
}

impl<Err> Clone for LoadError<Err> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Aborted => Self::Aborted,
            Self::NoRuntime => Self::NoRuntime,
            Self::TimedOut(limit) => Self::TimedOut(*limit),
            Self::Circular => Self::Circular,
        }
    }
}

impl<Err: fmt::Display> fmt::Display for LoadError<Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Aborted => f.write_str("the loader panicked, or the runtime was shut down while it ran"),
            Self::NoRuntime => f.write_str("get_or_load was called outside a Tokio runtime; loads run in tasks"),
            Self::TimedOut(limit) => write!(f, "not loaded within {limit:?}; the load goes on in the background"),
            Self::Circular => f.write_str("the loader waits for a load that waits for itself"),
        }
    }
}

impl<Err: std::error::Error + 'static> std::error::Error for LoadError<Err> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its Display is this one's already, so its source is the next.
            Self::Failed(error) => error.source(),
            Self::Aborted | Self::NoRuntime | Self::TimedOut(_) | Self::Circular => None,
        }
    }
}
