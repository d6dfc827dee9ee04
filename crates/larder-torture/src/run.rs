//! A run from beginning to end: sets everything up, makes the faults, and ends with the first impossible answer, or when everything has come
//! to rest.

use crate::deployment::Deployment;
use crate::failure::Failure;
use crate::faults::{
    BreakingCluster, BreakingPostgres, BreakingRedis, BreakingSentinel, Deck, Maker, Network, To, Upkeep,
};
use crate::output;
use crate::plan::{Connector, Options, Plan};
use crate::protocol::{Order, now};
use crate::report::{self, Summary};
use crate::stage::{Served, Stage, problem};
use crate::witness::{self, News, Shared, Word};
use crate::writers::WRITERS;
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
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
    async fn play(&mut self, plan: &Plan, shown: &ProgressBar) -> Result<Ending, Failure> {
        let (stop, stopped) = watch::channel(false);
        let mut streams = JoinSet::new();
        let Served { redis, certificates, primary, pooler } = &self.served;
        let (crew, guard, news) = (&self.crew, &self.guard, &self.news);
        let lull = Lull { hits: plan.hits_between, shared: Some(self.shared.clone()) };
        let deck = || Deck::new(&plan.faults_of(plan.connector), To::Server, plan.calm.clone(), plan.seed);
        let about = |of| About { of, connector: plan.connector, lull: lull.clone(), news: news.clone() };
        match redis {
            None => {}
            Some(Deployment::One(server)) => {
                let breaking = BreakingRedis::new(server.clone(), certificates.clone(), crew.clone(), guard.clone());
                streams.spawn(stream(breaking, about("Redis"), deck(), stopped.clone()));
            }
            Some(Deployment::Watched(watched)) => {
                let breaking = BreakingSentinel::new(watched.clone(), crew.clone(), guard.clone());
                streams.spawn(stream(breaking, about("Redis"), deck(), stopped.clone()));
            }
            Some(Deployment::Cluster(cluster)) => {
                let breaking = BreakingCluster::new(cluster.clone(), crew.clone(), guard.clone());
                streams.spawn(stream(breaking, about("cluster"), deck(), stopped.clone()));
            }
        }
        if let Some(primary) = primary {
            let breaking = BreakingPostgres::new(primary.clone(), pooler.clone(), crew.clone(), guard.clone());
            let deck =
                Deck::new(&plan.faults_of(Connector::Postgres), To::Server, plan.calm.clone(), plan.seed ^ 0xDA7A);
            streams.spawn(stream(breaking, about("PostgreSQL"), deck, stopped.clone()));
            let deck = Deck::new(&plan.faults, To::Upkeep, UPKEEP, plan.seed ^ 0x70B5);
            let upkeep = Upkeep::new(primary.clone());
            let about = About { lull: Lull::none(), ..about("tables") };
            streams.spawn(stream(upkeep, about, deck, stopped.clone()));
        }
        let network = Network::new(crew.clone(), pooler.clone());
        let deck = Deck::new(&plan.faults, To::Network, plan.calm.clone(), plan.seed ^ 0x5EED);
        streams.spawn(stream(network, about("network"), deck, stopped));

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
        leaks.extend(self.served.leftovers(&self.crew).await?);
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

/// What must happen between two faults, however long that takes.
#[derive(Clone)]
struct Lull {
    hits: u64,
    shared: Option<Shared>,
}

impl Lull {
    /// Nothing has to happen.
    fn none() -> Self {
        Self { hits: 0, shared: None }
    }

    async fn pass(&self) {
        let Some(shared) = &self.shared else { return };
        let enough = witness::lock(shared).hits + self.hits;
        while witness::lock(shared).hits < enough {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What is common to all faults of a stream.
struct About {
    /// What the faults happen to, for people.
    of: &'static str,
    connector: Connector,
    lull: Lull,
    news: UnboundedSender<News>,
}

/// Makes faults of something one after the other, with pauses between, until it is told to stop. Each fault is undone before the next, and before the end.
async fn stream(
    maker: impl Maker,
    about: About,
    mut deck: Deck,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    let About { of, connector, lull, news } = about;
    let mut before = "it was the first".to_owned();
    while let Some((calm, kind)) = deck.next() {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            ((), ()) = async { tokio::join!(tokio::time::sleep(calm), lull.pass()) } => {}
        }
        let begun = now();
        if kind.loses_data(connector) {
            let _ = news.send(News::LosesFrom(begun));
        }
        let said = maker
            .make(kind, &mut deck.rng)
            .await
            .map_err(|error| format!("the fault `{kind}` could not be made ({before}): {error}"))?;
        let ended = now();
        if kind.loses_data(connector) {
            let _ = news.send(News::LossOver(ended));
        }
        before = format!("after `{kind}` {said}");
        let _ = news.send(News::Fault { kind, said: format!("({of}) {said}"), begun, ended });
    }
    Ok(())
}
