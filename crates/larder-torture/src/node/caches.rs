//! The caches of a node, and the servers that they are on.

use crate::certificates::{AUTHORITY, CERTIFICATE, KEY};
use crate::failure::Failure;
use crate::objects::{Instance, Kind, Policy, Subject};
use crate::plan;
use crate::protocol::{Setup, Store, Truth};
use larder::breaker::{Breaker, BreakerOptions, Snapshot as BreakerSnapshot};
use larder::connector::memory::{Memory, MemoryOptions};
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::connector::redis::{
    Address, Redis, RedisCluster, RedisConnector, RedisOptions, SentinelOptions, TlsOptions,
};
use larder::connector::tiered::{Consistency, Tiered, TieredOptions};
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::{Cache, Connector, Entry, LoadOptions, Schema};
use larder_testing::server::Watched;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// The prefix of all keys on the server.
pub(crate) const PREFIX: &str = "torture";

/// The max age of instances. It bounds how long objects stay that a killed node should have invalidated. Policies have no ages.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(6);
const LAST_USE_AGE: Duration = Duration::from_secs(3);

/// The same where another server takes the place of one that is down: what is stored must outlive that, or nothing that a failover leaves behind could
/// be read.
const MAX_AGE_OVER_FAILOVERS: Duration = Duration::from_secs(40);
const LAST_USE_AGE_OVER_FAILOVERS: Duration = Duration::from_secs(20);

/// How long nothing is used on a promoted master. These nodes are strict: where they reach no Sentinel, they leave the old master after three heartbeats, and
/// half a second for the last answer. A busy machine may be late by more than what the default leaves.
const GRACE: Duration = Duration::from_secs(5);

/// How long after its max age an instance is kept, to be served while its successor is loaded.
pub(crate) const SERVE_EXPIRED: Duration = Duration::from_secs(2);

/// How long one operation on the server may take. Statements of PostgreSQL do more work, and wait for locks. Patient nodes bear with a server that
/// a busy machine has made slow.
pub(crate) fn operation_timeout(connector: plan::Connector, patient: bool) -> Duration {
    match connector {
        _ if patient => Duration::from_secs(5),
        plan::Connector::Postgres => Duration::from_millis(500),
        _ => Duration::from_millis(100),
    }
}

/// How often a node asks the feed, and for how long after that it serves what it has in memory.
const POLL: Duration = Duration::from_millis(25);
pub(crate) const DEADLINE: Duration = Duration::from_millis(600);

/// How long a node's own memory of a cache is valid, and how long it takes until that is over for certain.
const VALIDITY: Duration = Duration::from_millis(500);
pub(crate) const OVER: Duration = Duration::from_millis(520);

/// How long a node waits for a new connection to PostgreSQL. A network that swallows the first bytes costs all of it.
const CONNECT: Duration = Duration::from_secs(2);

/// How often a node prunes a database.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// The caches of this process.
pub(super) struct Caches {
    pub(super) instances: Cache<Instance>,
    pub(super) policies: Cache<Policy>,
    servers: Servers,
}

/// What the caches of this process are on: in its memory, if they are on no server.
#[derive(Default)]
struct Servers {
    redis: Option<OnRedis>,
    postgres: Option<Postgres>,
    /// Each has a breaker; in a cluster, one of its own.
    connectors: Vec<OneCache>,
    /// What changes wait for, where this node keeps objects in its own memory.
    tiered: Option<Consistency>,
    failing_over: bool,
    /// What caches follow that are not in PostgreSQL.
    feed: Option<Feed>,
}

/// The breaker closes sooner than a service would want, so that more happens in a run.
fn hasten(breaker: &mut BreakerOptions) {
    breaker.open_refused = Duration::from_millis(400);
    breaker.open = Duration::from_millis(200);
    breaker.open_max = Duration::from_millis(400);
    breaker.ramp = Duration::from_millis(300);
}

/// A cache on redis, with or without a memory of this node in front of it.
enum OneCache {
    Redis(Arc<RedisConnector>),
    Tiered(Arc<Tiered<RedisConnector>>),
}

impl OneCache {
    fn breaker(&self) -> &Breaker {
        match self {
            Self::Redis(connector) => connector.breaker(),
            Self::Tiered(tiered) => tiered.over().breaker(),
        }
    }
}

/// A server, or a master that Sentinels name, or a cluster.
enum OnRedis {
    Server(Redis),
    Cluster(Box<RedisCluster>),
}

impl OnRedis {
    fn tiered(&self, schema: Schema, options: &TieredOptions) -> Result<Tiered<RedisConnector>, larder::OptionError> {
        match self {
            Self::Server(server) => server.tiered(schema, options),
            Self::Cluster(cluster) => cluster.tiered(schema, options),
        }
    }

    fn connector(&self, schema: Schema) -> Result<RedisConnector, larder::OptionError> {
        match self {
            Self::Server(server) => server.connector(schema),
            Self::Cluster(cluster) => cluster.connector(schema),
        }
    }
}

fn redis(address: Address, setup: &Setup) -> RedisOptions {
    let mut options = RedisOptions::new(address)
        .prefix(PREFIX.to_owned())
        .operation_timeout(operation_timeout(plan::Connector::Redis, setup.patient));
    hasten(&mut options.breaker);
    options
}

fn local(port: u16) -> Address {
    Address::Tcp { host: "127.0.0.1".to_owned(), port }
}

fn behind_sentinels(ports: &[u16], setup: &Setup) -> Result<Redis, Box<dyn Error>> {
    let mut sentinels = SentinelOptions::new(Watched::NAME);
    sentinels.hosts = ports.iter().copied().map(local).collect();
    // Some nodes do not reach the Sentinels for a while. Only those that are strict leave the old master then.
    (sentinels.strict, sentinels.grace) = (true, GRACE);
    Ok(Redis::open(redis(local(0), setup).sentinel(sentinels))?)
}

fn in_cluster(ports: &[u16], setup: &Setup) -> Result<RedisCluster, Box<dyn Error>> {
    let Some((first, others)) = ports.split_first() else { return Err("a cluster without nodes".into()) };
    let others: Vec<Address> = others.iter().copied().map(local).collect();
    Ok(RedisCluster::open(redis(local(*first), setup).cluster(others))?)
}

fn postgres(dsn: &str, setup: &Setup) -> Result<Postgres, Box<dyn Error>> {
    let mut options = PostgresOptions::from_url(dsn)?
        .operation_timeout(operation_timeout(plan::Connector::Postgres, setup.patient))
        .connect_timeout(CONNECT)
        // One node in three sends every statement with its text, and so does one that goes through a pooler.
        .prepared(!setup.pooled && !setup.node.is_multiple_of(3))
        .prune_interval(PRUNE_EVERY);
    hasten(&mut options.breaker);
    Ok(Postgres::open(options)?)
}

impl Servers {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        let mut servers =
            Self { tiered: setup.tiered.as_deref().and_then(|name| plan::consistency(name).ok()), ..Self::default() };
        match &setup.store {
            Store::Memory => {}
            Store::Redis(socket) => {
                let options = redis(Address::Unix(socket.to_owned()), setup);
                servers.redis = Some(OnRedis::Server(Redis::open(options)?));
            }
            Store::Secured { port, folder } => {
                let path = |name| folder.join(name);
                let tls = TlsOptions::new().ca_file(path(AUTHORITY)).client_certificate(path(CERTIFICATE), path(KEY));
                servers.redis = Some(OnRedis::Server(Redis::open(redis(local(*port), setup).tls(tls))?));
            }
            Store::Sentinels(ports) => {
                servers.redis = Some(OnRedis::Server(behind_sentinels(ports, setup)?));
                servers.failing_over = true;
            }
            Store::Cluster(ports) => {
                servers.redis = Some(OnRedis::Cluster(Box::new(in_cluster(ports, setup)?)));
                servers.failing_over = true;
            }
            Store::Postgres { dsn, .. } => {
                let database = postgres(dsn, setup)?;
                if servers.tiered.is_some() {
                    servers.feed = Some(Feed::open(&database, FeedOptions::new().poll(POLL))?);
                }
                servers.postgres = Some(database);
                return Ok(servers);
            }
        }
        if let Truth::Ledger { feed, .. } = &setup.source {
            let database = postgres(feed, setup)?;
            servers.feed = Some(Feed::open(&database, FeedOptions::new().poll(POLL))?);
            servers.postgres = Some(database);
        }
        Ok(servers)
    }

    fn breakers(&self) -> impl Iterator<Item = BreakerSnapshot> {
        let of_cluster = matches!(self.redis, Some(OnRedis::Cluster(_)));
        let count = if of_cluster { self.connectors.len() } else { 1 };
        let redis = self.connectors.iter().take(count).map(|connector| connector.breaker().snapshot());
        redis.chain(self.postgres.iter().map(|postgres| postgres.breaker().snapshot()))
    }

    fn connector(&mut self, schema: Schema) -> Result<Arc<dyn Connector>, Box<dyn Error>> {
        let following = || FollowOptions::new().deadline(DEADLINE);
        Ok(match (&self.redis, &self.postgres, &self.feed) {
            (Some(redis), _, None) if self.tiered.is_some() => {
                let consistency = self.tiered.unwrap_or_default();
                let options = TieredOptions::new().validity(VALIDITY).consistency(consistency);
                let tiered = Arc::new(redis.tiered(schema, &options)?);
                self.connectors.push(OneCache::Tiered(tiered.clone()));
                tiered
            }
            (Some(redis), _, None) => {
                let connector = Arc::new(redis.connector(schema)?);
                self.connectors.push(OneCache::Redis(connector.clone()));
                connector
            }
            (Some(redis), _, Some(feed)) => {
                let shared = Arc::new(redis.connector(schema.clone())?);
                self.connectors.push(OneCache::Redis(shared.clone()));
                Arc::new(feed.follow(schema, shared, following())?)
            }
            (None, _, Some(feed)) if self.tiered.is_some() => {
                let follow = FollowOptions::new().deadline(VALIDITY);
                Arc::new(feed.tiered(schema, MemoryOptions::default(), follow)?)
            }
            (None, _, Some(feed)) => Arc::new(feed.memory(schema, MemoryOptions::default(), following())?),
            (None, Some(postgres), None) => Arc::new(postgres.connector(schema)?),
            (None, None, None) => Arc::new(Memory::open(schema, MemoryOptions::default())?),
        })
    }
}

impl Caches {
    pub(super) fn open(setup: &Setup) -> Result<Self, Failure> {
        let refused = |error: Box<dyn Error>| Failure::Problem(error.to_string());
        let mut servers = Servers::open(setup).map_err(refused)?;
        let instances = open(setup.node, &mut servers).map_err(refused)?;
        let policies = open(setup.node, &mut servers).map_err(refused)?;
        Ok(Self { instances, policies, servers })
    }

    /// How often a breaker has opened.
    pub(super) fn opened(&self) -> u64 {
        self.servers.breakers().map(|breaker| breaker.opened).sum()
    }

    pub(super) fn journal(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Instance => self.instances.status().journal,
            Kind::Policy => self.policies.status().journal,
        }
    }

    /// How often the cache was cleared, truncates not counted.
    pub(super) fn resets(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Instance => self.instances.stats().resets.get(),
            Kind::Policy => self.policies.stats().resets.get(),
        }
    }

    pub(super) fn readable(&self) -> bool {
        self.instances.status().readable && self.policies.status().readable
    }

    /// Why the node is not at rest. `None`: it is at rest.
    pub(super) fn unrest(&self) -> Option<String> {
        let in_flight: usize = self.servers.breakers().map(|breaker| breaker.in_flight).sum();
        let journal = self.journal(Kind::Instance) + self.journal(Kind::Policy);
        if !self.readable() {
            Some("a cache cannot be read".to_owned())
        } else if journal > 0 {
            Some(format!("{journal} invalidations are in the journal"))
        } else if in_flight > 0 {
            Some(format!("{in_flight} permits are given out"))
        } else {
            None
        }
    }
}

/// Every second node has all options for loads. It shares its caches with nodes that have none.
fn loading(node: u32) -> LoadOptions {
    if !node.is_multiple_of(2) {
        return LoadOptions::default();
    }
    LoadOptions::new()
        .lease(Duration::from_millis(300))
        .refresh_ahead(Duration::from_secs(2))
        .serve_expired(SERVE_EXPIRED)
        .soft_timeout(Duration::from_millis(30))
        .hard_timeout(Duration::from_millis(1_500))
        .negative_age(Duration::from_secs(2))
        .jitter(0.3)
}

fn open<E: Subject>(node: u32, servers: &mut Servers) -> Result<Cache<E>, Box<dyn Error>> {
    let mut schema = Schema::of::<E>();
    if E::KIND == Kind::Instance {
        let (max_age, last_use_age) = match servers.failing_over {
            true => (MAX_AGE_OVER_FAILOVERS, LAST_USE_AGE_OVER_FAILOVERS),
            false => (MAX_AGE, LAST_USE_AGE),
        };
        schema = schema.ages(max_age, last_use_age).loading(loading(node));
    }
    Ok(Cache::new(servers.connector(schema.clone())?, schema)?)
}

/// The name of a cache on the server.
pub(crate) fn cache_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Instance => Instance::CACHE,
        Kind::Policy => Policy::CACHE,
    }
}
