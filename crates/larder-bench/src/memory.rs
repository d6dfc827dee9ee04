//! The memory connector, through the whole of `Cache::get`, compared with the bare gets of quick_cache and moka.
//!
//! 100,000 objects with one primary and three secondary keys and both ages; random gets, all hits. The peers hold the same objects under one
//! key each, which is all they can do, and without ages. All caches have room for twice as many objects, so that none evicts. The keys to
//! ask for are read in the order in which they lie in memory, so that reading them costs little.

use crate::hung::now;
use crate::machine::enough_memory;
use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::testbed::text;
use larder::connector::memory::{Memory, MemoryOptions};
use larder::{Cache, Entry, Index, Keys, Schema};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const OBJECTS: u32 = 100_000;
const HOSTS: u32 = 3;
const GETS: u32 = 500_000;

/// A typical object of a service: an id, some hosts, and some content.
#[derive(Debug, Serialize, Deserialize)]
struct Instance {
    id: String,
    hosts: Vec<String>,
    name: String,
}

impl Instance {
    const ID: Index<Self, String> = Index::at::<0>();
    const HOST: Index<Self, String> = Index::at::<1>();
}

impl Entry for Instance {
    const CACHE: &'static str = "instance";
    const INDEXES: &'static [&'static str] = &["id", "host"];

    fn keys(&self, keys: &mut Keys<Self>) {
        keys.add(Self::ID, &self.id);
        for host in &self.hosts {
            keys.add(Self::HOST, host);
        }
    }
}

/// Eighteen digits, as ids often are.
fn id(number: u32) -> String {
    format!("{:018}", u64::from(number) * 2_147_483_647 + 100_000_000_000_000_000)
}

/// As long as an id, so that both kinds of key cost the same to hash.
fn host(number: u32, which: u32) -> String {
    format!("h{which}-{number:07}.example")
}

fn instance(number: u32, hosts: u32) -> Arc<Instance> {
    let hosts = (0..hosts).map(|which| host(number, which)).collect();
    Arc::new(Instance { id: id(number), hosts, name: format!("instance number {number}") })
}

/// The keys to ask for, in this order.
fn questions(seed: u64, stock: Stock, key: impl Fn(u32, u32) -> String) -> Vec<String> {
    let mut dice = fastrand::Rng::with_seed(seed);
    (0..GETS).map(|_| key(dice.u32(0..stock.objects), dice.u32(0..stock.hosts))).collect()
}

/// The objects that a cache is filled with.
#[derive(Clone, Copy)]
struct Stock {
    objects: u32,
    hosts: u32,
}

const USUAL: Stock = Stock { objects: OBJECTS, hosts: HOSTS };

impl Stock {
    fn room(self) -> u64 {
        2 * u64::from(self.objects)
    }

    fn larder(self) -> Result<Cache<Instance>, String> {
        let schema = Schema::of::<Instance>().ages(Duration::from_secs(24 * 3600), Duration::from_secs(3600));
        let memory = Memory::open(schema.clone(), MemoryOptions::new().max_objects(self.room()));
        let cache = Cache::new(Arc::new(memory.map_err(text)?), schema).map_err(text)?;
        for number in 0..self.objects {
            now(cache.set(instance(number, self.hosts))).ok_or("a set had to wait")?;
        }
        Ok(cache)
    }

    fn quick(self) -> quick_cache::sync::Cache<String, Arc<Instance>> {
        let cache = quick_cache::sync::Cache::new(usize::try_from(self.room()).unwrap_or(usize::MAX));
        (0..self.objects).for_each(|number| cache.insert(id(number), instance(number, self.hosts)));
        cache
    }

    fn moka(self) -> moka::sync::Cache<String, Arc<Instance>> {
        let cache = moka::sync::Cache::new(self.room());
        (0..self.objects).for_each(|number| cache.insert(id(number), instance(number, self.hosts)));
        cache.run_pending_tasks();
        cache
    }
}

/// Gets all keys. Each must be a hit.
fn ask<T>(questions: &[String], get: impl Fn(&str) -> Option<T>) -> Result<(), String> {
    for key in questions {
        if black_box(get(key)).is_none() {
            return Err(format!("`{key}` was a miss"));
        }
    }
    Ok(())
}

pub(crate) fn primary() -> Group {
    against_peers("memory, get by primary key", "memory-primary", || {
        contestants(Instance::ID, questions(1, USUAL, |number, _| id(number)))
    })
}

pub(crate) fn secondary() -> Group {
    against_peers("memory, get by secondary key", "memory-secondary", || {
        contestants(Instance::HOST, questions(1, USUAL, host))
    })
}

fn against_peers(name: &str, row: &str, contestants: fn() -> Result<Vec<Contestant>, String>) -> Group {
    let rows = [("quick_cache", Bar::Most(1.3)), ("moka", Bar::Most(0.5))]
        .map(|(peer, bar)| Comparison::new(format!("{row}/{peer}"), "Cache::get", peer, bar));
    Group { name: name.into(), rows: rows.into(), contestants: Box::new(move |_| contestants()), varies: true }
}

/// The same against a cache that holds each object once under each of its secondary keys, as a user without larder has to do it.
pub(crate) fn every_key() -> Group {
    let row =
        Comparison::new("memory-secondary-every-key/quick_cache".to_owned(), "Cache::get", "quick_cache", Bar::Open);
    Group {
        name: "memory, get by secondary key, beside a cache with an entry for each key".into(),
        rows: vec![row],
        contestants: Box::new(|_| {
            let ours = USUAL.larder()?;
            let entries = u64::from(USUAL.objects) * u64::from(USUAL.hosts);
            let theirs = quick_cache::sync::Cache::new(usize::try_from(2 * entries).unwrap_or(usize::MAX));
            for number in 0..USUAL.objects {
                let object = instance(number, USUAL.hosts);
                (0..USUAL.hosts).for_each(|which| theirs.insert(host(number, which), object.clone()));
            }
            let (asked, same) = (questions(1, USUAL, host), questions(2, USUAL, host));
            Ok(vec![
                Contestant::timed("Cache::get", GETS, move |_| {
                    ask(&asked, |key| now(ours.get(Instance::HOST, key)).flatten())
                }),
                Contestant::timed("quick_cache", GETS, move |_| ask(&same, |key| theirs.get(key))),
            ])
        }),
        varies: true,
    }
}

fn contestants(by: Index<Instance, String>, ours: Vec<String>) -> Result<Vec<Contestant>, String> {
    let (cache, quick, moka) = (USUAL.larder()?, USUAL.quick(), USUAL.moka());
    let theirs = Arc::new(questions(2, USUAL, |number, _| id(number)));
    let same = theirs.clone();
    Ok(vec![
        Contestant::timed("Cache::get", GETS, move |_| ask(&ours, |key| now(cache.get(by, key)).flatten())),
        Contestant::timed("quick_cache", GETS, move |_| ask(&theirs, |key| quick.get(key))),
        Contestant::timed("moka", GETS, move |_| ask(&same, |key| moka.get(key))),
    ])
}

/// Gets from this many objects. They have two keys each, so that ten million of them fit into memory.
pub(crate) fn of_many(objects: u32) -> Result<Vec<Contestant>, String> {
    let stock = Stock { objects, hosts: 1 };
    enough_memory(u64::from(objects) * 1_200)?;
    let (cache, quick) = (stock.larder()?, stock.quick());
    let ids = Arc::new(questions(1, stock, |number, _| id(number)));
    let hosts = questions(1, stock, host);
    let (same, secondary) = (ids.clone(), cache.clone());
    let by_id = move |_| ask(&ids, |key| now(cache.get(Instance::ID, key)).flatten());
    let by_host = move |_| ask(&hosts, |key| now(secondary.get(Instance::HOST, key)).flatten());
    Ok(vec![
        Contestant::timed("larder, by primary key", GETS, by_id),
        Contestant::timed("larder, by secondary key", GETS, by_host),
        Contestant::timed("quick_cache", GETS, move |_| ask(&same, |key| quick.get(key))),
    ])
}

/// Millions of gets per second: two threads compared with one.
pub(crate) fn threads() -> Group {
    let rows = vec![Comparison::new("memory-threads", "two threads", "one thread", Bar::Least(1.8))];
    Group { name: "memory, two threads".into(), rows, contestants: Box::new(|_| one_and_two()), varies: true }
}

fn one_and_two() -> Result<Vec<Contestant>, String> {
    let cache = USUAL.larder()?;
    let asked: [Arc<Vec<String>>; 2] = [1, 2].map(|seed| Arc::new(questions(seed, USUAL, |number, _| id(number))));
    let throughput = move |threads: usize| {
        let (cache, asked) = (cache.clone(), asked.clone());
        move || {
            let barrier = Barrier::new(threads);
            let work = |questions: &[String]| {
                barrier.wait();
                let begun = Instant::now();
                ask(questions, |key| now(cache.get(Instance::ID, key)).flatten()).map(|()| begun.elapsed())
            };
            let times = std::thread::scope(|scope| {
                let running: Vec<_> =
                    asked.iter().take(threads).map(|questions| scope.spawn(|| work(questions))).collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()))
                };
                running.into_iter().map(join).collect::<Result<Vec<Duration>, String>>()
            })?;
            // The sum of each thread's own rate. When one thread ends, the other runs alone and faster, which must not count as scaling.
            Ok(times.iter().map(|time| f64::from(GETS) / time.as_secs_f64() / 1e6).sum())
        }
    };
    Ok(vec![Contestant::new("one thread", "M/s", throughput(1)), Contestant::new("two threads", "M/s", throughput(2))])
}
