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

mod census;
mod clock;
mod index;
mod object;
mod standing;

pub use census::{CacheCensus, Tally};
pub use clock::{ClockReading, ClockState};
pub use index::InspectedIndex;
pub use object::{Expiry, Found, FoundCopy, FoundKey, FoundObject, Listing};

use crate::clock::Clock;
use crate::connector::redis::layout::{self, Layout};
use crate::connector::redis::options::RedisOptions;
use crate::connector::redis::scripts;
use crate::connector::redis::single::clearing;
use crate::connector::redis::wire::caller::{Caller, Direct};
use crate::connector::redis::wire::connect::{self, Driver};
use crate::connector::redis::wire::connection::Connection;
use crate::connector::redis::wire::replies::{bytes, tolerated, unexpected};
use crate::connector::remote::BATCH;
use crate::connector::remote::Trouble;
use crate::key::KeyError;
use crate::nearest::{fold, nearest};
use crate::options::{OptionError, is_name};
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

/// Why the inspector could not look at something, or could not forget it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The server cannot be reached, or has answered with an error.
    #[error("the server at {server}: {reason}")]
    Server {
        /// The server's address.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// Nothing on the server belongs to a cache of this name.
    #[error(
        "there is no cache `{cache}` under the prefix `{prefix}`, which has {}{}",
        listed(.seen),
        nearest(cache, .seen.iter().map(String::as_str)).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
    )]
    NoCache {
        /// The name that was asked for.
        cache: String,
        /// The prefix of the configuration.
        prefix: String,
        /// The caches that are there.
        seen: Vec<String>,
    },
    /// The clock of the cache is gone, as after a flush; or the clock was made anew, and no service has cleared the cache since.
    /// Services read nothing from the cache until one of them has cleared it.
    #[error("the clock of the cache `{cache}` is lost, so nothing can be forgotten key by key; truncate the cache")]
    Lost {
        /// The cache.
        cache: String,
    },
    /// Several caches have this name when case, `_` and `-` make no difference, and no cache has exactly this name.
    #[error("`{cache}` names several caches: {}; give one of them as it is written here", listed(.seen))]
    Ambiguous {
        /// The name that was asked for.
        cache: String,
        /// The caches that it may be.
        seen: Vec<String>,
    },
    /// The key of the cache's clock holds a value of another Redis type, which larder has not written. No service can use the cache.
    #[error(
        "`{key}`, where the clock of the cache `{cache}` should be, is {what}, which is not larder's: no service can use the cache. \
         If nobody needs that key, remove it (DEL); services then make a new clock"
    )]
    ForeignClock {
        /// The cache.
        cache: String,
        /// The key.
        key: String,
        /// What the key holds.
        what: String,
    },
    /// The user may not read the clock of the cache.
    #[error("the clock of the cache `{cache}`, `{key}`, may not be read: {reason}")]
    ForbiddenClock {
        /// The cache.
        cache: String,
        /// The key.
        key: String,
        /// The server's answer.
        reason: String,
    },
    /// The clock of the cache does not hold what larder writes.
    #[error(
        "the clock of the cache `{cache}`, `{key}`, is damaged ({reason}); truncate the cache, which makes a new one"
    )]
    DamagedClock {
        /// The cache.
        cache: String,
        /// The key.
        key: String,
        /// What is wrong with the clock.
        reason: String,
    },
    /// Some of the keys were handled. The keys after them may have been handled or not.
    #[error("{done} of {of} keys were handled, the others perhaps; repeat it. {reason}")]
    Unanswered {
        /// Keys that were handled, in the order they were given.
        done: usize,
        /// Keys that were to be handled.
        of: usize,
        /// What went wrong.
        reason: String,
    },
    /// No object can have such a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A setting cannot be used.
    #[error("the server cannot be looked at: {0}")]
    Option(OptionError),
}

impl From<OptionError> for InspectError {
    fn from(error: OptionError) -> Self {
        Self::Option(error)
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
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
        let config = config.client_name(CLIENT_NAME);
        let (connection, driver) =
            connect::reach(&config, &Clock::system()).await.map_err(|trouble| server_error(&config, &trouble))?;
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
    InspectError::Server { server: config.address.to_string(), reason }
}

/// One cache on the server of an [`Inspector`].
#[derive(Debug)]
pub struct InspectedCache<'a> {
    server: &'a Inspector,
    name: String,
    layout: Layout,
}

impl<'a> InspectedCache<'a> {
    /// The name of the cache, as its services write it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Forgets everything in the cache. `progress` is called with the number of keys that were removed so far. A damaged clock is
    /// replaced by a new one.
    ///
    /// # Errors
    ///
    /// [`InspectError::ForeignClock`]: nothing was done. [`InspectError::Server`].
    ///
    /// # Cancellation
    ///
    /// A truncate that has begun refuses all loads that began before. If it is dropped half-way, a service finds it unfinished and
    /// finishes it. An object is served until it is removed.
    pub async fn truncate(&self, mut progress: impl FnMut(Progress)) -> Result<(), InspectError> {
        match self.clock().await {
            Err(InspectError::DamagedClock { .. }) => {
                self.server.call(redis::cmd("UNLINK").arg(self.layout.clock())).await?;
            }
            clock => drop(clock?),
        }
        let history = self.server.connection.identity.history;
        let removed = |removed| progress(Progress { found: removed, removed });
        let cleared = clearing::clear_and_tell(&self.server.caller(), &self.layout, history, removed).await;
        cleared.map_err(|trouble| self.server.error(&trouble))?;
        self.server.confirm().await
    }

    /// Removes index keys that lead to no object which lists them.
    ///
    /// # Errors
    ///
    /// [`InspectError::Lost`], [`InspectError::Server`].
    ///
    /// # Cancellation
    ///
    /// Index keys that were removed stay removed. Nothing else is lost.
    pub async fn prune(&self, mut progress: impl FnMut(Progress)) -> Result<Progress, InspectError> {
        // Without a clock nobody knows which objects there are. The next service that finds this clears the cache.
        match self.clock().await? {
            Some(clock) if clock.state != ClockState::Lost => {}
            _ => return Err(InspectError::Lost { cache: self.name.clone() }),
        }
        let (clock, objects) = (self.layout.clock(), self.layout.object_prefix());
        let mut so_far = Progress::default();
        self.server
            .walk(&self.layout.index_keys(), async |keys| {
                for batch in keys.chunks(BATCH) {
                    let arguments = |call: &mut Cmd| {
                        call.arg(1 + batch.len()).arg(&clock).arg(batch).arg(&objects).arg(self.layout.before_index());
                    };
                    let reply = self.server.caller().script(&scripts::PRUNE, arguments).await;
                    match reply.map_err(|trouble| self.server.error(&trouble))? {
                        Value::Int(removed) => so_far.removed += u64::try_from(removed).unwrap_or(0),
                        _ => return Err(self.server.error(&unexpected("prune.lua"))),
                    }
                    so_far.found += batch.len() as u64;
                }
                progress(so_far);
                Ok(())
            })
            .await?;
        Ok(so_far)
    }

    /// Whether the cache has objects or index keys.
    async fn has_keys(&self) -> Result<bool, InspectError> {
        let mut found = false;
        self.server
            .walk(&self.layout.objects_and_index_keys(), async |names| {
                found |= !names.is_empty();
                Ok(())
            })
            .await?;
        Ok(found)
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
