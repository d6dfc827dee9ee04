//! The server that a command goes to.

use crate::check::why_unreachable;
use crate::configuration;
use crate::failure::Failure;
use crate::postgres::databases;
use clap::Args;
use larder::config::ConfigError;
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::Inspector;
use larder::{Config, ConnectorKind, ConnectorName, ConnectorOptions};
use std::ffi::OsString;
use std::path::PathBuf;

/// The variables that are used together with `--redis`, so that a password need not be on the command line.
const CREDENTIALS: [&str; 3] =
    ["LARDER_CONNECTORS_REDIS_USERNAME", "LARDER_CONNECTORS_REDIS_PASSWORD", "LARDER_CONNECTORS_REDIS_PASSWORD_FILE"];

/// What is said of caches in a PostgreSQL database.
const UNKNOWN: &str = "this command does not know that kind yet. In the database itself, `SELECT larder.invalidate('cache', 'index', 'key')` \
                       forgets an object, and `SELECT larder.truncate('cache')` everything in a cache";

/// The arguments that say where the caches are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The configuration of the services, YAML or TOML, or - for stdin. The command goes to the server that the cache is on. Environment
    /// variables (LARDER_…) override the configuration, as for a service
    #[arg(short, long, value_name = "FILE", required_unless_present = "redis", conflicts_with = "redis")]
    config: Option<PathBuf>,
    /// The server, instead of a configuration: redis://[user:password@]host[:port][/database] or redis+unix:///path.
    /// User and password may be in LARDER_CONNECTORS_REDIS_USERNAME and _PASSWORD or _PASSWORD_FILE
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// With --redis: the prefix of the services' keys [default: larder]
    #[arg(long, requires = "redis", value_name = "PREFIX")]
    prefix: Option<String>,
    /// With a configuration of several servers: use the server of this connector, whichever connector the cache is on
    #[arg(long, conflicts_with = "redis", value_name = "NAME")]
    connector: Option<String>,
}

pub(crate) struct Server {
    pub(crate) redis: RedisOptions,
}

impl Target {
    fn load(&self) -> Result<Config, Failure> {
        match (&self.config, &self.redis) {
            (Some(file), _) => configuration::load(file),
            (None, url) => {
                let given = [("URL", url), ("PREFIX", &self.prefix)].into_iter().filter_map(|(name, value)| {
                    Some((format!("LARDER_CONNECTORS_REDIS_{name}").into(), OsString::from(value.as_ref()?)))
                });
                let credentials = std::env::vars_os().filter(|(name, _)| CREDENTIALS.iter().any(|one| *one == name));
                Config::from_variables(given.chain(credentials)).map_err(|error| of_options(&error))
            }
        }
    }

    /// The server of `--connector`, or every server of the configuration.
    pub(crate) fn servers(&self) -> Result<Vec<Server>, Failure> {
        self.among(&self.load()?)
    }

    /// The server of `--connector`, or the only server of the configuration.
    pub(crate) fn server(&self) -> Result<Server, Failure> {
        self.only(&self.load()?, "the configuration has several servers")
    }

    fn among(&self, config: &Config) -> Result<Vec<Server>, Failure> {
        if let Some(connector) = &self.connector {
            return Ok(vec![named(config, connector)?]);
        }
        let servers: Vec<Server> = servers(config).map(|(_, redis)| Server { redis: redis.clone() }).collect();
        if servers.is_empty() && databases(config).next().is_some() {
            return Err(Failure::Usage(format!("the configuration has no Redis server, and {UNKNOWN}")));
        }
        if servers.is_empty() {
            return Err(Failure::Usage(
                "the configuration has no server: give connectors.redis its url, address or socket, or use --redis URL"
                    .to_owned(),
            ));
        }
        Ok(servers)
    }

    /// The only server. The error begins with `what` if there are several.
    fn only(&self, config: &Config, what: &str) -> Result<Server, Failure> {
        let mut servers = self.among(config)?;
        match (servers.pop(), servers.is_empty()) {
            (Some(server), true) => Ok(server),
            _ => Err(which(config, what)),
        }
    }

    /// The server that a cache is on. Fails if the configuration puts the cache on a connector without a server.
    pub(crate) fn server_of(&self, cache: &str) -> Result<Server, Failure> {
        let config = self.load()?;
        if let Some(connector) = &self.connector {
            return named(&config, connector);
        }
        let Some(connector) = config.cache(cache).map(|cache| cache.connector) else {
            let what =
                format!("the configuration has several servers, and does not say which the cache `{cache}` is on");
            return self.only(&config, &what);
        };
        match config.connector(&connector) {
            Some(ConnectorOptions::Redis(redis)) => Ok(Server { redis: (**redis).clone() }),
            Some(options) if options.kind() == ConnectorKind::Postgres => Err(Failure::Usage(format!(
                "the cache `{cache}` is on the postgres connector {connector}, and {UNKNOWN}"
            ))),
            Some(options) if options.kind() == ConnectorKind::Memory => Err(Failure::Usage(format!(
                "the cache `{cache}` is on the memory connector: each process has its own, which no command reaches"
            ))),
            // It may be a connector that the configuration has no server for.
            _ => Err(Failure::Usage(format!(
                "the cache `{cache}` is on the connector {connector} by this configuration, not on a server"
            ))),
        }
    }
}

/// The servers of a configuration, by the names of their connectors.
pub(crate) fn servers(config: &Config) -> impl Iterator<Item = (&ConnectorName, &RedisOptions)> {
    config.connectors().filter_map(|(name, options)| match options {
        ConnectorOptions::Redis(redis) => Some((name, &**redis)),
        _ => None,
    })
}

fn named(config: &Config, connector: &str) -> Result<Server, Failure> {
    match config.connector(connector) {
        Some(ConnectorOptions::Redis(redis)) => Ok(Server { redis: (**redis).clone() }),
        Some(ConnectorOptions::Postgres(_)) => {
            Err(Failure::Usage(format!("`{connector}` is a postgres connector, and {UNKNOWN}")))
        }
        _ => Err(which(config, &format!("the configuration has no server called `{connector}`"))),
    }
}

fn which(config: &Config, what: &str) -> Failure {
    let names: Vec<String> = servers(config).map(|(name, _)| format!("--connector {name}")).collect();
    let to_do = if names.is_empty() { "use --redis URL".to_owned() } else { format!("say {}", names.join(" or ")) };
    Failure::Usage(format!("{what}: {to_do}"))
}

impl Server {
    /// Connects. The failure says in one line what is wrong and what to do.
    pub(crate) async fn open(&self) -> Result<Inspector, Failure> {
        match Inspector::open(self.redis.clone()).await {
            Ok(inspector) => Ok(inspector),
            Err(error) => Err(Failure::Problem(
                why_unreachable(&self.redis).await.unwrap_or_else(|| format!("{error}; see `larder check`")),
            )),
        }
    }

    /// The server's place, for people.
    pub(crate) fn place(&self) -> String {
        format!("{}, database {}, prefix {}", self.redis.address, self.redis.database, self.redis.prefix)
    }
}

/// Reports problems under the names of the command-line options, not of the variables that the options were turned into.
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
