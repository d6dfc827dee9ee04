//! What an error of the client library means: one pure function, so that the breaker's judgement can be read and tested
//! without a server.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::fmt;

/// Why an operation gave no reply.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// There is no connection, or the breaker is open.
    Unavailable,
    /// Too many operations were in flight.
    Shed,
    /// It took longer than it may.
    TimedOut(Awaited),
    /// The server has done it, and too few replicas have it.
    Unconfirmed,
    /// The server, or the way to it, answered with an error.
    Error { what: What, text: String },
}

/// What was waited for in vain. Its text names the setting that says for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A connection, or a reply to what is sent before others may use it.
    Connection,
    /// The reply to an operation.
    Reply,
    /// A place among the operations under way. Nothing was sent.
    Place,
}

impl Awaited {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Connection => "no connection, or no reply while connecting, within `connect_timeout`",
            Self::Reply => "no reply within `operation_timeout`",
            Self::Place => "`max_in_flight` operations were under way, and none made room within `operation_timeout`",
        }
    }
}

/// The kinds of errors that larder treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The connection is of no more use: reset, closed, or out of step.
    Broken,
    /// The server cannot serve now: LOADING, CLUSTERDOWN, MASTERDOWN, TRYAGAIN. Its data may be another's afterwards.
    NotServing,
    /// The server serves nobody while a slow script runs, be it somebody else's: BUSY. Its data stays.
    Busy,
    /// The server is a replica now; a new connection may find the master.
    ReadOnly,
    /// It does not let us in, or refuses a command without which nothing works: NOAUTH, WRONGPASS, NOPERM for GET.
    Refused,
    /// A right is missing: NOPERM for a command that not everything needs, for a key, or within a script.
    Forbidden,
    /// It takes no writes: OOM, MISCONF, NOREPLICAS.
    Full,
    /// It does not know the script, which was not repaired by sending its code.
    NoScript,
    /// Somebody else's data is in our place.
    WrongType,
    /// The command was wrong, or a script failed. Says nothing about its health.
    Fault,
}

impl Trouble {
    pub(crate) fn fault(text: impl Into<String>) -> Self {
        Self::Error { what: What::Fault, text: text.into() }
    }

    pub(crate) fn what(&self) -> Option<What> {
        match self {
            Self::Error { what, .. } => Some(*what),
            _ => None,
        }
    }

    /// Whether the error says nothing but that this one command, of several that were sent together, was not done.
    pub(crate) fn is_of_its_command(&self) -> bool {
        let alone = [What::Fault, What::WrongType, What::NoScript, What::Full, What::Forbidden];
        self.what().is_some_and(|what| alone.contains(&what))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => f.write_str("no connection, or the circuit breaker is open"),
            Self::Shed => f.write_str("too many operations in flight"),
            Self::TimedOut(awaited) => f.write_str(awaited.text()),
            Self::Unconfirmed => f.write_str("fewer replicas than `wait_replicas` asks for have confirmed it in time"),
            Self::Error { text, .. } => f.write_str(text),
        }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let what = judge(error.kind(), error.code(), error.detail(), error.is_unrecoverable_error());
        Self::Error { what, text: discreet(error.to_string()) }
    }
}

/// An error as it may be logged. A server repeats the words of a command that it does not know, and the key that is forbidden: what
/// it says from there on is left out.
fn discreet(mut text: String) -> String {
    let words = text.find(", with args");
    let quotes = text.match_indices(['\'', '`', '"']).map(|(at, _)| at);
    let key = quotes.into_iter().find(|at| text.get(at + 1..).is_some_and(begins_like_a_key));
    if let Some(cut) = words.into_iter().chain(key).min() {
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// As `prefix:cache:` does.
fn begins_like_a_key(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let mut is_name = || parts.next().is_some_and(|part| !part.is_empty() && !part.contains(char::is_whitespace));
    is_name() && is_name() && parts.next().is_some()
}

/// Without these nothing works.
const NEEDED_BY_EVERYTHING: [&str; 3] = ["get", "eval", "evalsha"];

/// How a server says that the user may not run a command; the command follows, in quotes.
const MAY_NOT_RUN: &str = "has no permissions to run the '";

fn judge(kind: ErrorKind, code: Option<&str>, detail: Option<&str>, unrecoverable: bool) -> What {
    let detail = detail.unwrap_or_default();
    // Of what is not allowed within a script, servers say so without the code: the second is Redis 7.0.
    let forbidden = ["ACL failure in script", "The user executing the script can't"];
    if forbidden.iter().any(|words| detail.starts_with(words)) {
        return What::Forbidden;
    }
    match code {
        Some("NOPERM") => {
            let command = detail.split_once(MAY_NOT_RUN).and_then(|(_, rest)| rest.split('\'').next());
            let all = command.is_some_and(|command| NEEDED_BY_EVERYTHING.contains(&command));
            return if all { What::Refused } else { What::Forbidden };
        }
        Some("NOAUTH" | "WRONGPASS" | "DENIED") => return What::Refused,
        Some("OOM" | "MISCONF" | "NOREPLICAS") => return What::Full,
        Some("BUSY") => return What::Busy,
        Some("LOADING") => return What::NotServing,
        Some("WRONGTYPE") => return What::WrongType,
        _ => {}
    }
    match kind {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask => What::NotServing,
            ServerErrorKind::ReadOnly => What::ReadOnly,
            ServerErrorKind::NoScript => What::NoScript,
            ServerErrorKind::NoPerm => What::Forbidden,
            _ => What::Fault,
        },
        ErrorKind::AuthenticationFailed => What::Refused,
        ErrorKind::Io | ErrorKind::Parse => What::Broken,
        _ if unrecoverable => What::Broken,
        _ => What::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_is_judged_by_its_code() {
        let extension = ErrorKind::Extension;
        assert_eq!(judge(extension, Some("OOM"), None, false), What::Full);
        assert_eq!(judge(extension, Some("MISCONF"), None, false), What::Full);
        assert_eq!(judge(extension, Some("NOAUTH"), None, false), What::Refused);
        assert_eq!(judge(extension, Some("WRONGTYPE"), None, false), What::WrongType);
        assert_eq!(judge(ErrorKind::Server(ServerErrorKind::NoScript), Some("NOSCRIPT"), None, false), What::NoScript);
        assert_eq!(
            judge(ErrorKind::Server(ServerErrorKind::BusyLoading), Some("LOADING"), None, false),
            What::NotServing
        );
        assert_eq!(judge(ErrorKind::Server(ServerErrorKind::ReadOnly), Some("READONLY"), None, false), What::ReadOnly);
        assert_eq!(judge(ErrorKind::Io, None, None, true), What::Broken);
        assert_eq!(judge(ErrorKind::Parse, None, None, true), What::Broken);
        let response = ErrorKind::Server(ServerErrorKind::ResponseError);
        let within_a_script = "ACL failure in script: this user has no permissions to access one of the keys";
        assert_eq!(judge(response, Some("ERR"), Some(within_a_script), false), What::Forbidden);
        assert_eq!(judge(extension, Some("DENIED"), None, false), What::Refused, "protected mode");
    }

    #[test]
    fn a_right_that_is_missing_is_a_refusal_where_everything_needs_it() {
        let noperm = ErrorKind::Server(ServerErrorKind::NoPerm);
        let judged = |detail: &str| judge(noperm, Some("NOPERM"), Some(detail), false);
        assert_eq!(judged("this user has no permissions to run the 'get' command"), What::Refused);
        assert_eq!(judged("User larder has no permissions to run the 'evalsha' command"), What::Refused);
        assert_eq!(judged("User larder has no permissions to run the 'scan' command"), What::Forbidden);
        assert_eq!(judged("this user has no permissions to run the 'getrange' command"), What::Forbidden);
        let key = "this user has no permissions to access one of the keys used as arguments";
        assert_eq!(judged(key), What::Forbidden);
        assert_eq!(judged("No permissions to access a key"), What::Forbidden);
        assert_eq!(judge(noperm, Some("NOPERM"), None, false), What::Forbidden);
    }

    #[test]
    fn a_slow_script_of_somebody_else_is_told_from_a_server_whose_data_is_being_replaced() {
        let (busy, loading) = (ErrorKind::Extension, ErrorKind::Server(ServerErrorKind::BusyLoading));
        let running = "Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
        assert_eq!(judge(busy, Some("BUSY"), Some(running), false), What::Busy);
        assert_eq!(judge(loading, Some("LOADING"), None, false), What::NotServing);
    }

    #[test]
    fn a_time_out_names_its_setting() {
        let said = |awaited| Trouble::TimedOut(awaited).to_string();
        assert!(said(Awaited::Connection).contains("`connect_timeout`"));
        assert!(said(Awaited::Reply).contains("`operation_timeout`"));
        assert!(said(Awaited::Place).contains("`max_in_flight`"));
    }

    #[test]
    fn what_a_server_repeats_of_our_keys_is_left_out() {
        let said = |text: &str| discreet(text.to_owned());
        let plain =
            "MISCONF Redis is configured to save, see 'stop-writes-on-bgsave-error'. script: f00d, on @user_script:1.";
        assert_eq!(said(plain), plain);
        assert_eq!(said("unknown command 'GET', with args beginning with: 'x' "), "unknown command 'GET'…");
        assert_eq!(said("unknown command `GET`, with args beginning with: `l:i:c`, "), "unknown command `GET`…");
        assert_eq!(said("no permission for the 'l:i:o1:it's' key, nor x"), "no permission for the …");
        assert_eq!(said("it's the 'l:i:o1:private' key"), "it's the …");
        assert_eq!(said("an open 'l:i:o1:private"), "an open …");
    }
}
