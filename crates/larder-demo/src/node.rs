//! One node of the service: a cache of instances, and the connection behind it.

use super::instance::Instance;
use larder::breaker::{Breaker, State};
use larder::connector::redis::Redis;
use larder::{Cache, Caches, Config, Entry, OpenError, Stored};

/// A cache, and what the demo wants to know about its connector.
pub(crate) struct Node {
    pub(crate) cache: Cache<Instance>,
    caches: Caches,
}

impl Node {
    /// A node with a memory cache, or a connection, of its own.
    pub(crate) async fn open(config: Config) -> Result<Self, OpenError> {
        let caches = Caches::from_config(config).await?;
        Ok(Self { cache: caches.open()?, caches })
    }

    /// The server behind the cache, if there is one.
    pub(crate) fn redis(&self) -> Option<&Redis> {
        self.caches.redis(self.caches.cache_options(Instance::CACHE)?.connector)
    }

    pub(crate) fn breaker(&self) -> Option<&Breaker> {
        self.redis().map(Redis::breaker)
    }

    /// Whether every lookup goes to the connector: the cache can be read, and the breaker lets all calls through.
    pub(crate) fn is_linked(&self) -> bool {
        let closed = |breaker: &Breaker| matches!(breaker.state(), State::Closed | State::ForcedClosed);
        self.cache.status().readable && self.breaker().is_none_or(closed)
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

    /// How often the breaker has opened.
    pub(crate) fn breaker_opened(&self) -> u64 {
        self.breaker().map_or(0, |breaker| breaker.snapshot().opened)
    }

    /// Closes the caches, which tries once more to deliver deferred invalidations.
    pub(crate) async fn shut_down(&self) {
        self.caches.shutdown().await;
    }
}
