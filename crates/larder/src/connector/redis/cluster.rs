//! [`RedisCluster`]: a Redis or Valkey cluster.
//!
//! # One cache, one slot, one link
//!
//! The name of a cache is the hash tag of all its keys (`prefix:{cache}:…`). So a cache is in one slot, and on one primary at a time, where the
//! scripts and the proofs of a single server hold unchanged. Another cache is in another slot, as a rule on another primary.
//!
//! Each cache has its own connection, breaker, journal and supervisor: those of a single server, for which "the server" is whichever node is
//! the primary of the cache's slot. A primary that is dead or hangs costs its own caches, and no other cache notices.
//! docs/decisions/one-link-per-cache-in-a-cluster.md says why the journal has to go with the cache, and what that costs.
//!
//! # What a reader may observe when a slot moves
//!
//! 1. While the slot is on its way, a key may be on either node. The old node answers ASK, TRYAGAIN, or that a script's key is not local. A get is
//!    then a miss, and a change is deferred; the breaker does not count it. Larder never sends ASKING: a script may find the clock on one node
//!    and the object on the other, and would answer *done* while the object is still to come.
//! 2. When the slot has moved, the old node answers MOVED, to a get or to the heartbeat. The connection is given up: every get is a miss.
//! 3. The supervisor connects to the node that MOVED names. That node must answer for the slot on this very connection.
//! 4. The history of the node (its process, and its replication history) is compared with the one in the cache's clock, as after every connect.
//!    It is another one, so the cache is cleared, and then read. A failover and a restart are noticed in the same way.
//!
//! A deferred change waits in the cache's journal over all of this, and is applied before the cache is read.

use super::options::RedisOptions;
use super::single::SingleServer;
use super::topology::Topology;
use super::{RedisConnector, RedisError, server_options};
use crate::clock::Clock;
use crate::connector::remote::Server;
use crate::connector::tls::CertificateError;
use crate::contract::{OptionError, Schema};
use std::sync::Arc;
use tokio::runtime::Handle;

/// A Redis or Valkey cluster, of which each cache uses one primary.
///
/// ```no_run
/// use larder::connector::redis::{RedisCluster, RedisOptions};
/// # use larder::{Cache, Entry, Schema};
/// # use serde::{Deserialize, Serialize};
/// # use std::sync::Arc;
/// # #[derive(Serialize, Deserialize, Entry)] #[entry(cache = "instance")] struct Instance { #[key(primary)] id: String }
/// # async fn open() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = RedisCluster::open(RedisOptions::new("10.0.0.1:7000").cluster(["10.0.0.2:7000", "10.0.0.3:7000"]))?;
/// let schema = Schema::of::<Instance>();
/// let instances: Cache<Instance> = Cache::new(Arc::new(cluster.connector(schema.clone())?), schema)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisCluster {
    config: RedisOptions,
    topology: Arc<Topology>,
    runtime: Handle,
}

impl RedisCluster {
    /// The cluster that the options name nodes of. Nothing is connected yet: each cache connects by itself, in the background.
    ///
    /// Connections live in the Tokio runtime in which this is called, and end with it. Callers may be in another runtime, or in none.
    ///
    /// # Errors
    ///
    /// See [`RedisError`] and [`RedisOptions::validate`]. Nothing that the nodes do is an error here.
    pub fn open(config: RedisOptions) -> Result<Self, RedisError> {
        config.validate()?;
        if config.cluster.is_none() {
            return Err(OptionError::new("cluster", "none", "at least an empty list, or open a `Redis`").into());
        }
        let runtime = Handle::try_current().map_err(|_| RedisError::NoRuntime)?;
        Ok(Self { topology: Arc::new(Topology::new(config.clone())), config, runtime })
    }

    /// A connector for one cache. It connects in the background to the primary of the cache's slot. Until a connection is made, gets miss and
    /// invalidations are deferred.
    ///
    /// # Errors
    ///
    /// The schema cannot be used: see [`Schema::validate`].
    pub fn connector(&self, schema: Schema) -> Result<RedisConnector, OptionError> {
        RedisConnector::on(&self.server_of(&schema)?, schema)
    }

    /// The primary of the slot in which this cache is.
    pub(crate) fn server_of(&self, schema: &Schema) -> Result<Server<SingleServer>, OptionError> {
        schema.validate()?;
        let kind = SingleServer::in_cluster(self.config.clone(), self.topology.clone(), &schema.cache);
        Server::open("redis", kind, server_options(&self.config), Clock::system(), &self.runtime)
    }

    /// Whether any node has answered.
    pub(crate) fn is_known(&self) -> bool {
        !self.topology.primaries().is_empty()
    }

    /// Reads the files of [`TlsOptions`](super::TlsOptions) now: as [`Redis::reload`](super::Redis::reload).
    ///
    /// # Errors
    ///
    /// The files cannot be used. New connections go on with what stood there before.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the files are read all the same.
    pub async fn reload(&self) -> Result<(), CertificateError> {
        match self.topology.dialer().renewal() {
            Some(renewal) => renewal.reload_on(&self.runtime).await,
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for RedisCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisCluster").field("config", &self.config).finish_non_exhaustive()
    }
}
