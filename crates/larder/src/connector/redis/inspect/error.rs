//! [`InspectError`]: why an inspector could not look at something, or could not forget it.

use crate::key::KeyError;
use crate::nearest::nearest;
use crate::option_error::OptionError;

/// Why the inspector could not look at something, or could not forget it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The server cannot be reached, or has answered with an error.
    #[error("the server at {server}: {reason}")]
    Server {
        /// The server's address.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// Nothing on the server belongs to a cache of this name.
    #[error(
        "there is no cache `{cache}` under the prefix `{prefix}`, which has {}{}",
        listed(.seen),
        nearest(cache, .seen.iter().map(String::as_str)).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
    )]
    NoCache {
        /// The name that was asked for.
        cache: String,
        /// The prefix of the configuration.
        prefix: String,
        /// The caches that are there.
        seen: Vec<String>,
    },
    /// A part of a cluster cannot be looked at, so what is known is not all.
    #[error("{}; the rest of the cluster has {}", .unseen.join("; "), listed(.caches))]
    Partial {
        /// The caches that were found.
        caches: Vec<String>,
        /// What could not be looked at, and why: primaries that cannot be reached, and slots that nobody serves.
        unseen: Vec<String>,
    },
    /// The clock of the cache is gone, as after a flush; or the clock was made anew, and no service has cleared the cache since.
    /// Services read nothing from the cache until one of them has cleared it.
    #[error("the clock of the cache `{cache}` is lost, so nothing can be forgotten key by key; truncate the cache")]
    Lost {
        /// The cache.
        cache: String,
    },
    /// Several caches have this name when case, `_` and `-` make no difference, and no cache has exactly this name.
    #[error("`{cache}` names several caches: {}; give one of them as it is written here", listed(.seen))]
    Ambiguous {
        /// The name that was asked for.
        cache: String,
        /// The caches that it may be.
        seen: Vec<String>,
    },
    /// The key of the cache's clock holds a value of another Redis type, which larder has not written. No service can use the cache.
    #[error(
        "`{key}`, where the clock of the cache `{cache}` should be, is {what}, which is not larder's: no service can use the cache. \
         If nobody needs that key, remove it (DEL); services then make a new clock"
    )]
    ForeignClock {
        /// The cache.
        cache: String,
        /// The key.
        key: String,
        /// What the key holds.
        what: String,
    },
    /// The user may not read the clock of the cache.
    #[error("the clock of the cache `{cache}`, `{key}`, may not be read: {reason}")]
    ForbiddenClock {
        /// The cache.
        cache: String,
        /// The key.
        key: String,
        /// The server's answer.
        reason: String,
    },
    /// The clock of the cache does not hold what larder writes.
    #[error(
        "the clock of the cache `{cache}`, `{key}`, is damaged ({reason}); truncate the cache, which makes a new one"
    )]
    DamagedClock {
        /// The cache.
        cache: String,
        /// The key.
        key: String,
        /// What is wrong with the clock.
        reason: String,
    },
    /// Some of the keys were handled. The keys after them may have been handled or not.
    #[error("{done} of {of} keys were handled, the others perhaps; repeat it. {reason}")]
    Unanswered {
        /// Keys that were handled, in the order they were given.
        done: usize,
        /// Keys that were to be handled.
        of: usize,
        /// What went wrong.
        reason: String,
    },
    /// No object can have such a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A setting cannot be used.
    #[error("the server cannot be looked at: {0}")]
    Option(OptionError),
}

impl From<OptionError> for InspectError {
    fn from(error: OptionError) -> Self {
        Self::Option(error)
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}
