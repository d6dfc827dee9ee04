//! The kinds of faults.

use crate::plan::Connector;
use std::fmt;

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
    Resync,
    Certificate,
    Failover,
    Depose,
    Isolate,
    Sentinel,
    Move,
    Outage,
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
    Promote,
    Pooler,
    Pause,
    Bells,
    Late,
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
    pub(crate) const ALL: [Self; 38] = [
        Self::Kill,
        Self::Snapshot,
        Self::Stop,
        Self::FlushAll,
        Self::ScriptFlush,
        Self::ClientKill,
        Self::MaxMemory,
        Self::MisConf,
        Self::Resync,
        Self::Certificate,
        Self::Failover,
        Self::Depose,
        Self::Isolate,
        Self::Sentinel,
        Self::Move,
        Self::Outage,
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
        Self::Promote,
        Self::Pooler,
        Self::Pause,
        Self::Bells,
        Self::Late,
        Self::Slow,
        Self::Corrupt,
        Self::TruncateBytes,
        Self::Drop,
        Self::Close,
        Self::Clients,
        Self::Cancel,
    ];

    /// Whether caches on this connector can have the fault. `tiered`: nodes keep objects in their own memory, too.
    pub(crate) fn happens_to(self, connector: Connector, feed: bool, tiered: bool) -> bool {
        match self {
            Self::Clients | Self::Cancel => true,
            Self::Kill | Self::Stop | Self::Slow | Self::TruncateBytes | Self::Drop | Self::Close => {
                connector != Connector::Memory || feed
            }
            Self::Gap => feed,
            Self::Pause => feed || tiered,
            Self::Bells => tiered && connector.is_redis(),
            Self::FlushAll | Self::ScriptFlush | Self::ClientKill | Self::Corrupt | Self::Late => connector.is_redis(),
            Self::Snapshot | Self::MaxMemory | Self::MisConf | Self::Resync | Self::Certificate => {
                connector == Connector::Redis
            }
            Self::Failover | Self::Depose | Self::Isolate => connector.fails_over(),
            Self::Sentinel => connector == Connector::RedisSentinel,
            Self::Move | Self::Outage => connector == Connector::RedisCluster,
            Self::Crash
            | Self::Restart
            | Self::Freeze
            | Self::Terminate
            | Self::Crowd
            | Self::Hold
            | Self::Long
            | Self::Prepared
            | Self::Promote
            | Self::Pooler
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
            Self::Resync => "resync",
            Self::Certificate => "certificate",
            Self::Failover => "failover",
            Self::Depose => "depose",
            Self::Isolate => "isolate",
            Self::Sentinel => "sentinel",
            Self::Move => "move",
            Self::Outage => "outage",
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
            Self::Promote => "promote",
            Self::Pooler => "pooler",
            Self::Pause => "pause",
            Self::Bells => "bells",
            Self::Late => "late",
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
            Self::Kill => {
                "kill -9 of the server, which starts again empty; of a master or a primary, whose replica may lack the last writes and takes over"
            }
            Self::Snapshot => "kill -9 of the server, which starts again from a snapshot taken before",
            Self::Stop => "SIGSTOP of the server, for moments, or until every breaker has opened",
            Self::FlushAll => "FLUSHALL, perhaps while one node reaches no server",
            Self::ScriptFlush => "SCRIPT FLUSH",
            Self::ClientKill => "CLIENT KILL of every connection",
            Self::MaxMemory => "maxmemory below what is used, with each eviction policy in turn",
            Self::MisConf => "snapshots that fail, so that the server takes no writes (MISCONF)",
            Self::Resync => "a server that is filled anew from a copy of itself while its connections stay open",
            Self::Certificate => {
                "another certificate of the server, one that has expired, or one of another authority (with --tls)"
            }
            Self::Failover => "a failover while the master, or the primary, is in good health",
            Self::Depose => "SIGSTOP of a master, or of a primary, that goes on once another one has its place",
            Self::Isolate => {
                "a master that its replica and the Sentinels do not reach, or a primary that the rest of the cluster does not reach; all nodes do"
            }
            Self::Sentinel => "kill -9 or SIGSTOP of one of the Sentinels",
            Self::Move => "a slot that moves to another primary while its cache is in use, and perhaps back",
            Self::Outage => "kill -9 of all nodes of a cluster, which start again empty",
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
            Self::Promote => "a standby of PostgreSQL that takes over from a primary that was killed",
            Self::Pooler => "kill -9 of a PgBouncer that one node goes through (with --pooler)",
            Self::Pause => "SIGSTOP of a node (with --feed or --tiered)",
            Self::Bells => "nodes that are not told that something has changed, and have to ask (with --tiered)",
            Self::Late => "bytes that are held back, and arrive all at once after moments or seconds",
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
            | Self::Resync
            | Self::Certificate
            | Self::Failover
            | Self::Depose
            | Self::Isolate
            | Self::Sentinel
            | Self::Move
            | Self::Outage
            | Self::Crash
            | Self::Restart
            | Self::Freeze
            | Self::Terminate
            | Self::Crowd
            | Self::Hold
            | Self::Long
            | Self::Prepared
            | Self::Promote
            | Self::Gap => To::Server,
            Self::Turn => To::Upkeep,
            Self::Pause
            | Self::Pooler
            | Self::Bells
            | Self::Late
            | Self::Slow
            | Self::Corrupt
            | Self::TruncateBytes
            | Self::Drop
            | Self::Close
            | Self::Clients => To::Network,
            Self::Cancel => To::Callers,
        }
    }

    /// Whether a server does not answer for a while, so that another one has to take its place.
    pub(crate) fn ends_a_server(self) -> bool {
        matches!(self, Self::Kill | Self::Stop | Self::Depose | Self::Isolate | Self::Outage)
    }

    /// Whether the fault may lose data, and with it versions and floors.
    pub(crate) fn loses_data(self, connector: Connector) -> bool {
        // A server that stops for long is replaced.
        if self == Self::Stop {
            return connector.fails_over();
        }
        matches!(
            self,
            Self::Kill
                | Self::Resync
                | Self::Certificate
                | Self::Failover
                | Self::Depose
                | Self::Isolate
                | Self::Move
                | Self::Outage
                | Self::Snapshot
                | Self::FlushAll
                | Self::MaxMemory
                | Self::Crash
                | Self::Restart
                | Self::Promote
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
}
