//! [`Caches`]: the caches of a process, opened by name. A configuration or a [builder](CachesBuilder) describes them.
//!
//! ```text
//!   config ──┐
//!   builder ─┴─► Plan ──► Caches ──► Cache<E>      plan.rs: connectors by name, caches on them
//! ```
//!
//! Only what an opened cache needs is set up. A connector begins to connect when the first cache on it is opened. So a process whose caches
//! are all in memory, or switched off, starts no network code.

use crate::cache::audit::{Audit, AuditError};
use crate::cache::{Cache, Inner};
use crate::clock::Clock;
use crate::connector::memory::Memory;
use crate::connector::noop::Noop;
#[cfg(feature = "postgres")]
use crate::connector::postgres::{Postgres, PostgresError, PostgresOptions};
#[cfg(feature = "redis")]
use crate::connector::redis::{Redis, RedisCluster, RedisError, RedisOptions};
use crate::contract::{Connector, Schema};
use crate::entry::Entry;
#[cfg(feature = "postgres")]
use crate::feed::Feed;
use crate::nearest::{fold, nearest};
use own::Factories;
use parking_lot::Mutex;
use plan::Plan;
use pruning::Pruning;
use std::any::{Any, type_name};
use std::collections::HashMap;
use std::fmt;
#[cfg(any(feature = "postgres", feature = "redis"))]
use std::sync::OnceLock;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

mod builder;
mod connectors;
mod error;
pub(crate) mod feeds;
mod following;
mod options;
mod own;
pub(crate) mod plan;
mod pruning;
mod ready;
#[cfg(feature = "redis")]
mod redis_servers;
mod reloading;
mod shutdown;
mod tiers;

pub use builder::CachesBuilder;
pub use connectors::{ConnectorKind, ConnectorName, ConnectorOptions};
pub use error::OpenError;
pub use feeds::DatabaseFeed;
pub use options::CacheOptions;
pub use ready::Readiness;
#[cfg(feature = "redis")]
use redis_servers::RedisServers;
pub use reloading::ReloadError;
pub use shutdown::Shutdown;
pub use tiers::TierOptions;

/// How often the counters are published to the metrics recorder.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// The caches of this process. One `Caches` is enough for a process: share it in an `Arc`, or open every cache at the start.
///
/// ```
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
/// let hour = Duration::from_secs(3600);
/// let caches = Caches::builder().cache::<Color>(CacheOptions::on("memory").max_age(hour)).open().await?;
/// let colors: Cache<Color> = caches.open()?;
/// colors.set(Color { name: "barley".into() }).await;
/// assert!(colors.get(Color::NAME, "barley").await.is_some());
/// caches.shutdown().await;
/// # Ok(()) }
/// ```
///
/// # What runs in the background
///
/// Each opened cache has tasks of its own, on the runtime in which the `Caches` were made ([`CachesBuilder::open`], `Caches::from_config`):
///
/// - Once a second its counters are published to the `metrics` recorder that is installed, if any.
/// - Every prune interval of its connector it is pruned. The first time comes at a random moment of the interval, so that nodes do not
///   prune at the same time. The caches in a PostgreSQL database share its tables, and one task.
/// - On a tiered connector it asks the server what was touched, three times in a validity, until the last clone of the cache is dropped.
///
/// # Dropping
///
/// Caches that were opened stay as they are, and so do their tasks, until the last clone of the cache is dropped. The connection to a
/// server ends with the last cache on it, and invalidations that could not be delivered yet are lost with it. To end the tasks at once, and
/// to give these invalidations a last chance, call [`shutdown`](Self::shutdown).
pub struct Caches {
    plan: Plan,
    factories: Factories,
    clock: Clock,
    runtime: Handle,
    state: Mutex<State>,
    /// The servers of the plan. Each is opened when it is needed.
    #[cfg(feature = "redis")]
    servers: HashMap<ConnectorName, OnceLock<RedisServers>>,
    /// The databases of the plan. Each is opened when it is needed.
    #[cfg(feature = "postgres")]
    databases: HashMap<ConnectorName, OnceLock<Postgres>>,
    /// The feeds of the plan, by folded name. Each is opened when the first cache follows it.
    #[cfg(feature = "postgres")]
    feeds: HashMap<String, OnceLock<Feed>>,
}

#[derive(Default)]
struct State {
    /// By folded name.
    opened: HashMap<String, Opened>,
    tasks: Vec<AbortHandle>,
    pruning: Pruning<Inner>,
    ended: bool,
    /// The caches that a shutdown has closed. A second shutdown waits for what was deferred since then.
    closed: Vec<Closed>,
}

/// A closed cache, and how long a shutdown waits for it.
struct Closed {
    cache: Weak<Inner>,
    patience: Duration,
}

struct Opened {
    entry: &'static str,
    /// The `Cache<E>` of the entry type named in `entry`.
    cache: Box<dyn Any + Send>,
    inner: Arc<Inner>,
    connector: ConnectorName,
    /// The connector of the database whose feed the cache follows.
    follows: Option<ConnectorName>,
}

impl Caches {
    /// Begins to describe connectors and caches in code.
    pub fn builder() -> CachesBuilder {
        CachesBuilder::default()
    }

    fn new(plan: Plan, factories: Factories, clock: Clock) -> Result<Self, OpenError> {
        let runtime = Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
        Ok(Self {
            #[cfg(feature = "redis")]
            servers: unopened(&plan, ConnectorKind::Redis),
            #[cfg(feature = "postgres")]
            databases: unopened(&plan, ConnectorKind::Postgres),
            #[cfg(feature = "postgres")]
            feeds: plan.feeds().map(|(name, _)| (fold(name), OnceLock::new())).collect(),
            plan,
            factories,
            clock,
            runtime,
            state: Mutex::default(),
        })
    }

    /// Opens the cache of an entry type. Opening it again returns the same cache, so that its loads are shared.
    ///
    /// Opening the first cache on a server makes larder connect to the server, in the background. Until that has succeeded, gets miss and
    /// invalidations are deferred. A service can start normally while a server is down; [`ready`](Self::ready) waits for the server.
    ///
    /// # Errors
    ///
    /// The configuration has no place for this cache: see [`OpenError`]. Whatever state a server is in, that is no error here.
    pub fn open<E: Entry>(&self) -> Result<Cache<E>, OpenError> {
        let cache = || E::CACHE.to_owned();
        let mut state = self.state.lock();
        if state.ended {
            return Err(OpenError::ShutDown { cache: cache() });
        }
        if let Some(opened) = state.opened.get(&fold(E::CACHE)) {
            return opened.cache.downcast_ref::<Cache<E>>().cloned().ok_or_else(|| OpenError::OtherEntry {
                cache: cache(),
                open: opened.entry,
                asked: type_name::<E>(),
            });
        }
        let options = self.plan.cache(E::CACHE).ok_or_else(|| self.not_configured(E::CACHE))?;
        let schema = options.schema::<E>();
        schema.validate().map_err(|error| OpenError::Option { cache: cache(), error })?;
        self.expect_sources(&schema)?;
        let (connector, prune_interval, follows) = self.following(&options, &schema)?;
        let opened = Cache::<E>::over(connector, schema, options.comeback_loads, self.clock.clone());
        state.tasks.retain(|task| !task.is_finished());
        state.tasks.push(self.runtime.spawn(publish(Arc::downgrade(&opened.inner))).abort_handle());
        if !prune_interval.is_zero() {
            let cache = Arc::downgrade(&opened.inner);
            let caches = match self.plan.connector(&options.connector) {
                Some(ConnectorOptions::Postgres(_)) => state.pruning.together(&options.connector, cache),
                _ => Some(Pruning::alone(cache)),
            };
            let task = caches.map(|caches| self.runtime.spawn(pruning::prune(caches, prune_interval)).abort_handle());
            state.tasks.extend(task);
        }
        state.opened.insert(
            fold(E::CACHE),
            Opened {
                entry: type_name::<E>(),
                cache: Box::new(opened.clone()),
                inner: opened.inner.clone(),
                connector: options.connector,
                follows,
            },
        );
        Ok(opened)
    }

    /// The connector for one cache, and how often the cache is pruned.
    fn connector(&self, name: &ConnectorName, schema: &Schema) -> Result<(Arc<dyn Connector>, Duration), OpenError> {
        let cache = || schema.cache.to_string();
        let without = |kind, reason: &str| OpenError::NoConnector {
            cache: cache(),
            connector: name.clone(),
            kind,
            reason: reason.to_owned(),
        };
        let refused = |error| OpenError::Option { cache: cache(), error };
        // Without ages nothing expires.
        let ages = !schema.max_age.is_zero() || !schema.last_use_age.is_zero();
        let if_aged = |interval| if ages { interval } else { Duration::ZERO };
        match self.plan.connector(name) {
            Some(ConnectorOptions::Noop) => Ok((Arc::new(Noop), Duration::ZERO)),
            Some(ConnectorOptions::Memory(options)) => {
                let memory = Memory::on_clock(schema.clone(), options.clone(), self.clock.clone()).map_err(refused)?;
                Ok((Arc::new(memory), if_aged(options.prune_interval)))
            }
            #[cfg(feature = "redis")]
            Some(ConnectorOptions::Redis(options)) => {
                let connector = self.server(name, options)?.connector(schema.clone()).map_err(refused)?;
                Ok((Arc::new(connector), options.prune_interval))
            }
            #[cfg(not(feature = "redis"))]
            Some(ConnectorOptions::Redis(_)) => Err(without(
                ConnectorKind::Redis,
                "and larder was built without its feature `redis`: turn that on in `Cargo.toml`, or give the cache \
                 another `connector`",
            )),
            #[cfg(feature = "redis")]
            Some(ConnectorOptions::Tiered(tier)) => match self.plan.connector(&tier.over) {
                Some(ConnectorOptions::Redis(options)) => {
                    let server = self.server(&tier.over, options)?;
                    let connector = server.tiered(schema.clone(), &tier.options).map_err(refused)?;
                    Ok((Arc::new(connector), options.prune_interval))
                }
                // Not reached: the plan was checked, and a tier over a database follows its feed.
                _ => Err(without(ConnectorKind::Tiered, "which is over no server; give it another `over`")),
            },
            #[cfg(not(feature = "redis"))]
            Some(ConnectorOptions::Tiered(tier)) => Err(without(
                ConnectorKind::Tiered,
                match self.plan.connector(&tier.over) {
                    Some(ConnectorOptions::Postgres(_)) => {
                        "which is over a database, and larder was built without its feature `postgres`: turn that on in `Cargo.toml`, or give the \
                         cache another `connector`"
                    }
                    _ => {
                        "and larder was built without its feature `redis`: turn that on in `Cargo.toml`, or give the cache \
                         another `connector`"
                    }
                },
            )),
            Some(ConnectorOptions::Own) => Ok((self.factories.make(name, schema)?, if_aged(own::PRUNE_INTERVAL))),
            #[cfg(feature = "postgres")]
            Some(ConnectorOptions::Postgres(options)) => {
                let connector = self.database(name, options)?.connector(schema.clone()).map_err(refused)?;
                Ok((Arc::new(connector), options.prune_interval))
            }
            #[cfg(not(feature = "postgres"))]
            Some(ConnectorOptions::Postgres(_)) => Err(without(
                ConnectorKind::Postgres,
                "and larder was built without its feature `postgres`: turn that on in `Cargo.toml`, or give the cache \
                 another `connector`",
            )),
            None => match self.plan.unaddressed(name) {
                Some(to_do) => Err(without(ConnectorKind::Postgres, &format!("whose database is not known: {to_do}"))),
                // Not reached: the plan was checked.
                None => Err(without(ConnectorKind::Noop, "which is not there; give it another `connector`")),
            },
        }
    }

    /// Opens the cache of an entry type, and audits it as its configuration says (`audit_share`, `audit_grace`, `audit_bypass`): see
    /// [`audit`](mod@crate::cache::audit), and [`Cache::audited`] for the source. With a share of 0, the default, no audit runs.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn audit<E, F, L, Err>(&self, source: F) -> Result<Audit, OpenError>
    where
        E: Entry,
        F: Fn(Arc<E>) -> L + Send + Sync + 'static,
        L: Future<Output = Result<Option<E>, Err>> + Send + 'static,
        Err: fmt::Display + Send + 'static,
    {
        let cache = self.open::<E>()?;
        let options = self.plan.cache(E::CACHE).ok_or_else(|| self.not_configured(E::CACHE))?.audit();
        let _runtime = self.runtime.enter();
        cache.audited(options, source).map_err(|error| match error {
            AuditError::NoRuntime => OpenError::NoRuntime,
            AuditError::Option(error) => {
                OpenError::Option { cache: E::CACHE.to_owned(), error: error.within("audit_") }
            }
        })
    }

    fn not_configured(&self, cache: &str) -> OpenError {
        let configured: Vec<String> = self.plan.caches().map(|(name, _)| name.to_owned()).collect();
        let nearest = nearest(cache, configured.iter().map(String::as_str)).map(str::to_owned);
        OpenError::NotConfigured { cache: cache.to_owned(), configured, nearest }
    }

    /// The Redis or Valkey server of the connector of this name, or that the tiered connector of this name is over, if a cache can be on it. It gives access to the server's breaker, and to
    /// connectors for what is not a cache of this process. If no cache has made larder connect yet, this call does, in the background.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn redis(&self, connector: impl Into<ConnectorName>) -> Option<&Redis> {
        match self.servers_of(&connector.into())? {
            RedisServers::One(redis) => Some(redis),
            RedisServers::Cluster(_) => None,
        }
    }

    /// The Redis or Valkey cluster of the connector of this name, or that the tiered connector of this name is over, if a cache can be on it. It gives access to connectors for what is not a cache of
    /// this process. `None` also where the connector is one server: see [`redis`](Self::redis).
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn redis_cluster(&self, connector: impl Into<ConnectorName>) -> Option<&RedisCluster> {
        match self.servers_of(&connector.into())? {
            RedisServers::One(_) => None,
            RedisServers::Cluster(cluster) => Some(cluster),
        }
    }

    #[cfg(feature = "redis")]
    fn servers_of(&self, name: &ConnectorName) -> Option<&RedisServers> {
        let name = self.plan.below(name);
        let Some(ConnectorOptions::Redis(options)) = self.plan.connector(name) else { return None };
        // It cannot fail: there is a runtime, and the options were checked.
        if self.plan.uses(name) { self.server(name, options).ok() } else { None }
    }

    #[cfg(feature = "redis")]
    fn server(&self, name: &ConnectorName, options: &RedisOptions) -> Result<&RedisServers, OpenError> {
        let missing = || OpenError::from(RedisError::NoRuntime);
        let place = self.servers.get(name).ok_or_else(missing)?;
        if let Some(redis) = place.get() {
            return Ok(redis);
        }
        let _runtime = self.runtime.enter();
        let redis = RedisServers::open(options)?;
        // Two callers may each have opened the server. The second one is dropped, and its connection with it.
        Ok(place.get_or_init(|| redis))
    }

    /// The PostgreSQL database of the connector of this name, if a cache can be on it. It gives access to the database's breaker, and to
    /// connectors for what is not a cache of this process. If no cache has made larder connect yet, this call does, in the background.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn postgres(&self, connector: impl Into<ConnectorName>) -> Option<&Postgres> {
        let name = connector.into();
        let Some(ConnectorOptions::Postgres(options)) = self.plan.connector(&name) else { return None };
        // It cannot fail: there is a runtime, and the options were checked.
        if self.plan.uses(&name) { self.database(&name, options).ok() } else { None }
    }

    #[cfg(feature = "postgres")]
    fn database(&self, name: &ConnectorName, options: &PostgresOptions) -> Result<&Postgres, OpenError> {
        let missing = || OpenError::from(PostgresError::NoRuntime);
        let place = self.databases.get(name).ok_or_else(missing)?;
        if let Some(postgres) = place.get() {
            return Ok(postgres);
        }
        let _runtime = self.runtime.enter();
        let postgres = Postgres::open(options.clone())?;
        // Two callers may each have opened the database. The second one is dropped, and its connections with it.
        Ok(place.get_or_init(|| postgres))
    }

    /// The options of a cache: its own, or else the defaults if they name a connector. Case, `_` and `-` make no difference in the name.
    #[must_use]
    pub fn cache_options(&self, cache: &str) -> Option<CacheOptions> {
        self.plan.cache(cache)
    }

    /// The options of a connector. `none` and `memory` are always there.
    #[must_use]
    pub fn connector_options(&self, connector: impl Into<ConnectorName>) -> Option<&ConnectorOptions> {
        self.plan.connector(&connector.into())
    }

    /// Reads the certificates of all servers now, so that new connections use them: call it where the service is told to read its
    /// configuration again (SIGHUP). Larder does so by itself before each connection and once a minute. Connections that are there go on.
    ///
    /// ```no_run
    /// # async fn hang_up(caches: larder::Caches) {
    /// if let Err(error) = caches.reload().await {
    ///     eprintln!("{error}");
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Files cannot be used, such as a certificate and a key that are no pair. What was read before stays in use.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, some files may not have been read.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        #[cfg_attr(
            not(any(feature = "postgres", feature = "redis")),
            allow(unused_mut, reason = "no server, no certificate")
        )]
        let mut unusable = Vec::new();
        #[cfg(feature = "redis")]
        for (name, server) in &self.servers {
            if let Some(redis) = server.get()
                && let Err(error) = redis.reload().await
            {
                unusable.push((name.clone(), error.to_string()));
            }
        }
        #[cfg(feature = "postgres")]
        for (name, database) in &self.databases {
            if let Some(postgres) = database.get()
                && let Err(error) = postgres.reload().await
            {
                unusable.push((name.clone(), error.to_string()));
            }
        }
        unusable.sort();
        if unusable.is_empty() { Ok(()) } else { Err(ReloadError { unusable }) }
    }

    /// Waits until every open cache can be read, for at most `limit`. Caches that are opened meanwhile are waited for as well. Returns at
    /// once if there is nothing to wait for: caches in memory, or switched off, can be read from the start.
    ///
    /// A service need not wait: until a cache can be read, its gets miss, loads go to the source, and changes are deferred. Wait if the
    /// service starts with many requests, or tells a load balancer when it is warm. A server that is down is no error: the answer says
    /// which caches cannot be read, and why.
    ///
    /// ```no_run
    /// # use larder::Caches;
    /// # use std::time::Duration;
    /// # async fn start(caches: Caches) {
    /// let readiness = caches.ready(Duration::from_secs(2)).await;
    /// for (cache, why) in readiness.unreadable() {
    ///     eprintln!("started without the cache {cache}: {why}");
    /// }
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the waiting, and nothing else.
    pub async fn ready(&self, limit: Duration) -> Readiness {
        // The timers belong to the runtime of these caches, so that this future may be awaited anywhere.
        let pause = || {
            let _runtime = self.runtime.enter();
            tokio::time::sleep(ready::LOOK)
        };
        let readable = async {
            while !self.readiness().is_ready() {
                pause().await;
            }
        };
        let bounded = {
            let _runtime = self.runtime.enter();
            tokio::time::timeout(limit, readable)
        };
        let _ = bounded.await;
        self.readiness()
    }

    /// Which caches can be read now.
    fn readiness(&self) -> Readiness {
        let opened: Vec<(Arc<Inner>, ConnectorName, Option<ConnectorName>)> = {
            let state = self.state.lock();
            let opened = state.opened.values();
            opened.map(|cache| (cache.inner.clone(), cache.connector.clone(), cache.follows.clone())).collect()
        };
        let unreadable = opened.iter().filter_map(|(cache, connector, follows)| {
            let status = cache.connector.status();
            let why = || {
                let feed = follows.as_ref().and_then(|database| self.view_of(database));
                ready::why(&status, self.view_of(connector).as_ref(), feed.as_ref())
            };
            (!status.readable).then(|| (cache.schema.cache.to_string(), why()))
        });
        Readiness::new(unreadable.collect())
    }

    /// The server of a connector, as far as its state explains why a cache cannot be read.
    fn view_of(&self, connector: &ConnectorName) -> Option<ready::ServerView> {
        let connector = self.plan.below(connector);
        match self.plan.connector(connector)? {
            #[cfg(feature = "redis")]
            ConnectorOptions::Redis(options) => {
                let redis = self.servers.get(connector)?.get()?;
                Some(ready::ServerView { address: options.place(), connected: redis.is_connected() })
            }
            #[cfg(feature = "postgres")]
            ConnectorOptions::Postgres(options) => {
                let postgres = self.databases.get(connector)?.get()?;
                Some(ready::ServerView { address: options.place(), connected: postgres.is_connected() })
            }
            _ => None,
        }
    }

    /// Ends the background tasks, publishes the counters for a last time, and waits for what could not be delivered yet. It waits for at
    /// most the `shutdown_timeout` of each cache's connector (1 s by default). What is still not delivered is logged, and returned by
    /// cache.
    ///
    /// Stop taking requests, and let those under way end, before you call this. Later calls are not refused: caches that were opened still
    /// work, without pruning, metrics and the memory of a tier; those that follow a feed hear of no change any more, and miss once their deadlines have passed. An invalidation is sent as ever, but if it has to be deferred, nothing waits for it any more
    /// unless `shutdown` is called again. No more caches can be opened.
    ///
    /// # Loads, fills, updates
    ///
    /// They run in tasks of their own, which go on until the runtime ends. A load or fill that is cut off then leaves nothing half stored.
    /// The shutdown waits for an [`update`](Cache::update) only once its write has ended. If the write is still running when the runtime
    /// ends, it may have changed the source without the cache knowing. So await updates before.
    ///
    /// # Cancellation
    ///
    /// Dropping the future only stops the waiting; the background tasks have ended by then. What is in the journals is delivered as soon as
    /// it can be, while these caches or clones of them exist.
    pub async fn shutdown(&self) -> Shutdown {
        self.shut_down(None).await
    }

    /// Like [`shutdown`](Self::shutdown), with this limit instead of those of the connectors.
    ///
    /// # Cancellation
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_within(&self, limit: Duration) -> Shutdown {
        self.shut_down(Some(limit)).await
    }

    async fn shut_down(&self, limit: Option<Duration>) -> Shutdown {
        let caches: Vec<(Arc<Inner>, Duration)> = {
            let mut state = self.state.lock();
            state.ended = true;
            state.tasks.drain(..).for_each(|task| task.abort());
            #[cfg(feature = "postgres")]
            self.feeds.values().filter_map(OnceLock::get).for_each(Feed::end);
            let opened: Vec<_> = state.opened.drain().map(|(_, opened)| opened).collect();
            state.closed.retain(|closed| closed.cache.strong_count() > 0);
            state.closed.extend(opened.iter().map(|opened| {
                let of_feed = opened.follows.as_ref().map(|database| self.patience(database)).unwrap_or_default();
                let patience = self.patience(&opened.connector).max(of_feed);
                Closed { cache: Arc::downgrade(&opened.inner), patience }
            }));
            // The caches of an earlier shutdown are among them.
            let closed = state.closed.iter();
            closed.filter_map(|closed| Some((closed.cache.upgrade()?, limit.unwrap_or(closed.patience)))).collect()
        };
        let shutdown = Shutdown::within(&caches).await;
        shutdown::leave(&caches).await;
        for (cache, _) in &caches {
            cache.publish();
        }
        if !shutdown.is_clean() {
            tracing::warn!(entries = shutdown.total(), "shut down: {shutdown}");
        }
        shutdown
    }

    /// How long a shutdown waits for caches on this connector. In memory nothing is ever deferred.
    fn patience(&self, connector: &ConnectorName) -> Duration {
        match self.plan.connector(self.plan.below(connector)) {
            Some(ConnectorOptions::Redis(options)) => options.shutdown_timeout,
            Some(ConnectorOptions::Postgres(options)) => options.shutdown_timeout,
            Some(ConnectorOptions::Own) => own::SHUTDOWN_TIMEOUT,
            _ => Duration::ZERO,
        }
    }
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opened: Vec<String> = self.state.lock().opened.values().map(|o| o.inner.schema.cache.to_string()).collect();
        f.debug_struct("Caches").field("opened", &opened).field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// A place for the server of each connector of this kind.
#[cfg(any(feature = "postgres", feature = "redis"))]
fn unopened<T>(plan: &Plan, kind: ConnectorKind) -> HashMap<ConnectorName, OnceLock<T>> {
    let of_kind = plan.connectors().filter(|(_, options)| options.kind() == kind);
    of_kind.map(|(name, _)| (name.clone(), OnceLock::new())).collect()
}

/// Publishes the counters of a cache until the cache is gone.
async fn publish(cache: Weak<Inner>) {
    let mut ticks = tokio::time::interval(PUBLISH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(cache) = cache.upgrade() else { return };
        cache.publish();
    }
}
