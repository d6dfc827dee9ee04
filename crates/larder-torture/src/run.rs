//! A run from beginning to end: sets everything up, makes the faults, and ends with the first impossible answer, or when everything has come
//! to rest.

use crate::crew::Crew;
use crate::failure::Failure;
use crate::faults::{BreakingPostgres, BreakingRedis, Deck, FaultKind, Maker, Network, To, Upkeep};
use crate::guard::Guard;
use crate::ledger::{self, Ledger};
use crate::node;
use crate::objects::Kind;
use crate::plan::{Connector, Options, Plan};
use crate::protocol::{Order, Setup, Store, Truth, now};
use crate::report::{self, Summary};
use crate::source::{self, Database};
use crate::witness::{self, News, Record, Shared, Word};
use crate::writers::{WRITERS, Writers};
use crate::{leftovers, output, postgres};
use indicatif::{ProgressBar, ProgressStyle};
use larder_testing::postgres::PostgresServer;
use larder_testing::proxy::Proxy;
use larder_testing::server::{Server, ServerBinary, ServerOptions};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long nodes may take for each order after the faults are over.
const REST: Duration = Duration::from_secs(60);

/// The pause before the tables are turned and swept again, in ms.
const UPKEEP: Range<u64> = 0..150;

/// Runs to the end, or to the first impossible answer.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    let json = options.json;
    let plan = options.plan()?;
    let summary = torture(&plan, json).await?;
    if json {
        output::line(serde_json::to_string_pretty(&summary)?);
    } else {
        output::line(&summary);
    }
    Ok(if summary.clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The progress of a run, on stderr. Nothing is shown if stderr is not a terminal.
fn bar(seconds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed:>4} of {len}s {wide_bar} {msg}");
    // The template is a constant.
    ProgressBar::new(seconds).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn problem(error: impl std::fmt::Display) -> Failure {
    Failure::Problem(error.to_string())
}

/// The server of a run.
enum Served {
    Nowhere,
    Redis(Arc<Server>),
    Postgres(Arc<PostgresServer>),
}

impl Served {
    /// Starts the server, and tells the guard.
    async fn start(plan: &Plan, guard: &Guard) -> Result<Self, Failure> {
        Ok(match plan.connector {
            Connector::Memory if !plan.feed => Self::Nowhere,
            Connector::Redis => {
                let binary = match &plan.server {
                    Some(path) => ServerBinary::at(path).map_err(problem)?,
                    None => larder_testing::server::required().map_err(problem)?.remove(0),
                };
                let server = Server::start(&binary, ServerOptions::default().persistent()).await.map_err(problem)?;
                guard.folder_of(server.socket());
                guard.server(server.pid());
                Self::Redis(Arc::new(server))
            }
            Connector::Memory | Connector::Postgres => {
                let server = postgres::start(plan).await.map_err(problem)?;
                guard.folder(server.socket());
                guard.server(server.pid());
                Self::Postgres(Arc::new(server))
            }
        })
    }

    /// A proxy in front of the server. `None`: there is no server.
    async fn proxy(&self) -> std::io::Result<Option<Proxy>> {
        match self {
            Self::Nowhere => Ok(None),
            Self::Redis(server) => Proxy::start(&**server).await.map(Some),
            Self::Postgres(server) => Proxy::start(&*postgres::socket(server)).await.map(Some),
        }
    }

    /// Where nodes store. The address is set for each node.
    fn store(&self, plan: &Plan) -> Store {
        match self {
            _ if plan.connector == Connector::Memory => Store::Memory,
            Self::Nowhere => Store::Memory,
            Self::Redis(_) => Store::Redis(PathBuf::new()),
            Self::Postgres(_) => Store::Postgres(String::new()),
        }
    }

    /// Whether one node can read what another stores.
    fn is_shared(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }

    /// What is left on the server that should not be there.
    async fn leftovers(&self) -> Result<Vec<String>, Failure> {
        match self {
            Self::Nowhere => Ok(Vec::new()),
            Self::Redis(server) => leftovers::find(server).await.map_err(problem),
            Self::Postgres(server) => leftovers::find_in_postgres(server).await.map_err(problem),
        }
    }
}

/// Everything that a run has set up, and that ends with the run.
struct Stage {
    server: Served,
    writers: Option<Writers>,
    crew: Arc<Crew>,
    shared: Shared,
    news: UnboundedSender<News>,
    words: UnboundedReceiver<Word>,
    // The folder of the source.
    _folder: tempfile::TempDir,
    // The last field: the guard must be dropped after everything that it guards.
    guard: Arc<Guard>,
}

/// How a run has ended.
pub(crate) enum Ending {
    Clean,
    /// There was an impossible answer.
    Found {
        stale: bool,
        history: Vec<String>,
    },
    /// Keys were left that should not be there, or calls did not end.
    Leaks(Vec<String>),
}

async fn torture(plan: &Plan, json: bool) -> Result<Summary, Failure> {
    let begun = now();
    let mut stage = Stage::set(plan, begun).await?;
    let shown = if json { ProgressBar::hidden() } else { bar(plan.time.as_secs()) };
    let ended = tokio::select! {
        ended = stage.play(plan, &shown) => ended,
        _ = tokio::signal::ctrl_c() => Err(Failure::Problem("interrupted".to_owned())),
    };
    stage.crew.dismiss().await;
    shown.finish_and_clear();
    let ending = ended?;
    let progress = witness::lock(&stage.shared);
    Ok(Summary::of(plan, &progress, ending, (now() - begun) as f64 / 1e9))
}

impl Stage {
    async fn set(plan: &Plan, begun: u64) -> Result<Self, Failure> {
        let guard = Arc::new(Guard::start().map_err(problem)?);
        let folder = tempfile::Builder::new().prefix("larder-torture-").tempdir().map_err(problem)?;
        guard.folder(folder.path());
        let server = Served::start(plan, &guard).await?;
        let (source, record) = match &server {
            Served::Postgres(server) if plan.feed => {
                let dsn = server.dsn();
                ledger::set_up(&dsn).await.map_err(problem)?;
                let record = Record::Ledger(Ledger::new(dsn.clone()), tokio::runtime::Handle::current());
                (Truth::Ledger { feed: dsn.clone(), dsn }, record)
            }
            _ => {
                let path = folder.path().join("source.sqlite");
                let mut database = Database::open(&path).map_err(problem)?;
                seed(&mut database).map_err(problem)?;
                (Truth::File(path), Record::File(database))
            }
        };
        let mut proxies = Vec::new();
        for _ in 0..plan.nodes {
            let Some(proxy) = server.proxy().await.map_err(problem)? else { break };
            guard.folder_of(proxy.socket());
            proxies.push(proxy);
        }
        let setup = Setup {
            node: 0,
            place: 0,
            places: plan.nodes,
            seed: plan.seed,
            tasks: plan.tasks,
            readers: plan.readers,
            store: server.store(plan),
            source,
            without: plan.without.map(|protection| protection.name().to_owned()),
            cancel: plan.faults.contains(&FaultKind::Cancel),
        };
        let shared = Shared::default();
        let (news, inbox) = mpsc::unbounded_channel();
        let (said, words) = mpsc::unbounded_channel();
        witness::listen(record, begun, server.is_shared(), inbox, shared.clone(), said).map_err(problem)?;
        let writers = match (&setup.source, plan.connector) {
            (Truth::File(_), _) => None,
            (Truth::Ledger { dsn, .. }, connector) => {
                let deadline = if connector == Connector::Memory { node::DEADLINE } else { Duration::ZERO };
                Some(Writers::begin(dsn.clone(), deadline, plan.seed, news.clone()))
            }
        };
        let crew = Arc::new(Crew::new(setup, plan.nodes as usize, proxies, news.clone()));
        crew.start().await.map_err(problem)?;
        Ok(Self { server, writers, crew, shared, news, words, _folder: folder, guard })
    }

    async fn play(&mut self, plan: &Plan, shown: &ProgressBar) -> Result<Ending, Failure> {
        let (stop, stopped) = watch::channel(false);
        let mut streams = JoinSet::new();
        let deck = Deck::new(&plan.faults, To::Server, plan.calm.clone(), plan.seed);
        match &self.server {
            Served::Nowhere => {}
            Served::Redis(server) => {
                let breaking = BreakingRedis::new(server.clone(), self.crew.clone(), self.guard.clone());
                streams.spawn(stream(breaking, deck, stopped.clone(), self.news.clone()));
            }
            Served::Postgres(server) => {
                let breaking = BreakingPostgres::new(server.clone(), self.crew.clone(), self.guard.clone());
                streams.spawn(stream(breaking, deck, stopped.clone(), self.news.clone()));
                let deck = Deck::new(&plan.faults, To::Upkeep, UPKEEP, plan.seed ^ 0x70B5);
                streams.spawn(stream(Upkeep::new(server.clone()), deck, stopped.clone(), self.news.clone()));
            }
        }
        let network = Network::new(self.crew.clone());
        let deck = Deck::new(&plan.faults, To::Network, plan.calm.clone(), plan.seed ^ 0x5EED);
        let news = self.news.clone();
        streams.spawn(stream(network, deck, stopped, news));

        let end = tokio::time::Instant::now() + plan.time;
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                word = self.words.recv() => if let Some(ending) = heard(word)? { return Ok(ending) },
                _ = ticks.tick() => {
                    shown.set_position(plan.time.saturating_sub(end - tokio::time::Instant::now()).as_secs());
                    shown.set_message(report::line(&witness::lock(&self.shared)));
                }
                () = tokio::time::sleep_until(end) => break,
            }
        }
        shown.set_message("the faults are over; waiting for everything to come to rest");
        let _ = stop.send(true);
        while !streams.is_empty() {
            tokio::select! {
                Some(ended) = streams.join_next() => ended.map_err(problem)?.map_err(Failure::Problem)?,
                word = self.words.recv() => if let Some(ending) = heard(word)? { return Ok(ending) },
            }
        }
        if let Some(writers) = &mut self.writers {
            writers.end().await;
        }
        let mut leaks = Vec::new();
        for order in [Order::Settle, Order::Sweep, Order::Prune] {
            let places = if matches!(order, Order::Prune) { 0..1 } else { 0..self.crew.places() };
            for place in places.clone() {
                self.crew.order(place, order).await;
            }
            if let Some(ending) = self.done(order, places.len(), &mut leaks).await? {
                return Ok(ending);
            }
        }
        leaks.extend(self.server.leftovers().await?);
        self.crew.dismiss().await;
        // The nodes' last reports may still be on their way.
        tokio::time::sleep(Duration::from_millis(200)).await;
        if self.writers.is_some() {
            let _ = self.news.send(News::Killed { node: WRITERS });
            let _ = self.news.send(News::Ends { node: WRITERS, words: String::new() });
        }
        let _ = self.news.send(News::Finish);
        loop {
            match self.words.recv().await {
                Some(Word::Finished) => break,
                word => {
                    if let Some(ending) = heard(word)? {
                        return Ok(ending);
                    }
                }
            }
        }
        Ok(if leaks.is_empty() { Ending::Clean } else { Ending::Leaks(leaks) })
    }

    /// Waits until this many nodes have carried out an order.
    async fn done(&mut self, order: Order, nodes: usize, leaks: &mut Vec<String>) -> Result<Option<Ending>, Failure> {
        let mut left = nodes;
        let deadline = tokio::time::Instant::now() + REST;
        while left > 0 {
            match tokio::time::timeout_at(deadline, self.words.recv()).await {
                Err(_) => {
                    leaks.push(format!(
                        "{left} nodes have not carried out an order within {} s: {order:?}",
                        REST.as_secs()
                    ));
                    return Ok(Some(Ending::Leaks(std::mem::take(leaks))));
                }
                Ok(Some(Word::Done { node, result })) => {
                    left -= 1;
                    if let Err(why) = result {
                        leaks.push(format!("node {node}: {why}"));
                    }
                }
                Ok(word) => {
                    if let Some(ending) = heard(word)? {
                        return Ok(Some(ending));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// How a message of the witness ends the run. `None`: the run goes on.
fn heard(word: Option<Word>) -> Result<Option<Ending>, Failure> {
    match word {
        Some(Word::Found { violation, history }) => {
            Ok(Some(Ending::Found { stale: violation.fault.is_stale(), history }))
        }
        Some(Word::Trouble(why)) => Err(Failure::Problem(why)),
        None => Err(Failure::Problem("the witness has ended".to_owned())),
        Some(Word::Done { .. } | Word::Finished) => Ok(None),
    }
}

/// Makes faults one after the other, with pauses between, until it is told to stop. Each fault is undone before the next, and before the end.
async fn stream(
    maker: impl Maker,
    mut deck: Deck,
    mut stopped: watch::Receiver<bool>,
    news: UnboundedSender<News>,
) -> Result<(), String> {
    while let Some((calm, kind)) = deck.next() {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            () = tokio::time::sleep(calm) => {}
        }
        let begun = now();
        if kind.loses_data() {
            let _ = news.send(News::LosesFrom(begun));
        }
        let said = maker
            .make(kind, &mut deck.rng)
            .await
            .map_err(|error| format!("the fault `{kind}` could not be made: {error}"))?;
        let ended = now();
        if kind.loses_data() {
            let _ = news.send(News::LossOver(ended));
        }
        let _ = news.send(News::Fault { kind, said, begun, ended });
    }
    Ok(())
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
