//! Everything that a run needs: its servers, the source, the ways to them, the witness, and the nodes.

use crate::certificates::Certificates;
use crate::crew::Crew;
use crate::deployment::Deployment;
use crate::failure::Failure;
use crate::faults::{FaultKind, Pooler};
use crate::guard::Guard;
use crate::ledger::{self, Ledger};
use crate::node;
use crate::objects::Kind;
use crate::plan::{Connector, Plan};
use crate::primary::Primary;
use crate::protocol::{Setup, Store, Truth};
use crate::source::{self, Database};
use crate::way::Way;
use crate::witness::{self, News, Record, Shared, Word};
use crate::writers::Writers;
use crate::{leftovers, postgres};
use larder_testing::certificates::Life;
use larder_testing::proxy::Proxy;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

pub(crate) fn problem(error: impl std::fmt::Display) -> Failure {
    Failure::Problem(error.to_string())
}

/// The servers of a run.
#[derive(Default)]
pub(crate) struct Served {
    pub(crate) redis: Option<Deployment>,
    /// Of the server, and of the nodes, where they use TLS.
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) primary: Option<Arc<Primary>>,
    /// Between one node and the primary.
    pub(crate) pooler: Option<Arc<Pooler>>,
}

impl Served {
    /// Starts the servers, and tells the guard.
    async fn start(plan: &Plan, guard: &Arc<Guard>) -> Result<Self, Failure> {
        let mut served = Self::default();
        let mut of_server = None;
        if plan.tls {
            let certificates = Certificates::new().map_err(problem)?;
            guard.folder(certificates.folder());
            of_server = Some(certificates.of_server(Life::Long).await.map_err(problem)?);
            served.certificates = Some(Arc::new(certificates));
        }
        served.redis = Deployment::start(plan, of_server, guard).await.map_err(problem)?;
        if plan.needs_postgres() {
            let primary = Primary::start(plan, guard).await.map_err(problem)?;
            if plan.pooler {
                let pooler = Pooler::start(&primary.server(), guard.clone()).await.map_err(problem)?;
                served.pooler = Some(Arc::new(pooler));
            }
            served.primary = Some(Arc::new(primary));
        }
        Ok(served)
    }

    /// The ways of all nodes, each with proxies of its own. The last node goes through the pooler, if there is one.
    async fn ways(&self, plan: &Plan, guard: &Guard) -> std::io::Result<Vec<Way>> {
        let mut ways = Vec::new();
        for place in 0..plan.nodes {
            let mut way = Way::default();
            if let Some(servers) = &self.redis {
                way.redis = servers.way().await?;
            }
            match (&self.pooler, &self.primary) {
                (Some(pooler), _) if place + 1 == plan.nodes => {
                    way.postgres.push(Proxy::start(pooler.socket_file().await.as_ref()).await?);
                    way.pooled = true;
                }
                (_, Some(primary)) => {
                    way.postgres.push(Proxy::start(&*postgres::socket(&primary.server())).await?);
                    for _ in 1..primary.hosts() {
                        // There is no server yet: connections are closed at once.
                        way.postgres.push(Proxy::start(Path::new("/nonexistent/standby")).await?);
                    }
                }
                (_, None) => {}
            }
            way.proxies().for_each(|proxy| guard.folder_of(proxy.socket()));
            ways.push(way);
        }
        Ok(ways)
    }

    /// Where nodes store. What depends on the way of a node is set for each.
    fn store(&self, plan: &Plan) -> Store {
        if let Some(certificates) = &self.certificates {
            return Store::Secured { port: 0, folder: certificates.folder().to_owned() };
        }
        match (plan.connector, &self.primary) {
            (Connector::Redis, _) => Store::Redis(PathBuf::new()),
            (Connector::RedisSentinel, _) => Store::Sentinels(Vec::new()),
            (Connector::RedisCluster, _) => Store::Cluster(Vec::new()),
            (Connector::Postgres, Some(primary)) => Store::Postgres { dsn: String::new(), direct: primary.dsn() },
            _ => Store::Memory,
        }
    }

    /// Whether one node can read what another stores, or hears of it.
    fn is_shared(&self) -> bool {
        self.redis.is_some() || self.primary.is_some()
    }

    /// What is left on the servers that should not be there. `crew`: whose sessions may be half open.
    pub(crate) async fn leftovers(&self, crew: &Crew) -> Result<Vec<String>, Failure> {
        let mut left = Vec::new();
        if let Some(servers) = &self.redis {
            for server in servers.serving().await.map_err(problem)? {
                left.extend(leftovers::find(server).await.map_err(problem)?);
            }
        }
        if let Some(primary) = &self.primary {
            let probe = || crew.ways().flat_map(|(_, way)| way.proxies()).for_each(Proxy::probe);
            left.extend(leftovers::find_in_postgres(&primary.server(), probe).await.map_err(problem)?);
        }
        Ok(left)
    }
}

/// Everything that a run has set up, and that ends with the run.
pub(crate) struct Stage {
    pub(crate) served: Served,
    pub(crate) writers: Option<Writers>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) shared: Shared,
    pub(crate) news: UnboundedSender<News>,
    pub(crate) words: UnboundedReceiver<Word>,
    // The folder of the source.
    _folder: tempfile::TempDir,
    // The last field: the guard must be dropped after everything that it guards.
    pub(crate) guard: Arc<Guard>,
}

impl Stage {
    pub(crate) async fn set(plan: &Plan, begun: u64) -> Result<Self, Failure> {
        let guard = Arc::new(Guard::start().map_err(problem)?);
        let folder = tempfile::Builder::new().prefix("larder-torture-").tempdir().map_err(problem)?;
        guard.folder(folder.path());
        let served = Served::start(plan, &guard).await?;
        let (source, record) = match &served.primary {
            Some(primary) if plan.feed => {
                let dsn = primary.dsn();
                ledger::set_up(&dsn).await.map_err(problem)?;
                let record = Record::Ledger(Ledger::new(dsn.clone()), tokio::runtime::Handle::current());
                (Truth::Ledger { feed: String::new(), dsn }, record)
            }
            _ => {
                let path = folder.path().join("source.sqlite");
                let mut database = Database::open(&path).map_err(problem)?;
                seed(&mut database).map_err(problem)?;
                (Truth::File(path), Record::File(database))
            }
        };
        let ways = served.ways(plan, &guard).await.map_err(problem)?;
        let setup = Setup {
            node: 0,
            place: 0,
            places: plan.nodes,
            seed: plan.seed,
            tasks: plan.tasks,
            readers: plan.readers,
            store: served.store(plan),
            source,
            without: plan.without.map(|protection| protection.name().to_owned()),
            pooled: false,
            patient: plan.patient,
            cancel: plan.faults.contains(&FaultKind::Cancel),
            tiered: plan.tiered.map(|consistency| consistency.name().to_owned()),
        };
        let shared = Shared::default();
        let (news, inbox) = mpsc::unbounded_channel();
        let (said, words) = mpsc::unbounded_channel();
        witness::listen(record, begun, served.is_shared(), plan.tiered, inbox, shared.clone(), said)
            .map_err(problem)?;
        let writers = match (&setup.source, plan.connector) {
            (Truth::File(_), _) => None,
            (Truth::Ledger { dsn, .. }, connector) => {
                // In PostgreSQL the invalidation is part of the commit. Elsewhere it has to be heard of.
                let at_once = connector == Connector::Postgres && plan.tiered.is_none();
                let deadline = if at_once { Duration::ZERO } else { node::DEADLINE };
                Some(Writers::begin(dsn.clone(), deadline, plan.seed, news.clone()))
            }
        };
        let crew = Arc::new(Crew::new(setup, ways, news.clone()));
        crew.start().await.map_err(problem)?;
        Ok(Self { served, writers, crew, shared, news, words, _folder: folder, guard })
    }
}

/// Makes the first states of all objects.
fn seed(database: &mut Database) -> Result<(), source::SourceError> {
    database.change(|writing| {
        for number in 0..node::INSTANCES {
            let hosts = (0..2).map(|nth| number * 2 + nth).filter(|host| host % 5 != 4).collect();
            writing.write(Kind::Instance, number, hosts)?;
        }
        for number in 0..node::POLICIES {
            writing.write(Kind::Policy, number, Vec::new())?;
        }
        Ok(())
    })?;
    Ok(())
}
