//! [`PostgresOptions`]: the database, the password, the time-outs and the limits. A program and a configuration file give the same
//! options, and [`PostgresOptions::validate`] checks them for both.

pub(crate) mod url;

pub(crate) use url::{Url, UrlError};

#[cfg(feature = "postgres")]
use super::address;
use crate::breaker::BreakerOptions;
use crate::connector::credentials::{CredentialsProvider, Provider};
use crate::connector::secret::Secret;
use crate::option_error::{OptionError, Refuse, setters};
use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(3600);

/// What is accepted, as errors say it. Code and configuration use the same texts.
pub(crate) mod accepted {
    pub(crate) const CONNECTIONS: &str = "a number, 1 to 100";
    pub(crate) const CONNECT_TIMEOUT: &str = "a duration above 0 and up to 1h, such as 2s";
    pub(crate) const OPERATION_TIMEOUT: &str = "a duration above 0 and up to 1h, such as 250ms";
    pub(crate) const JOURNAL_LIMIT: &str = "a number, 1 or more";
    pub(crate) const JOURNAL_BYTES: &str = "a size of 1 B or more, such as 16 MiB";
    pub(crate) const HINTS: &str = "a number, 1 to 100000000";
}

/// The options of the postgres connector: one database, some connections to it.
///
/// ```
/// use larder::connector::postgres::PostgresOptions;
/// use std::time::Duration;
///
/// let options = PostgresOptions::from_url("postgres://larder:barley@db.internal/zitadel")?
///     .operation_timeout(Duration::from_millis(250));
/// assert!(options.validate().is_ok());
/// assert_eq!(options.place(), "db.internal/zitadel");
/// # Ok::<(), larder::OptionError>(())
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct PostgresOptions {
    pub(crate) url: Url,
    /// The password. Where it was read from a file ([`Secret::from_file`]), the file is read again at every connect. `None`: none is sent.
    pub password: Option<Secret>,
    pub(crate) provider: Option<Provider>,
    /// How many connections this process holds, 1 to 100. An operation does not own a connection while it runs, so few are enough.
    /// Default 4.
    pub connections: usize,
    /// Whether statements are prepared once per connection. Behind PgBouncer in transaction mode before its version 1.21 they cannot be.
    /// Default true.
    pub prepared: bool,
    /// Whether larder makes its tables where they are missing, when a cache is opened. Default true.
    pub create: bool,
    /// How long connecting may take, with the checks of the server that belong to it; up to an hour. Default 2 s.
    pub connect_timeout: Duration,
    /// How long one operation may take; up to an hour. Default 250 ms.
    pub operation_timeout: Duration,
    /// The circuit breaker. Its own `max_in_flight` must stay 0: the limit is [`max_in_flight`](Self::max_in_flight) here. Default
    /// [`BreakerOptions::for_server`].
    pub breaker: BreakerOptions,
    /// How many keys the journal of each cache may hold; 1 or more. Above it, everything in the cache is forgotten instead. Default 10,000.
    pub journal_limit: usize,
    /// How much memory these keys may take for each cache, in bytes; 1 or more. Above it, everything in the cache is forgotten instead.
    /// Default 16 MiB.
    pub journal_bytes: usize,
    /// How long a shutdown waits for changes that could not be delivered yet. Default 1 s.
    pub shutdown_timeout: Duration,
    /// How many hints this process keeps for each cache; 1 to 100,000,000. A hint says where a secondary key leads. Default 100,000.
    pub hints: usize,
    /// How many operations may be under way at once. Beyond that, gets, lookups and fills are shed. Changes wait for a place, for at most
    /// [`operation_timeout`](Self::operation_timeout), before they are sent. Zero: no limit. Default 256.
    pub max_in_flight: usize,
    /// How often each node removes from the database what has ended, of all caches there; zero: never. Default 1 h.
    pub prune_interval: Duration,
}

/// Reads a URL, or keys and values, and checks that they can be honoured together. Returns the password separately.
pub(crate) fn read_url(text: &str) -> Result<(Url, Option<Secret>), UrlError> {
    let read = Url::parse(text)?;
    #[cfg(feature = "postgres")]
    address::read(&read.0)?;
    Ok(read)
}

impl PostgresOptions {
    /// The defaults, for the database of a URL (`postgres://user:password@host:port/database?…`) or of a list of keys and values
    /// (`host=… user=… dbname=…`), as libpq takes them: several hosts, Unix sockets, and TLS by `sslmode`, `sslrootcert`, `sslcert` and
    /// `sslkey`. The host must be given. libpq's environment variables and files in the home directory are not read. Certificates are read
    /// at every connect, and once a minute; while they cannot be used, those that were read before are.
    ///
    /// # Errors
    ///
    /// The text is neither, or has a parameter that cannot be honoured. The error never shows the text: it may hold a password.
    pub fn from_url(url: &str) -> Result<Self, OptionError> {
        let (url, password) = read_url(url)?;
        Ok(Self { password, ..Self::new(url) })
    }

    /// The defaults. Without a URL they cannot be used.
    pub(crate) fn new(url: Url) -> Self {
        Self {
            url,
            password: None,
            provider: None,
            connections: 4,
            prepared: true,
            create: true,
            connect_timeout: Duration::from_secs(2),
            operation_timeout: Duration::from_millis(250),
            breaker: BreakerOptions::for_server(),
            journal_limit: 10_000,
            journal_bytes: 16 << 20,
            shutdown_timeout: Duration::from_secs(1),
            hints: 100_000,
            max_in_flight: 256,
            prune_interval: Duration::from_secs(3600),
        }
    }

    /// The same options with this [`password`](#structfield.password).
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The same options with credentials that the program provides at each connect, for tokens that are valid for minutes. They take the
    /// place of a [`password`](#structfield.password), and may name the user as well. A session that has begun outlives its password, so
    /// larder does not ask again while the connections last.
    #[must_use]
    pub fn credentials_provider(mut self, provider: impl CredentialsProvider) -> Self {
        self.provider = Some(Provider::new(provider));
        self
    }

    /// The same options with this name for the sessions, as `pg_stat_activity` shows it. Default: that of the URL, or `larder`.
    #[must_use]
    pub fn application_name(mut self, name: &str) -> Self {
        self.url = self.url.application_name(name);
        self
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
        shutdown_timeout: Duration,
        hints: usize,
        max_in_flight: usize,
        prune_interval: Duration,
    }

    /// The options of the breaker around the server's operations.
    #[cfg(feature = "postgres")]
    pub(crate) fn whole_breaker(&self) -> BreakerOptions {
        self.breaker.clone().max_in_flight(self.max_in_flight)
    }

    /// Checks that every option can be used. Code that connects to a server makes this check first.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted. A configuration refuses the same options.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| self.examine(refuse))
    }

    /// Calls `refuse` for every option that cannot be used. No check concerns the URL: that was read before there were options.
    pub(crate) fn examine(&self, refuse: Refuse<'_>) {
        if self.password.as_ref().is_some_and(|password| password.expose().trim().is_empty()) {
            refuse(OptionError::hidden("password", "is empty: give a password, or none"));
        }
        if self.password.is_some() && self.provider.is_some() {
            refuse(OptionError::hidden(
                "password",
                "is given, and a provider of credentials as well: give one of the two",
            ));
        }
        if !(1..=100).contains(&self.connections) {
            refuse(OptionError::new("connections", self.connections, accepted::CONNECTIONS));
        }
        for (name, time, accepted) in [
            ("connect_timeout", self.connect_timeout, accepted::CONNECT_TIMEOUT),
            ("operation_timeout", self.operation_timeout, accepted::OPERATION_TIMEOUT),
        ] {
            if time.is_zero() || time > LONGEST {
                refuse(OptionError::duration(name, time, accepted));
            }
        }
        for (name, value, accepted) in [
            ("journal_limit", self.journal_limit, accepted::JOURNAL_LIMIT),
            ("journal_bytes", self.journal_bytes, accepted::JOURNAL_BYTES),
        ] {
            if value == 0 {
                refuse(OptionError::new(name, value, accepted));
            }
        }
        // Limited, because opening a cache makes places for all hints.
        if !(1..=100_000_000).contains(&self.hints) {
            refuse(OptionError::new("hints", self.hints, accepted::HINTS));
        }
        if self.breaker.max_in_flight != 0 {
            let accepted = "0 here, and the limit as `max_in_flight` of the connector";
            refuse(OptionError::new("breaker.max_in_flight", self.breaker.max_in_flight, accepted));
        }
        self.breaker.examine(&mut |error| refuse(error.within("breaker.")));
    }

    /// Where the database is, for people: hosts and database, without user and password.
    #[must_use]
    pub fn place(&self) -> String {
        self.url.place()
    }

    /// The user that logs in. `None`: the client library takes the name of the system's user.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.url.user()
    }
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("database", &self.place())
            .field("password", &self.password)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
