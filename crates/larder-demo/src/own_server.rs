//! The servers that the demo has started, to be broken by the page and by the story.

use super::instance::Instance;
use larder::Entry;
use larder_testing::cluster::Cluster;
use larder_testing::postgres::{PostgresBinaries, PostgresError, PostgresServer};
use larder_testing::server::{Server, ServerBinary, ServerError, ServerOptions, Watched};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// How many Sentinels there are: one may be gone, and the others are a majority.
const SENTINELS: usize = 3;

/// The primaries of a cluster, and the replicas of each.
const PRIMARIES: u16 = 3;
const REPLICAS: u16 = 1;

/// Which Redis servers the demo starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    One,
    /// A master, its replica, and three Sentinels.
    Sentinel,
    /// Three primaries, each with a replica.
    Cluster,
}

/// Servers that end with the demo.
#[derive(Debug)]
pub(crate) enum OwnServer {
    Redis(Server),
    Replicated(Replicated),
    Postgres(PostgresServer),
}

/// Redis servers of which another one takes over when the primary is away.
#[derive(Debug)]
pub(crate) struct Replicated {
    servers: Taking,
    /// The place, in [`Replicated::all`], of the server that was stopped. It need not be the primary any more.
    stopped: Mutex<Option<usize>>,
}

/// What makes another server the primary.
#[derive(Debug)]
enum Taking {
    Sentinels(Box<Watched>),
    /// The slot is that of the demo's cache.
    Cluster(Cluster, u16),
}

/// Why the demo's server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnServerError {
    #[error(transparent)]
    Redis(#[from] ServerError),
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(
        "no Redis or Valkey server is installed here; install one (Debian: apt install redis-server), or give --redis URL"
    )]
    NoRedis,
    #[error(
        "no PostgreSQL server is installed here; install one (Debian: apt install postgresql), or give --postgres URL"
    )]
    NoPostgres,
    #[error("only a Redis or Valkey server can be flushed, and the demo has another one")]
    NoFlush,
    #[error("no server is the primary now: another one is about to take over; try again in a few seconds")]
    NoPrimary,
}

impl OwnServer {
    /// Starts Redis or Valkey. `program`: instead of the first one that is found. `persistent`: a single server can save snapshots.
    pub(crate) async fn redis(
        program: Option<PathBuf>,
        servers: Servers,
        persistent: bool,
    ) -> Result<Self, OwnServerError> {
        let binary = match program {
            Some(program) => ServerBinary::at(program)?,
            None => larder_testing::server::installed()?.into_iter().next().ok_or(OwnServerError::NoRedis)?,
        };
        let options = ServerOptions::default();
        let servers = match servers {
            Servers::One => {
                let options = if persistent { options.persistent() } else { options };
                return Ok(Self::Redis(Server::start(&binary, options).await?));
            }
            Servers::Sentinel => Taking::Sentinels(Watched::start(&binary, options, SENTINELS).await?.into()),
            Servers::Cluster => {
                // Caches of other primaries go on where one is away.
                let options = options.config("cluster-require-full-coverage no");
                let cluster = Cluster::start(&binary, options, PRIMARIES, REPLICAS).await?;
                let slot = cluster.slot_of(&format!("{{{}}}", Instance::CACHE)).await?;
                Taking::Cluster(cluster, slot)
            }
        };
        Ok(Self::Replicated(Replicated { servers, stopped: Mutex::default() }))
    }

    /// Starts PostgreSQL. `folder`: of its programs, instead of the newest version that is found.
    pub(crate) async fn postgres(folder: Option<PathBuf>) -> Result<Self, OwnServerError> {
        let binaries = match folder {
            Some(folder) => PostgresBinaries::at(folder)?,
            None => match larder_testing::postgres::required() {
                Err(PostgresError::NoServer) => return Err(OwnServerError::NoPostgres),
                found => found?.pop().ok_or(OwnServerError::NoPostgres)?,
            },
        };
        Ok(Self::Postgres(PostgresServer::start(&binaries, &[]).await?))
    }

    /// The name for people: `Redis 7.0.15, started here`.
    pub(crate) fn name(&self) -> String {
        let version = |server: &Server| {
            let (flavour, (major, minor, patch)) = (server.binary().flavour, server.binary().version);
            format!("{flavour:?} {major}.{minor}.{patch}, started here")
        };
        match self {
            Self::Redis(server) => version(server),
            Self::Replicated(Replicated { servers: Taking::Sentinels(watched), .. }) => {
                format!("a master with a replica and {SENTINELS} Sentinels, {}", version(&watched.master))
            }
            Self::Replicated(Replicated { servers: Taking::Cluster(cluster, _), .. }) => {
                let version = cluster.nodes().first().map(version).unwrap_or_default();
                format!("a cluster of {PRIMARIES} primaries with a replica each, {version}")
            }
            Self::Postgres(server) => {
                let (major, minor) = server.binaries().version;
                format!("PostgreSQL {major}.{minor}, started here")
            }
        }
    }

    /// The settings of the redis connector that say where the servers are, as they stand in a configuration file. `None`: PostgreSQL.
    pub(crate) fn settings(&self) -> Option<String> {
        let listed = |ports: Vec<u16>| {
            let quoted = ports.iter().map(|port| format!("\"127.0.0.1:{port}\""));
            quoted.collect::<Vec<_>>().join(", ")
        };
        let ports = |servers: &[Server]| servers.iter().filter_map(Server::port).collect();
        match self {
            Self::Redis(server) => Some(format!("socket: \"{}\"", server.socket().display())),
            Self::Replicated(Replicated { servers: Taking::Sentinels(watched), .. }) => {
                let hosts = listed(ports(&watched.sentinels));
                Some(format!("sentinel: {{ master: {}, hosts: [{hosts}] }}", Watched::NAME))
            }
            Self::Replicated(Replicated { servers: Taking::Cluster(cluster, _), .. }) => {
                // Any node tells where the others are. The first three are enough to find one that is there.
                let (first, others) = cluster.nodes().split_first()?;
                let others = others.get(..2).unwrap_or_default();
                let address = listed(first.port().into_iter().collect());
                Some(format!("address: {address}, cluster: [{}]", listed(ports(others))))
            }
            Self::Postgres(_) => None,
        }
    }

    /// What a client of PostgreSQL connects with, as libpq takes it; of Redis, the path of the socket.
    pub(crate) fn address(&self) -> OsString {
        match self {
            Self::Redis(server) => server.socket().into(),
            Self::Replicated(_) => OsString::new(),
            Self::Postgres(server) => server.dsn().into(),
        }
    }

    /// Whether another server takes over when the primary is away.
    pub(crate) fn is_replicated(&self) -> bool {
        matches!(self, Self::Replicated(_))
    }

    /// SIGSTOP: connections stay open, but nothing is answered. Of several servers, the primary of the demo's cache is stopped.
    pub(crate) async fn stop(&self) -> Result<(), OwnServerError> {
        match self {
            Self::Redis(server) => Ok(server.stop()?),
            Self::Replicated(servers) => servers.stop().await,
            Self::Postgres(server) => Ok(server.stop()?),
        }
    }

    /// SIGCONT.
    pub(crate) fn cont(&self) -> Result<(), OwnServerError> {
        match self {
            Self::Redis(server) => Ok(server.cont()?),
            Self::Replicated(servers) => servers.cont(),
            Self::Postgres(server) => Ok(server.cont()?),
        }
    }

    /// SIGKILL. Of several servers, the one that was stopped is killed, or else the primary of the demo's cache.
    pub(crate) async fn kill(&self) -> Result<(), OwnServerError> {
        match self {
            Self::Redis(server) => server.kill(),
            Self::Replicated(servers) => servers.kill().await?,
            Self::Postgres(server) => server.kill(),
        }
        Ok(())
    }

    /// Kills the server if it runs, and starts it again. Redis then has what its last snapshot has, if there is one. PostgreSQL has no objects of the
    /// cache: their tables are empty after a crash. Of several servers, those that were killed are started again, or else the primary of the demo's
    /// cache is killed and started.
    pub(crate) async fn restart(&self) -> Result<(), OwnServerError> {
        match self {
            Self::Redis(server) => Ok(server.restart().await?),
            Self::Replicated(servers) => servers.restart().await,
            Self::Postgres(server) => Ok(server.restart().await?),
        }
    }

    /// FLUSHALL, of several servers on the primary of the demo's cache.
    ///
    /// # Errors
    ///
    /// [`OwnServerError::NoFlush`] on PostgreSQL; [`OwnServerError::NoPrimary`].
    pub(crate) async fn flush(&self) -> Result<(), OwnServerError> {
        match self {
            Self::Redis(server) => Ok(server.flushall().await?),
            Self::Replicated(servers) => Ok(servers.primary().await?.1.flushall().await?),
            Self::Postgres(_) => Err(OwnServerError::NoFlush),
        }
    }
}

impl Replicated {
    /// The servers that objects can be on.
    fn all(&self) -> Vec<&Server> {
        match &self.servers {
            Taking::Sentinels(watched) => vec![&watched.master, &watched.replica],
            Taking::Cluster(cluster, _) => cluster.nodes().iter().collect(),
        }
    }

    /// The primary of the demo's cache now, with its place.
    async fn primary(&self) -> Result<(usize, &Server), OwnServerError> {
        let primary = match &self.servers {
            Taking::Sentinels(watched) => {
                let named = watched.named().await.and_then(|(master, _)| master.port());
                self.all().iter().position(|server| server.port() == named)
            }
            Taking::Cluster(cluster, slot) => cluster.primary(*slot).await.ok(),
        };
        let found = primary.and_then(|place| Some((place, *self.all().get(place)?)));
        // While it is stopped, another one is about to take over.
        found.filter(|(_, server)| server.pid().is_some()).ok_or(OwnServerError::NoPrimary)
    }

    fn note(&self, stopped: Option<usize>) -> Option<usize> {
        std::mem::replace(&mut *self.stopped.lock().unwrap_or_else(PoisonError::into_inner), stopped)
    }

    async fn stop(&self) -> Result<(), OwnServerError> {
        let (place, primary) = self.primary().await?;
        primary.stop()?;
        self.note(Some(place));
        Ok(())
    }

    fn cont(&self) -> Result<(), OwnServerError> {
        match self.note(None).and_then(|place| self.all().get(place).copied()) {
            Some(server) => Ok(server.cont()?),
            None => Ok(()),
        }
    }

    async fn kill(&self) -> Result<(), OwnServerError> {
        match self.note(None).and_then(|place| self.all().get(place).copied()) {
            Some(server) => server.kill(),
            None => self.primary().await?.1.kill(),
        }
        Ok(())
    }

    async fn restart(&self) -> Result<(), OwnServerError> {
        let killed: Vec<_> = self.all().into_iter().filter(|server| server.pid().is_none()).collect();
        if killed.is_empty() {
            return Ok(self.primary().await?.1.restart().await?);
        }
        for server in killed {
            server.restart().await?;
        }
        Ok(())
    }
}
