//! Why a load gave nothing.

use crate::failure::Failure;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a load gave nothing.
///
/// It is an [`Error`] whatever error the loader fails with (see [`AsError`](crate::AsError)), so `?` turns it into an `anyhow::Error` or a
/// `Box<dyn Error>`. Its `source` is the loader's own error. `{error}` says that the loader has failed; `{error:#}` adds why, with all
/// causes.
///
/// ```
/// # use larder::{Cache, Entry, LoadError, Schema, connector::memory::{Memory, MemoryOptions}};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Serialize, Deserialize, Entry)]
/// # #[entry(cache = "instance")]
/// # struct Instance { #[key(primary)] id: u32 }
/// # async fn connect() -> std::io::Result<()> { Err(std::io::ErrorKind::ConnectionRefused.into()) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let schema = Schema::of::<Instance>();
/// # let instances: Cache<Instance> =
/// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap();
/// use anyhow::Context;
///
/// let load = |id: u32| async move {
///     connect().await.context("the database is away")?;
///     anyhow::Ok(Some(Instance { id }))
/// };
/// let error = instances.get_or_load(Instance::ID, 42, load).await.err().unwrap();
/// assert_eq!(format!("{error:#}"), "the loader failed: the database is away: connection refused");
/// if let LoadError::Failed(error) = &error {
///     assert!(error.downcast_ref::<std::io::Error>().is_some(), "the error as the loader has returned it");
/// }
///
/// let error = anyhow::Error::from(error);
/// assert!(error.chain().any(|cause| cause.is::<std::io::Error>()));
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError<Err> {
    /// The loader failed; all callers who waited for it share the error.
    Failed(Failure<Err>),
    /// The loader panicked, or the runtime was shut down while it ran.
    Aborted,
    /// `get_or_load` was called outside a Tokio runtime.
    NoRuntime,
    /// The caller has waited for as long as [`LoadOptions::hard_timeout`](crate::LoadOptions::hard_timeout) allows. The load goes on, and
    /// fills the cache.
    TimedOut(Duration),
    /// The caller is a loader whose own load the requested load waits for, directly or through others. Neither would ever end.
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
            Self::Failed(failure) => failure.tell("the loader failed", f),
            Self::Aborted => f.write_str("the loader panicked, or the runtime was shut down while it ran"),
            Self::NoRuntime => f.write_str("get_or_load was called outside a Tokio runtime; loads run in tasks"),
            Self::TimedOut(limit) => write!(f, "not loaded within {limit:?}; the load goes on in the background"),
            Self::Circular => f.write_str("the loader waits for a load that waits for the loader's own load"),
        }
    }
}

impl<Err: fmt::Debug + fmt::Display> Error for LoadError<Err> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(failure) => failure.as_error(),
            Self::Aborted | Self::NoRuntime | Self::TimedOut(_) | Self::Circular => None,
        }
    }
}
