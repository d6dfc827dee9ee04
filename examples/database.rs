//! Loads from PostgreSQL (tokio-postgres), and tells the cache of a change after its commit.
//!
//! ```sh
//! DATABASE_URL='host=/var/run/postgresql user=postgres' cargo run -p larder-examples --bin database
//! ```

use larder::{Cache, CacheOptions, Caches, Entry, LoadError, UpdateError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::{Client, Error, NoTls, Row};

#[derive(Clone, Debug, Serialize, Deserialize, Entry)]
#[entry(cache = "organization")]
struct Organization {
    #[key(primary)]
    id: i64,
    #[key(index = "domain")]
    domain: String,
    name: String,
    /// Counts the changes: an older state never replaces a newer one.
    #[version]
    version: u64,
}

impl From<Row> for Organization {
    fn from(row: Row) -> Self {
        let version: i64 = row.get("version");
        Self { id: row.get("id"), domain: row.get("domain"), name: row.get("name"), version: version.unsigned_abs() }
    }
}

struct Organizations {
    database: Arc<Client>,
    cache: Cache<Organization>,
}

impl Organizations {
    async fn by_domain(&self, domain: &str) -> Result<Option<Arc<Organization>>, LoadError<Error>> {
        let database = self.database.clone();
        let load = |domain: String| async move {
            let row = database.query_opt("SELECT * FROM organizations WHERE domain = $1", &[&domain]).await?;
            Ok::<_, Error>(row.map(Organization::from))
        };
        self.cache.get_or_load(Organization::DOMAIN, domain, load).await
    }

    /// Loads several at once: one lookup in the cache, and one query for all that are missing.
    async fn by_ids(&self, ids: Vec<i64>) -> Result<Vec<Option<Arc<Organization>>>, LoadError<Error>> {
        let database = self.database.clone();
        // The loader may be called twice: the second time for keys that another caller's load could not answer.
        let load = move |ids: Vec<i64>| {
            let database = database.clone();
            async move {
                let rows = database.query("SELECT * FROM organizations WHERE id = ANY($1)", &[&ids]).await?;
                Ok::<_, Error>(rows.into_iter().map(Organization::from).collect())
            }
        };
        self.cache.load_many(Organization::ID, ids, load).await
    }

    /// `update` runs the write in a task of its own, and caches what the write returns, unless another writer changes the object meanwhile.
    /// A single statement has committed when it returns. A write with a transaction must return after the commit.
    async fn rename(&self, id: i64, name: String) -> Result<Arc<Organization>, UpdateError<Error>> {
        let database = self.database.clone();
        let write = async move {
            let change = "UPDATE organizations SET name = $2, version = version + 1 WHERE id = $1 RETURNING *";
            Ok::<_, Error>(database.query_one(change, &[&id, &name]).await?.into())
        };
        self.cache.update(write).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to the database to use")?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    // Only this connection sees the table. The table is gone when the connection ends.
    client
        .batch_execute(
            "CREATE TEMP TABLE organizations (id bigint PRIMARY KEY, domain text, name text, version bigint DEFAULT 1);
             INSERT INTO organizations VALUES (1, 'acme.example', 'Acme'), (2, 'bolt.example', 'Bolt')",
        )
        .await?;
    let caches = Caches::builder()
        .cache::<Organization>(CacheOptions::on("memory").max_age(Duration::from_secs(3600)))
        .open()
        .await?;
    let organizations = Organizations { database: Arc::new(client), cache: caches.open()? };

    println!("loaded:  {:?}", organizations.by_domain("acme.example").await?);
    println!("renamed: {:?}", organizations.rename(1, "Acme Inc.".into()).await?);
    println!("cached:  {:?}", organizations.by_domain("acme.example").await?);
    println!("many:    {:?}", organizations.by_ids(vec![1, 2, 3]).await?);
    Ok(())
}
