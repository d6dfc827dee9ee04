//! The faults, and how they are made.

mod network;
mod postgres;
mod redis;
mod upkeep;

pub(crate) use network::Network;
pub(crate) use postgres::BreakingPostgres;
pub(crate) use redis::BreakingRedis;
pub(crate) use upkeep::Upkeep;

use crate::plan::Connector;
use crate::postgres::SqlError;
use larder_testing::postgres::PostgresError;
use larder_testing::server::ServerError;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    Kill,
    Snapshot,
    Stop,
    FlushAll,
    ScriptFlush,
    ClientKill,
    MaxMemory,
    MisConf,
    Crash,
    Restart,
    Freeze,
    Terminate,
    Crowd,
    Hold,
    Long,
    Prepared,
    Turn,
    Gap,
    Pause,
    Slow,
    Corrupt,
    TruncateBytes,
    Drop,
    Close,
    Clients,
    Cancel,
}

/// What a fault happens to. Faults of different targets happen at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Server,
    Network,
    /// What the cache keeps in a database, and how that is cleaned up.
    Upkeep,
    /// The callers. This fault happens all the time.
    Callers,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 26] = [
        Self::Kill,
        Self::Snapshot,
        Self::Stop,
        Self::FlushAll,
        Self::ScriptFlush,
        Self::ClientKill,
        Self::MaxMemory,
        Self::MisConf,
        Self::Crash,
        Self::Restart,
        Self::Freeze,
        Self::Terminate,
        Self::Crowd,
        Self::Hold,
        Self::Long,
        Self::Prepared,
        Self::Turn,
        Self::Gap,
        Self::Pause,
        Self::Slow,
        Self::Corrupt,
        Self::TruncateBytes,
        Self::Drop,
        Self::Close,
        Self::Clients,
        Self::Cancel,
    ];

    /// Whether caches on this connector can have the fault.
    pub(crate) fn happens_to(self, connector: Connector, feed: bool) -> bool {
        match self {
            Self::Clients | Self::Cancel => true,
            Self::Kill | Self::Stop | Self::Slow | Self::TruncateBytes | Self::Drop | Self::Close => {
                connector != Connector::Memory || feed
            }
            Self::Gap | Self::Pause => feed,
            Self::Snapshot
            | Self::FlushAll
            | Self::ScriptFlush
            | Self::ClientKill
            | Self::MaxMemory
            | Self::MisConf
            | Self::Corrupt => connector == Connector::Redis,
            Self::Crash
            | Self::Restart
            | Self::Freeze
            | Self::Terminate
            | Self::Crowd
            | Self::Hold
            | Self::Long
            | Self::Prepared
            | Self::Turn => connector == Connector::Postgres || feed,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Snapshot => "snapshot",
            Self::Stop => "stop",
            Self::FlushAll => "flushall",
            Self::ScriptFlush => "scriptflush",
            Self::ClientKill => "clientkill",
            Self::MaxMemory => "maxmemory",
            Self::MisConf => "misconf",
            Self::Crash => "crash",
            Self::Restart => "restart",
            Self::Freeze => "freeze",
            Self::Terminate => "terminate",
            Self::Crowd => "crowd",
            Self::Hold => "hold",
            Self::Long => "long",
            Self::Prepared => "prepared",
            Self::Turn => "turn",
            Self::Gap => "gap",
            Self::Pause => "pause",
            Self::Slow => "slow",
            Self::Corrupt => "corrupt",
            Self::TruncateBytes => "truncate-bytes",
            Self::Drop => "drop",
            Self::Close => "close",
            Self::Clients => "clients",
            Self::Cancel => "cancel",
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 of the server, which starts again empty",
            Self::Snapshot => "kill -9 of the server, which starts again from a snapshot taken before",
            Self::Stop => "SIGSTOP of the server, for moments, or until every breaker has opened",
            Self::FlushAll => "FLUSHALL",
            Self::ScriptFlush => "SCRIPT FLUSH",
            Self::ClientKill => "CLIENT KILL of every connection",
            Self::MaxMemory => "maxmemory below what is used, with each eviction policy in turn",
            Self::MisConf => "snapshots that fail, so that the server takes no writes (MISCONF)",
            Self::Crash => "kill -9 of one session of PostgreSQL, which then recovers with empty cache tables",
            Self::Restart => "a fast or immediate shutdown of PostgreSQL, which starts again",
            Self::Freeze => "SIGSTOP of one session of PostgreSQL",
            Self::Terminate => "sessions of PostgreSQL that are terminated",
            Self::Crowd => "a crowd that takes all connections of PostgreSQL",
            Self::Hold => "locks on rows that fills wait for after their check",
            Self::Long => "a transaction that has invalidated something and stays open, whatever becomes of it",
            Self::Prepared => "the same, prepared, sometimes over a kill of the server",
            Self::Turn => "generations that end within milliseconds, with sweeps and prunes at any moment",
            Self::Gap => "SIGSTOP of a node, until changes are gone that it has not heard of (with --feed)",
            Self::Pause => "SIGSTOP of a node (with --feed)",
            Self::Slow => "bytes that arrive late, or one by one",
            Self::Corrupt => "bytes of stored objects that change on their way, and replies that cannot be parsed",
            Self::TruncateBytes => "connections that end in mid-command or mid-reply",
            Self::Drop => "bytes that vanish, in one direction or both",
            Self::Close => "connections that are closed, and refused for a while",
            Self::Clients => "kill -9 of a node; another takes its place",
            Self::Cancel => "callers that go away, at any point",
        }
    }

    pub(crate) fn to(self) -> To {
        match self {
            Self::Kill
            | Self::Snapshot
            | Self::Stop
            | Self::FlushAll
            | Self::ScriptFlush
            | Self::ClientKill
            | Self::MaxMemory
            | Self::MisConf
            | Self::Crash
            | Self::Restart
            | Self::Freeze
            | Self::Terminate
            | Self::Crowd
            | Self::Hold
            | Self::Long
            | Self::Prepared
            | Self::Gap => To::Server,
            Self::Turn => To::Upkeep,
            Self::Pause
            | Self::Slow
            | Self::Corrupt
            | Self::TruncateBytes
            | Self::Drop
            | Self::Close
            | Self::Clients => To::Network,
            Self::Cancel => To::Callers,
        }
    }

    /// Whether the fault may lose data, and with it versions and floors.
    pub(crate) fn loses_data(self) -> bool {
        matches!(
            self,
            Self::Kill
                | Self::Snapshot
                | Self::FlushAll
                | Self::MaxMemory
                | Self::Crash
                | Self::Restart
                | Self::Prepared
        )
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The faults of a list such as `kill,stop`, or `all`, or `none`.
pub(crate) fn parse(list: &str) -> Result<Vec<FaultKind>, String> {
    if list == "all" {
        return Ok(FaultKind::ALL.to_vec());
    }
    if list == "none" {
        return Ok(Vec::new());
    }
    let mut faults = Vec::new();
    let all = || format!("give `all`, `none`, or a list, such as `kill,stop`, of:\n{}", listed());
    if list == "help" {
        return Err(all());
    }
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match FaultKind::ALL.into_iter().find(|fault| fault.name() == name) {
            Some(fault) if !faults.contains(&fault) => faults.push(fault),
            Some(_) => {}
            None => return Err(format!("there is no fault `{name}`. There are:\n{}", listed())),
        }
    }
    if faults.is_empty() {
        return Err(all());
    }
    Ok(faults)
}

/// All faults, one a line, with what each does.
pub(crate) fn listed() -> String {
    let lines = FaultKind::ALL.map(|fault| format!("  {:<15} {}", fault.name(), fault.what()));
    lines.join("\n")
}

/// Why a fault could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{0}")]
    Server(#[from] ServerError),
    #[error("{0}")]
    Postgres(#[from] PostgresError),
    #[error("{0}")]
    Sql(#[from] SqlError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Words(String),
}

fn moment(rng: &mut fastrand::Rng, milliseconds: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(milliseconds))
}

/// How long a server is stopped: moments, or until every breaker has opened.
fn stop_time(rng: &mut fastrand::Rng) -> Duration {
    match rng.u8(..8) {
        0..4 => moment(rng, 20..250),
        4..7 => moment(rng, 800..3_000),
        // Longer than any load.
        _ => moment(rng, 3_000..6_000),
    }
}

/// Makes faults, one at a time.
pub(crate) trait Maker: Send + Sync + 'static {
    /// Makes a fault and undoes it. Returns its details, for people.
    fn make(&self, fault: FaultKind, rng: &mut fastrand::Rng) -> impl Future<Output = Result<String, Failed>> + Send;
}

/// Deals faults in random order. Each comes once before any comes again.
#[derive(Debug)]
pub(crate) struct Deck {
    all: Vec<FaultKind>,
    left: Vec<FaultKind>,
    /// The pause before each, in ms.
    calm: Range<u64>,
    pub(crate) rng: fastrand::Rng,
}

impl Deck {
    pub(crate) fn new(faults: &[FaultKind], to: To, calm: Range<u64>, seed: u64) -> Self {
        let all: Vec<FaultKind> = faults.iter().copied().filter(|fault| fault.to() == to).collect();
        Self { all, left: Vec::new(), calm, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The next fault, and the pause before it. `None` if there are no faults.
    pub(crate) fn next(&mut self) -> Option<(Duration, FaultKind)> {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            self.rng.shuffle(&mut self.left);
        }
        let calm = Duration::from_millis(self.rng.u64(self.calm.clone()));
        self.left.pop().map(|fault| (calm, fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        assert_eq!(parse("kill, stop,kill").unwrap(), [FaultKind::Kill, FaultKind::Stop]);
        assert_eq!(parse("all").unwrap().len(), FaultKind::ALL.len());
        assert_eq!(parse("none").unwrap(), []);
        for wrong in ["kil", "", ",", "help"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains("truncate-bytes  connections that end"), "{error}");
        }
    }

    #[test]
    fn a_seed_gives_a_schedule_in_which_each_fault_comes_once_a_round() {
        let draw = |seed| {
            let mut deck = Deck::new(&FaultKind::ALL, To::Server, 400..2_200, seed);
            (0..32).filter_map(|_| deck.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut round: Vec<_> = draw(3).into_iter().take(17).map(|(_, fault)| fault).collect();
        round.sort();
        round.dedup();
        assert_eq!(round.len(), 17);
        assert!(Deck::new(&[], To::Server, 0..1, 1).next().is_none());
    }
}
