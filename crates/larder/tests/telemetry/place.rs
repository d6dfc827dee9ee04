//! Where a cache may be.

use crate::user::User;
use larder::clock::{Clock, ManualClock};
use larder::connector::memory::{Memory, MemoryOptions};
use larder::connector::noop::Noop;
use larder::{Cache, LoadOptions, Schema};
use larder_testing::server::{Server, ServerOptions, required};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Where a cache may be, and how the time passes there.
pub(crate) enum Place {
    Memory(Clock, ManualClock),
    Noop,
    Redis(Box<Server>),
    /// A server that is not there.
    Down(tempfile::TempDir),
}

impl Place {
    pub(crate) fn memory() -> Self {
        let (clock, hand) = Clock::manual();
        Self::Memory(clock, hand)
    }

    /// Memory, and one server of each kind that is installed.
    pub(crate) async fn that_store() -> Vec<Self> {
        let mut places = vec![Self::memory()];
        let servers = if cfg!(feature = "redis") { required().unwrap() } else { Vec::new() };
        for binary in servers {
            places.push(Self::Redis(Box::new(Server::start(&binary, ServerOptions::default()).await.unwrap())));
        }
        places
    }

    pub(crate) async fn all() -> Vec<Self> {
        let mut places = Self::that_store().await;
        places.push(Self::Noop);
        if cfg!(feature = "redis") {
            places.push(Self::Down(tempfile::tempdir().unwrap()));
        }
        places
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Memory(..) => "memory",
            Self::Noop => "noop",
            Self::Redis(_) => "redis",
            Self::Down(_) => "redis that is down",
        }
    }

    pub(crate) fn stores(&self) -> bool {
        matches!(self, Self::Memory(..) | Self::Redis(_))
    }

    /// A cache of a node of its own.
    pub(crate) async fn cache(&self, options: LoadOptions) -> Cache<User> {
        let schema = Schema::of::<User>().ages(LONG, Duration::ZERO).loading(options);
        let address = match self {
            Self::Memory(clock, _) => {
                let memory = Memory::on_clock(schema.clone(), MemoryOptions::new(), clock.clone()).unwrap();
                return Cache::new(Arc::new(memory), schema).unwrap();
            }
            Self::Noop => return Cache::new(Arc::new(Noop), schema).unwrap(),
            Self::Redis(server) => server.socket().to_owned(),
            Self::Down(folder) => folder.path().join("nobody"),
        };
        let cache = on_server(address, schema);
        if self.stores() {
            until("the cache can be read", || cache.status().readable).await;
        }
        cache
    }
}

#[cfg(feature = "redis")]
fn on_server(socket: PathBuf, schema: Schema) -> Cache<User> {
    use larder::connector::redis::{Address, RedisOptions};
    let address = Address::Unix(socket);
    let mut config = RedisOptions::new(address).operation_timeout(LONG);
    config.breaker.slow_call = LONG;
    let redis = larder::connector::redis::Redis::open(config).unwrap();
    Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap()
}

/// Without the connector no place is on a server.
#[cfg(not(feature = "redis"))]
fn on_server(_: PathBuf, _: Schema) -> Cache<User> {
    unreachable!()
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
