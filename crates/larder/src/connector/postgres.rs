//! The connector for a PostgreSQL database.
//!
//! ```text
//!   PostgresConnector, one per cache ── reading.rs  storing.rs  leasing.rs  pruning.rs    what is sent, and what rows mean
//!     │                                 queries.rs  marks.rs    sql/schema.sql            what is kept in the database
//!   remote/ ─────────────────────────── guards, journal, trust, breaker, supervisor: what every server needs
//!     │
//!   server.rs ───────────────────────── connection.rs  snapshots.rs  errors.rs            sessions, tickets, errors
//!     │                                 address.rs  connecting.rs  tls.rs                 where the server is, and the way to it
//! ```
//!
//! # What a reader may observe
//!
//! An object is stored with its ticket: the snapshot that its load began with. Each read compares the object with the *fences*, rows that say
//! which transaction has touched which key. It serves the object only if the ticket sees all fences of its keys that the read sees. So an invalidation
//! takes effect when its transaction commits, whoever made it and whatever is under way at that moment, and nobody waits for anybody.
//!
//! # Rights
//!
//! A role that owns nothing can use tables that an administrator has made with [`Postgres::SCHEMA`]. It needs these rights. `TRUNCATE` empties the tables
//! of a database that was copied or restored from a dump. Without a right the node does what it still can: it reads as long as it may read and
//! fence, and says in the log what is missing.
//!
//! ```sql
//! GRANT USAGE ON SCHEMA larder TO role_of_the_service;
//! GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA larder TO role_of_the_service;
//! ```
//!
//! An application that only calls `larder.invalidate` or `larder.truncate` in its transactions needs the first of them.
//!
//! # Poolers
//!
//! Every operation is one statement and leaves nothing in its session. So it goes through PgBouncer in transaction mode, before version 1.21 with
//! [`prepared`](PostgresOptions::prepared) set to false.

use crate::breaker::Breaker;
use crate::clock::Clock;
use crate::connector::remote::{Link, Server, ServerOptions};
use crate::connector::tls::CertificateError;
use crate::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lease, LeaseToken, Lookup, Lookups, Miss, Object,
    OptionError, Place, Pruned, Schema, Status, Stored, Ticket, Transactions, Value,
};
use crate::telemetry::Latencies;
use server::{PostgresServer, Store};
use std::sync::Arc;
use std::time::Duration;

pub(crate) mod address;
pub(crate) mod connecting;
pub(crate) mod connection;
mod errors;
mod forgetting;
pub mod inspect;
mod leasing;
pub(crate) mod listening;
pub(crate) mod marks;
pub(crate) mod options;
mod placing;
mod pruning;
pub(crate) mod queries;
mod reading;
pub(crate) mod rights;
pub(crate) mod server;
pub(crate) mod snapshots;
mod storing;
mod ticketing;
pub(crate) mod tls;

pub use options::PostgresOptions;

/// A PostgreSQL database, and the connections to it.
///
/// Dropping the last clone, and the last connector opened on it, closes them.
#[derive(Clone)]
pub struct Postgres {
    server: Server<PostgresServer>,
}

/// Why a database cannot even be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// Connections live in tasks.
    #[error("the postgres connector was opened outside a Tokio runtime; open it inside one")]
    NoRuntime,
    /// A setting cannot be used.
    #[error("the postgres connector cannot be opened: {0}")]
    Option(OptionError),
}

impl From<OptionError> for PostgresError {
    fn from(error: OptionError) -> Self {
        Self::Option(error)
    }
}

impl Postgres {
    /// The SQL that makes what larder needs in a database, for whoever has the right to run it. It can be run again.
    pub const SCHEMA: &'static str = server::SCHEMA;

    /// Begins to connect, in the background; until that has succeeded, gets miss and invalidations are deferred. A server that is down now is a
    /// normal start. Tables are made where they are missing once a cache is opened, and not before.
    ///
    /// The connections live in the Tokio runtime that this is called in, and end with it; they may be used from anywhere.
    ///
    /// # Errors
    ///
    /// See [`PostgresError`] and [`PostgresOptions::validate`]; nothing the server does is an error here.
    pub fn open(options: PostgresOptions) -> Result<Self, PostgresError> {
        options.validate()?;
        let settings = ServerOptions {
            connect_timeout: options.connect_timeout,
            operation_timeout: options.operation_timeout,
            journal_limit: options.journal_limit,
            journal_bytes: options.journal_bytes,
            breaker: options.whole_breaker(),
        };
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| PostgresError::NoRuntime)?;
        let server = Server::open("postgres", PostgresServer::new(options), settings, Clock::system(), &runtime)?;
        Ok(Self { server })
    }

    /// A connector for one cache in this database.
    ///
    /// # Errors
    ///
    /// The schema cannot be used: see [`Schema::validate`].
    pub fn connector(&self, schema: Schema) -> Result<PostgresConnector, OptionError> {
        let link = self.server.link();
        let local = link.kind().local(&schema, link.clock());
        Ok(PostgresConnector { store: self.server.cache(schema, local)?, server: self.server.clone() })
    }

    /// The same for a cache that this node keeps in its own memory, too.
    pub(crate) fn in_front(&self, schema: Schema, tier: Arc<server::Tier>) -> Result<PostgresConnector, OptionError> {
        let link = self.server.link();
        let local = link.kind().tiered(&schema, link.clock(), tier);
        Ok(PostgresConnector { store: self.server.cache(schema, local)?, server: self.server.clone() })
    }

    /// What tells other nodes, through the database, what a cache that keeps its objects elsewhere forgets.
    pub(crate) fn telling(&self, schema: &Schema, origin: i64) -> Result<Telling, OptionError> {
        let (schema, link) = (schema.clone().counted_alone(), self.server.link());
        let local = link.kind().telling(&schema, link.clock(), origin);
        Ok(Telling { store: self.server.cache(schema, local)?, server: self.server.clone() })
    }

    pub(crate) fn link(&self) -> &Link<PostgresServer> {
        self.server.link()
    }

    /// Hosts and database.
    pub(crate) fn name(&self) -> &str {
        crate::connector::remote::ServerKind::name(self.link().kind())
    }

    /// Reads the files of certificates now (`sslrootcert`, `sslcert`, `sslkey`), so that new connections use what stands there. Larder does so
    /// by itself before each connection and once a minute. Connections that are there go on. Without TLS this does nothing.
    ///
    /// # Errors
    ///
    /// The files cannot be used. New connections go on with what stood there before.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the files are read all the same.
    pub async fn reload(&self) -> Result<(), CertificateError> {
        match self.server.link().kind().certificates.renewal() {
            Some(renewal) => renewal.reload_on(self.server.link().home()).await,
            None => Ok(()),
        }
    }

    /// The breaker of the connections: its state, its events, and the switches to force it.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        self.server.breaker()
    }

    /// Whether there are connections in use.
    pub(crate) fn is_connected(&self) -> bool {
        self.server.is_connected()
    }

    /// How long the server's operations took.
    #[must_use]
    pub fn latencies(&self) -> &Latencies {
        self.server.latencies()
    }

    /// Hands the breaker's state and the latencies to the `metrics` recorder that is installed, labelled with hosts and database.
    pub fn publish(&self) {
        self.server.publish();
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("options", &self.server.link().kind().options).finish_non_exhaustive()
    }
}

/// What a cache that keeps its objects elsewhere forgets, on its way to the other nodes: with guards and a journal, as for any server.
pub(crate) struct Telling {
    store: Arc<Store>,
    server: Server<PostgresServer>,
}

impl Telling {
    pub(crate) fn invalidate(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.store.invalidate(keys, None)
    }

    pub(crate) fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.store.truncate()
    }

    /// How the way to the other nodes is doing, beside what is kept here.
    pub(crate) fn status(&self, here: Status) -> Status {
        let Status { journal, under_way, breaker, .. } = self.store.status();
        Status { journal, under_way, breaker, ..here }
    }

    pub(crate) fn publish(&self) {
        self.server.publish();
    }
}

/// One cache in a [`Postgres`] database.
pub struct PostgresConnector {
    store: Arc<Store>,
    server: Server<PostgresServer>,
}

impl std::fmt::Debug for PostgresConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConnector").field("cache", &self.store.schema.cache).finish_non_exhaustive()
    }
}

impl Connector for PostgresConnector {
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
        match self.store.may_read() {
            Ok(()) => Answer::later(self.store.fill_absence(key, ticket)),
            Err(_) => Answer::now(Fill::undated(Stored::Unavailable)),
        }
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        match self.store.may_read() {
            Ok(()) => Answer::later(self.store.take_ticket()),
            Err(_) => Answer::now(None),
        }
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        match self.store.may_read() {
            Ok(()) => Answer::later(self.store.fill_object(object, ticket)),
            Err(_) => Answer::now(Fill::undated(Stored::Unavailable)),
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
        Answer::later(self.store.prune_all())
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

    fn transactions(&self) -> Transactions<'_> {
        Transactions::Kept(&*self.store)
    }

    fn status(&self) -> Status {
        self.store.status()
    }

    fn publish(&self) {
        self.server.publish();
    }
}

/// The longest time that is sent: 10,000 years. The database counts times to the year 294,276.
const ENDLESS: u64 = 10_000 * 366 * 24 * 3_600_000;

/// Milliseconds as the database takes them. A lifetime under a millisecond is one, not none.
fn milliseconds(time: Duration) -> i64 {
    let time = u64::try_from(time.as_nanos().div_ceil(1_000_000)).map_or(ENDLESS, |time| time.min(ENDLESS));
    time.cast_signed()
}
