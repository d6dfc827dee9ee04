//! Waiting until caches can be read, and the reasons why some cannot.

use crate::breaker::State;
use crate::contract::Status;
use std::fmt;
use std::time::Duration;

/// How often [`Caches::ready`](super::Caches::ready) looks whether the caches can be read. No server is asked for that.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// Which caches could not be read when the waiting ended, and why.
///
/// ```
/// # use larder::{CacheOptions, Caches, Entry};
/// # use serde::{Deserialize, Serialize};
/// # use std::time::Duration;
/// # #[derive(Clone, Serialize, Deserialize, Entry)]
/// # #[entry(cache = "color")]
/// # struct Color { #[key(primary)] name: String }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let caches = Caches::builder().defaults(CacheOptions::on("memory")).open().await?;
/// let colors = caches.open::<Color>()?;
/// let readiness = caches.ready(Duration::from_secs(2)).await;
/// if !readiness.is_ready() {
///     // Go on all the same: gets miss until the cache can be read, and nothing is lost.
///     eprintln!("{readiness}");
/// }
/// # assert!(readiness.is_ready());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    unreadable: Vec<(String, String)>,
}

impl Readiness {
    /// `unreadable` holds caches and reasons, in any order.
    pub(super) fn new(mut unreadable: Vec<(String, String)>) -> Self {
        unreadable.sort();
        Self { unreadable }
    }

    /// Whether every cache can be read.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.unreadable.is_empty()
    }

    /// The caches that cannot be read, in alphabetical order, and why.
    pub fn unreadable(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unreadable.iter().map(|(cache, why)| (cache.as_str(), why.as_str()))
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ready() {
            return f.write_str("every cache can be read");
        }
        f.write_str("cannot be read: ")?;
        for (place, (cache, why)) in self.unreadable().enumerate() {
            let semicolon = if place > 0 { "; " } else { "" };
            write!(f, "{semicolon}`{cache}`, because {why}")?;
        }
        Ok(())
    }
}

/// A server that caches are on.
pub(super) struct ServerView {
    pub(super) address: String,
    pub(super) connected: bool,
}

/// Why a cache with this status cannot be read. `server` is the server that the cache is on, if any; `feed` the database whose feed it follows.
pub(super) fn why(status: &Status, server: Option<&ServerView>, feed: Option<&ServerView>) -> String {
    match feed {
        Some(ServerView { address, connected: false }) => {
            return format!("it follows the feed of the database at {address}, to which there is no connection");
        }
        Some(ServerView { address, .. }) if server.is_none() => {
            return format!("the feed of the database at {address} was not read within the deadline");
        }
        _ => {}
    }
    let Some(ServerView { address, connected }) = server else {
        return "its connector does not let anybody read".to_owned();
    };
    let open = matches!(status.breaker, Some(State::Open | State::HalfOpen | State::ForcedOpen));
    match (*connected, open, status.journal) {
        (_, true, _) => {
            format!("the circuit breaker is open: the server at {address} does not answer, or does not let larder in")
        }
        (false, false, _) => format!("there is no connection to the server at {address} yet"),
        (true, false, 1..) => {
            format!("{} invalidations have to be delivered to the server at {address} before", status.journal)
        }
        (true, false, 0) => format!("what the server at {address} holds has not been checked yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_comes_first() {
        let server = |connected| ServerView { address: "cache:6379".to_owned(), connected };
        let status = |breaker, journal| Status { breaker: Some(breaker), journal, ..Status::default() };
        for (breaker, journal, connected, said) in [
            (
                State::Open,
                7,
                false,
                "the circuit breaker is open: the server at cache:6379 does not answer, or does not let larder in",
            ),
            (
                State::HalfOpen,
                0,
                true,
                "the circuit breaker is open: the server at cache:6379 does not answer, or does not let larder in",
            ),
            (State::Closed, 7, false, "there is no connection to the server at cache:6379 yet"),
            (State::Closed, 7, true, "7 invalidations have to be delivered to the server at cache:6379 before"),
            (State::Ramping, 0, true, "what the server at cache:6379 holds has not been checked yet"),
        ] {
            assert_eq!(why(&status(breaker, journal), Some(&server(connected)), None), said);
        }
        assert_eq!(why(&Status::default(), None, None), "its connector does not let anybody read");
        for (connected, said) in [
            (false, "it follows the feed of the database at cache:6379, to which there is no connection"),
            (true, "the feed of the database at cache:6379 was not read within the deadline"),
        ] {
            assert_eq!(why(&Status::default(), None, Some(&server(connected))), said);
        }
    }

    #[test]
    fn caches_are_told_in_alphabetical_order() {
        let two = Readiness::new(vec![("b".into(), "it is slow".into()), ("a".into(), "it is away".into())]);
        assert_eq!(two.to_string(), "cannot be read: `a`, because it is away; `b`, because it is slow");
        assert_eq!(Readiness::default().to_string(), "every cache can be read");
    }
}
