//! What an error of the client library means: one pure function, so that the breaker's judgement can be read and tested
//! without a server.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::fmt;

/// Why an operation gave no reply.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// There is no connection, or the breaker is open.
    Unavailable,
    /// Too many operations were in flight.
    Shed,
    /// No reply within the operation time-out.
    TimedOut,
    /// The server has done it, and too few replicas have it.
    Unconfirmed,
    /// The server, or the way to it, answered with an error.
    Error { what: What, text: String },
}

/// The kinds of errors that larder treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The connection is of no more use: reset, closed, or out of step.
    Broken,
    /// The server cannot serve now: LOADING, CLUSTERDOWN, MASTERDOWN, TRYAGAIN, BUSY.
    NotServing,
    /// The server is a replica now; a new connection may find the master.
    ReadOnly,
    /// It does not let us in, or not at this command: NOAUTH, WRONGPASS, NOPERM.
    Refused,
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
    pub(super) fn fault(text: impl Into<String>) -> Self {
        Self::Error { what: What::Fault, text: text.into() }
    }

    pub(super) fn what(&self) -> Option<What> {
        match self {
            Self::Error { what, .. } => Some(*what),
            _ => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => f.write_str("no connection, or the circuit breaker is open"),
            Self::Shed => f.write_str("too many operations in flight"),
            Self::TimedOut => f.write_str("no reply within the operation time-out"),
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

fn judge(kind: ErrorKind, code: Option<&str>, detail: Option<&str>, unrecoverable: bool) -> What {
    // Of what is not allowed within a script, servers say so without the code: the second is Redis 7.0.
    let forbidden = ["ACL failure in script", "The user executing the script can't"];
    if detail.is_some_and(|detail| forbidden.iter().any(|words| detail.starts_with(words))) {
        return What::Refused;
    }
    match code {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED") => return What::Refused,
        Some("OOM" | "MISCONF" | "NOREPLICAS") => return What::Full,
        Some("BUSY" | "LOADING") => return What::NotServing,
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
            ServerErrorKind::NoPerm => What::Refused,
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
        assert_eq!(judge(response, Some("ERR"), Some(within_a_script), false), What::Refused);
        assert_eq!(judge(extension, Some("DENIED"), None, false), What::Refused, "protected mode");
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
