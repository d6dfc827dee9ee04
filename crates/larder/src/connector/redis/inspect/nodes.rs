//! The nodes of a cluster, as an inspector uses them: one cache is on one of them ([`Placement`]); what concerns all caches is asked of one
//! primary after the other.
//!
//! Larder never sends ASKING, and neither does the inspector: see `redis/cluster.rs`. While a slot is on its way, commands for its cache fail,
//! and the error says so.

use super::InspectError;
use super::server::{Server, error};
use crate::clock::Clock;
use crate::connector::redis::layout;
use crate::connector::redis::options::{Address, RedisOptions};
use crate::connector::redis::route::Route;
use crate::connector::redis::slots::{Node, Slots, slot_of};
use crate::connector::redis::topology::Topology;
use crate::connector::redis::wire::connect;
use crate::connector::remote::Trouble;
use std::sync::Arc;

/// Where a cache of a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// The slot of all its keys.
    pub slot: u16,
    /// The primary that has the slot.
    pub primary: Address,
}

/// The slot in which a cache is.
pub(super) fn slot_of_cache(prefix: &str, cache: &str) -> u16 {
    slot_of(layout::base_in_cluster(prefix, cache).as_bytes())
}

/// The options of a cluster, for one of its nodes by itself.
pub(super) fn options_of(config: &RedisOptions, node: &Node) -> RedisOptions {
    let mut options = config.clone().address(node.address.clone());
    if let Some(tls) = &mut options.tls {
        tls.server_name = tls.server_name.take().or_else(|| node.name.clone());
    }
    options
}

/// The nodes of a cluster.
pub(super) struct Nodes {
    config: RedisOptions,
    topology: Arc<Topology>,
}

impl Nodes {
    /// Asks the cluster for its slots.
    pub(super) async fn open(config: RedisOptions) -> Result<Self, InspectError> {
        let topology = Arc::new(Topology::new(config.clone()));
        topology.slots().await.map_err(|trouble| error(&config, &trouble))?;
        Ok(Self { config, topology })
    }

    /// Connects to the primary that has the slot of this cache, as the link of a service does.
    pub(super) async fn reach_cache(&self, cache: &str) -> Result<(Arc<Server>, Placement), InspectError> {
        let slot = slot_of_cache(&self.config.prefix, cache);
        let route = Route::to_slot(&self.config, self.topology.clone(), cache);
        let (reached, address) =
            route.reach_and_name(&Clock::system()).await.map_err(|trouble| self.error(slot, &trouble))?;
        let primary = address.unwrap_or_else(|| self.config.address.clone());
        let server = Server::begin(self.config.clone().address(primary.clone()), reached).await?;
        Ok((server, Placement { slot, primary }))
    }

    /// The error names the node that should have the slot.
    fn error(&self, slot: u16, trouble: &Trouble) -> InspectError {
        let known = self.topology.known(slot).map_or_else(|| self.config.address.clone(), |node| node.address);
        let error = error(&self.config.clone().address(known), trouble);
        match error {
            InspectError::Server { server, reason } => {
                // Some troubles say at which node they were.
                let reason = reason.strip_prefix(&format!("{server}: ")).map(str::to_owned).unwrap_or(reason);
                InspectError::Server { server, reason: format!("{reason} (the primary of slot {slot})") }
            }
            other => other,
        }
    }

    /// The slots, as the cluster tells them now.
    pub(super) async fn slots(&self) -> Result<Slots, InspectError> {
        self.topology.slots().await.map_err(|trouble| error(&self.config, &trouble))
    }

    /// The primaries that are known.
    pub(super) fn primaries(&self) -> Vec<RedisOptions> {
        self.topology.primaries().iter().map(|node| options_of(&self.config, node)).collect()
    }

    /// Connects to one primary, to look at all that it has.
    pub(super) async fn reach_primary(&self, slots: &Slots, node: &Node) -> Result<Arc<Server>, InspectError> {
        let config = self.config.clone().address(node.address.clone());
        // A name of a key that this node serves, so that it can be asked whether it is a primary.
        let Some(tag) = slots.tag_of(&node.address) else {
            let reason = "it has too few slots to be looked at".to_owned();
            return Err(InspectError::Server { server: config.place(), reason });
        };
        let base = layout::base_in_cluster(&config.prefix, &tag);
        let dialer = self.topology.dialer().named(node.name.as_deref());
        let reached = connect::reach(&config, &dialer, base.trim_end_matches(':'), &Clock::system()).await;
        let reached = reached.map_err(|trouble| error(&config, &trouble))?;
        Server::begin(config, reached).await
    }
}
