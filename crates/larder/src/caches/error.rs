//! Why caches cannot be opened.

#[cfg(doc)]
use super::CachesBuilder;
use super::connectors::{ConnectorKind, ConnectorName};
#[cfg(feature = "postgres")]
use crate::connector::postgres::PostgresError;
#[cfg(feature = "redis")]
use crate::connector::redis::RedisError;
use crate::option_error::{OptionError, shown};
use std::error::Error;
use std::sync::Arc;

/// Why a cache cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration does not name the cache, and has no default connector.
    #[error(
        "the cache `{cache}` is not in the configuration, which has {}{}; add `{cache}` with its `connector` \
         under `caches`, or set `defaults.connector`",
        listed(.configured),
        .nearest.as_ref().map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
    )]
    NotConfigured {
        /// The cache that was asked for.
        cache: String,
        /// The caches that are configured.
        configured: Vec<String>,
        /// The configured name that is most similar, if one is similar enough.
        nearest: Option<String>,
    },
    /// The cache is open for another entry type. Two types in one cache would evict each other's objects.
    #[error(
        "the cache `{cache}` is open for the entry type {open}, so it cannot be opened for {asked}; give one of them another cache"
    )]
    OtherEntry {
        /// The cache.
        cache: String,
        /// The entry type it is open for.
        open: &'static str,
        /// The entry type that was asked for.
        asked: &'static str,
    },
    /// A cache, a connector or a feed has a name that it cannot have, or that another one has.
    #[error("the {what} {} {problem}", shown(.name))]
    Name {
        /// `cache`, `connector` or `feed`.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong, and what is accepted. The text continues the sentence after the name.
        problem: String,
    },
    /// A cache names a connector that does not exist.
    #[error(
        "the cache `{cache}` is on the connector {}, which is not there{}: there are {}; add it to the builder, or to the configuration \
         under `connectors`",
        shown(.connector.as_str()),
        .nearest.as_ref().map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default(),
        listed(.known)
    )]
    UnknownConnector {
        /// The cache.
        cache: String,
        /// The name that the cache gives.
        connector: ConnectorName,
        /// The connectors that exist.
        known: Vec<String>,
        /// The existing name that is most similar, if one is similar enough.
        nearest: Option<String>,
    },
    /// larder was built without this connector, or nothing says where its server is, or the program has to provide it.
    #[error("the cache `{cache}` is on the connector `{connector}`, {reason}")]
    NoConnector {
        /// The cache.
        cache: String,
        /// The connector.
        connector: ConnectorName,
        /// The kind of the connector.
        kind: ConnectorKind,
        /// What is wrong. The text continues the sentence after the name.
        reason: String,
    },
    /// A name, an age or an option of a cache cannot be used.
    #[error("the cache {} cannot be opened: {error}", shown(.cache))]
    Option {
        /// The cache.
        cache: String,
        /// What is wrong.
        error: OptionError,
    },
    /// An option of a connector cannot be used.
    #[error("the connector `{connector}` cannot be opened: {error}")]
    ConnectorOption {
        /// The connector.
        connector: ConnectorName,
        /// What is wrong.
        error: OptionError,
    },
    /// A tiered connector is over a connector that does not exist, or that it cannot be over.
    #[error("the connector `{connector}` is over the connector {}, {problem}", shown(.over.as_str()))]
    Tier {
        /// The tiered connector.
        connector: ConnectorName,
        /// The connector that it is over.
        over: ConnectorName,
        /// What is wrong, and what is accepted. The text continues the sentence after the name.
        problem: String,
    },
    /// A feed cannot be used: its connector is not there or no database, or an option or a source of it cannot be used.
    #[error("the feed `{feed}` {problem}")]
    Feed {
        /// The feed.
        feed: String,
        /// What is wrong, and what is accepted. The text continues the sentence after the name.
        problem: String,
    },
    /// A cache cannot follow the feed that it names, or the sources of a feed do not fit the cache.
    #[error("the cache `{cache}` follows the feed {}, {problem}", shown(.feed))]
    Follow {
        /// The cache.
        cache: String,
        /// The feed.
        feed: String,
        /// What is wrong, and what is accepted. The text continues the sentence after the name.
        problem: String,
    },
    /// The sources of a feed name the cache, or one of its indexes, by a name that it does not have. So the triggers would tell nobody.
    #[error("the cache `{cache}` cannot be opened: the source `{table}` of the feed `{feed}` {problem}")]
    Source {
        /// The cache.
        cache: String,
        /// The feed.
        feed: String,
        /// The table.
        table: String,
        /// What is wrong, and what to give. The text continues the sentence after the name.
        problem: String,
    },
    /// A connector that the program provides ([`CachesBuilder::connector`]) could not be made.
    #[error("the cache `{cache}` cannot be opened on the connector `{connector}`: {source}")]
    Own {
        /// The cache.
        cache: String,
        /// The connector.
        connector: ConnectorName,
        /// What the program's function returned.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The connector for a server cannot be made.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The connector for a database cannot be made.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// There is no Tokio runtime. Connections and background work run in tasks.
    #[error("caches are opened outside a Tokio runtime; open them inside one")]
    NoRuntime,
    /// These caches were shut down.
    #[error("the cache `{cache}` was asked for after the shutdown; open it before, or make new caches")]
    ShutDown {
        /// The cache.
        cache: String,
    },
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "no caches".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}
