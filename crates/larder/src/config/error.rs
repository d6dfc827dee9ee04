//! What is wrong with a configuration: all of it at once, each with where it stands and what would be right.

use super::tree::Origin;
use std::fmt;

/// Why a configuration cannot be used. Holds at least one [`Problem`]; its text has one line for each.
///
/// No secret is ever part of it: the values of settings that hold one, or might by mistake, are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: Option<String>,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
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

    /// Everything that was found, in the order of the file's lines; what environment variables did comes last.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Problem {
    /// The setting, as it is written in the file: `connectors.redis.operation_timeout`. Empty where the text as a whole cannot
    /// be read.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The line of the file, counted from 1, where it is known.
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

/// Collects what is wrong while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<(Origin, String)>);

impl Problems {
    /// `text` goes on after the path.
    pub(super) fn add(&mut self, origin: &Origin, text: impl Into<String>) {
        self.0.push((origin.clone(), text.into()));
    }
}
