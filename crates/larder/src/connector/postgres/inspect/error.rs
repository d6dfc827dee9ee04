//! [`InspectError`]: why an inspector could not look at something, or could not forget it.

use crate::connector::postgres::inspect::facts::grant_use;
use crate::connector::postgres::options::PostgresOptions;
use crate::connector::postgres::server::is_not_set_up;
use crate::connector::remote::{Trouble, What};
use crate::key::KeyError;
use crate::nearest::nearest;
use crate::option_error::OptionError;

/// Why the inspector could not look at something, or could not forget it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// An option cannot be used.
    #[error("{0}")]
    Option(#[from] OptionError),
    /// Nobody answers, or not in time.
    #[error("the database {place} cannot be reached: {reason}")]
    Unreachable {
        /// Hosts and database.
        place: String,
        /// What happened.
        reason: String,
    },
    /// The server does not let the user in: a wrong password, or no such user or database.
    #[error("the database {place} refuses the login: {reason}")]
    Refused {
        /// Hosts and database.
        place: String,
        /// What the server said.
        reason: String,
    },
    /// The user lacks a right.
    #[error("the database {place}: {reason}; {to_do}")]
    Forbidden {
        /// Hosts and database.
        place: String,
        /// Which right is missing.
        reason: String,
        /// What somebody with more rights can do.
        to_do: String,
    },
    /// The tables there are newer than this version of larder, and must not be overwritten.
    #[error(
        "the database {place} has larder's tables of version {there}, and this larder makes version {here}: use a newer larder"
    )]
    Newer {
        /// Hosts and database.
        place: String,
        /// The version there.
        there: i32,
        /// The version that this program knows.
        here: i32,
    },
    /// The tables are not there, or not all of them.
    #[error(
        "larder's tables are not in the database {place}: run `larder postgres setup`, or start a service whose user may make them"
    )]
    NotSetUp {
        /// Hosts and database.
        place: String,
    },
    /// No release of a service has registered a cache of this name.
    #[error(
        "there is no cache `{cache}` in the database {place}, which has {}{}",
        listed(.seen),
        nearest(cache, .seen.iter().map(String::as_str)).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
    )]
    NoCache {
        /// The name that was asked for.
        cache: String,
        /// Hosts and database.
        place: String,
        /// The caches that are there.
        seen: Vec<String>,
    },
    /// Several caches have this name when case, `_` and `-` make no difference, and no cache has exactly this name.
    #[error("`{cache}` names several caches: {}; give one of them as it is written here", listed(.seen))]
    Ambiguous {
        /// The name that was asked for.
        cache: String,
        /// The caches that it may be.
        seen: Vec<String>,
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
    /// Another error of the server.
    #[error("the database {place}: {reason}")]
    Server {
        /// Hosts and database.
        place: String,
        /// What the server said.
        reason: String,
    },
}

/// What the server has said, as an error of the inspector.
pub(super) fn error(options: &PostgresOptions, trouble: &Trouble) -> InspectError {
    let place = options.place();
    match trouble {
        Trouble::TimedOut(_) => {
            let reason = format!("no answer within {:?} (connect_timeout)", options.connect_timeout);
            InspectError::Unreachable { place, reason }
        }
        Trouble::Error { what: What::Broken, text } => InspectError::Unreachable { place, reason: text.clone() },
        Trouble::Error { what: What::Refused, text } => InspectError::Refused { place, reason: text.clone() },
        Trouble::Error { what: What::Forbidden, text } => {
            // The hint of services is for readers of a log.
            let reason = text.split_once("; ").map_or(text.as_str(), |(reason, _)| reason).to_owned();
            InspectError::Forbidden { place, reason, to_do: grant_use(options.user().unwrap_or("the user"), false) }
        }
        trouble if is_not_set_up(trouble) => InspectError::NotSetUp { place },
        Trouble::Error { text, .. } => InspectError::Server { place, reason: text.clone() },
        other => InspectError::Server { place, reason: other.to_string() },
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}
