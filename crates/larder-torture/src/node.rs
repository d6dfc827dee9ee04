//! One node: a process with its own connection and caches and many tasks, so that it can be killed. The node reads orders from stdin, and
//! writes reports of everything that it has seen to stdout. When its stdin closes, the node ends.

mod callers;
mod follower;
mod recorder;
mod workload;

use super::objects::{Instance, Kind, Policy, Subject};
use super::protocol::{self, Event, Order, Report, Setup, Store, Truth, now};
use super::source::Source;
use crate::failure::Failure;
use crate::plan;
use clap::Args;
use follower::Following;
use larder::breaker::{Breaker, BreakerOptions};
use larder::connector::memory::{Memory, MemoryOptions};
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::connector::redis::{Address, Redis, RedisOptions};
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::protection::Protection;
use larder::{Cache, Connector, Entry, LoadOptions, OptionError, Schema};
use recorder::{Recorder, Taken};
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use workload::Workload;

pub(crate) use workload::{INSTANCES, POLICIES};

/// The prefix of all keys on the server.
pub(crate) const PREFIX: &str = "torture";

/// The max age of instances. It bounds how long objects stay that a killed node should have invalidated. Policies have no ages.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(6);
const LAST_USE_AGE: Duration = Duration::from_secs(3);

/// How long after its max age an instance is kept, to be served while its successor is loaded.
pub(crate) const SERVE_EXPIRED: Duration = Duration::from_secs(2);

/// How long one operation on the server may take. Statements of PostgreSQL do more work, and wait for locks.
pub(crate) fn operation_timeout(connector: plan::Connector) -> Duration {
    match connector {
        plan::Connector::Memory | plan::Connector::Redis => Duration::from_millis(100),
        plan::Connector::Postgres => Duration::from_millis(500),
    }
}

/// How often a node asks the feed, and for how long after that it serves what it has in memory.
const POLL: Duration = Duration::from_millis(25);
pub(crate) const DEADLINE: Duration = Duration::from_millis(600);

/// How often a node prunes a database.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// How often a node sends a report.
const TELL_EVERY: Duration = Duration::from_millis(25);

/// How long a node may take to come to rest.
const REST: Duration = Duration::from_secs(20);

/// The arguments of a node: its [`Setup`] as JSON.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    setup: String,
}

/// The caches of this process.
pub(super) struct Caches {
    pub(super) instances: Cache<Instance>,
    pub(super) policies: Cache<Policy>,
    server: Server,
}

/// What the caches of this process are on.
enum Server {
    Memory,
    /// This process, following a feed.
    Feed(Postgres, Feed),
    Redis(Redis),
    Postgres(Postgres),
}

/// The breaker closes sooner than a service would want, so that more happens in a run.
fn hasten(breaker: &mut BreakerOptions) {
    breaker.open = Duration::from_millis(200);
    breaker.open_max = Duration::from_millis(400);
    breaker.ramp = Duration::from_millis(300);
}

fn options(dsn: &str, node: u32) -> Result<PostgresOptions, OptionError> {
    let mut options = PostgresOptions::from_url(dsn)?
        .operation_timeout(operation_timeout(plan::Connector::Postgres))
        // One node in three sends every statement with its text.
        .prepared(!node.is_multiple_of(3))
        .prune_interval(PRUNE_EVERY);
    hasten(&mut options.breaker);
    Ok(options)
}

impl Server {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        Ok(match (&setup.store, &setup.source) {
            (Store::Memory, Truth::File(_)) => Self::Memory,
            (Store::Memory, Truth::Ledger { feed, .. }) => {
                let postgres = Postgres::open(options(feed, setup.node)?)?;
                let options = FeedOptions::new().poll(POLL);
                let feed = Feed::open(&postgres, options)?;
                Self::Feed(postgres, feed)
            }
            (Store::Redis(socket), _) => {
                let mut options = RedisOptions::new(Address::Unix(socket.clone()))
                    .prefix(PREFIX.to_owned())
                    .operation_timeout(operation_timeout(plan::Connector::Redis));
                hasten(&mut options.breaker);
                Self::Redis(Redis::open(options)?)
            }
            (Store::Postgres(dsn), _) => Self::Postgres(Postgres::open(options(dsn, setup.node)?)?),
        })
    }

    fn breaker(&self) -> Option<&Breaker> {
        match self {
            Self::Memory => None,
            Self::Redis(redis) => Some(redis.breaker()),
            Self::Feed(postgres, _) | Self::Postgres(postgres) => Some(postgres.breaker()),
        }
    }

    fn connector(&self, schema: Schema) -> Result<Arc<dyn Connector>, Box<dyn Error>> {
        Ok(match self {
            Self::Memory => Arc::new(Memory::open(schema, MemoryOptions::default())?),
            Self::Feed(_, feed) => {
                Arc::new(feed.memory(schema, MemoryOptions::default(), FollowOptions::new().deadline(DEADLINE))?)
            }
            Self::Redis(redis) => Arc::new(redis.connector(schema)?),
            Self::Postgres(postgres) => Arc::new(postgres.connector(schema)?),
        })
    }
}

impl Caches {
    fn open(setup: &Setup) -> Result<Self, Failure> {
        let refused = |error: Box<dyn Error>| Failure::Problem(error.to_string());
        let server = Server::open(setup).map_err(refused)?;
        let instances = open(setup.node, &server).map_err(refused)?;
        let policies = open(setup.node, &server).map_err(refused)?;
        Ok(Self { instances, policies, server })
    }

    pub(super) fn breaker(&self) -> Option<&Breaker> {
        self.server.breaker()
    }

    pub(super) fn journal(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Instance => self.instances.status().journal,
            Kind::Policy => self.policies.status().journal,
        }
    }

    /// How often the cache was cleared, truncates not counted.
    fn resets(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Instance => self.instances.stats().resets.get(),
            Kind::Policy => self.policies.stats().resets.get(),
        }
    }

    pub(super) fn readable(&self) -> bool {
        self.instances.status().readable && self.policies.status().readable
    }

    /// Why the node is not at rest. `None`: it is at rest.
    fn unrest(&self) -> Option<String> {
        let in_flight = self.breaker().map_or(0, |breaker| breaker.snapshot().in_flight);
        let journal = self.journal(Kind::Instance) + self.journal(Kind::Policy);
        if !self.readable() {
            Some("a cache cannot be read".to_owned())
        } else if journal > 0 {
            Some(format!("{journal} invalidations are in the journal"))
        } else if in_flight > 0 {
            Some(format!("{in_flight} permits are given out"))
        } else {
            None
        }
    }
}

/// Every second node has all options for loads. It shares its caches with nodes that have none.
fn loading(node: u32) -> LoadOptions {
    if !node.is_multiple_of(2) {
        return LoadOptions::default();
    }
    LoadOptions::new()
        .lease(Duration::from_millis(300))
        .refresh_ahead(Duration::from_secs(2))
        .serve_expired(SERVE_EXPIRED)
        .soft_timeout(Duration::from_millis(30))
        .hard_timeout(Duration::from_millis(1_500))
        .negative_age(Duration::from_secs(2))
        .jitter(0.3)
}

fn open<E: Subject>(node: u32, server: &Server) -> Result<Cache<E>, Box<dyn Error>> {
    let mut schema = Schema::of::<E>();
    if E::KIND == Kind::Instance {
        schema = schema.ages(MAX_AGE, LAST_USE_AGE).loading(loading(node));
    }
    Ok(Cache::new(server.connector(schema.clone())?, schema)?)
}

/// The name of a cache on the server.
pub(crate) fn cache_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Instance => Instance::CACHE,
        Kind::Policy => Policy::CACHE,
    }
}

/// Runs the node until stdin closes.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    let setup: Setup = serde_json::from_str(&options.setup).map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(name) = &setup.without {
        let protection = Protection::ALL.into_iter().find(|protection| protection.name() == name);
        protection.ok_or_else(|| Failure::Usage(format!("no protection is called {name}")))?.switch_off();
    }
    let caches = Arc::new(Caches::open(&setup)?);
    let (recorder, work) = Work::begin(setup, caches.clone())?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let obeying = async {
        while let Ok(Some(line)) = orders.next_line().await {
            let order: Order = serde_json::from_str(&line)?;
            if let Order::ByPrimary(only) = order {
                work.by_primary(only);
            } else {
                let result = obey(order, &work, &caches).await;
                recorder.record(|at| Event::Done { at, order, result });
            }
        }
        Ok::<_, serde_json::Error>(())
    };
    tokio::select! {
        obeyed = obeying => obeyed.map_err(|error| Failure::Usage(error.to_string()))?,
        told = tell(&recorder, &caches) => {
            told.map_err(|error| Failure::Problem(format!("the coordinator has gone: {error}")))?;
        }
    }
    // Tasks, loads and connections end with the process.
    std::process::exit(0)
}

/// What the tasks of this process do.
enum Work {
    Torture(Workload),
    Follow(Following),
}

impl Work {
    fn begin(setup: Setup, caches: Arc<Caches>) -> Result<(Arc<Recorder>, Self), Failure> {
        match setup.source.clone() {
            Truth::File(file) => {
                let source = Source::open(&file).map_err(|error| Failure::Problem(error.to_string()))?;
                let recorder = Arc::new(Recorder::new(workload::tasks(&setup)));
                Ok((recorder.clone(), Self::Torture(Workload::begin(setup, caches, source, recorder))))
            }
            Truth::Ledger { dsn, .. } => {
                let recorder = Arc::new(Recorder::new(follower::tasks(&setup)));
                Ok((recorder.clone(), Self::Follow(Following::begin(setup, &dsn, caches, recorder))))
            }
        }
    }

    fn by_primary(&self, only: bool) {
        if let Self::Torture(workload) = self {
            workload.by_primary(only);
        }
    }

    async fn end(&self) -> Result<(), String> {
        match self {
            Self::Torture(workload) => workload.end(REST).await,
            Self::Follow(following) => following.end(REST).await,
        }
    }

    fn own_up(&self) {
        if let Self::Torture(workload) = self {
            workload.own_up();
        }
    }

    async fn sweep(&self) {
        match self {
            Self::Torture(workload) => workload.sweep().await,
            Self::Follow(following) => following.sweep().await,
        }
    }
}

async fn obey(order: Order, work: &Work, caches: &Caches) -> Result<(), String> {
    match order {
        Order::ByPrimary(_) => Ok(()),
        Order::Settle => {
            work.end().await?;
            let deadline = tokio::time::Instant::now() + REST;
            while let Some(unrest) = caches.unrest() {
                if tokio::time::Instant::now() > deadline {
                    return Err(format!("{} s after the last operation, {unrest}", REST.as_secs()));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            work.own_up();
            Ok(())
        }
        Order::Sweep => {
            work.sweep().await;
            Ok(())
        }
        Order::Prune => {
            let deadline = tokio::time::Instant::now() + REST;
            loop {
                let pruned = async { caches.instances.prune().await.and(caches.policies.prune().await) };
                match pruned.await {
                    Ok(_) => return Ok(()),
                    Err(error) if tokio::time::Instant::now() > deadline => return Err(error.to_string()),
                    // A slow machine has opened the breaker, for a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
    }
}

/// Sends reports, again and again. Ends only with an error.
async fn tell(recorder: &Recorder, caches: &Caches) -> std::io::Result<()> {
    let mut stdout = tokio::io::stdout();
    let mut clearing = Clearing::default();
    loop {
        let begun = now();
        tokio::time::sleep(TELL_EVERY).await;
        recorder.late((now() - begun).saturating_sub(TELL_EVERY.as_nanos() as u64));
        // A clearing that begins after this is in the next report only. So this report must not claim to be complete beyond this time.
        let looked = now();
        clearing.look(recorder, caches);
        for kind in [Kind::Instance, Kind::Policy] {
            let asked = now();
            if caches.journal(kind) == 0 {
                recorder.record(|seen| Event::Empty { kind, asked, seen });
            }
        }
        let counts = recorder.counts(caches);
        let Taken { until, since, events, reads } = recorder.take();
        let until = until.min(looked);
        protocol::send(&mut stdout, &Report { until, since, events, counts, reads }).await?;
    }
}

/// Watches for caches that are cleared because the server's history is another one.
struct Clearing {
    looked: u64,
    /// For each cache, how often it had been cleared at the last look, and whether a clearing may still be under way.
    known: [(Kind, u64, bool); 2],
}

impl Default for Clearing {
    fn default() -> Self {
        Self { looked: now(), known: [(Kind::Instance, 0, false), (Kind::Policy, 0, false)] }
    }
}

impl Clearing {
    fn look(&mut self, recorder: &Recorder, caches: &Caches) {
        let since = std::mem::replace(&mut self.looked, now());
        for (kind, known, going_on) in &mut self.known {
            let resets = caches.resets(*kind);
            if resets != std::mem::replace(known, resets) || *going_on {
                let kind = *kind;
                recorder.record(|at| Event::Cleared { kind, since, at });
                *going_on = !caches.readable();
            }
        }
    }
}
