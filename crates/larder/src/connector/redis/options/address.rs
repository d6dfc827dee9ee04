//! Where a server listens.

use std::fmt;
use std::path::{Path, PathBuf};

/// The port of a server if none is given.
const PORT: u16 = 6379;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp {
        /// A host name or an IP address (IPv6 without brackets).
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whether the text can be the name or the IP address of a host.
pub(super) fn is_host(host: &str) -> bool {
    let sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    !host.is_empty() && host.chars().all(sane)
}

impl Address {
    /// Reads `host:port`, `host`, or `[IPv6]:port`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::parse_with(text, PORT)
    }

    /// The same, with the port of a host that comes without one.
    pub(crate) fn parse_with(text: &str, port_if_none: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, port)
            }
            None => match text.find(':') {
                Some(colon) => text.split_at(colon),
                None => (text, ""),
            },
        };
        if !is_host(host) {
            return None;
        }
        let port = match port {
            "" => port_if_none,
            port => port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
        };
        Some(Self::Tcp { host: host.to_owned(), port })
    }

    /// Whether this can be the address of a server. No name is looked up.
    pub(super) fn is_reachable(&self) -> bool {
        match self {
            // IPv6 addresses have colons, and sometimes the name of an interface after `%`.
            Self::Tcp { host, port } => *port > 0 && is_host(host.split('%').next().unwrap_or("")),
            Self::Unix(path) => is_socket(path),
        }
    }
}

/// Text that begins with a slash is the path of a Unix socket. Other text is `host:port`, `host` (with port 6379), or `[IPv6]:port`. Any
/// other text becomes an address that is refused when the options are checked.
impl From<&str> for Address {
    fn from(text: &str) -> Self {
        if text.starts_with('/') {
            return Self::Unix(text.into());
        }
        Self::parse(text).unwrap_or_else(|| Self::Tcp { host: text.to_owned(), port: 0 })
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&Path> for Address {
    fn from(socket: &Path) -> Self {
        Self::Unix(socket.to_owned())
    }
}

impl From<PathBuf> for Address {
    fn from(socket: PathBuf) -> Self {
        Self::Unix(socket)
    }
}

#[cfg(unix)]
fn is_socket(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    // A path that begins with a zero byte is the name of an abstract socket, and no file.
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_prefix(b"\0") {
        Some(name) => (1..=107).contains(&name.len()),
        None => !bytes.is_empty() && std::os::unix::net::SocketAddr::from_pathname(path).is_ok(),
    }
}

#[cfg(not(unix))]
fn is_socket(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}
