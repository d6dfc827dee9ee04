//! Memory of each node in front of Redis: what a hit costs beside the memory connector alone, and how long a change waits for ten other nodes.

use crate::clients::Clients;
use crate::hung::{now, quantile};
use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::sample::{Sample, Shape, id};
use crate::testbed::{Testbed, text};
use larder::connector::memory::{Memory, MemoryOptions};
use larder::connector::redis::{Redis, RedisConnector, RedisOptions};
use larder::connector::tiered::{Consistency, Tiered, TieredOptions};
use larder::{Cache, Delivery, Schema, Stored};
use larder_testing::server::ServerBinary;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const OBJECTS: u32 = 10_000;
const GETS: u32 = 500_000;
const FOLLOWERS: usize = 10;

/// Long enough for a memory to stay valid while the machine is busy with its hits.
const VALIDITY: Duration = Duration::from_secs(10);

fn schema() -> Schema {
    Schema::of::<Sample>().ages(Duration::from_secs(24 * 3600), Duration::from_secs(3600))
}

/// A node with a connection of its own.
pub(crate) struct Node {
    pub(crate) cache: Cache<Sample>,
    tiered: Arc<Tiered<RedisConnector>>,
}

impl Node {
    fn on(bed: &Testbed, consistency: Consistency) -> Result<Self, String> {
        let options = TieredOptions::new().validity(VALIDITY).consistency(consistency);
        Self::with(bed, &options.max_objects(2 * u64::from(OBJECTS)))
    }

    pub(crate) fn with(bed: &Testbed, options: &TieredOptions) -> Result<Self, String> {
        bed.run(Self::opened(bed.settings()?, options))
    }

    async fn opened(settings: RedisOptions, options: &TieredOptions) -> Result<Self, String> {
        let tiered = Arc::new(Redis::open(settings).map_err(text)?.tiered(schema(), options).map_err(text)?);
        let cache = Cache::new(tiered.clone(), schema()).map_err(text)?;
        let begun = Instant::now();
        while !cache.status().readable || tiered.valid_for_ms() == 0 {
            if begun.elapsed() > Duration::from_secs(60) {
                return Err("a node does not follow".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Self { cache, tiered })
    }
}

/// Gets objects in a random order. Each must be a hit in memory.
fn hits(cache: &Cache<Sample>, asked: &[String]) -> Result<(), String> {
    for key in asked {
        if black_box(now(cache.get(Sample::ID, key.as_str())).flatten()).is_none() {
            return Err(format!("`{key}` is not in memory"));
        }
    }
    Ok(())
}

fn questions(seed: u64) -> Vec<String> {
    let mut dice = fastrand::Rng::with_seed(seed);
    (0..GETS).map(|_| id(dice.u32(..OBJECTS))).collect()
}

pub(crate) fn hit(binary: &ServerBinary, suffix: &str) -> Group {
    let binary = binary.clone();
    let rows =
        vec![Comparison::new(format!("tier-hit/{suffix}"), "a tier", "the memory connector alone", Bar::Most(1.15))];
    Group {
        name: format!("a hit in the memory of a tier, {suffix}"),
        rows,
        contestants: Box::new(move |_| {
            let bed = Testbed::start(&binary, 1)?;
            let node = Node::on(&bed, Consistency::Strict)?;
            let memory =
                Memory::open(schema(), MemoryOptions::new().max_objects(2 * u64::from(OBJECTS))).map_err(text)?;
            let alone: Cache<Sample> = Cache::new(Arc::new(memory), schema()).map_err(text)?;
            let shape = Shape::of(300);
            bed.run(async {
                for number in 0..OBJECTS {
                    alone.set(shape.object(number)).await;
                    if node.cache.set(shape.object(number)).await != Stored::Accepted {
                        return Err("a set was not stored".to_owned());
                    }
                    // Takes it into the memory.
                    node.cache.get(Sample::ID, id(number).as_str()).await;
                }
                Ok(())
            })?;
            let (ours, theirs) = (questions(1), questions(2));
            Ok(vec![
                Contestant::timed("a tier", GETS, move |_| {
                    // The bed's runtime follows meanwhile.
                    let _bed = &bed;
                    hits(&node.cache, &ours)
                        .map_err(|error| format!("{error}; valid for {} ms", node.tiered.valid_for_ms()))
                }),
                Contestant::timed("the memory connector alone", GETS, move |_| hits(&alone, &theirs)),
            ])
        }),
        varies: true,
    }
}

/// The median time that an invalidation takes, in ms.
fn invalidations(bed: &Testbed, cache: &Cache<Sample>, count: usize) -> Result<f64, String> {
    let mut waits = bed.run(async {
        let mut waits = Vec::with_capacity(count);
        for number in 0..count as u32 {
            let begun = Instant::now();
            match cache.invalidate(Sample::ID, [id(number)]).await {
                Ok(Delivery::Applied) => waits.push(begun.elapsed().as_secs_f64() * 1e3),
                other => return Err(format!("an invalidation ended as {other:?}")),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(waits)
    })?;
    Ok(quantile(&mut waits, 0.5))
}

pub(crate) fn change(binary: &ServerBinary, suffix: &str) -> Group {
    let binary = binary.clone();
    let (strict, bounded, plain) = ("strict, ten followers", "bounded, ten followers", "without tiers");
    let rows = vec![
        Comparison::new(format!("tier-strict-wait/{suffix}"), strict, plain, Bar::Most(5.0)),
        Comparison::new(format!("tier-bounded-wait/{suffix}"), bounded, plain, Bar::Open),
    ];
    Group {
        name: format!("how long an invalidation takes with tiers, {suffix}"),
        rows,
        contestants: Box::new(move |effort| {
            let count = effort.of(200, 60);
            let mut all = Vec::new();
            for (name, consistency) in [(strict, Consistency::Strict), (bounded, Consistency::Bounded)] {
                let bed = Testbed::start(&binary, 1)?;
                let writer = Node::on(&bed, consistency)?;
                let followers =
                    (0..FOLLOWERS).map(|_| Node::on(&bed, consistency)).collect::<Result<Vec<_>, String>>()?;
                all.push(Contestant::new(name, "ms", move || {
                    let _following = &followers;
                    invalidations(&bed, &writer.cache, count)
                }));
            }
            let bed = Testbed::start(&binary, 1)?;
            let cache = bed.run(async { Redis::open(bed.settings()?).map_err(text) })?;
            let cache = bed.cache_on(&cache, crate::testbed::Opening::plain())?;
            all.push(Contestant::new(plain, "ms", move || invalidations(&bed, &cache, count)));
            Ok(all)
        }),
        varies: true,
    }
}

/// The validity where a follower is killed.
const SHORT: Duration = Duration::from_millis(500);

/// How long the first invalidation takes after a node has gone without a word, compared with what it may take.
pub(crate) fn killed(binary: &ServerBinary, suffix: &str) -> Group {
    let (ours, limit) = ("the first invalidation after it", "the validity, and 50 ms");
    let rows = vec![Comparison::new(format!("tier-killed/{suffix}"), ours, limit, Bar::Most(1.0))];
    let binary = binary.clone();
    Group {
        name: format!("a node that is killed, {suffix}"),
        rows,
        contestants: Box::new(move |_| {
            let bed = Testbed::start(&binary, 1)?;
            let options = TieredOptions::new().validity(SHORT);
            let writer = Node::with(&bed, &options)?;
            let waits = Contestant::new(ours, "ms", move || {
                let clients = Clients::start(1)?;
                let node = clients.run(Node::opened(bed.settings()?, &options))?;
                // Its tasks end where they are, and nobody takes it out of the table.
                drop(clients);
                drop(node);
                let mut first = 0.0_f64;
                // It may have followed at the last moment, or much earlier: the longest of a few is the one that waited.
                for _ in 0..3 {
                    first = first.max(invalidations(&bed, &writer.cache, 1)?);
                }
                Ok(first)
            });
            let may = (SHORT + Duration::from_millis(50)).as_secs_f64() * 1e3;
            Ok(vec![waits, Contestant::new(limit, "ms", move || Ok(may))])
        }),
        varies: true,
    }
}
