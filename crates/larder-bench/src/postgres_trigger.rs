//! What a declared source costs those who write to its table: an UPDATE with the triggers, compared with the same UPDATE without them.

use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::postgres_bed::{Database, TASKS, contestant, cpu, told, wait};
use crate::postgres_feed::{Node, polls};
use crate::testbed::text;
use larder::feed::{Source, Sources};
use larder_testing::postgres::PostgresBinaries;
use std::sync::Arc;

const ROWS: i64 = 100_000;

/// Durable: without the wait for the disk the triggers' share would be too large.
const DURABLE: &str = "fsync = on\nfull_page_writes = on";

/// How many rows the large statement changes.
const MANY: i64 = 1_000;

const WRITERS: usize = 32;

struct Table {
    name: &'static str,
    one: &'static str,
    many: &'static str,
    writers: &'static str,
}

const PLAIN: Table =
    Table { name: "silent", one: "UPDATE of a row", many: "UPDATE of 1,000 rows", writers: "32 writers" };
/// Its cache is in memory, and follows the feed.
const TOLD: Table = Table {
    name: "told",
    one: "UPDATE of a row, told",
    many: "UPDATE of 1,000 rows, told",
    writers: "32 writers, told",
};

/// Its cache may keep objects in the database, too.
const TOLD_IN_FULL: Table = Table {
    name: "told_in_full",
    one: "UPDATE of a row, told in full",
    many: "UPDATE of 1,000 rows, told in full",
    writers: "32 writers, told in full",
};

pub(crate) fn rows(binaries: &PostgresBinaries, suffix: &str) -> Group {
    let binaries = binaries.clone();
    Group {
        name: format!("what a declared source costs writers, {suffix}"),
        rows: vec![
            Comparison::new(format!("postgres-trigger-row/{suffix}"), cpu(TOLD.one), cpu(PLAIN.one), Bar::Most(2.3)),
            Comparison::new(format!("postgres-trigger-row-wait/{suffix}"), wait(TOLD.one), wait(PLAIN.one), Bar::Open),
            Comparison::new(format!("postgres-trigger-1000/{suffix}"), cpu(TOLD.many), cpu(PLAIN.many), Bar::Most(2.0)),
            Comparison::new(
                format!("postgres-trigger-writers/{suffix}"),
                TOLD.writers,
                PLAIN.writers,
                Bar::Least(0.45),
            ),
            Comparison::new(
                format!("postgres-trigger-full-row/{suffix}"),
                cpu(TOLD_IN_FULL.one),
                cpu(PLAIN.one),
                Bar::Open,
            ),
            Comparison::new(
                format!("postgres-trigger-full-1000/{suffix}"),
                cpu(TOLD_IN_FULL.many),
                cpu(PLAIN.many),
                Bar::Open,
            ),
            Comparison::new(
                format!("postgres-trigger-full-writers/{suffix}"),
                TOLD_IN_FULL.writers,
                PLAIN.writers,
                Bar::Open,
            ),
        ],
        contestants: Box::new(move |effort| {
            let bed = Database::start(&binaries, &[DURABLE])?;
            for table in [&PLAIN, &TOLD, &TOLD_IN_FULL] {
                bed.sql(&format!(
                    "CREATE TABLE public.{0} (id int8 PRIMARY KEY, name text NOT NULL, filler text NOT NULL) WITH (fillfactor = 80); \
                     INSERT INTO public.{0} SELECT n, 'name', repeat('x', 200) FROM generate_series(1, {ROWS}) n",
                    table.name
                ))?;
                bed.sql(&format!("VACUUM ANALYZE public.{}", table.name))?;
            }
            let node = Node::of(&bed, &polls())?;
            let sources = Sources::new()
                .of("sample", Source::new("public.told", ["id"], "id"))
                .elsewhere("sample")
                .of("other", Source::new("public.told_in_full", ["id"], "id"));
            bed.clients.run(sources.apply(&bed.options()?)).map_err(text)?;
            let (each, large) = (effort.of(2_000, 500), effort.of(20, 5));
            let mut all = Vec::new();
            for table in [&PLAIN, &TOLD, &TOLD_IN_FULL] {
                all.push(of_one(&bed, table, each));
                all.push(of_many(&bed, table, large));
                all.push(of_writers(&bed, table, effort.of(100, 40))?);
            }
            // The cache follows the feed while its sources are written to.
            all.push(Contestant::new("open", "", move || Ok(f64::from(u8::from(node.cache.status().readable)))));
            Ok(all)
        }),
        varies: true,
    }
}

fn statement(table: &Table, condition: &str) -> String {
    format!("UPDATE public.{} SET name = $2 WHERE {condition}", table.name)
}

/// One row, by each of the tasks.
fn of_one(bed: &Arc<Database>, table: &'static Table, each: usize) -> Contestant {
    let bed = bed.clone();
    contestant(table.one, move || {
        bed.cost(TASKS, |task| update(bed.bare.get(task).cloned(), statement(table, "id = $1"), each))
    })
}

/// Many rows in one statement, by one task. The figure is for the statement.
fn of_many(bed: &Arc<Database>, table: &'static Table, each: usize) -> Contestant {
    let bed = bed.clone();
    contestant(table.many, move || {
        let condition = format!("id >= $1 AND id < $1 + {MANY}");
        bed.cost(1, |task| update(bed.bare.get(task).cloned(), statement(table, &condition), each))
    })
}

/// Commits a second of many writers.
fn of_writers(bed: &Arc<Database>, table: &'static Table, each: usize) -> Result<Contestant, String> {
    let sessions = (0..WRITERS).map(|_| bed.session()).collect::<Result<Vec<_>, _>>()?;
    let bed = bed.clone();
    Ok(Contestant::new(table.writers, "commits/s", move || {
        let begun = std::time::Instant::now();
        let done = bed
            .clients
            .together(WRITERS, |writer| update(sessions.get(writer).cloned(), statement(table, "id = $1"), each))?;
        Ok(done as f64 / begun.elapsed().as_secs_f64())
    }))
}

async fn update(
    session: Option<Arc<tokio_postgres::Client>>,
    statement: String,
    count: usize,
) -> Result<usize, String> {
    let session = session.ok_or("there is no session")?;
    let statement = session.prepare(&statement).await.map_err(|error| told(&error))?;
    for _ in 0..count {
        let (row, name) = (fastrand::i64(1..=ROWS - MANY), fastrand::u64(..).to_string());
        session.execute(&statement, &[&row, &name]).await.map_err(|error| told(&error))?;
    }
    Ok(count)
}
