//! Real clusters for tests: some primaries, each with or without a replica, that can be killed, failed over and resharded.
//!
//! Each node is a [`Server`] on a port of 127.0.0.1, so everything that breaks a server breaks a node.

mod bus;

use crate::server::address::free_port;
use crate::server::{Reply, Server, ServerBinary, ServerError, ServerOptions};
use bus::Bus;
use std::io::{Error, ErrorKind};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The number of slots.
const SLOTS: u16 = 16_384;

/// How long the nodes may take to agree.
const AGREEMENT: Duration = Duration::from_secs(60);

/// A running cluster. When it is dropped, its nodes are killed, and everything that they have written is removed.
///
/// ```
/// use larder_testing::cluster::Cluster;
/// use larder_testing::server::{ServerOptions, required};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = Cluster::start(&required()?[0], ServerOptions::default(), 3, 0).await?;
/// assert_eq!(cluster.primary(0).await?, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
    /// Without proxies, unless a node is to be [cut off](Cluster::cut_off).
    bus: Bus,
}

impl Cluster {
    /// Starts this many primaries, which share the slots in order, and this many replicas of each. Node `n` is the primary number `n`; the replicas
    /// come after all primaries. Returns when every node knows all others, and serves. A node that is dead is noticed after one second. With
    /// [TLS](ServerOptions::tls), nodes use it among themselves as well.
    ///
    /// # Errors
    ///
    /// A node did not start, or they did not agree within a minute.
    pub async fn start(
        binary: &ServerBinary,
        options: ServerOptions,
        primaries: u16,
        replicas: u16,
    ) -> Result<Self, ServerError> {
        Self::start_with(binary, options, primaries, replicas, false).await
    }

    /// As [`Cluster::start`], and nodes of it can be [cut off](Cluster::cut_off) from the others: what they say to each other goes through this process.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub async fn start_divisible(
        binary: &ServerBinary,
        options: ServerOptions,
        primaries: u16,
        replicas: u16,
    ) -> Result<Self, ServerError> {
        Self::start_with(binary, options, primaries, replicas, true).await
    }

    async fn start_with(
        binary: &ServerBinary,
        options: ServerOptions,
        primaries: u16,
        replicas: u16,
        divisible: bool,
    ) -> Result<Self, ServerError> {
        let options = match options.tls.is_some() {
            true => options.config("tls-cluster yes").config("tls-replication yes"),
            false => options,
        };
        let (mut nodes, mut bus) = (Vec::new(), Bus::default());
        for _ in 0..primaries * (1 + replicas) {
            let listens = free_port().map_err(no_port)?;
            let options = match divisible {
                true => {
                    let told = bus.before(listens).await.map_err(no_port)?;
                    options.clone().config(format!("cluster-announce-bus-port {told}"))
                }
                false => options.clone(),
            };
            let options = options
                .tcp()
                .config("cluster-enabled yes")
                .config(format!("cluster-port {listens}"))
                .config("cluster-node-timeout 1000")
                // On a machine that keeps the nodes waiting, some elections come to nothing. By default a replica gives up after 20 seconds.
                .config("cluster-replica-validity-factor 0")
                .config("repl-diskless-sync-delay 0");
            nodes.push(Server::start(binary, options).await?);
        }
        let cluster = Self { nodes, bus };
        cluster.join(primaries).await?;
        Ok(cluster)
    }

    async fn join(&self, primaries: u16) -> Result<(), ServerError> {
        let mut ids = Vec::new();
        for (place, node) in (0_u16..).zip(&self.nodes) {
            accepted(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]).await?;
            ids.push(self.id(usize::from(place)).await?);
            if place < primaries {
                let slot = |primary: u16| u32::from(SLOTS) * u32::from(primary) / u32::from(primaries);
                let (first, last) = (slot(place).to_string(), (slot(place + 1) - 1).to_string());
                accepted(node, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await?;
            }
        }
        let Some(first) = self.nodes.first() else { return Ok(()) };
        for (place, node) in self.nodes.iter().enumerate().skip(1) {
            let told = self.bus.port(place).map(|port| port.to_string());
            let bus = match told {
                Some(told) => told,
                None => bus_port(node).await?,
            };
            let port = port(node);
            accepted(first, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await?;
        }
        self.until("all nodes know each other", async |node| {
            let Ok(Reply::Bulk(known)) = node.command(&["CLUSTER", "NODES"]).await else { return false };
            let known = String::from_utf8_lossy(&known).into_owned();
            known.lines().count() == self.nodes.len() && !known.contains("handshake") && !known.contains("noaddr")
        })
        .await?;
        for (place, node) in self.nodes.iter().enumerate().skip(usize::from(primaries)) {
            let of = ids.get(place % usize::from(primaries)).map(String::as_str).unwrap_or_default();
            accepted(node, &["CLUSTER", "REPLICATE", of]).await?;
        }
        self.serving().await
    }

    /// Waits until every node serves, and every replica follows its primary.
    ///
    /// # Errors
    ///
    /// Not within a minute.
    pub async fn serving(&self) -> Result<(), ServerError> {
        self.until("all nodes serve", async |node| {
            let serves = node.command(&["CLUSTER", "INFO"]).await;
            let serves = serves.is_ok_and(|reply| contains(&reply, "cluster_state:ok"));
            let replication = node.info("replication").await.unwrap_or_default();
            let follows = replication.get("master_link_status").is_none_or(|status| status == "up");
            serves && follows
        })
        .await
    }

    /// As [`serving`](Self::serving), and waits until each primary has so many replicas again.
    ///
    /// # Errors
    ///
    /// Not within a minute.
    pub async fn settled(&self, replicas: u16) -> Result<(), ServerError> {
        self.serving().await?;
        let deadline = Instant::now() + AGREEMENT;
        for node in self.nodes.iter().filter(|node| node.pid().is_some()) {
            loop {
                let replication = node.info("replication").await.unwrap_or_default();
                let is = |field: &str, wanted: &str| replication.get(field).is_some_and(|found| found == wanted);
                if is("role", "slave") || is("connected_slaves", &replicas.to_string()) {
                    break;
                }
                if Instant::now() > deadline {
                    let what = "a primary has lost its replicas";
                    return Err(ServerError::Machine { what, error: Error::from(ErrorKind::TimedOut) });
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    async fn until(&self, what: &'static str, holds: impl AsyncFn(&Server) -> bool) -> Result<(), ServerError> {
        let deadline = Instant::now() + AGREEMENT;
        for node in self.nodes.iter().filter(|node| node.pid().is_some()) {
            while !holds(node).await {
                if Instant::now() > deadline {
                    let error = Error::new(ErrorKind::TimedOut, state(node).await);
                    return Err(ServerError::Machine { what, error });
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// `host:port` of a node.
    ///
    /// # Panics
    ///
    /// There is no such node.
    pub fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[node].port().unwrap_or_default())
    }

    /// The number of the node that is the primary of a slot, as that node itself says.
    ///
    /// # Errors
    ///
    /// No node says so.
    pub async fn primary(&self, slot: u16) -> Result<usize, ServerError> {
        for (place, node) in self.nodes.iter().enumerate() {
            if node.pid().is_none() {
                continue;
            }
            let Ok(Reply::Bulk(nodes)) = node.command(&["CLUSTER", "NODES"]).await else { continue };
            let text = String::from_utf8_lossy(&nodes).into_owned();
            let own = text.lines().find(|line| line.contains("myself")).unwrap_or_default();
            if own.contains("master") && own.split(' ').skip(8).any(|range| is_within(range, slot)) {
                return Ok(place);
            }
        }
        Err(ServerError::Machine { what: "no node has the slot", error: Error::from(ErrorKind::NotFound) })
    }

    /// The number of a running node that is the replica of this primary, as that node says. `None`: there is none.
    pub async fn replica_of(&self, primary: usize) -> Option<usize> {
        let port = port(self.nodes.get(primary)?);
        for (place, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.pid().is_some()) {
            let replication = node.info("replication").await.unwrap_or_default();
            if replication.get("master_port") == Some(&port) {
                return Some(place);
            }
        }
        None
    }

    /// The slot of a key.
    ///
    /// # Errors
    ///
    /// The first node does not answer.
    pub async fn slot_of(&self, key: &str) -> Result<u16, ServerError> {
        let first = self.nodes.first().ok_or(ServerError::Down)?;
        let reply = first.command(&["CLUSTER", "KEYSLOT", key]).await?;
        match reply.int().and_then(|slot| u16::try_from(slot).ok()) {
            Some(slot) => Ok(slot),
            None => Err(ServerError::Refused { command: "CLUSTER".to_owned(), reply }),
        }
    }

    /// Makes this replica the primary, gracefully, and waits until it is.
    ///
    /// # Errors
    ///
    /// The node refuses, or is not promoted within a minute.
    pub async fn fail_over(&self, replica: usize) -> Result<(), ServerError> {
        accepted(&self.nodes[replica], &["CLUSTER", "FAILOVER"]).await?;
        self.promoted(replica).await
    }

    /// Waits until this node is a primary.
    ///
    /// # Errors
    ///
    /// Not within a minute. The error has what the node says, and what all nodes have logged.
    pub async fn promoted(&self, replica: usize) -> Result<(), ServerError> {
        let node = &self.nodes[replica];
        let deadline = Instant::now() + AGREEMENT;
        while node.info("replication").await.is_ok_and(|info| info.get("role").is_none_or(|role| role != "master")) {
            if Instant::now() > deadline {
                let logs = self.nodes.iter().map(|node| format!("node {} has logged:\n{}", port(node), node.log()));
                let why = format!("{}\n{}", state(node).await, logs.collect::<Vec<_>>().join("\n"));
                return Err(ServerError::Machine { what: "no promotion", error: Error::new(ErrorKind::TimedOut, why) });
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Cuts a node of a [divisible](Cluster::start_divisible) cluster off from all others, which do not hear of it either: its replicas no longer get what
    /// it answers. Clients reach it as before.
    ///
    /// # Errors
    ///
    /// The node refuses.
    pub async fn cut_off(&self, node: usize) -> Result<(), ServerError> {
        self.bus.cut_off(node, &self.id(node).await?);
        accepted(&self.nodes[node], &["ACL", "SETUSER", "default", "-psync", "-sync"]).await?;
        accepted(&self.nodes[node], &["CLIENT", "KILL", "TYPE", "replica"]).await
    }

    /// Ends what [`Cluster::cut_off`] has begun.
    ///
    /// # Errors
    ///
    /// The node refuses.
    pub async fn join_again(&self, node: usize) -> Result<(), ServerError> {
        self.bus.join();
        accepted(&self.nodes[node], &["ACL", "SETUSER", "default", "+psync", "+sync"]).await
    }

    /// Begins to move a slot. Its keys are still where they were.
    ///
    /// # Errors
    ///
    /// A node refuses.
    pub async fn begin_move(&self, slot: u16, from: usize, to: usize) -> Result<(), ServerError> {
        let (source, target, slot) = (self.id(from).await?, self.id(to).await?, slot.to_string());
        accepted(&self.nodes[to], &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]).await?;
        accepted(&self.nodes[from], &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]).await
    }

    /// Moves these keys of a slot that is being moved. A key that is on the other node already, because a client has sent ASKING, is replaced.
    ///
    /// # Errors
    ///
    /// A node refuses.
    pub async fn move_keys(&self, keys: &[Vec<u8>], from: usize, to: usize) -> Result<(), ServerError> {
        if keys.is_empty() {
            return Ok(());
        }
        let port = port(&self.nodes[to]);
        let words =
            ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "REPLACE", "KEYS"].map(|word| word.as_bytes().to_vec());
        let command: Vec<Vec<u8>> = words.into_iter().chain(keys.iter().cloned()).collect();
        accepted(&self.nodes[from], &command).await
    }

    /// The keys of a slot on this node.
    ///
    /// # Errors
    ///
    /// The node refuses.
    pub async fn keys_in(&self, slot: u16, node: usize) -> Result<Vec<Vec<u8>>, ServerError> {
        let reply = self.nodes[node].command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "100000"]).await?;
        let Reply::Array(keys) = reply else {
            return Err(ServerError::Refused { command: "CLUSTER".to_owned(), reply });
        };
        Ok(keys.iter().filter_map(Reply::bytes).map(<[u8]>::to_vec).collect())
    }

    /// Ends the move of a slot, which has no keys left where it was.
    ///
    /// # Errors
    ///
    /// A node refuses.
    pub async fn end_move(&self, slot: u16, from: usize, to: usize) -> Result<(), ServerError> {
        let (target, slot) = (self.id(to).await?, slot.to_string());
        for node in [to, from] {
            accepted(&self.nodes[node], &["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await?;
        }
        Ok(())
    }

    /// Gives the move of a slot up: what has left comes back.
    ///
    /// # Errors
    ///
    /// A node refuses.
    pub async fn give_up_move(&self, slot: u16, from: usize, to: usize) -> Result<(), ServerError> {
        let number = slot.to_string();
        // In this order: a node that lets a slot go takes no key of it, and one that has no part in the move gives none away.
        accepted(&self.nodes[from], &["CLUSTER", "SETSLOT", &number, "STABLE"]).await?;
        self.move_keys(&self.keys_in(slot, to).await?, to, from).await?;
        accepted(&self.nodes[to], &["CLUSTER", "SETSLOT", &number, "STABLE"]).await
    }

    /// Moves a slot with its keys.
    ///
    /// # Errors
    ///
    /// A node refuses.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) -> Result<(), ServerError> {
        self.begin_move(slot, from, to).await?;
        loop {
            let keys = self.keys_in(slot, from).await?;
            if keys.is_empty() {
                break;
            }
            self.move_keys(&keys, from, to).await?;
        }
        self.end_move(slot, from, to).await
    }

    async fn id(&self, node: usize) -> Result<String, ServerError> {
        let reply = self.nodes[node].command(&["CLUSTER", "MYID"]).await?;
        Ok(String::from_utf8_lossy(reply.bytes().unwrap_or_default()).into_owned())
    }
}

async fn accepted(node: &Server, command: &[impl AsRef<[u8]>]) -> Result<(), ServerError> {
    match node.command(command).await? {
        Reply::Error(line) => {
            let command = command.first().map(|word| String::from_utf8_lossy(word.as_ref()).into_owned());
            Err(ServerError::Refused { command: command.unwrap_or_default(), reply: Reply::Error(line) })
        }
        _ => Ok(()),
    }
}

fn no_port(error: Error) -> ServerError {
    ServerError::Machine { what: "cannot choose a port", error }
}

/// The port by which the other nodes know this one.
fn port(node: &Server) -> String {
    node.tls_port().or(node.port()).unwrap_or_default().to_string()
}

async fn bus_port(node: &Server) -> Result<String, ServerError> {
    let reply = node.command(&["CONFIG", "GET", "cluster-port"]).await?;
    let Reply::Array(pair) = &reply else {
        return Err(ServerError::Refused { command: "CONFIG".to_owned(), reply });
    };
    let port = pair.get(1).and_then(Reply::bytes).unwrap_or_default();
    Ok(String::from_utf8_lossy(port).into_owned())
}

fn contains(reply: &Reply, text: &str) -> bool {
    reply.bytes().is_some_and(|bytes| String::from_utf8_lossy(bytes).contains(text))
}

/// Whether `7` or `0-5460` has the slot.
fn is_within(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
}

/// What a node says of itself and of the others, for people.
async fn state(node: &Server) -> String {
    let mut told = format!("timed out; node {} says:", port(node));
    for command in [&["CLUSTER", "INFO"][..], &["CLUSTER", "NODES"], &["INFO", "replication"]] {
        match node.command(command).await {
            Ok(Reply::Bulk(text)) => told += &format!("\n{}", String::from_utf8_lossy(&text).trim_end()),
            Ok(other) => told += &format!("\n{other:?}"),
            Err(error) => told += &format!("\n{error}"),
        }
    }
    told
}
