//! A cluster of three primaries: what an operation costs the primary of its cache, beside the same on one server; and what all primaries carry.

use crate::clients::Clients;
use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::redis_get::{Questions, get, gets, objects, plain_get};
use crate::sample::{Sample, Shape, host};
use crate::testbed::{
    Beside, Names, Opening, PREFIX, TASKS, Testbed, bare, fill_beside, invalidate, part, set, text, unhurried,
};
use larder::connector::redis::{Address, RedisCluster, RedisOptions};
use larder::{Cache, Schema};
use larder_testing::cluster::Cluster;
use larder_testing::server::{Server, ServerBinary, ServerOptions};
use redis::aio::MultiplexedConnection;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

const PRIMARIES: u16 = 3;

/// A cluster without replicas, and larder as one client of it.
struct Bed {
    cluster: Cluster,
    larder: RedisCluster,
    // The last field, so that the connections are dropped while the runtime still runs.
    clients: Clients,
}

/// A cache in the cluster.
#[derive(Clone)]
struct Placed {
    cache: Cache<Sample>,
    /// The number of the primary that has the cache's slot.
    primary: usize,
}

impl Bed {
    fn start(binary: &ServerBinary) -> Result<Arc<Self>, String> {
        let clients = Clients::start(1)?;
        let started = clients.run(Cluster::start(binary, ServerOptions::default(), PRIMARIES, 0));
        let cluster = started.map_err(text)?;
        let larder = {
            let _runtime = clients.enter();
            let options = RedisOptions::new(address(&cluster, 0)?).prefix(PREFIX).hints(2_000_000);
            RedisCluster::open(unhurried(options).cluster(Vec::<Address>::new())).map_err(text)?
        };
        Ok(Arc::new(Self { cluster, larder, clients }))
    }

    /// Opens the cache of this name, and waits until it can be read.
    fn cache(&self, name: &str, opening: Opening) -> Result<Placed, String> {
        self.clients.run(async {
            let schema = Schema::of::<Sample>().named(name).ages(opening.max_age, opening.last_use_age);
            let connector = self.larder.connector(schema.clone()).map_err(text)?;
            let cache = Cache::new(Arc::new(connector), schema).map_err(text)?;
            let readable = async {
                while !cache.status().readable {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let slow = |_| format!("the cache `{name}` cannot be read after a minute");
            tokio::time::timeout(Duration::from_secs(60), readable).await.map_err(slow)?;
            let slot = self.cluster.slot_of(&format!("{PREFIX}:{{{name}}}:")).await.map_err(text)?;
            let primary = self.cluster.primary(slot).await.map_err(text)?;
            Ok(Placed { cache, primary })
        })
    }

    /// One cache on each primary.
    fn spread(&self, opening: Opening) -> Result<Vec<Placed>, String> {
        let mut all: Vec<Placed> = Vec::new();
        for number in 0..100 {
            let placed = self.cache(&format!("sample-{number}"), opening)?;
            if !all.iter().any(|other| other.primary == placed.primary) {
                all.push(placed);
            }
            if all.len() == usize::from(PRIMARIES) {
                return Ok(all);
            }
        }
        Err("a hundred names are not on all primaries".to_owned())
    }

    /// Fills a cache, and stores the same for the bare client. Returns its connection and what it can ask for.
    fn fill(&self, placed: &Placed, shape: Shape, objects: u32) -> Result<(MultiplexedConnection, Questions), String> {
        let address = address(&self.cluster, placed.primary)?;
        let bare = self.clients.run(bare(&RedisOptions::new(address)))?;
        let names = Names::in_cluster(&placed.cache);
        fill_beside(&self.clients, &bare, &placed.cache, &names, shape, 0..objects, Beside::AgedCopy)?;
        Ok((bare, Arc::new((0..objects).map(|number| names.plain(number)).collect())))
    }

    /// The processor time that each primary has used so far.
    fn used(&self) -> Result<Vec<Duration>, String> {
        self.clients.run(async {
            let mut used = Vec::new();
            for node in self.cluster.nodes() {
                used.push(node.used_cpu().await.map_err(text)?);
            }
            Ok(used)
        })
    }

    /// How many operations a second of each primary's processor time makes, where each of these tasks says which primary it asks.
    fn rates<F, W>(&self, tasks: usize, primary: impl Fn(usize) -> usize, work: F) -> Result<Vec<f64>, String>
    where
        F: Fn(usize) -> W,
        W: Future<Output = Result<usize, String>> + Send + 'static,
    {
        let before = self.used()?;
        let done: Arc<[std::sync::atomic::AtomicUsize]> = before.iter().map(|_| 0.into()).collect();
        self.clients.together(tasks, |task| {
            let (working, done, primary) = (work(task), done.clone(), primary(task));
            async move {
                let count = working.await?;
                if let Some(done) = done.get(primary) {
                    done.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
                }
                Ok(count)
            }
        })?;
        let used = self.used()?.into_iter().zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(done
            .iter()
            .zip(used)
            .map(|(done, used)| done.load(std::sync::atomic::Ordering::Relaxed) as f64 / used.as_secs_f64())
            .collect())
    }

    /// What an operation costs the primary, in µs.
    fn cost<F, W>(&self, primary: usize, work: F) -> Result<f64, String>
    where
        F: Fn(usize) -> W,
        W: Future<Output = Result<usize, String>> + Send + 'static,
    {
        let rates = self.rates(TASKS, |_| primary, work)?;
        rates.get(primary).map(|rate| 1e6 / rate).ok_or_else(|| "there is no such primary".to_owned())
    }
}

fn address(cluster: &Cluster, node: usize) -> Result<Address, String> {
    let port = cluster.nodes().get(node).and_then(Server::port).ok_or("a node has no port")?;
    Ok(Address::Tcp { host: "127.0.0.1".into(), port })
}

fn hosts(objects: u32) -> Questions {
    Arc::new((0..objects).map(|number| host(number, number % 3)).collect())
}

const PAYLOAD: usize = 300;

/// Operations in a cluster, compared with the same on one server, and a get with a plain GET.
pub(crate) fn costs(binary: &ServerBinary, suffix: &str) -> Group {
    let rows = vec![
        Comparison::new(format!("cluster-get/{suffix}"), "get, in a cluster", "GET, in a cluster", Bar::Most(1.10)),
        Comparison::new(
            format!("cluster-get-over-one/{suffix}"),
            "get, in a cluster",
            "get, one server",
            Bar::Most(1.05),
        ),
        Comparison::new(
            format!("cluster-set-over-one/{suffix}"),
            "set, in a cluster",
            "set, one server",
            Bar::Most(1.05),
        ),
        Comparison::new(
            format!("cluster-invalidate-over-one/{suffix}"),
            "invalidate, in a cluster",
            "invalidate, one server",
            Bar::Most(1.05),
        ),
    ];
    let binary = binary.clone();
    Group {
        name: format!("what an operation costs the server in a cluster, {suffix}"),
        rows,
        contestants: Box::new(move |effort| {
            let (shape, objects, operations) = (Shape::of(PAYLOAD), objects(PAYLOAD), gets(PAYLOAD, effort));
            let each = operations.div_ceil(TASKS);
            let writes = effort.of(24_000, 8_000);
            let numbers = move || Arc::new((0..writes).map(|_| fastrand::u32(..objects)).collect::<Vec<_>>());
            let (bed, single) = (Bed::start(&binary)?, Testbed::start(&binary, 1)?);
            let placed = bed.cache("sample", Opening::aged())?;
            let alone = single.open(Opening::aged())?;
            let (bare, questions) = bed.fill(&placed, shape, objects)?;
            single.fill_beside(&alone, shape, 0..objects, Beside::AgedCopy)?;
            let primary = placed.primary;
            let mut all = Vec::new();
            let ours = bed.clone();
            all.push(Contestant::new("GET, in a cluster", "µs", move || {
                ours.cost(primary, |_| plain_get(bare.clone(), questions.clone(), each, |_| Ok(())))
            }));
            let (ours, cache, asked) = (bed.clone(), placed.cache.clone(), hosts(objects));
            all.push(Contestant::new("get, in a cluster", "µs", move || {
                ours.cost(primary, |_| get(cache.clone(), Sample::HOST, asked.clone(), each))
            }));
            let (one, cache, asked) = (single.clone(), alone.clone(), hosts(objects));
            all.push(Contestant::new("get, one server", "µs", move || {
                one.cost(TASKS, |_| get(cache.clone(), Sample::HOST, asked.clone(), each)).map(|cost| cost.cpu / 1e3)
            }));
            let (ours, cache) = (bed.clone(), placed.cache.clone());
            all.push(Contestant::new("set, in a cluster", "µs", move || {
                let numbers = numbers();
                ours.cost(primary, |task| set(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task)))
            }));
            let (one, cache) = (single.clone(), alone.clone());
            all.push(Contestant::new("set, one server", "µs", move || {
                let numbers = numbers();
                let work = |task| set(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task));
                one.cost(TASKS, work).map(|cost| cost.cpu / 1e3)
            }));
            // What is invalidated is stored again, so that the next round finds everything.
            let (ours, cache) = (bed, placed.cache);
            all.push(Contestant::new("invalidate, in a cluster", "µs", move || {
                let numbers = numbers();
                let cost = ours.cost(primary, |task| {
                    invalidate(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task))
                });
                ours.clients.together(TASKS, |task| {
                    set(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task))
                })?;
                cost
            }));
            let (one, cache) = (single, alone);
            all.push(Contestant::new("invalidate, one server", "µs", move || {
                let numbers = numbers();
                let work = |task| invalidate(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task));
                let cost = one.cost(TASKS, work).map(|cost| cost.cpu / 1e3);
                one.together(TASKS, |task| {
                    set(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task))
                })?;
                cost
            }));
            Ok(all)
        }),
        varies: true,
    }
}

/// How many gets three caches on three primaries carry, compared with one cache on one of them: by the processor time of the servers, since one machine has no
/// processor for each.
pub(crate) fn primaries(binary: &ServerBinary, suffix: &str) -> Group {
    let (three, one) = ("three caches on three primaries", "one cache");
    let rows = vec![Comparison::new(format!("cluster-three-primaries/{suffix}"), three, one, Bar::Least(2.5))];
    let binary = binary.clone();
    Group {
        name: format!("gets for a second of each primary's time, {suffix}"),
        rows,
        contestants: Box::new(move |effort| {
            let (shape, objects, operations) = (Shape::of(PAYLOAD), objects(PAYLOAD) / 3, gets(PAYLOAD, effort));
            let bed = Bed::start(&binary)?;
            let spread = bed.spread(Opening::plain())?;
            for placed in &spread {
                bed.fill(placed, shape, objects)?;
            }
            let each = operations.div_ceil(TASKS);
            let contestant = |name: &str, caches: Vec<Placed>| {
                let (bed, asked) = (bed.clone(), hosts(objects));
                Contestant::new(name, "k/s", move || {
                    let of = |task: usize| &caches[task % caches.len()];
                    let work = |task| get(of(task).cache.clone(), Sample::HOST, asked.clone(), each);
                    // As many callers for each cache: fewer would have the servers read fewer commands at once.
                    let rates = bed.rates(TASKS * caches.len(), |task| of(task).primary, work)?;
                    let asked = caches.iter().filter_map(|placed| rates.get(placed.primary));
                    Ok(asked.sum::<f64>() / 1e3)
                })
            };
            Ok(vec![contestant(three, spread.clone()), contestant(one, spread.into_iter().take(1).collect())])
        }),
        varies: true,
    }
}
