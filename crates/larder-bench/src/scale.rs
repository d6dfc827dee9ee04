//! How costs grow with the number of objects, keys, bytes, tasks and connections. Measured on the first server that is found.

use crate::chart::{Axis, Drawing, Plot, Point, Source};
use crate::machine::enough_memory;
use crate::measure::{Contestant, Effort};
use crate::redis_client::decode;
use crate::redis_get::{Questions, get, gets, in_order, objects, plain_get, plain_in_order};
use crate::sample::{Sample, Shape, host, id};
use crate::testbed::{Beside, Names, Opening, TASKS, Testbed, part};
use crate::{memory, redis_store};
use larder_testing::server::ServerBinary;
use std::sync::Arc;

const OBJECTS: Axis = Axis { label: "objects", log: true };
const SERVER_TIME: Axis = Axis { label: "µs of server CPU per operation", log: false };
const RATE: Axis = Axis { label: "thousand gets a second", log: false };

fn points(
    xs: impl IntoIterator<Item = u32> + 'static,
    contestants: impl Fn(u32, Effort) -> Result<Vec<Contestant>, String> + 'static,
) -> Vec<Point> {
    let contestants = Arc::new(contestants);
    let point = |x: u32| {
        let contestants = contestants.clone();
        Point { x: f64::from(x), contestants: Box::new(move |effort| contestants(x, effort)) }
    };
    xs.into_iter().map(point).collect()
}

/// The powers of ten from 10³ to 10^`last`.
fn powers(last: u32) -> impl Iterator<Item = u32> {
    (3..=last).map(|exponent| 10_u32.pow(exponent))
}

pub(crate) fn memory_objects() -> Plot {
    Plot {
        name: "scale-memory-objects",
        title: "Memory connector: a get, by number of objects",
        meaning: "Nanoseconds of a get on one thread, for an entry with one primary and one secondary key and both ages. quick_cache \
                  holds the same objects under one key. A lookup takes the same steps for any number of objects. What grows is the time \
                  that the processor waits for memory, once the objects and the table no longer fit its caches.",
        x: OBJECTS,
        y: Axis { label: "ns per get", log: false },
        drawing: Drawing::Lines,
        source: Source::Points(Box::new(|effort| {
            Ok(points(powers(effort.of(7, 6)), |objects, _| memory::of_many(objects)))
        })),
    }
}

pub(crate) fn redis_objects(binary: &ServerBinary) -> Plot {
    let binary = binary.clone();
    Plot {
        name: "scale-redis-objects",
        title: "Redis: what a get costs the server, by number of objects",
        meaning: "Objects of 100 B with one primary and one secondary key, without ages. GET reads the same keys. A get is one GET, \
                  however large the cache is.",
        x: OBJECTS,
        y: SERVER_TIME,
        drawing: Drawing::Lines,
        source: Source::Points(Box::new(move |effort| {
            Ok(points(powers(effort.of(7, 5)), move |objects, effort| among(&binary, objects, effort)))
        })),
    }
}

/// Gets of at most 100,000 of this many objects.
fn among(binary: &ServerBinary, objects: u32, effort: Effort) -> Result<Vec<Contestant>, String> {
    enough_memory(u64::from(objects) * 800)?;
    let shape = Shape { payload: 100, hosts: 1 };
    let bed = Testbed::start(binary, 1)?;
    let cache = bed.open(Opening::plain())?;
    bed.fill(&cache, shape, (0..objects).collect())?;
    let names = Names::of(&cache);
    let asked: Vec<u32> = (0..gets(shape.payload, effort).min(100_000)).map(|_| fastrand::u32(0..objects)).collect();
    let questions = |key: &dyn Fn(u32) -> String| -> Questions { Arc::new(asked.iter().map(|n| key(*n)).collect()) };
    let get = |name: &str, by, questions: Questions| {
        let (bed, cache) = (bed.clone(), cache.clone());
        Contestant::new(name, "µs", move || {
            let all = questions.len();
            let work = |task| in_order(cache.clone(), by, questions.clone(), part(all, TASKS, task));
            bed.cost(TASKS, work).map(|cost| cost.cpu / 1e3)
        })
    };
    let primary = get("get by primary key", Sample::ID, questions(&id));
    let secondary = get("get by secondary key, warm", Sample::HOST, questions(&|number| host(number, 0)));
    let plain = questions(&|number| names.object(number));
    let plain = Contestant::new("GET", "µs", move || {
        let work = |task| plain_in_order(bed.bare.clone(), plain.clone(), part(plain.len(), TASKS, task));
        bed.cost(TASKS, work).map(|cost| cost.cpu / 1e3)
    });
    Ok(vec![plain, primary, secondary])
}

pub(crate) fn redis_keys(binary: &ServerBinary) -> Plot {
    let binary = binary.clone();
    Plot {
        name: "scale-redis-keys",
        title: "Redis: what writing costs the server, by keys per object",
        meaning: "Objects of 300 B with a max age; larger if their keys alone are larger. *New*: every index key must be written. *Index \
                  keys right*: the object is stored again, and the index keys are only read. An invalidation names one key and removes one \
                  object, however many keys the object has.",
        x: Axis { label: "keys per object", log: false },
        y: SERVER_TIME,
        drawing: Drawing::Lines,
        source: Source::Points(Box::new(move |effort| {
            let keys: &[u32] = effort.of(&[1, 2, 4, 8, 16, 32, 64], &[1, 4, 16, 64]);
            Ok(points(keys.iter().copied(), move |keys, effort| {
                redis_store::contestants(&binary, Shape { payload: 300, hosts: keys - 1 }, effort)
            }))
        })),
    }
}

pub(crate) fn redis_payload(binary: &ServerBinary) -> Plot {
    let binary = binary.clone();
    Plot {
        name: "scale-redis-payload",
        title: "Redis: what reading and writing cost the server, by payload",
        meaning: "Objects with one primary and three secondary keys and a max age; both axes are logarithmic. An object above 4 KiB is \
                  written by a plain command, and the script only renames it, so that large objects do not pass through Lua.",
        x: Axis { label: "bytes of payload", log: true },
        y: Axis { log: true, ..SERVER_TIME },
        drawing: Drawing::Lines,
        source: Source::Points(Box::new(move |effort| {
            let all = &[100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000][..];
            let sizes = effort.of(all, &[100, 1_000, 10_000, 100_000, 1_000_000]);
            Ok(points(sizes.iter().copied(), move |payload, effort| {
                let shape = Shape::of(usize::try_from(payload).unwrap_or(usize::MAX));
                redis_store::contestants(&binary, shape, effort)
            }))
        })),
    }
}

pub(crate) fn redis_tasks(binary: &ServerBinary) -> Plot {
    let binary = binary.clone();
    Plot {
        name: "scale-redis-tasks",
        title: "Redis: gets a second through one connection, by tasks",
        meaning: "300 B, one client thread. A task waits for its answer before it asks again. With many tasks, one write to the socket \
                  carries many commands: that makes a multiplexed connection fast. By default larder sheds operations beyond 256 under \
                  way; here it does not.",
        x: Axis { label: "tasks", log: true },
        y: RATE,
        drawing: Drawing::Lines,
        source: Source::Points(Box::new(move |_| {
            Ok(points([1, 4, 16, 64, 256, 1_000], move |tasks, effort| {
                throughput(&binary, usize::try_from(tasks).unwrap_or(1), 1, 1, effort)
            }))
        })),
    }
}

pub(crate) fn redis_connections(binary: &ServerBinary) -> Plot {
    let binary = binary.clone();
    Plot {
        name: "scale-redis-connections",
        title: "Redis: gets a second with 64 tasks, by connections",
        meaning: "300 B, two client threads, the tasks spread over the connections. Each further connection makes the batches of the others \
                  smaller. larder has one connection per server; a process that wants more opens `Caches` more than once.",
        x: Axis { label: "connections", log: true },
        y: RATE,
        drawing: Drawing::Lines,
        source: Source::Points(Box::new(move |_| {
            Ok(points([1, 2, 4, 8], move |connections, effort| {
                throughput(&binary, TASKS, usize::try_from(connections).unwrap_or(1), 2, effort)
            }))
        })),
    }
}

fn throughput(
    binary: &ServerBinary,
    tasks: usize,
    connections: usize,
    threads: usize,
    effort: Effort,
) -> Result<Vec<Contestant>, String> {
    let (shape, objects) = (Shape::of(300), objects(300));
    let bed = Testbed::start(binary, threads)?;
    let caches = (0..connections).map(|_| bed.open(Opening::plain())).collect::<Result<Vec<_>, _>>()?;
    let bare = (0..connections).map(|_| bed.connect()).collect::<Result<Vec<_>, _>>()?;
    let cache = caches.first().ok_or("no connection")?;
    bed.fill_beside(cache, shape, 0..objects, Beside::Packed)?;
    let names = Names::of(cache);
    let ids: Questions = Arc::new((0..objects).map(id).collect());
    let packed: Questions = Arc::new((0..objects).map(|number| names.packed(number)).collect());
    // With few tasks, each get takes a whole round trip, so each task does fewer gets.
    let each = gets(300, effort).div_ceil(tasks.max(8));
    let same = bed.clone();
    Ok(vec![
        Contestant::new("larder", "k/s", move || {
            let cache = |task: usize| caches.iter().cycle().nth(task % connections).cloned();
            let work = |task| {
                let (cache, ids) = (cache(task), ids.clone());
                async move { get(cache.ok_or("no connection")?, Sample::ID, ids, each).await }
            };
            bed.cost(tasks, work).map(|cost| cost.rate / 1e3)
        }),
        Contestant::new("bare client, GET and decode", "k/s", move || {
            let connection = |task: usize| bare.iter().cycle().nth(task % connections).cloned();
            let work = |task| {
                let (connection, packed) = (connection(task), packed.clone());
                async move { plain_get(connection.ok_or("no connection")?, packed, each, decode).await }
            };
            same.cost(tasks, work).map(|cost| cost.rate / 1e3)
        }),
    ])
}
