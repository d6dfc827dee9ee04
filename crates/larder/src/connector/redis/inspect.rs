//! A way for an operator to look into the caches on a server or in a cluster, and to forget what is in them. It needs only the names of caches
//! and indexes, and no entry types.
//!
//! ```no_run
//! use larder::connector::redis::RedisOptions;
//! use larder::connector::redis::inspect::Inspector;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Inspector::open(RedisOptions::default()).await?;
//! let instances = server.cache("instance").await?;
//! let host = instances.index("host").await?;
//! for copy in host.find(b"acme.example").await?.copies {
//!     println!("{:016x}: {} bytes", copy.fingerprint, copy.bytes);
//! }
//! host.invalidate(&[b"acme.example".to_vec()], None).await?;
//! # Ok(()) }
//! ```
//!
//! To forget something, the inspector sends what the [`Connector`](crate::Connector) of a service sends: the same scripts, which leave
//! the same marks in the clock. So the objects of every release are forgotten, and a load that began before is refused. To look at
//! something changes nothing: it prolongs no last-use age and removes nothing, not even bytes that cannot be read.
//!
//! # What names can show
//!
//! The inspector finds caches by their clocks, and indexes by the names that each release has registered on the server. A server that
//! evicts may have removed these names. Then the inspector recognises a secondary index by its index keys and by the objects that list
//! such keys. It recognises the primary index when the objects have a field of that name which holds their primary key. An index that
//! is recognised in neither way is [not proven](InspectedIndex::is_proven): it may be the primary index, or an index without keys, or
//! no index at all. When every release has registered its indexes, a name that is not among them is
//! [absent](InspectedIndex::is_absent).
//!
//! # What is not remembered
//!
//! An inspector has no journal. If the server does not answer, the caller gets an error and repeats the call. Repeating is harmless.

mod cache;
mod census;
mod clock;
mod cluster;
mod error;
mod followers;
mod index;
mod index_kind;
mod nodes;
mod primary_field;
mod sentinels;
mod server;
mod trial;

pub use crate::connector::inspect::{Expiry, Found, FoundCopy, FoundKey, FoundObject, Listing};
pub use crate::connector::redis::route::dial;
pub use crate::connector::redis::wire::dial::{CertificateEnd, CertificateEnds, Socket};
pub use crate::connector::redis::wire::rights::losses;
pub use cache::InspectedCache;
pub use census::{CacheCensus, Census, Tally};
pub use clock::{ClockReading, ClockState};
pub use cluster::{ClusterReport, cluster};
pub use error::InspectError;
pub use followers::{Follower, Followers};
pub use index::InspectedIndex;
pub use nodes::Placement;
pub use sentinels::{NamedMaster, SentinelReport, sentinels};
pub use trial::{TriedScript, try_scripts};

use crate::clock::Clock;
use crate::connector::redis::layout;
use crate::connector::redis::options::RedisOptions;
use crate::connector::redis::route::Route;
use crate::nearest::fold;
use crate::option_error::is_name;
use nodes::Nodes;
use server::Server;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The name of an inspector's connection in `CLIENT LIST`.
pub const CLIENT_NAME: &str = "larder-inspector";

/// A way to a server, or to a cluster, to look at the caches there and to forget what is in them.
///
/// Each command may take as long as the configuration's `connect_timeout`. No breaker is used.
///
/// In a cluster, each [`InspectedCache`] has a connection of its own, to the primary that has the slot of the cache. What concerns all caches
/// ([`caches`](Self::caches), [`census`](Self::census)) is asked of one primary after the other.
pub struct Inspector {
    config: RedisOptions,
    to: To,
}

/// What an inspector looks at.
enum To {
    /// The only server.
    Server(Arc<Server>),
    Cluster(Box<Nodes>),
}

/// How far a walk through the keys of a server, or of a cluster, has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Keys of the cache that were found.
    pub found: u64,
    /// Keys that were removed.
    pub removed: u64,
    /// Where the walk leads through all primaries of a cluster: the number of the present one, beginning with 1, and how many there are.
    pub primary: Option<(usize, usize)>,
}

impl Inspector {
    /// Connects, and makes sure that larder can use the server. A cluster is only asked for its slots: a primary that cannot be used is an error
    /// of what needs this primary.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`], also when the server refuses the user; [`InspectError::Option`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes the connection.
    pub async fn open(config: RedisOptions) -> Result<Self, InspectError> {
        config.validate()?;
        let config = config.client_name(CLIENT_NAME);
        let to = if config.cluster.is_some() {
            To::Cluster(Nodes::open(config.clone()).await?.into())
        } else {
            let reached = Route::new(&config).reach(&Clock::system()).await;
            let reached = reached.map_err(|trouble| server::error(&config, &trouble))?;
            To::Server(Server::begin(config.clone(), reached).await?)
        };
        Ok(Self { config, to })
    }

    /// Options for each primary of the cluster by itself, with its address, and the name that its certificate bears. Empty if there is one server.
    #[must_use]
    pub fn primaries(&self) -> Vec<RedisOptions> {
        match &self.to {
            To::Server(_) => Vec::new(),
            To::Cluster(nodes) => nodes.primaries(),
        }
    }

    /// The names of the caches under the configuration's prefix, found by their clocks.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`]; [`InspectError::Partial`] has the caches on those primaries of a cluster that can be reached.
    pub async fn caches(&self) -> Result<Vec<String>, InspectError> {
        let base = self.before_caches();
        let pattern = layout::pattern(&base, if self.is_cluster() { b"{*}:c" } else { b"*:c" });
        let mut found = BTreeSet::new();
        let unseen = self
            .walk_everywhere(&pattern, async |names, _| {
                let clocks = names.iter().filter_map(|name| self.cache_of(name.strip_prefix(base.as_bytes())?));
                found.extend(clocks.filter(|(_, rest)| *rest == b"c").map(|(cache, _)| cache));
                Ok(())
            })
            .await?;
        let caches = found.into_iter().collect();
        if unseen.is_empty() { Ok(caches) } else { Err(InspectError::Partial { caches, unseen }) }
    }

    /// The cache with this name, if it has a clock, objects or index keys on the server. If no cache has exactly this name, case, `_` and
    /// `-` make no difference, as in a configuration. In a cluster, this connects to the primary that has the slot of the cache.
    ///
    /// # Errors
    ///
    /// [`InspectError::NoCache`], which names the caches that are there; [`InspectError::Ambiguous`]; [`InspectError::Server`]. In a cluster
    /// also [`InspectError::Partial`]: the cache is on no primary that can be reached.
    pub async fn cache(&self, name: &str) -> Result<InspectedCache, InspectError> {
        if is_name(name) {
            let exact = self.named(name).await?;
            match exact.clock().await {
                Ok(None) if exact.has_keys().await? => return Ok(exact),
                Ok(None) => {}
                Ok(Some(_)) | Err(InspectError::ForeignClock { .. } | InspectError::DamagedClock { .. }) => {
                    return Ok(exact);
                }
                Err(error) => return Err(error),
            }
        }
        let seen = self.caches().await?;
        let alike: Vec<&String> = seen.iter().filter(|other| fold(other) == fold(name)).collect();
        match alike[..] {
            [one] => self.named(one).await,
            [] => Err(InspectError::NoCache { cache: name.to_owned(), prefix: self.config.prefix.clone(), seen }),
            _ => Err(InspectError::Ambiguous { cache: name.to_owned(), seen: alike.into_iter().cloned().collect() }),
        }
    }

    /// The cache with exactly this name, whether it is there or not.
    async fn named(&self, name: &str) -> Result<InspectedCache, InspectError> {
        let (server, placement) = match &self.to {
            To::Server(server) => (server.clone(), None),
            To::Cluster(nodes) => {
                let (server, placement) = nodes.reach_cache(name).await?;
                (server, Some(placement))
            }
        };
        let base = match self.is_cluster() {
            true => layout::base_in_cluster(&self.config.prefix, name),
            false => layout::base(&self.config.prefix, name),
        };
        Ok(InspectedCache::new(server, name, placement, base))
    }

    fn is_cluster(&self) -> bool {
        matches!(self.to, To::Cluster(_))
    }

    /// What stands before the name of the cache in the names of all keys.
    fn before_caches(&self) -> String {
        format!("{}:", self.config.prefix)
    }

    /// The name of the cache in the name of a key without the prefix, and what stands behind it.
    fn cache_of<'k>(&self, key: &'k [u8]) -> Option<(String, &'k [u8])> {
        let (cache, rest) = split(key, b':')?;
        let cache = match &self.to {
            To::Server(_) => cache,
            To::Cluster(_) => cache.strip_prefix(b"{")?.strip_suffix(b"}")?,
        };
        Some((text(cache), rest)).filter(|(cache, _)| is_name(cache))
    }

    /// Calls `each` with the names of all keys that match, in batches; on a cluster, of one primary after the other, with the number of the primary.
    /// A name may come twice. Returns what could not be looked at: nothing, if there is one server.
    async fn walk_everywhere(
        &self,
        pattern: &[u8],
        mut each: impl AsyncFnMut(Vec<Vec<u8>>, Option<(usize, usize)>) -> Result<(), InspectError>,
    ) -> Result<Vec<String>, InspectError> {
        let nodes = match &self.to {
            To::Server(server) => {
                server.walk(pattern, async |names| each(names, None).await).await?;
                return Ok(Vec::new());
            }
            To::Cluster(nodes) => nodes,
        };
        let slots = nodes.slots().await?;
        let mut unseen = Vec::new();
        let primaries = slots.primaries();
        for (number, node) in (1..).zip(&primaries) {
            let walked = async {
                let server = nodes.reach_primary(&slots, node).await?;
                let place = Some((number, primaries.len()));
                server.walk(pattern, async |names| each(names, place).await).await
            };
            match walked.await {
                Ok(()) => {}
                Err(error @ InspectError::Server { .. }) => unseen.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        if slots.unserved() > 0 {
            unseen.push(format!("nobody serves {} of the 16,384 slots", slots.unserved()));
        }
        Ok(unseen)
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("config", &self.config).finish_non_exhaustive()
    }
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

/// Bytes as a text. Names that larder makes are ASCII; other names are shown as well as they can be.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
