//! What a person can do about an error of TLS.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// What a connector's settings of TLS are called, and what its errors advise.
pub(crate) struct Words {
    /// The setting that names the file of authorities.
    pub(crate) roots: &'static str,
    /// The settings that name the client's certificate and its key.
    pub(crate) certificate: &'static str,
    pub(crate) key: &'static str,
    /// What to do if the certificate does not bear the name of the server.
    pub(crate) other_name: &'static str,
    /// What to do if a server answers, but without TLS.
    pub(crate) no_tls: &'static str,
}

/// What an error means, and what to change. `host` is the name that was asked for.
pub(crate) fn explained(error: &Error, host: &str, words: &Words) -> String {
    match error {
        Error::InvalidCertificate(wrong) => {
            format!("the server's certificate is refused: {}", refused(wrong, host, words))
        }
        Error::AlertReceived(alert) => alerted(*alert, words),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("what the server answers is not TLS: {}", words.no_tls)
        }
        Error::PeerIncompatible(why) => {
            format!("the server knows no version or cipher of TLS that larder does (TLS 1.2 and 1.3): {why:?}")
        }
        other => format!("TLS fails: {other}"),
    }
}

fn refused(wrong: &CertificateError, host: &str, words: &Words) -> String {
    match wrong {
        CertificateError::UnknownIssuer => {
            format!("no authority in `{}` has issued it: give the file of the one that has", words.roots)
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired: renew it on the server".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: compare the clocks of both machines".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it does not name {host} among its alternative names: {}", words.other_name)
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is the certificate of an authority: let an authority issue one for the server".to_owned()
        }
        other => format!("{other:?}"),
    }
}

fn alerted(alert: AlertDescription, words: &Words) -> String {
    let Words { certificate, key, .. } = words;
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            format!("the server asks for a client's certificate, and has got none: give `{certificate}` and `{key}`")
        }
        AlertDescription::CertificateExpired => {
            format!("the server refuses the client's certificate, because it has expired: renew `{certificate}`")
        }
        AlertDescription::UnknownCA => format!(
            "the server refuses the client's certificate, because it knows no authority that has issued `{certificate}`: give one of \
             an authority that the server trusts, or have the server trust that authority"
        ),
        AlertDescription::CertificateRevoked => {
            format!("the server refuses the client's certificate, because it is revoked: renew `{certificate}`")
        }
        alert if alert_of_certificate(alert) => format!(
            "the server refuses the client's certificate with the alert {alert:?}: see the server's log, and correct `{certificate}`"
        ),
        AlertDescription::HandshakeFailure => format!(
            "the server ends TLS with the alert HandshakeFailure: it may miss `{certificate}`, or know no cipher that larder does"
        ),
        AlertDescription::ProtocolVersion => {
            "the server takes no version of TLS that larder knows: let it take TLS 1.2 or 1.3".to_owned()
        }
        AlertDescription::UnrecognisedName => {
            format!("the server serves no such name: {}", words.other_name)
        }
        other => format!("the server ends TLS with the alert {other:?}: see the server's log"),
    }
}

/// Whether a server says by this alert that it does not accept the client's certificate, or misses one. With TLS 1.3 it says so after the
/// handshake: the client learns it with the first reply.
pub(crate) fn alert_of_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateUnobtainable
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}
