//! [`Caches`]: the caches of a process, opened by name from a [`Config`].
//!
//! Nothing is set up that no opened cache needs: a connector begins to connect when the first cache on it is opened, so a process
//! whose caches are in memory, or switched off, starts no network code.

use crate::cache::{Cache, Inner};
use crate::clock::Clock;
use crate::config::{CacheConfig, Config, ConnectorKind, fold, nearest};
use crate::connector::memory::{Memory, MemoryOptions};
use crate::connector::noop::Noop;
#[cfg(feature = "redis")]
use crate::connector::redis::{Redis, RedisError};
use crate::connector::{Connector, Schema};
use crate::entry::Entry;
use parking_lot::Mutex;
use std::any::{Any, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

/// How often counters are handed to the metrics recorder.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// How long a shutdown waits for deferred invalidations to be delivered.
const LAST_CHANCE: Duration = Duration::from_secs(1);

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
/// assert!(colors.get(ColorIndex::Name, "barley").await.is_some());
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
/// dropped; the connection to a server ends with the last cache on it. To end all of it at once, and to give deferred
/// invalidations a last chance, call [`shutdown`](Self::shutdown).
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
    /// A cache's name is part of its keys, so it must not hold what separates them.
    #[error("`{cache}` is no name for a cache: use 1 to 128 letters, digits, `_`, `-` or `.`")]
    Name {
        /// The name, as the entry type has it.
        cache: String,
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

    /// Like [`from_config`](Self::from_config), with another clock for the ages of caches in memory, so that a test advances time
    /// instead of sleeping.
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
    /// invalidations are deferred. A server that is down is a normal start.
    ///
    /// # Errors
    ///
    /// The configuration has no place for this cache: see [`OpenError`]. Nothing that a server does is an error here.
    pub fn open<E: Entry>(&self) -> Result<Cache<E>, OpenError> {
        let cache = || E::CACHE.to_owned();
        if !crate::config::is_name(E::CACHE) {
            return Err(OpenError::Name { cache: cache() });
        }
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
        let (connector, prune_interval) = self.connector(&settings, &schema)?;
        let opened = Cache::<E>::new(connector, schema);
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
        match settings.connector {
            ConnectorKind::Noop => Ok((Arc::new(Noop), Duration::ZERO)),
            ConnectorKind::Memory => {
                let memory = self.config.memory();
                let options = MemoryOptions {
                    max_objects: memory.max_objects,
                    max_bytes: memory.max_bytes,
                    clock: self.clock.clone(),
                };
                // Without ages nothing ever expires.
                let ages = !settings.max_age.is_zero() || !settings.last_use_age.is_zero();
                let prune_interval = if ages { memory.prune_interval } else { Duration::ZERO };
                Ok((Arc::new(Memory::open(schema.clone(), options)), prune_interval))
            }
            #[cfg(feature = "redis")]
            ConnectorKind::Redis => {
                let connector = self.server()?.connector(schema.clone());
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

    /// Ends what runs in the background, hands the counters over for a last time, and waits at most a second for
    /// deferred invalidations to be delivered. Returns how many were not: other nodes may serve those objects until their ages end.
    ///
    /// Caches that were opened still work afterwards, without pruning and metrics; no more can be opened. The connection to a
    /// server ends when these caches and every clone of theirs are dropped.
    ///
    /// # Cancellation
    ///
    /// Dropping the future stops the waiting only; what runs in the background has ended by then.
    pub async fn shutdown(&self) -> u64 {
        let caches: Vec<Arc<Inner>> = {
            let mut state = self.state.lock();
            state.ended = true;
            state.tasks.drain(..).for_each(|task| task.abort());
            state.opened.drain().map(|(_, opened)| opened.inner).collect()
        };
        let waiting = || caches.iter().map(|cache| cache.connector.status().journal).sum::<u64>();
        let delivered = async {
            while waiting() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(LAST_CHANCE, delivered).await;
        for cache in &caches {
            cache.publish();
        }
        let lost = waiting();
        if lost > 0 {
            tracing::warn!(invalidations = lost, "shut down before they could be delivered");
        }
        lost
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
            Err(error) => tracing::warn!("not pruned, and tried again in {interval:?}: {error}"),
        }
    }
}
