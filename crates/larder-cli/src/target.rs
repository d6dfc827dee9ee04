//! Which server, and which cache on it, an operator's command is about.

use crate::check::why_unreachable;
use crate::configuration;
use crate::failure::Failure;
use clap::Args;
use larder::Config;
use larder::config::{ConfigError, ConnectorKind, RedisConfig};
use larder::connector::redis::inspect::Inspector;
use std::ffi::OsString;
use std::path::PathBuf;

/// Variables that count beside `--redis`, so that a password need not be on the command line.
const CREDENTIALS: [&str; 3] =
    ["LARDER_CONNECTORS_REDIS_USERNAME", "LARDER_CONNECTORS_REDIS_PASSWORD", "LARDER_CONNECTORS_REDIS_PASSWORD_FILE"];

/// Where the caches are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The configuration of the services, YAML or TOML, or - for stdin; the server in connectors.redis is meant. Environment
    /// variables (LARDER_…) count as they would for a service
    #[arg(short, long, value_name = "FILE", required_unless_present = "redis", conflicts_with = "redis")]
    config: Option<PathBuf>,
    /// The server, instead of a configuration: redis://[user:password@]host[:port][/database] or redis+unix:///path.
    /// User and password may be in LARDER_CONNECTORS_REDIS_USERNAME and _PASSWORD or _PASSWORD_FILE
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// With --redis: what the services' keys begin with [default: larder]
    #[arg(long, requires = "redis", value_name = "PREFIX")]
    prefix: Option<String>,
}

/// A server, and what is configured around it.
pub(crate) struct Server {
    pub(crate) redis: RedisConfig,
    config: Config,
}

impl Target {
    pub(crate) fn server(&self) -> Result<Server, Failure> {
        let config = match (&self.config, &self.redis) {
            (Some(file), _) => configuration::load(file)?,
            (None, url) => {
                let given = [("URL", url), ("PREFIX", &self.prefix)].into_iter().filter_map(|(name, value)| {
                    Some((format!("LARDER_CONNECTORS_REDIS_{name}").into(), OsString::from(value.as_ref()?)))
                });
                let credentials = std::env::vars_os().filter(|(name, _)| CREDENTIALS.iter().any(|one| *one == name));
                Config::from_variables(given.chain(credentials)).map_err(|error| of_options(&error))?
            }
        };
        match config.redis().cloned() {
            Some(redis) => Ok(Server { redis, config }),
            None => Err(Failure::Usage(
                "the configuration has no server: give connectors.redis its url, address or socket, or use --redis URL"
                    .to_owned(),
            )),
        }
    }
}

impl Server {
    /// Connects. One line says why not, and what to do.
    pub(crate) async fn open(&self) -> Result<Inspector, Failure> {
        match Inspector::open(self.redis.clone()).await {
            Ok(inspector) => Ok(inspector),
            Err(error) => Err(Failure::Problem(
                why_unreachable(&self.redis).await.unwrap_or_else(|| format!("{error}; see `larder check`")),
            )),
        }
    }

    /// Refuses a cache of which the configuration says that it is not on this server.
    pub(crate) fn expect_here(&self, cache: &str) -> Result<(), Failure> {
        match self.config.cache(cache).map(|cache| cache.connector) {
            None | Some(ConnectorKind::Redis) => Ok(()),
            Some(ConnectorKind::Memory) => Err(Failure::Usage(format!(
                "the cache `{cache}` is on the memory connector: each process has its own, which no command reaches"
            ))),
            Some(other) => Err(Failure::Usage(format!(
                "the cache `{cache}` is on the connector {other} by this configuration, not on the server"
            ))),
        }
    }

    /// For people.
    pub(crate) fn place(&self) -> String {
        format!("{}, database {}, prefix {}", self.redis.address, self.redis.database, self.redis.prefix)
    }
}

/// What is wrong with the options, in their names instead of those of variables that nobody has set.
fn of_options(error: &ConfigError) -> Failure {
    let problems = error.problems().iter().map(|problem| {
        let text = problem.to_string();
        match (problem.path(), text.split_once(problem.path())) {
            ("connectors.redis.url", Some((_, reason))) => format!("--redis{reason}"),
            ("connectors.redis.prefix", Some((_, reason))) => format!("--prefix{reason}"),
            _ => text,
        }
    });
    Failure::Usage(problems.collect::<Vec<_>>().join("\n"))
}
