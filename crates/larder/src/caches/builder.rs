//! [`CachesBuilder`]: connectors and caches described in code.

use super::Caches;
use super::connectors::{ConnectorKind, ConnectorName, ConnectorOptions};
use super::error::OpenError;
use super::feeds::DatabaseFeed;
use super::options::CacheOptions;
use super::own::{Factories, Factory};
use super::plan::Plan;
#[cfg(feature = "redis")]
use super::tiers::TierOptions;
use crate::clock::Clock;
use crate::connector::memory::MemoryOptions;
#[cfg(feature = "postgres")]
use crate::connector::postgres::PostgresOptions;
#[cfg(feature = "redis")]
use crate::connector::redis::RedisOptions;
use crate::contract::{Connector, Schema};
use crate::entry::Entry;
use crate::option_error::OptionError;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Describes which connectors there are and which caches are on them, and opens [`Caches`]. A configuration file describes the same, and is
/// checked by the same code.
///
/// ```
/// use larder::connector::memory::MemoryOptions;
/// use larder::{Cache, CacheOptions, Caches, Entry};
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Clone, Serialize, Deserialize, Entry)]
/// #[entry(cache = "color")]
/// struct Color {
///     #[key(primary)]
///     name: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let caches = Caches::builder()
///     .memory("small", MemoryOptions::new().max_objects(1000))
///     .cache::<Color>(CacheOptions::on("small").max_age(Duration::from_secs(3600)))
///     .open()
///     .await?;
/// let colors: Cache<Color> = caches.open()?;
/// # Ok(()) }
/// ```
///
/// If a name or an option cannot be used, [`open`](Self::open) returns an error for the first one.
#[must_use = "nothing is opened before `open`"]
pub struct CachesBuilder {
    plan: Plan,
    factories: Factories,
    /// The caches whose entry types are known, and the function that makes the schema of each.
    entries: Vec<(&'static str, SchemaOf)>,
    /// The error for the first name that cannot be used.
    problem: Option<OpenError>,
    /// Notes of the configuration that are to be logged.
    notes: Vec<String>,
    clock: Clock,
}

/// Makes the schema of an entry type with these options.
type SchemaOf = fn(&CacheOptions) -> Schema;

impl Default for CachesBuilder {
    fn default() -> Self {
        Self {
            plan: Plan::default(),
            factories: Factories::default(),
            entries: Vec::new(),
            problem: None,
            notes: Vec::new(),
            clock: Clock::system(),
        }
    }
}

impl CachesBuilder {
    /// Adds a connector that keeps objects in this process, separately for each cache. If none is added, there is one named `memory` with
    /// the default options.
    pub fn memory(self, name: impl Into<ConnectorName>, options: MemoryOptions) -> Self {
        self.add(name.into(), options.into())
    }

    /// Adds a Redis or Valkey server. larder connects to it only when a cache on it is opened.
    ///
    /// ```no_run
    /// # use larder::{CacheOptions, Caches, connector::redis::RedisOptions};
    /// # async fn start() -> Result<(), larder::OpenError> {
    /// let caches = Caches::builder()
    ///     .redis("main", RedisOptions::new("cache.internal:6379"))
    ///     .redis("sessions", RedisOptions::new("sessions.internal:6379").prefix("sessions"))
    ///     .defaults(CacheOptions::on("main"))
    ///     .open()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "redis")]
    pub fn redis(self, name: impl Into<ConnectorName>, options: RedisOptions) -> Self {
        self.add(name.into(), options.into())
    }

    /// Adds a tiered connector: memory of this node in front of the server of a redis connector, so that a hit costs no round trip. See
    /// [`tiered`](crate::connector::tiered) for what a reader may observe.
    ///
    /// ```no_run
    /// # use larder::{CacheOptions, Caches, connector::redis::RedisOptions};
    /// # async fn start() -> Result<(), larder::OpenError> {
    /// use larder::connector::tiered::TieredOptions;
    ///
    /// let caches = Caches::builder()
    ///     .redis("main", RedisOptions::new("cache.internal:6379"))
    ///     .tiered("near", TieredOptions::new().max_objects(50_000).over("main"))
    ///     .defaults(CacheOptions::on("near"))
    ///     .open()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Caches on both connectors share the connection to the server. All nodes should have a cache on the same connector.
    #[cfg(feature = "redis")]
    pub fn tiered(self, name: impl Into<ConnectorName>, tier: TierOptions) -> Self {
        self.add(name.into(), tier.into())
    }

    /// Adds a PostgreSQL database. larder connects to it, and makes its tables there if they are missing, only when a cache on it is opened.
    ///
    /// ```no_run
    /// # use larder::{CacheOptions, Caches, connector::postgres::PostgresOptions};
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// let caches = Caches::builder()
    ///     .postgres("db", PostgresOptions::from_url("postgres://larder@db.internal/shop")?)
    ///     .defaults(CacheOptions::on("db"))
    ///     .open()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "postgres")]
    pub fn postgres(self, name: impl Into<ConnectorName>, options: PostgresOptions) -> Self {
        self.add(name.into(), options.into())
    }

    /// Adds a connector of your own. `make` is called for each cache on it, when that cache is opened. In a configuration such a connector
    /// has `kind: own`, and only a builder that adds it here can open that configuration.
    ///
    /// [`Caches`] prunes its caches once an hour if they have ages. A shutdown waits for one second for what
    /// [`Status`](crate::contract::Status) says is not delivered.
    ///
    /// ```
    /// use larder::connector::memory::{Memory, MemoryOptions};
    /// use larder::{CacheOptions, Caches, Connector, OptionError, Schema};
    /// use std::sync::Arc;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::OpenError> {
    /// let caches = Caches::builder()
    ///     .connector("mine", |schema: Schema| -> Result<Arc<dyn Connector>, OptionError> {
    ///         Ok(Arc::new(Memory::open(schema, MemoryOptions::new())?))
    ///     })
    ///     .defaults(CacheOptions::on("mine"))
    ///     .open()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn connector<F, Err>(mut self, name: impl Into<ConnectorName>, make: F) -> Self
    where
        F: Fn(Schema) -> Result<Arc<dyn Connector>, Err> + Send + Sync + 'static,
        Err: Into<Box<dyn Error + Send + Sync>>,
    {
        let name = name.into();
        let twice = self.factories.contains(&name);
        self.factories.insert(name.clone(), Factory::new(make));
        match self.plan.connector(&name) {
            // A configuration has announced the connector.
            Some(ConnectorOptions::Own) if !twice => self,
            _ => self.add(name, ConnectorOptions::Own),
        }
    }

    /// Adds the feed of a database: changes that transactions tell there, or triggers, reach every cache that names the feed ([`CacheOptions::feed`]), on every node.
    /// larder polls the database only when a cache that follows is opened. Case, `_` and `-` make no difference in the name.
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// # use larder::{CacheOptions, Caches, connector::postgres::PostgresOptions};
    /// use larder::feed::FeedOptions;
    ///
    /// let caches = Caches::builder()
    ///     .postgres("db", PostgresOptions::from_url("postgres://larder@db.internal/shop")?)
    ///     .feed("main", FeedOptions::new().on("db"))
    ///     .defaults(CacheOptions::on("memory").feed("main"))
    ///     .open()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn feed(mut self, name: impl Into<String>, feed: DatabaseFeed) -> Self {
        let name = name.into();
        if let Err(problem) = self.plan.add_feed(&name, feed) {
            self.problem.get_or_insert(OpenError::Name { what: "feed", name, problem });
        }
        self
    }

    /// Says where the cache of this entry type is, how long objects live in it, and how they are loaded. [`Caches::open`] opens it.
    pub fn cache<E: Entry>(mut self, options: CacheOptions) -> Self {
        self.entries.push((E::CACHE, CacheOptions::schema::<E>));
        self.name_cache(E::CACHE, options)
    }

    /// The options of each cache that is not named. Without them such a cache cannot be opened.
    pub fn defaults(mut self, options: CacheOptions) -> Self {
        self.plan.default_connector = Some(options.connector.clone());
        self.plan.defaults = options;
        self
    }

    /// Adds the connectors and caches of a configuration, and the notes that are to be logged.
    #[cfg(any(feature = "yaml", feature = "toml"))]
    pub(crate) fn with_plan(mut self, plan: &Plan, notes: Vec<String>) -> Self {
        self.notes.extend(notes);
        if plan.unaddressed.is_some() {
            self.plan.unaddressed.clone_from(&plan.unaddressed);
        }
        for (name, options) in plan.connectors() {
            let provided = matches!(options, ConnectorOptions::Own) && self.factories.contains(name);
            if !(provided && self.plan.connector(name) == Some(options)) {
                self = self.add(name.clone(), options.clone());
            }
        }
        for (name, feed) in plan.feeds() {
            self = self.feed(name, feed.clone());
        }
        for (name, options) in plan.caches() {
            self = self.name_cache(name, options.clone());
        }
        match plan.unlisted() {
            Some(options) => self.defaults(options),
            None => self,
        }
    }

    /// Sets another clock for the ages of caches in memory, and for the pauses between two warnings of one kind. So a test can advance time
    /// instead of sleeping.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    fn add(mut self, name: ConnectorName, options: ConnectorOptions) -> Self {
        if let Err(problem) = self.plan.add_connector(name.clone(), options) {
            let error = OpenError::Name { what: "connector", name: name.to_string(), problem };
            self.problem.get_or_insert(error);
        }
        self
    }

    fn name_cache(mut self, name: &str, options: CacheOptions) -> Self {
        if let Err(problem) = self.plan.add_cache(name, options) {
            self.problem.get_or_insert(OpenError::Name { what: "cache", name: name.to_owned(), problem });
        }
        self
    }

    /// Checks everything that was given, and prepares to open the caches. Nothing is connected yet, and no server needs to be there.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoRuntime`] outside a Tokio runtime; the first name, or option, that cannot be used; a cache on a connector that does
    /// not exist.
    pub async fn open(self) -> Result<Caches, OpenError> {
        let Self { plan, factories, entries, problem, notes, clock } = self;
        if let Some(problem) = problem {
            return Err(problem);
        }
        for (name, options) in plan.connectors() {
            options.validate().map_err(|error| OpenError::ConnectorOption { connector: name.clone(), error })?;
            if let ConnectorOptions::Tiered(tier) = options {
                let (connector, over) = (name.clone(), tier.over.clone());
                plan.expect_below(tier).map_err(|problem| OpenError::Tier { connector, over, problem })?;
            }
        }
        for (name, feed) in plan.feeds() {
            expect_feed(&plan, name, feed)?;
        }
        let unlisted = plan.unlisted();
        // No cache can have this name.
        let unlisted = unlisted.iter().map(|options| ("*", options));
        for (cache, options) in plan.caches().chain(unlisted) {
            let checked =
                options.validate().and_then(|()| OptionError::first(|refuse| plan.examine_deadline(options, refuse)));
            checked.map_err(|error| OpenError::Option { cache: cache.to_owned(), error })?;
            if let (Err(problem), Some(feed)) = (plan.followed(options), &options.feed) {
                return Err(OpenError::Follow { cache: cache.to_owned(), feed: feed.clone(), problem });
            }
            if let Err(reason) = plan.expect_fed(options) {
                let (cache, connector) = (cache.to_owned(), options.connector.clone());
                return Err(OpenError::NoConnector { cache, connector, kind: ConnectorKind::Tiered, reason });
            }
            if plan.unaddressed(&options.connector).is_some() {
                continue;
            }
            let Some(connector) = plan.connector(&options.connector) else {
                return Err(unknown(&plan, cache, &options.connector));
            };
            if matches!(connector, ConnectorOptions::Own) {
                factories.expect(cache, &options.connector)?;
            }
        }
        for (cache, schema) in entries {
            let Some(options) = plan.cache(cache) else { continue };
            schema(&options).validate().map_err(|error| OpenError::Option { cache: cache.to_owned(), error })?;
        }
        let caches = Caches::new(plan, factories, clock)?;
        for note in notes {
            tracing::info!("configuration: {note}");
        }
        Ok(caches)
    }
}

/// Checks a feed.
fn expect_feed(plan: &Plan, name: &str, feed: &DatabaseFeed) -> Result<(), OpenError> {
    let refused = |problem: String| OpenError::Feed { feed: name.to_owned(), problem };
    let checked = feed.options.validate().and_then(|()| feed.sources.validate());
    checked.map_err(|error| refused(format!("cannot be used: {error}")))?;
    let on = |problem| refused(format!("is on the connector `{}`, {problem}", feed.connector));
    plan.expect_database(name, &feed.connector).map_err(on)
}

fn unknown(plan: &Plan, cache: &str, connector: &ConnectorName) -> OpenError {
    let mut known = vec!["none".to_owned(), "memory".to_owned()];
    known.extend(plan.connectors().map(|(name, _)| name.to_string()).filter(|name| name != "memory"));
    let nearest = crate::nearest::nearest(connector.as_str(), known.iter().map(String::as_str)).map(str::to_owned);
    OpenError::UnknownConnector { cache: cache.to_owned(), connector: connector.clone(), known, nearest }
}

impl fmt::Debug for CachesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachesBuilder")
            .field("plan", &self.plan)
            .field("problem", &self.problem)
            .finish_non_exhaustive()
    }
}
