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
//! Files are looked at again for every connection and once a minute, so that a renewed certificate is used without a restart
//! (`connector/tls/renewal.rs`). On a Unix socket there is no TLS.
//!
//! # Limits
//!
//! A name must stand among the certificate's alternative names: the old common name does not count. A private key with a passphrase cannot be
//! read. Revocation lists are not looked at.

use crate::connector::remote::{Trouble, What};
use crate::connector::tls::{self, CertificateError, Files, Material, Renewal, Roots, Words, element};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::Digest;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};

/// What the settings are called.
const WORDS: Words = Words {
    roots: "sslrootcert",
    certificate: "sslcert",
    key: "sslkey",
    other_name: "correct `host`, renew the certificate with that name, or set sslmode=verify-ca, which does not check names",
    no_tls: "turn `ssl` on there, or set sslmode=prefer or disable",
};

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

/// What libpq's parameters say of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    pub(crate) mode: Mode,
    /// `sslrootcert`.
    pub(crate) roots: Roots,
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

/// What makes the configuration of TLS for a server, once the first connection was asked for.
#[derive(Debug, Default)]
pub(crate) struct Certificates(OnceLock<Arc<Renewal>>);

impl Certificates {
    /// `None`: there was no connection yet, or there is no TLS.
    pub(crate) fn renewal(&self) -> Option<&Arc<Renewal>> {
        self.0.get()
    }
}

impl TlsOptions {
    /// What makes TLS of a socket. `place` names the server in the log.
    pub(crate) async fn connector(&self, kept: &Certificates, place: &str) -> Result<Connector, Trouble> {
        if self.mode == Mode::Disable {
            return Ok(Connector { tls: None });
        }
        let renewal = kept.0.get_or_init(|| self.renewal(place)).clone();
        let refused = |CertificateError(text)| Trouble::Error { what: What::Refused, text };
        let config = renewal.config().await.map_err(refused)?;
        Ok(Connector { tls: Some((config, renewal)) })
    }

    fn renewal(&self, place: &str) -> Arc<Renewal> {
        let files = Files { roots: self.roots.clone(), client: self.client.clone() };
        let options = self.clone();
        Arc::new(Renewal::new(place.to_owned(), files, &WORDS, move |material| options.client_config(material)))
    }

    fn client_config(&self, material: Material) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let versions: &[_] = if self.newest_only { &[&rustls::version::TLS13] } else { rustls::DEFAULT_VERSIONS };
        let verifier = Verifier {
            algorithms: provider.signature_verification_algorithms,
            roots: material.roots,
            names: self.mode == Mode::VerifyFull,
        };
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match material.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        };
        config.enable_sni = self.sni;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(config)
    }
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
    tls::explained(error, host, &WORDS)
}

/// Makes TLS of a socket.
#[derive(Clone)]
pub(crate) struct Connector {
    /// `None`: TLS is never used.
    tls: Option<(Arc<ClientConfig>, Arc<Renewal>)>,
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = TlsStream;
    type TlsConnect = Handshake;
    type Error = TlsError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, TlsError> {
        Ok(Handshake { tls: self.tls.clone(), host: host.to_owned() })
    }
}

/// The handshake of one connection.
pub(crate) struct Handshake {
    tls: Option<(Arc<ClientConfig>, Arc<Renewal>)>,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = TlsStream;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<TlsStream, TlsError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let Some((config, renewal)) = self.tls else {
                return Err(TlsError("sslmode=disable does without TLS".to_owned()));
            };
            let host = self.host;
            let wrong = |_| TlsError(format!("host {host} can be the name of no certificate: correct `host`"));
            let name = ServerName::try_from(host.clone()).map_err(wrong)?;
            let made = tokio_rustls::TlsConnector::from(config).connect(name, socket).await;
            let stream = made.map_err(|error| {
                let tls = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
                TlsError(tls.map_or_else(|| format!("TLS fails: {error}"), |tls| explained(tls, &host)))
            })?;
            let certificates = stream.get_ref().1.peer_certificates();
            renewal.seen(certificates.and_then(<[_]>::first).map(AsRef::as_ref));
            Ok(TlsStream(stream))
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
