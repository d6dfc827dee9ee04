//! `larder torture`: nodes that read, load, change and forget, while everything goes wrong that can, and a checker that knows
//! the truth.
//!
//! ```text
//!   coordinator ── server, proxies, faults by the seed            torture.rs, faults.rs
//!     │    └────── witness: hears everything, has it judged        witness.rs ── checker.rs ── truth.rs, demands.rs
//!   crew ───────── one process per node, each behind a proxy       crew.rs, protocol.rs
//!     │
//!   node ───────── caches, many tasks, callers that go away        node.rs, node/workload.rs
//!     │
//!   source ─────── SQLite, with every state there ever was         source.rs, objects.rs
//! ```
//!
//! The truth is in the source's file, so it survives whoever is killed. What was found is told as the shortest history there is, and
//! the command to run it again; the schedule of faults and what each task does come from the seed, how they meet does not.

mod account;
mod checker;
mod crew;
mod demands;
mod faults;
mod leftovers;
pub(crate) mod node;
mod objects;
mod protocol;
mod report;
mod source;
mod truth;
mod witness;

use crate::demo::Connector;
use crate::failure::Failure;
use crate::output;
use clap::Args;
use crew::Crew;
use faults::{Breaking, Deck, FaultKind, Maker, Network, To};
use indicatif::ProgressBar;
use larder::protection::Protection;
use larder_testing::proxy::Proxy;
use larder_testing::server::{Server, ServerBinary, ServerOptions};
use objects::Kind;
use protocol::{Order, Setup, now};
use report::Summary;
use source::Database;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinSet;
use witness::{News, Shared, Word};

/// How long nodes may take to come to rest, and to read everything, once the faults are over.
const REST: Duration = Duration::from_secs(60);

/// What `larder torture` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where objects are kept: on a server that is started for this, or in the memory of one process
    #[arg(long, value_enum, default_value = "redis")]
    connector: Connector,
    /// How long faults are made
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// `all`, `none`, or a list, such as `kill,stop`; with --without those by which it shows, otherwise all.
    /// A wrong one is answered with what there is
    #[arg(long, value_name = "LIST")]
    faults: Option<String>,
    /// What the schedule of faults and the workload come from; otherwise random, and printed
    #[arg(long)]
    seed: Option<u64>,
    /// How many processes [default: 3, in memory 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: Option<u32>,
    /// How many tasks on each [default: 16, in memory 48]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=99))]
    tasks: Option<u32>,
    /// Switches off one of the things that the promises rest on, to see that this is found: fence, ticket, journal, version, epoch, history or
    /// validate
    #[arg(long, value_name = "PROTECTION")]
    without: Option<String>,
    /// The server program to start, instead of the first redis-server or valkey-server found
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a run is, once all that was left open is decided.
#[derive(Clone, Debug)]
struct Plan {
    connector: Connector,
    time: Duration,
    faults: Vec<FaultKind>,
    seed: u64,
    nodes: u32,
    tasks: u32,
    without: Option<Protection>,
    server: Option<PathBuf>,
    /// The command to run it again.
    again: String,
}

/// The protections that the memory connector has.
const IN_MEMORY: [Protection; 4] = [Protection::Fence, Protection::Ticket, Protection::Version, Protection::Epoch];

/// The faults by which the loss of a protection shows soonest.
fn revealing(protection: Protection) -> Vec<FaultKind> {
    match protection {
        Protection::Journal => vec![FaultKind::Drop, FaultKind::Stop, FaultKind::Cancel],
        Protection::History => vec![FaultKind::Snapshot, FaultKind::Cancel],
        _ => vec![FaultKind::Cancel],
    }
}

impl Options {
    fn plan(self) -> Result<Plan, Failure> {
        let without = match &self.without {
            None => None,
            Some(name) => {
                let known = Protection::ALL.map(Protection::name).join(", ");
                let found = Protection::ALL.into_iter().find(|protection| protection.name() == name);
                Some(found.ok_or_else(|| {
                    Failure::Usage(format!("--without: there is no protection `{name}`; there are {known}"))
                })?)
            }
        };
        let memory = self.connector == Connector::Memory;
        if memory && let Some(protection) = without.filter(|protection| !IN_MEMORY.contains(protection)) {
            let (name, known) = (protection.name(), IN_MEMORY.map(Protection::name).join(", "));
            return Err(Failure::Usage(format!(
                "--without: the memory connector does not need `{name}`, as there is no server that could fail; it has {known}"
            )));
        }
        if memory && self.nodes.is_some_and(|nodes| nodes > 1) {
            return Err(Failure::Usage(
                "--nodes: the memory connector promises nothing to other processes, so there can be only one"
                    .to_owned(),
            ));
        }
        if memory && self.server.is_some() {
            return Err(Failure::Usage("--server is for --connector redis".to_owned()));
        }
        let mut faults = match (&self.faults, without) {
            (Some(list), _) => faults::parse(list).map_err(|error| Failure::Usage(format!("--faults: {error}")))?,
            (None, Some(protection)) => revealing(protection),
            (None, None) => FaultKind::ALL.to_vec(),
        };
        if memory {
            let there: Vec<FaultKind> =
                faults.iter().copied().filter(|fault| FaultKind::WITHOUT_SERVER.contains(fault)).collect();
            if there.is_empty() && !faults.is_empty() {
                return Err(Failure::Usage(
                    "--faults: without a server there are only `clients` and `cancel`".to_owned(),
                ));
            }
            faults = there;
        }
        // Fewer digits are easier to type.
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
        let nodes = self.nodes.unwrap_or(if memory { 1 } else { 3 });
        let tasks = self.tasks.unwrap_or(if memory { 48 } else { 16 });
        let mut again = format!(
            "larder torture --connector {} --seconds {} --seed {seed} --nodes {nodes} --tasks {tasks}",
            if memory { "memory" } else { "redis" },
            self.seconds
        );
        if let Some(list) = &self.faults {
            again += &format!(" --faults {}", list.replace(' ', ""));
        }
        if let Some(protection) = without {
            again += &format!(" --without {}", protection.name());
        }
        if let Some(path) = &self.server {
            again += &format!(" --server {}", path.display());
        }
        Ok(Plan {
            connector: self.connector,
            time: Duration::from_secs(self.seconds),
            faults,
            seed,
            nodes,
            tasks,
            without,
            server: self.server,
            again,
        })
    }
}

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

fn problem(error: impl std::fmt::Display) -> Failure {
    Failure::Problem(error.to_string())
}

/// Everything that ends with a run.
struct Stage {
    server: Option<Arc<Server>>,
    crew: Arc<Crew>,
    shared: Shared,
    news: UnboundedSender<News>,
    words: UnboundedReceiver<Word>,
    // The last to go: the source is in it.
    _folder: tempfile::TempDir,
}

/// How a run has ended.
enum Ending {
    Clean,
    /// An impossible answer, and its history.
    Found {
        stale: bool,
        history: Vec<String>,
    },
    /// Something that should not be there, or does not end.
    Leaks(Vec<String>),
}

async fn torture(plan: &Plan, json: bool) -> Result<Summary, Failure> {
    let begun = now();
    let mut stage = Stage::set(plan, begun).await?;
    let shown = if json {
        ProgressBar::hidden()
    } else {
        crate::progress::bar(plan.time.as_secs(), "{elapsed:>4} of {len}s {wide_bar} {msg}")
    };
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
        let folder = tempfile::Builder::new().prefix("larder-torture-").tempdir().map_err(problem)?;
        let path = folder.path().join("source.sqlite");
        let mut database = Database::open(&path).map_err(problem)?;
        seed(&mut database).map_err(problem)?;
        let mut proxies = Vec::new();
        let server = match plan.connector {
            Connector::Memory => None,
            Connector::Redis => {
                let binary = match &plan.server {
                    Some(path) => ServerBinary::at(path).map_err(problem)?,
                    None => larder_testing::server::required().map_err(problem)?.remove(0),
                };
                let server = Server::start(&binary, ServerOptions::default().persistent()).await.map_err(problem)?;
                for _ in 0..plan.nodes {
                    proxies.push(Proxy::start(&server).await.map_err(problem)?);
                }
                Some(Arc::new(server))
            }
        };
        let setup = Setup {
            node: 0,
            place: 0,
            seed: plan.seed,
            tasks: plan.tasks,
            socket: None,
            source: path,
            without: plan.without.map(|protection| protection.name().to_owned()),
            cancel: plan.faults.contains(&FaultKind::Cancel),
        };
        let shared = Shared::default();
        let (news, inbox) = mpsc::unbounded_channel();
        let (said, words) = mpsc::unbounded_channel();
        witness::listen(database, begun, server.is_some(), inbox, shared.clone(), said).map_err(problem)?;
        let crew = Arc::new(Crew::new(setup, plan.nodes as usize, proxies, news.clone()));
        crew.start().await.map_err(problem)?;
        Ok(Self { server, crew, shared, news, words, _folder: folder })
    }

    async fn play(&mut self, plan: &Plan, shown: &ProgressBar) -> Result<Ending, Failure> {
        let (stop, stopped) = watch::channel(false);
        let mut streams = JoinSet::new();
        if let Some(server) = &self.server {
            let breaking = Breaking::new(server.clone(), self.crew.clone());
            let deck = Deck::new(&plan.faults, To::Server, plan.seed);
            let (news, stopped) = (self.news.clone(), stopped.clone());
            streams.spawn(stream(breaking, deck, stopped, news));
        }
        let network = Network::new(self.crew.clone());
        let deck = Deck::new(&plan.faults, To::Network, plan.seed ^ 0x5EED);
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
        if let Some(server) = &self.server {
            leaks.extend(leftovers::find(server).await.map_err(problem)?);
        }
        self.crew.dismiss().await;
        // What the nodes have said last is still on its way.
        tokio::time::sleep(Duration::from_millis(200)).await;
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

    /// Waits until so many nodes have carried out an order.
    async fn done(&mut self, order: Order, nodes: usize, leaks: &mut Vec<String>) -> Result<Option<Ending>, Failure> {
        let mut left = nodes;
        let deadline = tokio::time::Instant::now() + REST;
        while left > 0 {
            match tokio::time::timeout_at(deadline, self.words.recv()).await {
                Err(_) => {
                    leaks.push(format!(
                        "{left} nodes have not done within {} s what they were told: {order:?}",
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

/// Whether a word of the witness ends the run.
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

/// Makes faults one after the other, with some calm between, until it is told to stop; each is undone before that.
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

/// What there is before anybody comes.
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
