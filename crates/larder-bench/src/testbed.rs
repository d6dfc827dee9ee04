//! A server for the measurements, with larder and the bare client on it, and the cost of the server's work.
//!
//! The server counts its own processor time (`INFO cpu`). So the figures are what an operation costs the server, even if other programs use
//! the machine. The client has one thread, so that on two cores the server has a core of its own. Many tasks share one multiplexed
//! connection, so that the server is never idle and each read of its socket brings many commands.

use crate::clients::Clients;
use crate::sample::{Sample, Shape, host, id, packed};
use larder::connector::redis::inspect::dial;
use larder::connector::redis::{Address, Redis, RedisOptions, TlsOptions};
use larder::{Cache, Delivery, LoadOptions, Lookup, Schema, Stored, Ticket};
use larder_testing::certificates::{Authority, Life};
use larder_testing::server::{Server, ServerBinary, ServerOptions};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many tasks share the connection.
pub(crate) const TASKS: usize = 64;

/// The prefixes of larder's keys and of the keys to compare with. All have the same length.
pub(crate) const PREFIX: &str = "larder";
const PLAIN: &str = "plain_";
const PACKED: &str = "packed";

/// A time-out that never fires, even on a busy machine. A time-out must be set, because arming it is part of an operation's cost.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Testbed {
    pub(crate) server: Server,
    /// The bare client's connection.
    pub(crate) bare: MultiplexedConnection,
    tls: Option<Tls>,
    // The last field, so that the connections are dropped while the runtime still runs.
    clients: Clients,
}

/// What larder and the bare client need for a server with TLS.
struct Tls {
    options: TlsOptions,
    _folder: tempfile::TempDir,
}

/// What is stored for the bare client beside each object of larder.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Beside {
    /// The same bytes, without a lifetime.
    Copy,
    /// The same bytes, with the same lifetime.
    AgedCopy,
    /// The object as MessagePack, without larder's header and key list.
    Packed,
}

/// The cost of some operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// The server's processor time, in nanoseconds per operation.
    pub(crate) cpu: f64,
    /// Operations per second.
    pub(crate) rate: f64,
}

/// How a cache on the testbed is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) max_age: Duration,
    pub(crate) last_use_age: Duration,
    /// How many hints the node remembers.
    pub(crate) hints: usize,
    pub(crate) loading: LoadOptions,
}

impl Opening {
    /// Without ages, and with every hint remembered.
    pub(crate) fn plain() -> Self {
        Self {
            max_age: Duration::ZERO,
            last_use_age: Duration::ZERO,
            hints: 2_000_000,
            loading: LoadOptions::default(),
        }
    }

    /// With a max age of an hour.
    pub(crate) fn aged() -> Self {
        Self { max_age: Duration::from_secs(3600), ..Self::plain() }
    }
}

impl Testbed {
    /// A server that listens on TCP, and a client of `threads` threads.
    pub(crate) fn start(binary: &ServerBinary, threads: usize) -> Result<Arc<Self>, String> {
        Self::start_with(binary, threads, ServerOptions::default().tcp(), None)
    }

    /// The same with TLS, for larder and for the bare client. The server asks for no certificate.
    pub(crate) fn start_over_tls(binary: &ServerBinary, threads: usize) -> Result<Arc<Self>, String> {
        let authority = Authority::new("bench").map_err(text)?;
        let pair = authority.issue("bench", &["127.0.0.1"], Life::Long).map_err(text)?;
        let folder = tempfile::tempdir().map_err(text)?;
        let file = folder.path().join("ca");
        std::fs::write(&file, &authority.pem).map_err(text)?;
        let options = ServerOptions::default().tls(&pair.certificate, &pair.key, &authority.pem);
        let tls = Tls { options: TlsOptions::new().ca_file(file), _folder: folder };
        Self::start_with(binary, threads, options.config("tls-auth-clients no"), Some(tls))
    }

    fn start_with(
        binary: &ServerBinary,
        threads: usize,
        options: ServerOptions,
        tls: Option<Tls>,
    ) -> Result<Arc<Self>, String> {
        let clients = Clients::start(threads)?;
        let start = async {
            let server = Server::start(binary, options).await.map_err(text)?;
            let bare = bare(&reached(&server, tls.as_ref())?).await?;
            Ok::<_, String>((server, bare))
        };
        let (server, bare) = clients.run(start)?;
        Ok(Arc::new(Self { server, bare, tls, clients }))
    }

    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.clients.run(work)
    }

    pub(crate) fn connect(&self) -> Result<MultiplexedConnection, String> {
        self.run(bare(&reached(&self.server, self.tls.as_ref())?))
    }

    /// The settings for larder on this server. Nothing is shed, even with more tasks than larder lets through by default.
    pub(crate) fn settings(&self) -> Result<RedisOptions, String> {
        Ok(unhurried(reached(&self.server, self.tls.as_ref())?.prefix(PREFIX)))
    }

    /// A cache with a connection of its own, ready to be read.
    pub(crate) fn open(&self, opening: Opening) -> Result<Cache<Sample>, String> {
        let _runtime = self.clients.enter();
        let redis = Redis::open(self.settings()?.hints(opening.hints)).map_err(text)?;
        self.cache_on(&redis, opening)
    }

    /// As [`connected`].
    pub(crate) fn open_default(&self, opening: Opening) -> Result<(Cache<Sample>, Redis), String> {
        self.run(connected(self.port()?, opening))
    }

    pub(crate) fn port(&self) -> Result<u16, String> {
        self.server.port().ok_or_else(|| "the server has no port".to_owned())
    }

    /// A cache on a connection that other caches use, too, with hints of its own.
    pub(crate) fn cache_on(&self, redis: &Redis, opening: Opening) -> Result<Cache<Sample>, String> {
        self.run(opened(redis, opening))
    }

    /// The cost of the work of `tasks` tasks that run at once. Each task returns how many operations it has done.
    pub(crate) fn cost<F, W>(&self, tasks: usize, work: F) -> Result<Cost, String>
    where
        F: Fn(usize) -> W,
        W: Future<Output = Result<usize, String>> + Send + 'static,
    {
        let before = self.run(self.server.used_cpu()).map_err(text)?;
        let begun = Instant::now();
        let operations = self.together(tasks, work)?;
        let took = begun.elapsed();
        let after = self.run(self.server.used_cpu()).map_err(text)?;
        if operations == 0 {
            return Err("nothing was done".to_owned());
        }
        let cpu = after.saturating_sub(before).as_nanos() as f64 / operations as f64;
        Ok(Cost { cpu, rate: operations as f64 / took.as_secs_f64() })
    }

    /// Runs tasks to their end, and returns the sum of the operations that they have done.
    pub(crate) fn together<F, W>(&self, tasks: usize, work: F) -> Result<usize, String>
    where
        F: Fn(usize) -> W,
        W: Future<Output = Result<usize, String>> + Send + 'static,
    {
        self.clients.together(tasks, work)
    }

    /// Fills the objects with these numbers.
    pub(crate) fn fill(&self, cache: &Cache<Sample>, shape: Shape, numbers: Vec<u32>) -> Result<(), String> {
        let ticket = self.run(ticket(cache.clone()))?;
        let numbers = Arc::new(numbers);
        self.together(TASKS, |task| {
            fill(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task), ticket)
        })?;
        Ok(())
    }

    /// As [`fill_beside`].
    pub(crate) fn fill_beside(
        &self,
        cache: &Cache<Sample>,
        shape: Shape,
        numbers: Range<u32>,
        beside: Beside,
    ) -> Result<(), String> {
        fill_beside(&self.clients, &self.bare, cache, &Names::of(cache), shape, numbers, beside)
    }

    /// Stores each object as MessagePack only, under a key of the same length.
    pub(crate) fn pack(&self, cache: &Cache<Sample>, shape: Shape, numbers: Range<u32>) -> Result<(), String> {
        let names = Names::of(cache);
        self.pipelines(numbers, |pipeline, number| {
            pipeline.cmd("SET").arg(names.packed(number)).arg(packed(&shape.object(number))).ignore();
        })
    }

    /// Copies larder's bytes of the object 0 to one key for each number.
    pub(crate) fn repeat(&self, cache: &Cache<Sample>, numbers: Range<u32>, expiry: Option<u64>) -> Result<(), String> {
        let names = Names::of(cache);
        let mut connection = self.bare.clone();
        let bytes: Vec<u8> = self
            .run(async { redis::cmd("GET").arg(names.object(0)).query_async(&mut connection).await.map_err(text) })?;
        self.pipelines(numbers, |pipeline, number| {
            let set = pipeline.cmd("SET").arg(names.plain(number)).arg(&bytes);
            if let Some(expiry) = expiry {
                set.arg("PX").arg(expiry);
            }
            set.ignore();
        })
    }

    /// Renames objects so that larder does not find them. They keep their lifetimes.
    pub(crate) fn hide(&self, cache: &Cache<Sample>, numbers: &[u32]) -> Result<(), String> {
        let names = Names::of(cache);
        self.pipelines(numbers.iter().copied(), |pipeline, number| {
            pipeline.cmd("RENAME").arg(names.object(number)).arg(names.packed(number)).ignore();
        })
    }

    /// Undoes [`hide`](Self::hide).
    pub(crate) fn show(&self, cache: &Cache<Sample>, numbers: &[u32]) -> Result<(), String> {
        let names = Names::of(cache);
        self.pipelines(numbers.iter().copied(), |pipeline, number| {
            pipeline.cmd("RENAME").arg(names.packed(number)).arg(names.object(number)).ignore();
        })
    }

    /// How often the server has run a command.
    pub(crate) fn calls(&self, command: &str) -> Result<f64, String> {
        let stats = self.run(self.server.info("commandstats")).map_err(text)?;
        let Some(fields) = stats.get(&format!("cmdstat_{command}")) else { return Ok(0.0) };
        let calls = fields.split(',').find_map(|field| field.strip_prefix("calls=")?.parse().ok());
        calls.ok_or_else(|| format!("the server does not say how often it has run {command}"))
    }

    /// Removes these objects and their index keys.
    pub(crate) fn remove(&self, cache: &Cache<Sample>, shape: Shape, numbers: Range<u32>) -> Result<(), String> {
        let names = Names::of(cache);
        self.pipelines(numbers, |pipeline, number| {
            pipeline.cmd("UNLINK").arg(names.object(number)).ignore();
            for which in 0..shape.hosts {
                pipeline.cmd("UNLINK").arg(names.index(number, which)).ignore();
            }
        })
    }

    fn pipelines(
        &self,
        numbers: impl Iterator<Item = u32>,
        add: impl Fn(&mut redis::Pipeline, u32),
    ) -> Result<(), String> {
        let mut connection = self.bare.clone();
        self.run(async {
            let numbers: Vec<u32> = numbers.collect();
            for batch in numbers.chunks(256) {
                let mut pipeline = redis::pipe();
                batch.iter().for_each(|number| add(&mut pipeline, *number));
                let () = pipeline.query_async(&mut connection).await.map_err(text)?;
            }
            Ok(())
        })
    }
}

/// A ticket, from a lookup that misses.
pub(crate) async fn ticket(cache: Cache<Sample>) -> Result<Ticket, String> {
    match cache.lookup(Sample::ID, "nobody").await {
        Lookup::Miss { ticket: Some(ticket), .. } => Ok(ticket),
        other => Err(format!("no ticket: {other:?}")),
    }
}

/// Fills objects in random order. After each object, stores the same for the bare client, under a key of the same length. So both lie in
/// the server's memory in the same way: the difference would be a quarter of a GET.
pub(crate) fn fill_beside(
    clients: &Clients,
    bare: &MultiplexedConnection,
    cache: &Cache<Sample>,
    names: &Names,
    shape: Shape,
    numbers: Range<u32>,
    beside: Beside,
) -> Result<(), String> {
    let ticket = clients.run(ticket(cache.clone()))?;
    let numbers = Arc::new(shuffled(numbers));
    clients.together(TASKS, |task| {
        let (cache, numbers, names) = (cache.clone(), numbers.clone(), names.clone());
        let (part, mut bare) = (part(numbers.len(), TASKS, task), bare.clone());
        async move {
            for place in part {
                fill(cache.clone(), shape, numbers.clone(), place..place + 1, ticket).await?;
                let Some(number) = numbers.get(place) else { continue };
                let (plain, mut pipeline) = (names.plain(*number), redis::pipe());
                match beside {
                    Beside::Copy | Beside::AgedCopy => {
                        pipeline.cmd("COPY").arg(names.object(*number)).arg(&plain);
                        if matches!(beside, Beside::Copy) {
                            pipeline.cmd("PERSIST").arg(plain).ignore();
                        }
                    }
                    Beside::Packed => {
                        let value = packed(&shape.object(*number));
                        pipeline.cmd("SET").arg(names.packed(*number)).arg(value).ignore();
                    }
                }
                let copied: Vec<bool> = pipeline.query_async(&mut bare).await.map_err(text)?;
                if copied.contains(&false) {
                    return Err("an object is not where it should be".to_owned());
                }
            }
            Ok(0)
        }
    })?;
    Ok(())
}

/// The names of a cache's keys on the server: see `layout.rs` of the redis connector.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    cache: String,
    fingerprint: u64,
}

impl Names {
    pub(crate) fn of(cache: &Cache<Sample>) -> Self {
        Self { cache: cache.schema().cache().to_string(), fingerprint: cache.schema().fingerprint() }
    }

    pub(crate) fn in_cluster(cache: &Cache<Sample>) -> Self {
        Self { cache: format!("{{{}}}", cache.schema().cache()), ..Self::of(cache) }
    }

    fn named(&self, prefix: &str, number: u32) -> String {
        format!("{prefix}:{}:o{:016x}:{}", self.cache, self.fingerprint, id(number))
    }

    pub(crate) fn object(&self, number: u32) -> String {
        self.named(PREFIX, number)
    }

    /// A copy of the object's bytes.
    pub(crate) fn plain(&self, number: u32) -> String {
        self.named(PLAIN, number)
    }

    /// The object as MessagePack.
    pub(crate) fn packed(&self, number: u32) -> String {
        self.named(PACKED, number)
    }

    pub(crate) fn index(&self, number: u32, which: u32) -> String {
        format!("{PREFIX}:{}:ihost:{}", self.cache, host(number, which))
    }
}

/// The part of the work that one of several tasks does.
pub(crate) fn part(all: usize, tasks: usize, task: usize) -> Range<usize> {
    all * task / tasks..all * (task + 1) / tasks
}

/// The numbers of a range, in random order.
pub(crate) fn shuffled(numbers: Range<u32>) -> Vec<u32> {
    let mut numbers: Vec<u32> = numbers.collect();
    fastrand::shuffle(&mut numbers);
    numbers
}

pub(crate) async fn fill(
    cache: Cache<Sample>,
    shape: Shape,
    numbers: Arc<Vec<u32>>,
    part: Range<usize>,
    ticket: Ticket,
) -> Result<usize, String> {
    let numbers = numbers.get(part).unwrap_or_default();
    for number in numbers {
        match cache.fill(shape.object(*number), ticket).await {
            Stored::Accepted => {}
            other => return Err(format!("a fill ended as {other:?}")),
        }
    }
    Ok(numbers.len())
}

pub(crate) async fn set(
    cache: Cache<Sample>,
    shape: Shape,
    numbers: Arc<Vec<u32>>,
    part: Range<usize>,
) -> Result<usize, String> {
    let numbers = numbers.get(part).unwrap_or_default();
    for number in numbers {
        match cache.set(shape.object(*number)).await {
            Stored::Accepted => {}
            other => return Err(format!("a set ended as {other:?}")),
        }
    }
    Ok(numbers.len())
}

/// Invalidates through the first secondary key, or through the primary key if there is no secondary key.
pub(crate) async fn invalidate(
    cache: Cache<Sample>,
    shape: Shape,
    numbers: Arc<Vec<u32>>,
    part: Range<usize>,
) -> Result<usize, String> {
    let numbers = numbers.get(part).unwrap_or_default();
    for number in numbers {
        let done = match shape.hosts {
            0 => cache.invalidate(Sample::ID, [id(*number)]).await,
            _ => cache.invalidate(Sample::HOST, [host(*number, 0)]).await,
        };
        match done {
            Ok(Delivery::Applied) => {}
            other => return Err(format!("an invalidation ended as {other:?}")),
        }
    }
    Ok(numbers.len())
}

/// These options, with time-outs that never fire, and nothing that is shed.
pub(crate) fn unhurried(options: RedisOptions) -> RedisOptions {
    let mut options = options.operation_timeout(PATIENCE).max_in_flight(4096);
    options.breaker.slow_call = Duration::ZERO;
    options.breaker.ramp = Duration::ZERO;
    options
}

fn address(port: u16) -> Address {
    Address::Tcp { host: "127.0.0.1".into(), port }
}

/// A cache with default settings except for the address, and its connection.
pub(crate) async fn connected(port: u16, opening: Opening) -> Result<(Cache<Sample>, Redis), String> {
    let redis = Redis::open(RedisOptions::new(address(port))).map_err(text)?;
    Ok((opened(&redis, opening).await?, redis))
}

async fn opened(redis: &Redis, opening: Opening) -> Result<Cache<Sample>, String> {
    let schema = Schema::of::<Sample>().ages(opening.max_age, opening.last_use_age).loading(opening.loading);
    // Objects of a megabyte, with larder's header and key list, exceed the default.
    let schema = schema.max_object_size(4 * 1024 * 1024);
    let cache = Cache::new(Arc::new(redis.connector(schema.clone()).map_err(text)?), schema).map_err(text)?;
    ready(&cache).await?;
    Ok(cache)
}

/// Waits until the cache can be read.
async fn ready(cache: &Cache<Sample>) -> Result<(), String> {
    for _ in 0..2_000 {
        if cache.status().readable {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err("larder has not connected within 10 seconds".to_owned())
}

/// The options for this server, with TLS if it has.
fn reached(server: &Server, tls: Option<&Tls>) -> Result<RedisOptions, String> {
    let port = if tls.is_some() { server.tls_port() } else { server.port() };
    let options = RedisOptions::new(address(port.ok_or("the server has no port")?));
    Ok(tls.iter().fold(options, |options, tls| options.tls(tls.options.clone())))
}

/// A connection that the server cannot tell from larder's: the same protocol, the same socket (TCP_NODELAY, TLS by rustls), and a write queue
/// that sends as many commands at once.
pub(crate) async fn bare(options: &RedisOptions) -> Result<MultiplexedConnection, String> {
    let (socket, _) = dial(options).await.map_err(text)?;
    let options = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE)).set_pipeline_buffer_size(1024);
    let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    let connection = MultiplexedConnection::new_with_config(&info, socket, options).await;
    let (connection, driver) = connection.map_err(text)?;
    tokio::spawn(driver);
    Ok(connection)
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole_and_do_not_overlap() {
        let parts: Vec<usize> = (0..7).flat_map(|task| part(100, 7, task)).collect();
        assert_eq!(parts, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn names_are_equally_long() {
        let names = Names { cache: "sample".to_owned(), fingerprint: 7 };
        assert_eq!(names.object(1), "larder:sample:o0000000000000007:100000002147483647");
        assert_eq!(names.plain(1).len(), names.object(1).len());
        assert_eq!(names.packed(1).len(), names.object(1).len());
    }
}
