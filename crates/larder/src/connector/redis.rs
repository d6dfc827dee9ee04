//! The connector for one Redis or Valkey server.
//!
//! ```text
//!   RedisConnector, one per cache ── single/   what is sent for each operation, and what replies mean
//!     │                              layout.rs  scripts.rs  lua/   what is kept on the server
//!   remote/ ──────────────────────── guards, journal, trust, breaker, supervisor: shared by all kinds of servers
//!     │
//!   route.rs ─────────────────────── the way to a server: sentinel/ knows which one is the master, topology.rs which one has a slot of a cluster
//!     │
//!   wire/ ────────────────────────── connections, commands, errors
//! ```
//!
//! All caches of a process share one multiplexed connection; in a cluster each cache has its own (`cluster.rs`). `ARCHITECTURE.md` describes the life of a get, a fill and an
//! invalidation.

use crate::breaker::Breaker;
use crate::clock::Clock;
use crate::connector::remote::{Server, ServerOptions, WhenCrowded};
use crate::connector::tls::CertificateError;
use crate::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lease, LeaseToken, Lookup, Lookups, Miss, Object,
    OptionError, Place, Pruned, Schema, Status, Stored, Ticket, Value,
};
use crate::telemetry::Latencies;
use single::{Local, SingleServer, Store};
use std::sync::Arc;

mod cluster;
mod index_names;
pub mod inspect;
pub(crate) mod layout;
pub(crate) mod options;
pub(crate) mod route;
pub(crate) mod scripts;
pub(crate) mod sentinel;
pub(crate) mod single;
pub(crate) mod slots;
pub(crate) mod topology;
pub(crate) mod wire;

pub use cluster::RedisCluster;
pub use options::{Address, RedisOptions, SentinelOptions, TlsOptions};

/// A Redis or Valkey server, and the connection to it.
///
/// The connection is closed when the last clone and the last connector that was opened on it are dropped.
#[derive(Clone)]
pub struct Redis {
    server: Server<SingleServer>,
}

/// Why larder cannot even try to connect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// A connection lives in a task, which needs a Tokio runtime.
    #[error("the redis connector was opened outside a Tokio runtime; open it inside one")]
    NoRuntime,
    /// An option cannot be used.
    #[error("the redis connector cannot be opened: {0}")]
    Option(OptionError),
}

impl From<OptionError> for RedisError {
    fn from(error: OptionError) -> Self {
        Self::Option(error)
    }
}

impl Redis {
    /// Begins to connect in the background. Until a connection is made, gets miss and invalidations are deferred. It is no error if the
    /// server is down now.
    ///
    /// The connection lives in the Tokio runtime in which this is called, and ends with it. Callers may be in another runtime, or in none.
    ///
    /// # Errors
    ///
    /// See [`RedisError`] and [`RedisOptions::validate`]. Nothing that the server does is an error here.
    pub fn open(config: RedisOptions) -> Result<Self, RedisError> {
        config.validate()?;
        if config.cluster.is_some() {
            return Err(OptionError::new("cluster", "given", "no `cluster`, or open a `RedisCluster`").into());
        }
        let options = server_options(&config);
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| RedisError::NoRuntime)?;
        let server = Server::open("redis", SingleServer::new(config), options, Clock::system(), &runtime)?;
        Ok(Self { server })
    }

    /// A connector for one cache on this server.
    ///
    /// # Errors
    ///
    /// The schema cannot be used: see [`Schema::validate`]. For example, a name with a colon could reach another cache's keys.
    pub fn connector(&self, schema: Schema) -> Result<RedisConnector, OptionError> {
        RedisConnector::on(&self.server, schema)
    }

    /// Reads the files of [`TlsOptions`] now, so that new connections use what stands there. Larder does so by itself before each
    /// connection and once a minute. The connection that is there goes on. Without TLS this does nothing.
    ///
    /// # Errors
    ///
    /// The files cannot be used. New connections go on with what stood there before.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the files are read all the same.
    pub async fn reload(&self) -> Result<(), CertificateError> {
        let mut read = Ok(());
        for renewal in self.server.link().kind().route.renewals() {
            read = read.and(renewal.reload_on(self.server.link().home()).await);
        }
        read
    }

    /// The breaker of the connection: its state, its events, and the switches to force it.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        self.server.breaker()
    }

    pub(crate) fn server(&self) -> &Server<SingleServer> {
        &self.server
    }

    /// Whether there is a connection in use.
    pub(crate) fn is_connected(&self) -> bool {
        self.server.is_connected()
    }

    /// How long the server's operations took.
    #[must_use]
    pub fn latencies(&self) -> &Latencies {
        self.server.latencies()
    }

    /// Hands the breaker's state and the latencies to the installed `metrics` recorder, labelled with the server's address.
    pub fn publish(&self) {
        self.server.publish();
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("config", &self.server.link().kind().config).finish_non_exhaustive()
    }
}

fn server_options(config: &RedisOptions) -> ServerOptions {
    ServerOptions {
        connect_timeout: config.connect_timeout,
        operation_timeout: config.operation_timeout,
        journal_limit: config.journal_limit,
        journal_bytes: config.journal_bytes,
        breaker: config.whole_breaker(),
    }
}

/// One cache on a [`Redis`] server, or in a [`RedisCluster`].
pub struct RedisConnector {
    store: Arc<Store>,
    server: Server<SingleServer>,
}

impl RedisConnector {
    fn on(server: &Server<SingleServer>, schema: Schema) -> Result<Self, OptionError> {
        let link = server.link();
        let local = link.kind().local(&schema, link.clock());
        Self::with(server, schema, local)
    }

    pub(crate) fn with(server: &Server<SingleServer>, schema: Schema, local: Local) -> Result<Self, OptionError> {
        Ok(Self { store: server.cache(schema, local)?, server: server.clone() })
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The breaker of the cache's connection: its state, its events, and the switches to force it. On one server all caches share it. In a cluster
    /// each cache has its own.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        self.server.breaker()
    }
}

impl std::fmt::Debug for RedisConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisConnector").field("cache", &self.store.schema.cache).finish_non_exhaustive()
    }
}

impl Connector for RedisConnector {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        match self.store.admit() {
            Ok(()) => Answer::later(self.store.find(key)),
            Err(miss) => Answer::now(Err(miss)),
        }
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        match self.store.admit() {
            Ok(()) => Answer::later(self.store.find_or_ticket(key)),
            Err(miss) => Answer::now(Lookup::miss(miss, None)),
        }
    }

    fn lease<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, (Lease, Lookup)> {
        match self.store.admit() {
            Ok(()) => Answer::later(self.store.lease_and_look(key)),
            Err(miss) => Answer::now((Lease::Free, Lookup::miss(miss, None))),
        }
    }

    fn release<'a>(&'a self, key: KeyRef<'a>, token: LeaseToken) -> Answer<'a, ()> {
        Answer::later(self.store.give_back(key, token))
    }

    fn fill_absent<'a>(&'a self, key: KeyRef<'a>, ticket: Ticket) -> Answer<'a, Fill> {
        if self.store.may_read().is_err() {
            Answer::now(Fill::undated(Stored::Unavailable))
        } else {
            Answer::later(self.store.fill_absence(key, ticket))
        }
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        // The ticket may be for a change, so it waits for a place as a change does.
        if self.store.may_read().is_err() {
            Answer::now(None)
        } else {
            Answer::later(self.store.take_ticket(WhenCrowded::Wait))
        }
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        if self.store.may_read().is_err() {
            Answer::now(Fill::undated(Stored::Unavailable))
        } else {
            Answer::later(self.store.fill_object(object, ticket))
        }
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        Answer::later(self.store.put_object(object, ticket))
    }

    fn set(&self, object: Object) -> Answer<'_, Stored> {
        Answer::later(self.store.set_object(object))
    }

    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        if keys.is_empty() { Answer::now(Vec::new()) } else { Answer::later(self.store.find_many(keys)) }
    }

    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Lookups> {
        if keys.is_empty() {
            Answer::now(Lookups::default())
        } else {
            Answer::later(self.store.find_many_or_ticket(keys))
        }
    }

    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        if objects.is_empty() {
            Answer::now(Vec::new())
        } else {
            Answer::later(self.store.fill_objects(objects, ticket))
        }
    }

    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        if objects.is_empty() { Answer::now(Vec::new()) } else { Answer::later(self.store.set_objects(objects)) }
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
        Answer::later(self.store.prune_keys())
    }

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        Answer::later(async move { self.store.was_untouched(&keys, since).await })
    }

    fn connection(&self) -> u64 {
        self.store.link.generation()
    }

    fn place(&self) -> Answer<'_, Option<Place>> {
        Answer::later(self.store.read_place())
    }

    fn set_place(&self, place: Vec<u8>, connection: u64) -> Answer<'_, ()> {
        Answer::later(self.store.write_place(place, connection))
    }

    fn status(&self) -> Status {
        self.store.status()
    }

    fn publish(&self) {
        self.server.publish();
    }
}
