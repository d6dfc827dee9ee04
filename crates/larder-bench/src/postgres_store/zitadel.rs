//! A cache in PostgreSQL as Zitadel has it, written anew from its description: objects as `jsonb`, a table of keys with a foreign key to
//! them, and a get that is an UPDATE.
//!
//! What it leaves out: a set leaves the object's earlier state behind under keys that the new state lacks, and nothing keeps a slow load of an
//! older state out.

use crate::measure::Contestant;
use crate::postgres_bed::{Database, TASKS, contestant, told};
use crate::sample::{Shape, host, id};
use crate::testbed::{part, shuffled};
use std::cell::Cell;
use std::sync::Arc;
use tokio_postgres::Statement;

pub(crate) const GET: &str = "Zitadel's get";
pub(crate) const SET: &str = "Zitadel's set, new";
pub(crate) const INVALIDATE: &str = "Zitadel's invalidate";

const TABLES: &str = "
CREATE SCHEMA peer;
CREATE UNLOGGED TABLE peer.objects (
  cache_name text NOT NULL, id uuid DEFAULT gen_random_uuid(), created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz NOT NULL DEFAULT now(), payload jsonb NOT NULL, PRIMARY KEY (cache_name, id));
CREATE UNLOGGED TABLE peer.string_keys (
  cache_name text NOT NULL, index_id int4 NOT NULL, index_key text NOT NULL, object_id uuid NOT NULL,
  PRIMARY KEY (cache_name, index_id, index_key),
  FOREIGN KEY (cache_name, object_id) REFERENCES peer.objects ON DELETE CASCADE);
CREATE INDEX ON peer.string_keys (cache_name, object_id);";

const SET_STATEMENT: &str = "
WITH object AS (INSERT INTO peer.objects (cache_name, payload) VALUES ('sample', $1::text::jsonb) RETURNING id)
INSERT INTO peer.string_keys (cache_name, index_id, index_key, object_id)
  SELECT 'sample', k.index_id, k.index_key, object.id FROM object, unnest($2::int4[], $3::text[]) k(index_id, index_key)
  ON CONFLICT (cache_name, index_id, index_key) DO UPDATE SET object_id = excluded.object_id";

const GET_STATEMENT: &str = "
UPDATE peer.objects o SET last_used_at = now()
  WHERE o.cache_name = 'sample'
    AND o.id = (SELECT k.object_id FROM peer.string_keys k WHERE k.cache_name = 'sample' AND k.index_id = $1 AND k.index_key = $2)
    AND o.created_at > now() - interval '1 hour' AND o.last_used_at > now() - interval '1 hour'
  RETURNING payload::text";

const INVALIDATE_STATEMENT: &str = "
DELETE FROM peer.objects o USING peer.string_keys k
  WHERE k.cache_name = 'sample' AND k.index_id = $1 AND k.index_key = ANY ($2::text[]) AND o.cache_name = k.cache_name AND o.id = k.object_id";

/// Makes the tables, and stores these objects.
pub(crate) fn install(bed: &Arc<Database>, shape: Shape, objects: u32) -> Result<(), String> {
    bed.sql(TABLES)?;
    let numbers = Arc::new(shuffled(0..objects));
    bed.clients.together(TASKS, |task| store(bed.clone(), shape, numbers.clone(), task))?;
    bed.sql("ANALYZE peer.objects, peer.string_keys")
}

/// Gets by a secondary key.
pub(crate) fn get(bed: &Arc<Database>, objects: u32, operations: usize) -> Contestant {
    let bed = bed.clone();
    contestant(GET, move || {
        bed.cost(TASKS, |task| {
            let bed = bed.clone();
            async move {
                let (session, statement) = prepared(&bed, task, GET_STATEMENT).await?;
                for _ in 0..operations / TASKS {
                    let key = host(fastrand::u32(..objects), fastrand::u32(..3));
                    let row = session.query_one(&statement, &[&1, &key]).await.map_err(|error| told(&error))?;
                    let _: &str = row.try_get(0).map_err(|error| told(&error))?;
                }
                Ok(operations / TASKS)
            }
        })
    })
}

/// Sets of new objects, and invalidations by a secondary key.
pub(crate) fn writing(bed: &Arc<Database>, shape: Shape, objects: u32, writes: u32) -> [Contestant; 2] {
    let unused = Cell::new(objects);
    let setting = {
        let bed = bed.clone();
        contestant(SET, move || {
            let first = unused.replace(unused.get() + writes);
            let numbers = Arc::new(shuffled(first..first + writes));
            bed.cost(TASKS, |task| store(bed.clone(), shape, numbers.clone(), task))
        })
    };
    let bed = bed.clone();
    let invalidating = contestant(INVALIDATE, move || {
        let mut numbers = shuffled(0..objects);
        numbers.truncate(usize::try_from(writes).unwrap_or(usize::MAX));
        let numbers = Arc::new(numbers);
        let cost = bed.cost(TASKS, |task| forget(bed.clone(), numbers.clone(), task))?;
        bed.clients.together(TASKS, |task| store(bed.clone(), shape, numbers.clone(), task))?;
        Ok(cost)
    });
    [setting, invalidating]
}

async fn prepared(
    bed: &Database,
    task: usize,
    statement: &str,
) -> Result<(Arc<tokio_postgres::Client>, Statement), String> {
    let session = bed.bare.get(task).cloned().ok_or("there is no session")?;
    let statement = session.prepare(statement).await.map_err(|error| told(&error))?;
    Ok((session, statement))
}

async fn store(bed: Arc<Database>, shape: Shape, numbers: Arc<Vec<u32>>, task: usize) -> Result<usize, String> {
    let (session, statement) = prepared(&bed, task, SET_STATEMENT).await?;
    let indexes: Vec<i32> = std::iter::once(0).chain((0..shape.hosts).map(|_| 1)).collect();
    // As JSON the payload has its size, too, within a few bytes.
    let payload = format!("{{\"content\": \"{}\"}}", "x".repeat(shape.payload.saturating_sub(16)));
    let numbers = numbers.get(part(numbers.len(), TASKS, task)).unwrap_or_default();
    for number in numbers {
        let keys: Vec<String> =
            std::iter::once(id(*number)).chain((0..shape.hosts).map(|which| host(*number, which))).collect();
        session.execute(&statement, &[&payload, &indexes, &keys]).await.map_err(|error| told(&error))?;
    }
    Ok(numbers.len())
}

async fn forget(bed: Arc<Database>, numbers: Arc<Vec<u32>>, task: usize) -> Result<usize, String> {
    let (session, statement) = prepared(&bed, task, INVALIDATE_STATEMENT).await?;
    let numbers = numbers.get(part(numbers.len(), TASKS, task)).unwrap_or_default();
    for number in numbers {
        let keys = vec![host(*number, 0)];
        session.execute(&statement, &[&1, &keys]).await.map_err(|error| told(&error))?;
    }
    Ok(numbers.len())
}
