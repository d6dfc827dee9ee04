//! The error of a user's loader or write: kept as the type that it is, and seen as the [`Error`] that it is or holds.
//!
//! `Box<dyn Error + Send + Sync>` and `anyhow::Error` hold an error and are none themselves, so no one bound covers them and all
//! others. Hence [`AsError`] has one implementation for each [way](ways) to come to an `Error`; the compiler finds the one that fits.

use std::error::Error;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// What a loader, or the write of an [`update`](crate::Cache::update), may fail with.
///
/// | error | seen as |
/// |---|---|
/// | what implements [`Error`], and is `Send + Sync + 'static` | itself |
/// | `Box<dyn Error + Send + Sync>`, `anyhow::Error`, `eyre::Report` | the error that it holds |
/// | `String`, `&'static str`, `()` | no error, only its text |
///
/// `Way` is for the compiler, which finds it by itself. Whoever writes a function around a loader passes it on, or bounds the error
/// by `Error + Send + Sync + 'static`, which is enough.
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

/// The ways in which something is seen as an [`Error`]: see [`AsError`].
pub mod ways {
    /// It is one.
    #[derive(Clone, Copy, Debug)]
    pub enum Is {}

    /// It holds one.
    #[derive(Clone, Copy, Debug)]
    pub enum Holds {}

    /// It is a text, or nothing.
    #[derive(Clone, Copy, Debug)]
    pub enum Text {}
}

impl<E: Error + Send + Sync + 'static> AsError<ways::Is> for E {
    fn as_error(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

// By `DerefMut`, since an `Arc<dyn Error + Send + Sync>`, which derefs as well, is an error itself.
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

/// The error that a loader, or a write, has returned. All who waited for it share it.
///
/// It derefs to the error, of the type that was returned.
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

    /// The error as such: for a `Box<dyn Error>` or an `anyhow::Error` the one that it holds. `None` where the loader has returned a
    /// mere text.
    #[must_use]
    pub fn as_error(&self) -> Option<&(dyn Error + 'static)> {
        (self.as_error)(&self.error)
    }

    /// The error itself, unless somebody else has it as well.
    ///
    /// # Errors
    ///
    /// This failure, as it was: another caller who waited for the same load has it too.
    pub fn into_inner(self) -> Result<Err, Self> {
        let as_error = self.as_error;
        Arc::try_unwrap(self.error).map_err(|error| Self { error, as_error })
    }
}

impl<Err: fmt::Display> Failure<Err> {
    /// Tells what has failed. Why, tells the error, which comes next in the chain of sources; so it is told here only where there is no
    /// next, or where the whole chain is asked for, by `{:#}`.
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
