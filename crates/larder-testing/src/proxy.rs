//! A scripted fault proxy: [`Proxy`] stands between a client and a server, and does to their bytes what a test says.
//!
//! A signal makes a server fail as a whole, for all clients alike. A network fails in part: in one direction, for one client, halfway
//! through a reply, or in silence. The proxy does that, in the test's own process, so that a fault begins and ends at a line of the test.
//!
//! A [`Fault`] is set for one [`Direction`]. It holds for all connections, open and new, until the next fault is set. A fault meets the
//! bytes that *arrive* while it is set. Bytes that arrived before meet the fault that was set then.
//!
//! # Limits
//!
//! The proxy works on bytes, in chunks of up to 16 KiB whose borders mean nothing. It closes a connection in the way a process does that
//! ends. To imitate a machine that crashes, use [`Fault::Blackhole`].

mod announced;

use crate::server::{Endpoint, Server, Stream};
use announced::Announced;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

const CHUNK: usize = 16 * 1024;

/// How many delayed chunks one direction of a connection holds before it stops reading.
const DELAYED: usize = 1024;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: commands.
    ToServer,
    /// From the server to the client: replies.
    ToClient,
}

/// What happens to bytes on their way. A fault that is set again starts again: its seed from the first number, its count from zero.
#[derive(Clone, Default)]
pub enum Fault {
    /// The bytes pass.
    #[default]
    Pass,
    /// The bytes arrive later by this much, in order. Nothing else is slowed down.
    Delay(Duration),
    /// The bytes wait until another fault is set, and then meet that fault.
    Hold,
    /// The bytes vanish. The news that an end has closed vanishes, too, so that the connection is half open, until [`Proxy::probe`]. A connection
    /// that has lost anything never comes back, not even when bytes pass again.
    Blackhole,
    /// About one byte in `one_in` is changed into another. The seed decides which bytes, and into what. The seed starts with the first
    /// byte of a connection that meets the fault; the borders of chunks change nothing.
    Corrupt {
        /// Decides which bytes are changed.
        seed: u64,
        /// One byte in how many is changed. 0 is taken for 1.
        one_in: u32,
    },
    /// This many bytes of each connection pass, then the connection is closed.
    Truncate {
        /// How many bytes.
        after: u64,
    },
    /// The bytes are written one by one. A client that is slow to read may still find several at once.
    Chop,
    /// Each chunk is replaced by what the closure returns. If that is empty, nothing is sent.
    Rewrite(Arc<dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync>),
}

impl Fault {
    /// [`Fault::Rewrite`] with this closure.
    pub fn rewrite(closure: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Fault {
        Fault::Rewrite(Arc::new(closure))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Pass => f.write_str("Pass"),
            Fault::Delay(by) => f.debug_tuple("Delay").field(by).finish(),
            Fault::Hold => f.write_str("Hold"),
            Fault::Blackhole => f.write_str("Blackhole"),
            Fault::Corrupt { seed, one_in } => {
                f.debug_struct("Corrupt").field("seed", seed).field("one_in", one_in).finish()
            }
            Fault::Truncate { after } => f.debug_struct("Truncate").field("after", after).finish(),
            Fault::Chop => f.write_str("Chop"),
            Fault::Rewrite(_) => f.write_str("Rewrite(…)"),
        }
    }
}

/// The address of the server behind a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// A Unix socket.
    Unix(PathBuf),
    /// An address.
    Tcp(SocketAddr),
}

impl From<&Path> for Upstream {
    fn from(socket: &Path) -> Upstream {
        Upstream::Unix(socket.to_owned())
    }
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Upstream {
        Upstream::Tcp(address)
    }
}

impl From<&Server> for Upstream {
    fn from(server: &Server) -> Upstream {
        server.socket().into()
    }
}

impl Upstream {
    async fn connect(&self) -> io::Result<Stream> {
        match self {
            Upstream::Unix(socket) => Ok(Box::new(UnixStream::connect(socket).await?)),
            Upstream::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// A proxy that listens on a Unix socket and on a port of 127.0.0.1. A proxy that is dropped closes all its connections.
///
/// ```
/// use larder_testing::proxy::{Direction, Fault, Proxy};
/// use larder_testing::server::{Server, ServerOptions, required};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::start(&required()?[0], ServerOptions::default()).await?;
/// let proxy = Proxy::start(&server).await?;
/// println!("connect to {}", proxy.url());
/// proxy.set(Direction::ToClient, Fault::Delay(Duration::from_millis(20)));
/// proxy.set_both(Fault::Blackhole);
/// proxy.refuse().await;
/// proxy.drop_connections().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Proxy {
    endpoint: Endpoint,
    script: Arc<Script>,
}

#[derive(Debug)]
struct Script {
    upstream: watch::Sender<Upstream>,
    to_server: watch::Sender<Fault>,
    to_client: watch::Sender<Fault>,
    announced: watch::Sender<Arc<Announced>>,
    probes: watch::Sender<()>,
}

impl Proxy {
    /// Starts to listen. The server need not run yet: until it does, connections are closed as soon as they are made.
    ///
    /// # Errors
    ///
    /// The proxy cannot listen.
    pub async fn start(upstream: impl Into<Upstream>) -> io::Result<Proxy> {
        let script = Arc::new(Script {
            upstream: watch::Sender::new(upstream.into()),
            to_server: watch::Sender::default(),
            to_client: watch::Sender::default(),
            announced: watch::Sender::default(),
            probes: watch::Sender::default(),
        });
        let shared = script.clone();
        let endpoint = Endpoint::start(move |client| carry(client, shared.clone()))?;
        Ok(Proxy { endpoint, script })
    }

    /// Sets what happens to bytes in one direction from now on.
    pub fn set(&self, direction: Direction, fault: Fault) {
        match direction {
            Direction::ToServer => self.script.to_server.send_replace(fault),
            Direction::ToClient => self.script.to_client.send_replace(fault),
        };
    }

    /// Sets what happens to bytes in both directions from now on.
    pub fn set_both(&self, fault: Fault) {
        self.set(Direction::ToServer, fault.clone());
        self.set(Direction::ToClient, fault);
    }

    /// Leads new connections to another server, as an address does after a failover. Open connections stay with their server.
    pub fn redirect(&self, upstream: impl Into<Upstream>) {
        self.script.upstream.send_replace(upstream.into());
    }

    /// From now on a client is told another port of 127.0.0.1 in the place of each first one: where a node of a cluster says on which nodes the slots
    /// are (CLUSTER SLOTS, MOVED, ASK), and where a Sentinel says which server is the master. So clients go through proxies there, too. Faults happen to
    /// the bytes after that.
    pub fn announce(&self, ports: &[(u16, u16)]) {
        self.script.announced.send_replace(Arc::new(Announced::new(ports)));
    }

    /// Closes all open connections, on both sides, and returns when they are closed.
    pub async fn drop_connections(&self) {
        self.endpoint.drop_connections().await;
    }

    /// Does what the keep-alive probes of TCP do once a network is whole again: of each connection that a black hole has made half open, tells the end that is left
    /// that the other one has closed. A connection whose ends both live stays as it is.
    pub fn probe(&self) {
        self.script.probes.send_replace(());
    }

    /// Refuses new connections until [`Proxy::accept`], like a port that nobody listens on. Open connections stay open.
    pub async fn refuse(&self) {
        self.endpoint.refuse().await;
    }

    /// Accepts connections again, at the same addresses.
    ///
    /// # Errors
    ///
    /// The proxy can no longer listen there.
    pub async fn accept(&self) -> io::Result<()> {
        self.endpoint.accept()
    }

    /// The Unix socket that the proxy listens on.
    pub fn socket(&self) -> &Path {
        self.endpoint.socket()
    }

    /// The port of 127.0.0.1 that the proxy listens on.
    pub fn port(&self) -> u16 {
        self.endpoint.port()
    }

    /// The address of the proxy for a client: `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        self.endpoint.url()
    }
}

/// Carries the bytes of one connection, until either end has closed it.
async fn carry(client: Stream, script: Arc<Script>) {
    let (to_server, to_client) = (script.to_server.subscribe(), script.to_client.subscribe());
    let probes = || script.probes.subscribe();
    let upstream = script.upstream.borrow().clone();
    let server = match upstream.connect().await {
        Ok(server) => server,
        // A machine that does not answer does not refuse a connection either.
        Err(_) if matches!(*to_client.borrow(), Fault::Blackhole) => return swallow(client, probes()).await,
        Err(_) => return,
    };
    let (client_reader, client_writer) = tokio::io::split(client);
    let (server_reader, server_writer) = tokio::io::split(server);
    let announced = script.announced.subscribe();
    tokio::select! {
        () = pump(client_reader, server_writer, to_server, None, probes()) => {}
        () = pump(server_reader, client_writer, to_client, Some(announced), probes()) => {}
    }
}

/// Bytes that were read and wait to be written.
struct Parcel {
    bytes: Vec<u8>,
    due: Option<Instant>,
    chopped: bool,
}

/// Carries the bytes of one direction. Returns when everything that came before the end has been written, or when nothing more can be
/// written.
///
/// Reading and writing are separate, so that delayed bytes do not delay the reading of the bytes behind them.
async fn pump(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    faults: watch::Receiver<Fault>,
    announced: Option<watch::Receiver<Arc<Announced>>>,
    probes: watch::Receiver<()>,
) {
    let (queue, parcels) = mpsc::channel(DELAYED);
    let writing = write(parcels, to);
    tokio::pin!(writing);
    tokio::select! {
        () = &mut writing => return,
        () = read(from, faults, announced, probes, queue) => {}
    }
    writing.await;
}

async fn read(
    mut from: impl AsyncRead + Unpin,
    mut faults: watch::Receiver<Fault>,
    announced: Option<watch::Receiver<Arc<Announced>>>,
    probes: watch::Receiver<()>,
    queue: mpsc::Sender<Parcel>,
) {
    let mut active = Active::new(faults.borrow_and_update().clone());
    loop {
        let mut bytes = vec![0; CHUNK];
        // An error counts as the end of the connection.
        let length = from.read(&mut bytes).await.unwrap_or(0);
        bytes.truncate(length);
        if let Some(announced) = &announced {
            bytes = announced.borrow().told(bytes);
        }

        while faults.has_changed().unwrap_or(false) || matches!(active.fault, Fault::Hold) {
            if faults.changed().await.is_err() {
                return;
            }
            active = Active::new(faults.borrow_and_update().clone());
        }
        if matches!(active.fault, Fault::Blackhole) {
            return swallow(from, probes).await;
        }
        if length == 0 {
            return;
        }
        let last = active.apply(&mut bytes);
        let due = match active.fault {
            Fault::Delay(by) => Some(Instant::now() + by),
            _ => None,
        };
        let parcel = Parcel { bytes, due, chopped: matches!(active.fault, Fault::Chop) };
        if queue.send(parcel).await.is_err() || last {
            return;
        }
    }
}

async fn write(mut parcels: mpsc::Receiver<Parcel>, mut to: impl AsyncWrite + Unpin) {
    while let Some(Parcel { bytes, due, chopped }) = parcels.recv().await {
        if let Some(due) = due {
            sleep_until(due).await;
        }
        for piece in bytes.chunks(if chopped { 1 } else { CHUNK }) {
            if to.write_all(piece).await.is_err() || to.flush().await.is_err() {
                return;
            }
            if chopped {
                // A client on the same thread so has the chance to read this byte alone.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Reads and forgets. Does not return when this side closes, so that the other side does not notice; returns at the first probe after that.
async fn swallow(mut from: impl AsyncRead + Unpin, mut probes: watch::Receiver<()>) {
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    probes.mark_unchanged();
    let _ = probes.changed().await;
}

/// A fault, and how far it has got in one direction of one connection.
struct Active {
    fault: Fault,
    passed: u64,
    random: fastrand::Rng,
}

impl Active {
    fn new(fault: Fault) -> Active {
        let seed = if let Fault::Corrupt { seed, .. } = fault { seed } else { 0 };
        Active { fault, passed: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// Changes the bytes as the fault says. Returns whether they are the last bytes to pass.
    fn apply(&mut self, bytes: &mut Vec<u8>) -> bool {
        match &self.fault {
            Fault::Corrupt { one_in, .. } => {
                for byte in bytes {
                    // Both numbers are drawn for every byte, so that the borders of chunks change nothing.
                    let (hit, change) = (self.random.u32(0..(*one_in).max(1)) == 0, self.random.u8(1..));
                    if hit {
                        *byte ^= change;
                    }
                }
                false
            }
            Fault::Truncate { after } => {
                let left = after.saturating_sub(self.passed);
                bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                self.passed += bytes.len() as u64;
                self.passed >= *after
            }
            Fault::Rewrite(closure) => {
                *bytes = closure(std::mem::take(bytes));
                false
            }
            Fault::Pass | Fault::Delay(_) | Fault::Hold | Fault::Blackhole | Fault::Chop => false,
        }
    }
}

#[cfg(test)]
mod tests;
