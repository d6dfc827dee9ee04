//! [`TlsOptions`]: whose certificates are accepted, and which one is shown.

use super::address::is_host;
use crate::option_error::{OptionError, Refuse};
use std::path::PathBuf;

/// What is accepted, as errors say it.
pub(crate) const SERVER_NAME: &str = "the name of a host, or an IP address, that the server's certificate bears";

/// TLS to a Redis or Valkey server: version 1.2 or 1.3, and always with the server's certificate verified.
///
/// ```
/// use larder::connector::redis::{RedisOptions, TlsOptions};
///
/// let tls = TlsOptions::new()
///     .ca_file("/etc/larder/ca.pem")
///     .client_certificate("/etc/larder/client.pem", "/etc/larder/client.key")
///     .server_name("cache.internal");
/// assert!(RedisOptions::new("10.0.0.7:6380").tls(tls).validate().is_ok());
/// ```
///
/// All files are in PEM format. They are read before each connection, once a minute, and when
/// [`Caches::reload`](crate::Caches::reload) is called. So a certificate is renewed without a restart: new connections use it, and the
/// connection that is there goes on. Files that cannot be used, such as a certificate and a key that are no pair, change nothing: what was
/// used before stays in use, and a warning says why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// The file of the authorities whose certificates are accepted. `None`: those that this system trusts.
    pub ca_file: Option<PathBuf>,
    /// The file of the certificate that is shown to the server, with those that lead to its authority. `None`: none is shown.
    pub cert_file: Option<PathBuf>,
    /// The file of the key of [`cert_file`](Self::cert_file), without a passphrase.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must bear, and that the server is asked for (SNI). `None`: the host of the address.
    pub server_name: Option<String>,
}

impl TlsOptions {
    /// TLS with the authorities that this system trusts, and without a certificate of the client.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same options with this [`ca_file`](#structfield.ca_file).
    #[must_use]
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// The same options with this [`cert_file`](#structfield.cert_file) and this [`key_file`](#structfield.key_file).
    #[must_use]
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.cert_file = Some(certificate.into());
        self.key_file = Some(key.into());
        self
    }

    /// The same options with this [`server_name`](#structfield.server_name).
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Calls `refuse` for every option that cannot be used. No file is read.
    pub(super) fn examine(&self, refuse: Refuse<'_>) {
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => refuse(OptionError::hidden("cert_file", "has no key: give `key_file` too")),
            (None, Some(_)) => refuse(OptionError::hidden("key_file", "has no certificate: give `cert_file` too")),
            _ => {}
        }
        if let Some(name) = &self.server_name
            && (!is_host(name) || (name.contains(':') && name.parse::<std::net::Ipv6Addr>().is_err()))
        {
            refuse(OptionError::new("server_name", name, SERVER_NAME));
        }
    }
}
