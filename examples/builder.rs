//! Sets caches up in code, without a file: two connectors, two caches, and a wait until they can be read.
//!
//! ```sh
//! cargo run -p larder-examples --bin builder
//! ```

use larder::connector::memory::MemoryOptions;
use larder::connector::redis::RedisOptions;
use larder::{Cache, CacheOptions, Caches, Entry};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
struct Instance {
    #[key(primary)]
    id: u64,
    #[key(index = "host")]
    hosts: Vec<String>,
}

/// Found by its number, or by tenant and name together.
#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "account", key(index = "login", fields = (tenant, name)))]
struct Account {
    #[key(primary)]
    number: u64,
    tenant: String,
    name: String,
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let caches = Caches::builder()
        .redis("main", RedisOptions::new("127.0.0.1:6379").operation_timeout(Duration::from_millis(50)))
        .memory("local", MemoryOptions::new().max_objects(10_000))
        .cache::<Instance>(CacheOptions::on("main").max_age(60 * MINUTE).last_use_age(10 * MINUTE))
        .cache::<Account>(CacheOptions::on("local").max_age(5 * MINUTE))
        .open()
        .await?;
    let instances: Cache<Instance> = caches.open()?;
    let accounts: Cache<Account> = caches.open()?;

    // A service can start while its server is down: then gets miss, and changes are deferred. A service that does not want that waits.
    let readiness = caches.ready(Duration::from_secs(1)).await;
    println!("{readiness}");

    instances.set(Instance { id: 42, hosts: vec!["acme.example".into()] }).await;
    accounts.set(Account { number: 7, tenant: "acme".into(), name: "jo".into() }).await;
    println!("instance by host: {}", instances.get(Instance::HOST, "acme.example").await.is_some());
    println!("account by login: {}", accounts.get(Account::LOGIN, ("acme", "jo")).await.is_some());

    println!("{}", caches.shutdown().await);
    Ok(())
}
