//! [`cluster`]: what a cluster says of its slots, for an operator.

use super::InspectError;
use super::nodes::{options_of, slot_of_cache};
use super::server::error;
use crate::connector::redis::options::{Address, RedisOptions};
use crate::connector::redis::slots::Slots;
use crate::connector::redis::topology::Topology;
use std::sync::Arc;

/// What a cluster says of its slots.
#[derive(Clone, Debug)]
pub struct ClusterReport {
    slots: Slots,
    options: RedisOptions,
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
    let slots = slots.map_err(|trouble| error(options, &trouble))?;
    Ok(Some(ClusterReport { slots, options: options.clone() }))
}

impl ClusterReport {
    /// Options for each primary by itself, and a hash tag whose slot it has: a key `{tag}` is there. `None`: it has too few slots for a short
    /// one.
    #[must_use]
    pub fn primaries(&self) -> Vec<(RedisOptions, Option<String>)> {
        let primaries = self.slots.primaries().into_iter();
        primaries.map(|node| (options_of(&self.options, node), self.slots.tag_of(&node.address))).collect()
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

    /// The slot in which this cache is: its name, as its services write it, decides.
    #[must_use]
    pub fn slot_of(&self, cache: &str) -> u16 {
        slot_of_cache(&self.options.prefix, cache)
    }

    /// The primary on which this cache is. `None`: nobody serves its slot.
    #[must_use]
    pub fn primary_of(&self, cache: &str) -> Option<Address> {
        self.slots.primary(self.slot_of(cache)).map(|node| node.address.clone())
    }
}
