//! What caches are opened from: connectors by name, and the caches on them. A configuration file and
//! [`CachesBuilder`](super::CachesBuilder) make the same plan with the same functions, so both are refused for the same reasons.

use super::connectors::{ConnectorKind, ConnectorName, ConnectorOptions};
use super::options::CacheOptions;
use crate::connector::memory::MemoryOptions;
use crate::nearest::fold;
use crate::option_error::{NAME, OptionError, Refuse, is_name};
use std::collections::BTreeMap;

/// Connectors that exist although nobody has added them.
static NOOP: ConnectorOptions = ConnectorOptions::Noop;
static MEMORY: ConnectorOptions = ConnectorOptions::Memory(MemoryOptions::new());

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    connectors: BTreeMap<ConnectorName, ConnectorOptions>,
    /// A connector that caches may name, although nothing says where its server is, and what to do about that. Such a cache cannot be
    /// opened; the others can.
    pub(crate) unaddressed: Option<(ConnectorName, &'static str)>,
    /// By the names that were given.
    caches: BTreeMap<String, CacheOptions>,
    /// The connector of caches that are not named. `None`: such a cache cannot be opened.
    pub(crate) default_connector: Option<ConnectorName>,
    /// The options of caches that are not named, except for the connector.
    pub(crate) defaults: CacheOptions,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            connectors: BTreeMap::new(),
            unaddressed: None,
            caches: BTreeMap::new(),
            default_connector: None,
            defaults: CacheOptions::on(ConnectorName::none()),
        }
    }
}

impl Plan {
    /// Adds a connector. The text of an error continues the sentence after the name.
    pub(crate) fn add_connector(&mut self, name: ConnectorName, options: ConnectorOptions) -> Result<(), String> {
        self.expect_free(&name, options.kind())?;
        self.connectors.insert(name, options);
        Ok(())
    }

    /// Whether a connector of this kind may have this name.
    pub(crate) fn expect_free(&self, name: &ConnectorName, kind: ConnectorKind) -> Result<(), String> {
        if !is_name(name.as_str()) {
            return Err(format!("is no name for a connector: give {NAME}"));
        }
        if name.is_none() {
            return Err(
                "cannot be the name of a connector: a cache on it is switched off; give another name".to_owned()
            );
        }
        match ConnectorKind::of_name(name) {
            Some(own) if own != kind => {
                return Err(format!("is the name of a connector of the kind {own}, and not {kind}: give another name"));
            }
            _ => {}
        }
        match self.connectors.get_key_value(name) {
            Some((other, _)) => Err(format!(
                "names the same connector as `{other}`: case, `_` and `-` make no difference; give one of the two"
            )),
            None => Ok(()),
        }
    }

    /// Adds a cache. The text of an error continues the sentence after the name.
    pub(crate) fn add_cache(&mut self, name: &str, options: CacheOptions) -> Result<(), String> {
        self.expect_free_cache(name)?;
        self.caches.insert(name.to_owned(), options);
        Ok(())
    }

    /// Whether a cache may have this name.
    pub(crate) fn expect_free_cache(&self, name: &str) -> Result<(), String> {
        if !is_name(name) {
            return Err(format!("is no name for a cache: give {NAME}"));
        }
        match self.caches.keys().find(|other| fold(other) == fold(name)) {
            Some(other) => Err(format!(
                "names the same cache as `{other}`: case, `_` and `-` make no difference; give one of the two"
            )),
            None => Ok(()),
        }
    }

    /// The connectors that were named, in alphabetical order.
    pub(crate) fn connectors(&self) -> impl Iterator<Item = (&ConnectorName, &ConnectorOptions)> {
        self.connectors.iter()
    }

    /// The connector of this name. `none` and `memory` always exist.
    pub(crate) fn connector(&self, name: &ConnectorName) -> Option<&ConnectorOptions> {
        if name.is_none() {
            return Some(&NOOP);
        }
        self.connectors.get(name).or_else(|| match ConnectorKind::of_name(name)? {
            ConnectorKind::Memory => Some(&MEMORY),
            _ => None,
        })
    }

    /// What to do about a connector that caches may name, although nothing says where its server is. `None`: this is no such connector.
    pub(crate) fn unaddressed(&self, name: &ConnectorName) -> Option<&'static str> {
        let (_, to_do) = self.unaddressed.as_ref().filter(|(unaddressed, _)| unaddressed == name)?;
        if self.connectors.contains_key(name) { None } else { Some(to_do) }
    }

    pub(crate) fn caches(&self) -> impl Iterator<Item = (&str, &CacheOptions)> {
        self.caches.iter().map(|(name, cache)| (name.as_str(), cache))
    }

    /// The options of a cache: its own, or else the defaults if they have a connector.
    pub(crate) fn cache(&self, name: &str) -> Option<CacheOptions> {
        let name = fold(name);
        let listed = self.caches.iter().find(|(listed, _)| fold(listed) == name);
        listed.map(|(_, cache)| cache.clone()).or_else(|| self.unlisted())
    }

    /// The options of a cache that is not named.
    pub(crate) fn unlisted(&self) -> Option<CacheOptions> {
        let connector = self.default_connector.clone()?;
        Some(CacheOptions { connector, ..self.defaults.clone() })
    }

    /// Whether a cache can be on this connector.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "yaml", feature = "toml"))]
    pub(crate) fn uses(&self, name: &ConnectorName) -> bool {
        self.default_connector.as_ref() == Some(name) || self.caches.values().any(|cache| cache.connector == *name)
    }
}

impl ConnectorOptions {
    /// Reports every option that cannot be used.
    pub(crate) fn examine(&self, refuse: Refuse<'_>) {
        match self {
            Self::Memory(memory) => {
                if let Err(error) = memory.validate() {
                    refuse(error);
                }
            }
            Self::Redis(redis) => redis.examine(refuse),
            Self::Postgres(postgres) => postgres.examine(refuse),
            Self::Noop | Self::Own => {}
        }
    }

    /// Checks that every option can be used.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| self.examine(refuse))
    }
}
