//! Why an update gave nothing.

use crate::failure::Failure;
use std::error::Error;
use std::fmt;

/// Why an [`update`](crate::Cache::update) gave nothing.
///
/// Its `source` is the error of the write, and `{error:#}` tells all causes, as for [`LoadError`](crate::LoadError).
#[derive(Debug)]
#[non_exhaustive]
pub enum UpdateError<Err> {
    /// The write failed.
    Failed(Failure<Err>),
    /// The write panicked, or the runtime was shut down while the write ran. The write may have reached the source.
    Aborted,
    /// There is no Tokio runtime to run the write in. The write has not begun.
    NoRuntime,
}

impl<Err: fmt::Display> fmt::Display for UpdateError<Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.tell("the write failed", f),
            Self::Aborted => f.write_str("the write panicked, or the runtime was shut down while it ran"),
            Self::NoRuntime => f.write_str("update was called outside a Tokio runtime; writes run in tasks"),
        }
    }
}

impl<Err: fmt::Debug + fmt::Display> Error for UpdateError<Err> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(failure) => failure.as_error(),
            Self::Aborted | Self::NoRuntime => None,
        }
    }
}
