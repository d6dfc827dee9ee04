//! [`Trouble`]: why an operation on a server gave no reply, in the kinds that larder treats differently.

use std::fmt;

/// Why an operation gave no reply.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// There is no connection, or the breaker is open.
    Unavailable,
    /// Too many operations were in flight.
    Shed,
    /// It took longer than it may.
    TimedOut(Awaited),
    /// The server has done it, and too few replicas have it.
    Unconfirmed,
    /// The server, or the way to it, answered with an error.
    Error {
        /// What kind of error it is.
        what: What,
        /// The error as it may be logged: without keys and values.
        text: String,
    },
}

/// What was waited for in vain. Its text names the setting that says for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Awaited {
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
#[non_exhaustive]
pub enum What {
    /// The connection is of no more use: reset, closed, or out of step. A failure for the breaker; the connection is given up.
    Broken,
    /// The server cannot serve now, and its data may be another's afterwards: it loads a snapshot, or has no master. A failure; the
    /// connection is given up.
    NotServing,
    /// The server serves nobody for a while, and its data stays. A failure.
    Busy,
    /// The server is a replica now; a new connection may find the master. A failure; the connection is given up.
    ReadOnly,
    /// The server does not let us in, or refuses what everything needs. The breaker opens at once; the connection is given up.
    Refused,
    /// A right is missing that not everything needs. A success for the breaker: the server answered.
    Forbidden,
    /// The server takes no writes for want of room. A success; fills pause.
    Full,
    /// The server does not know a script, or a prepared statement, which was not repaired by sending it whole. A success.
    NoScript,
    /// Somebody else's data is in our place. A success.
    WrongType,
    /// The command was wrong, or failed on the server: a fault of ours. Says nothing about the server's health. A success.
    Fault,
}

impl Trouble {
    /// An error that is a fault of ours.
    pub fn fault(text: impl Into<String>) -> Self {
        Self::Error { what: What::Fault, text: text.into() }
    }

    /// A connection that is of no more use.
    pub fn broken(text: impl Into<String>) -> Self {
        Self::Error { what: What::Broken, text: text.into() }
    }

    /// The kind of the error, where it is one.
    #[must_use]
    pub fn what(&self) -> Option<What> {
        match self {
            Self::Error { what, .. } => Some(*what),
            _ => None,
        }
    }

    /// Whether the error says nothing but that this one command, of several that were sent together, was not done.
    #[must_use]
    pub fn is_of_its_command(&self) -> bool {
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
