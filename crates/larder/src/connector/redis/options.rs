//! [`RedisOptions`]: the server, the credentials, the time-outs and the limits. A program and a configuration file give the same options,
//! and [`RedisOptions::validate`] checks them for both.

mod address;
pub(crate) mod sentinel;
pub(crate) mod tls;
mod url;

pub use address::Address;
pub use sentinel::SentinelOptions;
pub use tls::TlsOptions;
pub(crate) use url::Url;

use crate::breaker::BreakerOptions;
use crate::connector::credentials::{CredentialsProvider, Provider};
use crate::connector::secret::Secret;
use crate::option_error::{OptionError, Refuse, is_name, setters};
use std::time::Duration;

/// Databases are numbered with 31 bits.
const LAST_DATABASE: u32 = i32::MAX as u32;

/// What is accepted, as errors say it. Code and configuration use the same texts.
pub(crate) mod accepted {
    pub(crate) const DATABASE: &str = "a number, 0 to 2147483647";
    pub(crate) const CLIENT_NAME: &str = "letters, digits and signs, without spaces";
    pub(crate) const PREFIX: &str = crate::option_error::NAME;
    pub(crate) const CONNECT_TIMEOUT: &str = "a duration above 0 and up to 1h, such as 1s";
    pub(crate) const OPERATION_TIMEOUT: &str = "a duration above 0 and up to 1h, such as 100ms";
    pub(crate) const WAIT_REPLICAS: &str = "a number of replicas up to 1000, 0 for none";
    pub(crate) const WAIT_TIMEOUT: &str = "a duration above 0 and up to 1h, such as 50ms";
    pub(crate) const JOURNAL_LIMIT: &str = "a number, 1 or more";
    pub(crate) const JOURNAL_BYTES: &str = "a size of 1 B or more, such as 16 MiB";
    pub(crate) const HINTS: &str = "a number, 1 to 100000000";
}

/// The options of the redis connector: one server, one connection to it.
///
/// ```
/// use larder::connector::redis::RedisOptions;
/// use std::time::Duration;
///
/// let options = RedisOptions::new("cache.internal:6379")
///     .credentials("larder", "barley")
///     .operation_timeout(Duration::from_millis(50));
/// assert!(options.validate().is_ok());
///
/// let error = RedisOptions::new("cache.internal").database(u32::MAX).validate().unwrap_err();
/// assert_eq!(error.to_string(), "database is `4294967295`: give a number, 0 to 2147483647");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RedisOptions {
    /// Where the server listens. Default `127.0.0.1:6379`. With [`sentinel`](Self::sentinel) it is not used.
    pub address: Address,
    /// The Sentinels that know where the server listens. `None`: it listens at [`address`](Self::address).
    pub sentinel: Option<SentinelOptions>,
    /// The nodes of a cluster that are asked for the others, beside [`address`](Self::address); `None`: the server is no node of a cluster. For
    /// [`RedisCluster`](super::RedisCluster) only. Default `None`.
    pub cluster: Option<Vec<Address>>,
    /// The database, by number. In a cluster there is only 0. Default 0.
    pub database: u32,
    /// The user that logs in. `None`: the server's default user.
    pub username: Option<String>,
    /// The password. Where it was read from a file ([`Secret::from_file`]), the file is read again at every connect. `None`: no login, so a
    /// user name needs a password.
    pub password: Option<Secret>,
    pub(crate) provider: Option<Provider>,
    /// TLS. `None`: the connection is not encrypted. Not on a Unix socket.
    pub tls: Option<TlsOptions>,
    /// The name of the connection in `CLIENT LIST`; letters, digits and signs, without spaces.
    pub client_name: Option<String>,
    /// The beginning of every key on the server; 1 to 128 letters, digits, `_`, `-` and `.`. Default `larder`.
    pub prefix: String,
    /// How long connecting may take, with the checks of the server that belong to it; up to an hour. Default 1 s.
    pub connect_timeout: Duration,
    /// How long one operation may take; up to an hour. Default 100 ms.
    pub operation_timeout: Duration,
    /// Strict mode: an invalidation, delete, truncate or set counts as applied only when this many replicas have it. Zero: when the
    /// server has it. At most 1000. Default 0.
    pub wait_replicas: u32,
    /// How long the replicas may take to confirm a change; up to an hour. After that the change is deferred, and stays in the journal until
    /// the replicas have it. Default 50 ms.
    pub wait_timeout: Duration,
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
    /// How many hints this process keeps for each cache; 1 to 100,000,000. A hint says where a secondary key leads. With a last-use age,
    /// primary keys have hints as well: when their objects were touched. Default 100,000.
    pub hints: usize,
    /// How many operations may be under way at once. Beyond that, gets, lookups and fills are shed. Changes (set, invalidate, delete,
    /// truncate) wait for a place, for at most [`operation_timeout`](Self::operation_timeout), before they are sent. Zero: no limit.
    /// Default 256.
    pub max_in_flight: usize,
    /// How often each node removes index keys that lead nowhere; zero: never. Default 1 h.
    pub prune_interval: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            address: Address::Tcp { host: "127.0.0.1".into(), port: 6379 },
            cluster: None,
            sentinel: None,
            database: 0,
            username: None,
            password: None,
            provider: None,
            tls: None,
            client_name: None,
            prefix: "larder".into(),
            connect_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_millis(100),
            wait_replicas: 0,
            wait_timeout: Duration::from_millis(50),
            breaker: BreakerOptions::for_server(),
            journal_limit: 10_000,
            journal_bytes: 16 << 20,
            shutdown_timeout: Duration::from_secs(1),
            hints: 100_000,
            max_in_flight: 256,
            prune_interval: Duration::from_secs(3600),
        }
    }
}

impl RedisOptions {
    /// The defaults, for the server that listens there: `host`, `host:port`, `[IPv6]:port`, or the path of a Unix socket.
    pub fn new(address: impl Into<Address>) -> Self {
        Self::default().address(address)
    }

    /// The defaults, for the server of a URL: `redis://user:password@host:port/database`, `rediss://…` for TLS, or
    /// `redis+unix:///path?db=database`. Only the host or the path must be given. A URL for TLS may have the parameters `ca_file`,
    /// `cert_file`, `key_file` and `server_name` of [`TlsOptions`].
    ///
    /// Or the defaults, for the master that Sentinels know: `redis-sentinel://user:password@host:port,host:port/database#master`, and
    /// `rediss-sentinel://…` for TLS to the servers and to the Sentinels. Other spellings are understood as well: `redis+sentinel://…`, and
    /// the master as `…/master/database` or `…?master_name=master`. User and password are those for the servers. Those for the Sentinels are
    /// the parameters `sentinel_username` and `sentinel_password`.
    ///
    /// ```
    /// use larder::connector::redis::RedisOptions;
    ///
    /// let options = RedisOptions::from_url("redis://ann:barley@cache.internal/3")?;
    /// assert_eq!((options.username.as_deref(), options.database), (Some("ann"), 3));
    /// let options = RedisOptions::from_url("rediss://10.0.0.7:6380?server_name=cache.internal")?;
    /// assert_eq!(options.tls.unwrap().server_name.as_deref(), Some("cache.internal"));
    /// let options = RedisOptions::from_url("redis-sentinel://:barley@10.0.0.1,10.0.0.2,10.0.0.3/3#mymaster")?;
    /// assert_eq!((options.sentinel.unwrap().hosts.len(), options.database), (3, 3));
    /// # Ok::<(), larder::OptionError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The text is no URL of a server. The error never shows the text: it may hold a password.
    pub fn from_url(url: &str) -> Result<Self, OptionError> {
        let Url { address, cluster, sentinel, username, password, database, tls } =
            Url::parse(url).map_err(|wrong| OptionError::hidden("url", wrong))?;
        let options = Self { cluster, sentinel, username, password, tls, ..Self::new(address) };
        Ok(options.database(database.unwrap_or(0)))
    }

    /// The same options for the server that listens there: see [`new`](Self::new).
    #[must_use]
    pub fn address(mut self, address: impl Into<Address>) -> Self {
        self.address = address.into();
        self
    }

    /// The same options for the cluster that the server at [`address`](#structfield.address) is a node of, and so are these. One node is enough; the
    /// others are asked when it does not answer.
    ///
    /// ```
    /// use larder::connector::redis::RedisOptions;
    ///
    /// let options = RedisOptions::new("10.0.0.1:7000").cluster(["10.0.0.2:7000", "10.0.0.3:7000"]);
    /// assert!(options.validate().is_ok());
    /// ```
    #[must_use]
    pub fn cluster<A: Into<Address>>(mut self, nodes: impl IntoIterator<Item = A>) -> Self {
        self.cluster = Some(nodes.into_iter().map(Into::into).collect());
        self
    }

    /// The same options for the master that these Sentinels know.
    ///
    /// ```
    /// use larder::connector::redis::{RedisOptions, SentinelOptions};
    ///
    /// let options = RedisOptions::default().sentinel(SentinelOptions::new("mymaster").host("sentinels.internal", 26379));
    /// assert!(options.validate().is_ok());
    /// ```
    #[must_use]
    pub fn sentinel(mut self, sentinel: SentinelOptions) -> Self {
        self.sentinel = Some(sentinel);
        self
    }

    /// Where the server is, for people: its address, or the Sentinels that know it. Without credentials.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.sentinel {
            Some(sentinel) => sentinel.to_string(),
            None => self.address.to_string(),
        }
    }

    /// The same options with this [`username`](#structfield.username) and this [`password`](#structfield.password).
    #[must_use]
    pub fn credentials(mut self, username: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.username = Some(username.into());
        self.password(password)
    }

    /// The same options with this [`password`](#structfield.password). Without a user name, the server's default user logs in.
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The same options with credentials that the program provides at each connect, and again before they end: for tokens that are valid
    /// for minutes. They take the place of a [`password`](#structfield.password), and may name the user as well.
    #[must_use]
    pub fn credentials_provider(mut self, provider: impl CredentialsProvider) -> Self {
        self.provider = Some(Provider::new(provider));
        self
    }

    /// The same options with [`tls`](#structfield.tls).
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The same options with this [`client_name`](#structfield.client_name).
    #[must_use]
    pub fn client_name(mut self, client_name: impl Into<String>) -> Self {
        self.client_name = Some(client_name.into());
        self
    }

    /// The same options with this [`prefix`](#structfield.prefix).
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    setters! {
        database: u32,
        connect_timeout: Duration,
        operation_timeout: Duration,
        wait_replicas: u32,
        wait_timeout: Duration,
        breaker: BreakerOptions,
        journal_limit: usize,
        journal_bytes: usize,
        shutdown_timeout: Duration,
        hints: usize,
        max_in_flight: usize,
        prune_interval: Duration,
    }

    /// The options of the breaker around the server's operations.
    #[cfg(feature = "redis")]
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

    /// Calls `refuse` for every option that cannot be used.
    pub(crate) fn examine(&self, refuse: Refuse<'_>) {
        const LONGEST: Duration = Duration::from_secs(3600);
        if let Some(sentinel) = &self.sentinel {
            sentinel.examine(&mut |error| refuse(error.within("sentinel.")));
        } else if !self.address.is_reachable() {
            refuse(OptionError::hidden(
                "address",
                "is neither a host and a port nor the path of a Unix socket, or the path is too long (Linux takes 107 bytes)",
            ));
        }
        if let Some(nodes) = &self.cluster {
            if !nodes.iter().all(Address::is_reachable) {
                refuse(OptionError::hidden(
                    "cluster",
                    "has a node that is not a host and a port, such as 10.0.0.1:7000",
                ));
            }
            if self.database != 0 {
                refuse(OptionError::new("database", self.database, "0, because a cluster has no other"));
            }
            if self.sentinel.is_some() {
                refuse(OptionError::hidden("cluster", "is given, and Sentinels as well: give one of the two"));
            }
        }
        if self.database > LAST_DATABASE {
            refuse(OptionError::new("database", self.database, accepted::DATABASE));
        }
        let empty = |text: &str| text.trim().is_empty();
        if self.username.as_deref().is_some_and(empty) {
            refuse(OptionError::hidden("username", "is empty: give a user name, or none"));
        }
        if self.password.as_ref().is_some_and(|password| empty(password.expose())) {
            refuse(OptionError::hidden("password", "is empty: give a password, or none"));
        }
        if self.username.is_some() && self.password.is_none() && self.provider.is_none() {
            refuse(OptionError::hidden("username", NO_PASSWORD));
        }
        if self.password.is_some() && self.provider.is_some() {
            refuse(OptionError::hidden(
                "password",
                "is given, and a provider of credentials as well: give one of the two",
            ));
        }
        if let Some(tls) = &self.tls {
            if self.sentinel.is_none() && matches!(self.address, Address::Unix(_)) {
                refuse(OptionError::hidden(
                    "tls",
                    "is given, and there is none on a Unix socket: give a host and a port, or no TLS",
                ));
            }
            tls.examine(&mut |error| refuse(error.within("tls.")));
        }
        if let Some(name) = &self.client_name
            && (name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            refuse(OptionError::new("client_name", name, accepted::CLIENT_NAME));
        }
        if !is_name(&self.prefix) {
            refuse(OptionError::new("prefix", &self.prefix, accepted::PREFIX));
        }
        for (name, value, accepted) in [
            ("connect_timeout", self.connect_timeout, accepted::CONNECT_TIMEOUT),
            ("operation_timeout", self.operation_timeout, accepted::OPERATION_TIMEOUT),
            ("wait_timeout", self.wait_timeout, accepted::WAIT_TIMEOUT),
        ] {
            if value.is_zero() || value > LONGEST {
                refuse(OptionError::duration(name, value, accepted));
            }
        }
        if self.wait_replicas > 1000 {
            refuse(OptionError::new("wait_replicas", self.wait_replicas, accepted::WAIT_REPLICAS));
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
}

const NO_PASSWORD: &str = "has a user name and no password: give `password` or `password_file` too";
