//! The error of a user's loader or write. larder keeps it as the user's own type, and can also see it as an [`Error`].
//!
//! `Box<dyn Error + Send + Sync>` and `anyhow::Error` hold an error, but do not implement [`Error`] themselves. So no single bound covers
//! them and all other errors. Hence [`AsError`] has one implementation for each [way](ways) to come to an `Error`, and the compiler finds
//! the one that fits.

use std::error::Error;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// What a loader, or the write of an [`update`](crate::Cache::update), may fail with.
///
/// | error | seen as |
/// |---|---|
/// | any type that implements [`Error`], and is `Send + Sync + 'static` | itself |
/// | `Box<dyn Error + Send + Sync>`, `anyhow::Error`, `eyre::Report` | the error that it holds |
/// | `String`, `&'static str`, `()` | no error, only its text |
///
/// The compiler finds `Way` by itself. A function around a loader passes `Way` on, as below. Or the function bounds the error by
/// `Error + Send + Sync + 'static`, which is enough.
///
/// ```
/// # use larder::{AsError, Cache, Entry, LoadError};
/// # use serde::{Deserialize, Serialize};
/// # use std::sync::Arc;
/// # #[derive(Clone, Serialize, Deserialize, Entry)]
/// # #[entry(cache = "instance")]
/// # struct Instance { #[key(primary)] id: String }
/// async fn load<F, L, Err, Way>(cache: &Cache<Instance>, id: &str, read: F) -> Result<Option<Arc<Instance>>, LoadError<Err>>
/// where
///     F: FnOnce(String) -> L + Send + 'static,
///     L: Future<Output = Result<Option<Instance>, Err>> + Send + 'static,
///     Err: AsError<Way>,
/// {
///     cache.get_or_load(Instance::ID, id, read).await
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a loader",
    note = "implement `std::error::Error` for it (`#[derive(Debug, thiserror::Error)]`), or return a `Box<dyn Error + Send + Sync>` or an `anyhow::Error`"
)]
pub trait AsError<Way>: Send + Sync + 'static {
    /// The error, if there is one.
    fn as_error(&self) -> Option<&(dyn Error + 'static)>;
}

/// The ways in which a value is seen as an [`Error`]: see [`AsError`].
pub mod ways {
    /// The value is an error.
    #[derive(Clone, Copy, Debug)]
    pub enum Is {}

    /// The value holds an error.
    #[derive(Clone, Copy, Debug)]
    pub enum Holds {}

    /// The value is a text, or `()`.
    #[derive(Clone, Copy, Debug)]
    pub enum Text {}
}

impl<E: Error + Send + Sync + 'static> AsError<ways::Is> for E {
    fn as_error(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

// `DerefMut` and not `Deref`: an `Arc<dyn Error + Send + Sync>` implements `Deref`, too, but is an error itself.
impl<E: DerefMut<Target = dyn Error + Send + Sync> + Send + Sync + 'static> AsError<ways::Holds> for E {
    fn as_error(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self)
    }
}

macro_rules! texts {
    ($($text:ty),+) => {$(
        impl AsError<ways::Text> for $text {
            fn as_error(&self) -> Option<&(dyn Error + 'static)> {
                None
            }
        }
    )+};
}

texts!(String, &'static str, ());

/// The error that a loader, or a write, has returned. All callers that waited for the load share it.
///
/// A failure derefs to the error, in the type that the loader returned.
pub struct Failure<Err> {
    error: Arc<Err>,
    as_error: fn(&Err) -> Option<&(dyn Error + 'static)>,
}

impl<Err> Failure<Err> {
    pub(crate) fn new<Way>(error: Err) -> Self
    where
        Err: AsError<Way>,
    {
        Self { error: Arc::new(error), as_error: Err::as_error }
    }

    /// The failure as an [`Error`]. For a `Box<dyn Error>` or an `anyhow::Error` this is the error that it holds. `None`: the loader has
    /// returned only a text.
    #[must_use]
    pub fn as_error(&self) -> Option<&(dyn Error + 'static)> {
        (self.as_error)(&self.error)
    }

    /// The error itself, in the type that the loader returned.
    ///
    /// # Errors
    ///
    /// This failure, unchanged: another caller that waited for the same load still has the error, too.
    pub fn into_inner(self) -> Result<Err, Self> {
        let as_error = self.as_error;
        Arc::try_unwrap(self.error).map_err(|error| Self { error, as_error })
    }
}

impl<Err: fmt::Display> Failure<Err> {
    /// Writes what has failed. The error says why, and comes next in the chain of sources. So the error's text is written here only if
    /// the error is a mere text, which is in no chain, or if `{:#}` asks for the whole chain.
    pub(crate) fn tell(&self, what: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(what)?;
        let Some(error) = self.as_error() else { return write!(f, ": {}", self.error) };
        let mut cause = Some(error).filter(|_| f.alternate());
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl<Err> Clone for Failure<Err> {
    fn clone(&self) -> Self {
        Self { error: self.error.clone(), as_error: self.as_error }
    }
}

impl<Err> Deref for Failure<Err> {
    type Target = Err;

    fn deref(&self) -> &Err {
        &self.error
    }
}

impl<Err: fmt::Debug> fmt::Debug for Failure<Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<Err: fmt::Display> fmt::Display for Failure<Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}
