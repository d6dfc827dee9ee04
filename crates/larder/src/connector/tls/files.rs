//! Reads the files of certificates and keys.

use super::CertificateError;
use super::certificate::{Day, Validity};
use super::explaining::Words;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use xxhash_rust::xxh3::Xxh3;

/// Whose certificates are accepted of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Every certificate is accepted.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "only libpq's modes do without"))]
    None,
    /// Those of the authorities that this system trusts.
    System,
    /// Those of the authorities in a file.
    File(PathBuf),
}

/// Where certificates and keys stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) roots: Roots,
    /// The certificate that is shown to the server, and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// What stood in the files when they were read.
pub(crate) struct Material {
    /// `None`: every certificate of a server is accepted.
    pub(crate) roots: Option<RootCertStore>,
    pub(crate) client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Until when the client's own certificate is valid, if it says so.
    pub(crate) validity: Option<Validity>,
    /// Tells whether anything has changed since the files were read before.
    pub(crate) digest: u128,
}

impl Files {
    /// Reads all files. This waits for the disk: never on a thread that others wait for.
    pub(crate) fn read(&self, words: &Words) -> Result<Material, CertificateError> {
        let mut digest = Xxh3::new();
        let mut note = |bytes: &[u8]| {
            digest.update(&bytes.len().to_le_bytes());
            digest.update(bytes);
        };
        let roots = match &self.roots {
            Roots::None => None,
            Roots::System => {
                let found = rustls_native_certs::load_native_certs().certs;
                found.iter().for_each(|certificate| note(certificate));
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(found);
                if roots.is_empty() {
                    return Err(CertificateError(format!(
                        "this system has no certificates of authorities: install them (Debian: ca-certificates), or name a file in \
                         `{}`",
                        words.roots
                    )));
                }
                Some(roots)
            }
            Roots::File(file) => {
                let bytes = bytes(words.roots, file)?;
                note(&bytes);
                let mut roots = RootCertStore::empty();
                for certificate in certificates(words.roots, file, &bytes)? {
                    roots.add(certificate).map_err(|error| {
                        let (setting, file) = (words.roots, file.display());
                        CertificateError(format!("{setting} {file} has a certificate that cannot be used: {error}"))
                    })?;
                }
                Some(roots)
            }
        };
        let (mut client, mut validity) = (None, None);
        if let Some((certificate, key)) = &self.client {
            let text = bytes(words.certificate, certificate)?;
            note(&text);
            let chain = certificates(words.certificate, certificate, &text)?;
            let text = bytes(words.key, key)?;
            note(&text);
            validity = chain.first().and_then(|certificate| Validity::of(certificate));
            client = Some((chain, private_key(words.key, key, &text)?));
        }
        Ok(Material { roots, client, validity, digest: digest.digest128() })
    }

    /// The error for a certificate and a key that are no pair.
    pub(crate) fn no_pair(&self, words: &Words, error: &rustls::Error) -> CertificateError {
        let shown = |path: Option<&PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
        let (certificate, key) = self.client.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
        let why = match error {
            rustls::Error::InconsistentKeys(_) => "the key is that of another certificate".to_owned(),
            other => other.to_string(),
        };
        CertificateError(format!(
            "{} {} and {} {} cannot be used together: {why}",
            words.certificate,
            shown(certificate),
            words.key,
            shown(key)
        ))
    }

    /// The error for a client's certificate that is not valid at this time.
    pub(crate) fn not_valid(&self, words: &Words, validity: &Validity, now: SystemTime) -> Option<CertificateError> {
        let (certificate, _) = self.client.as_ref()?;
        let (setting, file) = (words.certificate, certificate.display());
        if validity.ends <= now {
            let ended = Day(validity.ends);
            return Some(CertificateError(format!("{setting} {file} has expired on {ended}: renew it")));
        }
        if validity.begins > now {
            let begins = Day(validity.begins);
            return Some(CertificateError(format!("{setting} {file} is not valid before {begins}")));
        }
        None
    }
}

fn unusable(setting: &str, file: &Path, why: impl std::fmt::Display) -> CertificateError {
    CertificateError(format!("{setting} {} cannot be used: {why}", file.display()))
}

fn bytes(setting: &str, file: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(file).map_err(|error| unusable(setting, file, error))
}

fn certificates(setting: &str, file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unusable(setting, file, "it holds no certificate; give a file in PEM format")),
        Err(_) => Err(unusable(setting, file, "it is not in PEM format")),
    }
}

/// The errors of the parser are not shown: they may hold what stands in the file.
fn private_key(setting: &str, file: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(bytes)
        .map_err(|_| unusable(setting, file, "it holds no private key in PEM format without a passphrase"))
}
