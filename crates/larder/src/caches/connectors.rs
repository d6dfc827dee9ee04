//! Connectors by name. A connector is a named instance of a kind, so two Redis servers have two names.

use super::tiers::TierOptions;
use crate::connector::memory::MemoryOptions;
use crate::connector::postgres::PostgresOptions;
use crate::connector::redis::RedisOptions;
use crate::nearest::fold;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The kind of a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ConnectorKind {
    /// Keeps nothing: a cache on it is switched off. Its name is `none`, or `noop`.
    Noop,
    /// Keeps objects in this process.
    Memory,
    /// A Redis or Valkey server.
    Redis,
    /// Memory of this process in front of a Redis or Valkey server.
    Tiered,
    /// A PostgreSQL database.
    Postgres,
    /// A connector that the program provides: see [`CachesBuilder::connector`](crate::CachesBuilder::connector).
    Own,
}

impl ConnectorKind {
    /// The name of the kind in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Noop => "none",
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Tiered => "tiered",
            Self::Postgres => "postgres",
            Self::Own => "own",
        }
    }

    /// The kinds whose names only connectors of the kind can have.
    pub(crate) const NAMES: [Self; 4] = [Self::Memory, Self::Redis, Self::Tiered, Self::Postgres];

    /// The kind that a connector of this name must have, because the name is that of a kind.
    pub(crate) fn of_name(name: &ConnectorName) -> Option<Self> {
        Self::NAMES.into_iter().find(|kind| name.folded() == kind.name())
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

    /// The name in the form in which names are compared.
    pub(crate) fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether this is the name of the connector that keeps nothing: `none`, or `noop`.
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
    /// Keeps nothing.
    Noop,
    /// Keeps objects in this process.
    Memory(MemoryOptions),
    /// A Redis or Valkey server.
    Redis(Box<RedisOptions>),
    /// Memory of this process in front of a Redis or Valkey server.
    Tiered(TierOptions),
    /// A PostgreSQL database.
    Postgres(Box<PostgresOptions>),
    /// A connector that the program provides.
    Own,
}

impl ConnectorOptions {
    /// The kind of connector that the options are for.
    #[must_use]
    pub fn kind(&self) -> ConnectorKind {
        match self {
            Self::Noop => ConnectorKind::Noop,
            Self::Memory(_) => ConnectorKind::Memory,
            Self::Redis(_) => ConnectorKind::Redis,
            Self::Tiered(_) => ConnectorKind::Tiered,
            Self::Postgres(_) => ConnectorKind::Postgres,
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

impl From<TierOptions> for ConnectorOptions {
    fn from(options: TierOptions) -> Self {
        Self::Tiered(options)
    }
}

impl From<PostgresOptions> for ConnectorOptions {
    fn from(options: PostgresOptions) -> Self {
        Self::Postgres(options.into())
    }
}
