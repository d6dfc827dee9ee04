//! One node of the service: a cache of instances, and the connection behind it.

use super::instance::Instance;
use larder::breaker::{Breaker, State};
use larder::connector::postgres::{Postgres, PostgresError, PostgresOptions};
use larder::connector::redis::Redis;
use larder::contract::WrongSchema;
use larder::{Cache, Caches, Config, Entry, OpenError, OptionError, Schema, Stored};
use std::sync::Arc;

/// Why a node cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error(transparent)]
    Caches(#[from] OpenError),
    #[error(transparent)]
    Database(#[from] PostgresError),
    #[error(transparent)]
    Option(#[from] OptionError),
    #[error(transparent)]
    Schema(#[from] WrongSchema),
}

/// A cache, and what the demo wants to know about its connector.
pub(crate) struct Node {
    pub(crate) cache: Cache<Instance>,
    behind: Behind,
}

/// What a node has its cache from.
enum Behind {
    Caches(Box<Caches>),
    /// A database. The cache there has a name of its own.
    Database(Postgres),
}

impl Node {
    /// A node with a memory cache, or a connection, of its own.
    pub(crate) async fn open(config: Config) -> Result<Self, NodeError> {
        let caches = Caches::from_config(config).await?;
        Ok(Self { cache: caches.open()?, behind: Behind::Caches(Box::new(caches)) })
    }

    /// A node with connections of its own to a database. The cache there is called `name`.
    pub(crate) fn on_database(options: PostgresOptions, name: &str) -> Result<Self, NodeError> {
        let database = Postgres::open(options)?;
        let schema = Schema::of::<Instance>().named(name);
        let connector = Arc::new(database.connector(schema.clone())?);
        Ok(Self { cache: Cache::new(connector, schema)?, behind: Behind::Database(database) })
    }

    /// The Redis or Valkey server behind the cache, if there is one.
    fn redis(&self) -> Option<&Redis> {
        let Behind::Caches(caches) = &self.behind else { return None };
        caches.redis(caches.cache_options(Instance::CACHE)?.connector)
    }

    /// The breaker in front of the server, if there is one server. In a cluster, only its state is known: `Status::breaker`.
    pub(crate) fn breaker(&self) -> Option<&Breaker> {
        match &self.behind {
            Behind::Database(database) => Some(database.breaker()),
            Behind::Caches(_) => self.redis().map(Redis::breaker),
        }
    }

    /// Hands the breaker's state and the latencies of the server to the recorder of metrics.
    pub(crate) fn publish(&self) {
        match &self.behind {
            Behind::Database(database) => database.publish(),
            Behind::Caches(_) => {
                if let Some(redis) = self.redis() {
                    redis.publish();
                }
            }
        }
    }

    /// Whether every lookup goes to the connector: the cache can be read, and the breaker lets all calls through.
    pub(crate) fn is_linked(&self) -> bool {
        let status = self.cache.status();
        status.readable && status.breaker.is_none_or(|state| matches!(state, State::Closed | State::ForcedClosed))
    }

    /// How many puts could not be delivered. For each, an invalidation of its keys was deferred.
    pub(crate) fn undelivered_puts(&self) -> u64 {
        self.cache.stats().put(Stored::Unavailable).get()
    }

    /// How many invalidations, and puts that became invalidations, went into the journal.
    pub(crate) fn deferred(&self) -> u64 {
        self.cache.stats().deferred.get() + self.undelivered_puts()
    }

    /// How many fills were refused because a change had overtaken the load.
    pub(crate) fn refused_fills(&self) -> u64 {
        self.cache.stats().fill(Stored::Overtaken).get() + self.cache.stats().fill(Stored::Outdated).get()
    }

    /// How often the breaker has opened, if it is known.
    pub(crate) fn breaker_opened(&self) -> Option<u64> {
        self.breaker().map(|breaker| breaker.snapshot().opened)
    }

    /// Closes the caches, which tries once more to deliver deferred invalidations. A cache in a database is forgotten as a whole at the end,
    /// so there is nothing to deliver.
    pub(crate) async fn shut_down(&self) {
        if let Behind::Caches(caches) = &self.behind {
            caches.shutdown().await;
        }
    }
}
