//! A server that the demo has started, to be broken by the page and by the story.

use larder_testing::postgres::{PostgresBinaries, PostgresError, PostgresServer};
use larder_testing::server::{Server, ServerBinary, ServerError, ServerOptions};
use std::ffi::OsString;
use std::path::PathBuf;

/// A server that ends with the demo.
#[derive(Debug)]
pub(crate) enum OwnServer {
    Redis(Server),
    Postgres(PostgresServer),
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
}

impl OwnServer {
    /// Starts Redis or Valkey. `program`: instead of the first one that is found. `persistent`: it can save snapshots.
    pub(crate) async fn redis(program: Option<PathBuf>, persistent: bool) -> Result<Self, OwnServerError> {
        let binary = match program {
            Some(program) => ServerBinary::at(program)?,
            None => larder_testing::server::installed()?.into_iter().next().ok_or(OwnServerError::NoRedis)?,
        };
        let options = ServerOptions::default();
        let options = if persistent { options.persistent() } else { options };
        Ok(Self::Redis(Server::start(&binary, options).await?))
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
        // In the folder of the data, so that nothing is left in the machine's shared memory when the server is killed.
        let lines = ["dynamic_shared_memory_type = mmap"];
        Ok(Self::Postgres(PostgresServer::start(&binaries, &lines).await?))
    }

    /// The name for people: `Redis 7.0.15, started here`.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Redis(server) => {
                let (flavour, (major, minor, patch)) = (server.binary().flavour, server.binary().version);
                format!("{flavour:?} {major}.{minor}.{patch}, started here")
            }
            Self::Postgres(server) => {
                let (major, minor) = server.binaries().version;
                format!("PostgreSQL {major}.{minor}, started here")
            }
        }
    }

    /// What a client connects with: the path of the socket of Redis, or keys and values as libpq takes them.
    pub(crate) fn address(&self) -> OsString {
        match self {
            Self::Redis(server) => server.socket().into(),
            Self::Postgres(server) => server.dsn().into(),
        }
    }

    /// SIGSTOP: connections stay open, but nothing is answered.
    pub(crate) fn stop(&self) -> Result<(), OwnServerError> {
        match self {
            Self::Redis(server) => Ok(server.stop()?),
            Self::Postgres(server) => Ok(server.stop()?),
        }
    }

    /// SIGCONT.
    pub(crate) fn cont(&self) -> Result<(), OwnServerError> {
        match self {
            Self::Redis(server) => Ok(server.cont()?),
            Self::Postgres(server) => Ok(server.cont()?),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        match self {
            Self::Redis(server) => server.kill(),
            Self::Postgres(server) => server.kill(),
        }
    }

    /// Kills the server if it runs, and starts it again. Redis then has what its last snapshot has, if there is one. PostgreSQL has no objects of the
    /// cache: their tables are empty after a crash.
    pub(crate) async fn restart(&self) -> Result<(), OwnServerError> {
        match self {
            Self::Redis(server) => Ok(server.restart().await?),
            Self::Postgres(server) => Ok(server.restart().await?),
        }
    }

    /// FLUSHALL.
    ///
    /// # Errors
    ///
    /// [`OwnServerError::NoFlush`] on PostgreSQL.
    pub(crate) async fn flush(&self) -> Result<(), OwnServerError> {
        match self {
            Self::Redis(server) => Ok(server.flushall().await?),
            Self::Postgres(_) => Err(OwnServerError::NoFlush),
        }
    }
}
