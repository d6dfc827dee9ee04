//! TLS of a redis connector: `tls: true`, or a section with the files of certificates. Section and URL together say each thing once.

use super::error::Problems;
use super::setting::{Refused, Setting, boolean, put, read, text, written_text};
use super::tree::{Node, Value};
use crate::connector::redis::options::TlsOptions;
use crate::connector::redis::options::tls::SERVER_NAME;

/// The setting, or section, of a redis connector.
pub(super) const TLS: &str = "tls";

/// What may be given in place of the section.
const GIVE: &str = "true, false, or a mapping of ca_file, cert_file, key_file and server_name";

pub(super) const SETTINGS: &[Setting<TlsOptions>] = &[
    Setting {
        name: "ca_file",
        give: "the path of a file with the certificates of the authorities that are trusted",
        read: |tls, node| put(&mut tls.ca_file, text(node).map(|path| Some(path.into()))),
        write: |tls| tls.ca_file.as_ref().and_then(|path| written_text(path.display())),
    },
    Setting {
        name: "cert_file",
        give: "the path of a file with the client's certificate",
        read: |tls, node| put(&mut tls.cert_file, text(node).map(|path| Some(path.into()))),
        write: |tls| tls.cert_file.as_ref().and_then(|path| written_text(path.display())),
    },
    Setting {
        name: "key_file",
        give: "the path of a file with the key of the client's certificate",
        read: |tls, node| put(&mut tls.key_file, text(node).map(|path| Some(path.into()))),
        write: |tls| tls.key_file.as_ref().and_then(|path| written_text(path.display())),
    },
    Setting {
        name: "server_name",
        give: SERVER_NAME,
        read: |tls, node| put(&mut tls.server_name, text(node).map(|name| Some(name.to_owned()))),
        write: |tls| tls.server_name.as_ref().and_then(written_text),
    },
];

/// What a section says, and what a URL says.
pub(super) fn read_options(
    section: Option<&Node>,
    url: Option<Option<TlsOptions>>,
    problems: &mut Problems,
) -> Option<TlsOptions> {
    let in_url = url.flatten();
    let Some(section) = section else { return in_url };
    if !matches!(section.value, Value::Map(_)) {
        match boolean(section) {
            Ok(true) => return Some(in_url.unwrap_or_default()),
            Ok(false) if in_url.is_some() => {
                problems
                    .add(&section.origin, "is false, and contradicts `rediss://` of the URL: give `redis://`, or true");
            }
            Ok(false) => {}
            Err(Refused::Shown(_) | Refused::Hidden(_)) => {
                problems.add(&section.origin, format!("is {}: give {GIVE}", section.shown()));
            }
        }
        return in_url;
    }
    let mut tls = TlsOptions::default();
    let given = read(section, SETTINGS, &[], &mut tls, problems);
    let Some(in_url) = in_url else { return Some(tls) };
    let mut both = |name: &str, is_in_url: bool| {
        if let Some(origin) = given.origin(name).filter(|_| is_in_url) {
            problems.add(origin, "contradicts the same parameter of the URL: give one of the two");
        }
    };
    both("ca_file", in_url.ca_file.is_some());
    both("cert_file", in_url.cert_file.is_some());
    both("key_file", in_url.key_file.is_some());
    both("server_name", in_url.server_name.is_some());
    Some(TlsOptions {
        ca_file: tls.ca_file.or(in_url.ca_file),
        cert_file: tls.cert_file.or(in_url.cert_file),
        key_file: tls.key_file.or(in_url.key_file),
        server_name: tls.server_name.or(in_url.server_name),
    })
}
