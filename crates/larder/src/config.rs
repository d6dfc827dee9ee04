//! The configuration: one file in YAML or TOML, environment variables over it, secrets by file or variable and never shown.
//!
//! ```text
//!   file ─────┐                    zitadel.rs: Zitadel's block, put in our words
//!   tree.rs ──┴─► Node ─► overlay ─► sections ─► Config ─► effective()
//!   variables ───────────────┘        setting.rs, memory.rs, redis.rs, breaker.rs, cache.rs
//! ```
//!
//! Everything that is wrong is an error, all of it at once, each with its path, its line and what would be right. What is merely
//! pointless here is a [`Note`]. The file `caches.example.yaml` at the root of the repository shows every setting with its default.
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

mod address;
mod breaker;
mod cache;
mod effective;
mod environment;
mod error;
mod loading;
mod memory;
mod nearest;
mod note;
mod redis;
mod secret;
mod setting;
mod size;
mod tree;
mod zitadel;

pub use address::Address;
pub use breaker::BreakerSettings;
pub use cache::{CacheConfig, ConnectorKind};
pub use effective::Effective;
pub use error::{ConfigError, Problem};
pub use memory::MemoryConfig;
pub use note::Note;
pub use redis::RedisConfig;
pub use secret::Secret;

use crate::options::{self, is_name};
use cache::Defaults;
use environment::Environment;
use error::Problems;
use redis::Redis;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use tree::{Format, Node, Origin, Value};

pub(crate) use nearest::{fold, nearest};

/// Where each cache keeps its objects, for how long, and what the connectors need.
///
/// [`Caches`](crate::Caches) opens caches from it.
#[derive(Clone, Debug)]
pub struct Config {
    memory: MemoryConfig,
    redis: Redis,
    defaults: Defaults,
    caches: BTreeMap<String, CacheConfig>,
    notes: Vec<Note>,
}

/// Every cache on the memory connector, without age limits: for programs that have no configuration file.
///
/// A file has no such default. A cache in memory is one that no other node can invalidate, so whoever writes a file says
/// which ones are, if only by `defaults: { connector: memory }`.
impl Default for Config {
    fn default() -> Self {
        Self {
            memory: MemoryConfig::default(),
            redis: Redis::default(),
            defaults: Defaults { connector: Some(ConnectorKind::Memory), ..Defaults::default() },
            caches: BTreeMap::new(),
            notes: Vec::new(),
        }
    }
}

impl Config {
    /// Loads a file, YAML (`.yaml`, `.yml`) or TOML (`.toml`) by its extension, and applies the environment variables of this
    /// process over it.
    ///
    /// A variable is named `LARDER_` and the path of the setting in upper case, joined by `_`:
    /// `LARDER_CONNECTORS_REDIS_URL`, `LARDER_CACHES_INSTANCE_MAX_AGE`. For a file of Zitadel's, those that Zitadel would read
    /// (`ZITADEL_CACHES_…`) count as well.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with file and variables, or that the file cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::load_with(path, std::env::vars_os())
    }

    /// Like [`load`](Self::load), with these variables instead of the process's own.
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
            Some("yaml" | "yml") => Format::Yaml,
            Some("toml") => Format::Toml,
            _ => {
                return Err(unreadable(
                    "is neither YAML nor TOML by its name: call it .yaml, .yml or .toml".to_owned(),
                ));
            }
        };
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        Self::parse(Some(&file), &text, format, &Environment::new(variables))
    }

    /// Reads a configuration in YAML; no environment variable has a say.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        Self::parse(None, text, Format::Yaml, &Environment::default())
    }

    /// Reads a configuration in TOML; no environment variable has a say.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::parse(None, text, Format::Toml, &Environment::default())
    }

    /// Like [`from_yaml`](Self::from_yaml), with these environment variables over it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with text and variables.
    pub fn from_yaml_with<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        text: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        Self::parse(None, text, Format::Yaml, &Environment::new(variables))
    }

    /// Like [`from_toml`](Self::from_toml), with these environment variables over it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with text and variables.
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
    /// Everything that is wrong with them.
    pub fn from_variables<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        Self::parse(None, "", Format::Yaml, &Environment::new(variables))
    }

    fn parse(file: Option<&str>, text: &str, format: Format, environment: &Environment) -> Result<Self, ConfigError> {
        let root = tree::parse(text, format).map_err(|(line, text)| {
            let text = format!("cannot be read as {}: {text}", if format == Format::Yaml { "YAML" } else { "TOML" });
            ConfigError::new(file, vec![Problem { variable: None, line, path: String::new(), text }])
        })?;
        Self::read(root, environment).map_err(|problems| {
            let mut found: Vec<Problem> = Vec::new();
            for (Origin { path, variable }, mut problem) in problems.0 {
                // Each costs the time of reading the file; nobody reads more than the first few.
                let line = if variable.is_none() && found.len() < 100 { tree::line(text, format, &path) } else { None };
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
        let disabled = zitadel::translate(&mut root, environment, &mut problems, &mut notes);
        environment::overlay(&mut root, environment, &mut problems, &mut notes);
        let nothing = |name: &str| Node { origin: root.origin.child(name), value: Value::Nothing };
        let section = |parent: &Node, name: &str| {
            parent
                .child(name)
                .cloned()
                .unwrap_or_else(|| Node { origin: parent.origin.child(name), value: Value::Nothing })
        };
        setting::read(&root, NONE, &["connectors", "defaults", "caches"], &mut (), &mut problems);
        let connectors = section(&root, "connectors");
        setting::read(&connectors, NONE, &["memory", "redis", "postgres"], &mut (), &mut problems);
        if let Some(postgres) = connectors.child("postgres") {
            notes.push(Note::new(&postgres.origin, NO_POSTGRES));
        }
        let memory = MemoryConfig::read(&section(&connectors, "memory"), &mut problems);
        let redis = Redis::read(&section(&connectors, "redis"), &mut problems);
        let defaults_at = section(&root, "defaults");
        let defaults = Defaults::read(&defaults_at, &mut problems);
        let caches_at = root.child("caches").cloned().unwrap_or_else(|| nothing("caches"));
        // Says so where something is on a connector that cannot be used.
        let unusable = |at: &Origin, kind: ConnectorKind, problems: &mut Problems| {
            if let Some(zitadel::Disabled(_, why)) = disabled.iter().find(|zitadel::Disabled(other, _)| *other == kind)
            {
                problems.add(at, format!("is {kind}, but {why}: set it to true, or give another connector"));
            } else if kind == ConnectorKind::Redis && !redis.addressed {
                problems.add(at, NO_ADDRESS);
            }
        };
        let mut caches: BTreeMap<String, CacheConfig> = BTreeMap::new();
        if !matches!(caches_at.value, Value::Nothing | Value::Map(_)) {
            problems.add(&caches_at.origin, format!("is {}: give a mapping of caches by name", caches_at.kind()));
        }
        for (name, node) in caches_at.children() {
            if !is_name(name) {
                problems.add(&node.origin, format!("is no name for a cache: give {}", options::NAME));
                continue;
            }
            if let Some(other) = caches.keys().find(|other| fold(other) == fold(name)) {
                let text = format!(
                    "names the same cache as `{other}`: case, `_` and `-` make no difference; give one of the two"
                );
                problems.add(&node.origin, text);
                continue;
            }
            let cache = CacheConfig::read(node, &defaults, &defaults_at.origin, &mut problems);
            let Some(cache) = cache else { continue };
            if let Some(connector) = node.child("connector") {
                unusable(&connector.origin, cache.connector, &mut problems);
            }
            caches.insert(name.clone(), cache);
        }
        if let (Some(kind), Some(connector)) = (defaults.connector, defaults_at.child("connector")) {
            unusable(&connector.origin, kind, &mut problems);
        }
        if redis::hidden(&redis.config) {
            let text = "`***` is what larder shows in place of a password; give the password itself";
            notes.push(Note::new(&section(&connectors, "redis").origin.child("password"), text));
        }
        if problems.0.is_empty() { Ok(Self { memory, redis, defaults, caches, notes }) } else { Err(problems) }
    }

    /// What was accepted but has no use here, and what larder does instead.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The whole effective configuration as YAML, secrets hidden. It can be loaded again.
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

    /// The settings of a cache: those that are given under its name (case, `_` and `-` make no difference), or else the
    /// defaults where they name a connector.
    #[must_use]
    pub fn cache(&self, name: &str) -> Option<CacheConfig> {
        let name = fold(name);
        let listed = self.caches.iter().find(|(listed, _)| fold(listed) == name);
        listed.map(|(_, cache)| cache.clone()).or_else(|| self.defaults.cache())
    }

    /// The caches that are listed by name, in alphabetical order.
    pub fn caches(&self) -> impl Iterator<Item = (&str, &CacheConfig)> {
        self.caches.iter().map(|(name, cache)| (name.as_str(), cache))
    }

    /// The settings of the redis connector, whether they say which server or not.
    #[cfg(feature = "redis")]
    pub(crate) fn server(&self) -> &RedisConfig {
        &self.redis.config
    }

    /// Whether a cache can be opened on this connector.
    #[cfg(feature = "redis")]
    pub(crate) fn uses(&self, connector: ConnectorKind) -> bool {
        self.defaults.connector == Some(connector) || self.caches.values().any(|cache| cache.connector == connector)
    }

    /// The settings of the memory connector.
    #[must_use]
    pub fn memory(&self) -> &MemoryConfig {
        &self.memory
    }

    /// The settings of the redis connector, where they say which server.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisConfig> {
        self.redis.addressed.then_some(&self.redis.config)
    }
}

const NO_POSTGRES: &str = "this version of larder has no postgres connector yet; nothing here is used";

const NO_ADDRESS: &str =
    "is redis, but `connectors.redis` does not say where the server is: give `url`, `address` or `socket` there";

/// A section that holds other sections only.
const NONE: &[setting::Setting<()>] = &[];

/// The path of every setting; that of a cache's settings with `<name>` for the cache.
fn known() -> Vec<Vec<&'static str>> {
    let mut paths = Vec::new();
    let mut add = |before: &[&'static str], name: &'static str| paths.push([before, &[name]].concat());
    memory::SETTINGS.iter().for_each(|setting| add(&["connectors", "memory"], setting.name));
    redis::SETTINGS.iter().for_each(|setting| add(&["connectors", "redis"], setting.name));
    breaker::SETTINGS.iter().for_each(|setting| add(&["connectors", "redis", redis::BREAKER], setting.name));
    cache::SETTINGS.iter().for_each(|setting| add(&["defaults"], setting.name));
    cache::SETTINGS.iter().for_each(|setting| add(&["caches", "<name>"], setting.name));
    paths
}
