//! The failure of the command, and its exit code.

use crate::output;
use serde_json::json;
use std::fmt;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line cannot be used. Exit code 2.
    Usage(String),
    /// The command could not be carried out. Exit code 1.
    Problem(String),
}

impl Failure {
    /// Prints the failure on stderr for people, and with `json` also on stdout for programs. Returns the exit code.
    pub(crate) fn tell(&self, json: bool) -> ExitCode {
        let text = self.to_string();
        text.lines().for_each(|line| eprintln!("larder-torture: {line}"));
        let code = match self {
            Self::Usage(_) => 2,
            Self::Problem(_) => 1,
        };
        if json {
            output::line(json!({ "error": text, "exit_code": code }));
        }
        ExitCode::from(code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Problem(text) => f.write_str(text),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Problem(format!("the result cannot be written as JSON: {error}"))
    }
}
