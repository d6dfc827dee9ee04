//! What a get costs the server, beside a plain GET of the same bytes.

use crate::measure::{Bar, Comparison, Contestant, Effort, Group};
use crate::sample::{Sample, SampleIndex, Shape, host, id};
use crate::testbed::{Beside, Cost, Names, Opening, TASKS, Testbed, shuffled, text};
use larder::Cache;
use larder::config::RedisConfig;
use larder::connector::redis::Redis;
use larder_testing::server::ServerBinary;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// What is asked for, by number: pre-made names, so that making them is nobody's cost.
pub(crate) type Questions = Arc<Vec<String>>;

/// Objects on the server for a payload of this size: a hundred thousand, unless that would be more than 100 MB.
pub(crate) fn objects(payload: usize, effort: Effort) -> u32 {
    let most = effort.of(100_000, 50_000);
    u32::try_from(100_000_000 / payload).unwrap_or(most).clamp(1_000, most)
}

/// Operations of a round: about 200 ms of the server's time.
pub(crate) fn gets(payload: usize, effort: Effort) -> usize {
    let all = effort.of(120_000, 50_000);
    if payload > 10_000 { all / 4 } else { all }
}

/// Gets random objects, each of which must be there.
pub(crate) async fn get(
    cache: Cache<Sample>,
    by: SampleIndex,
    questions: Questions,
    count: usize,
) -> Result<usize, String> {
    for _ in 0..count {
        let Some(key) = fastrand::choice(questions.iter()) else { continue };
        if cache.get(by, key.as_str()).await.is_none() {
            return Err(format!("`{key}` was a miss: {:?}", cache.status()));
        }
    }
    Ok(count)
}

/// GETs random keys, and hands what they hold to `read`.
pub(crate) async fn plain_get(
    mut connection: redis::aio::MultiplexedConnection,
    questions: Questions,
    count: usize,
    read: fn(&[u8]) -> Result<(), String>,
) -> Result<usize, String> {
    for _ in 0..count {
        let Some(key) = fastrand::choice(questions.iter()) else { continue };
        let bytes: Vec<u8> = redis::cmd("GET").arg(key).query_async(&mut connection).await.map_err(text)?;
        read(&bytes)?;
    }
    Ok(count)
}

/// A contestant whose tasks share a number of operations; its figure is what one of them costs the server.
pub(crate) fn contestant<F, W>(name: &str, bed: &Arc<Testbed>, operations: usize, work: F) -> Contestant
where
    F: Fn(usize) -> W + 'static,
    W: Future<Output = Result<usize, String>> + Send + 'static,
{
    let bed = bed.clone();
    let each = operations / TASKS;
    Contestant::new(name, "µs", move || bed.cost(TASKS, |_| work(each)).map(|Cost { cpu, .. }| cpu / 1e3))
}

pub(crate) fn plain(bed: &Arc<Testbed>, names: &Names, objects: u32, operations: usize) -> Contestant {
    let questions: Questions = Arc::new((0..objects).map(|number| names.plain(number)).collect());
    let bare = bed.bare.clone();
    contestant("GET", bed, operations, move |count| plain_get(bare.clone(), questions.clone(), count, |_| Ok(())))
}

/// By primary key, by secondary key warm and cold; no ages.
pub(crate) fn without_ages(binary: &ServerBinary, payload: usize, suffix: &str) -> Group {
    let cold = match payload {
        300 => Bar::Most(2.7),
        20_000 => Bar::Most(2.2),
        _ => Bar::Open,
    };
    let rows = [
        ("redis-get-primary", "get by primary key", Bar::Most(1.10)),
        ("redis-get-secondary", "get by secondary key, warm", Bar::Most(1.10)),
        ("redis-get-cold", "get by secondary key, cold", cold),
    ];
    let binary = binary.clone();
    Group {
        name: format!("what a get costs the server, {suffix}"),
        rows: rows.map(|(row, ours, bar)| Comparison::new(format!("{row}/{suffix}"), ours, "GET", bar)).into(),
        contestants: Box::new(move |effort| {
            let (shape, objects, operations) = (Shape::of(payload), objects(payload, effort), gets(payload, effort));
            let bed = Testbed::start(&binary, 1)?;
            let warm = bed.open(Opening::plain())?;
            bed.fill_beside(&warm, shape, 0..objects, Beside::Copy)?;
            // It has room for one hint, so it practically never has the one that is needed.
            let cold = bed.open(Opening { hints: 1, ..Opening::plain() })?;
            let ids: Questions = Arc::new((0..objects).map(id).collect());
            let hosts: Questions = Arc::new((0..objects).map(|number| host(number, number % 3)).collect());
            let asked = |name, cache: &Cache<Sample>, by, questions: &Questions| {
                let (cache, questions) = (cache.clone(), questions.clone());
                contestant(name, &bed, operations, move |count| get(cache.clone(), by, questions.clone(), count))
            };
            Ok(vec![
                plain(&bed, &Names::of(&warm), objects, operations),
                asked("get by primary key", &warm, SampleIndex::Id, &ids),
                asked("get by secondary key, warm", &warm, SampleIndex::Host, &hosts),
                asked("get by secondary key, cold", &cold, SampleIndex::Host, &hosts),
            ])
        }),
        varies: true,
    }
}

/// Gets of one object, of which the first finds that a touch is due.
const GETS_A_TOUCH: usize = 10;

/// By primary and by secondary key, with both ages. Every object is asked for ten times, and touched the first time: as a service
/// sees it that gets an object ten times in a tenth of its last-use age.
pub(crate) fn with_last_use_age(binary: &ServerBinary, payload: usize, suffix: &str) -> Group {
    let rows = [("redis-get-primary-aged", "get by primary key"), ("redis-get-secondary-aged", "get by secondary key")];
    let binary = binary.clone();
    Group {
        name: format!("what a get with a last-use age costs the server, {suffix}"),
        rows: rows.map(|(row, ours)| Comparison::new(format!("{row}/{suffix}"), ours, "GET", Bar::Most(1.25))).into(),
        contestants: Box::new(move |effort| {
            let (shape, operations) = (Shape::of(payload), gets(payload, effort));
            let objects = u32::try_from(operations / GETS_A_TOUCH).map_err(text)?;
            let ages = Opening { last_use_age: Duration::from_secs(1800), ..Opening::aged() };
            let bed = Testbed::start(&binary, 1)?;
            let settings = RedisConfig { hints: ages.hints, ..bed.settings()? };
            let redis = bed.run(async { Redis::open(settings) }).map_err(text)?;
            let first = bed.cache_on(&redis, ages)?;
            bed.fill_beside(&first, shape, 0..objects, Beside::Copy)?;
            let plain = plain(&bed, &Names::of(&first), objects, operations);
            let asked = |name: &str, by, key: fn(u32) -> String| {
                let (bed, redis) = (bed.clone(), redis.clone());
                Contestant::new(name, "µs", move || {
                    // A new memory of what was touched when; by the fill, it knows where secondary keys lead.
                    let cache = bed.cache_on(&redis, ages)?;
                    bed.fill(&cache, shape, shuffled(0..objects))?;
                    let mut order = Vec::with_capacity(operations);
                    (0..GETS_A_TOUCH).for_each(|_| order.extend(0..objects));
                    fastrand::shuffle(&mut order);
                    let order: Questions = Arc::new(order.into_iter().map(key).collect());
                    let cost = bed.cost(TASKS, |task| {
                        in_order(cache.clone(), by, order.clone(), crate::testbed::part(order.len(), TASKS, task))
                    })?;
                    Ok(cost.cpu / 1e3)
                })
            };
            Ok(vec![
                plain,
                asked("get by primary key", SampleIndex::Id, id),
                asked("get by secondary key", SampleIndex::Host, |number| host(number, 0)),
            ])
        }),
        varies: true,
    }
}

async fn in_order(
    cache: Cache<Sample>,
    by: SampleIndex,
    questions: Questions,
    part: std::ops::Range<usize>,
) -> Result<usize, String> {
    let questions = questions.get(part).unwrap_or_default();
    for key in questions {
        if cache.get(by, key.as_str()).await.is_none() {
            return Err(format!("`{key}` was a miss: {:?}", cache.status()));
        }
    }
    Ok(questions.len())
}
