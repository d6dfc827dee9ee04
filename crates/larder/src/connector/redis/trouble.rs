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
            Self::Error { text, .. } => f.write_str(text),
        }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        Self::Error { what: judge(error.kind(), error.code(), error.is_unrecoverable_error()), text: error.to_string() }
    }
}

fn judge(kind: ErrorKind, code: Option<&str>, unrecoverable: bool) -> What {
    match code {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => return What::Refused,
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
        assert_eq!(judge(extension, Some("OOM"), false), What::Full);
        assert_eq!(judge(extension, Some("MISCONF"), false), What::Full);
        assert_eq!(judge(extension, Some("NOAUTH"), false), What::Refused);
        assert_eq!(judge(extension, Some("WRONGTYPE"), false), What::WrongType);
        assert_eq!(judge(ErrorKind::Server(ServerErrorKind::NoScript), Some("NOSCRIPT"), false), What::NoScript);
        assert_eq!(judge(ErrorKind::Server(ServerErrorKind::BusyLoading), Some("LOADING"), false), What::NotServing);
        assert_eq!(judge(ErrorKind::Server(ServerErrorKind::ReadOnly), Some("READONLY"), false), What::ReadOnly);
        assert_eq!(judge(ErrorKind::Io, None, true), What::Broken);
        assert_eq!(judge(ErrorKind::Parse, None, true), What::Broken);
    }
}
