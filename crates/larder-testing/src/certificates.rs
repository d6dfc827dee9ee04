//! Certificates for tests of TLS, and the authorities that issue them. They are made anew for each test, and no one else trusts them.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, for those who trust it.
    pub pem: String,
}

/// A certificate and its key, both in PEM format.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key, without a passphrase.
    pub key: String,
}

/// How long a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// For longer than any test.
    Long,
    /// It has expired years ago.
    Expired,
    /// It began a year ago, and ends after so many days.
    Days(u64),
}

/// Why a certificate was not made.
pub type Fault = rcgen::Error;

impl Authority {
    /// An authority with this common name.
    ///
    /// # Errors
    ///
    /// The machine gives no random numbers.
    pub fn new(name: &str) -> Result<Self, Fault> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Issues a certificate with this common name, and these alternative names: of hosts, or IP addresses.
    ///
    /// # Errors
    ///
    /// A name cannot be one; the machine gives no random numbers.
    pub fn issue(&self, common: &str, names: &[&str], life: Life) -> Result<Pair, Fault> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, common);
        match life {
            Life::Long => {}
            Life::Expired => {
                params.not_before = date_time_ymd(2019, 1, 1);
                params.not_after = date_time_ymd(2020, 1, 1);
            }
            Life::Days(days) => {
                let day = Duration::from_secs(24 * 3600);
                let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let days = u32::try_from(days).unwrap_or(u32::MAX);
                params.not_before = date_time_ymd(1970, 1, 1) + today.saturating_sub(day * 365);
                // Half a day more, so that it is still so many days when somebody looks.
                params.not_after = date_time_ymd(1970, 1, 1) + today.saturating_add(day * days + day / 2);
            }
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }
}
