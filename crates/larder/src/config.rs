//! The configuration: one file in YAML or TOML, and environment variables that override it. Secrets come from files or variables, and
//! are never shown.
//!
//! ```text
//!   file ─────┐                    zitadel.rs: translates Zitadel's block
//!   text.rs ──┴─► Node ─► overlay ─► sections ─► Config ─► effective()
//!   variables ───────────────┘        connectors.rs: memory.rs, redis.rs, tiered.rs, postgres.rs, breaker.rs; feed.rs; cache.rs
//! ```
//!
//! The sections become the same options that code can give ([`CachesBuilder`](crate::CachesBuilder)). The options check themselves.
//!
//! All problems are reported at once, each with its path, its line and what is accepted. A setting that merely has no effect gets a
//! [`Note`]. The file `caches.example.yaml` at the root of the repository shows every setting with its default.
//!
//! ```
//! use larder::config::Config;
//!
//! let config = Config::from_yaml(
//!     "
//!     connectors:
//!       redis: { url: 'redis://cache.internal:6379/0', operation_timeout: 50ms }
//!     defaults: { connector: redis, max_age: 1h }
//!     caches:
//!       instance: { last_use_age: 10m }
//!     ",
//! )?;
//! assert_eq!(config.cache("instance").unwrap().max_age.as_secs(), 3600);
//!
//! let error = Config::from_yaml("connectors: { redis: { operation_timout: 50ms } }").unwrap_err();
//! assert!(error.to_string().starts_with(
//!     "line 1: connectors.redis.operation_timout is no setting; did you mean `operation_timeout`?"
//! ));
//! # Ok::<(), larder::config::ConfigError>(())
//! ```

mod breaker;
mod cache;
mod connectors;
mod effective;
mod environment;
mod error;
mod feed;
mod loading;
mod memory;
mod note;
mod opening;
mod postgres;
mod redis;
mod sentinel;
mod setting;
mod size;
mod text;
mod tiered;
mod tls;
mod tree;
#[cfg(feature = "zitadel")]
mod zitadel;

pub use effective::Effective;
pub use error::{ConfigError, Problem};
pub use note::Note;

use crate::caches::plan::Plan;
use crate::caches::{CacheOptions, ConnectorName, ConnectorOptions, DatabaseFeed, TierOptions};
use crate::connector::memory::MemoryOptions;
use crate::connector::postgres::options::PostgresOptions;
use crate::connector::redis::options::RedisOptions;
use connectors::Unaddressed;
use environment::Environment;
use error::Problems;
use std::ffi::OsStr;
use std::path::Path;
use text::Format;
use tree::{Node, Origin, Value};

/// Where each cache keeps its objects, for how long, and what the connectors need.
///
/// [`Caches`](crate::Caches) opens caches from it.
#[derive(Clone, Debug)]
pub struct Config {
    plan: Plan,
    unaddressed: Unaddressed,
    notes: Vec<Note>,
}

/// Puts every cache on the memory connector, without age limits. This is for programs without a configuration file.
///
/// A file has no such default: no other node can invalidate a cache in memory. So a file must say which caches are in memory, for
/// example by `defaults: { connector: memory }`.
impl Default for Config {
    fn default() -> Self {
        let mut plan = Plan::default();
        plan.default_connector = Some(ConnectorName::from("memory"));
        Self { plan, unaddressed: Unaddressed::default(), notes: Vec::new() }
    }
}

impl Config {
    /// Loads a file, and lets the environment variables of this process override it. The extension says whether the file is YAML
    /// (`.yaml`, `.yml`) or TOML (`.toml`).
    ///
    /// A variable is named `LARDER_` and the path of the setting in upper case, joined by `_`:
    /// `LARDER_CONNECTORS_REDIS_URL`, `LARDER_CACHES_INSTANCE_MAX_AGE`. For Zitadel's own file, the variables
    /// that Zitadel reads (`ZITADEL_CACHES_…`) apply as well.
    ///
    /// # Errors
    ///
    /// The file cannot be read; or all problems of the file and the variables.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::load_with(path, std::env::vars_os())
    }

    /// Like [`load`](Self::load), with these variables in place of those of the process.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_with<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        path: impl AsRef<Path>,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let unreadable = |text: String| {
            ConfigError::new(Some(&file), vec![Problem { variable: None, line: None, path: String::new(), text }])
        };
        let format = match path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase).as_deref() {
            #[cfg(feature = "yaml")]
            Some("yaml" | "yml") => Format::Yaml,
            #[cfg(not(feature = "yaml"))]
            Some("yaml" | "yml") => return Err(unreadable(without("YAML", "yaml"))),
            #[cfg(feature = "toml")]
            Some("toml") => Format::Toml,
            #[cfg(not(feature = "toml"))]
            Some("toml") => return Err(unreadable(without("TOML", "toml"))),
            _ => {
                return Err(unreadable(
                    "is neither YAML nor TOML by its name: call it .yaml, .yml or .toml".to_owned(),
                ));
            }
        };
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        Self::parse(Some(&file), &text, format, &Environment::new(variables))
    }

    /// Reads a configuration in YAML, without environment variables.
    ///
    /// # Errors
    ///
    /// All problems of the text.
    #[cfg(feature = "yaml")]
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        Self::parse(None, text, Format::Yaml, &Environment::default())
    }

    /// Reads a configuration in TOML, without environment variables.
    ///
    /// # Errors
    ///
    /// All problems of the text.
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::parse(None, text, Format::Toml, &Environment::default())
    }

    /// Like [`from_yaml`](Self::from_yaml), with environment variables that override the text.
    ///
    /// # Errors
    ///
    /// All problems of the text and the variables.
    #[cfg(feature = "yaml")]
    pub fn from_yaml_with<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        text: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        Self::parse(None, text, Format::Yaml, &Environment::new(variables))
    }

    /// Like [`from_toml`](Self::from_toml), with environment variables that override the text.
    ///
    /// # Errors
    ///
    /// All problems of the text and the variables.
    #[cfg(feature = "toml")]
    pub fn from_toml_with<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        text: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        Self::parse(None, text, Format::Toml, &Environment::new(variables))
    }

    /// Reads a configuration that consists of environment variables only.
    ///
    /// # Errors
    ///
    /// All problems of the variables.
    pub fn from_variables<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        Self::parse(None, "", Format::ANY, &Environment::new(variables))
    }

    fn parse(file: Option<&str>, text: &str, format: Format, environment: &Environment) -> Result<Self, ConfigError> {
        let root = text::parse(text, format).map_err(|(line, text)| {
            let text = format!("cannot be read as {}: {text}", format.name());
            ConfigError::new(file, vec![Problem { variable: None, line, path: String::new(), text }])
        })?;
        Self::read(root, environment).map_err(|problems| {
            let mut found: Vec<Problem> = Vec::new();
            for (Origin { path, variable }, mut problem) in problems.0 {
                // To find a line, the file is parsed again. So only the first 100 problems get a line.
                let line = if variable.is_none() && found.len() < 100 { text::line(text, format, &path) } else { None };
                if path.is_empty() && variable.is_none() {
                    problem.insert_str(0, "the configuration ");
                }
                let problem = Problem { variable, line, path: tree::shown_path(&path), text: problem };
                if !found.contains(&problem) {
                    found.push(problem);
                }
            }
            found.sort_by_key(|problem| (problem.variable.is_some(), problem.line));
            ConfigError::new(file, found)
        })
    }

    fn read(mut root: Node, environment: &Environment) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut notes = Vec::new();
        #[cfg(feature = "zitadel")]
        let (is_zitadel, disabled) = match zitadel::translate(&mut root, environment, &mut problems, &mut notes) {
            Some(disabled) => (true, disabled),
            None => (false, Vec::new()),
        };
        #[cfg(not(feature = "zitadel"))]
        let (is_zitadel, disabled): (bool, Vec<connectors::Disabled>) = (false, Vec::new());
        #[cfg(not(feature = "zitadel"))]
        if let Some(block) = root.child("Caches") {
            let text = "is Zitadel's, and larder was built without its feature `zitadel`: turn that on in `Cargo.toml`";
            problems.add(&block.origin, text);
            root.remove(&[], &|name, _| name == "Caches");
        }
        environment::overlay(&mut root, environment, &mut problems);
        let nothing = |name: &str| Node { origin: root.origin.child(name), value: Value::Nothing };
        let section = |parent: &Node, name: &str| {
            parent
                .child(name)
                .cloned()
                .unwrap_or_else(|| Node { origin: parent.origin.child(name), value: Value::Nothing })
        };
        setting::read(&root, NONE, &["connectors", "feed", "defaults", "caches"], &mut (), &mut problems);
        let mut plan = Plan::default();
        let connectors_at = section(&root, "connectors");
        let unaddressed = connectors::read(&connectors_at, &mut plan, &mut problems, &mut notes);
        let postgres = ConnectorName::from("postgres");
        if is_zitadel && plan.connector(&postgres).is_none() && !disabled.iter().any(|off| off.0 == postgres) {
            if let Some(node) = connectors_at.child("postgres") {
                let text = format!("{NO_DATABASE}; until then no cache on this connector can be opened");
                notes.push(Note::new(&node.origin, text));
            }
            plan.unaddressed = Some((postgres, NO_DATABASE));
        }
        let feeds_at = section(&root, "feed");
        feed::read_feeds(&feeds_at, &mut plan, &mut problems);
        let defaults_at = section(&root, "defaults");
        cache::read_defaults(&defaults_at, &mut plan, &mut problems);
        let caches_at = root.child("caches").cloned().unwrap_or_else(|| nothing("caches"));
        if !matches!(caches_at.value, Value::Nothing | Value::Map(_)) {
            problems.add(&caches_at.origin, format!("is {}: give a mapping of caches by name", caches_at.kind()));
        }
        for (name, node) in caches_at.children() {
            if let Err(problem) = plan.expect_free_cache(name) {
                problems.add(&node.origin, problem);
                continue;
            }
            let cache = cache::read_cache(node, &plan, &defaults_at.origin, &mut problems);
            let Some(cache) = cache else { continue };
            if let Some(connector) = node.child("connector") {
                connectors::expect_usable(connector, &cache.connector, &plan, &disabled, &mut problems);
            }
            if let Err(problem) = plan.add_cache(name, cache) {
                problems.add(&node.origin, problem);
            }
        }
        if let (Some(name), Some(connector)) = (&plan.default_connector, defaults_at.child("connector")) {
            connectors::expect_usable(connector, name, &plan, &disabled, &mut problems);
        }
        connectors::note_unused(&connectors_at, &plan, &mut notes);
        feed::note_unheard(&feeds_at, &plan, &mut notes);
        if problems.0.is_empty() { Ok(Self { plan, unaddressed, notes }) } else { Err(problems) }
    }

    /// The settings that were accepted and have no effect here, or another one, and what larder does instead.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The whole effective configuration as YAML that can be loaded again. Secrets are hidden.
    ///
    /// ```
    /// let config = larder::Config::default();
    /// let again = larder::Config::from_yaml(&config.effective().to_string())?;
    /// assert_eq!(again.effective().to_string(), config.effective().to_string());
    /// # Ok::<(), larder::config::ConfigError>(())
    /// ```
    #[must_use]
    pub fn effective(&self) -> Effective<'_> {
        Effective(self)
    }

    /// The options of a cache: those that are given under its name (case, `_` and `-` make no difference), or else the defaults.
    /// `None`: the cache is not listed, and the defaults name no connector.
    #[must_use]
    pub fn cache(&self, name: &str) -> Option<CacheOptions> {
        self.plan.cache(name)
    }

    /// The caches that are listed by name, in alphabetical order.
    pub fn caches(&self) -> impl Iterator<Item = (&str, &CacheOptions)> {
        self.plan.caches()
    }

    /// The options of every cache that is not listed by name. `None`: the defaults name no connector.
    #[must_use]
    pub fn unlisted(&self) -> Option<CacheOptions> {
        self.plan.unlisted()
    }

    /// The feeds, in alphabetical order of their names.
    ///
    /// ```
    /// # #[cfg(feature = "yaml")] {
    /// let config = larder::Config::from_yaml(
    ///     "
    ///     connectors: { db: { kind: postgres, url: 'postgres://larder@db.internal/shop' } }
    ///     feed:
    ///       main: { connector: db, sources: { instance: [ { table: app.instances, key: id, index: id } ] } }
    ///     caches: { instance: { connector: memory, feed: main } }
    ///     ",
    /// )?;
    /// let (name, feed) = config.feeds().next().unwrap();
    /// assert_eq!((name, feed.connector.as_str(), feed.sources.all().count()), ("main", "db", 1));
    /// # }
    /// # Ok::<(), larder::config::ConfigError>(())
    /// ```
    pub fn feeds(&self) -> impl Iterator<Item = (&str, &DatabaseFeed)> {
        self.plan.feeds()
    }

    /// The feed of this name, in which case, `_` and `-` make no difference, and its name as it is given.
    #[must_use]
    pub fn feed(&self, name: &str) -> Option<(&str, &DatabaseFeed)> {
        self.plan.feed(name)
    }

    /// The connectors that are given by name, in alphabetical order. The connectors `redis` and `postgres` are left out if their settings
    /// do not say where the server is, and `tiered` if its settings do not say which connector it is over.
    pub fn connectors(&self) -> impl Iterator<Item = (&ConnectorName, &ConnectorOptions)> {
        self.plan.connectors()
    }

    /// The options of the connector of this name. `none` and `memory` are always there.
    ///
    /// ```
    /// # #[cfg(feature = "yaml")] {
    /// use larder::{Config, ConnectorKind};
    ///
    /// let config = Config::from_yaml(
    ///     "
    ///     connectors: { sessions: { kind: redis, address: 'sessions.internal:6379' } }
    ///     caches: { session: { connector: sessions } }
    ///     ",
    /// )?;
    /// let session = config.cache("session").unwrap();
    /// assert_eq!(config.connector(&session.connector).unwrap().kind(), ConnectorKind::Redis);
    /// # }
    /// # Ok::<(), larder::config::ConfigError>(())
    /// ```
    #[must_use]
    pub fn connector(&self, name: impl Into<ConnectorName>) -> Option<&ConnectorOptions> {
        self.plan.connector(&name.into())
    }

    /// The connector that a tiered connector of this name is over, or any other connector of this name itself: where all nodes have the objects.
    ///
    /// ```
    /// # #[cfg(feature = "yaml")] {
    /// let config = larder::Config::from_yaml(
    ///     "
    ///     connectors: { redis: { address: 'cache.internal:6379' }, near: { kind: tiered, over: redis } }
    ///     caches: { instance: { connector: near } }
    ///     ",
    /// )?;
    /// let (name, options) = config.below("near").unwrap();
    /// assert_eq!((name.as_str(), options.kind().name()), ("redis", "redis"));
    /// # }
    /// # Ok::<(), larder::config::ConfigError>(())
    /// ```
    #[must_use]
    pub fn below(&self, name: impl Into<ConnectorName>) -> Option<(ConnectorName, &ConnectorOptions)> {
        let name = name.into();
        let below = self.plan.below(&name).clone();
        self.plan.connector(&below).map(|options| (below, options))
    }

    /// The options of the connector that is called `memory`.
    #[must_use]
    pub fn memory(&self) -> MemoryOptions {
        match self.connector("memory") {
            Some(ConnectorOptions::Memory(options)) => options.clone(),
            _ => MemoryOptions::new(),
        }
    }

    /// The options of the connector that is called `redis`. `None`: they do not say where the server is.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisOptions> {
        match self.connector("redis") {
            Some(ConnectorOptions::Redis(options)) => Some(options),
            _ => None,
        }
    }

    /// The options of the connector that is called `tiered`. `None`: they do not say which connector it is over.
    #[must_use]
    pub fn tiered(&self) -> Option<&TierOptions> {
        match self.connector("tiered") {
            Some(ConnectorOptions::Tiered(options)) => Some(options),
            _ => None,
        }
    }

    /// The options of the connector that is called `postgres`. `None`: they do not say where the database is.
    #[must_use]
    pub fn postgres(&self) -> Option<&PostgresOptions> {
        match self.connector("postgres") {
            Some(ConnectorOptions::Postgres(options)) => Some(options),
            _ => None,
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// The error for a file format that this build cannot read.
#[cfg(not(all(feature = "yaml", feature = "toml")))]
fn without(format: &str, feature: &str) -> String {
    format!("is {format}, and larder was built without its feature `{feature}`: turn that on in `Cargo.toml`")
}

/// Zitadel's postgres connector uses the database of Zitadel itself, which its block does not name.
const NO_DATABASE: &str = "Zitadel keeps these caches in its own database, which the section `Caches` does not name; give the URL of that \
                           database in the environment variable LARDER_CONNECTORS_POSTGRES_URL, or as `URL` in `Connectors.Postgres`";

/// A section that holds other sections only.
const NONE: &[setting::Setting<()>] = &[];

/// The path of every setting. It contains the connectors that are named after their kind, and `<name>` for a cache.
fn known() -> Vec<Vec<&'static str>> {
    let mut paths = Vec::new();
    let mut add = |before: &[&'static str], name: &'static str| paths.push([before, &[name]].concat());
    memory::SETTINGS.iter().for_each(|setting| add(&["connectors", "memory"], setting.name));
    redis::SETTINGS.iter().for_each(|setting| add(&["connectors", "redis"], setting.name));
    tiered::SETTINGS.iter().for_each(|setting| add(&["connectors", "tiered"], setting.name));
    postgres::SETTINGS.iter().for_each(|setting| add(&["connectors", "postgres"], setting.name));
    for connector in ["redis", "postgres"] {
        let at = ["connectors", connector, connectors::BREAKER];
        breaker::SETTINGS.iter().for_each(|setting| add(&at, setting.name));
    }
    add(&["connectors", "redis"], tls::TLS);
    tls::SETTINGS.iter().for_each(|setting| add(&["connectors", "redis", tls::TLS], setting.name));
    let at = ["connectors", "redis", sentinel::SENTINEL];
    sentinel::SETTINGS.iter().for_each(|setting| add(&at, setting.name));
    feed::SETTINGS.iter().for_each(|setting| add(&["feed", "<name>"], setting.name));
    add(&["feed", "<name>"], feed::SOURCES);
    feed::SOURCE.iter().for_each(|setting| add(&["feed", "<name>", feed::SOURCES, "<cache>"], setting.name));
    cache::SETTINGS.iter().for_each(|setting| add(&["defaults"], setting.name));
    cache::SETTINGS.iter().for_each(|setting| add(&["caches", "<name>"], setting.name));
    paths
}
