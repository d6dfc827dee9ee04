//! A way for an operator to look into the caches on a server, and to forget what is in them. It needs only the names of caches and
//! indexes, and no entry types.
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
mod index;
mod index_kind;
mod primary_field;
mod sentinels;

pub use crate::connector::inspect::{Expiry, Found, FoundCopy, FoundKey, FoundObject, Listing};
pub use crate::connector::redis::route::dial;
pub use crate::connector::redis::wire::dial::{CertificateEnd, CertificateEnds, Socket};
pub use crate::connector::redis::wire::rights::losses;
pub use cache::InspectedCache;
pub use census::{CacheCensus, Tally};
pub use clock::{ClockReading, ClockState};
pub use cluster::{ClusterReport, cluster};
pub use error::InspectError;
pub use index::InspectedIndex;
pub use sentinels::{NamedMaster, SentinelReport, sentinels};

use crate::clock::Clock;
use crate::connector::redis::layout::{self, Layout};
use crate::connector::redis::options::RedisOptions;
use crate::connector::redis::route::Route;
use crate::connector::redis::single::clearing;
use crate::connector::redis::wire::caller::{Caller, Direct};
use crate::connector::redis::wire::connect::Driver;
use crate::connector::redis::wire::connection::Connection;
use crate::connector::redis::wire::replies::{bytes, tolerated};
use crate::connector::remote::Trouble;
use crate::nearest::fold;
use crate::option_error::{OptionError, is_name};
use redis::{Cmd, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The name of an inspector's connection in `CLIENT LIST`.
pub const CLIENT_NAME: &str = "larder-inspector";

/// A connection to a server, to look at the caches there and to forget what is in them.
///
/// Each command may take as long as the configuration's `connect_timeout`. No breaker is used.
pub struct Inspector {
    connection: Arc<Connection>,
    config: RedisOptions,
    _driver: Driver,
}

/// How far a walk through the server's keys has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Keys of the cache that were found.
    pub found: u64,
    /// Keys that were removed.
    pub removed: u64,
}

impl Inspector {
    /// Connects, and makes sure that larder can use the server.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`], also when the server refuses the user; [`InspectError::Option`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future, or the inspector, closes the connection.
    pub async fn open(config: RedisOptions) -> Result<Self, InspectError> {
        config.validate()?;
        if config.cluster.is_some() {
            let why = "names a cluster, and the inspector looks at one server only: `larder check` looks at a cluster";
            return Err(OptionError::hidden("cluster", why).into());
        }
        let config = config.client_name(CLIENT_NAME);
        let (connection, driver) =
            Route::new(&config).reach(&Clock::system()).await.map_err(|trouble| server_error(&config, &trouble))?;
        // What it forgets counts as applied.
        connection.is_alone().await;
        let inspector = Self { connection: Arc::new(connection), config, _driver: driver };
        // Only newer servers know this command. Without it, a server that evicts takes a look at an object for a use.
        let mut no_touch = redis::cmd("CLIENT");
        no_touch.arg("NO-TOUCH").arg("ON");
        tolerated(inspector.caller().call(&no_touch).await).map_err(|trouble| inspector.error(&trouble))?;
        Ok(inspector)
    }

    /// The names of the caches under the configuration's prefix, found by their clocks.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`].
    pub async fn caches(&self) -> Result<Vec<String>, InspectError> {
        let base = format!("{}:", self.config.prefix);
        let mut found = BTreeSet::new();
        self.walk(&layout::pattern(&base, b"*:c"), async |names| {
            for name in names {
                if let Some((cache, b"c")) = name.strip_prefix(base.as_bytes()).and_then(|name| split(name, b':')) {
                    found.insert(text(cache));
                }
            }
            Ok(())
        })
        .await?;
        Ok(found.into_iter().filter(|name| is_name(name)).collect())
    }

    /// The cache with this name, if it has a clock, objects or index keys on the server. If no cache has exactly this name, case, `_` and
    /// `-` make no difference, as in a configuration.
    ///
    /// # Errors
    ///
    /// [`InspectError::NoCache`], which names the caches that are there; [`InspectError::Ambiguous`]; [`InspectError::Server`].
    pub async fn cache(&self, name: &str) -> Result<InspectedCache<'_>, InspectError> {
        let cache = |name: &str| InspectedCache { server: self, name: name.to_owned(), layout: self.layout(name, "") };
        if is_name(name) {
            let exact = cache(name);
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
            [one] => Ok(cache(one)),
            [] => Err(InspectError::NoCache { cache: name.to_owned(), prefix: self.config.prefix.clone(), seen }),
            _ => Err(InspectError::Ambiguous { cache: name.to_owned(), seen: alike.into_iter().cloned().collect() }),
        }
    }

    /// How many keys the database holds, of larder and of others. `None`: the server does not let the user ask.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`].
    pub async fn database_size(&self) -> Result<Option<u64>, InspectError> {
        let size = tolerated(self.caller().call(&redis::cmd("DBSIZE")).await);
        match size.map_err(|trouble| self.error(&trouble))? {
            Some(Value::Int(size)) => Ok(u64::try_from(size).ok()),
            _ => Ok(None),
        }
    }

    fn layout(&self, cache: &str, index: &str) -> Layout {
        Layout::without_schema(&self.config.prefix, cache, index)
    }

    fn caller(&self) -> Direct<'_> {
        Direct { connection: &self.connection, within: self.config.connect_timeout }
    }

    /// In strict mode, makes sure that enough replicas have what was done.
    async fn confirm(&self) -> Result<(), InspectError> {
        match &self.connection.confirming {
            Some(confirming) => confirming.confirm(true).await.map_err(|trouble| self.error(&trouble)),
            None => Ok(()),
        }
    }

    async fn call(&self, command: &Cmd) -> Result<Value, InspectError> {
        self.caller().call(command).await.map_err(|trouble| self.error(&trouble))
    }

    fn error(&self, trouble: &Trouble) -> InspectError {
        server_error(&self.config, trouble)
    }

    /// Calls `each` with all names of keys that match, in batches. A name may come twice.
    async fn walk(
        &self,
        pattern: &[u8],
        mut each: impl AsyncFnMut(Vec<Vec<u8>>) -> Result<(), InspectError>,
    ) -> Result<(), InspectError> {
        let mut cursor = b"0".to_vec();
        loop {
            let (next, names) =
                clearing::scan(&self.caller(), &cursor, pattern).await.map_err(|trouble| self.error(&trouble))?;
            each(names).await?;
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("config", &self.config).finish_non_exhaustive()
    }
}

fn server_error(config: &RedisOptions, trouble: &Trouble) -> InspectError {
    let reason = match trouble {
        Trouble::TimedOut(_) => format!("no reply within {:?} (connect_timeout)", config.connect_timeout),
        other => other.to_string(),
    };
    InspectError::Server { server: config.place(), reason }
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

/// Bytes as a text. Names that larder makes are ASCII; other names are shown as well as they can be.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
