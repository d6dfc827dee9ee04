//! The PostgreSQL server of a run, and plain SQL on it.

use crate::plan::Plan;
use larder_testing::postgres::{PostgresBinaries, PostgresError, PostgresServer, USER, required};
use larder_testing::proxy::Proxy;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio_postgres::{Client, Config, NoTls};

/// How long one connection attempt, or one statement, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a server with the programs that the plan names, or of the oldest version on this machine.
pub(crate) async fn start(plan: &Plan) -> Result<PostgresServer, PostgresError> {
    let binaries = match &plan.server {
        Some(folder) => PostgresBinaries::at(folder)?,
        None => required()?.remove(0),
    };
    // As many as are needed at the same time, and few more, so that a crowd takes them all in a moment.
    let connections = format!("max_connections = {}", plan.nodes * (plan.tasks + plan.readers + 12) + 20);
    let lines = [
        &*connections,
        "max_prepared_transactions = 16",
        "deadlock_timeout = 200ms",
        "autovacuum_naptime = 1s",
        "checkpoint_timeout = 30s",
        // A standby that was started before its primary could send it anything tries again soon.
        "wal_retrieve_retry_interval = 100ms",
    ];
    PostgresServer::start(&binaries, &lines).await
}

/// The file that clients of the server connect to.
pub(crate) fn socket(server: &PostgresServer) -> PathBuf {
    server.socket().join(format!(".s.PGSQL.{}", server.port()))
}

/// What a client connects with to reach a server through proxies. Where there are several, it wants the primary among their servers.
pub(crate) fn through<'a>(proxies: impl IntoIterator<Item = &'a Proxy>) -> String {
    let ports: Vec<String> = proxies.into_iter().map(|proxy| proxy.port().to_string()).collect();
    let hosts = vec!["127.0.0.1"; ports.len()].join(",");
    let wanted = if ports.len() > 1 { " target_session_attrs=read-write" } else { "" };
    format!("host={hosts} port={} user={USER} dbname={USER} sslmode=disable{wanted}", ports.join(","))
}

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqlError {
    #[error("PostgreSQL: {}", told(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("PostgreSQL did not answer within {} s", PATIENCE.as_secs())]
    Late,
    #[error("the answer of PostgreSQL has another shape")]
    Shape,
}

/// The error with what the server says of it.
fn told(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}

impl SqlError {
    /// The SQLSTATE of an error that the server has answered.
    pub(crate) fn state(&self) -> Option<&str> {
        match self {
            Self::Server(error) => error.code().map(tokio_postgres::error::SqlState::code),
            Self::Late | Self::Shape => None,
        }
    }
}

/// A session. It ends when this is dropped.
pub(crate) struct Sql {
    pub(crate) client: Client,
    task: AbortHandle,
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sql {
    pub(crate) async fn connect(dsn: &str) -> Result<Self, SqlError> {
        let config: Config = dsn.parse()?;
        let connected = tokio::time::timeout(PATIENCE, config.connect(NoTls)).await;
        let (client, connection) = connected.map_err(|_| SqlError::Late)??;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer is told of the error.
            let _ = connection.await;
        });
        Ok(Self { client, task: task.abort_handle() })
    }

    /// Runs statements without parameters, and answers nothing.
    pub(crate) async fn run(&self, text: &str) -> Result<(), SqlError> {
        Ok(tokio::time::timeout(PATIENCE, self.client.batch_execute(text)).await.map_err(|_| SqlError::Late)??)
    }

    /// The first column of the rows that one statement answers, as text.
    pub(crate) async fn column(&self, text: &str) -> Result<Vec<String>, SqlError> {
        use tokio_postgres::SimpleQueryMessage::Row;
        let answered = tokio::time::timeout(PATIENCE, self.client.simple_query(text)).await;
        let rows = answered.map_err(|_| SqlError::Late)??;
        let cells = rows.iter().filter_map(|row| match row {
            Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(cells.collect())
    }

    /// The number that one statement answers.
    pub(crate) async fn number<T: std::str::FromStr>(&self, text: &str) -> Result<T, SqlError> {
        self.column(text).await?.first().and_then(|cell| cell.parse().ok()).ok_or(SqlError::Shape)
    }
}
