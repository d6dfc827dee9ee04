//! A way into caches on a server for somebody who has their names only: an operator, with no entry type at hand.
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
//! What is sent to forget something is what a [`Connector`](crate::Connector) of a service sends: the same scripts, the same marks
//! in the clock. So every release's objects are reached, and a load that began before is refused. Looking never touches: it
//! prolongs no last-use age, and removes nothing, not even what cannot be read.
//!
//! # What names can show
//!
//! The server knows caches by their clocks, and indexes by the names that each release has registered. Those may be missing: a server that
//! evicts may have removed them. Then secondary indexes are recognised by their index keys and by the objects that list them, and the primary
//! index where objects have a field of that name which holds their primary key. What is recognised in neither way is
//! [not proven](InspectedIndex::is_proven), and may be the primary index as well as one without any key. Where every release has
//! registered its indexes, a name that is not among them is [absent](InspectedIndex::is_absent).
//!
//! # What is not remembered
//!
//! There is no journal here: what was not answered is an error, and is for the caller to repeat. Repeating is harmless.

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

/// What a connection of an inspector is called in `CLIENT LIST`.
pub const CLIENT_NAME: &str = "larder-inspector";

/// A connection to a server, for looking at the caches there and for forgetting what is in them.
///
/// Each command may take the configuration's `connect_timeout`; the breaker has no part in it.
pub struct Inspector {
    connection: Arc<Connection>,
    config: RedisOptions,
    _driver: Driver,
}

/// Why something was not looked at, or not done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The server cannot be reached, or has answered with an error.
    #[error("the server at {server}: {reason}")]
    Server {
        /// Its address.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// Nothing on the server belongs to such a cache.
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
    /// The clock of the cache is gone, as after a flush, or was made anew and nobody has cleared the cache since. Services read nothing
    /// until one of them has.
    #[error("the clock of the cache `{cache}` is lost, so nothing can be forgotten key by key; truncate the cache")]
    Lost {
        /// The cache.
        cache: String,
    },
    /// Several caches have this name, since case, `_` and `-` make no difference, and none has exactly this one.
    #[error("`{cache}` names several caches: {}; give one of them as it is written here", listed(.seen))]
    Ambiguous {
        /// The name that was asked for.
        cache: String,
        /// The caches that it may be.
        seen: Vec<String>,
    },
    /// Where the clock of the cache should be there is a key of another Redis type, which is not larder's. No service can use the cache.
    #[error(
        "`{key}`, where the clock of the cache `{cache}` should be, is {what}, which is not larder's: no service can use the cache. \
         If nobody needs that key, remove it (DEL); services then make a new clock"
    )]
    ForeignClock {
        /// The cache.
        cache: String,
        /// The key.
        key: String,
        /// What is there.
        what: String,
    },
    /// We may not read the clock of the cache.
    #[error("the clock of the cache `{cache}`, `{key}`, may not be read: {reason}")]
    ForbiddenClock {
        /// The cache.
        cache: String,
        /// The key.
        key: String,
        /// What the server says.
        reason: String,
    },
    /// The clock of the cache is not what larder writes.
    #[error(
        "the clock of the cache `{cache}`, `{key}`, is damaged ({reason}); truncate the cache, which makes a new one"
    )]
    DamagedClock {
        /// The cache.
        cache: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Some of the keys were handled, and it is not known whether those after them were.
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

/// How far a walk through the server's keys has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Keys of the cache that were found.
    pub found: u64,
    /// Keys that were removed.
    pub removed: u64,
}

impl Inspector {
    /// Connects, and makes sure that the server is one that larder can use.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`], also where the server does not let us in; [`InspectError::Option`].
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
        // Known to newer servers only. Without it, looking at an object makes an evicting server think it is in use.
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

    /// A cache that has a clock, or objects or index keys, on the server. As in a configuration, case, `_` and `-` of the name make no
    /// difference, unless there is a cache of exactly this name.
    ///
    /// # Errors
    ///
    /// [`InspectError::NoCache`] names those that are there; [`InspectError::Ambiguous`]; [`InspectError::Server`].
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

    /// How many keys there are in the database, whoever they belong to; `None` where we may not ask.
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

    /// In strict mode, an error where too few replicas have what was done.
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

    /// Hands every name that matches to `each`, some of them perhaps twice.
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
    /// The name of the cache, as its services have it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Forgets everything in the cache. `progress` is told how many keys have gone. A clock that is damaged is replaced by a new one.
    ///
    /// # Errors
    ///
    /// [`InspectError::ForeignClock`]: nothing was done. [`InspectError::Server`].
    ///
    /// # Cancellation
    ///
    /// Once it has begun, nothing stored before is filled again, and a service that finds it unfinished ends it. What is stored is
    /// served until it is removed.
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
    /// What was removed stays removed; nothing else is lost.
    pub async fn prune(&self, mut progress: impl FnMut(Progress)) -> Result<Progress, InspectError> {
        // Without a clock it is not known which objects there are, and whoever finds that clears the cache.
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

/// Names that larder makes are ASCII; whatever else is there is shown as far as it can be.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
