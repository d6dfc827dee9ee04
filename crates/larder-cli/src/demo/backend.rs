//! Where the demo's objects are kept: in this process, on a server that the demo starts, or on one that it was pointed to.

use super::node::Node;
use larder::config::{Address, RedisConfig, Secret};
use larder::connector::redis::{Redis, RedisError};
use larder_testing::server::{Server, ServerBinary, ServerError, ServerOptions};
use redis::{ConnectionAddr, IntoConnectionInfo};
use std::path::PathBuf;
use std::time::Duration;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// The memory connector.
    Memory,
    /// The redis connector, on a server of the demo's own: this program, or the first that is found.
    OwnServer(Option<PathBuf>),
    /// The redis connector, on a server that is there already.
    Server(String),
}

/// Where the objects are kept.
pub(crate) struct Backend {
    redis: Option<RedisConfig>,
    server: Option<Server>,
    name: String,
}

/// Why there is nowhere to keep objects.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    #[error("--redis {shown}: {reason}; give redis://[user:password@]host[:port][/database] or redis+unix:///path")]
    Url { shown: String, reason: String },
    #[error("{0}")]
    Server(#[from] ServerError),
    #[error("no Redis or Valkey server is installed here; install one (Debian: apt install redis-server), or give --redis URL")]
    NoServer,
    #[error(transparent)]
    Redis(#[from] RedisError),
}

impl Backend {
    /// `hasty`: the breaker comes back sooner than a service would want, for a story that must be told in seconds.
    pub(crate) async fn open(wanted: Wanted, hasty: bool) -> Result<Self, BackendError> {
        let (mut config, server, name) = match wanted {
            Wanted::Memory => return Ok(Self { redis: None, server: None, name: "memory".to_owned() }),
            Wanted::OwnServer(program) => {
                let binary = match program {
                    Some(program) => ServerBinary::at(program)?,
                    None => larder_testing::server::installed()?.into_iter().next().ok_or(BackendError::NoServer)?,
                };
                let server = Server::start(&binary, ServerOptions::default()).await?;
                let config = RedisConfig { address: Address::Unix(server.socket().to_owned()), ..RedisConfig::default() };
                let (major, minor, patch) = binary.version;
                (config, Some(server), format!("{:?} {major}.{minor}.{patch}, started here", binary.flavour))
            }
            Wanted::Server(url) => {
                let config = parse(&url)?;
                let name = format!("the server at {}", config.address);
                (config, None, name)
            }
        };
        // What the demo caches must not be taken for somebody's instances, nor theirs for the demo's.
        config.prefix = format!("larder-demo-{:08x}", fastrand::u32(..));
        if hasty {
            config.breaker.open = Duration::from_millis(300);
            config.breaker.open_max = Duration::from_millis(600);
            config.breaker.ramp = Duration::from_millis(500);
        }
        Ok(Self { redis: Some(config), server, name })
    }

    /// A node; on a server, with a connection of its own.
    pub(crate) fn node(&self) -> Result<Node, BackendError> {
        match &self.redis {
            None => Ok(Node::in_memory()),
            Some(config) => Ok(Node::on(Redis::open(config.clone())?)),
        }
    }

    /// Whether nodes share what is kept.
    pub(crate) fn is_shared(&self) -> bool {
        self.redis.is_some()
    }

    /// The server, where it is the demo's to break.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// The name of the connector.
    pub(crate) fn connector(&self) -> &'static str {
        if self.redis.is_some() { "redis" } else { "memory" }
    }

    /// For people: `memory`, `Redis 7.0.15, started here`, `the server at localhost:6379`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Removes what the demo has left on a server that is not its own. To be called when its nodes are gone.
    pub(crate) async fn clean_up(&self) {
        let (Some(config), None) = (&self.redis, &self.server) else { return };
        if let Err(error) = remove(config).await {
            tracing::warn!(server = %config.address, prefix = config.prefix, "the demo's keys could not be removed: {error}");
        }
    }
}

fn parse(url: &str) -> Result<RedisConfig, BackendError> {
    // A URL may hold a password.
    let shown = url.rsplit_once('@').map_or_else(|| url.to_owned(), |(_, address)| format!("…@{address}"));
    let refuse = |reason: String| BackendError::Url { shown: shown.clone(), reason };
    let info = url.into_connection_info().map_err(|error| refuse(error.to_string()))?;
    let address = match info.addr() {
        ConnectionAddr::Tcp(host, port) => Address::Tcp { host: host.clone(), port: *port },
        ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
        _ => return Err(refuse("TLS is not supported yet".to_owned())),
    };
    let settings = info.redis_settings();
    Ok(RedisConfig {
        address,
        database: u32::try_from(settings.db()).map_err(|_| refuse("there is no such database".to_owned()))?,
        username: settings.username().map(str::to_owned),
        password: settings.password().map(Secret::new),
        ..RedisConfig::default()
    })
}

async fn remove(config: &RedisConfig) -> redis::RedisResult<()> {
    let mut connection = crate::connection::open(config).await?;
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{}:*", config.prefix)).arg("COUNT").arg(500);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
        if !keys.is_empty() {
            redis::cmd("UNLINK").arg(keys).exec_async(&mut connection).await?;
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_understood() {
        let config = parse("redis://user:pass%20word@cache.example:7000/3").unwrap();
        assert_eq!(config.address.to_string(), "cache.example:7000");
        assert_eq!((config.database, config.username.as_deref()), (3, Some("user")));
        assert_eq!(config.password.unwrap().expose(), "pass word");
        assert_eq!(parse("redis+unix:///run/redis.sock").unwrap().address.to_string(), "/run/redis.sock");
    }

    #[test]
    fn a_bad_url_is_an_error_that_keeps_its_password() {
        for url in ["http://user:secret@host", "rediss://user:secret@host", "redis://user:secret@host:port"] {
            let error = parse(url).err().unwrap().to_string();
            assert!(!error.contains("secret") && error.contains("give redis://"), "{error}");
        }
    }
}
