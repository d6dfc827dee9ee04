//! Invalidates within the transaction that makes the change (tokio-postgres): both commit together, or neither does. Objects are kept in the same
//! database, on the postgres connector.
//!
//! ```sh
//! DATABASE_URL='host=/var/run/postgresql user=postgres' cargo run -p larder-examples --bin transaction
//! ```

use larder::connector::postgres::PostgresOptions;
use larder::{Cache, CacheOptions, Caches, Entry};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

#[derive(Clone, Debug, Serialize, Deserialize, Entry)]
#[entry(cache = "organization")]
struct Organization {
    #[key(primary)]
    id: i64,
    #[key(index = "domain")]
    domain: String,
    name: String,
}

type Failed = Box<dyn std::error::Error>;

/// Renames an organization. A process that dies anywhere in here leaves neither the change nor a stale object.
async fn rename(client: &mut Client, cache: &Cache<Organization>, id: i64, name: &str) -> Result<(), Failed> {
    let transaction = client.transaction().await?;
    transaction.execute("UPDATE organizations SET name = $2 WHERE id = $1", &[&id, &name]).await?;
    cache.invalidate_in(&transaction, Organization::ID, [id]).await?;
    transaction.commit().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to the database to use")?;
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    // Only this connection sees the table. The table is gone when the connection ends. What larder needs in the database stays, in the schema `larder`.
    client
        .batch_execute(
            "CREATE TEMP TABLE organizations (id int8 PRIMARY KEY, domain text, name text);
             INSERT INTO organizations VALUES (1, 'acme.example', 'Acme')",
        )
        .await?;
    let caches = Caches::builder()
        .postgres("database", PostgresOptions::from_url(&url)?)
        .cache::<Organization>(CacheOptions::on("database").max_age(Duration::from_secs(3600)))
        .open()
        .await?;
    let cache: Cache<Organization> = caches.open()?;
    caches.ready(Duration::from_secs(5)).await;

    cache.set(Organization { id: 1, domain: "acme.example".into(), name: "Acme".into() }).await;
    println!("cached: {:?}", cache.get(Organization::DOMAIN, "acme.example").await);
    rename(&mut client, &cache, 1, "Acme & Sons").await?;
    println!("after the commit: {:?}", cache.get(Organization::DOMAIN, "acme.example").await);
    caches.shutdown().await;
    Ok(())
}
