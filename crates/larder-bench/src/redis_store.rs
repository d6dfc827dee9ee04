//! What a set, a fill and an invalidation cost the server, compared with a plain GET of the same bytes; and how much memory an object takes
//! there.

use crate::measure::{Bar, Comparison, Contestant, Effort, Group};
use crate::redis_get::{Questions, contestant, get, gets, objects, plain};
use crate::sample::{Sample, Shape, host, id};
use crate::testbed::{
    Beside, Cost, Names, Opening, TASKS, Testbed, fill, invalidate, part, set, shuffled, text, ticket,
};
use larder_testing::server::ServerBinary;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) const INVALIDATE: &str = "invalidate by secondary key";

/// The number of writes in a round: fewer, if a write takes the server longer.
fn writes(shape: Shape, effort: Effort) -> u32 {
    let all = effort.of(24_000, 8_000) / (1 + shape.hosts / 8);
    u32::try_from(60_000_000 / shape.payload).unwrap_or(all).min(all)
}

/// Writes of objects with one primary and three secondary keys and a max age.
pub(crate) fn writing(binary: &ServerBinary, payload: usize, suffix: &str) -> Group {
    let store = match payload {
        300 => Bar::Most(7.0),
        20_000 => Bar::Most(4.0),
        _ => Bar::Open,
    };
    let rows = [
        ("redis-fill-new", "fill, new", store),
        ("redis-fill-again", "fill, index keys right", store),
        ("redis-set-new", "set, new", store),
        ("redis-set-again", "set, index keys right", store),
        ("redis-invalidate", INVALIDATE, Bar::Most(4.5)),
    ];
    // A set does what a fill does, and writes the marks of its keys into the log.
    let over_fill = [
        ("redis-set-over-fill-new", "set, new", "fill, new"),
        ("redis-set-over-fill-again", "set, index keys right", "fill, index keys right"),
    ];
    let over_fill =
        over_fill.map(|(row, ours, peer)| Comparison::new(format!("{row}/{suffix}"), ours, peer, Bar::Most(1.15)));
    let over_get = rows.map(|(row, ours, bar)| Comparison::new(format!("{row}/{suffix}"), ours, "GET", bar));
    let binary = binary.clone();
    Group {
        name: format!("what writing costs the server, {suffix}"),
        rows: over_get.into_iter().chain(over_fill).collect(),
        contestants: Box::new(move |effort| contestants(&binary, Shape::of(payload), effort)),
        varies: true,
    }
}

/// A plain GET, a get by secondary key (or by primary key, if there is no other), and all operations that write.
pub(crate) fn contestants(binary: &ServerBinary, shape: Shape, effort: Effort) -> Result<Vec<Contestant>, String> {
    // The more keys an object has, the fewer objects, so that the number of keys on the server is about the same.
    let objects = objects(shape.payload) * 4 / (1 + shape.hosts).max(4);
    let writes = writes(shape, effort).min(objects);
    let bed = Testbed::start(binary, 1)?;
    let cache = bed.open(Opening::aged())?;
    bed.fill_beside(&cache, shape, 0..objects, Beside::Copy)?;
    let random = move || {
        let mut numbers = shuffled(0..objects);
        numbers.truncate(usize::try_from(writes).unwrap_or(usize::MAX));
        Arc::new(numbers)
    };
    // Numbers of objects that have not been stored yet.
    let unused = Rc::new(Cell::new(objects));
    let fresh = move || {
        let first = unused.replace(unused.get() + writes);
        (first..first + writes, Arc::new(shuffled(first..first + writes)))
    };
    let figure = |Cost { cpu, .. }| cpu / 1e3;

    let filled = {
        let (bed, cache) = (bed.clone(), cache.clone());
        move |numbers: &Arc<Vec<u32>>| {
            let ticket = bed.run(ticket(cache.clone()))?;
            let work = |task| fill(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task), ticket);
            bed.cost(TASKS, work).map(figure)
        }
    };
    let has_set = {
        let (bed, cache) = (bed.clone(), cache.clone());
        move |numbers: &Arc<Vec<u32>>| {
            let work = |task| set(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task));
            bed.cost(TASKS, work).map(figure)
        }
    };
    let remove = {
        let (bed, cache) = (bed.clone(), cache.clone());
        move |numbers| bed.remove(&cache, shape, numbers)
    };
    let (filled_again, set_again, fresh_too, remove_too) =
        (filled.clone(), has_set.clone(), fresh.clone(), remove.clone());
    let invalidated = {
        let (bed, cache) = (bed.clone(), cache.clone());
        move || {
            let numbers = random();
            let work = |task| invalidate(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task));
            let cost = bed.cost(TASKS, work)?;
            bed.fill(&cache, shape, numbers.to_vec())?;
            Ok(figure(cost))
        }
    };
    let (same, by) = (cache.clone(), if shape.hosts == 0 { Sample::ID } else { Sample::HOST });
    let key = |number| if shape.hosts == 0 { id(number) } else { host(number, number % shape.hosts) };
    let questions: Questions = Arc::new((0..objects).map(key).collect());
    let read = contestant("get", &bed, gets(shape.payload, effort), move |count| {
        get(same.clone(), by, questions.clone(), count)
    });
    Ok(vec![
        read,
        plain(&bed, &Names::of(&cache), objects, gets(shape.payload, effort)),
        Contestant::new("fill, new", "µs", move || {
            let (range, numbers) = fresh();
            let cost = filled(&numbers)?;
            remove(range).map(|()| cost)
        }),
        Contestant::new("fill, index keys right", "µs", move || filled_again(&random())),
        Contestant::new("set, new", "µs", move || {
            let (range, numbers) = fresh_too();
            let cost = has_set(&numbers)?;
            remove_too(range).map(|()| cost)
        }),
        Contestant::new("set, index keys right", "µs", move || set_again(&random())),
        Contestant::new(INVALIDATE, "µs", invalidated),
    ])
}

/// The memory of an object with one primary and three secondary keys.
pub(crate) fn memory(binary: &ServerBinary, payload: usize, suffix: &str) -> Group {
    let bar = if payload == 300 { Bar::Most(2.6) } else { Bar::Open };
    let binary = binary.clone();
    Group {
        name: format!("memory of an object on the server, {suffix}"),
        rows: vec![
            Comparison::new(format!("redis-memory/{suffix}"), "larder, 4 keys", "the same bytes, 1 key", bar),
            Comparison::new(
                format!("redis-memory-aged/{suffix}"),
                "larder, 4 keys, max age",
                "same, 1 key, expiry",
                Bar::Open,
            ),
            Comparison::new(
                format!("redis-memory-packed/{suffix}"),
                "larder, 4 keys",
                "MessagePack alone, 1 key",
                Bar::Open,
            ),
        ],
        contestants: Box::new(move |_| {
            let (shape, objects) = (Shape::of(payload), objects(payload));
            let weigh = move |name: &str, opening: Opening, what: fn(&Loaded<'_>) -> Result<(), String>| {
                let binary = binary.clone();
                Contestant::new(name, "bytes", move || {
                    let bed = Testbed::start(&binary, 1)?;
                    let cache = bed.open(opening)?;
                    let loaded = Loaded { bed: &bed, cache: &cache, shape, objects };
                    let before = used_memory(&bed)?;
                    what(&loaded)?;
                    Ok((used_memory(&bed)? - before) / f64::from(objects))
                })
            };
            Ok(vec![
                weigh("larder, 4 keys", Opening::plain(), |loaded| loaded.with_larder()),
                weigh("larder, 4 keys, max age", Opening::aged(), |loaded| loaded.with_larder()),
                weigh("the same bytes, 1 key", Opening::plain(), |loaded| loaded.alone(None)),
                weigh("same, 1 key, expiry", Opening::aged(), |loaded| loaded.alone(Some(3_600_000))),
                weigh("MessagePack alone, 1 key", Opening::plain(), |loaded| {
                    loaded.bed.pack(loaded.cache, loaded.shape, 0..loaded.objects)
                }),
            ])
        }),
        varies: false,
    }
}

/// A server that is filled, and the objects to fill it with.
struct Loaded<'a> {
    bed: &'a Testbed,
    cache: &'a larder::Cache<crate::sample::Sample>,
    shape: Shape,
    objects: u32,
}

impl Loaded<'_> {
    fn with_larder(&self) -> Result<(), String> {
        self.bed.fill(self.cache, self.shape, shuffled(0..self.objects))
    }

    /// The bytes that larder stores, under one key for each object. They are equally long for all objects.
    fn alone(&self, expiry: Option<u64>) -> Result<(), String> {
        self.bed.fill(self.cache, self.shape, vec![0])?;
        self.bed.repeat(self.cache, 0..self.objects, expiry)?;
        self.bed.remove(self.cache, self.shape, 0..1)
    }
}

fn used_memory(bed: &Testbed) -> Result<f64, String> {
    let memory = bed.run(bed.server.info("memory")).map_err(text)?;
    memory
        .get("used_memory")
        .and_then(|bytes| bytes.parse().ok())
        .ok_or("the server does not say used_memory".to_owned())
}
