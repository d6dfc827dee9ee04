//! The connector for one Redis or Valkey server.
//!
//! ```text
//!   Store (one per cache) ── what is sent, and what replies mean      store.rs, layout.rs, hints.rs, clearing.rs, lua/
//!     │
//!   Link (one per server) ── breaker, time-out, NOSCRIPT, connection  link.rs, trouble.rs
//!     ▲
//!   Supervisor (a task) ──── connects, proves the history, replays    supervisor.rs, handshake.rs, recovery.rs
//! ```
//!
//! All caches of a process share one multiplexed connection. `ARCHITECTURE.md` tells the life of a get, a fill and an
//! invalidation; `layout.rs` names what is kept on the server.

use crate::breaker::{Breaker, State, Transition};
use crate::clock::Clock;
use crate::config::RedisConfig;
use crate::connector::remote::journal::Limits;
use crate::connector::remote::supervisor::Supervisor;
use crate::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lease, LeaseToken, Lookup, Lookups, Miss, Object,
    OptionError, Pruned, Schema, Status, Stored, Ticket, Value,
};
use crate::telemetry::{Latencies, catalogue};
use parking_lot::Mutex;
use single::Store;
use std::sync::Arc;
use tokio::task::AbortHandle;
use wire::link::Link;
use wire::rights::Rights;

pub(crate) mod index_names;
pub mod inspect;
pub(crate) mod layout;
pub(crate) mod scripts;
pub(crate) mod single;
pub(crate) mod wire;

/// Tells operators when the breaker opens and when it closes. The trials in between, one a second, are told to a debugger only.
fn tell(server: &str, transition: &Transition) {
    match (transition.from, transition.to) {
        (State::Open | State::HalfOpen, State::Open | State::HalfOpen) | (State::Ramping, State::Closed) => {
            tracing::debug!(%server, "circuit breaker: {transition}");
        }
        (_, State::Open | State::ForcedOpen) => tracing::warn!(%server, "circuit breaker: {transition}"),
        _ => tracing::info!(%server, "circuit breaker: {transition}"),
    }
}

/// A Redis or Valkey server, and the connection to it.
///
/// Dropping the last clone, and the last connector opened on it, closes the connection.
#[derive(Clone)]
pub struct Redis {
    owner: Arc<Owner>,
}

struct Owner {
    supervisor: Arc<Supervisor>,
    task: AbortHandle,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a server cannot even be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// Connections live in tasks.
    #[error("the redis connector was opened outside a Tokio runtime; open it inside one")]
    NoRuntime,
    /// A setting cannot be used.
    #[error("the redis connector cannot be opened: {0}")]
    Option(OptionError),
}

impl From<OptionError> for RedisError {
    fn from(error: OptionError) -> Self {
        Self::Option(error)
    }
}

impl Redis {
    /// Begins to connect, in the background; until that has succeeded, gets miss and invalidations are deferred. A
    /// server that is down now is a normal start.
    ///
    /// The connection lives in the Tokio runtime that this is called in, and ends with it; it may be used from anywhere.
    ///
    /// # Errors
    ///
    /// See [`RedisError`] and [`RedisConfig::validate`]; nothing the server does is an error here.
    pub fn open(config: RedisConfig) -> Result<Self, RedisError> {
        config.validate()?;
        let clock = Clock::system();
        let settings = config.breaker.to_config(config.max_in_flight);
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| RedisError::NoRuntime)?;
        let breaker = Breaker::new("redis", settings, clock.clone())?;
        let server = config.address.to_string();
        let rights = Rights::new(server.clone(), &config.prefix);
        let strict = config.wait_replicas > 0;
        let link = Arc::new(Link::new(breaker, clock, config.operation_timeout, strict, runtime.clone(), rights));
        let told = Arc::downgrade(&link);
        link.breaker.subscribe(move |transition| {
            tell(&server, transition);
            if let Some(link) = told.upgrade() {
                link.give_up.notify_one();
            }
        });
        let supervisor = Arc::new(Supervisor { link, config, stores: Mutex::default() });
        let task = runtime.spawn(supervisor.clone().run()).abort_handle();
        Ok(Self { owner: Arc::new(Owner { supervisor, task }) })
    }

    /// A connector for one cache on this server.
    ///
    /// # Errors
    ///
    /// The schema cannot be used: see [`Schema::validate`]. A name with a colon in it, for one, could reach another cache's keys.
    pub fn connector(&self, schema: Schema) -> Result<RedisConnector, OptionError> {
        schema.validate()?;
        let Supervisor { link, config, stores } = &*self.owner.supervisor;
        let journal = Limits { keys: config.journal_limit, bytes: config.journal_bytes };
        let store = Store::new(link.clone(), schema, &config.prefix, config.hints, journal);
        let store = Arc::new(store);
        {
            let mut stores = stores.lock();
            // Without a connection nobody else does it.
            stores.retain(|store| store.strong_count() > 0);
            stores.push(Arc::downgrade(&store));
        }
        link.work.notify_one();
        Ok(RedisConnector { store, owner: self.owner.clone() })
    }

    /// The breaker of the connection: its state, its events, and the switches to force it.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.owner.supervisor.link.breaker
    }
}

impl Redis {
    /// Whether there is a connection in use.
    pub(crate) fn is_connected(&self) -> bool {
        self.owner.supervisor.link.generation() != 0
    }

    /// How long the server's operations took.
    #[must_use]
    pub fn latencies(&self) -> &Latencies {
        &self.owner.supervisor.link.latencies
    }

    /// Hands the breaker's state and the latencies to the `metrics` recorder that is installed, labelled with the server's
    /// address.
    pub fn publish(&self) {
        self.owner.publish();
    }
}

impl Owner {
    fn publish(&self) {
        let Supervisor { link, config, .. } = &*self.supervisor;
        let server = config.address.to_string();
        let snapshot = link.breaker.snapshot();
        catalogue::describe();
        for state in State::ALL {
            let value = if snapshot.state == state { 1.0 } else { 0.0 };
            catalogue::BREAKER_STATE.value([&server, state.name()], value);
        }
        catalogue::BREAKER_OPENED.total([&server], snapshot.opened);
        catalogue::BREAKER_REFUSED.total([&server], snapshot.refused);
        catalogue::BREAKER_SHED.total([&server], snapshot.shed);
        link.latencies.publish(&server);
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("config", &self.owner.supervisor.config).finish_non_exhaustive()
    }
}

/// One cache on a [`Redis`] server.
pub struct RedisConnector {
    store: Arc<Store>,
    owner: Arc<Owner>,
}

impl std::fmt::Debug for RedisConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisConnector").field("cache", &self.store.schema.cache).finish_non_exhaustive()
    }
}

impl Connector for RedisConnector {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        self.store.get(key)
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        self.store.lookup(key)
    }

    fn lease<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, (Lease, Lookup)> {
        self.store.lease(key)
    }

    fn release<'a>(&'a self, key: KeyRef<'a>, token: LeaseToken) -> Answer<'a, ()> {
        self.store.release(key, token)
    }

    fn fill_absent<'a>(&'a self, key: KeyRef<'a>, ticket: Ticket) -> Answer<'a, Fill> {
        self.store.fill_absent(key, ticket)
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.store.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        self.store.fill(object, ticket)
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        self.store.put(object, ticket)
    }

    fn set(&self, object: Object) -> Answer<'_, Stored> {
        self.store.set(object)
    }

    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        self.store.get_many(keys)
    }

    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Lookups> {
        self.store.lookup_many(keys)
    }

    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        self.store.fill_many(objects, ticket)
    }

    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        self.store.set_many(objects)
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        self.store.invalidate(keys, floor)
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.store.delete(keys)
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.store.truncate()
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        self.store.prune()
    }

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        self.store.untouched(keys, since)
    }

    fn status(&self) -> Status {
        self.store.status()
    }

    fn publish(&self) {
        self.owner.publish();
    }
}
