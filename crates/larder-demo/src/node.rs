//! One node of the service: a cache of instances, and the connection behind it.

use super::instance::Instance;
use larder::breaker::{Breaker, State};
use larder::connector::redis::Redis;
use larder::{Cache, Caches, Config, Entry, OpenError, Stored};

/// A cache, and what the demo wants to know of the connector under it.
pub(crate) struct Node {
    pub(crate) cache: Cache<Instance>,
    caches: Caches,
}

impl Node {
    /// A node with a memory, or a connection, of its own.
    pub(crate) async fn open(config: Config) -> Result<Self, OpenError> {
        let caches = Caches::from_config(config).await?;
        Ok(Self { cache: caches.open()?, caches })
    }

    /// The server behind the cache, where there is one.
    pub(crate) fn redis(&self) -> Option<&Redis> {
        self.caches.redis(self.caches.cache_options(Instance::CACHE)?.connector)
    }

    pub(crate) fn breaker(&self) -> Option<&Breaker> {
        self.redis().map(Redis::breaker)
    }

    /// Whether every lookup goes to the connector: it may be read, and no part of the calls is held back.
    pub(crate) fn is_linked(&self) -> bool {
        let closed = |breaker: &Breaker| matches!(breaker.state(), State::Closed | State::ForcedClosed);
        self.cache.status().readable && self.breaker().is_none_or(closed)
    }

    /// Puts that the connector has not taken, so that an invalidation of their keys was deferred.
    pub(crate) fn undelivered_puts(&self) -> u64 {
        self.cache.stats().put(Stored::Unavailable).get()
    }

    /// Invalidations, and puts that became invalidations, that went into the journal.
    pub(crate) fn deferred(&self) -> u64 {
        self.cache.stats().deferred.get() + self.undelivered_puts()
    }

    /// Fills that were refused because a change had overtaken the load.
    pub(crate) fn refused_fills(&self) -> u64 {
        self.cache.stats().fill(Stored::Overtaken).get() + self.cache.stats().fill(Stored::Outdated).get()
    }

    /// How often the breaker has opened.
    pub(crate) fn breaker_opened(&self) -> u64 {
        self.breaker().map_or(0, |breaker| breaker.snapshot().opened)
    }

    /// Gives deferred invalidations a last chance.
    pub(crate) async fn shut_down(&self) {
        self.caches.shutdown().await;
    }
}
