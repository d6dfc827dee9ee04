//! A small service with a cache in memory: fills it, says `idle`, and waits until its standard input ends. `tests/idle.rs` looks at it meanwhile.

use larder::{Cache, CacheOptions, Caches, Entry};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::time::Duration;

const OBJECTS: usize = 1000;

#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
struct Instance {
    #[key(primary)]
    id: String,
    #[key(index = "host")]
    hosts: Vec<String>,
    #[version]
    sequence: u64,
    name: String,
}

fn instance(number: usize) -> Instance {
    let host = |part: &str| format!("{part}-{number}.example");
    Instance {
        id: number.to_string(),
        hosts: vec![host("www"), host("login"), host("api")],
        sequence: 1,
        name: format!("instance number {number}"),
    }
}

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    // With nothing but a clock: a runtime that is given everything opens sockets of its own.
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(serve())
}

async fn serve() -> Result<(), Failed> {
    let (hour, ten_minutes) = (Duration::from_secs(3600), Duration::from_secs(600));
    let options = CacheOptions::on("memory").max_age(hour).last_use_age(ten_minutes);
    let caches = Caches::builder().cache::<Instance>(options).open().await?;
    let instances: Cache<Instance> = caches.open()?;
    for number in 0..OBJECTS {
        instances.set(instance(number)).await;
    }
    for number in 0..OBJECTS {
        let host = format!("login-{number}.example");
        if instances.get(Instance::HOST, &host).await.is_none() {
            return Err(format!("`{host}` is not in the cache").into());
        }
    }
    println!("idle");
    // What runs in the background goes on meanwhile.
    let (over, until_over) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        over.send(())
    });
    until_over.await?;
    caches.shutdown().await;
    Ok(())
}
