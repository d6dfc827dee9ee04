//! Where the demo's objects are stored: in this process, on a server that the demo starts, or on a server that already runs.

use super::instance::Instance;
use super::leftovers;
use super::node::{Node, NodeError};
use super::own_server::{OwnServer, OwnServerError, Servers};
use larder::breaker::BreakerOptions;
use larder::config::ConfigError;
use larder::connector::postgres::{self, PostgresOptions};
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{InspectError, Inspector};
use larder::{Config, ConnectorName, ConnectorOptions, Entry, OptionError};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Where the user wants objects to be stored.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// The memory connector.
    Memory,
    /// Servers of the demo's own. Without a program: the first one that is found.
    OwnRedis { program: Option<PathBuf>, servers: Servers, through: Through },
    /// A server that already runs, by its URL.
    Redis { url: String, through: Through },
    /// The postgres connector, on a server of the demo's own. `None`: the programs of the newest version that is found.
    OwnPostgres(Option<PathBuf>),
    /// The postgres connector, in a database that is already there, by its URL.
    Postgres(String),
    /// The connector that a configuration gives the cache `instance`.
    Configured(PathBuf),
}

/// The connector by which nodes use a Redis server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// The redis connector.
    Redis,
    /// The tiered connector: each node has memory in front of the server.
    Tiered,
}

/// Where objects are stored.
pub(crate) struct Backend {
    place: Place,
    server: Option<OwnServer>,
    name: String,
    /// The configuration file that leads to the demo's own servers.
    file: Option<String>,
}

enum Place {
    Config(Box<Config>),
    Database { options: Box<PostgresOptions>, cache: String },
}

/// Why there is nowhere to store objects.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    #[error("{0}")]
    Config(ConfigError),
    #[error("--redis{reason}")]
    Url { reason: String },
    #[error("--postgres: {0}")]
    Database(OptionError),
    #[error(
        "--config: the cache is in PostgreSQL there, where the demo's objects would be among those of a service; give --postgres URL instead, so that \
         they are in a cache of their own"
    )]
    ConfiguredDatabase,
    #[error(transparent)]
    Server(#[from] OwnServerError),
    #[error("{0}")]
    Unreachable(String),
    #[error(transparent)]
    Node(#[from] NodeError),
}

type Variables = Vec<(OsString, OsString)>;

impl Backend {
    /// `story`: the breaker closes sooner than a service would want, so that the story takes seconds; and a Redis of the demo's own can save
    /// snapshots.
    pub(crate) async fn open(wanted: Wanted, story: bool) -> Result<Self, BackendError> {
        match wanted {
            Wanted::Memory => {
                let file = format!("caches:\n  {}: {{ connector: memory }}\n", Instance::CACHE);
                let config = Config::from_yaml(&file).map_err(BackendError::Config)?;
                Ok(Self { file: Some(file), ..Self::configured(config, None, "memory".to_owned()) })
            }
            Wanted::OwnRedis { program, servers, through } => {
                let server = OwnServer::redis(program, servers, story).await?;
                let file = file(through, &server.settings().unwrap_or_default());
                let config = Config::from_yaml_with(&file, overrides(MAIN, story)).map_err(BackendError::Config)?;
                let name = through.named(server.name());
                Ok(Self { file: Some(file), ..Self::configured(config, Some(server), name) })
            }
            Wanted::Redis { url, through } => {
                let mut variables = overrides(MAIN, story);
                variables.push((variable(MAIN, "URL"), url.into()));
                let config = Config::from_yaml_with(&file(through, ""), variables).map_err(|error| bad_url(&error))?;
                let name = server_of(&config).map_or_else(String::new, |(_, redis)| through.named(named(redis)));
                Ok(Self::configured(config, None, name))
            }
            Wanted::OwnPostgres(folder) => {
                let server = OwnServer::postgres(folder).await?;
                let (dsn, name) = (server.address(), server.name());
                Self::in_database(&dsn.to_string_lossy(), story, Some(server), |_| name)
            }
            Wanted::Postgres(url) => {
                Self::in_database(&url, story, None, |options| format!("the database {}", options.place()))
            }
            Wanted::Configured(file) => {
                let mut variables: Variables = std::env::vars_os().collect();
                let config = Config::load_with(&file, variables.clone()).map_err(BackendError::Config)?;
                let connector = server_of(&config).map_or_else(|| "redis".to_owned(), |(name, _)| name.to_string());
                let own = overrides(&connector, story);
                variables.retain(|(name, _)| own.iter().all(|(other, _)| other != name));
                variables.extend(own);
                let config = Config::load_with(file, variables).map_err(BackendError::Config)?;
                let cache = config.cache(Instance::CACHE);
                let connector = cache.as_ref().and_then(|cache| config.connector(cache.connector.clone()));
                let through = match connector {
                    Some(ConnectorOptions::Postgres(_)) => return Err(BackendError::ConfiguredDatabase),
                    Some(ConnectorOptions::Tiered(_)) => Through::Tiered,
                    _ => Through::Redis,
                };
                let name = match (server_of(&config), cache) {
                    (Some((_, redis)), _) => through.named(named(redis)),
                    (None, Some(cache)) => cache.connector.to_string(),
                    (None, None) => String::new(),
                };
                Ok(Self::configured(config, None, name))
            }
        }
    }

    fn configured(config: Config, server: Option<OwnServer>, name: String) -> Self {
        Self { place: Place::Config(Box::new(config)), server, name, file: None }
    }

    fn in_database(
        url: &str,
        story: bool,
        server: Option<OwnServer>,
        name: impl FnOnce(&PostgresOptions) -> String,
    ) -> Result<Self, BackendError> {
        let mut options = PostgresOptions::from_url(url).map_err(BackendError::Database)?;
        if story {
            let breaker = BreakerOptions::for_server()
                .open(Duration::from_millis(300))
                .open_max(Duration::from_millis(600))
                .ramp(Duration::from_millis(500))
                .slow_call(Duration::ZERO);
            options = options.operation_timeout(Duration::from_millis(500)).breaker(breaker);
        }
        let name = name(&options);
        // A random name, so that the demo's objects and those of others are never mixed up.
        let cache = format!("larder-demo-{:08x}", fastrand::u32(..));
        Ok(Self { place: Place::Database { options: Box::new(options), cache }, server, name, file: None })
    }

    /// Opens a node. On a server, it has connections of its own.
    pub(crate) async fn node(&self) -> Result<Node, BackendError> {
        Ok(match &self.place {
            Place::Config(config) => Node::open((**config).clone()).await?,
            Place::Database { options, cache } => Node::on_database((**options).clone(), cache)?,
        })
    }

    /// Whether nodes share what they store.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.place, Place::Database { .. }) || self.redis().is_some()
    }

    /// The server, if it is the demo's own.
    pub(crate) fn server(&self) -> Option<&OwnServer> {
        self.server.as_ref()
    }

    /// The kind of the connector.
    pub(crate) fn connector(&self) -> &'static str {
        let Place::Config(config) = &self.place else { return "postgres" };
        let connector = config.cache(Instance::CACHE).map(|cache| cache.connector);
        connector.and_then(|name| config.connector(name)).map_or("none", |options| options.kind().name())
    }

    /// The name for people: `memory`, `Redis 7.0.15, started here`, `the server at localhost:6379`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The configuration file with which another program would use the demo's own servers. `None`: they are not the demo's own, or PostgreSQL.
    pub(crate) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Checks that the server answers. A service can start without its server, and reads it later. But a demo without its server would show
    /// nothing.
    pub(crate) async fn reach(&self) -> Result<(), BackendError> {
        if let Place::Database { options, .. } = &self.place {
            // The error names the database.
            let database = postgres::inspect::Inspector::open((**options).clone()).await;
            let reached = match &database {
                Ok(database) => database.ping().await,
                Err(error) => return Err(BackendError::Unreachable(error.to_string())),
            };
            return reached.map_err(|error| BackendError::Unreachable(error.to_string()));
        }
        let Some(config) = self.redis() else { return Ok(()) };
        Inspector::open(config.clone()).await.map(drop).map_err(|error| {
            BackendError::Unreachable(match error {
                InspectError::Server { server, reason } => {
                    format!("cannot use the server at {server}: {reason}; start it, or correct its address, user and password")
                }
                other => other.to_string(),
            })
        })
    }

    /// Removes the demo's keys from a server that is not its own, and forgets the demo's cache in a database that is not its own. To be called
    /// after the nodes have ended.
    pub(crate) async fn clean_up(&self) {
        if self.server.is_some() {
            return;
        }
        if let Place::Database { options, cache } = &self.place
            && let Err(error) = leftovers::forget((**options).clone(), cache).await
        {
            tracing::warn!(database = options.place(), cache, "the demo's cache could not be forgotten: {error}");
        }
        let Some(config) = self.redis() else { return };
        if let Err(error) = leftovers::remove(config).await {
            tracing::warn!(server = %config.place(), prefix = config.prefix, "the demo's keys could not be removed: {error}");
        }
    }

    /// The Redis or Valkey servers that the cache is on, directly or by a tier.
    pub(crate) fn redis(&self) -> Option<&RedisOptions> {
        let Place::Config(config) = &self.place else { return None };
        server_of(config).map(|(_, redis)| redis)
    }
}

impl Through {
    /// The name, for people, of where objects are: on this server.
    fn named(self, server: String) -> String {
        match self {
            Self::Redis => server,
            Self::Tiered => format!("memory in front of {server}"),
        }
    }

    /// The name of the connector in the demo's own file.
    fn connector(self) -> &'static str {
        match self {
            Self::Redis => MAIN,
            Self::Tiered => "near",
        }
    }
}

/// The server that the cache of the demo is on, directly or by a tier, and the name of its connector.
fn server_of(config: &Config) -> Option<(ConnectorName, &RedisOptions)> {
    match config.below(config.cache(Instance::CACHE)?.connector)? {
        (name, ConnectorOptions::Redis(redis)) => Some((name, redis)),
        _ => None,
    }
}

fn named(config: &RedisOptions) -> String {
    let what = if config.cluster.is_some() { "cluster" } else { "server" };
    format!("the {what} at {}", config.place())
}

/// The name of the redis connector in the demo's own file.
const MAIN: &str = "main";

/// The configuration file that moves the demo from one kind of server to another: `servers` says where they are, and `through` by which connector
/// the cache uses them.
fn file(through: Through, servers: &str) -> String {
    let (separator, connector) = (if servers.is_empty() { "" } else { ", " }, through.connector());
    format!(
        "connectors:\n  {MAIN}: {{ kind: redis{separator}{servers} }}\n  near: {{ kind: tiered, over: {MAIN} }}\n\
         caches:\n  {}: {{ connector: {connector} }}\n",
        Instance::CACHE
    )
}

/// The environment variable of a setting of a connector.
fn variable(connector: &str, setting: &str) -> OsString {
    let connector = connector.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("LARDER_CONNECTORS_{connector}_{setting}").into()
}

/// The settings that the demo always overrides.
fn overrides(connector: &str, story: bool) -> Variables {
    // A random prefix, so that the demo's objects and those of others are never mixed up.
    let prefix = format!("larder-demo-{:08x}", fastrand::u32(..));
    let story = story.then_some([
        ("BREAKER_OPEN", "300ms"),
        ("BREAKER_OPEN_MAX", "600ms"),
        ("BREAKER_RAMP", "500ms"),
        // On a busy machine, a server that answers must not be given up.
        ("OPERATION_TIMEOUT", "500ms"),
        ("BREAKER_SLOW_CALL", "0"),
    ]);
    let settings = [("PREFIX", prefix.as_str())].into_iter().chain(story.into_iter().flatten());
    settings.map(|(name, value)| (variable(connector, name), value.into())).collect()
}

/// Reports problems under the name of the option, not of the variable that the option was turned into.
fn bad_url(error: &ConfigError) -> BackendError {
    let reasons = error.problems().iter().map(|problem| {
        let text = problem.to_string();
        text.split_once(problem.path()).map_or(text.clone(), |(_, reason)| reason.to_owned())
    });
    BackendError::Url { reason: reasons.collect::<Vec<_>>().join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn on(url: &str) -> Result<Backend, BackendError> {
        Backend::open(Wanted::Redis { url: url.to_owned(), through: Through::Redis }, true).await
    }

    #[tokio::test]
    async fn a_tier_is_in_front_of_the_server_and_each_node_has_its_own() {
        let wanted = Wanted::Redis { url: "redis://cache.example".to_owned(), through: Through::Tiered };
        let tiered = Backend::open(wanted, true).await.unwrap();
        assert_eq!((tiered.connector(), tiered.is_shared()), ("tiered", true));
        assert_eq!(tiered.name(), "memory in front of the server at cache.example:6379");
        assert_eq!(tiered.redis().unwrap().address.to_string(), "cache.example:6379");
    }

    #[tokio::test]
    async fn every_demo_has_keys_of_its_own() {
        let (one, other) = (on("redis://cache.example").await.unwrap(), on("redis://cache.example").await.unwrap());
        assert_ne!(one.redis().unwrap().prefix, other.redis().unwrap().prefix);
        assert_eq!(one.name(), "the server at cache.example:6379");
        assert_eq!(one.connector(), "redis");
    }

    #[tokio::test]
    async fn a_bad_url_is_an_error_that_keeps_its_password() {
        for url in ["http://user:secret@host", "redis://user:secret@host:port", "redis://user:secret@host/database"] {
            let error = on(url).await.err().unwrap().to_string();
            assert!(!error.contains("secret") && error.starts_with("--redis ") && error.contains("give"), "{error}");
        }
    }
}
