//! [`Connection`]: the sessions with a server that one process has.
//!
//! Each operation is one statement and leaves nothing in its session. So operations do not own a session while they run: they are sent one behind
//! the other (pipelined), each on the session that has least to do. One that waits for a lock holds up those behind it on the same session only.

use super::address;
use super::connecting::{self, Whom};
use super::errors::{is_of_prepared, trouble};
use super::options::{PostgresOptions, UrlError};
use super::queries::Query;
use super::tls::{Certificates, TlsOptions};
use crate::connector::credentials::Login;
use crate::connector::remote::{Trouble, What};
use crate::option_error::OptionError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row, Statement};

/// What a statement is given.
pub(crate) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What the client library connects with. A password is read from its file again, or asked of the program's provider: it may have changed
/// since.
pub(crate) async fn config(options: &PostgresOptions) -> Result<(Config, TlsOptions), Trouble> {
    let refused = |error: UrlError| Trouble::Error { what: What::Refused, text: OptionError::from(error).to_string() };
    let (mut config, tls) = address::read(&options.url).map_err(refused)?;
    let login = Login::now(None, options.password.as_ref(), options.provider.as_ref()).await?;
    if let Some(username) = &login.username {
        config.user(username);
    }
    if let Some(password) = &login.password {
        config.password(password.expose());
    }
    Ok((config, tls))
}

/// A parameter of a statement that is not prepared.
pub(crate) type Typed<'a> = (&'a (dyn ToSql + Sync), Type);

/// All sessions with a server.
pub(crate) struct Connection {
    sessions: Vec<Session>,
}

/// Ends when a session has ended. Dropped, it ends all of them.
pub(crate) type Driver = JoinSet<()>;

impl Connection {
    /// Opens the sessions, and makes sure that the server is one that larder can keep its tables on.
    pub(crate) async fn open(
        options: &PostgresOptions,
        certificates: &Certificates,
    ) -> Result<(Self, Driver), Trouble> {
        Self::on(connecting::sessions(options, certificates, Whom::Primary).await?, options)
    }

    /// Opens the sessions, whatever the server is.
    pub(crate) async fn reach(options: &PostgresOptions) -> Result<(Self, Driver), Trouble> {
        Self::on(connecting::sessions(options, &Certificates::default(), Whom::Any).await?, options)
    }

    fn on((clients, driver): (Vec<Client>, Driver), options: &PostgresOptions) -> Result<(Self, Driver), Trouble> {
        let sessions = clients.into_iter().map(|client| Session::new(client, options.prepared)).collect();
        Ok((Self { sessions }, driver))
    }

    /// Sends one statement that is not one of the [queries](Query).
    pub(crate) async fn ask(&self, text: &str, parameters: &[Typed<'_>]) -> Result<Vec<Row>, Trouble> {
        self.session()?.client.query_typed(text, parameters).await.map_err(|error| trouble(&error))
    }

    /// The session that has least to do.
    pub(crate) fn session(&self) -> Result<&Session, Trouble> {
        self.sessions.iter().min_by_key(|session| session.under_way.load(Ordering::Relaxed)).ok_or(Trouble::Unavailable)
    }

    /// The client of each session.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &Client> {
        self.sessions.iter().map(|session| &session.client)
    }

    /// Sends one statement.
    pub(crate) async fn rows(&self, query: Query, parameters: Parameters<'_>) -> Result<Vec<Row>, Trouble> {
        self.session()?.rows(query, parameters).await
    }

    /// Sends one statement that has one row.
    pub(crate) async fn row(&self, query: Query, parameters: Parameters<'_>) -> Result<Row, Trouble> {
        self.rows(query, parameters).await?.into_iter().next().ok_or_else(unexpected)
    }

    /// Sends several statements without parameters at once, which makes one transaction of them.
    pub(crate) async fn batch(&self, text: &str) -> Result<(), Trouble> {
        self.session()?.batch(text).await
    }
}

/// One session.
pub(crate) struct Session {
    client: Client,
    /// By number of the query. `None`: statements are not prepared.
    prepared: Option<Box<[OnceCell<Statement>; Query::COUNT]>>,
    under_way: AtomicUsize,
    /// Whether somebody was told that a pooler loses prepared statements.
    told: AtomicBool,
}

impl Session {
    pub(super) fn new(client: Client, prepared: bool) -> Self {
        let prepared = prepared.then(|| Box::new(std::array::from_fn(|_| OnceCell::new())));
        Self { client, prepared, under_way: AtomicUsize::new(0), told: AtomicBool::new(false) }
    }

    /// Sends one statement. What is sent on the same session before this is polled is executed before it, if both were
    /// [prepared](Self::prepare).
    pub(crate) async fn rows(&self, query: Query, parameters: Parameters<'_>) -> Result<Vec<Row>, Trouble> {
        let _under_way = UnderWay::begin(&self.under_way);
        let sent = match self.prepare(query).await? {
            Some(statement) => self.client.query(statement, parameters).await,
            None => {
                let typed: Vec<(&(dyn ToSql + Sync), Type)> =
                    parameters.iter().copied().zip(query.types().iter().cloned()).collect();
                self.client.query_typed(&query.text(), &typed).await
            }
        };
        sent.map_err(|error| self.trouble(&error))
    }

    /// Sends several statements without parameters at once, which makes one transaction of them.
    pub(super) async fn batch(&self, text: &str) -> Result<(), Trouble> {
        self.client.batch_execute(text).await.map_err(|error| trouble(&error))
    }

    /// The trouble that an error is. If prepared statements get lost, says so once: the connection is given up then, and that alone looks like an outage.
    fn trouble(&self, error: &tokio_postgres::Error) -> Trouble {
        let trouble = trouble(error);
        if error.code().is_some_and(is_of_prepared) && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = %trouble, "a prepared statement got lost");
        }
        trouble
    }

    /// The prepared statement; `None` where statements are not prepared.
    pub(crate) async fn prepare(&self, query: Query) -> Result<Option<&Statement>, Trouble> {
        let Some(place) = self.prepared.as_ref().and_then(|prepared| prepared.get(query as usize)) else {
            return Ok(None);
        };
        let prepare = || async move { self.client.prepare_typed(&query.text(), query.types()).await };
        place.get_or_try_init(prepare).await.map(Some).map_err(|error| self.trouble(&error))
    }
}

/// Counts an operation for as long as it is under way.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A value of a row.
pub(crate) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Trouble> {
    row.try_get(at).map_err(|error| trouble(&error))
}

pub(crate) fn unexpected() -> Trouble {
    Trouble::fault("the reply has not the expected shape: the functions of another version of larder may be there")
}
