//! [`ConfigError`]: all problems of a configuration at once, each with its place and with what is accepted.

use super::tree::Origin;
use std::fmt;

/// Why a configuration cannot be used. It holds at least one [`Problem`], and its text has one line for each.
///
/// It never shows a secret: it leaves out the values of settings that hold a secret, or may hold one by mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: Option<String>,
    problems: Vec<Problem>,
}

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(super) variable: Option<String>,
    pub(super) line: Option<usize>,
    pub(super) path: String,
    pub(super) text: String,
}

impl ConfigError {
    pub(super) fn new(file: Option<&str>, problems: Vec<Problem>) -> Self {
        Self { file: file.map(str::to_owned), problems }
    }

    /// All problems, in the order of the file's lines. Those of environment variables come last.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Problem {
    /// The setting, as it is written in the file: `connectors.redis.operation_timeout`. Empty where no setting is concerned: the text
    /// cannot be read, or a variable names no setting.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The line of the file, counted from 1, if it is known.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The environment variable that gave the value, if one did.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        self.variable.as_deref()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.variable, self.line) {
            (Some(variable), _) => write!(f, "environment variable {variable}: ")?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        let space = if self.path.is_empty() { "" } else { " " };
        write!(f, "{}{space}{}", self.path, self.text)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            if let (Some(file), None) = (&self.file, &problem.variable) {
                write!(f, "{file}: ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The problems that are found while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<(Origin, String)>);

impl Problems {
    /// `text` goes on after the path.
    pub(super) fn add(&mut self, origin: &Origin, text: impl Into<String>) {
        self.0.push((origin.clone(), text.into()));
    }
}
