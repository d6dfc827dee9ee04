//! What the coordinator tells its nodes, and what they tell it: orders as JSON lines on a node's stdin. On its stdout reports, each in two
//! parts with their lengths before them: everything but the reads as MessagePack, then the [packed] reads.

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

/// How a node is set up; its only argument, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Number of the process: no two in one run have the same.
    pub(crate) node: u32,
    /// Which of the nodes it is; one that was killed has a successor in its place.
    pub(crate) place: u32,
    pub(crate) seed: u64,
    /// How many tasks change and forget.
    pub(crate) tasks: u32,
    /// How many do nothing but read.
    pub(crate) readers: u32,
    /// The socket of its proxy; without one its caches are in memory.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) source: PathBuf,
    /// The protection that is switched off.
    pub(crate) without: Option<String>,
    /// Whether callers go away.
    pub(crate) cancel: bool,
}

/// What a node is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Invalidate by primary key only: the server may have lost index keys.
    ByPrimary(bool),
    /// End the workload and say when everything has come to rest.
    Settle,
    /// Read everything by every key.
    Sweep,
    /// Remove what dangles on the server.
    Prune,
}

/// What a node has to report.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Everything that has happened on this node before is told.
    pub(crate) until: u64,
    /// No read that will be told later has begun before.
    pub(crate) since: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) counts: Counts,
    /// Sent after the rest.
    #[serde(skip)]
    pub(crate) reads: PackedReads,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    Forgotten(Forgotten),
    /// This node's journal of one cache held nothing: what was deferred before `asked` had been applied at `seen`.
    Empty {
        kind: Kind,
        asked: u64,
        seen: u64,
    },
    /// This node has found the server's history to be another one, and clears, or has just cleared, a cache: with it go floors.
    Cleared {
        kind: Kind,
        since: u64,
        at: u64,
    },
    /// An answer that is wrong whatever has happened.
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

/// The call that gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    Get,
    Lookup,
    GetMany,
    /// From the cache, from a load, or from somebody else's load.
    GetOrLoad,
    /// The same, for several keys.
    LoadMany,
}

impl Through {
    /// Whether the cache had it, for certain.
    pub(crate) fn is_hit(self) -> bool {
        matches!(self, Self::Get | Self::Lookup | Self::GetMany)
    }
}

/// A read that was answered: one key, also where the call was for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) key: Key,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) through: Through,
    /// `None`: there is no such object.
    pub(crate) answer: Option<Answer>,
}

/// The object that was the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) number: u32,
    pub(crate) sequence: u64,
    /// Of the state.
    pub(crate) hosts: u64,
    /// When the load that brought it began, and on which node.
    pub(crate) born: u64,
    pub(crate) by: u32,
}

/// What a call was that makes the cache forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    Invalidate,
    InvalidateMany,
    InvalidateChange,
    /// With the lowest version.
    InvalidateBelow(u64),
    Update,
    Set,
    SetMany,
    Delete,
    Truncate,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Applied,
    /// Or in doubt, as after `update`, which does not say.
    Deferred,
    /// The caller went away, which counts as deferred.
    Dropped,
}

/// The cache was told to forget, and the call has returned or was dropped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Forgotten {
    pub(crate) call: Call,
    pub(crate) kind: Kind,
    /// None: everything in the cache.
    pub(crate) keys: Vec<Key>,
    /// The newest change that was committed before the call, and is the reason for it; 0: none.
    pub(crate) sequence: u64,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) outcome: Outcome,
    /// Where one of the keys led, if that is certain.
    pub(crate) led: Option<Led>,
}

/// An object that was in the cache, and a key that led to it there. Nothing but an invalidation, or a set, of that object could change that
/// before the key was invalidated. So its loads are refused like those of an object that was invalidated by its primary key, also those that
/// read a state which does not list the key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Led {
    /// The primary key of the object.
    pub(crate) to: Key,
    /// When that was set up.
    pub(crate) since: u64,
}

/// What a node has counted since it began.
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
    /// The slowest call that does not load, in microseconds, and what it was.
    pub(crate) slowest_us: u64,
    pub(crate) slowest: String,
    /// By how much the machine was late with what should have been done at a time, at worst, in microseconds.
    pub(crate) late_us: u64,
    /// Whether every cache may be read, now.
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

/// The next report; `None` where the node has ended.
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
