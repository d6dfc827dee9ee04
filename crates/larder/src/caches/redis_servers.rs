//! [`RedisServers`]: what a redis connector of the configuration leads to.

use crate::connector::redis::{Redis, RedisCluster, RedisConnector, RedisError, RedisOptions};
use crate::connector::tiered::{Tiered, TieredOptions};
use crate::connector::tls::CertificateError;
use crate::contract::{OptionError, Schema};

/// One server, or a cluster.
pub(super) enum RedisServers {
    One(Redis),
    Cluster(Box<RedisCluster>),
}

impl RedisServers {
    pub(super) fn open(options: &RedisOptions) -> Result<Self, RedisError> {
        let options = options.clone();
        if options.cluster.is_some() {
            RedisCluster::open(options).map(|cluster| Self::Cluster(cluster.into()))
        } else {
            Redis::open(options).map(Self::One)
        }
    }

    pub(super) fn connector(&self, schema: Schema) -> Result<RedisConnector, OptionError> {
        match self {
            Self::One(redis) => redis.connector(schema),
            Self::Cluster(cluster) => cluster.connector(schema),
        }
    }

    pub(super) fn tiered(
        &self,
        schema: Schema,
        options: &TieredOptions,
    ) -> Result<Tiered<RedisConnector>, OptionError> {
        match self {
            Self::One(redis) => redis.tiered(schema, options),
            Self::Cluster(cluster) => cluster.tiered(schema, options),
        }
    }

    pub(super) async fn reload(&self) -> Result<(), CertificateError> {
        match self {
            Self::One(redis) => redis.reload().await,
            Self::Cluster(cluster) => cluster.reload().await,
        }
    }

    /// Whether the server, or any node of the cluster, has answered.
    pub(super) fn is_connected(&self) -> bool {
        match self {
            Self::One(redis) => redis.is_connected(),
            Self::Cluster(cluster) => cluster.is_known(),
        }
    }
}
