//! Asks the servers, as an operator would, on which of them the cache is and which nodes keep it in their own memory.

use crate::instance::Instance;
use larder::Entry;
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{Followers, InspectError, InspectedCache, Inspector};
use serde::Serialize;
use std::convert::Infallible;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// What the server says of the cache.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Placement {
    /// The address of the server that the cache is on.
    primary: String,
    /// `null`: no node keeps the cache in its own memory.
    followed: Option<Followed>,
}

/// How nodes keep the cache in their own memory.
#[derive(Clone, Debug, Serialize)]
struct Followed {
    consistency: String,
    validity_ms: u128,
    followers: Vec<Follower>,
}

#[derive(Clone, Debug, Serialize)]
struct Follower {
    id: String,
    /// How many touched keys it did not know of when it last followed. `null`: it has yet to hear that the cache was emptied.
    behind: Option<u64>,
}

/// Asks for ever, as often as figures are taken. `None` is told while no server answers. Without a server, nothing is asked.
pub(super) async fn watch(options: Option<&RedisOptions>, told: &watch::Sender<Option<Placement>>) -> Infallible {
    let Some(options) = options else { return std::future::pending().await };
    let mut ticks = interval(super::live::EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        ticks.tick().await;
        let looked = look(options, &mut known).await;
        // The next attempt finds the server that has taken over.
        if looked.is_err() {
            known = None;
        }
        told.send_replace(looked.ok());
    }
}

async fn look(options: &RedisOptions, known: &mut Option<InspectedCache>) -> Result<Placement, InspectError> {
    let cache = match known {
        Some(cache) => cache,
        None => known.insert(Inspector::open(options.clone()).await?.cache(Instance::CACHE).await?),
    };
    let followed = cache.clock().await?.and_then(|clock| clock.followers).map(Followed::of);
    Ok(Placement { primary: cache.primary().to_string(), followed })
}

impl Followed {
    fn of(followers: Followers) -> Self {
        let nodes = followers.nodes.iter();
        Self {
            consistency: followers.consistency.to_string(),
            validity_ms: followers.validity.as_millis(),
            followers: nodes.map(|node| Follower { id: format!("{:016x}", node.id), behind: node.behind }).collect(),
        }
    }
}
