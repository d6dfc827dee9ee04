//! [`Caches`]: the caches of a process, opened by name from a [`Config`].
//!
//! Nothing is set up that no opened cache needs: a connector begins to connect when the first cache on it is opened, so a process
//! whose caches are in memory, or switched off, starts no network code.

use crate::cache::audit::{Audit, AuditError, AuditOptions};
use crate::cache::{Cache, Inner};
use crate::clock::Clock;
use crate::config::{CacheConfig, Config, ConnectorKind, fold, nearest};
use crate::connector::memory::{Memory, MemoryOptions};
use crate::connector::noop::Noop;
#[cfg(feature = "redis")]
use crate::connector::redis::{Redis, RedisError};
use crate::contract::{Connector, Schema};
use crate::entry::Entry;
use crate::options::{OptionError, shown};
use parking_lot::Mutex;
use std::any::{Any, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

mod ready;
mod shutdown;

pub use ready::Readiness;
pub use shutdown::Shutdown;

/// How often counters are handed to the metrics recorder.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// The caches of this process. One is enough for a process: share it in an `Arc`, or open every cache at the start.
///
/// ```
/// use larder::{Cache, Caches, Config, Entry};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize, Entry)]
/// #[entry(cache = "color")]
/// struct Color {
///     #[key(primary)]
///     name: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::from_yaml("caches: { color: { connector: memory, max_age: 1h } }")?;
/// let caches = Caches::from_config(config).await?;
/// let colors: Cache<Color> = caches.open()?;
/// colors.set(Color { name: "barley".into() }).await;
/// assert!(colors.get(Color::NAME, "barley").await.is_some());
/// caches.shutdown().await;
/// # Ok(()) }
/// ```
///
/// # What runs in the background
///
/// Per opened cache, on the runtime that [`from_config`](Self::from_config) was called on: once a second its counters go to the
/// `metrics` recorder that is installed, if any; every prune interval of its connector (the first time at a random moment of
/// it, so that nodes do not prune in step) it is pruned.
///
/// # Dropping
///
/// The caches that were opened stay as they are, and so does what runs in the background for each, until the last clone of it is
/// dropped; the connection to a server ends with the last cache on it, and so do invalidations that could not be delivered yet. To
/// end what runs at once, and to give those a last chance, call [`shutdown`](Self::shutdown).
pub struct Caches {
    config: Config,
    clock: Clock,
    runtime: Handle,
    state: Mutex<State>,
    #[cfg(feature = "redis")]
    redis: std::sync::OnceLock<Redis>,
}

#[derive(Default)]
struct State {
    /// By folded name.
    opened: HashMap<String, Opened>,
    tasks: Vec<AbortHandle>,
    ended: bool,
    /// Those that were open when it ended: a second shutdown waits for what was deferred since.
    closed: Vec<Weak<Inner>>,
}

struct Opened {
    entry: &'static str,
    /// The `Cache<E>` of the entry type of that name.
    cache: Box<dyn Any + Send>,
    inner: Arc<Inner>,
}

/// Why a cache cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration does not name it, and has no default connector.
    #[error(
        "the cache `{cache}` is not in the configuration, which has {}{}; add `{cache}` with its `connector` \
         under `caches`, or set `defaults.connector`",
        listed(.configured),
        .nearest.as_ref().map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
    )]
    NotConfigured {
        /// The cache that was asked for.
        cache: String,
        /// Those that could have been.
        configured: Vec<String>,
        /// The one whose name looks most alike.
        nearest: Option<String>,
    },
    /// It is open as a cache of another entry type. Two types in one cache would evict each other's objects.
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
    /// This version of larder has no such connector, or was built without it.
    #[error("the cache `{cache}` is on the connector `{connector}`, {reason}")]
    NoConnector {
        /// The cache.
        cache: String,
        /// What the configuration wants.
        connector: ConnectorKind,
        /// What is the matter.
        reason: &'static str,
    },
    /// A name, an age or an option cannot be used: of a cache or an index, as the entry type has it, since the configuration was
    /// checked when it was read.
    #[error("the cache {} cannot be opened: {error}", shown(.cache))]
    Option {
        /// The cache.
        cache: String,
        /// What is wrong.
        error: OptionError,
    },
    /// The connector for the server cannot be made.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Connections and background work live in tasks.
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

impl Caches {
    /// Prepares to open caches as `config` says. Nothing is connected yet, and no server needs to be there.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoRuntime`] outside a Tokio runtime.
    pub async fn from_config(config: Config) -> Result<Self, OpenError> {
        Self::on_clock(config, Clock::system()).await
    }

    /// Like [`from_config`](Self::from_config), with another clock for the ages of caches in memory, and for the pauses between two
    /// warnings of one kind, so that a test advances time instead of sleeping.
    ///
    /// # Errors
    ///
    /// As [`from_config`](Self::from_config).
    pub async fn on_clock(config: Config, clock: Clock) -> Result<Self, OpenError> {
        let runtime = Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
        for note in config.notes() {
            tracing::info!("configuration: {note}");
        }
        Ok(Self {
            config,
            clock,
            runtime,
            state: Mutex::default(),
            #[cfg(feature = "redis")]
            redis: std::sync::OnceLock::new(),
        })
    }

    /// Opens the cache of an entry type. Opened again, it is the same cache, so that its loads are shared.
    ///
    /// The first cache on a server makes larder connect to it, in the background; until that has succeeded, gets miss and
    /// invalidations are deferred. A server that is down is a normal start; [`ready`](Self::ready) waits for it.
    ///
    /// # Errors
    ///
    /// The configuration has no place for this cache: see [`OpenError`]. Nothing that a server does is an error here.
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
        let settings = self.config.cache(E::CACHE).ok_or_else(|| self.not_configured(E::CACHE))?;
        let mut schema = Schema::of::<E>().ages(settings.max_age, settings.last_use_age);
        schema.max_object_size = settings.max_object_size;
        schema.loading = settings.loading;
        schema.validate().map_err(|error| OpenError::Option { cache: cache(), error })?;
        let (connector, prune_interval) = self.connector(&settings, &schema)?;
        let opened = Cache::<E>::over(connector, schema, settings.comeback_loads, self.clock.clone());
        state.tasks.retain(|task| !task.is_finished());
        state.tasks.push(self.runtime.spawn(publish(Arc::downgrade(&opened.inner))).abort_handle());
        if !prune_interval.is_zero() {
            let task = prune(Arc::downgrade(&opened.inner), prune_interval);
            state.tasks.push(self.runtime.spawn(task).abort_handle());
        }
        state.opened.insert(
            fold(E::CACHE),
            Opened { entry: type_name::<E>(), cache: Box::new(opened.clone()), inner: opened.inner.clone() },
        );
        Ok(opened)
    }

    /// The connector for one cache, and how often it is pruned.
    fn connector(&self, settings: &CacheConfig, schema: &Schema) -> Result<(Arc<dyn Connector>, Duration), OpenError> {
        let without =
            |reason| OpenError::NoConnector { cache: schema.cache.to_string(), connector: settings.connector, reason };
        let refused = |error| OpenError::Option { cache: schema.cache.to_string(), error };
        match settings.connector {
            ConnectorKind::Noop => Ok((Arc::new(Noop), Duration::ZERO)),
            ConnectorKind::Memory => {
                let memory = self.config.memory();
                let options = MemoryOptions { clock: self.clock.clone(), ..memory.options() };
                // Without ages nothing ever expires.
                let ages = !settings.max_age.is_zero() || !settings.last_use_age.is_zero();
                let prune_interval = if ages { memory.prune_interval } else { Duration::ZERO };
                Ok((Arc::new(Memory::open(schema.clone(), options).map_err(refused)?), prune_interval))
            }
            #[cfg(feature = "redis")]
            ConnectorKind::Redis => {
                let connector = self.server()?.connector(schema.clone()).map_err(refused)?;
                Ok((Arc::new(connector), self.config.server().prune_interval))
            }
            #[cfg(not(feature = "redis"))]
            ConnectorKind::Redis => Err(without(
                "and larder was built without its feature `redis`: turn that on in `Cargo.toml`, or give the cache \
                 another `connector`",
            )),
            ConnectorKind::Postgres => {
                Err(without("which this version of larder does not have yet; give it another `connector`"))
            }
        }
    }

    /// Opens the cache of an entry type, and audits it as its configuration says (`audit_share`, `audit_grace`, `audit_bypass`): see
    /// [`audit`](mod@crate::cache::audit), and [`Cache::audited`] for the source. With a share of 0, as by default, nothing is done.
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
        let settings = self.config.cache(E::CACHE).ok_or_else(|| self.not_configured(E::CACHE))?;
        let options = AuditOptions {
            share: settings.audit_share,
            grace: settings.audit_grace,
            bypass: settings.audit_bypass,
            ..AuditOptions::default()
        };
        let _runtime = self.runtime.enter();
        cache.audited(options, source).map_err(|error| match error {
            AuditError::NoRuntime => OpenError::NoRuntime,
            AuditError::Option(error) => {
                OpenError::Option { cache: E::CACHE.to_owned(), error: error.within("audit_") }
            }
        })
    }

    fn not_configured(&self, cache: &str) -> OpenError {
        let configured: Vec<String> = self.config.caches().map(|(name, _)| name.to_owned()).collect();
        let nearest = nearest(cache, configured.iter().map(String::as_str)).map(str::to_owned);
        OpenError::NotConfigured { cache: cache.to_owned(), configured, nearest }
    }

    /// The Redis or Valkey server, where the configuration has one that a cache can be on: its breaker, and connectors for what is
    /// not a cache of this process. Asking for it makes larder connect, in the background, if opening a cache has not yet.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn redis(&self) -> Option<&Redis> {
        // It cannot fail: the runtime is there, and the settings were checked when they were read.
        if self.config.uses(ConnectorKind::Redis) { self.server().ok() } else { None }
    }

    #[cfg(feature = "redis")]
    fn server(&self) -> Result<&Redis, RedisError> {
        if let Some(redis) = self.redis.get() {
            return Ok(redis);
        }
        let _runtime = self.runtime.enter();
        let redis = Redis::open(self.config.server().clone())?;
        // Two callers may have opened one each; the second is dropped, and its connection with it.
        Ok(self.redis.get_or_init(|| redis))
    }

    /// The configuration that these caches are opened from.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Waits until every cache that is open can be read, for `limit` at most; those that are opened meanwhile are waited for as well. Answers
    /// at once where nothing has to be waited for: caches in memory, or switched off, can be read from the start.
    ///
    /// Nobody has to wait: until a cache can be read, its gets miss, loads go to the source, and what changes is deferred. It is for a
    /// service that starts with many requests, or tells a load balancer when it is warm. A server that is down is no error: what cannot be
    /// read, and why, is in the answer.
    ///
    /// ```no_run
    /// # use larder::{Caches, Config};
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
        // Timers belong to the runtime of these caches, so that this may be awaited anywhere.
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
        let opened: Vec<Arc<Inner>> = self.state.lock().opened.values().map(|opened| opened.inner.clone()).collect();
        let unreadable = opened.iter().filter_map(|cache| {
            let status = cache.connector.status();
            let name = &cache.schema.cache;
            (!status.readable).then(|| (name.to_string(), ready::why(&status, self.server_of(name).as_ref())))
        });
        Readiness::new(unreadable.collect())
    }

    /// The server that a cache is on.
    #[cfg(feature = "redis")]
    fn server_of(&self, cache: &str) -> Option<ready::ServerView> {
        let redis =
            self.redis.get().filter(|_| self.config.cache(cache).map(|c| c.connector) == Some(ConnectorKind::Redis))?;
        Some(ready::ServerView { address: self.config.server().address.to_string(), connected: redis.is_connected() })
    }

    /// There is none.
    #[cfg(not(feature = "redis"))]
    fn server_of(&self, _: &str) -> Option<ready::ServerView> {
        None
    }

    /// Ends what runs in the background, hands the counters over for a last time, and waits for what could not be delivered yet, for
    /// at most `connectors.redis.shutdown_timeout` (1 s by default). What is still not delivered is logged and returned, by cache.
    ///
    /// Stop taking requests and let those under way end first. What comes later is not refused: caches that were opened still
    /// work, without pruning and metrics, and an invalidation is sent as ever, but where it has to be deferred nobody waits for it
    /// any more, unless `shutdown` is called again. No more caches can be opened.
    ///
    /// # Loads, fills, updates
    ///
    /// They run in tasks of their own, which go on until the runtime ends. A load or fill that is cut off then leaves nothing behind:
    /// nothing is stored half. An [`update`](Cache::update) is waited for from when its write has ended; one whose write is still
    /// running when the runtime ends may have changed the source without the cache hearing of it, so await updates before.
    ///
    /// # Cancellation
    ///
    /// Dropping the future stops the waiting only; what runs in the background has ended by then. What is in the journals is delivered
    /// as soon as it can be while these caches or clones of theirs are there.
    pub async fn shutdown(&self) -> Shutdown {
        self.shutdown_within(self.patience()).await
    }

    /// Like [`shutdown`](Self::shutdown), with this limit instead of the configured one.
    ///
    /// # Cancellation
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_within(&self, limit: Duration) -> Shutdown {
        let caches: Vec<Arc<Inner>> = {
            let mut state = self.state.lock();
            state.ended = true;
            state.tasks.drain(..).for_each(|task| task.abort());
            let opened: Vec<_> = state.opened.drain().map(|(_, opened)| opened.inner).collect();
            state.closed.retain(|cache| cache.strong_count() > 0);
            let earlier: Vec<_> = state.closed.iter().filter_map(Weak::upgrade).collect();
            state.closed.extend(opened.iter().map(Arc::downgrade));
            opened.into_iter().chain(earlier).collect()
        };
        let shutdown = Shutdown::within(limit, &caches).await;
        for cache in &caches {
            cache.publish();
        }
        if !shutdown.is_clean() {
            tracing::warn!(entries = shutdown.total(), "shut down: {shutdown}");
        }
        shutdown
    }

    #[cfg(feature = "redis")]
    fn patience(&self) -> Duration {
        self.config.server().shutdown_timeout
    }

    /// Nothing is ever deferred in memory.
    #[cfg(not(feature = "redis"))]
    fn patience(&self) -> Duration {
        Duration::ZERO
    }
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opened: Vec<String> = self.state.lock().opened.values().map(|o| o.inner.schema.cache.to_string()).collect();
        f.debug_struct("Caches").field("opened", &opened).field("config", &self.config).finish_non_exhaustive()
    }
}

/// Until the cache is gone.
async fn publish(cache: Weak<Inner>) {
    let mut ticks = tokio::time::interval(PUBLISH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(cache) = cache.upgrade() else { return };
        cache.publish();
    }
}

/// Until the cache is gone.
async fn prune(cache: Weak<Inner>, interval: Duration) {
    let mut pause = interval.mul_f64(fastrand::f64());
    loop {
        tokio::time::sleep(pause).await;
        pause = interval;
        let Some(cache) = cache.upgrade() else { return };
        match cache.connector.prune().await {
            Ok(pruned) => tracing::debug!(cache = %cache.schema.cache, ?pruned, "pruned"),
            Err(error) => {
                tracing::debug!(cache = %cache.schema.cache, %error, "not pruned, and tried again in {interval:?}")
            }
        }
    }
}
