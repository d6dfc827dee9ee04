//! What a set, a fill and an invalidation cost PostgreSQL, compared with a plain SELECT of the same bytes, and with the layout that Zitadel's
//! cache has.

use crate::measure::{Bar, Comparison, Contestant, Effort, Group};
use crate::postgres_bed::{Cost, Database, TASKS, contestant, cpu, told, wait};
use crate::postgres_get::{gets, objects};
use crate::sample::{Sample, Shape, host};
use crate::testbed::{Opening, fill, invalidate, part, set, shuffled, ticket};
use larder::Cache;
use larder_testing::postgres::PostgresBinaries;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) mod zitadel;

const FILL_NEW: &str = "ticket and fill, new";
const FILL_AGAIN: &str = "ticket and fill, again";
const SET_NEW: &str = "set, new";
const SET_AGAIN: &str = "set, again";
const INVALIDATE: &str = "invalidate by secondary key";
const FROM_SQL: &str = "larder.invalidate";

/// Writes of objects with one primary and three secondary keys and a max age.
pub(crate) fn rows(binaries: &PostgresBinaries, payload: usize, suffix: &str) -> Group {
    let small = payload == 300;
    let bars = |of_small, of_large| Bar::Most(if small { of_small } else { of_large });
    let select = "SELECT";
    let over_select = [
        ("fill-new", FILL_NEW, select, bars(11.0, 6.0), bars(8.5, 4.0)),
        ("fill-again", FILL_AGAIN, select, bars(11.0, 6.0), bars(8.5, 4.0)),
        ("set-new", SET_NEW, select, bars(11.0, 6.0), bars(8.5, 4.0)),
        ("set-again", SET_AGAIN, select, bars(11.0, 6.0), bars(8.5, 4.0)),
        ("invalidate", INVALIDATE, select, Bar::Most(1.6), Bar::Most(1.6)),
        ("invalidate-sql", FROM_SQL, select, Bar::Most(2.6), Bar::Most(2.6)),
        ("set-zitadel", zitadel::SET, select, Bar::Open, Bar::Open),
        ("invalidate-zitadel", zitadel::INVALIDATE, select, Bar::Open, Bar::Open),
    ];
    let over_zitadel = [
        ("fill-over-zitadel", FILL_NEW, zitadel::SET, Bar::Most(1.3), Bar::Most(1.1)),
        ("set-over-zitadel", SET_NEW, zitadel::SET, Bar::Most(1.3), Bar::Most(1.1)),
        ("invalidate-over-zitadel", INVALIDATE, zitadel::INVALIDATE, Bar::Open, Bar::Open),
    ];
    let row = |(row, ours, peer, of_cpu, of_wait): (&str, &str, &str, Bar, Bar)| {
        [
            Comparison::new(format!("postgres-{row}/{suffix}"), cpu(ours), cpu(peer), of_cpu),
            Comparison::new(format!("postgres-{row}-wait/{suffix}"), wait(ours), wait(peer), of_wait),
        ]
    };
    let binaries = binaries.clone();
    Group {
        name: format!("what writing costs PostgreSQL, {suffix}"),
        rows: over_select.into_iter().chain(over_zitadel).flat_map(row).collect(),
        contestants: Box::new(move |effort| contestants(&binaries, payload, effort)),
        varies: true,
    }
}

fn contestants(binaries: &PostgresBinaries, payload: usize, effort: Effort) -> Result<Vec<Contestant>, String> {
    let (shape, objects, writes) = (Shape::of(payload), objects(payload, effort), effort.of(3_000, 1_000));
    let bed = Database::start(binaries, &[])?;
    let cache = bed.open(Opening::aged())?;
    bed.fill(&cache, shape, 0..objects)?;
    let ids = bed.copy()?;
    zitadel::install(&bed, shape, objects)?;
    let random = move || {
        let mut numbers = shuffled(0..objects);
        numbers.truncate(usize::try_from(writes).unwrap_or(usize::MAX));
        Arc::new(numbers)
    };
    // Numbers of objects that have not been stored yet.
    let unused = Rc::new(Cell::new(objects));
    let fresh = move || {
        let first = unused.replace(unused.get() + writes);
        Arc::new(shuffled(first..first + writes))
    };
    let fresh_too = fresh.clone();

    let (filling, setting) = (Writer::of(&bed, &cache, shape), Writer::of(&bed, &cache, shape));
    let (filling_again, setting_again) = (filling.clone(), setting.clone());
    let invalidating = {
        let (bed, cache) = (bed.clone(), cache.clone());
        move || {
            let numbers = random();
            let work = |task| invalidate(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task));
            let cost = bed.cost(TASKS, work)?;
            bed.clients.together(TASKS, |task| {
                filled(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task))
            })?;
            Ok(cost)
        }
    };
    let from_sql = {
        let bed = bed.clone();
        move || {
            bed.cost(TASKS, |task| {
                let session = bed.bare.get(task).cloned();
                async move {
                    let session = session.ok_or("there is no session")?;
                    let statement = session.prepare("SELECT larder.invalidate('sample', 'host', $1)").await;
                    let statement = statement.map_err(|error| told(&error))?;
                    let count = usize::try_from(writes).unwrap_or(usize::MAX) / TASKS;
                    for _ in 0..count {
                        let key = host(fastrand::u32(..1_000_000_000), 0);
                        session.execute(&statement, &[&key]).await.map_err(|error| told(&error))?;
                    }
                    Ok(count)
                }
            })
        }
    };
    let mut all = vec![
        bed.plain(ids, gets(effort)),
        contestant(FILL_NEW, move || filling.fill(fresh())),
        contestant(FILL_AGAIN, move || filling_again.fill(random())),
        contestant(SET_NEW, move || setting.set(fresh_too())),
        contestant(SET_AGAIN, move || setting_again.set(random())),
        contestant(INVALIDATE, invalidating),
        contestant(FROM_SQL, from_sql),
    ];
    all.extend(zitadel::writing(&bed, shape, objects, writes));
    Ok(all)
}

/// Stores objects through larder, and says what that costs.
#[derive(Clone)]
struct Writer {
    bed: Arc<Database>,
    cache: Cache<Sample>,
    shape: Shape,
}

impl Writer {
    fn of(bed: &Arc<Database>, cache: &Cache<Sample>, shape: Shape) -> Self {
        Self { bed: bed.clone(), cache: cache.clone(), shape }
    }

    fn fill(&self, numbers: Arc<Vec<u32>>) -> Result<Cost, String> {
        let work = |task| filled(self.cache.clone(), self.shape, numbers.clone(), part(numbers.len(), TASKS, task));
        self.bed.cost(TASKS, work)
    }

    fn set(&self, numbers: Arc<Vec<u32>>) -> Result<Cost, String> {
        let work = |task| set(self.cache.clone(), self.shape, numbers.clone(), part(numbers.len(), TASKS, task));
        self.bed.cost(TASKS, work)
    }
}

/// Takes a ticket for each object, and fills it.
async fn filled(
    cache: Cache<Sample>,
    shape: Shape,
    numbers: Arc<Vec<u32>>,
    part: std::ops::Range<usize>,
) -> Result<usize, String> {
    let count = part.len();
    for place in part {
        let ticket = ticket(cache.clone()).await?;
        fill(cache.clone(), shape, numbers.clone(), place..place + 1, ticket).await?;
    }
    Ok(count)
}
