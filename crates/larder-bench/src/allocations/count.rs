//! Counts the allocations of operations. The argument is the port of a server. See `allocations.rs`.
//!
//! One thread does everything, including the connection's task, so that everything that an operation causes is counted.

#[path = "../sample.rs"]
#[allow(dead_code, reason = "shared with the program that measures time")]
mod sample;

use larder::connector::memory::{Memory, MemoryOptions};
use larder::connector::redis::Redis;
use larder::connector::redis::{Address, RedisOptions};
use larder::contract::Connector;
use larder::{Cache, Index, Schema, Stored};
use sample::{Sample, Shape, host, id, packed};
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

const OBJECTS: u32 = 1_000;

fn main() -> ExitCode {
    let counted = std::env::args().nth(1).ok_or("give the port of a server".to_owned()).and_then(|port| count(&port));
    match counted {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn count(port: &str) -> Result<(), String> {
    let port = port.parse().map_err(text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;

    let schema = Schema::of::<Sample>().ages(Duration::from_secs(3600), Duration::ZERO);
    let memory = Memory::open(schema.clone(), MemoryOptions::default()).map_err(text)?;
    let memory = cache(Arc::new(memory), schema);
    operation(&runtime, "set, memory", |number| set(memory.clone(), number))?;
    operation(&runtime, "get by secondary key, memory", |number| get(&memory, Sample::HOST, host(number, 0)))?;

    let address = Address::Tcp { host: "127.0.0.1".into(), port };
    let (redis, bare) = runtime.block_on(async {
        let redis = Redis::open(RedisOptions::new(address)).map_err(text)?;
        let client = redis::Client::open(("127.0.0.1", port)).map_err(text)?;
        Ok::<_, String>((redis, client.get_multiplexed_async_connection().await.map_err(text)?))
    })?;
    let schema = Schema::of::<Sample>().ages(Duration::from_secs(3600), Duration::ZERO);
    let shared = cache(Arc::new(redis.connector(schema.clone()).map_err(text)?), schema);
    runtime.block_on(async {
        for _ in 0..1_000 {
            if shared.status().readable {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err("larder has not connected within 5 seconds".to_owned())
    })?;
    operation(&runtime, "set", |number| set(shared.clone(), number))?;
    operation(&runtime, "get by primary key", |number| get(&shared, Sample::ID, id(number)))?;
    operation(&runtime, "get by secondary key, warm", |number| get(&shared, Sample::HOST, host(number, 0)))?;
    operation(&runtime, "encode and SET", |number| {
        let mut connection = bare.clone();
        let object = Shape::of(300).object(number);
        async move {
            let mut set = redis::cmd("SET");
            set.arg(id(number)).arg(packed(&object));
            set.query_async::<()>(&mut connection).await.map_err(text)
        }
    })?;
    operation(&runtime, "GET and decode", |number| {
        let (mut connection, key) = (bare.clone(), id(number));
        async move {
            let bytes: Vec<u8> = redis::cmd("GET").arg(key).query_async(&mut connection).await.map_err(text)?;
            std::hint::black_box(Arc::new(rmp_serde::from_slice::<Sample>(&bytes).map_err(text)?));
            Ok(())
        }
    })?;
    operation(&runtime, "invalidate", |number| {
        let (cache, key) = (shared.clone(), host(number, 0));
        async move { cache.invalidate(Sample::HOST, [key]).await.map(drop).map_err(text) }
    })
}

fn cache(connector: Arc<dyn Connector>, schema: Schema) -> Cache<Sample> {
    Cache::new(connector, schema).unwrap_or_else(|error| unreachable!("{error}"))
}

async fn get_one(cache: Cache<Sample>, by: Index<Sample, String>, key: String) -> Result<(), String> {
    cache.get(by, key.as_str()).await.map(drop).ok_or_else(|| format!("`{key}` was a miss"))
}

fn get(
    cache: &Cache<Sample>,
    by: Index<Sample, String>,
    key: String,
) -> impl Future<Output = Result<(), String>> + use<> {
    get_one(cache.clone(), by, key)
}

fn set(cache: Cache<Sample>, number: u32) -> impl Future<Output = Result<(), String>> {
    let object = Arc::new(Shape::of(300).object(number));
    async move {
        match cache.set(object).await {
            Stored::Accepted => Ok(()),
            other => Err(format!("a set ended as {other:?}")),
        }
    }
}

/// Runs all operations once, so that tables and buffers have grown, and counts in a second run. The preparation of an operation is not
/// counted.
fn operation<F: Future<Output = Result<(), String>>>(
    runtime: &Runtime,
    name: &str,
    prepare: impl Fn(u32) -> F,
) -> Result<(), String> {
    let mut ended: Result<(), String> = Ok(());
    let mut counted = allocation_counter::AllocationInfo::default();
    for _ in 0..2 {
        let operations: Vec<F> = (0..OBJECTS).map(&prepare).collect();
        let work = async {
            for operation in operations {
                operation.await?;
            }
            Ok::<_, String>(())
        };
        let work = Box::pin(work);
        counted = allocation_counter::measure(|| ended = runtime.block_on(work));
        std::mem::replace(&mut ended, Ok(()))?;
    }
    let each = |total: u64| total as f64 / f64::from(OBJECTS);
    println!("{name}\t{:.2}\t{:.0}", each(counted.count_total), each(counted.bytes_total));
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
