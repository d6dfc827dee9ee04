//! [`SourceError`]: why sources cannot be looked at or installed.

use super::installed::Refused;

/// Why sources cannot be looked at or installed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A declared table cannot be what it is declared to be.
    #[error("the source `{table}`: {what}")]
    Declared {
        /// The table as it was declared.
        table: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Several declared tables cannot be what they are declared to be. The text has one line for each.
    #[error("{}", lines(.0))]
    Several(Vec<SourceError>),
    /// Larder's own tables are not there, or cannot be used by the user that installs the triggers.
    #[error("{0}")]
    Tables(String),
    /// The database could not be reached, or has refused something.
    #[error("the database: {0}")]
    Database(String),
}

fn lines(errors: &[SourceError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl SourceError {
    /// One error for all. `None`: there are none.
    pub(super) fn all(refused: Vec<Refused>) -> Option<Self> {
        let mut errors: Vec<Self> = refused.into_iter().map(|(_, error)| error).collect();
        if errors.len() > 1 { Some(Self::Several(errors)) } else { errors.pop() }
    }
}

impl From<tokio_postgres::Error> for SourceError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned()))
    }
}
