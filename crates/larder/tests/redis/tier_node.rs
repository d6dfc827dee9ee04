//! One node with a memory in front of the server.

use crate::instance::{Instance, instance};
use crate::node::{config, until};
use larder::connector::redis::{Redis, RedisCluster, RedisConnector, RedisOptions};
use larder::connector::tiered::{Tiered, TieredOptions};
use larder::contract::KeyRef;
use larder::{Cache, Connector, Delivery, Schema, Stored};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) struct TierNode {
    pub(crate) tiered: Arc<Tiered<RedisConnector>>,
    pub(crate) cache: Cache<Instance>,
}

impl TierNode {
    pub(crate) fn begin(config: RedisOptions, options: &TieredOptions) -> Self {
        let redis = Redis::open(config).unwrap();
        Self::of(|schema| redis.tiered(schema, options).unwrap())
    }

    pub(crate) fn begin_in_cluster(config: RedisOptions, options: &TieredOptions) -> Self {
        let cluster = RedisCluster::open(config).unwrap();
        Self::of(|schema| cluster.tiered(schema, options).unwrap())
    }

    fn of(open: impl FnOnce(Schema) -> Tiered<RedisConnector>) -> Self {
        let schema = Schema::of::<Instance>();
        let tiered = Arc::new(open(schema.clone()));
        Self { cache: Cache::new(tiered.clone(), schema).unwrap(), tiered }
    }

    pub(crate) async fn on(socket: &Path, validity: Duration) -> Self {
        Self::with(socket, &TieredOptions::new().validity(validity)).await
    }

    pub(crate) async fn with(socket: &Path, options: &TieredOptions) -> Self {
        let node = Self::begin(config(socket), options);
        node.follows().await;
        node
    }

    /// Waits until the memory may be read.
    pub(crate) async fn follows(&self) {
        until("the memory is valid", || self.cache.status().readable && self.tiered.valid_for_ms() > 0).await;
    }

    pub(crate) async fn set(&self, id: &str, hosts: &[&str], name: &str) {
        assert_eq!(self.cache.set(instance(id, hosts, name)).await, Stored::Accepted);
    }

    pub(crate) async fn by_host(&self, host: &str) -> Option<Arc<Instance>> {
        self.cache.get(Instance::HOST, host).await
    }

    /// What is in the memory, without asking the server.
    pub(crate) fn here(&self, host: &str) -> Option<Arc<Instance>> {
        self.found(KeyRef { index: 1, bytes: host.as_bytes() })
    }

    pub(crate) fn found(&self, key: KeyRef<'_>) -> Option<Arc<Instance>> {
        self.tiered.get_hit(key)?.downcast().ok()
    }

    /// Gets the object of this host until it is in the memory.
    pub(crate) async fn has(&self, host: &str) {
        let begun = Instant::now();
        while self.here(host).is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{host} is not taken into the memory");
            self.by_host(host).await;
        }
    }

    pub(crate) async fn invalidate(&self, host: &str) {
        assert_eq!(self.cache.invalidate(Instance::HOST, [host]).await.unwrap(), Delivery::Applied);
    }
}
