//! What is measured: a server of either kind.

use super::postgres::PostgresSubject;
use super::redis::{PlainKeys, RedisSubject};
use super::report::Idle;
use super::rows::Node;
use super::{IDLE, Plan};
use crate::failure::Failure;
use crate::server::Server;
use larder::connector::postgres::inspect::PlainTable;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server, and a place of the benchmark's own there.
pub(super) enum Subject {
    Redis(Box<RedisSubject>),
    Postgres(Box<PostgresSubject>),
}

/// What larder is compared with.
#[derive(Clone)]
pub(super) enum Plain {
    Keys(PlainKeys),
    Table(Arc<PlainTable>),
}

impl Subject {
    pub(super) async fn open(server: &Server, plan: &Plan) -> Result<Self, Failure> {
        Ok(match server {
            Server::Redis(server) => Self::Redis(RedisSubject::open(server, plan).await?.into()),
            Server::Postgres(server) => Self::Postgres(PostgresSubject::open(server, plan).await?.into()),
        })
    }

    /// Name and version of the server.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Redis(subject) => &subject.name,
            Self::Postgres(subject) => &subject.name,
        }
    }

    pub(super) fn address(&self) -> String {
        match self {
            Self::Redis(subject) => subject.address(),
            Self::Postgres(subject) => subject.address(),
        }
    }

    /// The command that larder is compared with.
    pub(super) fn plain_name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "GET",
            Self::Postgres(_) => "SELECT",
        }
    }

    /// What the server does for other clients. The figures of a PostgreSQL server do not include it.
    pub(super) async fn idle(&mut self) -> Result<Idle, Failure> {
        let Self::Redis(subject) = self else { return Ok(Idle { seconds: IDLE.as_secs_f64(), cpu_seconds: 0.0 }) };
        let (before, begun) = (subject.cpu().await?, Instant::now());
        tokio::time::sleep(IDLE).await;
        let used = subject.cpu().await?.saturating_sub(before);
        Ok(Idle { seconds: begun.elapsed().as_secs_f64(), cpu_seconds: used.as_secs_f64() })
    }

    /// The processor time that the server has used. `None`: the server does not tell.
    pub(super) async fn cpu(&mut self, plan: &Plan) -> Result<Option<Duration>, Failure> {
        match self {
            Self::Redis(subject) => subject.cpu().await.map(Some),
            Self::Postgres(subject) => subject.cpu(plan).await,
        }
    }

    /// A node with room for so many hints.
    pub(super) async fn node(&self, plan: &Plan, hints: usize) -> Result<Node, Failure> {
        match self {
            Self::Redis(subject) => subject.node(hints).await,
            Self::Postgres(subject) => subject.node(plan, hints).await,
        }
    }

    /// Stores as many plain values as there are objects.
    pub(super) async fn plain(&self, plan: &Plan) -> Result<Plain, Failure> {
        Ok(match self {
            Self::Redis(subject) => Plain::Keys(subject.plain(plan).await?),
            Self::Postgres(subject) => Plain::Table(subject.plain(plan).await?.into()),
        })
    }

    /// Removes everything that was stored.
    pub(super) async fn remove(&self, plan: &Plan) -> Result<(), Failure> {
        match self {
            Self::Redis(subject) => subject.remove().await,
            Self::Postgres(subject) => subject.remove(plan).await,
        }
    }
}

impl Plain {
    /// The size of a value, got by one command.
    pub(super) async fn get(&mut self, number: usize) -> Option<usize> {
        match self {
            Self::Keys(keys) => keys.get(number).await,
            Self::Table(table) => table.select(number as u64).await.ok().flatten(),
        }
    }
}
