//! [`Dialer`]: makes sockets to servers, or to Sentinels, with TLS if the options ask for it.
//!
//! Larder makes the stream by itself. The client library would read the certificates from the disk for each connection, could not renew
//! them, and would take the address for the name that the certificate must bear.

use crate::connector::redis::options::{Address, TlsOptions};
use crate::connector::remote::{Trouble, What};
use crate::connector::tls::{Day, Files, Material, Renewal, Roots, Validity, Words, alert_of_certificate, explained};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What the settings are called.
const WORDS: Words = Words {
    roots: "ca_file",
    certificate: "cert_file",
    key: "key_file",
    other_name: "give a name that it bears as `server_name`, or renew the certificate with this name",
    no_tls: "give the server's port for TLS (`tls-port`), or connect without TLS",
};

/// What to do if a connection without TLS gets no answer that can be read.
pub(crate) const PERHAPS_TLS: &str = "if this is a port for TLS, give `rediss://` in the URL, or `tls: true`";

/// Makes sockets to servers that share their settings of TLS.
pub(crate) struct Dialer {
    patience: Duration,
    tls: Option<Tls>,
}

struct Tls {
    /// The name that the certificate must bear. `None`: the host of the address.
    server_name: Option<String>,
    patience: Duration,
    renewal: Arc<Renewal>,
}

impl Dialer {
    /// `whose` names the servers in the log. A connection is made within `patience`.
    pub(crate) fn new(whose: String, tls: Option<&TlsOptions>, patience: Duration) -> Self {
        Self { patience, tls: tls.map(|tls| Tls::new(whose, tls, patience)) }
    }

    /// The same, for a server whose certificate bears this name, unless the options say which name it bears.
    pub(crate) fn named(&self, name: Option<&str>) -> Self {
        let tls = self.tls.as_ref().map(|tls| Tls {
            server_name: tls.server_name.clone().or(name.map(str::to_owned)),
            patience: tls.patience,
            renewal: tls.renewal.clone(),
        });
        Self { patience: self.patience, tls }
    }

    /// What makes the configuration of TLS, if there is TLS.
    pub(crate) fn renewal(&self) -> Option<&Arc<Renewal>> {
        self.tls.as_ref().map(|tls| &tls.renewal)
    }

    /// Whether sockets to this address go over a network and are not encrypted.
    pub(crate) fn is_plain_tcp(&self, address: &Address) -> bool {
        self.tls.is_none() && matches!(address, Address::Tcp { .. })
    }

    /// Makes a socket. Nothing is said on it yet.
    pub(crate) async fn dial(&self, address: &Address) -> Result<Socket, Trouble> {
        let broken = |error: io::Error| Trouble::broken(error.to_string());
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(broken)?;
                tune(&stream, self.patience).map_err(broken)?;
                Ok(Socket(match &self.tls {
                    None => Stream::Tcp(stream),
                    Some(tls) => Stream::Tls(tls.handshake(stream, host).await?.into()),
                }))
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                Ok(Socket(Stream::Unix(tokio::net::UnixStream::connect(path).await.map_err(broken)?)))
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Err(Trouble::fault("Unix sockets are not available on this system")),
        }
    }
}

/// Turns off Nagle's delay, and lets the kernel notice a dead peer on an idle or stuck connection.
fn tune(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(3));
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(patience.max(Duration::from_secs(1)) * 5))?;
    let _ = patience;
    Ok(())
}

impl Tls {
    fn new(whose: String, options: &TlsOptions, patience: Duration) -> Self {
        let files = Files {
            roots: options.ca_file.clone().map_or(Roots::System, Roots::File),
            client: options.cert_file.clone().zip(options.key_file.clone()),
        };
        let renewal = Arc::new(Renewal::new(whose, files, &WORDS, configured));
        Self { server_name: options.server_name.clone(), patience, renewal }
    }

    async fn handshake(&self, stream: TcpStream, host: &str) -> Result<Encrypted, Trouble> {
        let refused = |text: String| Trouble::Error { what: What::Refused, text };
        let config = self.renewal.config().await.map_err(|error| refused(error.to_string()))?;
        let host = self.server_name.as_deref().unwrap_or(host).to_owned();
        let no_name = |_| refused(format!("{host} can be the name of no certificate: give `server_name`"));
        let name = ServerName::try_from(host.clone()).map_err(no_name)?;
        // Shorter than the limit of the whole connect: a server without TLS waits for the end of a line and says nothing, and somebody should
        // learn why.
        let limit = self.patience.mul_f64(0.75);
        let silence = || {
            Trouble::broken(format!(
                "no answer to the handshake of TLS within {limit:?}, a part of `connect_timeout`: the server hangs, or this is no port \
                 for TLS, and then {}",
                WORDS.no_tls
            ))
        };
        let shaken = tokio_rustls::TlsConnector::from(config).connect(name, stream);
        match tokio::time::timeout(limit, shaken).await.map_err(|_| silence())? {
            Ok(stream) => {
                let certificates = stream.get_ref().1.peer_certificates();
                self.renewal.seen(certificates.and_then(<[_]>::first).map(AsRef::as_ref));
                Ok(Encrypted { stream, host })
            }
            Err(error) => Err(match of_tls(&error) {
                Some(tls) => refused(explained(tls, &host, &WORDS)),
                None if error.kind() == io::ErrorKind::UnexpectedEof => Trouble::broken(format!(
                    "the server has closed the connection during the handshake of TLS: it is ending, or this is no port for TLS, and then {}",
                    WORDS.no_tls
                )),
                None => Trouble::broken(format!("the handshake of TLS fails: {error}")),
            }),
        }
    }
}

fn configured(material: Material) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(rustls::DEFAULT_VERSIONS)?;
    let builder = builder.with_root_certificates(material.roots.unwrap_or_else(RootCertStore::empty));
    match material.client {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key),
    }
}

/// The error of TLS that is behind an error of a stream.
fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether a server says by this error that it does not accept the client's certificate, or misses one.
pub(crate) fn refuses_certificate(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::AlertReceived(alert)) = error.downcast_ref() {
            return alert_of_certificate(*alert);
        }
        cause = error.source();
    }
    false
}

/// A socket to a server on which nothing has been said yet: the way that larder itself takes, for a client of your own. With TLS, the
/// handshake is done, and the server's certificate is verified.
#[derive(Debug)]
pub struct Socket(Stream);

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    Tls(Box<Encrypted>),
}

/// Until when the certificates of a connection are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateEnds {
    /// The server's. `None`: it is not known.
    pub server: Option<CertificateEnd>,
    /// The client's. `None`: there is none, or it is not known.
    pub client: Option<CertificateEnd>,
}

impl CertificateEnds {
    /// What the last handshake has shown, if there is TLS.
    pub(crate) fn of(dialer: &Dialer) -> Option<Self> {
        let (server, client) = dialer.renewal()?.validity();
        Some(Self { server: server.map(CertificateEnd), client: client.map(CertificateEnd) })
    }
}

/// When a certificate ends. Its `Display` says so for people: `ends on 2026-12-24, in 9 days`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateEnd(Validity);

impl CertificateEnd {
    /// The time of the end.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.0.ends
    }

    /// The day of the end, in UTC: `2026-12-24`.
    #[must_use]
    pub fn day(&self) -> String {
        Day(self.0.ends).to_string()
    }

    /// Whether larder warns of the end by now: two weeks before, or in the last third of the life of a certificate that is issued for a few
    /// days.
    #[must_use]
    pub fn is_near(&self) -> bool {
        self.0.ends_soon(SystemTime::now())
    }
}

impl fmt::Display for CertificateEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.end(SystemTime::now()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => stream.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(encrypted) => {
                let written = Pin::new(&mut encrypted.stream).poll_write(context, bytes);
                encrypted.said_why(context, written)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(encrypted) => {
                let flushed = Pin::new(&mut encrypted.stream).poll_flush(context);
                encrypted.said_why(context, flushed)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(encrypted) => Pin::new(&mut encrypted.stream).poll_shutdown(context),
        }
    }
}

/// A stream over TLS, whose errors say what to change.
#[derive(Debug)]
struct Encrypted {
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    host: String,
}

impl Encrypted {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer).map_err(|error| self.explained(error))
    }

    /// With TLS 1.3, a server refuses the client's certificate after the handshake, and closes the connection. A write that comes after that
    /// fails without a reason. The reason, an alert, waits to be read.
    fn said_why<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = written else { return written };
        let mut bytes = [0; 64];
        match self.poll_read(context, &mut ReadBuf::new(&mut bytes)) {
            Poll::Ready(Err(why)) if refuses_certificate(&why) => Poll::Ready(Err(why)),
            _ => Poll::Ready(Err(self.explained(error))),
        }
    }

    fn explained(&self, error: io::Error) -> io::Error {
        let Some(tls) = of_tls(&error) else { return error };
        let text = explained(tls, &self.host, &WORDS);
        io::Error::new(error.kind(), Explained { text, tls: tls.clone() })
    }
}

/// An error of TLS, with what to change.
#[derive(Debug)]
struct Explained {
    text: String,
    tls: rustls::Error,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Explained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.tls)
    }
}
