//! [`Answer`]: a result that is known at once, or later.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The result of a connector's operation: known at once, or later.
pub enum Answer<'a, T> {
    /// The result.
    Now(Option<T>),
    /// A future that yields the result.
    Later(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> Answer<'a, T> {
    /// An answer that is known already.
    pub fn now(result: T) -> Self {
        Self::Now(Some(result))
    }

    /// An answer that the caller has to wait for.
    pub fn later(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl<T: Unpin> Future for Answer<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            // A future is not polled again after it was ready, so the result is still there.
            Self::Now(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(future) => future.as_mut().poll(context),
        }
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now(result) => f.debug_tuple("Now").field(result).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}
