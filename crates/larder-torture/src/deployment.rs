//! [`Deployment`]: the Redis servers of a run. One server, or a master with a replica and Sentinels, or a cluster.

use crate::guard::{Guard, Role};
use crate::plan::{Connector, Plan};
use larder_testing::certificates::Pair;
use larder_testing::cluster::Cluster;
use larder_testing::proxy::Proxy;
use larder_testing::server::{Server, ServerBinary, ServerError, ServerOptions, Watched, required};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// How many Sentinels there are: one may be gone, and the others are a majority.
const SENTINELS: usize = 3;

/// How long a Sentinel waits until it tries a failover once more that has failed, in ms. Its default is three minutes.
const AGAIN: &str = "4000";

/// After how long a server that does not answer counts as dead, in ms, where no fault keeps a server from answering. A busy machine may, for as long as a
/// second, which is the limit otherwise.
const PATIENT: &str = "15000";

/// The same for nodes of a cluster where they are kept from answering. With a second, a busy machine has primaries replaced in the middle of a slot's move.
const IMPATIENT: &str = "2000";

/// The primaries of a cluster, and the replicas of each.
const PRIMARIES: u16 = 3;
pub(crate) const REPLICAS: u16 = 1;

/// The Redis servers of a run.
#[derive(Clone)]
pub(crate) enum Deployment {
    One(Arc<Server>),
    Watched(Arc<Watched>),
    Cluster(Arc<Cluster>),
}

impl Deployment {
    /// Starts the servers, and tells the guard. `None`: the run needs none. `secured`: the certificate of a server with TLS, and those whom it trusts.
    pub(crate) async fn start(
        plan: &Plan,
        secured: Option<(Pair, String)>,
        guard: &Guard,
    ) -> Result<Option<Self>, ServerError> {
        if !plan.connector.is_redis() {
            return Ok(None);
        }
        let binary = match &plan.server {
            Some(path) if !plan.feed => ServerBinary::at(path)?,
            _ => required()?.remove(0),
        };
        let options = ServerOptions::default();
        let ends = plan.faults.iter().any(|fault| fault.ends_a_server());
        let started = match plan.connector {
            Connector::RedisSentinel => {
                let watched = Watched::start(&binary, options, SENTINELS).await?;
                for sentinel in &watched.sentinels {
                    sentinel.command(&["SENTINEL", "SET", Watched::NAME, "failover-timeout", AGAIN]).await?;
                    if !ends {
                        sentinel
                            .command(&["SENTINEL", "SET", Watched::NAME, "down-after-milliseconds", PATIENT])
                            .await?;
                    }
                }
                Self::Watched(Arc::new(watched))
            }
            Connector::RedisCluster => {
                // Where one primary is dead, the others either go on or refuse everything. Nothing may be stale either way.
                let full = if plan.seed.is_multiple_of(2) { "no" } else { "yes" };
                let options = options.config(format!("cluster-require-full-coverage {full}"));
                let cluster = Cluster::start_divisible(&binary, options, PRIMARIES, REPLICAS).await?;
                let timeout = if ends { IMPATIENT } else { PATIENT };
                for node in cluster.nodes() {
                    node.config_set("cluster-node-timeout", timeout).await?;
                }
                Self::Cluster(Arc::new(cluster))
            }
            _ => {
                // On a port, too: a copy of it has to reach it.
                let mut options = options.persistent().tcp();
                if let Some((pair, trusted)) = secured {
                    options = options.tls(&pair.certificate, &pair.key, &trusted);
                }
                Self::One(Arc::new(Server::start(&binary, options).await?))
            }
        };
        for server in started.servers() {
            guard.folder_of(server.socket());
            guard.server(role(server), server.pid());
        }
        Ok(Some(started))
    }

    /// All of them. Those that tell a client where the others are come last.
    fn servers(&self) -> Vec<&Server> {
        match self {
            Self::One(server) => vec![server],
            Self::Watched(watched) => {
                [&watched.master, &watched.replica].into_iter().chain(&watched.sentinels).collect()
            }
            Self::Cluster(cluster) => cluster.nodes().iter().collect(),
        }
    }

    /// The way of a node: a proxy to each server. A client that is told of another server is led to the proxy before that one. From the proxy it goes on by the
    /// server's Unix socket: the port is for other servers, so a fault can cut off these alone.
    pub(crate) async fn way(&self) -> std::io::Result<Vec<Proxy>> {
        let mut proxies = Vec::new();
        let mut ports = Vec::new();
        for server in self.servers() {
            let proxy = match server.tls_port() {
                Some(port) => Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?,
                None => Proxy::start(server).await?,
            };
            ports.extend(server.port().map(|port| (port, proxy.port())));
            proxies.push(proxy);
        }
        proxies.iter().for_each(|proxy| proxy.announce(&ports));
        Ok(proxies)
    }

    /// The ports, of the proxies to all servers, that a client is to ask where the others are.
    pub(crate) fn asked(proxies: &[Proxy], sentinels: bool) -> Vec<u16> {
        // The first two are the master and its replica.
        proxies.iter().skip(if sentinels { 2 } else { 0 }).map(Proxy::port).collect()
    }

    /// The servers that serve, once everything has come to rest.
    pub(crate) async fn serving(&self) -> Result<Vec<&Server>, ServerError> {
        Ok(match self {
            Self::One(server) => vec![server],
            Self::Watched(watched) => vec![watched.settled().await?.0],
            Self::Cluster(cluster) => {
                cluster.settled(REPLICAS).await?;
                let mut primaries = Vec::new();
                for node in cluster.nodes() {
                    if node.info("replication").await?.get("role").is_some_and(|role| role == "master") {
                        primaries.push(node);
                    }
                }
                primaries
            }
        })
    }
}

/// The number of a server's port is that server's for its whole life.
pub(crate) fn role(server: &Server) -> Role {
    Role::Redis(server.port().unwrap_or_default())
}
