//! Two nodes that keep instances in their own memory and follow the feed of a PostgreSQL database, while rows change by plain SQL that knows no cache.
//!
//! ```text
//!   page, story ── UPDATE … (plain SQL) ──► database ── triggers of the declared sources ──► larder.changes
//!                                              │                                                  │ polled by each node
//!                     loads, of the database ──┘              node 1, node 2: proxy ── feed ── memory
//! ```
//!
//! A node hears the feed through a proxy of its own. If the proxy holds what passes, the node is *cut off*: it hears of no change. Its loads do not go through the
//! proxy, so it can still answer.
//!
//! # The rule
//!
//! A lookup is stale if it began more than the feed's deadline after the answer to a commit, and returned a state of before that commit.

mod instance;
mod node;
mod service;
mod story;
mod tables;
mod watch;

pub(crate) use service::serve;
pub(crate) use story::tell;

use super::own_server::{OwnServer, OwnServerError};
use crate::instance::InstanceKey;
use larder::feed::{FollowOptions, SourceError};
use larder::{OptionError, connector};
use node::Node;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tables::{SqlError, Tables};
use tokio::task::JoinSet;
use watch::Watch;

/// How many nodes there are.
const NODES: usize = 2;

/// How many instances are read all the time. They are also those in the page's table.
const READ: u32 = 6;

/// The pause between two lookups of a reader.
const PAUSE: Duration = Duration::from_millis(10);

/// Why the nodes, the database or the page failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowedError {
    #[error(transparent)]
    Server(#[from] OwnServerError),
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error("the sources cannot be declared: {0}")]
    Sources(#[from] SourceError),
    #[error("the proxy of a node cannot listen: {0}")]
    Proxy(std::io::Error),
    #[error(transparent)]
    Postgres(#[from] connector::postgres::PostgresError),
    #[error(transparent)]
    Option(#[from] OptionError),
    #[error(transparent)]
    Schema(#[from] larder::contract::WrongSchema),
    #[error("there is no instance {0}")]
    NoInstance(String),
    #[error("waited in vain for {} s until {what}", PATIENCE.as_secs())]
    InVain { what: &'static str },
}

/// How long anything is waited for. On an idle machine nothing takes three seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The database, the nodes, and what is known of the changes.
pub(crate) struct Followed {
    name: String,
    tables: Tables,
    nodes: Vec<Arc<Node>>,
    watch: Arc<Watch>,
    // It ends after the nodes.
    _server: OwnServer,
}

impl Followed {
    /// Starts a server, fills its tables with `instances` instances, declares the sources, and opens the nodes. `folder`: of the server's programs.
    pub(crate) async fn open(instances: u32, folder: Option<PathBuf>) -> Result<Self, FollowedError> {
        let server = OwnServer::postgres(folder).await?;
        let dsn = server.address().to_string_lossy().into_owned();
        let tables = Tables::make(&dsn, instances).await?;
        let watch = Arc::new(Watch::new(FollowOptions::new().deadline));
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(Arc::new(Node::open(&server, &dsn).await?));
        }
        Ok(Self { name: server.name(), tables, nodes, watch, _server: server })
    }

    /// Reads the first instances on every node by all of their keys, until the tasks are dropped. A load that fails is tried again with the next lookup.
    async fn read_steadily(&self) -> Result<JoinSet<()>, FollowedError> {
        let mut keys = Vec::new();
        for one in self.tables.first(READ).await? {
            keys.push(InstanceKey::id(one.id));
            keys.extend(one.hosts.into_iter().map(InstanceKey::host));
        }
        let mut tasks = JoinSet::new();
        for node in &self.nodes {
            let (node, watch, keys) = (node.clone(), self.watch.clone(), keys.clone());
            tasks.spawn(async move {
                for key in keys.iter().cycle() {
                    if let Err(error) = node.look_up(key, &watch).await {
                        tracing::warn!("an instance cannot be loaded: {error}");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Ok(tasks)
    }

    /// Changes a row by plain SQL, and begins to watch until every node knows. Returns the number of the change.
    async fn change(&self, id: &str) -> Result<usize, FollowedError> {
        let _turn = self.watch.turn().await;
        let sql = Tables::update(id);
        let limit = self.tables.run(&sql).await?.ok_or_else(|| FollowedError::NoInstance(id.to_owned()))?;
        Ok(self.watch.begin(sql, id, limit, &self.nodes))
    }
}
