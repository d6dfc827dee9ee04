//! The tables of the service in the database, and the SQL that reads and changes them. Nothing here knows a cache: the declared sources do the rest.

use super::FollowedError;
use super::instance::Instance;
use crate::instance::InstanceKey;
use crate::source::Source as Made;
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::feed::{Source, Sources};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio_postgres::{Client, NoTls, Row};

const TABLES: &str = "
    CREATE SCHEMA demo;
    CREATE TABLE demo.instances (id text PRIMARY KEY, name text NOT NULL);
    CREATE TABLE demo.instance_domains (domain text PRIMARY KEY, instance_id text NOT NULL REFERENCES demo.instances);
    CREATE INDEX ON demo.instance_domains (instance_id);
    CREATE TABLE demo.restrictions (instance_id text PRIMARY KEY REFERENCES demo.instances, user_limit bigint NOT NULL);
";

const FILL: &str = "
    WITH one AS (INSERT INTO demo.instances SELECT $1, $2 RETURNING id),
      domains AS (INSERT INTO demo.instance_domains SELECT unnest($3::text[]), id FROM one)
    INSERT INTO demo.restrictions SELECT id, 100 FROM one";

const READ: &str = "
    SELECT i.id, i.name, r.user_limit, ARRAY(SELECT d.domain FROM demo.instance_domains d WHERE d.instance_id = i.id ORDER BY d.domain)
    FROM demo.instances i JOIN demo.restrictions r ON r.instance_id = i.id";

/// A session with the database. It ends when this is dropped.
pub(super) struct Tables {
    client: Client,
    task: AbortHandle,
}

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqlError {
    #[error("PostgreSQL: {}", .0.as_db_error().map_or_else(|| .0.to_string(), ToString::to_string))]
    Server(#[from] tokio_postgres::Error),
    #[error("PostgreSQL did not answer within {} s", super::PATIENCE.as_secs())]
    Late,
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tables {
    pub(super) async fn connect(dsn: &str) -> Result<Self, SqlError> {
        let (client, connection) = in_time(tokio_postgres::connect(dsn, NoTls)).await?;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer is told of the error.
            let _ = connection.await;
        });
        Ok(Self { client, task: task.abort_handle() })
    }

    /// Makes the tables, fills them, and declares that instances are built from them.
    pub(super) async fn make(dsn: &str, instances: u32) -> Result<Self, FollowedError> {
        let tables = Self::connect(dsn).await?;
        in_time(tables.client.batch_execute(TABLES)).await?;
        let made =
            Made::open(instances, Duration::ZERO, |_| {}).first(usize::try_from(instances).unwrap_or(usize::MAX));
        in_time(tables.client.batch_execute("BEGIN")).await?;
        let fill = in_time(tables.client.prepare(FILL)).await?;
        for one in made {
            in_time(tables.client.execute(&fill, &[&one.id, &one.name, &one.hosts])).await?;
        }
        in_time(tables.client.batch_execute("COMMIT")).await?;
        // The triggers of the sources call larder's functions.
        in_time(tables.client.batch_execute(Postgres::SCHEMA)).await?;
        Sources::new()
            .of("instance", Source::new("demo.instances", ["id"], "id"))
            .of("instance", Source::new("demo.instance_domains", ["instance_id"], "id").columns(["domain"]))
            .of("instance", Source::new("demo.restrictions", ["instance_id"], "id"))
            .apply(&PostgresOptions::from_url(dsn)?)
            .await?;
        Ok(tables)
    }

    /// The instance that a key leads to.
    pub(super) async fn find(&self, key: &InstanceKey) -> Result<Option<Instance>, SqlError> {
        let condition = if key.is_id() {
            "i.id = $1"
        } else {
            "i.id = (SELECT d.instance_id FROM demo.instance_domains d WHERE d.domain = $1)"
        };
        let row = in_time(self.client.query_opt(&format!("{READ} WHERE {condition}"), &[&key.text])).await?;
        row.as_ref().map(read).transpose()
    }

    /// The first `count` instances by id.
    pub(super) async fn first(&self, count: u32) -> Result<Vec<Instance>, SqlError> {
        let rows = in_time(self.client.query(&format!("{READ} ORDER BY i.id LIMIT $1"), &[&i64::from(count)])).await?;
        rows.iter().map(read).collect()
    }

    /// The statement that raises the user limit of an instance. For people to read as well.
    pub(super) fn update(id: &str) -> String {
        let id = id.replace('\'', "''");
        format!("UPDATE demo.restrictions SET user_limit = user_limit + 1 WHERE instance_id = '{id}'")
    }

    /// Runs that statement, which commits by itself. Returns the new limit. `None`: there is no such instance.
    pub(super) async fn run(&self, update: &str) -> Result<Option<i64>, SqlError> {
        let row = in_time(self.client.query_opt(&format!("{update} RETURNING user_limit"), &[])).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

fn read(row: &Row) -> Result<Instance, SqlError> {
    Ok(Instance { id: row.try_get(0)?, name: row.try_get(1)?, user_limit: row.try_get(2)?, hosts: row.try_get(3)? })
}

async fn in_time<T>(answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, SqlError> {
    Ok(tokio::time::timeout(super::PATIENCE, answer).await.map_err(|_| SqlError::Late)??)
}
