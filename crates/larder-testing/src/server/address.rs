//! Addresses for what a test starts: a folder whose sockets have short names, and a free port.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use tempfile::{Builder, TempDir};

/// A Unix socket's path holds 107 bytes on Linux and 103 elsewhere. This leaves room for the socket's own name.
const LONGEST_FOLDER: usize = 90;

/// Ports below the range from which systems give ports to outgoing connections. With a port in that range, a connection to a server that
/// is down could get the server's own port, connect to itself, and keep the server from coming back.
const PORTS: std::ops::Range<u16> = 16_000..32_000;

/// A new folder that only this user can enter. It is removed when it is dropped.
pub(crate) fn folder() -> io::Result<TempDir> {
    let mut builder = Builder::new();
    builder.prefix("larder-");
    let folder = builder.tempdir()?;
    if folder.path().as_os_str().len() <= LONGEST_FOLDER {
        return Ok(folder);
    }
    builder.tempdir_in("/tmp")
}

/// A port of 127.0.0.1 that nobody listens on now. Another process may take it before the caller does.
pub(crate) fn free_port() -> io::Result<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(PORTS)).take(1_000).find(free).ok_or_else(|| {
        let range = format!("no free port on 127.0.0.1 among 1,000 tried from {} to {}", PORTS.start, PORTS.end);
        io::Error::new(ErrorKind::AddrNotAvailable, range)
    })
}
