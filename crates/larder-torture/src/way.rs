//! The way of one node to its servers, through proxies of its own: there the faults of the network happen.

use crate::deployment::Deployment;
use crate::postgres;
use crate::protocol::{Setup, Store, Truth};
use larder_testing::proxy::Proxy;

/// The proxies of one node.
#[derive(Default)]
pub(crate) struct Way {
    /// One for each server of a deployment.
    pub(crate) redis: Vec<Proxy>,
    /// One for each host that the node knows.
    pub(crate) postgres: Vec<Proxy>,
    /// Whether the latter lead to the pooler.
    pub(crate) pooled: bool,
}

impl Way {
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.redis.iter().chain(&self.postgres)
    }

    /// The setup of a node that goes this way.
    pub(crate) fn applied_to(&self, mut setup: Setup) -> Setup {
        setup.pooled = self.pooled;
        let dsn = postgres::through(&self.postgres);
        match (&mut setup.store, self.redis.first()) {
            (Store::Redis(socket), Some(proxy)) => proxy.socket().clone_into(socket),
            (Store::Secured { port, .. }, Some(proxy)) => *port = proxy.port(),
            (Store::Sentinels(ports), _) => *ports = Deployment::asked(&self.redis, true),
            (Store::Cluster(ports), _) => *ports = Deployment::asked(&self.redis, false),
            (Store::Postgres { dsn: own, .. }, _) => own.clone_from(&dsn),
            _ => {}
        }
        if let Truth::Ledger { feed, .. } = &mut setup.source {
            *feed = dsn;
        }
        setup
    }
}
