//! The messages between the coordinator and its nodes. Orders go to a node's stdin, as lines of JSON. Reports come from its stdout. Each
//! report has two parts, preceded by their lengths: everything but the reads as MessagePack, then the [packed] reads.

mod packed;

pub(crate) use packed::PackedReads;

use super::objects::{Key, Kind};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Nanoseconds of the machine's monotonic clock, which is the same for all of its processes.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Where a node stores objects: in its memory, or on a server behind the node's proxies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Store {
    Memory,
    /// The socket of the proxy.
    Redis(PathBuf),
    /// A server with TLS.
    Secured {
        /// The port of the proxy.
        port: u16,
        /// Where the files of the client are.
        folder: PathBuf,
    },
    /// The ports of the proxies to the Sentinels.
    Sentinels(Vec<u16>),
    /// The ports of the proxies to the nodes of a cluster.
    Cluster(Vec<u16>),
    Postgres {
        /// What a client connects with: keys and values as libpq takes them.
        dsn: String,
        /// The same, for those who are not of the node: no fault of the node's network happens to them.
        direct: String,
    },
}

/// The source of record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Truth {
    /// The file of a SQLite database, which nodes change.
    File(PathBuf),
    /// A PostgreSQL database, which others change. Caches that are not in it follow its feed.
    Ledger {
        /// What a client connects with: keys and values as libpq takes them.
        dsn: String,
        /// What the feed of this node connects with, through the node's proxies.
        feed: String,
    },
}

/// The setup of a node: its only argument, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The number of the process, which is unique in a run.
    pub(crate) node: u32,
    /// The place of the node. A node that was killed has a successor in the same place.
    pub(crate) place: u32,
    /// How many nodes run at a time.
    pub(crate) places: u32,
    pub(crate) seed: u64,
    /// How many tasks change and forget objects.
    pub(crate) tasks: u32,
    /// How many tasks only read.
    pub(crate) readers: u32,
    pub(crate) store: Store,
    pub(crate) source: Truth,
    /// The protection that is switched off.
    pub(crate) without: Option<String>,
    /// Whether the node reaches PostgreSQL through a pooler.
    pub(crate) pooled: bool,
    /// Whether operations may take long, because no fault of this run makes a server slow.
    pub(crate) patient: bool,
    /// Whether some callers go away.
    pub(crate) cancel: bool,
    /// What changes wait for, where nodes keep objects in their own memory.
    pub(crate) tiered: Option<String>,
}

/// An order to a node.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Whether to invalidate by primary key only: the server may have lost index keys.
    ByPrimary(bool),
    /// End the workload, and answer when everything has come to rest.
    Settle,
    /// Read all objects by every key.
    Sweep,
    /// Prune the caches on the server.
    Prune,
}

/// A report of a node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Everything that happened on this node before this time has been reported.
    pub(crate) until: u64,
    /// Every read that will be reported later began at this time or after it.
    pub(crate) since: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) counts: Counts,
    /// Sent as the second part.
    #[serde(skip)]
    pub(crate) reads: PackedReads,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    Forgotten(Forgotten),
    /// This node's journal of a cache was empty: everything that was deferred before `asked` had been applied by `seen`.
    Empty {
        kind: Kind,
        asked: u64,
        seen: u64,
    },
    /// This node clears a cache, or has just cleared it, because the server's history is another one. Floors are lost, too.
    Cleared {
        kind: Kind,
        since: u64,
        at: u64,
    },
    /// An answer that no history can explain.
    Broken {
        at: u64,
        key: Key,
        what: String,
    },
    /// An order was carried out.
    Done {
        at: u64,
        order: Order,
        result: Result<(), String>,
    },
}

/// The kind of call that gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    Get,
    Lookup,
    GetMany,
    /// The answer is from the cache, from the caller's own load, or from a load that the caller joined.
    GetOrLoad,
    /// The same, for several keys.
    LoadMany,
}

impl Through {
    /// Whether an object that was answered is certainly from the cache.
    pub(crate) fn is_hit(self) -> bool {
        matches!(self, Self::Get | Self::Lookup | Self::GetMany)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Lookup => "lookup",
            Self::GetMany => "get_many",
            Self::GetOrLoad => "get_or_load",
            Self::LoadMany => "load_many",
        }
    }
}

/// The answer under one key. A call for several keys gives several reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) key: Key,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) through: Through,
    /// `None`: the answer was that there is no object.
    pub(crate) answer: Option<Answer>,
}

/// The birth of an object that was set. A set counts from its ticket, which it takes at some time during the call. So the object is as old as the call's end
/// at most, which the checker is told when the call has ended.
pub(crate) const SET: u64 = u64::MAX;

/// The object that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) number: u32,
    pub(crate) sequence: u64,
    /// The digest of the object's hosts.
    pub(crate) hosts: u64,
    /// When the load or write of the object began.
    pub(crate) born: u64,
    /// The node of that load or write.
    pub(crate) by: u32,
}

/// The kind of call that makes the cache forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    Invalidate,
    InvalidateMany,
    InvalidateChange,
    /// With the lowest version that it demands.
    InvalidateBelow(u64),
    Update,
    Set,
    SetMany,
    Delete,
    Truncate,
    /// `larder.invalidate`, in a transaction of plain SQL.
    Sql,
}

impl Call {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Invalidate => "invalidate",
            Self::InvalidateMany => "invalidate_many",
            Self::InvalidateChange => "invalidate_change",
            Self::InvalidateBelow(_) => "invalidate_below",
            Self::Update => "update",
            Self::Set => "set",
            Self::SetMany => "set_many",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Sql => "sql",
        }
    }
}

/// The outcome of a call that makes the cache forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Applied,
    /// Deferred, or not known: `update` does not say.
    Deferred,
    /// The caller went away. Counts as deferred.
    Dropped,
}

/// A call that makes the cache forget, after it has returned or was dropped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Forgotten {
    pub(crate) call: Call,
    pub(crate) kind: Kind,
    /// Empty: everything in the cache.
    pub(crate) keys: Vec<Key>,
    /// The number of the change that is the reason for the call, and was committed before it. 0: no change.
    pub(crate) sequence: u64,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) outcome: Outcome,
    /// The object that one of the keys led to, if that is certain.
    pub(crate) led: Option<Led>,
}

/// An object in the cache that the invalidated key certainly led to: only an invalidation or a set of the object could have changed that. So
/// the call must refuse earlier loads of the object as an invalidation by its primary key does, even loads of a state that does not list the
/// key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Led {
    /// The primary key of the object.
    pub(crate) to: Key,
    /// When the object was set.
    pub(crate) since: u64,
}

/// What a node has counted since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) loads: u64,
    pub(crate) joined: u64,
    pub(crate) applied: u64,
    pub(crate) deferred: u64,
    pub(crate) replayed: u64,
    pub(crate) dropped: u64,
    pub(crate) resets: u64,
    pub(crate) breaker_opened: u64,
    /// Fills that were not stored, by outcome.
    pub(crate) refused: Vec<(String, u64)>,
    /// The time of the slowest call that does not load, in microseconds.
    pub(crate) slowest_us: u64,
    /// The name of that call.
    pub(crate) slowest: String,
    /// By how much the latest timer fired too late, in microseconds.
    pub(crate) late_us: u64,
    /// Whether all caches can be read now.
    pub(crate) readable: bool,
}

pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), report: &Report) -> std::io::Result<()> {
    let rest = rmp_serde::to_vec(report).map_err(std::io::Error::other)?;
    let mut frame = Vec::with_capacity(8 + rest.len() + report.reads.bytes.len());
    for part in [&rest, &report.reads.bytes] {
        frame.extend(u32::try_from(part.len()).map_err(std::io::Error::other)?.to_be_bytes());
    }
    frame.extend(rest);
    frame.extend(&report.reads.bytes);
    to.write_all(&frame).await?;
    to.flush().await
}

/// Receives the next report. `None`: the node has ended.
pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> Option<Report> {
    let lengths = [from.read_u32().await.ok()?, from.read_u32().await.ok()?];
    let mut parts = lengths.map(|length| vec![0; length as usize]);
    for part in &mut parts {
        from.read_exact(part).await.ok()?;
    }
    let [rest, reads] = parts;
    let report: Report = rmp_serde::from_slice(&rest).ok()?;
    Some(Report { reads: PackedReads::received(reads), ..report })
}
