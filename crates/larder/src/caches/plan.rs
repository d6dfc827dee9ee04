//! What caches are opened from: connectors by name, and the caches on them. A configuration file and
//! [`CachesBuilder`](super::CachesBuilder) make the same plan with the same functions, so both are refused for the same reasons.

use super::connectors::{ConnectorKind, ConnectorName, ConnectorOptions};
use super::feeds::{self, DatabaseFeed};
use super::options::CacheOptions;
use super::tiers::TierOptions;
use crate::connector::memory::MemoryOptions;
use crate::contract::Consistency;
use crate::nearest::{fold, nearest};
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
    feeds: BTreeMap<String, DatabaseFeed>,
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
            feeds: BTreeMap::new(),
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

    /// Adds a feed. The text of an error continues the sentence after the name.
    pub(crate) fn add_feed(&mut self, name: &str, feed: DatabaseFeed) -> Result<(), String> {
        self.expect_free_feed(name)?;
        self.feeds.insert(name.to_owned(), feed);
        Ok(())
    }

    /// Whether a feed may have this name.
    pub(crate) fn expect_free_feed(&self, name: &str) -> Result<(), String> {
        if !is_name(name) {
            return Err(format!("is no name for a feed: give {NAME}"));
        }
        if fold(name) == feeds::NONE {
            return Err("cannot be the name of a feed: a cache with it follows no feed; give another name".to_owned());
        }
        match self.feeds.keys().find(|other| fold(other) == fold(name)) {
            Some(other) => Err(format!(
                "names the same feed as `{other}`: case, `_` and `-` make no difference; give one of the two"
            )),
            None => Ok(()),
        }
    }

    /// Whether a feed can be on this connector. The text of an error continues the sentence after the name of the connector.
    pub(crate) fn expect_database(&self, feed: &str, name: &ConnectorName) -> Result<(), String> {
        let kinds = [ConnectorKind::Postgres];
        match self.connector(name).map(ConnectorOptions::kind) {
            Some(ConnectorKind::Postgres) => {}
            None if self.unaddressed(name).is_some() => {}
            kind => return Err(self.another_kind(name, kind, &kinds)),
        }
        match self.feeds().find(|(other, on)| on.connector == *name && fold(other) != fold(feed)) {
            Some((other, _)) => Err(format!(
                "whose database the feed `{other}` polls already: one feed is enough for all caches; put the sources there"
            )),
            None => Ok(()),
        }
    }

    /// Whether a tier can be over the connector that it names. The text of an error continues the sentence after that name.
    pub(crate) fn expect_below(&self, tier: &TierOptions) -> Result<(), String> {
        let name = &tier.over;
        // Named after its kind, it is there for caches, even if nothing says where its server is.
        let named = || ConnectorKind::of_name(name).filter(|kind| *kind != ConnectorKind::Redis);
        match self.connector(name).map(ConnectorOptions::kind).or_else(named) {
            Some(ConnectorKind::Redis) => Ok(()),
            Some(ConnectorKind::Postgres) if tier.options.consistency == Consistency::Bounded => Ok(()),
            Some(ConnectorKind::Postgres) => Err(format!(
                "of the kind postgres, and is {}: over a database a tier can only be bounded, since nodes hear of a change from the feed, within \
                 `feed_deadline`; give `consistency: bounded`",
                tier.options.consistency
            )),
            kind => Err(self.another_kind(name, kind, &[ConnectorKind::Redis, ConnectorKind::Postgres])),
        }
    }

    /// Why a connector, of this kind if it is there, cannot be named where one of other kinds is expected. Continues the sentence after its name.
    fn another_kind(&self, name: &ConnectorName, kind: Option<ConnectorKind>, kinds: &[ConnectorKind]) -> String {
        let known = self.connectors().filter(|(_, options)| kinds.contains(&options.kind()));
        let known: Vec<&str> = known.map(|(name, _)| name.as_str()).collect();
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let kinds = format!("give a connector of the kind {}", kinds.join(" or "));
        let alternatives = match known.as_slice() {
            [] => format!("{kinds}, of which there is none"),
            names => format!("{kinds}: {}", names.join(" or ")),
        };
        match kind {
            Some(kind) => format!("of the kind {kind}: {alternatives}"),
            None => {
                let near = nearest(name.as_str(), known);
                let near = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
                format!("which is no connector{near}: {alternatives}")
            }
        }
    }

    /// The connector of the database that the cache's tier is over, if it is over one.
    pub(crate) fn tier_over_database(&self, cache: &CacheOptions) -> Option<&ConnectorName> {
        let Some(ConnectorOptions::Tiered(tier)) = self.connector(&cache.connector) else { return None };
        matches!(self.connector(&tier.over), Some(ConnectorOptions::Postgres(_))).then_some(&tier.over)
    }

    /// Whether a cache whose tier is over a database follows a feed of that database. The text of an error continues the sentence after the name of the
    /// connector.
    pub(crate) fn expect_fed(&self, cache: &CacheOptions) -> Result<(), String> {
        let Some(ConnectorOptions::Tiered(tier)) = self.connector(&cache.connector) else { return Ok(()) };
        // A tier that cannot be is reported.
        let Some(database) = self.tier_over_database(cache).filter(|_| self.expect_below(tier).is_ok()) else {
            return Ok(());
        };
        let to_do = match self.feeds().find(|(_, feed)| feed.connector == *database) {
            Some((name, _)) => format!("give the cache `feed: {name}`"),
            None => format!("add a feed with `connector: {database}`, and give the cache its name as `feed`"),
        };
        let why = format!("a tier over the database of `{database}`, which only a feed of that database keeps right");
        match self.followed(cache) {
            Ok(Some((_, feed))) if feed.connector == *database => Ok(()),
            Ok(Some((name, _))) => Err(format!("{why}, and `{name}` is the feed of another one: {to_do}")),
            Ok(None) => Err(format!("{why}, and the cache follows none: {to_do}")),
            // That is reported.
            Err(_) => Ok(()),
        }
    }

    /// The connector that a tiered connector is over, and every other connector itself.
    pub(crate) fn below<'a>(&'a self, name: &'a ConnectorName) -> &'a ConnectorName {
        match self.connector(name) {
            Some(ConnectorOptions::Tiered(tier)) => &tier.over,
            _ => name,
        }
    }

    /// The feeds, in alphabetical order.
    pub(crate) fn feeds(&self) -> impl Iterator<Item = (&str, &DatabaseFeed)> {
        self.feeds.iter().map(|(name, feed)| (name.as_str(), feed))
    }

    /// The feed of this name, and its name as it was given.
    pub(crate) fn feed(&self, name: &str) -> Option<(&str, &DatabaseFeed)> {
        self.feeds().find(|(given, _)| fold(given) == fold(name))
    }

    /// The feed that a cache follows. The text of an error continues the sentence after the name that the cache gives.
    pub(crate) fn followed(&self, cache: &CacheOptions) -> Result<Option<(&str, &DatabaseFeed)>, String> {
        let Some(name) = cache.feed.as_deref().filter(|name| fold(name) != feeds::NONE) else { return Ok(None) };
        self.feed(name).map(Some).ok_or_else(|| {
            let known: Vec<&str> = self.feeds().map(|(name, _)| name).collect();
            let near = nearest(name, known.iter().copied());
            let near = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            let listed = known.iter().fold("none".to_owned(), |before, name| format!("{before} or {name}"));
            format!("which is no feed{near}: give {listed}")
        })
    }

    /// Reports a deadline that is too short for the feed that the cache follows.
    pub(crate) fn examine_deadline(&self, cache: &CacheOptions, refuse: Refuse<'_>) {
        if let Ok(Some((_, feed))) = self.followed(cache) {
            cache.follow().examine_polls(feed.options.poll, &mut |error| refuse(error.within("feed_")));
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

    /// Whether a cache can be on this connector, on a tier over it, or follow a feed of its database.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "yaml", feature = "toml"))]
    pub(crate) fn uses(&self, name: &ConnectorName) -> bool {
        let unlisted = self.unlisted();
        self.caches.values().chain(&unlisted).any(|cache| {
            let feed = self.followed(cache).ok().flatten();
            cache.connector == *name
                || self.below(&cache.connector) == name
                || feed.is_some_and(|(_, feed)| feed.connector == *name)
        })
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
            Self::Tiered(tier) => tier.options.examine(refuse),
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
