//! [`cluster`]: what a cluster says of its slots, for an operator.

use super::InspectError;
use crate::connector::redis::layout;
use crate::connector::redis::options::{Address, RedisOptions};
use crate::connector::redis::slots::{Slots, slot_of};
use crate::connector::redis::topology::Topology;
use std::sync::Arc;

/// What a cluster says of its slots.
#[derive(Clone, Debug)]
pub struct ClusterReport {
    slots: Slots,
    prefix: String,
}

/// Asks the nodes that the options name for the slots. `None`: the options name no cluster.
///
/// ```no_run
/// use larder::connector::redis::RedisOptions;
/// use larder::connector::redis::inspect::cluster;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = RedisOptions::from_url("redis-cluster://10.0.0.1:7000,10.0.0.2:7000")?;
/// if let Some(report) = cluster(&options).await? {
///     println!("the cache `instance` is on {:?}", report.primary_of("instance"));
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`InspectError::Option`]; [`InspectError::Server`]: no node answers.
///
/// # Cancellation
///
/// Dropping the future closes its connections.
pub async fn cluster(options: &RedisOptions) -> Result<Option<ClusterReport>, InspectError> {
    options.validate()?;
    if options.cluster.is_none() {
        return Ok(None);
    }
    let slots = Arc::new(Topology::new(options.clone())).answer_of_any().await;
    let slots = slots.map_err(|trouble| super::server_error(options, &trouble))?;
    Ok(Some(ClusterReport { slots, prefix: options.prefix.clone() }))
}

impl ClusterReport {
    /// Each primary, with a hash tag whose slot it has: a key `{tag}` is there. `None`: it has too few slots for a short one.
    #[must_use]
    pub fn primaries(&self) -> Vec<(Address, Option<String>)> {
        let primaries = self.slots.primaries().into_iter().map(|node| node.address.clone());
        primaries.map(|address| (address.clone(), self.slots.tag_of(&address))).collect()
    }

    /// How many replicas the primaries have in all.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.slots.replicas
    }

    /// How many of the 16,384 slots nobody serves.
    #[must_use]
    pub fn unserved(&self) -> usize {
        self.slots.unserved()
    }

    /// The primary on which this cache is. `None`: nobody serves its slot.
    #[must_use]
    pub fn primary_of(&self, cache: &str) -> Option<Address> {
        let slot = slot_of(layout::base_in_cluster(&self.prefix, cache).as_bytes());
        self.slots.primary(slot).map(|node| node.address.clone())
    }
}
