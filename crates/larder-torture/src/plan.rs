//! The command line, and the plan of a run that follows from it.

use crate::failure::Failure;
use crate::faults::{self, FaultKind};
use clap::{Args, ValueEnum};
use larder::connector::tiered::Consistency;
use larder::protection::Protection;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// Where objects are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Connector {
    /// In one process; needs no server
    Memory,
    /// On a Redis or Valkey server
    Redis,
    /// On a Redis or Valkey master with a replica, that three Sentinels watch
    RedisSentinel,
    /// In a Redis or Valkey cluster of three primaries, each with a replica
    RedisCluster,
    /// In a PostgreSQL database
    Postgres,
}

impl Connector {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::RedisSentinel => "redis-sentinel",
            Self::RedisCluster => "redis-cluster",
            Self::Postgres => "postgres",
        }
    }

    /// Whether objects are on servers of Redis or Valkey.
    pub(crate) fn is_redis(self) -> bool {
        matches!(self, Self::Redis) || self.fails_over()
    }

    /// Whether another server takes the place of one that is down.
    pub(crate) fn fails_over(self) -> bool {
        matches!(self, Self::RedisSentinel | Self::RedisCluster)
    }

    /// The protections that can be switched off, and are missed then.
    fn protections(self, feed: bool) -> &'static [Protection] {
        use Protection::{
            Deadline, Drain, Epoch, Fence, Generations, Grace, History, Journal, NeverAsk, ReadCheck,
            SnapshotDifference, Ticket, Validate, Version,
        };
        match self {
            Self::Memory if feed => &[Deadline, SnapshotDifference],
            Self::Memory => &[Fence, Ticket, Version, Epoch],
            Self::Redis if feed => &[Deadline, SnapshotDifference],
            Self::Redis => &[Fence, Ticket, Journal, Version, Epoch, History, Validate],
            Self::RedisSentinel => &[Grace, History],
            Self::RedisCluster => &[NeverAsk, History],
            Self::Postgres => &[ReadCheck, Generations, Drain, Epoch, Ticket, Journal],
        }
    }
}

/// The arguments of the command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where objects are stored: on a server that is started for the run, or in the memory of one process
    #[arg(long, value_enum, default_value = "redis", default_value_if("feed", "true", "memory"))]
    connector: Connector,
    /// The source is a PostgreSQL database that writers change by plain SQL, and caches hear of it: those in memory and on redis follow the feed, within
    /// their deadline; those on postgres know at once
    #[arg(long)]
    feed: bool,
    /// The last node reaches PostgreSQL through a PgBouncer in transaction mode, which is killed now and then. It has to be installed
    #[arg(long)]
    pooler: bool,
    /// Nodes reach the server of redis with TLS, and certificates are changed meanwhile
    #[arg(long)]
    tls: bool,
    /// Each node keeps objects in its own memory, in front of redis, redis-sentinel or redis-cluster: `strict`, `bounded` or `wait-only`; in front of postgres: `bounded`
    #[arg(long, value_name = "CONSISTENCY", value_parser = consistency)]
    tiered: Option<Consistency>,
    /// How long faults are made
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// `all`, `none`, or a list such as `kill,stop`; by default all, or with --without those that reveal it soonest.
    /// `help` lists all faults
    #[arg(long, value_name = "LIST")]
    faults: Option<String>,
    /// Decides the schedule of faults and the workload; by default random, and printed at the end
    #[arg(long)]
    seed: Option<u64>,
    /// How many processes [default: 3, in memory 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: Option<u32>,
    /// How many tasks per process that change and forget objects, and read between that [default: 16, in memory 48, with Sentinels and in a cluster 12, on postgres 6]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=99))]
    tasks: Option<u32>,
    /// How many tasks per process that only read, as fast as answers come [default: 48, with Sentinels and in a cluster 24, on postgres 6]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=999))]
    readers: Option<u32>,
    /// Switches off a protection of the promises, to see that the checker finds it. In memory: fence, ticket, version or epoch. On redis also
    /// journal, history or validate. With Sentinels: grace or history. In a cluster: never-ask or history. With --tiered also
    /// validity, ack-order, ring or settle-wait. On postgres: readcheck, generations, drain, epoch, ticket or journal; with --tiered also validity, ring or snapshot-difference. With --feed:
    /// deadline or snapshot-difference
    #[arg(long, value_name = "PROTECTION")]
    without: Option<String>,
    /// The server program to start, instead of the first redis-server or valkey-server found; for PostgreSQL, and with --feed, the folder of its programs
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A run with all its defaults decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) connector: Connector,
    pub(crate) feed: bool,
    /// Whether one node reaches PostgreSQL through a pooler.
    pub(crate) pooler: bool,
    /// Whether nodes reach the server with TLS.
    pub(crate) tls: bool,
    /// What changes wait for, where nodes keep objects in their own memory.
    pub(crate) tiered: Option<Consistency>,
    pub(crate) time: Duration,
    pub(crate) faults: Vec<FaultKind>,
    /// The pause before a fault of the server or of the network, in ms.
    pub(crate) calm: Range<u64>,
    /// How many hits there must be between two faults of the server or of the network. On a busy machine they take longer than the pause.
    pub(crate) hits_between: u64,
    /// Whether operations may take long.
    pub(crate) patient: bool,
    pub(crate) seed: u64,
    pub(crate) nodes: u32,
    pub(crate) tasks: u32,
    pub(crate) readers: u32,
    pub(crate) without: Option<Protection>,
    pub(crate) server: Option<PathBuf>,
    /// The command to run it again.
    pub(crate) again: String,
}

impl Plan {
    /// Whether there is a PostgreSQL server.
    pub(crate) fn needs_postgres(&self) -> bool {
        self.connector == Connector::Postgres || self.feed
    }

    /// Those faults that happen to one kind of server.
    pub(crate) fn faults_of(&self, server: Connector) -> Vec<FaultKind> {
        let feed = self.feed && server == Connector::Postgres;
        self.faults.iter().copied().filter(|fault| fault.happens_to(server, feed, self.tiered.is_some())).collect()
    }
}

/// The consistency of this name.
pub(crate) fn consistency(name: &str) -> Result<Consistency, String> {
    let known = Consistency::ALL.map(Consistency::name);
    let found = Consistency::ALL.into_iter().find(|consistency| consistency.name() == name);
    found.ok_or_else(|| format!("there are {}", known.join(", ")))
}

/// The protections of nodes' own memories in front of this connector.
fn of_tiers(connector: Connector) -> &'static [Protection] {
    match connector {
        Connector::Postgres => &[Protection::Validity, Protection::Ring, Protection::SnapshotDifference],
        _ => &[Protection::Validity, Protection::AckOrder, Protection::Ring, Protection::SettleWait],
    }
}

/// The faults that reveal soonest that a protection is missing.
fn revealing(connector: Connector, protection: Protection) -> Vec<FaultKind> {
    match (connector, protection) {
        (_, Protection::Journal) => vec![FaultKind::Drop, FaultKind::Stop, FaultKind::Cancel],
        (Connector::RedisSentinel | Connector::RedisCluster, Protection::History) => {
            vec![FaultKind::Kill, FaultKind::Cancel]
        }
        (_, Protection::Grace) => vec![FaultKind::Failover, FaultKind::Cancel],
        (_, Protection::NeverAsk) => vec![FaultKind::Move, FaultKind::Cancel],
        (_, Protection::History) => vec![FaultKind::Snapshot, FaultKind::Cancel],
        (_, Protection::Validity) => vec![FaultKind::Pause, FaultKind::Drop, FaultKind::Cancel],
        (_, Protection::SettleWait) => vec![FaultKind::FlushAll, FaultKind::Cancel],
        (_, Protection::Deadline) => vec![FaultKind::Pause, FaultKind::Drop, FaultKind::Cancel],
        (_, Protection::Generations) => vec![FaultKind::Turn, FaultKind::Cancel],
        (_, Protection::Drain) => vec![FaultKind::Turn],
        (Connector::Postgres, Protection::Epoch) => vec![FaultKind::Crash, FaultKind::Cancel],
        _ => vec![FaultKind::Cancel],
    }
}

impl Options {
    pub(crate) fn plan(self) -> Result<Plan, Failure> {
        let without = match &self.without {
            None => None,
            Some(name) => {
                let known = Protection::ALL.map(Protection::name).join(", ");
                let found = Protection::ALL.into_iter().find(|protection| protection.name() == name);
                Some(found.ok_or_else(|| {
                    Failure::Usage(format!("--without: there is no protection `{name}`; there are {known}"))
                })?)
            }
        };
        let memory = self.connector == Connector::Memory && !self.feed;
        if self.pooler && !self.feed && self.connector != Connector::Postgres {
            return Err(Failure::Usage("--pooler is for --connector postgres and for --feed".to_owned()));
        }
        if self.tls && self.connector != Connector::Redis {
            return Err(Failure::Usage("--tls is for --connector redis".to_owned()));
        }
        if self.feed && self.connector.fails_over() {
            let name = self.connector.name();
            return Err(Failure::Usage(format!(
                "--feed is not for --connector {name}: give redis, memory or postgres"
            )));
        }
        if let Some(consistency) = self.tiered {
            match self.connector {
                Connector::Postgres if consistency == Consistency::Bounded => {}
                Connector::Postgres => {
                    return Err(Failure::Usage("--tiered with --connector postgres: give `bounded`".to_owned()));
                }
                connector if connector.is_redis() && !self.feed => {}
                _ => {
                    return Err(Failure::Usage(
                        "--tiered is for --connector redis, redis-sentinel and redis-cluster, without --feed, and for --connector postgres"
                            .to_owned(),
                    ));
                }
            }
        }
        let mut there = self.connector.protections(self.feed).to_vec();
        if self.tiered.is_some() {
            there.extend(of_tiers(self.connector));
        }
        if let Some(protection) = without.filter(|protection| !there.contains(protection)) {
            let (connector, name) = (self.connector.name(), protection.name());
            let known: Vec<&str> = there.iter().map(|protection| protection.name()).collect();
            return Err(Failure::Usage(format!(
                "--without: with --connector {connector} there is no `{name}` to switch off; there are {}",
                known.join(", ")
            )));
        }
        if memory && self.nodes.is_some_and(|nodes| nodes > 1) {
            return Err(Failure::Usage(
                "--nodes: the memory connector promises nothing to other processes, so there can be only one"
                    .to_owned(),
            ));
        }
        if memory && self.server.is_some() {
            return Err(Failure::Usage("--server is for --connector redis and --connector postgres".to_owned()));
        }
        let mut faults = match (&self.faults, without) {
            (Some(list), _) => faults::parse(list).map_err(|error| Failure::Usage(format!("--faults: {error}")))?,
            (None, Some(protection)) => revealing(self.connector, protection),
            (None, None) => FaultKind::ALL.to_vec(),
        };
        let listed = self.faults.as_deref().is_some_and(|list| list != "all");
        for (option, given, fault) in
            [("--pooler", self.pooler, FaultKind::Pooler), ("--tls", self.tls, FaultKind::Certificate)]
        {
            if listed && !given && faults.contains(&fault) {
                return Err(Failure::Usage(format!("--faults: without {option} there is no `{fault}`")));
            }
        }
        let asked = !faults.is_empty();
        let happens = |fault: &FaultKind| {
            fault.happens_to(self.connector, self.feed, self.tiered.is_some())
                && (self.pooler || *fault != FaultKind::Pooler)
                && (self.tls || *fault != FaultKind::Certificate)
        };
        faults.retain(happens);
        if faults.is_empty() && asked {
            let there = FaultKind::ALL.into_iter().filter(happens);
            let there: Vec<String> = there.map(|fault| format!("`{fault}`")).collect();
            return Err(Failure::Usage(format!(
                "--faults: with --connector {} there are only {}",
                self.connector.name(),
                there.join(", ")
            )));
        }
        // A short seed is easier to type.
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
        let nodes = self.nodes.unwrap_or(if memory { 1 } else { 3 });
        // Each answer costs a database much more than it costs Redis: with fewer tasks more is cached.
        let (tasks, readers) = match self.connector {
            Connector::Memory | Connector::Postgres if self.feed => (4, 4),
            Connector::Memory => (48, 48),
            Connector::Redis if self.feed => (6, 12),
            Connector::Redis => (16, 48),
            // What was deferred during a failover, or is deferred because a slot is on its way, would hide what these are about. With few changes little is.
            Connector::RedisSentinel | Connector::RedisCluster
                if matches!(without, Some(Protection::History | Protection::NeverAsk)) =>
            {
                (1, 24)
            }
            Connector::RedisSentinel | Connector::RedisCluster => (12, 24),
            // Only a fill that is held shows it, and a busy server keeps its rounds from coming to an end.
            Connector::Postgres if without == Some(Protection::Drain) => (1, 1),
            Connector::Postgres => (6, 6),
        };
        let (tasks, readers) = (self.tasks.unwrap_or(tasks), self.readers.unwrap_or(readers));
        // What is found after a crash or a failover is what was stored before it. So the nodes must have come back when the next crash comes.
        let crashes = without == Some(Protection::Epoch) && self.connector == Connector::Postgres;
        let hits_between = if crashes || self.connector.fails_over() { 200 } else { 0 };
        // A server that is slow, as on a busy machine, would keep the breakers open, and an open breaker hides what is to be found.
        // Where servers are killed and not stopped, nobody has to wait for a time-out to notice.
        let outages = [
            Protection::Journal,
            Protection::History,
            Protection::Deadline,
            Protection::Validity,
            Protection::SettleWait,
        ];
        // Where nothing but a node is cut off, only that node waits.
        let servers_go = self.connector.fails_over() && without != Some(Protection::SettleWait);
        let patient = without.is_some_and(|protection| servers_go || !outages.contains(&protection));
        let mut again = format!(
            "larder-torture --connector {} --seconds {} --seed {seed} --nodes {nodes} --tasks {tasks} --readers {readers}",
            self.connector.name(),
            self.seconds
        );
        if self.feed {
            again += " --feed";
        }
        if self.pooler {
            again += " --pooler";
        }
        if self.tls {
            again += " --tls";
        }
        if let Some(consistency) = self.tiered {
            again += &format!(" --tiered {consistency}");
        }
        if let Some(list) = &self.faults {
            again += &format!(" --faults {}", list.replace(' ', ""));
        }
        if let Some(protection) = without {
            again += &format!(" --without {}", protection.name());
        }
        if let Some(path) = &self.server {
            again += &format!(" --server {}", path.display());
        }
        Ok(Plan {
            connector: self.connector,
            feed: self.feed,
            pooler: self.pooler,
            tls: self.tls,
            tiered: self.tiered,
            time: Duration::from_secs(self.seconds),
            faults,
            calm: 400..2_200,
            hits_between,
            patient,
            seed,
            nodes,
            tasks,
            readers,
            without,
            server: self.server,
            again,
        })
    }
}
