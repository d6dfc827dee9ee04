//! One node: a connection, and a cache on it.

use crate::instance::{Instance, instance};
use larder::connector::redis::Redis;
use larder::connector::redis::{Address, RedisOptions};
use larder::{Cache, Lookup, Schema, Stored, Ticket};
use larder_testing::server::{Server, ServerOptions, required};
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub(crate) struct Node {
    pub(crate) redis: Redis,
    pub(crate) cache: Cache<Instance>,
}

/// Starts one server of each kind that is installed.
pub(crate) async fn servers(options: ServerOptions) -> Vec<Server> {
    let mut servers = Vec::new();
    for binary in required().unwrap() {
        servers.push(Server::start(&binary, options.clone()).await.unwrap());
    }
    servers
}

/// The default settings, the breaker's included, but for those that ask how fast the machine is: no answer of a server that
/// runs is late or slow, and once a breaker has closed no get is shed by its ramp.
pub(crate) fn config(socket: &Path) -> RedisOptions {
    let address = Address::Unix(socket.to_owned());
    // What a test waits several times for where the server hangs.
    let operation_timeout = Duration::from_millis(300);
    let mut config = RedisOptions::new(address).operation_timeout(operation_timeout);
    config.breaker.slow_call = Duration::from_secs(20);
    config.breaker.ramp = Duration::ZERO;
    config
}

impl Node {
    /// A node that has begun to connect.
    pub(crate) fn begin(config: RedisOptions) -> Self {
        Self::with_ages(config, Duration::ZERO, Duration::ZERO)
    }

    pub(crate) fn with_ages(config: RedisOptions, max_age: Duration, last_use_age: Duration) -> Self {
        let redis = Redis::open(config).unwrap();
        let schema = Schema::of::<Instance>().ages(max_age, last_use_age);
        let cache = Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
        Self { redis, cache }
    }

    /// A node that is connected.
    pub(crate) async fn on(server: &Server) -> Self {
        let node = Self::begin(config(server.socket()));
        node.readable().await;
        node
    }

    pub(crate) async fn readable(&self) {
        until("the cache can be read", || self.cache.status().readable).await;
    }

    pub(crate) async fn set(&self, id: &str, hosts: &[&str], name: &str) {
        assert_eq!(self.cache.set(instance(id, hosts, name)).await, Stored::Accepted);
    }

    pub(crate) async fn by_host(&self, host: &str) -> Option<Arc<Instance>> {
        self.cache.get(Instance::HOST, host).await
    }

    pub(crate) async fn by_id(&self, id: &str) -> Option<Arc<Instance>> {
        self.cache.get(Instance::ID, id).await
    }

    /// The ticket of a miss.
    pub(crate) async fn ticket(&self) -> Ticket {
        match self.cache.lookup(Instance::ID, "nobody has this id").await {
            Lookup::Miss { ticket: Some(ticket), .. } => ticket,
            other => panic!("no ticket: {other:?}"),
        }
    }
}

/// Waits for a condition, for half a minute at most.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How often a command was called since the statistics were reset.
pub(crate) async fn calls(server: &Server, command: &str) -> u64 {
    let stats = server.info("commandstats").await.unwrap();
    let Some(line) = stats.get(&format!("cmdstat_{command}")) else { return 0 };
    line.split(',').find_map(|part| part.strip_prefix("calls=")).unwrap().parse().unwrap()
}

/// What a future answers when it is asked once, without waiting.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}
