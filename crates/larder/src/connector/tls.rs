//! What the connectors with TLS share. Each has settings of its own ([`Words`]), and its own rules for the server's certificate.
//!
//! ```text
//!   files.rs        reads certificates and keys
//!   certificate.rs  until when a certificate is valid
//!   renewal.rs      makes a new configuration of TLS when the files have changed, and warns before certificates end
//!   explaining.rs   what a person can do about an error of TLS
//! ```

mod certificate;
mod explaining;
mod files;
mod renewal;

#[cfg(feature = "postgres")]
pub(crate) use certificate::element;
#[cfg(feature = "redis")]
pub(crate) use certificate::{Day, Validity};
#[cfg(feature = "redis")]
pub(crate) use explaining::alert_of_certificate;
pub(crate) use explaining::{Words, explained};
pub(crate) use files::{Files, Material, Roots};
pub(crate) use renewal::Renewal;

/// Why certificates cannot be used. Trying again does not help before somebody changes something. No error shows what stands in a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(pub(crate) String);
