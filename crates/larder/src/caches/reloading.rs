//! [`ReloadError`]: which files could not be used when they were read again.

use super::ConnectorName;
use std::fmt;

/// Certificates that cannot be used, by connector. Those that were read before stay in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadError {
    pub(super) unusable: Vec<(ConnectorName, String)>,
}

impl ReloadError {
    /// The connectors, and what is wrong with the files of each.
    pub fn unusable(&self) -> impl Iterator<Item = (&ConnectorName, &str)> {
        self.unusable.iter().map(|(connector, why)| (connector, why.as_str()))
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("certificates cannot be used, and those that were read before stay in use: ")?;
        for (place, (connector, why)) in self.unusable().enumerate() {
            let comma = if place > 0 { "; " } else { "" };
            write!(f, "{comma}{connector}: {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ReloadError {}
