//! Connectors by name: a connector is a named instance of a kind, so that two Redis servers are two names.

use crate::connector::memory::MemoryOptions;
use crate::connector::redis::RedisOptions;
use crate::nearest::fold;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What a connector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ConnectorKind {
    /// Nothing is kept: a cache on it is switched off. Its name is `none`, or `noop`.
    Noop,
    /// This process.
    Memory,
    /// A Redis or Valkey server.
    Redis,
    /// A PostgreSQL database; this version has no such connector yet.
    Postgres,
    /// A connector that the program brings along: see [`CachesBuilder::connector`](crate::CachesBuilder::connector).
    Own,
}

impl ConnectorKind {
    /// The name as it stands in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Noop => "none",
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Own => "own",
        }
    }

    /// The kind that connectors of this name have: the name is that of a kind.
    pub(crate) fn of_name(name: &ConnectorName) -> Option<Self> {
        [Self::Memory, Self::Redis, Self::Postgres].into_iter().find(|kind| name.folded() == kind.name())
    }
}

impl fmt::Display for ConnectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a connector. As in the names of caches, case, `_` and `-` make no difference.
///
/// ```
/// use larder::ConnectorName;
///
/// assert_eq!(ConnectorName::from("my_sessions"), ConnectorName::from("My-Sessions"));
/// ```
#[derive(Clone)]
pub struct ConnectorName {
    text: Arc<str>,
    folded: Arc<str>,
}

impl ConnectorName {
    /// The name of the connector that keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::from(ConnectorKind::Noop.name())
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name as it is compared.
    pub(crate) fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether it says that nothing is kept: `none`, or `noop`.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self.folded(), "none" | "noop")
    }
}

impl From<&str> for ConnectorName {
    fn from(name: &str) -> Self {
        Self { text: name.into(), folded: fold(name).into() }
    }
}

impl From<String> for ConnectorName {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<&Self> for ConnectorName {
    fn from(name: &Self) -> Self {
        name.clone()
    }
}

impl PartialEq for ConnectorName {
    fn eq(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

impl Eq for ConnectorName {}

impl Hash for ConnectorName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded.hash(state);
    }
}

impl PartialOrd for ConnectorName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ConnectorName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded.cmp(&other.folded)
    }
}

impl fmt::Display for ConnectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ConnectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// The options of a connector, by its kind.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConnectorOptions {
    /// Nothing is kept.
    Noop,
    /// This process.
    Memory(MemoryOptions),
    /// A Redis or Valkey server.
    Redis(Box<RedisOptions>),
    /// A PostgreSQL database; this version has no such connector yet.
    Postgres,
    /// A connector that the program brings along.
    Own,
}

impl ConnectorOptions {
    /// The kind of connector that they are for.
    #[must_use]
    pub fn kind(&self) -> ConnectorKind {
        match self {
            Self::Noop => ConnectorKind::Noop,
            Self::Memory(_) => ConnectorKind::Memory,
            Self::Redis(_) => ConnectorKind::Redis,
            Self::Postgres => ConnectorKind::Postgres,
            Self::Own => ConnectorKind::Own,
        }
    }
}

impl From<MemoryOptions> for ConnectorOptions {
    fn from(options: MemoryOptions) -> Self {
        Self::Memory(options)
    }
}

impl From<RedisOptions> for ConnectorOptions {
    fn from(options: RedisOptions) -> Self {
        Self::Redis(options.into())
    }
}
