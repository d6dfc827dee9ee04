//! How soon a change that commits is known in the memory of a node, and what ten nodes cost the server: with polls alone, and where the database notifies
//! the nodes.

use crate::hung::quantile;
use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::postgres_bed::{Database, readable, told};
use crate::sample::{Sample, Shape, id};
use crate::testbed::{text, ticket};
use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::Postgres;
use larder::feed::{Feed, FeedOptions, FollowOptions, Wake};
use larder::{Cache, Schema, Stored};
use larder_testing::postgres::PostgresBinaries;
use std::sync::Arc;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
const NODES: usize = 10;

/// The pause between two polls of nodes that are notified. It is their fallback, so it may be longer.
const RARE: Duration = Duration::from_secs(1);

/// How many changes there are in a second at the most that a waker tells one by one.
const CHANGES: u32 = 20;

pub(crate) fn rows(binaries: &PostgresBinaries, suffix: &str) -> Group {
    let binaries = binaries.clone();
    let (median, last) = ("commit to memory, median", "commit to memory, p99");
    let two =
        ("commit to memory, one of two notified nodes, median", "commit to memory, one of two notified nodes, p99");
    let ten =
        ("commit to memory, one of ten notified nodes, median", "commit to memory, one of ten notified nodes, p99");
    let (idle, busy) = ("ten notified nodes, idle", "ten notified nodes, 20 changes a second");
    Group {
        name: format!("the feed, {suffix}"),
        rows: vec![
            Comparison::new(format!("postgres-feed-median/{suffix}"), median, "one poll interval", Bar::Most(0.7)),
            Comparison::new(format!("postgres-feed-p99/{suffix}"), last, "one poll interval", Bar::Most(1.4)),
            Comparison::new(format!("postgres-feed-polls/{suffix}"), "polls of ten nodes", "one core", Bar::Most(0.1)),
            Comparison::new(
                format!("postgres-feed-listen-median/{suffix}"),
                two.0,
                "one poll interval",
                Bar::Most(0.4),
            ),
            Comparison::new(format!("postgres-feed-listen-p99/{suffix}"), two.1, "one poll interval", Bar::Most(0.8)),
            Comparison::new(
                format!("postgres-feed-listen-ten-median/{suffix}"),
                ten.0,
                "one poll interval",
                Bar::Most(0.5),
            ),
            Comparison::new(
                format!("postgres-feed-listen-ten-p99/{suffix}"),
                ten.1,
                "one poll interval",
                Bar::Most(1.4),
            ),
            Comparison::new(format!("postgres-feed-listen-idle/{suffix}"), idle, "one core", Bar::Most(0.1)),
            Comparison::new(format!("postgres-feed-listen-busy/{suffix}"), busy, "one core", Bar::Open),
        ],
        contestants: Box::new(move |effort| {
            let bed = Database::start(&binaries, &[])?;
            let node = Node::of(&bed, &polls())?;
            let (samples, while_idle) = (effort.of(200, 60), effort.of(Duration::from_secs(5), Duration::from_secs(2)));
            let of_node = bed.clone();
            let arrival = Contestant::of_several([(median.to_owned(), "ms"), (last.to_owned(), "ms")], move || {
                let mut waits = (0..samples).map(|_| node.arrival(&of_node)).collect::<Result<Vec<_>, _>>()?;
                Ok(vec![quantile(&mut waits, 0.5), quantile(&mut waits, 0.99)])
            });
            // A server of its own: the node above polls, too.
            let bed = Database::start(&binaries, &[])?;
            let nodes = (0..NODES).map(|_| Node::of(&bed, &polls())).collect::<Result<Vec<_>, _>>()?;
            let polls = Contestant::new("polls of ten nodes", "ms/s", move || polled(&bed, &nodes, while_idle));
            let notified = |nodes: usize, names: (&'static str, &'static str)| {
                let (bed, nodes) = notified(&binaries, nodes)?;
                let (of_nodes, all) = (bed.clone(), nodes.clone());
                let arrival =
                    Contestant::of_several([(names.0.to_owned(), "ms"), (names.1.to_owned(), "ms")], move || {
                        // The last one is not the waker.
                        let node = all.last().ok_or("there is no node")?;
                        let mut waits = (0..samples).map(|_| node.arrival(&of_nodes)).collect::<Result<Vec<_>, _>>()?;
                        Ok(vec![quantile(&mut waits, 0.5), quantile(&mut waits, 0.99)])
                    });
                Ok::<_, String>((bed, nodes, arrival))
            };
            let (_, _, two) = notified(2, two)?;
            let (bed, nodes, ten) = notified(NODES, ten)?;
            let (of_busy, all) = (bed.clone(), nodes.clone());
            let idle = Contestant::new(idle, "ms/s", move || polled(&bed, &nodes, while_idle));
            let busy = Contestant::new(busy, "ms/s", move || changed(&of_busy, &all, while_idle));
            Ok(vec![
                arrival,
                polls,
                two,
                ten,
                idle,
                busy,
                Contestant::new("one poll interval", "ms", || Ok(POLL.as_secs_f64() * 1e3)),
                Contestant::new("one core", "ms/s", || Ok(1000.0)),
            ])
        }),
        varies: true,
    }
}

pub(crate) fn polls() -> FeedOptions {
    FeedOptions::new().poll(POLL)
}

/// A server, and nodes that it notifies.
fn notified(binaries: &PostgresBinaries, nodes: usize) -> Result<(Arc<Database>, Arc<Vec<Node>>), String> {
    let bed = Database::start(binaries, &[])?;
    let options = FeedOptions::new().poll(RARE).wake(Wake::Listen);
    let mut all = Vec::new();
    for at in 0..nodes {
        all.push(Node::of(&bed, &options)?);
        // The first one is the waker, and all of them listen before anything is measured.
        let wanted = at as f64 + 1.0;
        let listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'larder' \
            AND (query LIKE '%''waker''%' OR query LIKE 'WITH stirred%')";
        while bed.number(listening)? < wanted {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok((bed, Arc::new(all)))
}

/// A cache in memory that follows the feed.
pub(crate) struct Node {
    pub(crate) cache: Cache<Sample>,
    _postgres: Postgres,
}

impl Node {
    pub(crate) fn of(bed: &Database, options: &FeedOptions) -> Result<Self, String> {
        let postgres = bed.connect(1, 1)?;
        let schema = Schema::of::<Sample>();
        let cache = bed.clients.run(async {
            let feed = Feed::open(&postgres, options.clone()).map_err(text)?;
            let connector = feed
                .memory(schema.clone(), MemoryOptions::new(), FollowOptions::new().deadline(Duration::from_secs(20)))
                .map_err(text)?;
            let cache = Cache::new(Arc::new(connector), schema).map_err(text)?;
            readable(&cache).await?;
            Ok::<_, String>(cache)
        })?;
        Ok(Self { cache, _postgres: postgres })
    }

    /// How long a change needs from the answer of its commit to this node, in ms.
    fn arrival(&self, bed: &Database) -> Result<f64, String> {
        let session = bed.bare.first().ok_or("there is no session")?;
        bed.clients.run(async {
            let ticket = ticket(self.cache.clone()).await?;
            match self.cache.fill(Shape::of(300).object(1), ticket).await {
                Stored::Accepted => {}
                other => return Err(format!("a fill ended as {other:?}")),
            }
            // At any moment between two polls, and so long after the change before that a waker has nothing to hold back.
            tokio::time::sleep(POLL.mul_f64(1.1 + fastrand::f64())).await;
            let change = format!("SELECT larder.invalidate('sample', 'id', '{}')", id(1));
            session.batch_execute(&change).await.map_err(|error| told(&error))?;
            let begun = Instant::now();
            while self.cache.get(Sample::ID, id(1).as_str()).await.is_some() {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            Ok(begun.elapsed().as_secs_f64() * 1e3)
        })
    }
}

/// The processor time of the server in a second in which nothing changes, in ms.
fn polled(bed: &Database, nodes: &[Node], time: Duration) -> Result<f64, String> {
    let before = sessions(bed)?;
    std::thread::sleep(time);
    let after = sessions(bed)?;
    if !nodes.iter().all(|node| node.cache.status().readable) {
        return Err("a node does not poll any more".to_owned());
    }
    Ok(after.saturating_sub(before).as_secs_f64() * 1e3 / time.as_secs_f64())
}

/// The same while something changes 20 times a second.
fn changed(bed: &Database, nodes: &[Node], time: Duration) -> Result<f64, String> {
    let before = sessions(bed)?;
    let begun = Instant::now();
    while begun.elapsed() < time {
        bed.sql(&format!("SELECT larder.invalidate('sample', 'id', '{}')", id(1)))?;
        std::thread::sleep(Duration::from_secs(1) / CHANGES);
    }
    let (used, took) = (sessions(bed)?.saturating_sub(before), begun.elapsed());
    if !nodes.iter().all(|node| node.cache.status().readable) {
        return Err("a node does not poll any more".to_owned());
    }
    Ok(used.as_secs_f64() * 1e3 / took.as_secs_f64())
}

/// The processor time of all sessions.
fn sessions(bed: &Database) -> Result<Duration, String> {
    Ok(bed.server.session_cpu().map_err(text)?.values().sum())
}
