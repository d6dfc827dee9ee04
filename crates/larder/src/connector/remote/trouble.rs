//! [`Trouble`]: why an operation on a server failed, in the kinds that larder treats differently.

use std::fmt;

/// Why an operation on a server failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// There is no connection, or the breaker is open.
    Unavailable,
    /// Too many operations were in flight.
    Shed,
    /// It took longer than it is allowed to.
    TimedOut(Awaited),
    /// The server has done it, but too few replicas have confirmed it in time.
    Unconfirmed,
    /// The server, or the way to it, answered with an error.
    Error {
        /// What kind of error it is.
        what: What,
        /// The error as it may be logged: without keys and values.
        text: String,
    },
}

/// What did not come in time. Its text names the setting that limits the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Awaited {
    /// A connection, or a reply while connecting or recovering a cache.
    Connection,
    /// The reply to an operation.
    Reply,
    /// A place among the operations under way. Nothing was sent.
    Place,
}

impl Awaited {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Connection => "no connection, or no reply while connecting or recovering, within `connect_timeout`",
            Self::Reply => "no reply within `operation_timeout`",
            Self::Place => "`max_in_flight` operations were under way, and none made room within `operation_timeout`",
        }
    }
}

/// The kinds of errors that larder treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The connection can no longer be used: reset, closed, or out of step. A failure for the breaker; the connection is given up.
    Broken,
    /// The server cannot serve now, and may have other data afterwards: it loads a snapshot, or has no master. A failure; the connection is
    /// given up.
    NotServing,
    /// The server serves nobody for a while, but keeps its data. A failure.
    Busy,
    /// What was asked for is on another server now. It says nothing about this server's health; the connection is given up.
    Moved,
    /// What was asked for is on its way to another server, so that this one can do nothing with it for a while. It says nothing about its health.
    Moving,
    /// The server is a replica now; a new connection may find the master. A failure; the connection is given up.
    ReadOnly,
    /// The server refuses the login, or something that every operation needs. The breaker opens at once; the connection is given up.
    Refused,
    /// A right is missing that only some operations need. A success for the breaker: the server answered.
    Forbidden,
    /// The server is full, and takes no writes. A success; fills pause.
    Full,
    /// The server does not know a script, or a prepared statement, even after it was sent whole. A success.
    NoScript,
    /// A key of larder's holds somebody else's data. A success.
    WrongType,
    /// The command was wrong, or failed on the server: a fault of larder's, which says nothing about the server's health. A success.
    Fault,
}

impl Trouble {
    /// An error that is a fault of larder's.
    pub fn fault(text: impl Into<String>) -> Self {
        Self::Error { what: What::Fault, text: text.into() }
    }

    /// An error of a connection that can no longer be used.
    pub fn broken(text: impl Into<String>) -> Self {
        Self::Error { what: What::Broken, text: text.into() }
    }

    /// The kind of the error. `None`: the server, or the way to it, did not answer with an error.
    #[must_use]
    pub fn what(&self) -> Option<What> {
        match self {
            Self::Error { what, .. } => Some(*what),
            _ => None,
        }
    }

    /// Whether the error concerns only this one of several commands that were sent together.
    #[must_use]
    pub fn is_of_its_command(&self) -> bool {
        let alone = [What::Fault, What::WrongType, What::NoScript, What::Full, What::Forbidden, What::Moving];
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

impl std::error::Error for Trouble {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_names_its_setting() {
        let said = |awaited| Trouble::TimedOut(awaited).to_string();
        assert!(said(Awaited::Connection).contains("`connect_timeout`"));
        assert!(said(Awaited::Reply).contains("`operation_timeout`"));
        assert!(said(Awaited::Place).contains("`max_in_flight`"));
    }
}
