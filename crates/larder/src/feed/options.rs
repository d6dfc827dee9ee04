//! [`FeedOptions`], of a feed, and [`FollowOptions`], of a cache that follows it.

use crate::option_error::{OptionError, Refuse, setters};
use std::time::Duration;

/// How a node learns that there is something to poll.
///
/// Whichever it is, only polls bring changes, and [the deadline](FollowOptions::deadline) holds by the polls alone. A notification that gets lost makes a
/// change arrive later, with the next poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wake {
    /// It does not: it polls after each [pause](FeedOptions::poll).
    #[default]
    Poll,
    /// The database notifies it, and it polls at once; otherwise as with `Poll`. One of the nodes looks for changes each 10 ms, and notifies
    /// the others, at most 20 times a second. When that node ends, another one takes over within two seconds. No writer notifies anybody.
    ///
    /// For fleets of up to about ten nodes: a notification costs the server more, the more nodes listen. It takes a session more of each node, which a
    /// pooler in transaction mode does not give. Then the node says so in the log, and polls.
    Listen,
}

/// The options of a feed.
///
/// ```
/// use larder::feed::{FeedOptions, Wake};
/// use std::time::Duration;
///
/// assert!(FeedOptions::new().poll(Duration::from_millis(25)).validate().is_ok());
/// assert!(FeedOptions::new().wake(Wake::Listen).poll(Duration::from_secs(1)).validate().is_ok());
/// assert!(FeedOptions::new().poll(Duration::ZERO).validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedOptions {
    /// The pause between two polls; 1 ms to 30 s. With many nodes a good choice is 2.5 ms for each of them. Default 50 ms.
    pub poll: Duration,
    /// Whether the database notifies this node of changes, so that it polls at once. Default: it does not.
    pub wake: Wake,
}

/// What an error says to give.
pub(crate) const POLL: &str = "a duration from 1ms to 30s, such as 50ms";

impl Default for FeedOptions {
    fn default() -> Self {
        Self { poll: Duration::from_millis(50), wake: Wake::Poll }
    }
}

impl FeedOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        poll: Duration,
        wake: Wake,
    }

    /// Checks that every option can be used.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| self.examine(refuse))
    }

    /// Reports every option that cannot be used.
    pub(crate) fn examine(&self, refuse: Refuse<'_>) {
        if !(Duration::from_millis(1)..=Duration::from_secs(30)).contains(&self.poll) {
            refuse(OptionError::duration("poll", self.poll, POLL));
        }
    }
}

/// How a cache follows a feed.
///
/// ```
/// use larder::feed::{FeedOptions, FollowOptions};
/// use std::time::Duration;
///
/// let options = FollowOptions::new().deadline(Duration::from_secs(2));
/// assert!(options.validate(&FeedOptions::new()).is_ok());
/// assert!(options.validate(&FeedOptions::new().poll(Duration::from_secs(2))).is_err(), "shorter than two polls");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowOptions {
    /// For how long after a successful poll has begun the cache is read; at least two polls of the feed, and at most a minute. Default 1 s.
    pub deadline: Duration,
}

/// What an error says to give.
pub(crate) const DEADLINE: &str = "a duration of at least two polls and at most 1m, such as 1s";

impl Default for FollowOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(1) }
    }
}

impl FollowOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        deadline: Duration,
    }

    /// Checks that every option can be used with this feed.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted.
    pub fn validate(&self, feed: &FeedOptions) -> Result<(), OptionError> {
        OptionError::first(|refuse| {
            self.examine(refuse);
            self.examine_polls(feed.poll, refuse);
        })
    }

    /// Reports every option that no feed allows.
    pub(crate) fn examine(&self, refuse: Refuse<'_>) {
        if self.deadline.is_zero() || self.deadline > Duration::from_secs(60) {
            refuse(OptionError::duration("deadline", self.deadline, DEADLINE));
        }
    }

    /// Reports a deadline that is too short for a feed with this pause between its polls. One that is no deadline at all is not reported here.
    pub(crate) fn examine_polls(&self, poll: Duration, refuse: Refuse<'_>) {
        if !self.deadline.is_zero() && self.deadline < 2 * poll {
            refuse(OptionError::duration("deadline", self.deadline, DEADLINE));
        }
    }
}
