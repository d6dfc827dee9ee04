//! [`PostgresOptions`]: which database, and how long we wait.

use super::address;
use super::tls::TlsOptions;
use crate::breaker::BreakerOptions;
use crate::option_error::{OptionError, Refuse, setters};
use std::time::Duration;
use tokio_postgres::Config;

const LONGEST: Duration = Duration::from_secs(3600);

/// The options of the postgres connector: one database, some connections to it.
///
/// ```
/// use larder::connector::postgres::PostgresOptions;
/// use std::time::Duration;
///
/// let options = PostgresOptions::from_url("postgres://larder:barley@db.internal/zitadel")?
///     .operation_timeout(Duration::from_millis(250));
/// assert!(options.validate().is_ok());
/// # Ok::<(), larder::OptionError>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    pub(crate) config: Config,
    pub(crate) tls: TlsOptions,
    /// Connections that this process holds, 1 to 100. Operations do not own one while they run, so that few are enough. Default 4.
    pub connections: usize,
    /// Whether statements are prepared once per connection. Behind PgBouncer in transaction mode before its version 1.21 they cannot be. Default true.
    pub prepared: bool,
    /// Whether the tables are made where they are missing, once a cache is opened. Default true.
    pub create: bool,
    /// How long connecting, with all that is checked then, may take; up to an hour. Default 2 s.
    pub connect_timeout: Duration,
    /// How long one operation may take; up to an hour. Default 250 ms.
    pub operation_timeout: Duration,
    /// The circuit breaker; its own `max_in_flight` stays 0, since [`max_in_flight`](Self::max_in_flight) here does it. Default
    /// [`BreakerOptions::for_server`].
    pub breaker: BreakerOptions,
    /// Keys that wait to be invalidated, per cache, 1 or more; above it everything in the cache is forgotten instead. Default 10,000.
    pub journal_limit: usize,
    /// What those keys may take up in memory, per cache, in bytes, 1 or more; above it everything is forgotten as well. Default 16 MiB.
    pub journal_bytes: usize,
    /// Secondary keys, per cache, of which this process remembers where they lead; 1 to 100,000,000. Default 100,000.
    pub hints: usize,
    /// Operations under way at once. More gets, lookups and fills are shed; more changes wait for a place. Zero: no limit. Default 256.
    pub max_in_flight: usize,
}

impl PostgresOptions {
    /// The defaults, for the database of a URL (`postgres://user:password@host:port/database?…`) or of a list of keys and values
    /// (`host=… user=… dbname=…`), as libpq takes them: several hosts, Unix sockets, and TLS by `sslmode`, `sslrootcert`, `sslcert` and `sslkey`.
    /// libpq's environment variables and files in the home directory are not read. Certificates are read at every connect.
    ///
    /// # Errors
    ///
    /// It is neither, or has a parameter that cannot be honoured. The error never shows what was given: it may hold a password.
    pub fn from_url(url: &str) -> Result<Self, OptionError> {
        let (config, tls) = address::parse(url)?;
        Ok(Self::new(config, tls))
    }

    fn new(config: Config, tls: TlsOptions) -> Self {
        Self {
            config,
            tls,
            connections: 4,
            prepared: true,
            create: true,
            connect_timeout: Duration::from_secs(2),
            operation_timeout: Duration::from_millis(250),
            breaker: BreakerOptions::for_server(),
            journal_limit: 10_000,
            journal_bytes: 16 << 20,
            hints: 100_000,
            max_in_flight: 256,
        }
    }

    setters! {
        connections: usize,
        prepared: bool,
        create: bool,
        connect_timeout: Duration,
        operation_timeout: Duration,
        breaker: BreakerOptions,
        journal_limit: usize,
        journal_bytes: usize,
        hints: usize,
        max_in_flight: usize,
    }

    pub(crate) fn whole_breaker(&self) -> BreakerOptions {
        self.breaker.clone().max_in_flight(self.max_in_flight)
    }

    /// Checks that every option can be used. Whatever connects to a server refuses what is not.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| self.examine(refuse))
    }

    fn examine(&self, refuse: Refuse<'_>) {
        if !(1..=100).contains(&self.connections) {
            refuse(OptionError::new("connections", self.connections, "a number, 1 to 100"));
        }
        for (name, time) in [("connect_timeout", self.connect_timeout), ("operation_timeout", self.operation_timeout)] {
            if time.is_zero() || time > LONGEST {
                refuse(OptionError::duration(name, time, "a duration above 0 and up to 1h, such as 250ms"));
            }
        }
        if self.journal_limit == 0 {
            refuse(OptionError::new("journal_limit", 0, "a number, 1 or more"));
        }
        if self.journal_bytes == 0 {
            refuse(OptionError::new("journal_bytes", 0, "a size of 1 B or more, such as 16 MiB"));
        }
        if !(1..=100_000_000).contains(&self.hints) {
            refuse(OptionError::new("hints", self.hints, "a number, 1 to 100000000"));
        }
    }

    /// Where the database is, for people: without user and password.
    pub(crate) fn name(&self) -> String {
        let mut hosts: Vec<String> = self.config.get_hosts().iter().map(host).collect();
        if hosts.is_empty() {
            hosts.extend(self.config.get_hostaddrs().iter().map(ToString::to_string));
        }
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or("?");
        format!("{}/{database}", hosts.join(","))
    }
}

fn host(host: &tokio_postgres::config::Host) -> String {
    match host {
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    }
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("database", &self.name())
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
