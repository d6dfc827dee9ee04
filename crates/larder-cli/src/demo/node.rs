//! One node of the service: a cache of instances, and the connection behind it.

use super::instance::Instance;
use larder::breaker::{Breaker, State};
use larder::connector::memory::{Memory, MemoryOptions};
use larder::connector::redis::Redis;
use larder::{Cache, Schema, Stored};
use std::sync::Arc;

/// A cache, and what the demo wants to know of the connector under it.
pub(crate) struct Node {
    pub(crate) cache: Cache<Instance>,
    redis: Option<Redis>,
}

impl Node {
    /// A node that keeps its objects in this process.
    pub(crate) fn in_memory() -> Self {
        let schema = Schema::of::<Instance>();
        let memory = Memory::open(schema.clone(), MemoryOptions::default());
        Self { cache: Cache::new(Arc::new(memory), schema), redis: None }
    }

    /// A node with a connection of its own.
    pub(crate) fn on(redis: Redis) -> Self {
        let schema = Schema::of::<Instance>();
        Self { cache: Cache::new(Arc::new(redis.connector(schema.clone())), schema), redis: Some(redis) }
    }

    pub(crate) fn breaker(&self) -> Option<&Breaker> {
        self.redis.as_ref().map(Redis::breaker)
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

    /// Fills that were refused because a change had overtaken the load.
    pub(crate) fn refused_fills(&self) -> u64 {
        self.cache.stats().fill(Stored::Overtaken).get() + self.cache.stats().fill(Stored::Outdated).get()
    }

    /// How often the breaker has opened.
    pub(crate) fn breaker_opened(&self) -> u64 {
        self.breaker().map_or(0, |breaker| breaker.snapshot().opened)
    }
}
