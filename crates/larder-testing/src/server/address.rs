//! Addresses for what a test starts: a folder whose sockets have short names, and a free port.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};
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

/// The ports that were given out.
///
/// None is given out twice: the server that had it may be restarted there. And other nodes of a cluster go on looking there for a node that was killed. If they find a
/// node of another cluster, they never take the dead one to be down, and its replica never takes over.
static GIVEN_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 that nobody listens on now, and that was not given out before. Another process may take it before the caller does.
pub(crate) fn free_port() -> io::Result<u16> {
    let mut given_out = GIVEN_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut free = |port: &u16| {
        !given_out.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok() && given_out.insert(*port)
    };
    std::iter::repeat_with(|| fastrand::u16(PORTS)).take(1_000).find(|port| free(port)).ok_or_else(|| {
        let range = format!("no free port on 127.0.0.1 among 1,000 tried from {} to {}", PORTS.start, PORTS.end);
        io::Error::new(ErrorKind::AddrNotAvailable, range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_out_twice() -> io::Result<()> {
        // Of so many at random, two are the same in all but one of a thousand cases.
        let ports = (0..500).map(|_| free_port()).collect::<io::Result<Vec<_>>>()?;
        let different: BTreeSet<_> = ports.iter().collect();
        assert_eq!(different.len(), ports.len());
        Ok(())
    }
}
