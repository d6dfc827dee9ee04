//! What a get costs PostgreSQL, compared with a plain SELECT of the same bytes, and with the layout that Zitadel's cache has.

use crate::measure::{Bar, Comparison, Contestant, Effort, Group};
use crate::postgres_bed::{Database, TASKS, contestant, cpu, wait};
use crate::postgres_store::zitadel;
use crate::redis_get::{Questions, get, in_order};
use crate::sample::{Sample, Shape, host, id};
use crate::testbed::{Opening, part};
use larder::{Cache, Index, Lookup};
use larder_testing::postgres::PostgresBinaries;
use std::sync::Arc;
use std::time::Duration;

const PRIMARY: &str = "get by primary key";
const HINTED: &str = "get by secondary key, warm";
const COLD: &str = "get by secondary key, cold";
const AGED: &str = "get, every tenth with a touch";
const MISS: &str = "miss, with a ticket";

/// The number of objects in the database for this payload.
pub(crate) fn objects(payload: usize, effort: Effort) -> u32 {
    u32::try_from(100_000_000 / payload).unwrap_or(u32::MAX).clamp(64, effort.of(100_000, 20_000))
}

/// The number of operations in a round.
pub(crate) fn gets(effort: Effort) -> usize {
    effort.of(12_000, 4_000)
}

/// Gets, and misses with their tickets.
pub(crate) fn rows(binaries: &PostgresBinaries, payload: usize, suffix: &str) -> Group {
    let small = payload == 300;
    let bars = |of_small, of_large| Bar::Most(if small { of_small } else { of_large });
    let rows = [
        ("get-primary", PRIMARY, bars(1.8, 1.3), bars(1.5, 1.25)),
        ("get-secondary", HINTED, bars(1.8, 1.3), bars(1.5, 1.25)),
        ("get-cold", COLD, bars(2.5, 1.9), bars(2.1, 1.6)),
        ("get-aged", AGED, bars(1.8, 1.4), bars(1.5, 1.4)),
        ("miss", MISS, Bar::Open, Bar::Open),
        ("get-zitadel", zitadel::GET, Bar::Open, Bar::Open),
    ];
    let row = |(row, ours, of_cpu, of_wait): (&str, &str, Bar, Bar)| {
        [
            Comparison::new(format!("postgres-{row}/{suffix}"), cpu(ours), cpu("SELECT"), of_cpu),
            Comparison::new(format!("postgres-{row}-wait/{suffix}"), wait(ours), wait("SELECT"), of_wait),
        ]
    };
    let binaries = binaries.clone();
    Group {
        name: format!("what a get costs PostgreSQL, {suffix}"),
        rows: rows.into_iter().flat_map(row).collect(),
        contestants: Box::new(move |effort| contestants(&binaries, payload, effort)),
        varies: true,
    }
}

fn contestants(binaries: &PostgresBinaries, payload: usize, effort: Effort) -> Result<Vec<Contestant>, String> {
    let (shape, objects, operations) = (Shape::of(payload), objects(payload, effort), gets(effort));
    let bed = Database::start(binaries, &[])?;
    let warm = bed.open(Opening::plain())?;
    bed.fill(&warm, shape, 0..objects)?;
    let ids = bed.copy()?;
    zitadel::install(&bed, shape, objects)?;
    // This node has room for one hint, so it almost never has the hint that it needs.
    let cold = bed.open(Opening { hints: 1, ..Opening::plain() })?;
    let keys: Questions = Arc::new((0..objects).map(id).collect());
    let hosts: Questions = Arc::new((0..objects).map(|number| host(number, number % 3)).collect());
    let asked = |name: &'static str, cache: &Cache<Sample>, by: Index<Sample, String>, questions: &Questions| {
        let (bed, cache, questions) = (bed.clone(), cache.clone(), questions.clone());
        contestant(name, move || bed.cost(TASKS, |_| get(cache.clone(), by, questions.clone(), operations / TASKS)))
    };
    let missed = {
        let (bed, cache) = (bed.clone(), warm.clone());
        contestant(MISS, move || bed.cost(TASKS, |_| misses(cache.clone(), operations / TASKS)))
    };
    Ok(vec![
        bed.plain(ids, operations),
        asked(PRIMARY, &warm, Sample::ID, &keys),
        asked(HINTED, &warm, Sample::HOST, &hosts),
        asked(COLD, &cold, Sample::HOST, &hosts),
        aged(&bed, shape, operations)?,
        missed,
        zitadel::get(&bed, objects, operations),
    ])
}

async fn misses(cache: Cache<Sample>, count: usize) -> Result<usize, String> {
    for _ in 0..count {
        match cache.lookup(Sample::ID, "nobody").await {
            Lookup::Miss { ticket: Some(_), .. } => {}
            other => return Err(format!("a miss was {other:?}")),
        }
    }
    Ok(count)
}

/// Ten gets of each object in random order, by primary key. A new cache remembers no touches, so the first get of each object touches it.
fn aged(bed: &Arc<Database>, shape: Shape, operations: usize) -> Result<Contestant, String> {
    let opening = Opening {
        max_age: Duration::from_secs(24 * 3600),
        last_use_age: Duration::from_secs(36_000),
        ..Opening::plain()
    };
    let postgres = bed.connect(TASKS, opening.hints)?;
    let first = bed.cache_on(&postgres, opening)?;
    let objects = u32::try_from(operations / 10).unwrap_or(u32::MAX);
    // A shape of its own: the fingerprint is the same, so these objects replace the others.
    bed.fill(&first, shape, 0..objects)?;
    let bed = bed.clone();
    Ok(contestant(AGED, move || {
        let cache = bed.cache_on(&postgres, opening)?;
        let mut order: Vec<String> = (0..objects).flat_map(|number| std::iter::repeat_n(id(number), 10)).collect();
        fastrand::shuffle(&mut order);
        let questions: Questions = Arc::new(order);
        let begun = bed.number("extract(epoch FROM now())")?;
        let cost = bed.cost(TASKS, |task| {
            in_order(cache.clone(), Sample::ID, questions.clone(), part(questions.len(), TASKS, task))
        })?;
        let touched = bed.number(&format!(
            "SELECT count(*) FROM larder.objects WHERE idle < 'infinity' AND idle >= to_timestamp({begun} + 36000)"
        ))?;
        // With another number of touches, the row would measure something else.
        if (touched - f64::from(objects)).abs() > f64::from(objects) / 20.0 {
            return Err(format!("{touched} touches where {objects} were due"));
        }
        Ok(cost)
    }))
}
