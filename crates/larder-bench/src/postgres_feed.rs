//! How soon a change that commits is known in the memory of a node, and what the polls of ten nodes cost the server.

use crate::hung::quantile;
use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::postgres_bed::{Database, readable, ticket, told};
use crate::sample::{Sample, Shape, id};
use crate::testbed::text;
use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::Postgres;
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::{Cache, Schema, Stored};
use larder_testing::postgres::PostgresBinaries;
use std::sync::Arc;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
const NODES: usize = 10;

pub(crate) fn rows(binaries: &PostgresBinaries, suffix: &str) -> Group {
    let binaries = binaries.clone();
    let (median, last) = ("commit to memory, median", "commit to memory, p99");
    Group {
        name: format!("the feed, {suffix}"),
        rows: vec![
            Comparison::new(format!("postgres-feed-median/{suffix}"), median, "one poll interval", Bar::Most(0.7)),
            Comparison::new(format!("postgres-feed-p99/{suffix}"), last, "one poll interval", Bar::Most(1.4)),
            Comparison::new(format!("postgres-feed-polls/{suffix}"), "polls of ten nodes", "one core", Bar::Most(0.1)),
        ],
        contestants: Box::new(move |effort| {
            let bed = Database::start(&binaries, &[])?;
            let node = Node::of(&bed)?;
            let (samples, while_idle) = (effort.of(200, 60), effort.of(Duration::from_secs(5), Duration::from_secs(2)));
            let of_node = bed.clone();
            let arrival = Contestant::of_several([(median.to_owned(), "ms"), (last.to_owned(), "ms")], move || {
                let mut waits = (0..samples).map(|_| node.arrival(&of_node)).collect::<Result<Vec<_>, _>>()?;
                Ok(vec![quantile(&mut waits, 0.5), quantile(&mut waits, 0.99)])
            });
            // A server of its own: the node above polls, too.
            let bed = Database::start(&binaries, &[])?;
            let nodes = (0..NODES).map(|_| Node::of(&bed)).collect::<Result<Vec<_>, _>>()?;
            let polls = Contestant::new("polls of ten nodes", "ms/s", move || polled(&bed, &nodes, while_idle));
            Ok(vec![
                arrival,
                polls,
                Contestant::new("one poll interval", "ms", || Ok(POLL.as_secs_f64() * 1e3)),
                Contestant::new("one core", "ms/s", || Ok(1000.0)),
            ])
        }),
        varies: true,
    }
}

/// A cache in memory that follows the feed.
pub(crate) struct Node {
    pub(crate) cache: Cache<Sample>,
    _postgres: Postgres,
}

impl Node {
    pub(crate) fn of(bed: &Database) -> Result<Self, String> {
        let postgres = bed.connect(1, 1)?;
        let schema = Schema::of::<Sample>();
        let cache = bed.clients.run(async {
            let feed = Feed::open(&postgres, FeedOptions::new().poll(POLL)).map_err(text)?;
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
            // At any moment between two polls.
            tokio::time::sleep(POLL.mul_f64(fastrand::f64())).await;
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
    let sum = |used: std::collections::HashMap<i32, Duration>| used.values().sum::<Duration>();
    let before = sum(bed.server.session_cpu().map_err(text)?);
    std::thread::sleep(time);
    let after = sum(bed.server.session_cpu().map_err(text)?);
    if !nodes.iter().all(|node| node.cache.status().readable) {
        return Err("a node does not poll any more".to_owned());
    }
    Ok(after.saturating_sub(before).as_secs_f64() * 1e3 / time.as_secs_f64())
}
