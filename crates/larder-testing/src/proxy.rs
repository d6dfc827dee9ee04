//! A scripted fault proxy: [`Proxy`] stands between a client and a server, and does to their bytes what a test says.
//!
//! Signals make a server fail as a whole, the same for everybody. A network fails in part: in one direction, for one client,
//! halfway through a reply, or without a word. That happens here, in the test's own process, so that a fault begins and
//! ends at a line of the test.
//!
//! A [`Fault`] is set per [`Direction`] and holds for all connections, open and new, until the next is set. It meets the
//! bytes that *arrive* while it is set; those that arrived before pass as they would have.
//!
//! # Limits
//!
//! It works on bytes, in chunks of up to 16 KiB whose borders mean nothing. It closes connections as a process does that ends,
//! not as a crashed machine: for the latter there is [`Fault::Blackhole`].

use crate::server::{Endpoint, Server, Stream};
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

/// How many delayed chunks a direction of a connection holds, before it reads no more.
const DELAYED: usize = 1024;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: commands.
    ToServer,
    /// From the server to the client: replies.
    ToClient,
}

/// What happens to bytes on their way. Set again, it starts again: a seed from its first number, a count from zero.
#[derive(Clone, Default)]
pub enum Fault {
    /// They pass.
    #[default]
    Pass,
    /// They arrive later by this much, in order; nothing else is slowed down.
    Delay(Duration),
    /// They wait until another fault is set, which they then meet.
    Hold,
    /// They vanish, and so does the news that an end has closed: a half-open connection. One that has lost anything never comes
    /// back, not even when bytes pass again.
    Blackhole,
    /// About one byte in `one_in` is changed into another. The seed decides which and how, counted from the first
    /// byte of a connection that meets the fault, whatever the chunks.
    Corrupt {
        /// Which bytes.
        seed: u64,
        /// How many; 0 is taken for 1.
        one_in: u32,
    },
    /// This many bytes of each connection pass, then it is closed.
    Truncate {
        /// How many bytes.
        after: u64,
    },
    /// They are written one by one. A client that is slow to read may still find several at once.
    Chop,
    /// Each chunk becomes what the closure makes of it; nothing, if that is empty.
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

/// Where the server is that a proxy leads to.
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

/// A proxy that listens on a Unix socket and on a port of 127.0.0.1. Dropping it closes all connections.
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
}

impl Proxy {
    /// Starts to listen. The server need not run yet: without it, connections are closed as soon as they are made.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start(upstream: impl Into<Upstream>) -> io::Result<Proxy> {
        let script = Arc::new(Script {
            upstream: watch::Sender::new(upstream.into()),
            to_server: watch::Sender::default(),
            to_client: watch::Sender::default(),
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

    /// Leads new connections to another server, as an address does after a failover. Open ones stay where they are.
    pub fn redirect(&self, upstream: impl Into<Upstream>) {
        self.script.upstream.send_replace(upstream.into());
    }

    /// Closes all open connections, to either side, and returns when they are closed.
    pub async fn drop_connections(&self) {
        self.endpoint.drop_connections().await;
    }

    /// Refuses new connections, as a port does that nobody listens on, until [`Proxy::accept`]. Open ones stay open.
    pub async fn refuse(&self) {
        self.endpoint.refuse().await;
    }

    /// Accepts connections again, at the same addresses.
    ///
    /// # Errors
    ///
    /// When it cannot listen there any more.
    pub async fn accept(&self) -> io::Result<()> {
        self.endpoint.accept()
    }

    /// The Unix socket it listens on.
    pub fn socket(&self) -> &Path {
        self.endpoint.socket()
    }

    /// The port of 127.0.0.1 it listens on.
    pub fn port(&self) -> u16 {
        self.endpoint.port()
    }

    /// `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        self.endpoint.url()
    }
}

/// One connection, until either end has closed it.
async fn carry(client: Stream, script: Arc<Script>) {
    let (to_server, to_client) = (script.to_server.subscribe(), script.to_client.subscribe());
    let upstream = script.upstream.borrow().clone();
    let server = match upstream.connect().await {
        Ok(server) => server,
        // From a machine that does not answer no refusal comes back either.
        Err(_) if matches!(*to_client.borrow(), Fault::Blackhole) => return swallow(client).await,
        Err(_) => return,
    };
    let (client_reader, client_writer) = tokio::io::split(client);
    let (server_reader, server_writer) = tokio::io::split(server);
    tokio::select! {
        () = pump(client_reader, server_writer, to_server) => {}
        () = pump(server_reader, client_writer, to_client) => {}
    }
}

/// Bytes on their way through.
struct Parcel {
    bytes: Vec<u8>,
    due: Option<Instant>,
    chopped: bool,
}

/// One direction. Returns when all has been written that came before the end, or nothing can be written any more.
///
/// Reading and writing are apart so that bytes which are delayed do not delay the reading of those behind them.
async fn pump(from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin, faults: watch::Receiver<Fault>) {
    let (queue, parcels) = mpsc::channel(DELAYED);
    let writing = write(parcels, to);
    tokio::pin!(writing);
    tokio::select! {
        () = &mut writing => return,
        () = read(from, faults, queue) => {}
    }
    writing.await;
}

async fn read(mut from: impl AsyncRead + Unpin, mut faults: watch::Receiver<Fault>, queue: mpsc::Sender<Parcel>) {
    let mut active = Active::new(faults.borrow_and_update().clone());
    loop {
        let mut bytes = vec![0; CHUNK];
        // A connection that fails has ended.
        let length = from.read(&mut bytes).await.unwrap_or(0);
        bytes.truncate(length);

        while faults.has_changed().unwrap_or(false) || matches!(active.fault, Fault::Hold) {
            if faults.changed().await.is_err() {
                return;
            }
            active = Active::new(faults.borrow_and_update().clone());
        }
        if matches!(active.fault, Fault::Blackhole) {
            return swallow(from).await;
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
                // Gives a client that runs on the same thread the chance to see this byte alone.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Reads and forgets. Never returns: whoever closed must not be noticed on the other side.
async fn swallow(mut from: impl AsyncRead + Unpin) {
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    std::future::pending().await
}

/// A fault and how far it has come on one direction of one connection.
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

    /// Changes the bytes as the fault wants it, and says whether they are the last to pass.
    fn apply(&mut self, bytes: &mut Vec<u8>) -> bool {
        match &self.fault {
            Fault::Corrupt { one_in, .. } => {
                for byte in bytes {
                    // Both are drawn for every byte, so that where the chunks begin changes nothing.
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
