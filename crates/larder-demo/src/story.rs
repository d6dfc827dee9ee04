//! The story: shows larder's promises phase by phase, unattended, and checks every answer.
//!
//! On the memory connector there is one node. On a server there are two nodes, each with a connection of its own. Phases that break the server
//! are played only if it is the demo's own. A phase collects in its [`Facts`] what has happened. Everything that goes wrong is a problem. A
//! phase that shows nothing is a problem, too: a phase in which nothing was deferred would prove nothing about deferring.

mod calm;
mod outage;
mod report;

pub(crate) use report::{Phase, Report};

use super::backend::{Backend, BackendError};
use super::identity::{Changed, Identity, IdentityError, Way};
use super::instance::{Instance, InstanceKey};
use super::load::{Load, Rates};
use super::node::Node;
use super::own_server::{OwnServer, OwnServerError};
use super::source::Edit;
use larder::Delivery;
use larder::breaker::State;
use report::{Facts, Figures};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the story waits for anything. On an idle machine, nothing takes two seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the story cannot be played to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoryError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the demo's server: {0}")]
    Server(#[from] OwnServerError),
    #[error("waited in vain for {} s until {what}", PATIENCE.as_secs())]
    InVain { what: &'static str },
    #[error("the cache gave no ticket for a load, although it is reachable")]
    NoTicket,
    #[error("there is no instance {0}")]
    NoInstance(String),
}

type Told = Result<(), StoryError>;

/// Everything that the phases use.
struct Scene<'a> {
    identity: Arc<Identity>,
    backend: &'a Backend,
    /// All keys of all instances, in random order.
    keys: Arc<[InstanceKey]>,
    /// The numbers of the nodes.
    nodes: Vec<usize>,
    /// When breakers have opened: node and time.
    opened: Arc<Mutex<Vec<(usize, Instant)>>>,
}

/// Plays the story. Calls `heard` after each phase.
pub(crate) async fn tell(
    backend: &Backend,
    (instances, latency): (u32, Duration),
    mut heard: impl FnMut(&Phase),
) -> Result<Report, StoryError> {
    let begun = Instant::now();
    let mut nodes = vec![backend.node().await?];
    if backend.is_shared() {
        nodes.push(backend.node().await?);
    }
    let scene = Scene::set(backend, Identity::open(instances, latency, nodes));
    let mut report = Report::new(backend, &scene.identity, instances);

    /// Plays phases in this order. The name of a phase is the name of its method.
    macro_rules! phases {
        ($($phase:ident),* $(,)?) => {$(
            let before = Figures::of(&scene.identity);
            let mut facts = Facts::default();
            let told = scene.$phase(&mut facts).await;
            let phase = Phase::new(stringify!($phase), facts, told, before, Figures::of(&scene.identity));
            heard(&phase);
            report.phases.push(phase);
        )*};
    }
    phases!(warm_up, look_up, change, move_hosts, delete_and_make_again, slow_load);
    match backend.server() {
        Some(OwnServer::Redis(_)) => {
            phases!(server_hangs, server_dies, old_snapshot, flush_all, script_flush);
        }
        Some(OwnServer::Replicated(_)) => {
            phases!(primary_dies);
        }
        Some(OwnServer::Postgres(_)) => {
            phases!(server_hangs, server_dies);
        }
        None if backend.connector() == "postgres" => {
            report.left_out = ["server_hangs", "server_dies"].to_vec();
        }
        None if backend.is_shared() => {
            report.left_out = ["server_hangs", "server_dies", "old_snapshot", "flush_all", "script_flush"].to_vec();
        }
        None => {}
    }
    phases!(compare_all);
    for node in &scene.identity.nodes {
        node.shut_down().await;
    }
    report.close(&scene.identity, begun.elapsed());
    Ok(report)
}

impl<'a> Scene<'a> {
    fn set(backend: &'a Backend, identity: Identity) -> Self {
        let mut keys = identity.source.keys();
        fastrand::shuffle(&mut keys);
        let opened = Arc::new(Mutex::new(Vec::new()));
        for (node, on) in identity.nodes.iter().enumerate() {
            let Some(breaker) = on.breaker() else { continue };
            let opened = opened.clone();
            breaker.subscribe(move |transition| {
                if transition.to == State::Open {
                    opened.lock().unwrap_or_else(PoisonError::into_inner).push((node, Instant::now()));
                }
            });
        }
        let nodes = (0..identity.nodes.len()).collect();
        Self { identity: Arc::new(identity), backend, keys: keys.into(), nodes, opened }
    }

    /// Waits for a condition. Returns how long that took.
    async fn until(&self, what: &'static str, condition: impl Fn() -> bool) -> Result<Duration, StoryError> {
        let begun = Instant::now();
        while !condition() {
            if begun.elapsed() > PATIENCE {
                return Err(StoryError::InVain { what });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(begun.elapsed())
    }

    /// Starts steady reading on every node.
    fn readers(&self, lookups: u32) -> Load {
        Load::start(&self.identity, &self.nodes, &self.keys, Rates { lookups, changes: 0 })
    }

    /// Starts steady reading and changing on every node, of a few instances only, so that tasks often touch the same ones.
    fn crowd(&self, numbers: std::ops::RangeInclusive<u32>, rates: Rates) -> Result<Load, StoryError> {
        let mut keys = Vec::new();
        for number in numbers {
            keys.extend(InstanceKey::all_of(&self.instance(number)?));
        }
        fastrand::shuffle(&mut keys);
        Ok(Load::start(&self.identity, &self.nodes, &keys.into(), rates))
    }

    /// Looks up every key on every node, in several tasks.
    async fn read_all(&self) -> Told {
        for node in &self.nodes {
            let mut tasks = tokio::task::JoinSet::new();
            for keys in self.keys.chunks(self.keys.len().div_ceil(8).max(1)) {
                let (identity, keys, node) = (self.identity.clone(), keys.to_vec(), *node);
                tasks.spawn(async move {
                    for key in &keys {
                        identity.look_up(node, key).await?;
                    }
                    Ok::<_, IdentityError>(())
                });
            }
            while let Some(read) = tasks.join_next().await {
                read.map_err(|_| IdentityError::Ending)??;
            }
        }
        Ok(())
    }

    /// The hit ratio during half a second of steady reading.
    async fn hit_ratio(&self) -> f64 {
        let before = Figures::of(&self.identity);
        let readers = self.readers(1_000);
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(readers);
        Figures::of(&self.identity).since(&before).hit_ratio()
    }

    /// The instance with this number, from the source.
    fn instance(&self, number: u32) -> Result<Instance, StoryError> {
        let id = format!("i{number:05}");
        self.identity.source.find(&InstanceKey::id(&id)).ok_or(StoryError::NoInstance(id))
    }

    /// Changes the name of an instance on a node, and looks it up by every key on every node.
    async fn rename(&self, facts: &mut Facts, node: usize, number: u32, way: Way) -> Result<Delivery, StoryError> {
        let instance = self.instance(number)?;
        let name = Some(super::load::next_name(&instance.name));
        let changed = self.identity.change(node, &instance.id, Edit { name, ..Edit::default() }, way).await?;
        self.follow(facts, &changed).await
    }

    /// Moves the last host of an instance to another, and looks both up by every key on every node.
    async fn move_host(
        &self,
        facts: &mut Facts,
        node: usize,
        (from, to): (u32, u32),
        way: Way,
    ) -> Result<Delivery, StoryError> {
        let (from, to) = (self.instance(from)?, self.instance(to)?);
        let hosts = Some(to.hosts.iter().chain(from.hosts.last()).cloned().collect());
        let changed = self.identity.change(node, &to.id, Edit { hosts, ..Edit::default() }, way).await?;
        self.follow(facts, &changed).await
    }

    /// Takes the last host from an instance, so that the host leads nowhere, and gives it back.
    async fn drop_host(&self, facts: &mut Facts, node: usize, number: u32, way: Way) -> Told {
        let Instance { id, hosts, .. } = self.instance(number)?;
        let fewer = hosts.split_last().map(|(_, fewer)| fewer.to_vec()).unwrap_or_default();
        for hosts in [fewer, hosts] {
            let edit = Edit { hosts: Some(hosts), ..Edit::default() };
            let changed = self.identity.change(node, &id, edit, way).await?;
            self.follow(facts, &changed).await?;
        }
        Ok(())
    }

    async fn follow(&self, facts: &mut Facts, changed: &Changed) -> Result<Delivery, StoryError> {
        facts.changed(changed.delivery);
        let keys = changed.written.keys();
        facts.keys.extend_from_slice(&keys);
        for node in &self.nodes {
            for key in &keys {
                self.identity.look_up(*node, key).await?;
            }
        }
        Ok(changed.delivery)
    }

    /// Compares the answers of each node with the source, for the keys that were changed in this phase.
    async fn compare(&self, facts: &mut Facts) -> Told {
        let mut seen = HashSet::new();
        let keys: Vec<_> = std::mem::take(&mut facts.keys).into_iter().filter(|key| seen.insert(key.clone())).collect();
        self.identity.settled().await;
        let delivered = |node: &Node| node.is_linked() && node.cache.status().journal == 0;
        self.until("every journal is empty", || self.identity.nodes.iter().all(delivered)).await?;
        for node in &self.nodes {
            let differing = self.identity.differing(*node, &keys).await?;
            if let Some(first) = differing.first() {
                let (node, count) = (node + 1, differing.len());
                facts.problem(format!("node {node} and the source differ in {count} keys, the first: {first}"));
            }
        }
        Ok(())
    }
}
