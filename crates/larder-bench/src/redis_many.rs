//! What a hundred objects in one call cost, compared with an MGET of the same bytes and with a hundred gets.

use crate::measure::{Bar, Comparison, Contestant, Effort, Group};
use crate::redis_get::{Questions, contestant, get, gets, objects};
use crate::sample::{Sample, Shape, host, id};
use crate::testbed::{Beside, Names, Opening, Testbed, text};
use larder::{Cache, Index};
use larder_testing::server::ServerBinary;
use redis::aio::MultiplexedConnection;
use std::future::Future;
use std::sync::Arc;

/// The number of objects in a call.
const MANY: usize = 100;

const MGET: &str = "MGET of 100";
const KNOWN: &str = "get_many of 100";
const COLD: &str = "get_many of 100, cold";
const CALL: &str = "get_many of 100, alone";
const GETS: &str = "100 gets, one after the other";

/// The server's time by primary key, and by secondary keys that are cold. And how long a single caller waits.
pub(crate) fn rows(binary: &ServerBinary, payload: usize, suffix: &str) -> Group {
    let rows = [("redis-many-known", KNOWN, MGET), ("redis-many-cold", COLD, MGET), ("redis-many-wait", CALL, GETS)];
    let binary = binary.clone();
    Group {
        name: format!("what a get of 100 objects costs, {suffix}"),
        rows: rows.map(|(row, ours, peer)| Comparison::new(format!("{row}/{suffix}"), ours, peer, Bar::Open)).into(),
        contestants: Box::new(move |effort| contestants(&binary, payload, effort)),
        varies: true,
    }
}

fn contestants(binary: &ServerBinary, payload: usize, effort: Effort) -> Result<Vec<Contestant>, String> {
    let (shape, objects) = (Shape::of(payload), objects(payload));
    let calls = gets(payload, effort) / MANY;
    let bed = Testbed::start(binary, 1)?;
    let warm = bed.open(Opening::plain())?;
    bed.fill_beside(&warm, shape, 0..objects, Beside::Copy)?;
    // This node has room for one hint, so it almost never has a hint that it needs.
    let cold = bed.open(Opening { hints: 1, ..Opening::plain() })?;
    let names = Names::of(&warm);
    let plain: Questions = Arc::new((0..objects).map(|number| names.plain(number)).collect());
    let ids: Questions = Arc::new((0..objects).map(id).collect());
    let hosts: Questions = Arc::new((0..objects).map(|number| host(number, number % 3)).collect());
    let bare = bed.bare.clone();
    let many = |name, cache: &Cache<Sample>, by, questions: &Questions| {
        let (cache, questions) = (cache.clone(), questions.clone());
        contestant(name, &bed, calls, move |count| get_many(cache.clone(), by, questions.clone(), count))
    };
    Ok(vec![
        contestant(MGET, &bed, calls, move |count| mget(bare.clone(), plain.clone(), count)),
        many(KNOWN, &warm, Sample::ID, &ids),
        many(COLD, &cold, Sample::HOST, &hosts),
        alone(CALL, &bed, {
            let (cache, ids) = (warm.clone(), ids.clone());
            move || get_many(cache.clone(), Sample::ID, ids.clone(), calls / 10)
        }),
        alone(GETS, &bed, move || {
            let (cache, ids) = (warm.clone(), ids.clone());
            async move { Ok(get(cache, Sample::ID, ids, MANY * (calls / 100).max(1)).await? / MANY) }
        }),
    ])
}

/// A contestant with one task. Its figure is the time for a hundred objects.
fn alone<F, W>(name: &str, bed: &Arc<Testbed>, work: F) -> Contestant
where
    F: Fn() -> W + 'static,
    W: Future<Output = Result<usize, String>> + Send + 'static,
{
    let bed = bed.clone();
    Contestant::new(name, "µs", move || Ok(1e6 / bed.cost(1, |_| work())?.rate))
}

fn some(questions: &Questions) -> Vec<&str> {
    (0..MANY).filter_map(|_| fastrand::choice(questions.iter()).map(String::as_str)).collect()
}

/// Gets a hundred random objects at a time. Each must be a hit.
async fn get_many(
    cache: Cache<Sample>,
    by: Index<Sample, String>,
    questions: Questions,
    count: usize,
) -> Result<usize, String> {
    let count = count.max(1);
    for _ in 0..count {
        let found = cache.get_many(by, some(&questions)).await;
        if found.len() != MANY || found.iter().any(Option::is_none) {
            return Err(format!("some of 100 were misses: {:?}", cache.status()));
        }
    }
    Ok(count)
}

async fn mget(mut connection: MultiplexedConnection, questions: Questions, count: usize) -> Result<usize, String> {
    let count = count.max(1);
    for _ in 0..count {
        let keys = some(&questions);
        let _: Vec<Vec<u8>> = redis::cmd("MGET").arg(keys).query_async(&mut connection).await.map_err(text)?;
    }
    Ok(count)
}
