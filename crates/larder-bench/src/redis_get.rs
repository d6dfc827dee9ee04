//! What a get costs the server, compared with a plain GET of the same bytes.

use crate::measure::{Bar, Comparison, Contestant, Effort, Group};
use crate::sample::{Sample, Shape, host, id};
use crate::testbed::{Beside, Cost, Names, Opening, TASKS, Testbed, part, shuffled, text};
use larder::connector::redis::Redis;
use larder::{Cache, Index};
use larder_testing::server::ServerBinary;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The keys to ask for. They are made in advance, so that making them is not measured.
pub(crate) type Questions = Arc<Vec<String>>;

/// The number of objects on the server for this payload: 100,000, unless that would be more than 100 MB.
pub(crate) fn objects(payload: usize) -> u32 {
    u32::try_from(100_000_000 / payload).unwrap_or(u32::MAX).clamp(64, 100_000)
}

/// The number of operations in a round: about 200 ms of the server's time.
pub(crate) fn gets(payload: usize, effort: Effort) -> usize {
    let all = effort.of(120_000, 50_000);
    if payload > 5_000 { (300_000_000 / payload).min(all) } else { all }
}

/// Gets random objects, each of which must be there.
pub(crate) async fn get(
    cache: Cache<Sample>,
    by: Index<Sample, String>,
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

/// GETs random keys, and passes their values to `read`.
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

/// A contestant whose tasks share a number of operations. Its figure is what one operation costs the server.
pub(crate) fn contestant<F, W>(name: &str, bed: &Arc<Testbed>, operations: usize, work: F) -> Contestant
where
    F: Fn(usize) -> W + 'static,
    W: Future<Output = Result<usize, String>> + Send + 'static,
{
    let bed = bed.clone();
    let each = operations.div_ceil(TASKS);
    Contestant::new(name, "µs", move || bed.cost(TASKS, |_| work(each)).map(|Cost { cpu, .. }| cpu / 1e3))
}

pub(crate) fn plain(bed: &Arc<Testbed>, names: &Names, objects: u32, operations: usize) -> Contestant {
    let questions: Questions = Arc::new((0..objects).map(|number| names.plain(number)).collect());
    let bare = bed.bare.clone();
    contestant("GET", bed, operations, move |count| plain_get(bare.clone(), questions.clone(), count, |_| Ok(())))
}

/// Gets by primary key, and by secondary key, warm and cold, without ages.
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
            let (shape, objects, operations) = (Shape::of(payload), objects(payload), gets(payload, effort));
            let bed = Testbed::start(&binary, 1)?;
            let warm = bed.open(Opening::plain())?;
            bed.fill_beside(&warm, shape, 0..objects, Beside::Copy)?;
            // This node has room for one hint, so it almost never has the hint that it needs.
            let cold = bed.open(Opening { hints: 1, ..Opening::plain() })?;
            let ids: Questions = Arc::new((0..objects).map(id).collect());
            let hosts: Questions = Arc::new((0..objects).map(|number| host(number, number % 3)).collect());
            let asked = |name, cache: &Cache<Sample>, by, questions: &Questions| {
                let (cache, questions) = (cache.clone(), questions.clone());
                contestant(name, &bed, operations, move |count| get(cache.clone(), by, questions.clone(), count))
            };
            Ok(vec![
                plain(&bed, &Names::of(&warm), objects, operations),
                asked("get by primary key", &warm, Sample::ID, &ids),
                asked("get by secondary key, warm", &warm, Sample::HOST, &hosts),
                asked("get by secondary key, cold", &cold, Sample::HOST, &hosts),
            ])
        }),
        varies: true,
    }
}

/// One get in this many finds that a touch is due.
const GETS_A_TOUCH: usize = 10;

/// Gets by primary and by secondary key, with both ages. One get in ten touches its object. That is so for an object that is got ten times
/// in a tenth of its last-use age: ten times an hour, if the age is ten hours.
pub(crate) fn with_last_use_age(binary: &ServerBinary, payload: usize, suffix: &str) -> Group {
    let rows = [("redis-get-primary-aged", "get by primary key"), ("redis-get-secondary-aged", "get by secondary key")];
    let binary = binary.clone();
    Group {
        name: format!("what a get with a last-use age costs the server, {suffix}"),
        rows: rows.map(|(row, ours)| Comparison::new(format!("{row}/{suffix}"), ours, "GET", Bar::Most(1.25))).into(),
        contestants: Box::new(move |effort| {
            let (shape, objects, operations) = (Shape::of(payload), objects(payload), gets(payload, effort));
            let (day, ten_hours) = (Duration::from_secs(24 * 3600), Duration::from_secs(10 * 3600));
            let ages = Opening { max_age: day, last_use_age: ten_hours, ..Opening::plain() };
            let bed = Testbed::start(&binary, 1)?;
            let settings = bed.settings()?.hints(ages.hints);
            let redis = bed.run(async { Redis::open(settings) }).map_err(text)?;
            let first = bed.cache_on(&redis, ages)?;
            bed.fill_beside(&first, shape, 0..objects, Beside::Copy)?;
            let plain = plain(&bed, &Names::of(&first), objects, operations);
            let asked = |name: &str, by, key: fn(u32) -> String| {
                let (bed, redis) = (bed.clone(), redis.clone());
                Contestant::new(name, "µs", move || {
                    // A new cache does not remember when objects were touched.
                    let cache = bed.cache_on(&redis, ages)?;
                    let all = shuffled(0..objects);
                    let (due, touched) = all.split_at((operations / GETS_A_TOUCH).min(all.len() / 2));
                    let keys = |numbers: &[u32]| -> Questions { Arc::new(numbers.iter().map(|n| key(*n)).collect()) };
                    // A get that misses the hidden object gives the node a hint, and touches nothing.
                    bed.hide(&cache, due)?;
                    let questions = keys(due);
                    bed.together(TASKS, |task| {
                        miss(cache.clone(), by, questions.clone(), part(questions.len(), TASKS, task))
                    })?;
                    bed.show(&cache, due)?;
                    let get_all = |questions: Questions| {
                        bed.cost(TASKS, |task| {
                            in_order(cache.clone(), by, questions.clone(), part(questions.len(), TASKS, task))
                        })
                    };
                    get_all(keys(touched))?;
                    let others = (0..due.len() * (GETS_A_TOUCH - 1)).filter_map(|_| fastrand::choice(touched).copied());
                    let mut order: Vec<u32> = others.chain(due.iter().copied()).collect();
                    fastrand::shuffle(&mut order);
                    let touches = bed.calls("evalsha")?;
                    let cost = get_all(keys(&order))?;
                    let touches = bed.calls("evalsha")? - touches;
                    let expected = due.len() as f64;
                    // With another number of touches, the row would measure something else.
                    if (touches - expected).abs() > expected / 20.0 {
                        return Err(format!("{touches} touches where {expected} were due"));
                    }
                    Ok(cost.cpu / 1e3)
                })
            };
            Ok(vec![
                plain,
                asked("get by primary key", Sample::ID, id),
                asked("get by secondary key", Sample::HOST, |number| host(number, 0)),
            ])
        }),
        varies: true,
    }
}

/// Gets a part of the keys, one after the other. Each must be a hit.
pub(crate) async fn in_order(
    cache: Cache<Sample>,
    by: Index<Sample, String>,
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

/// Gets a part of the keys. Each must be a miss.
async fn miss(
    cache: Cache<Sample>,
    by: Index<Sample, String>,
    questions: Questions,
    part: std::ops::Range<usize>,
) -> Result<usize, String> {
    for key in questions.get(part).unwrap_or_default() {
        if cache.get(by, key.as_str()).await.is_some() {
            return Err(format!("`{key}` was found"));
        }
    }
    Ok(0)
}

/// GETs a part of the keys, one after the other.
pub(crate) async fn plain_in_order(
    mut connection: redis::aio::MultiplexedConnection,
    questions: Questions,
    part: std::ops::Range<usize>,
) -> Result<usize, String> {
    let questions = questions.get(part).unwrap_or_default();
    for key in questions {
        let _: Vec<u8> = redis::cmd("GET").arg(key).query_async(&mut connection).await.map_err(text)?;
    }
    Ok(questions.len())
}
