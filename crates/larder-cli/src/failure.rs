//! The failure of a command, and its exit code.

use crate::output;
use larder::connector::redis::inspect::InspectError;
use serde_json::json;
use std::fmt;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the configuration cannot be used. Exit code 2.
    Usage(String),
    /// The command could not be carried out. Exit code 1.
    Problem(String),
}

impl Failure {
    /// Prints the failure on stderr for people, and with `json` also on stdout for programs. Returns the exit code.
    pub(crate) fn tell(&self, json: bool) -> ExitCode {
        let text = self.to_string();
        text.lines().for_each(|line| eprintln!("larder: {line}"));
        self.tell_programs(json)
    }

    /// As [`tell`](Self::tell), but without stderr, for a failure that was already printed there.
    pub(crate) fn tell_programs(&self, json: bool) -> ExitCode {
        if json {
            output::line(json!({ "error": self.to_string(), "exit_code": self.code() }));
        }
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Problem(_) => 1,
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
