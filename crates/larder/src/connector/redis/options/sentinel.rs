//! [`SentinelOptions`]: which Sentinels know the master, and how larder talks to them.

use super::address::Address;
use super::tls::TlsOptions;
use crate::connector::secret::Secret;
use crate::option_error::{OptionError, Refuse, is_name};
use std::fmt;
use std::time::Duration;

/// The port of a Sentinel if none is given.
pub(crate) const PORT: u16 = 26379;

/// How long it takes by default until every node has left the old master: two heartbeats of a second, and two seconds in which each
/// Sentinel tells the others.
const GRACE: Duration = Duration::from_secs(4);

/// What is accepted, as errors say it. Code and configuration use the same texts.
pub(crate) mod accepted {
    pub(crate) const MASTER: &str = "the name by which the Sentinels know it: letters, digits, `_`, `-` or `.`";
    pub(crate) const GRACE: &str = "a duration up to 1h, such as 4s";
}

/// The Sentinels that know which server is the master now. See the page `docs/sentinel.md` in larder's repository.
///
/// ```
/// use larder::connector::redis::{RedisOptions, SentinelOptions};
///
/// let sentinels = SentinelOptions::new("mymaster").host("10.0.0.1", 26379).host("10.0.0.2", 26379).host("10.0.0.3", 26379);
/// let options = RedisOptions::default().credentials("larder", "barley").sentinel(sentinels);
/// assert!(options.validate().is_ok());
/// assert_eq!(options.place(), "mymaster of the Sentinels 10.0.0.1:26379, 10.0.0.2:26379, 10.0.0.3:26379");
/// ```
///
/// User, password and TLS here are those for the Sentinels. Those for the servers are options of [`RedisOptions`](super::RedisOptions).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SentinelOptions {
    /// The name of the master, as in the line `sentinel monitor` of a Sentinel's configuration.
    pub master: String,
    /// Where the Sentinels listen: hosts and ports. Give all of them: larder asks those that are given here, and no others.
    pub hosts: Vec<Address>,
    /// The user that logs in to the Sentinels. `None`: their default user.
    pub username: Option<String>,
    /// The password for the Sentinels. Where it was read from a file ([`Secret::from_file`]), the file is read again at every connect.
    /// `None`: no login.
    pub password: Option<Secret>,
    /// TLS to the Sentinels. `None`: what they say is not encrypted.
    pub tls: Option<TlsOptions>,
    /// Whether the connection is given up when no majority of the Sentinels given here has confirmed the master for three heartbeats. Then
    /// gets miss and changes are deferred. Otherwise one Sentinel is enough, and without any Sentinel the connection is kept. Default false.
    pub strict: bool,
    /// How long after a promotion nothing is read from the new master, and no change counts as applied there: nodes that have not heard of
    /// the promotion may still read the old master. Up to an hour. Default 4 s, which is enough for nodes that reach a Sentinel.
    pub grace: Duration,
}

impl SentinelOptions {
    /// The defaults for the master of this name. Add the Sentinels: see [`host`](Self::host).
    #[must_use]
    pub fn new(master: impl Into<String>) -> Self {
        let (hosts, strict, grace) = (Vec::new(), false, GRACE);
        Self { master: master.into(), hosts, username: None, password: None, tls: None, strict, grace }
    }

    /// The same options with one more Sentinel. IPv6 addresses are without brackets.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>, port: u16) -> Self {
        self.hosts.push(Address::Tcp { host: host.into(), port });
        self
    }

    /// The same options with this [`username`](#structfield.username) and this [`password`](#structfield.password).
    #[must_use]
    pub fn credentials(mut self, username: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.username = Some(username.into());
        self.password(password)
    }

    /// The same options with this [`password`](#structfield.password).
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The same options with [`tls`](#structfield.tls).
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The same options with [`strict`](#structfield.strict).
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// The same options with this [`grace`](#structfield.grace).
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Calls `refuse` for every option that cannot be used.
    pub(super) fn examine(&self, refuse: Refuse<'_>) {
        if !is_name(&self.master) {
            refuse(OptionError::new("master", &self.master, accepted::MASTER));
        }
        if self.hosts.is_empty() {
            refuse(OptionError::hidden("hosts", "names no Sentinel: give all of them, each as host:port"));
        }
        if !self.hosts.iter().all(|host| matches!(host, Address::Tcp { .. }) && host.is_reachable()) {
            refuse(OptionError::hidden("hosts", "has one that is no host and port: give all Sentinels as host:port"));
        }
        let empty = |text: &str| text.trim().is_empty();
        if self.username.as_deref().is_some_and(empty) {
            refuse(OptionError::hidden("username", "is empty: give a user name, or none"));
        }
        if self.password.as_ref().is_some_and(|password| empty(password.expose())) {
            refuse(OptionError::hidden("password", "is empty: give a password, or none"));
        }
        if self.username.is_some() && self.password.is_none() {
            refuse(OptionError::hidden("username", super::NO_PASSWORD));
        }
        if let Some(tls) = &self.tls {
            tls.examine(&mut |error| refuse(error.within("tls.")));
        }
        if self.grace > Duration::from_secs(3600) {
            refuse(OptionError::duration("grace", self.grace, accepted::GRACE));
        }
    }
}

/// The master and the Sentinels, for people.
impl fmt::Display for SentinelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = if self.hosts.len() == 1 { "" } else { "s" };
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        write!(f, "{} of the Sentinel{several} {}", self.master, hosts.join(", "))
    }
}
