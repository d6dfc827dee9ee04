//! A way into caches on a server for somebody who has their names only: an operator, with no entry type at hand.
//!
//! ```no_run
//! use larder::config::RedisConfig;
//! use larder::connector::redis::inspect::Inspector;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Inspector::open(RedisConfig::default()).await?;
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
//! The server knows caches by their clocks, and secondary indexes by their index keys and by the objects that list them. The name
//! of the primary index is stored nowhere, since nothing depends on it. It is recognised where objects have a field of that name
//! which holds their primary key, as they have unless the index was named otherwise or is made of several fields. What is not
//! recognised is [not proven](InspectedIndex::is_proven), and may be the primary index as well as one without any key.
//!
//! # What is not remembered
//!
//! There is no journal here: what was not answered is an error, and is for the caller to repeat. Repeating is harmless.

mod census;
mod index;
mod object;

pub use census::{CacheCensus, Tally};
pub use index::InspectedIndex;
pub use object::{Expiry, Found, FoundCopy, FoundKey, FoundObject, Listing};

use super::clearing::{self, bytes};
use super::forgetting::BATCH;
use super::handshake::{self, Driver};
use super::layout::{self, Layout};
use super::link::{Live, Private};
use super::scripts;
use super::trouble::Trouble;
use crate::clock::Clock;
use crate::config::{RedisConfig, is_name};
use crate::key::KeyError;
use index::Kind;
use redis::{Cmd, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a connection of an inspector is called in `CLIENT LIST`.
pub const CLIENT_NAME: &str = "larder-inspector";

/// Objects that are asked for the name of the primary index; all of them must agree.
const SAMPLE: u32 = 8;

/// A connection to a server, for looking at the caches there and for forgetting what is in them.
///
/// Each command may take the configuration's `connect_timeout`; the breaker has no part in it.
pub struct Inspector {
    live: Arc<Live>,
    config: RedisConfig,
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
    #[error("there is no cache `{cache}` under the prefix `{prefix}`, which has {}", listed(.seen))]
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
    #[error("{0}")]
    Key(#[from] KeyError),
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

/// What the clock of a cache says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Renewed by each truncate, and when the clock was lost.
    pub epoch: u64,
    /// How many marks were ever written into the log.
    pub sequence: u64,
    /// Whether the cache is in use.
    pub state: ClockState,
    /// Whether it belongs to the history of the server's data as it is now; if not, the next service that connects clears the
    /// cache. `None` where the server does not say.
    pub of_this_history: Option<bool>,
    /// The fingerprints of the schemas of all releases that have used the cache.
    pub fingerprints: Vec<u64>,
}

impl ClockReading {
    /// How many marks the log holds. A fill with a ticket that is older than those is refused unseen.
    pub const LOG: u64 = 16_384;
}

/// Whether a cache is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// It is.
    Settled,
    /// Somebody is removing everything in it.
    Clearing,
    /// The clock was lost and made anew; until everything is removed nothing can be invalidated.
    Lost,
}

impl ClockState {
    /// The state in one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Clearing => "clearing",
            Self::Lost => "lost",
        }
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
    /// [`InspectError::Server`], also where the server does not let us in.
    ///
    /// # Cancellation
    ///
    /// Dropping the future, or the inspector, closes the connection.
    pub async fn open(config: RedisConfig) -> Result<Self, InspectError> {
        let config = RedisConfig { client_name: Some(CLIENT_NAME.to_owned()), ..config };
        let (live, driver) =
            handshake::reach(&config, &Clock::system(), 1).await.map_err(|trouble| server_error(&config, &trouble))?;
        let inspector = Self { live, config, _driver: driver };
        // Known to newer servers only. Without it, looking at an object makes an evicting server think it is in use.
        let mut no_touch = redis::cmd("CLIENT");
        no_touch.arg("NO-TOUCH").arg("ON");
        handshake::tolerated(inspector.caller().call(&no_touch).await).map_err(|trouble| inspector.error(&trouble))?;
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
        Ok(found.into_iter().collect())
    }

    /// A cache that has a clock, or any other key, on the server.
    ///
    /// # Errors
    ///
    /// [`InspectError::NoCache`] names those that are there; [`InspectError::Server`].
    pub async fn cache(&self, name: &str) -> Result<InspectedCache<'_>, InspectError> {
        let cache = InspectedCache { server: self, name: name.to_owned(), layout: self.layout(name, "") };
        if is_name(name) && (cache.clock().await?.is_some() || cache.has_keys().await?) {
            return Ok(cache);
        }
        Err(InspectError::NoCache {
            cache: name.to_owned(),
            prefix: self.config.prefix.clone(),
            seen: self.caches().await?,
        })
    }

    /// How many keys there are in the database, whoever they belong to; `None` where we may not ask.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`].
    pub async fn database_size(&self) -> Result<Option<u64>, InspectError> {
        let size = handshake::tolerated(self.caller().call(&redis::cmd("DBSIZE")).await);
        match size.map_err(|trouble| self.error(&trouble))? {
            Some(Value::Int(size)) => Ok(u64::try_from(size).ok()),
            _ => Ok(None),
        }
    }

    fn layout(&self, cache: &str, index: &str) -> Layout {
        Layout::without_schema(&self.config.prefix, cache, index)
    }

    fn caller(&self) -> Private<'_> {
        Private { live: &self.live, timeout: self.config.connect_timeout }
    }

    /// In strict mode, an error where too few replicas have what was done.
    async fn confirm(&self) -> Result<(), InspectError> {
        self.live.confirm(true).await.map_err(|trouble| self.error(&trouble))
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

fn server_error(config: &RedisConfig, trouble: &Trouble) -> InspectError {
    let reason = match trouble {
        Trouble::TimedOut => format!("no reply within {:?} (connect_timeout)", config.connect_timeout),
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
    /// Reads the clock; `None`: there is none.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`].
    pub async fn clock(&self) -> Result<Option<ClockReading>, InspectError> {
        let mut read = redis::cmd("GETRANGE");
        read.arg(self.layout.clock()).arg(0).arg(287);
        let head = bytes(self.server.call(&read).await?).unwrap_or_default();
        Ok(read_clock(&head, self.server.live.identity.history))
    }

    /// An index, by its name. Whether the server [shows](InspectedIndex::is_proven) that there is one is for the caller to look at: with
    /// a wrong name nothing is found, and an invalidation forgets nothing and refuses no load that is under way.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`].
    pub async fn index(&self, name: &str) -> Result<InspectedIndex<'a>, InspectError> {
        let mut seen = BTreeSet::new();
        let (mut asked, mut agreed) = (0, 0);
        let mut cursor = b"0".to_vec();
        let kind = 'found: loop {
            let (next, keys) = clearing::scan(&self.server.caller(), &cursor, &self.layout.objects_and_index_keys())
                .await
                .map_err(|trouble| self.server.error(&trouble))?;
            for key in &keys {
                if let Some(index) = self.index_name_of(key) {
                    seen.insert(text(index));
                } else if asked < SAMPLE
                    && let Some(object) = self.object(key).await
                {
                    seen.extend(object.keys.iter().filter_map(|key| key.index.clone()));
                    asked += 1;
                    agreed += u32::from(object.primary_is_field(name));
                }
            }
            if seen.contains(name) {
                break 'found Kind::Secondary;
            } else if agreed == asked && (asked == SAMPLE || asked > 0 && next == b"0") {
                break 'found Kind::Primary;
            } else if next == b"0" {
                break 'found Kind::Unproven;
            }
            cursor = next;
        };
        Ok(InspectedIndex::new(self, name, kind, seen.into_iter().collect()))
    }

    /// Forgets everything in the cache. `progress` is told how many keys have gone.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`].
    ///
    /// # Cancellation
    ///
    /// Once it has begun, nothing stored before is filled again, and a service that finds it unfinished ends it. What is stored is
    /// served until it is removed.
    pub async fn truncate(&self, mut progress: impl FnMut(Progress)) -> Result<(), InspectError> {
        let history = self.server.live.identity.history;
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
                        _ => return Err(self.server.error(&clearing::unexpected("prune.lua"))),
                    }
                    so_far.found += batch.len() as u64;
                }
                progress(so_far);
                Ok(())
            })
            .await?;
        Ok(so_far)
    }

    /// Whether anything of the cache but its clock is there.
    async fn has_keys(&self) -> Result<bool, InspectError> {
        let mut found = false;
        self.server
            .walk(&self.layout.everything(), async |names| {
                found |= !names.is_empty();
                Ok(())
            })
            .await?;
        Ok(found)
    }

    fn index_name_of<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let name = key.get(self.layout.before_index()..)?;
        let is_index_key = key.get(self.layout.before_index() - 1) == Some(&b'i');
        split(name, b':').filter(|_| is_index_key).map(|(name, _)| name)
    }

    /// The object that is stored under this name, if it can be read.
    async fn object(&self, name: &[u8]) -> Option<FoundObject> {
        let stored = bytes(self.server.caller().call(redis::cmd("GET").arg(name)).await.ok()?)?;
        FoundObject::read(None, &stored).ok()
    }
}

/// What the first 288 bytes of a clock say.
fn read_clock(head: &[u8], history: u64) -> Option<ClockReading> {
    let word = |place: usize| head.get(8 * place..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let (epoch @ 1.., sequence, state, of) = (word(0)?, word(1)?, word(2)?, word(3)?) else { return None };
    let schemas = head.get(32..288).unwrap_or_default().chunks_exact(16);
    let fingerprints = schemas
        .map_while(|digits| std::str::from_utf8(digits).ok())
        .map_while(|digits| u64::from_str_radix(digits, 16).ok());
    Some(ClockReading {
        epoch,
        sequence,
        state: match state {
            1 => ClockState::Settled,
            2 => ClockState::Clearing,
            _ => ClockState::Lost,
        },
        of_this_history: (history != 0).then_some(of == history),
        fingerprints: fingerprints.collect(),
    })
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

/// Names that larder makes are ASCII; whatever else is there is shown as far as it can be.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_without_a_script() {
        let mut head = vec![0; 288];
        head[7] = 5;
        head[15] = 9;
        head[23] = 1;
        head[31] = 3;
        head[32..48].copy_from_slice(b"00000000000000ab");
        head[48..64].copy_from_slice(b"ffffffffffffffff");
        let read = read_clock(&head, 3).unwrap();
        assert_eq!((read.epoch, read.sequence, read.state), (5, 9, ClockState::Settled));
        assert_eq!((read.of_this_history, read.fingerprints), (Some(true), vec![0xab, u64::MAX]));
        assert_eq!(read_clock(&head, 4).unwrap().of_this_history, Some(false));
        assert_eq!(read_clock(&head, 0).unwrap().of_this_history, None);
        head[23] = 3;
        assert_eq!(read_clock(&head, 3).unwrap().state, ClockState::Lost);
        assert_eq!(read_clock(&[], 3), None);
        assert_eq!(read_clock(&[0; 288], 3), None);
    }
}
