//! A command that could not do what it was told, and the exit code for it.

use larder::connector::redis::inspect::InspectError;
use std::fmt;
use std::process::ExitCode;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the configuration cannot be meant. Exit code 2.
    Usage(String),
    /// Something is in the way. Exit code 1.
    Problem(String),
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Problem(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Problem(text) => f.write_str(text),
        }
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::Key(_) | InspectError::Option(_) => Self::Usage(error.to_string()),
            error => Self::Problem(error.to_string()),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Problem(format!("the result cannot be written as JSON: {error}"))
    }
}
