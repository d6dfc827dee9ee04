//! TLS as libpq's `sslmode` and its companions mean it, by rustls.
//!
//! | `sslmode` | encrypted | the server's certificate |
//! |---|---|---|
//! | `disable` | never | |
//! | `allow` | if the server refuses without | verified if `sslrootcert` is given |
//! | `prefer` (default) | if the server can | the same |
//! | `require` | always | the same |
//! | `verify-ca` | always | must come from `sslrootcert`; its name does not matter |
//! | `verify-full` | always | must come from `sslrootcert`, and name the host |
//!
//! Files are read again for every connection, so that a renewed certificate is used without a restart. On a Unix socket there is no TLS.
//!
//! # Limits
//!
//! A name must stand among the certificate's alternative names: the old common name does not count. A private key with a passphrase cannot be
//! read. Revocation lists are not looked at.

use crate::connector::remote::{Trouble, What};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::Digest;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};

/// `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// `sslrootcert`: whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// Every certificate is accepted.
    None,
    /// Those that this system trusts.
    System,
    File(PathBuf),
}

/// What libpq's parameters say of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    pub(crate) mode: Mode,
    pub(crate) root: Root,
    /// `sslcert` and `sslkey`.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    /// Whether the server is told which name is asked for.
    pub(crate) sni: bool,
    /// TLS 1.3 only.
    pub(crate) newest_only: bool,
}

/// Why TLS cannot be used. Trying again does not help before somebody changes something.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TlsError(String);

impl TlsOptions {
    /// Reads the files.
    pub(crate) fn connector(&self) -> Result<Connector, Trouble> {
        if self.mode == Mode::Disable {
            return Ok(Connector { config: None });
        }
        let config = self.client_config().map_err(|TlsError(text)| Trouble::Error { what: What::Refused, text })?;
        Ok(Connector { config: Some(Arc::new(config)) })
    }

    fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let versions: &[_] = if self.newest_only { &[&rustls::version::TLS13] } else { rustls::DEFAULT_VERSIONS };
        let fault = |error: rustls::Error| TlsError(format!("TLS cannot be set up: {error}"));
        let verifier = Verifier {
            algorithms: provider.signature_verification_algorithms,
            roots: self.roots()?,
            names: self.mode == Mode::VerifyFull,
        };
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).map_err(fault)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("sslcert", certificate)?;
                let private = private_key(key)?;
                builder.with_client_auth_cert(chain, private).map_err(|error| {
                    let (certificate, key) = (certificate.display(), key.display());
                    TlsError(format!("sslcert {certificate} and sslkey {key} cannot be used together: {error}"))
                })?
            }
        };
        config.enable_sni = self.sni;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<Option<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.root {
            Root::None => return Ok(None),
            Root::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    let text = "sslrootcert is `system`, and this system has no certificates: install them (Debian: ca-certificates), \
                                or name a file";
                    return Err(TlsError(text.to_owned()));
                }
            }
            Root::File(file) => {
                for certificate in certificates("sslrootcert", file)? {
                    roots.add(certificate).map_err(|error| {
                        TlsError(format!(
                            "sslrootcert {} has a certificate that cannot be used: {error}",
                            file.display()
                        ))
                    })?;
                }
            }
        }
        Ok(Some(roots))
    }
}

fn certificates(setting: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = |why: String| TlsError(format!("{setting} {} cannot be used: {why}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unusable("it holds no certificate; give a file in PEM format".to_owned())),
        Err(_) => Err(unusable("it is not in PEM format".to_owned())),
    }
}

/// The errors of the parser are not shown: they may hold what stands in the file.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let unusable = |why: String| TlsError(format!("sslkey {} cannot be used: {why}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| unusable("it holds no private key in PEM format without a passphrase".to_owned()))
}

/// Verifies the server's certificate as far as `sslmode` asks for it. That the server has the certificate's key is always verified.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    roots: Option<RootCertStore>,
    names: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(certificate)?;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, self.algorithms.all)?;
            if self.names {
                rustls::client::verify_server_name(&certificate, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a person can do about an error of TLS.
pub(crate) fn explained(error: &rustls::Error, host: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(wrong) => {
            let advice = match wrong {
                CertificateError::UnknownIssuer => {
                    "no authority in `sslrootcert` has issued it: give the file of the one that has".to_owned()
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "it has expired: renew it on the server".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "it is not valid yet: compare the clocks of both machines".to_owned()
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                    "it does not name {host} among its alternative names: correct `host`, renew the certificate with that name, \
                     or set sslmode=verify-ca, which does not check names"
                ),
                CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                    "it is the certificate of an authority: let an authority issue one for the server".to_owned()
                }
                other => format!("{other:?}"),
            };
            format!("the server's certificate is refused: {advice}")
        }
        rustls::Error::AlertReceived(alert) => {
            format!("the server has ended TLS with the alert {alert:?}: it may not accept `sslcert`, or miss one")
        }
        other => format!("TLS fails: {other}"),
    }
}

/// Makes TLS of a socket.
#[derive(Clone)]
pub(crate) struct Connector {
    /// `None`: TLS is never used.
    config: Option<Arc<ClientConfig>>,
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = TlsStream;
    type TlsConnect = Handshake;
    type Error = TlsError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, TlsError> {
        Ok(Handshake { config: self.config.clone(), host: host.to_owned() })
    }
}

/// The handshake of one connection.
pub(crate) struct Handshake {
    config: Option<Arc<ClientConfig>>,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = TlsStream;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<TlsStream, TlsError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let Some(config) = self.config else { return Err(TlsError("sslmode=disable does without TLS".to_owned())) };
            let host = self.host;
            let wrong = |_| TlsError(format!("host {host} can be the name of no certificate: correct `host`"));
            let name = ServerName::try_from(host.clone()).map_err(wrong)?;
            let made = tokio_rustls::TlsConnector::from(config).connect(name, socket).await;
            made.map(TlsStream).map_err(|error| {
                let tls = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
                TlsError(tls.map_or_else(|| format!("TLS fails: {error}"), |tls| explained(tls, &host)))
            })
        })
    }
}

/// A connection over TLS.
pub(crate) struct TlsStream(tokio_rustls::client::TlsStream<Socket>);

impl tokio_postgres::tls::TlsStream for TlsStream {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates().unwrap_or_default();
        match certificates.first().and_then(|certificate| end_point(certificate)) {
            Some(digest) => ChannelBinding::tls_server_end_point(digest),
            None => ChannelBinding::none(),
        }
    }
}

/// The digest of a certificate for `tls-server-end-point` (RFC 5929), by the hash of the certificate's own signature, SHA-256 at least. `None`: the
/// signature has no hash, or another one.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (whole, _) = element(certificate)?;
    let (_, after) = element(whole)?;
    let (algorithm, _) = element(after)?;
    let (oid, _) = element(algorithm)?;
    let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    let ecdsa = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    let bits = match oid.strip_prefix(&rsa).or_else(|| oid.strip_prefix(&ecdsa))? {
        // MD5 and SHA-1 count as SHA-256.
        [4 | 5 | 11 | 1] | [3, 2] => 256,
        [12] | [3, 3] => 384,
        [13] | [3, 4] => 512,
        _ => return None,
    };
    Some(match bits {
        256 => sha2::Sha256::digest(certificate).to_vec(),
        384 => sha2::Sha384::digest(certificate).to_vec(),
        _ => sha2::Sha512::digest(certificate).to_vec(),
    })
}

/// The content of the first element of some DER, and what follows the element.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    rest.split_at_checked(length)
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
