//! How much room an object takes in PostgreSQL, and how much more after it was stored again and again.

use crate::measure::{Bar, Comparison, Contestant, Effort, Group};
use crate::postgres_bed::Database;
use crate::postgres_get::objects;
use crate::sample::Shape;
use crate::testbed::{Opening, part, set, shuffled};
use larder_testing::postgres::PostgresBinaries;
use std::sync::Arc;

/// The bytes of an object with one primary and three secondary keys.
pub(crate) fn of_an_object(binaries: &PostgresBinaries, payload: usize, suffix: &str) -> Group {
    let bar = Bar::Most(if payload == 300 { 2.5 } else { 1.15 });
    let binaries = binaries.clone();
    Group {
        name: format!("room of an object in PostgreSQL, {suffix}"),
        rows: vec![Comparison::new(format!("postgres-room/{suffix}"), "larder, 4 keys", "the same bytes, 1 key", bar)],
        contestants: Box::new(move |effort| {
            let objects = objects(payload, effort);
            let bed = Database::start(&binaries, &[])?;
            bed.fill(&bed.open(Opening::aged())?, Shape::of(payload), 0..objects)?;
            bed.copy()?;
            let weigh = |name, tables: &'static str| {
                let bed = bed.clone();
                Contestant::new(name, "bytes", move || Ok(bed.number(tables)? / f64::from(objects)))
            };
            Ok(vec![
                weigh(
                    "larder, 4 keys",
                    "SELECT pg_total_relation_size('larder.objects') + pg_total_relation_size('larder.keys')",
                ),
                weigh("the same bytes, 1 key", "SELECT pg_total_relation_size('public.plain')"),
            ])
        }),
        varies: false,
    }
}

/// The heap of objects and keys after each object was set ten times, over the heap before. A generation ends thirty-five times meanwhile.
pub(crate) fn after_many_sets(binaries: &PostgresBinaries, suffix: &str) -> Group {
    let binaries = binaries.clone();
    let (before, after) = ("filled once", "set ten times each");
    Group {
        name: format!("room after many sets, {suffix}"),
        rows: vec![Comparison::new(format!("postgres-bloat/{suffix}"), after, before, Bar::Most(1.5))],
        contestants: Box::new(move |effort| {
            let first = heap_after(&binaries, effort)?;
            let (at_first, at_last) = first;
            Ok(vec![
                Contestant::new(before, "MB", move || Ok(at_first / 1e6)),
                Contestant::new(after, "MB", move || Ok(at_last / 1e6)),
            ])
        }),
        varies: false,
    }
}

fn heap_after(binaries: &PostgresBinaries, effort: Effort) -> Result<(f64, f64), String> {
    const HEAP: &str = "SELECT pg_relation_size('larder.objects') + pg_relation_size('larder.keys')";
    let (objects, tasks, turns) = (effort.of(100_000, 10_000), 8, 35);
    let bed = Database::start(binaries, &[])?;
    let shape = Shape::of(300);
    let cache = bed.cache_on(&bed.connect(tasks, 2_000_000)?, Opening::aged())?;
    bed.fill(&cache, shape, 0..objects)?;
    let before = bed.number(HEAP)?;
    let sets: Vec<u32> = (0..10).flat_map(|_| shuffled(0..objects)).collect();
    let sets = Arc::new(sets);
    for turn in 0..turns {
        let whole = part(sets.len(), turns, turn);
        bed.clients.together(tasks, |task| {
            let within = part(whole.len(), tasks, task);
            set(cache.clone(), shape, sets.clone(), whole.start + within.start..whole.start + within.end)
        })?;
        // As nodes do with their heartbeats, at the pace of these sets.
        bed.sql("SELECT larder.turn()")?;
        while bed.number("SELECT CASE WHEN done THEN 1 ELSE 0 END FROM larder.sweep(10000)")? < 1.0 {}
    }
    Ok((before, bed.number(HEAP)?))
}
