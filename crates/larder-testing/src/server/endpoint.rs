//! The listening side of something that poses as a server: a Unix socket and a port, which can refuse connections and close them.

use super::address;
use std::fmt;
use std::fs;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// A connection over a Unix socket or over TCP.
pub(crate) type Stream = Box<dyn Duplex>;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Accepts connections, and serves each in a task of its own. All tasks end with the endpoint.
pub(crate) struct Endpoint {
    serve: Arc<dyn Fn(Stream) -> Serving + Send + Sync>,
    /// The task that accepts connections. Empty while connections are refused.
    accepting: Mutex<JoinSet<()>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    port: u16,
    socket: PathBuf,
    _folder: TempDir,
}

impl Endpoint {
    /// Listens, and serves each connection with `serve`. Must be called on a runtime.
    pub(crate) fn start<S, F>(serve: S) -> io::Result<Endpoint>
    where
        S: Fn(Stream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let folder = address::folder()?;
        let mut endpoint = Endpoint {
            serve: Arc::new(move |stream| Box::pin(serve(stream))),
            accepting: Mutex::default(),
            connections: Arc::default(),
            port: 0,
            socket: folder.path().join("redis.sock"),
            _folder: folder,
        };
        // Another process may take the port first. That does not happen ten times in a row.
        for _ in 0..10 {
            endpoint.port = address::free_port()?;
            match endpoint.accept() {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                other => return other.map(|()| endpoint),
            }
        }
        Err(ErrorKind::AddrInUse.into())
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Accepts connections (again). Must be called on a runtime.
    pub(crate) fn accept(&self) -> io::Result<()> {
        let mut accepting = locked(&self.accepting);
        if !accepting.is_empty() {
            return Ok(());
        }
        let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))?;
        tcp.set_nonblocking(true)?;
        let tcp = TcpListener::from_std(tcp)?;
        // The socket's file is still there when its listener has ended.
        match fs::remove_file(&self.socket) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let unix = UnixListener::bind(&self.socket)?;
        accepting.spawn(accept_all(tcp, unix, self.serve.clone(), self.connections.clone()));
        Ok(())
    }

    /// Refuses new connections, like a port that nobody listens on. Connections that are open stay open.
    pub(crate) async fn refuse(&self) {
        let mut accepting = std::mem::take(&mut *locked(&self.accepting));
        accepting.shutdown().await;
    }

    /// Closes all open connections, and returns when they are closed.
    pub(crate) async fn drop_connections(&self) {
        let mut connections = std::mem::take(&mut *locked(&self.connections));
        connections.shutdown().await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        locked(&self.accepting).abort_all();
        locked(&self.connections).abort_all();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("port", &self.port).field("socket", &self.socket).finish_non_exhaustive()
    }
}

async fn accept_all(
    tcp: TcpListener,
    unix: UnixListener,
    serve: Arc<dyn Fn(Stream) -> Serving + Send + Sync>,
    connections: Arc<Mutex<JoinSet<()>>>,
) {
    loop {
        let accepted: io::Result<Stream> = tokio::select! {
            accepted = tcp.accept() => accepted.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Stream)
            }),
            accepted = unix.accept() => accepted.map(|(stream, _)| Box::new(stream) as Stream),
        };
        match accepted {
            Ok(stream) => {
                let mut connections = locked(&connections);
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(stream));
            }
            // Most likely there are no file descriptors left. During a pause other tasks may close some.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
